"""The strict readers themselves: what is wrong must be found, or they prove nothing."""

from __future__ import annotations

from typing import Any

from appstoreserverlibrary.models.JWSTransactionDecodedPayload import JWSTransactionDecodedPayload
from appstoreserverlibrary.models.StatusResponse import StatusResponse

from .apple import strict
from .google.discovery import Discovery
from .google.push import notification_problems
from .report import Report
from .superwall import problems as superwall_problems

TRANSACTION: dict[str, Any] = {"transactionId": "1", "price": 9990, "type": "Consumable", "quantity": 1}
STATUSES: dict[str, Any] = {"data": [{"lastTransactions": [{"status": 1}]}]}
SUBSCRIPTION: dict[str, Any] = {
    "subscriptionState": "SUBSCRIPTION_STATE_ACTIVE",
    "startTime": "2027-01-01T00:00:00.123Z",
    "latestOrderId": "GPA.1",
    "lineItems": [{"autoRenewingPlan": {"recurringPrice": {"units": "9", "nanos": 990000000}}}],
}
NOTIFICATION: dict[str, Any] = {
    "version": "1.0",
    "packageName": "app",
    "eventTimeMillis": "1",
    "subscriptionNotification": {"version": "1.0", "notificationType": 4, "purchaseToken": "t"},
}


def check(report: Report) -> None:
    row = report.row("driver", "strict readers find what is wrong")
    publisher = Discovery("androidpublisher.v3")
    apple = strict.problems
    good = [
        apple(JWSTransactionDecodedPayload, TRANSACTION),
        apple(StatusResponse, STATUSES),
        publisher.problems("SubscriptionPurchaseV2", SUBSCRIPTION),
        notification_problems(NOTIFICATION, "app"),
    ]
    row.equal(good, [[]] * len(good), "what is right")
    for change in (
        {"surprise": 1},
        {"price": "9990"},
        {"price": 99.5},
        {"price": None},
        {"quantity": True},
        {"type": "Rental"},
        {"revocationReason": 7},
    ):
        row.check(bool(apple(JWSTransactionDecodedPayload, TRANSACTION | change)), f"transaction with {change}")
    for item in ({"status": 9}, {"status": "1"}, {"surprise": 1}):
        row.check(bool(apple(StatusResponse, {"data": [{"lastTransactions": [item]}]})), f"statuses with {item}")
    for change in (
        {"surprise": 1},
        {"subscriptionState": "SUBSCRIPTION_STATE_HAPPY"},
        {"subscriptionState": "SUBSCRIPTION_STATE_UNSPECIFIED"},
        {"startTime": "2027-01-01 00:00:00"},
        {"startTime": "2027-01-01T00:00:00+00:00"},
        {"testPurchase": None},
        {"lineItems": [{"autoRenewingPlan": {"recurringPrice": {"units": 9}}}]},
        {"lineItems": [{"autoRenewingPlan": {"autoRenewEnabled": "true"}}]},
        {"lineItems": {}},
    ):
        found = publisher.problems("SubscriptionPurchaseV2", SUBSCRIPTION | change)
        row.check(bool(found), f"subscription with {change}")
    for change in ({"version": "2.0"}, {"packageName": "other"}, {"testNotification": {}}, {"surprise": {}}):
        row.check(bool(notification_problems(NOTIFICATION | change, "app")), f"notification with {change}")
    row.check(bool(superwall_problems({"object": "event", "data": {}}, legacy=True)), "an empty event")
