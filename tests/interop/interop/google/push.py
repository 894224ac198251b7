"""Google's pushes: the token by google-auth, the envelope by Pub/Sub's own schema."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import google.auth.transport.requests
from google.auth import exceptions
from google.oauth2 import id_token
from jwt.exceptions import PyJWTError

from ..receiver import Delivery
from ..report import Report
from .discovery import Discovery

CLIENT = "google-auth, Python"
ISSUERS = {"accounts.google.com", "https://accounts.google.com"}
HOUR = 3600

# developer.android.com/google/play/billing/rtdn-reference
SUBSCRIPTION_TYPES = {
    1: "RECOVERED",
    2: "RENEWED",
    3: "CANCELED",
    4: "PURCHASED",
    5: "ON_HOLD",
    6: "IN_GRACE_PERIOD",
    7: "RESTARTED",
    8: "PRICE_CHANGE_CONFIRMED",
    9: "DEFERRED",
    10: "PAUSED",
    11: "PAUSE_SCHEDULE_CHANGED",
    12: "REVOKED",
    13: "EXPIRED",
    17: "ITEMS_CHANGED",
    18: "CANCELLATION_SCHEDULED",
    19: "PRICE_CHANGE_UPDATED",
    20: "PENDING_PURCHASE_CANCELED",
    22: "PRICE_STEP_UP_CONSENT_UPDATED",
}
ONE_TIME_TYPES = {1: "ONE_TIME_PURCHASED", 2: "ONE_TIME_CANCELED"}
PRODUCT_TYPES = {1: "SUBSCRIPTION", 2: "ONE_TIME"}
REFUND_TYPES = {1: "FULL", 2: "PARTIAL"}

# Field → (type, needed). `subscriptionId` and `sku` of subscriptions are deprecated and still sent.
NOTIFICATIONS: dict[str, dict[str, tuple[type, bool]]] = {
    "subscriptionNotification": {
        "version": (str, True),
        "notificationType": (int, True),
        "purchaseToken": (str, True),
        "subscriptionId": (str, False),
    },
    "oneTimeProductNotification": {
        "version": (str, True),
        "notificationType": (int, True),
        "purchaseToken": (str, True),
        "sku": (str, True),
    },
    "voidedPurchaseNotification": {
        "purchaseToken": (str, True),
        "orderId": (str, True),
        "productType": (int, True),
        "refundType": (int, True),
    },
    "testNotification": {"version": (str, True)},
    "pendingRefundReviewNotification": {
        "version": (str, True),
        "pendingRefundToken": (str, True),
        "orderId": (str, True),
        "refundReason": (int, True),
        "obfuscatedAccountId": (str, False),
        "obfuscatedProfileId": (str, False),
    },
}


class CachedCerts(google.auth.transport.requests.Request):
    """Fetches each key set once, as the library recommends."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Any] = {}

    def __call__(self, url: str, *arguments: Any, **named: Any) -> Any:
        if url not in self._kept:
            self._kept[url] = super().__call__(url, *arguments, **named)
        return self._kept[url]


def name_of(notification: dict[str, Any]) -> str:
    """What happened, in the words of Google's reference."""
    if inner := notification.get("subscriptionNotification"):
        return SUBSCRIPTION_TYPES.get(inner["notificationType"], f"unknown {inner['notificationType']}")
    if inner := notification.get("oneTimeProductNotification"):
        return ONE_TIME_TYPES.get(inner["notificationType"], f"unknown {inner['notificationType']}")
    if inner := notification.get("voidedPurchaseNotification"):
        product = PRODUCT_TYPES.get(inner["productType"], "unknown")
        return f"VOIDED_{product}_{REFUND_TYPES.get(inner['refundType'], 'unknown')}"
    if "testNotification" in notification:
        return "TEST"
    if "pendingRefundReviewNotification" in notification:
        return "PENDING_REFUND_REVIEW"
    return "unknown"


def decode(delivery: Delivery) -> dict[str, Any]:
    """The developer notification in a push."""
    return json.loads(base64.b64decode(json.loads(delivery.body)["message"]["data"], validate=True))


def notification_problems(notification: dict[str, Any], package: str) -> list[str]:
    """What Google's reference does not say of a developer notification."""
    found = []
    if notification.get("version") != "1.0":
        found.append(f"version {notification.get('version')!r}")
    if notification.get("packageName") != package:
        found.append(f"packageName {notification.get('packageName')!r}")
    if not str(notification.get("eventTimeMillis", "")).isdigit():
        found.append(f"eventTimeMillis {notification.get('eventTimeMillis')!r}")
    inner = set(notification) - {"version", "packageName", "eventTimeMillis"}
    if len(inner) != 1 or not inner <= set(NOTIFICATIONS):
        return [*found, f"contents {sorted(inner)}"]
    (kind,) = inner
    fields = NOTIFICATIONS[kind]
    for name, value in notification[kind].items():
        if name not in fields:
            found.append(f"{kind}.{name} is unknown")
        elif type(value) is not fields[name][0]:
            found.append(f"{kind}.{name} is {value!r}, no {fields[name][0].__name__}")
    found.extend(
        f"{kind}.{name} is missing" for name, (_, needed) in fields.items() if needed and name not in notification[kind]
    )
    if name_of(notification).startswith("unknown"):
        found.append(name_of(notification))
    return found


class PushCheck:
    """Verifies pushes as a receiver behind Pub/Sub has to."""

    def __init__(self, manifest: dict[str, Any], report: Report) -> None:
        self.manifest = manifest
        self.push = manifest["push"]
        self.report = report
        self.pubsub = Discovery("pubsub.v1")
        self.certs = CachedCerts()
        self.certs_urls = {
            "JWKS": self.push["jwks_url"],
            "PEM": self.push["jwks_url"].replace("/v3/", "/v1/"),
        }
        self.types: Counter[str] = Counter()

    def verify(self, token: str, audience: str, certs_url: str) -> dict[str, Any]:
        return dict(id_token.verify_token(token, self.certs, audience=audience, certs_url=certs_url))

    def check(self, deliveries: Iterable[Delivery]) -> None:
        envelope = self.report.row(CLIENT, "push envelopes valid by Pub/Sub's discovery document")
        content = self.report.row(CLIENT, "developer notifications as in Google's reference")
        for delivery in deliveries:
            self._token(delivery)
            envelope.none(self._envelope_problems(delivery), "envelope")
            with content.case("data of a push"):
                notification = decode(delivery)
                content.none(notification_problems(notification, self.manifest["package_name"]), str(notification))
                self.types[name_of(notification)] += 1

    def _token(self, delivery: Delivery) -> None:
        scheme, _, token = delivery.headers.get("authorization", "").partition(" ")
        for form, url in self.certs_urls.items():
            row = self.report.row(CLIENT, f"push tokens verified with Google's keys as {form}")
            with row.case("push token"):
                claims = self.verify(token, self.push["audience"], url)
                wrong = [
                    f"{what} {found!r}"
                    for what, found, good in (
                        ("scheme", scheme, scheme == "Bearer"),
                        ("iss", claims.get("iss"), claims.get("iss") in ISSUERS),
                        ("email", claims.get("email"), claims.get("email") == self.push["email"]),
                        ("email_verified", claims.get("email_verified"), claims.get("email_verified") is True),
                        ("sub", claims.get("sub"), bool(claims.get("sub"))),
                        ("azp", claims.get("azp"), bool(claims.get("azp"))),
                        ("lifetime", claims["exp"] - claims["iat"], claims["exp"] - claims["iat"] == HOUR),
                        ("age", claims["iat"] - time.time(), claims["iat"] <= time.time()),
                    )
                    if not good
                ]
                row.none(wrong, "claims")

    def _envelope_problems(self, delivery: Delivery) -> list[str]:
        found = []
        if not delivery.headers.get("content-type", "").startswith("application/json"):
            found.append(f"content type {delivery.headers.get('content-type')!r}")
        body = json.loads(delivery.body)
        found.extend(f"{name} is unknown" for name in set(body) - {"message", "subscription", "deliveryAttempt"})
        if body.get("subscription") != self.push["subscription"]:
            found.append(f"subscription {body.get('subscription')!r}")
        message = dict(body.get("message", {}))
        # A push repeats these two under their names in snake case.
        for camel, snake in (("messageId", "message_id"), ("publishTime", "publish_time")):
            if message.pop(snake, None) != message.get(camel) or not message.get(camel):
                found.append(f"{camel} and {snake} differ or are absent")
        found.extend(self.pubsub.problems("PubsubMessage", message))
        return found

    def check_forgeries(self, deliveries: list[Delivery]) -> None:
        """A token that was tampered with, or is for somebody else, is refused."""
        row = self.report.row(CLIENT, "tampered push tokens refused")
        reasons = (ValueError, exceptions.GoogleAuthError, PyJWTError)
        for delivery in deliveries[:5]:
            token = delivery.headers["authorization"].split(" ")[1]
            header, payload, signature = token.split(".")
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            claims["email"] = "stranger@example.com"
            changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
            for form, url in self.certs_urls.items():
                with row.refused(f"another audience, {form}", *reasons):
                    self.verify(token, "https://stranger.example.com", url)
                with row.refused(f"changed claims, {form}", *reasons):
                    self.verify(f"{header}.{changed}.{signature}", self.push["audience"], url)
