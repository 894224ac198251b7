"""Does what a server does with each notification: asks the store how things stand now."""

from __future__ import annotations

import json

from appstoreserverlibrary.models.Type import Type
from googleapiclient.errors import HttpError

from .apple.verifier import CLIENT as APPLE
from .google.client import CLIENT as GOOGLE
from .google.push import decode
from .receiver import Delivery
from .world import APPLE_PATH, GOOGLE_PATH, World


class Follower:
    """Takes up every delivery since the last time; each purchase is asked for once a turn."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.followed = 0

    def follow(self) -> None:
        deliveries = self.world.receiver.deliveries[self.followed :]
        self.followed += len(deliveries)
        apple = {id_ for delivery in deliveries if delivery.path == APPLE_PATH for id_ in self._apple(delivery)}
        google = {item for delivery in deliveries if delivery.path == GOOGLE_PATH for item in self._google(delivery)}
        row = self.world.report.row(APPLE, "statuses asked for after notifications")
        for original in sorted(apple):
            with row.case(f"statuses of {original}"):
                self.world.apple.statuses(original)
        row = self.world.report.row(GOOGLE, "purchases asked for after notifications")
        for kind, token in sorted(google):
            with row.case(f"{kind} after a notification"):
                try:
                    self.world.google.subscription(token) if kind == "subscription" else self.world.google.product(
                        token
                    )
                except HttpError as error:
                    # Long expired: what a late notification of an old purchase finds.
                    if error.status_code != 410:
                        raise

    def _apple(self, delivery: Delivery) -> list[str]:
        row = self.world.report.row(APPLE, "notifications as delivered")
        with row.case("notification"):
            body = json.loads(delivery.body)
            row.equal(set(body), {"signedPayload"}, "fields of a delivery")
            row.equal(delivery.headers.get("content-type"), "application/json", "content type of a delivery")
            notification = self.world.verifier.notification(body["signedPayload"])
            row.equal(notification.version, "2.0", "version")
            row.check(bool(notification.notificationUUID) and bool(notification.signedDate), "no UUID or date")
            subtype = notification.rawSubtype
            self.world.verifier.seen[notification.rawNotificationType + (f"/{subtype}" if subtype else "")] += 1
            if notification.data and notification.data.signedTransactionInfo:
                transaction = self.world.verifier.transaction(notification.data.signedTransactionInfo)
                if transaction.type is Type.AUTO_RENEWABLE_SUBSCRIPTION:
                    return [transaction.originalTransactionId]
        return []

    def _google(self, delivery: Delivery) -> list[tuple[str, str]]:
        notification = decode(delivery)
        if inner := notification.get("subscriptionNotification"):
            return [("subscription", inner["purchaseToken"])]
        if inner := notification.get("oneTimeProductNotification"):
            return [("product", inner["purchaseToken"])]
        return []
