"""Superwall's deliveries: verified by the Svix and Standard Webhooks libraries."""

from __future__ import annotations

import datetime
import json
import time
from collections import Counter
from typing import Any

import standardwebhooks
import svix

from .receiver import Delivery
from .report import Report

SVIX = "svix, Python"
STANDARD = "standardwebhooks, Python"
TOLERANCE = 300

EVENTS = {
    "initial_purchase",
    "renewal",
    "cancellation",
    "uncancellation",
    "expiration",
    "billing_issue",
    "product_change",
    "subscription_paused",
    "non_renewing_purchase",
}
STORES = {"APP_STORE", "PLAY_STORE"}
REASONS = {"BILLING_ERROR", "CUSTOMER_SUPPORT", "UNSUBSCRIBE", "PRICE_INCREASE", "DEVELOPER_INITIATED", "UNKNOWN"}
NUMBER = (int, float)
TEXT = (str,)
OBJECT = (dict,)
FLAG = (bool,)
NOTHING = (type(None),)

# superwall.com/docs/integrations/webhooks, version 1: field → (types, always there)
DATA: dict[str, tuple[tuple[type, ...], bool]] = {
    "id": (TEXT, True),
    "name": (TEXT, True),
    "store": (TEXT, True),
    "environment": (TEXT, True),
    "originalTransactionId": (TEXT, True),
    "transactionId": (TEXT, True),
    "originalAppUserId": (TEXT + NOTHING, True),
    "productId": (TEXT, True),
    "newProductId": (TEXT + NOTHING, False),
    "bundleId": (TEXT, True),
    "periodType": (TEXT, True),
    "purchasedAt": ((int,), True),
    "expirationAt": ((int,) + NOTHING, False),
    "ts": ((int,), True),
    "price": (NUMBER, True),
    "proceeds": (NUMBER, True),
    "priceInPurchasedCurrency": (NUMBER, True),
    "currencyCode": (TEXT, True),
    "exchangeRate": (NUMBER, True),
    "taxPercentage": (NUMBER + NOTHING, False),
    "commissionPercentage": (NUMBER, True),
    "takehomePercentage": (NUMBER, True),
    "isSmallBusiness": (FLAG, False),
    "countryCode": (TEXT + NOTHING, False),
    "offerCode": (TEXT + NOTHING, False),
    "isFamilyShare": (FLAG, False),
    "isTrialConversion": (FLAG, False),
    "cancelReason": (TEXT + NOTHING, False),
    "expirationReason": (TEXT + NOTHING, False),
    "checkoutContext": (OBJECT + NOTHING, False),
    "userAttributes": (OBJECT + NOTHING, False),
}
VALUES: dict[str, set[str]] = {
    "name": EVENTS,
    "store": STORES,
    "environment": {"PRODUCTION", "SANDBOX"},
    "periodType": {"TRIAL", "INTRO", "NORMAL"},
    "cancelReason": REASONS,
    "expirationReason": REASONS,
}


def problems(event: dict[str, Any], *, legacy: bool) -> list[str]:
    """What Superwall's documentation does not say of an event; version 2 may say more."""
    found = []
    if event.get("object") != "event":
        found.append(f"object {event.get('object')!r}")
    found.extend(
        f"{name} {event.get(name)!r}"
        for name in ("projectId", "applicationId", "timestamp")
        if type(event.get(name)) is not int
    )
    data = event.get("data")
    if not isinstance(data, dict):
        return [*found, "no data"]
    if event.get("type") != data.get("name"):
        found.append(f"type {event.get('type')!r} is not name {data.get('name')!r}")
    if legacy:
        found.extend(
            f"{name} is unknown"
            for name in set(event) - {"object", "type", "projectId", "applicationId", "timestamp", "data"}
        )
        found.extend(f"data.{name} is unknown" for name in set(data) - set(DATA))
    for name, (types, always) in DATA.items():
        if name in data:
            if type(data[name]) not in types:
                found.append(f"data.{name} is {data[name]!r}")
            elif name in VALUES and data[name] is not None and data[name] not in VALUES[name]:
                found.append(f"data.{name} has the unknown value {data[name]!r}")
        elif always:
            found.append(f"data.{name} is missing")
    if ("newProductId" in data) != (data.get("name") == "product_change") and data.get("newProductId") is not None:
        found.append("newProductId on another event than a change")
    return found


class SuperwallCheck:
    """Verifies deliveries as a receiver of Svix webhooks has to."""

    def __init__(self, secret: str, report: Report, *, legacy: bool) -> None:
        self.report = report
        self.legacy = legacy
        self.svix = svix.Webhook(secret)
        self.standard = standardwebhooks.Webhook(secret)
        self.stranger = svix.Webhook("whsec_" + "c3RyYW5nZXItc3RyYW5nZXItc3RyYW5nZXI=")
        self.events: Counter[str] = Counter()

    def check(self, deliveries: list[Delivery]) -> None:
        version = "1" if self.legacy else "2"
        documented = self.report.row(SVIX, f"events as documented, version {version}")
        ids: dict[str, str] = {}
        for delivery in deliveries:
            with self.report.row(SVIX, "deliveries verified").case("delivery"):
                self.svix.verify(delivery.body, delivery.headers)
                event = json.loads(delivery.body)
                documented.none(problems(event, legacy=self.legacy), f"{event.get('type')}")
                self.events[f"{event['data']['store']} {event['type']}"] += 1
                known = ids.setdefault(delivery.headers["svix-id"], event["data"]["id"])
                self.report.row(SVIX, "one id per event").equal(known, event["data"]["id"], "event of one id")
            with self.report.row(STANDARD, "deliveries verified").case("delivery"):
                self.standard.verify(delivery.body, _standard(delivery.headers))
        row = self.report.row(SVIX, "one id per event")
        row.equal(len(set(ids.values())), len(ids), "events for as many ids")

    def check_forgeries(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries[:10]:
            changed = delivery.body.replace(b'"price"', b'"prise"', 1)
            again = json.dumps(json.loads(delivery.body), indent=1).encode()
            for what, body, headers in (
                ("changed body", changed, delivery.headers),
                ("body written anew", again, delivery.headers),
                ("another id", delivery.body, {**delivery.headers, "svix-id": "msg_stranger"}),
                ("old", delivery.body, self._signed_at(delivery, time.time() - TOLERANCE - 60)),
                ("from the future", delivery.body, self._signed_at(delivery, time.time() + TOLERANCE + 60)),
                ("no signature", delivery.body, {**delivery.headers, "svix-signature": "v1,"}),
            ):
                with self.report.row(SVIX, "tampered, old and foreign ones refused").refused(
                    what, svix.WebhookVerificationError
                ):
                    self.svix.verify(body, headers)
                with self.report.row(STANDARD, "tampered, old and foreign ones refused").refused(
                    what, standardwebhooks.WebhookVerificationError
                ):
                    self.standard.verify(body, _standard(headers))
            with self.report.row(SVIX, "tampered, old and foreign ones refused").refused(
                "another secret", svix.WebhookVerificationError
            ):
                self.stranger.verify(delivery.body, delivery.headers)

    def _signed_at(self, delivery: Delivery, seconds: float) -> dict[str, str]:
        """The same delivery with a good signature of another time."""
        moment = datetime.datetime.fromtimestamp(int(seconds), tz=datetime.UTC)
        signature = self.svix.sign(delivery.headers["svix-id"], moment, delivery.body.decode())
        return {**delivery.headers, "svix-timestamp": str(int(seconds)), "svix-signature": signature}


def _standard(headers: dict[str, str]) -> dict[str, str]:
    """The same headers under the names of the standard."""
    return {name.replace("svix-", "webhook-"): value for name, value in headers.items()}
