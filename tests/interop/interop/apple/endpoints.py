"""Every endpoint of the App Store Server API: what it refuses, filters and pages."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from appstoreserverlibrary.api_client import APIException
from appstoreserverlibrary.models.ExtendReasonCode import ExtendReasonCode
from appstoreserverlibrary.models.InAppOwnershipType import InAppOwnershipType
from appstoreserverlibrary.models.MassExtendRenewalDateRequest import MassExtendRenewalDateRequest
from appstoreserverlibrary.models.NotificationHistoryRequest import NotificationHistoryRequest
from appstoreserverlibrary.models.NotificationTypeV2 import NotificationTypeV2
from appstoreserverlibrary.models.Status import Status
from appstoreserverlibrary.models.Subtype import Subtype
from appstoreserverlibrary.models.TransactionHistoryRequest import Order, ProductType, TransactionHistoryRequest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..world import APPLE_PATH, World
from .scenes import buy, chain, extension, latest
from .verifier import CLIENT, payload_of

ERRORS = "errors with Apple's codes"
UNKNOWN = "990000000000001"
DAY = 86_400_000
# Everything that the first version of the consumption request wants.
FIRST_VERSION = {
    "accountTenure": 0,
    "appAccountToken": "",
    "consumptionStatus": 0,
    "customerConsented": True,
    "deliveryStatus": 0,
    "lifetimeDollarsPurchased": 0,
    "lifetimeDollarsRefunded": 0,
    "platform": 0,
    "playTime": 0,
    "sampleContentProvided": False,
    "userStatus": 0,
}


def check(world: World) -> None:
    row = world.report.row(CLIENT, "endpoint checks ended")
    with row.case("buying"):
        subject = _subject(world)
        for part in PARTS:
            with row.case(part.__name__):
                part(world, subject)


def _subject(world: World) -> dict[str, Any]:
    """A customer with one purchase of each kind, and what it is called."""
    bought = buy(world, "endpoints", "premium.monthly")
    item = buy(world, "endpoints", "coins")
    forever = buy(world, "owner-for-ever", "export")
    decoded = world.apple.transaction(bought["transaction_id"])
    return {"subscription": bought, "item": item, "forever": forever, "app_transaction": decoded.appTransactionId}


def _credentials(world: World, subject: dict[str, Any]) -> None:
    transaction = subject["subscription"]["transaction_id"]
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for what, credentials in (
        ("another key", {"key": key}),
        ("another key id", {"key_id": "STRANGER00"}),
        ("another issuer", {"issuer_id": str(uuid.uuid4())}),
    ):
        client = world.apple.other(**credentials)
        world.apple.error(
            "credentials refused without a code",
            what,
            lambda client=client: client.get_transaction_info(transaction),
            None,
            401,
        )
    stranger = world.apple.other(bundle_id="com.example.stranger")
    row = world.report.row(CLIENT, "credentials refused without a code")
    with row.refused("another app", Exception):
        stranger.get_transaction_info(transaction)


def _transactions(world: World, subject: dict[str, Any]) -> None:
    client, api = world.apple.client, world.apple
    original = chain(subject["subscription"])
    api.transaction(subject["item"]["transaction_id"])
    row = world.report.row(CLIENT, "app transactions")
    for any_id in (original, subject["item"]["transaction_id"], subject["app_transaction"]):
        decoded = world.verifier.app_transaction(client.get_app_transaction_info(any_id).signedAppTransactionInfo)
        row.equal(decoded.appTransactionId, subject["app_transaction"], f"app transaction by {any_id}")
        row.equal(decoded.bundleId, world.manifest["bundle_id"], "bundle id")
    for what, call, code in (
        ("transaction id in letters", lambda: client.get_transaction_info("one"), 4000006),
        ("unknown transaction", lambda: client.get_transaction_info(UNKNOWN), 4040010),
        ("transaction by app transaction id", lambda: client.get_transaction_info(subject["app_transaction"]), 4000048),
        ("app transaction of nobody", lambda: client.get_app_transaction_info(UNKNOWN), (4040010, 4040019)),
        ("app transaction by letters", lambda: client.get_app_transaction_info("one"), 4000006),
        ("finish an unknown transaction", lambda: client.finish_transaction(UNKNOWN), 4040010),
        ("finish by app transaction id", lambda: client.finish_transaction(subject["app_transaction"]), 4000048),
        ("finish by letters", lambda: client.finish_transaction("one"), 4000006),
    ):
        _error(world, what, call, code)
    client.finish_transaction(subject["item"]["transaction_id"])
    client.finish_transaction(subject["item"]["transaction_id"])
    row = world.report.row(CLIENT, "transactions finished by the server")
    row.equal(client.last.status_code, 200, "finishing twice")

    path = f"/inApps/v1/transactions/{original}/appAccountToken"
    _error(world, "token that is no UUID", lambda: _raw(world, "PUT", path, {"appAccountToken": "seven"}), 4000183)
    good = {"appAccountToken": str(uuid.uuid4())}
    path = f"/inApps/v1/transactions/{UNKNOWN}/appAccountToken"
    _error(world, "token of an unknown transaction", lambda: _raw(world, "PUT", path, good), (4040005, 4040010))
    path = "/inApps/v1/transactions/one/appAccountToken"
    _error(world, "token by letters", lambda: _raw(world, "PUT", path, good), (4000006, 4000008))


def _raw(world: World, method: str, path: str, body: Any = None, query: Any = None) -> Any:
    """A request that the library's typed methods cannot express, sent and parsed by the library."""
    client = world.apple.client
    response = client._execute_request(
        method, client._get_full_url(path), query or {}, client._get_headers(), body, None
    )
    return client._parse_response(response.status_code, response.headers, response.json, None)


def _error(world: World, what: str, call: Any, code: int | tuple[int, ...]) -> None:
    if isinstance(code, int):
        world.apple.error(ERRORS, what, call, code)
        return
    row = world.report.row(CLIENT, ERRORS)
    try:
        call()
    except APIException as error:
        row.check(error.raw_api_error in code, f"{what}: {error.raw_api_error}, expected one of {code}")
    else:
        row.check(False, f"{what}: no error, expected one of {code}")


def _statuses(world: World, subject: dict[str, Any]) -> None:
    original = chain(subject["subscription"])
    row = world.report.row(CLIENT, "status filters")
    count = lambda answer: sum(len(group.lastTransactions) for group in answer.data)  # noqa: E731
    row.check(count(world.apple.statuses(original)) == 1, "one subscription")
    row.equal(count(world.apple.statuses(original, [Status.ACTIVE, Status.EXPIRED])), 1, "active or expired")
    row.equal(count(world.apple.statuses(original, [Status.EXPIRED])), 0, "expired")
    row.equal(count(world.apple.statuses(subject["app_transaction"])), 1, "by app transaction id")
    row.equal(
        count(world.apple.statuses(subject["item"]["transaction_id"])), 1, "by another transaction of the customer"
    )
    for what, call, code in (
        ("statuses of nobody", lambda: world.apple.statuses(UNKNOWN), (4040010, 4040005)),
        ("statuses by letters", lambda: world.apple.statuses("one"), 4000006),
        (
            "statuses with an unknown status",
            lambda: _raw(world, "GET", f"/inApps/v1/subscriptions/{original}", query={"status": ["9"]}),
            4000031,
        ),
    ):
        _error(world, what, call, code)


def _history(world: World, subject: dict[str, Any]) -> None:
    reader = next(
        t.originalTransactionId
        for t in world.verifier.documents["transaction"].values()
        if t.productId == "news.weekly"
    )
    everything = world.apple.history(reader)
    row = world.report.row(CLIENT, "history filters")
    row.check(len(everything) > 40, f"only {len(everything)} transactions: nothing was paged")
    newest_first = world.apple.history(reader, TransactionHistoryRequest(sort=Order.DESCENDING))
    ids = [t.transactionId for t in everything]
    row.equal([t.transactionId for t in newest_first], ids[::-1], "descending order")
    middle = everything[len(everything) // 2].purchaseDate
    early = world.apple.history(reader, TransactionHistoryRequest(endDate=middle))
    late = world.apple.history(reader, TransactionHistoryRequest(startDate=middle))
    row.check(0 < len(early) < len(ids), f"{len(early)} before the middle of {len(ids)}")
    row.check(len(early) + len(late) >= len(ids), f"{len(early)} and {len(late)} of {len(ids)}")
    original = chain(subject["subscription"])
    for request, products in (
        (TransactionHistoryRequest(productTypes=[ProductType.CONSUMABLE]), {"coins"}),
        (TransactionHistoryRequest(productTypes=[ProductType.AUTO_RENEWABLE]), {"premium.monthly"}),
        (TransactionHistoryRequest(productTypes=[ProductType.NON_CONSUMABLE]), set()),
        (TransactionHistoryRequest(productTypes=[ProductType.NON_RENEWABLE]), set()),
        (
            TransactionHistoryRequest(productTypes=[ProductType.CONSUMABLE, ProductType.AUTO_RENEWABLE]),
            {"coins", "premium.monthly"},
        ),
        (TransactionHistoryRequest(productIds=["coins"]), {"coins"}),
        (TransactionHistoryRequest(productIds=["coins", "premium.monthly"]), {"coins", "premium.monthly"}),
        (TransactionHistoryRequest(subscriptionGroupIdentifiers=["21500001"]), {"premium.monthly"}),
        (TransactionHistoryRequest(inAppOwnershipType=InAppOwnershipType.PURCHASED), {"coins", "premium.monthly"}),
        (TransactionHistoryRequest(inAppOwnershipType=InAppOwnershipType.FAMILY_SHARED), set()),
        (TransactionHistoryRequest(revoked=False), {"coins", "premium.monthly"}),
        (TransactionHistoryRequest(revoked=True), set()),
    ):
        row.equal({t.productId for t in world.apple.history(original, request)}, products, f"{request}")
    row.check(latest(world, reader) in ids, "the newest transaction is in the history")
    path = f"/inApps/v2/history/{original}"
    for what, query, code in (
        ("sort", {"sort": "SIDEWAYS"}, 4000021),
        ("product type", {"productType": "SERVICE"}, 4000022),
        ("ownership", {"inAppOwnershipType": "STOLEN"}, 4000026),
        ("revoked", {"revoked": "perhaps"}, 4000030),
        ("start date", {"startDate": "yesterday"}, 4000015),
        ("end date", {"endDate": "tomorrow"}, 4000016),
        ("start after end", {"startDate": "2000", "endDate": "1000"}, 4000013),
        ("revision", {"revision": "stranger"}, 4000005),
    ):
        _error(world, f"history with a bad {what}", lambda query=query: _raw(world, "GET", path, query=query), code)
    _error(world, "history of nobody", lambda: world.apple.history(UNKNOWN), (4040010, 4040005))
    _error(world, "history by letters", lambda: world.apple.history("one"), 4000006)


def _refunds(world: World, subject: dict[str, Any]) -> None:
    row = world.report.row(CLIENT, "refunds")
    row.equal(world.apple.refunds(chain(subject["subscription"])), [], "refunds of somebody without any")
    _error(world, "refunds of nobody", lambda: world.apple.refunds(UNKNOWN), (4040010, 4040005))
    path = f"/inApps/v2/refund/lookup/{chain(subject['subscription'])}"
    _error(world, "refunds with a bad revision", lambda: _raw(world, "GET", path, query={"revision": "x"}), 4000005)


def _notifications(world: World, subject: dict[str, Any]) -> None:
    now = world.control.now_millis()
    reach = 180 if world.control.production else 30
    span = NotificationHistoryRequest(startDate=now - (reach - 1) * DAY, endDate=now)
    found = world.apple.notifications(span)
    row = world.report.row(CLIENT, "notification history")
    delivered: dict[str, int] = {}
    for delivery in world.receiver.at(APPLE_PATH):
        payload = payload_of(json.loads(delivery.body)["signedPayload"])
        if payload["signedDate"] > span.startDate:
            delivered[payload["notificationUUID"]] = delivered.get(payload["notificationUUID"], 0) + 1
    told: dict[str, int] = {}
    for item in found:
        notification = world.verifier.notification(item.signedPayload)
        told[notification.notificationUUID] = len(item.sendAttempts)
        row.check(1 <= len(item.sendAttempts) <= 6, f"{len(item.sendAttempts)} attempts")
        row.check(item.sendAttempts[-1].rawSendAttemptResult == "SUCCESS", f"last attempt {item.sendAttempts[-1]}")
    row.check(len(told) > 20, f"only {len(told)} notifications: nothing was paged")
    row.equal(told, delivered, "notifications in the history and at the receiver, with their attempts")
    filtered = NotificationHistoryRequest(
        startDate=span.startDate,
        endDate=span.endDate,
        notificationType=NotificationTypeV2.SUBSCRIBED,
        notificationSubtype=Subtype.INITIAL_BUY,
    )
    types = {
        (n.rawNotificationType, n.rawSubtype)
        for n in (world.verifier.notification(item.signedPayload) for item in world.apple.notifications(filtered))
    }
    row.equal(types, {("SUBSCRIBED", "INITIAL_BUY")}, "types after filtering")
    of_one = NotificationHistoryRequest(
        startDate=span.startDate, endDate=span.endDate, transactionId=subject["subscription"]["transaction_id"]
    )
    originals = {
        world.verifier.transaction(
            world.verifier.notification(item.signedPayload).data.signedTransactionInfo
        ).originalTransactionId
        for item in world.apple.notifications(of_one)
    }
    # The transaction names a customer, and the history is all of theirs.
    customers = {chain(subject["subscription"]), chain(subject["item"])}
    row.equal(originals, customers, "chains after filtering by a customer's transaction")
    failures = NotificationHistoryRequest(startDate=span.startDate, endDate=span.endDate, onlyFailures=True)
    row.equal(world.apple.notifications(failures), [], "failures where all were delivered")
    world.receiver.answers[APPLE_PATH] = [500]
    token = world.apple.client.request_test_notification().testNotificationToken
    _patiently(lambda: world.apple.client.get_test_notification_status(token))
    failures.endDate = now + DAY
    failed = [
        world.verifier.notification(item.signedPayload).rawNotificationType
        for item in world.apple.notifications(failures)
    ]
    row.equal(failed, ["TEST"], "failures where a test was refused")

    def ask(**fields: Any) -> Any:
        body = {"startDate": span.startDate, "endDate": span.endDate, **fields}
        return lambda: _raw(world, "POST", "/inApps/v1/notifications/history", body)

    for what, call, code in (
        ("start after end", ask(startDate=now, endDate=now - DAY), 4000013),
        ("start too far in the past", ask(startDate=now - (reach + 30) * DAY), 4000012),
        ("bad start date", ask(startDate="yesterday"), 4000015),
        ("bad end date", ask(endDate="tomorrow"), 4000016),
        ("unknown type", ask(notificationType="SURPRISE"), 4000018),
        (
            "type and transaction",
            ask(notificationType="DID_RENEW", transactionId=subject["subscription"]["transaction_id"]),
            4000019,
        ),
        ("bad transaction id", ask(transactionId="one"), 4000006),
        (
            "pagination token",
            lambda: world.apple.client.get_notification_history("stranger", span),
            4000014,
        ),
        ("test token", lambda: world.apple.client.get_test_notification_status("stranger"), 4000020),
        (
            "unknown test",
            lambda: world.apple.client.get_test_notification_status(f"{uuid.uuid4()}_{now}"),
            4040008,
        ),
    ):
        _error(world, f"notifications: {what}", call, code)


def _patiently(ask: Any) -> Any:
    """Asks again for a while: the notification may be on its way."""
    for _ in range(30):
        try:
            return ask()
        except APIException:
            time.sleep(0.1)
    return ask()


def _extensions(world: World, subject: dict[str, Any]) -> None:
    client = world.apple.client
    original = chain(subject["subscription"])

    def mass(**fields: Any) -> Any:
        request = {
            "extendByDays": 7,
            "extendReasonCode": ExtendReasonCode.OTHER,
            "requestIdentifier": str(uuid.uuid4()),
            "productId": "premium.monthly",
            **fields,
        }
        return lambda: client.extend_renewal_date_for_all_active_subscribers(MassExtendRenewalDateRequest(**request))

    def one(**fields: Any) -> Any:
        body = {"extendByDays": 7, "extendReasonCode": 1, "requestIdentifier": "seven", **fields}
        return lambda: _raw(world, "PUT", f"/inApps/v1/subscriptions/extend/{original}", body)

    unknown_request = str(uuid.uuid4())
    for what, call, code in (
        (
            "unknown subscription",
            lambda: client.extend_subscription_renewal_date(UNKNOWN, extension(7)),
            (4040005, 4040010),
        ),
        ("id in letters", lambda: client.extend_subscription_renewal_date("one", extension(7)), (4000008, 4000006)),
        ("reason", one(extendReasonCode=9), 4000010),
        ("request identifier", one(requestIdentifier="x" * 200), 4000011),
        ("days", one(extendByDays=91), 4000009),
        ("product", mass(productId="stranger"), 4000023),
        ("mass days", mass(extendByDays=0), 4000009),
        ("storefront list", mass(storefrontCountryCodes=[]), 4000027),
        ("storefront", mass(storefrontCountryCodes=["ATLANTIS"]), 4000028),
        (
            "unknown request",
            lambda: client.get_status_of_subscription_renewal_date_extensions(unknown_request, "premium.monthly"),
            4040009,
        ),
    ):
        _error(world, f"extension: {what}", call, code)


def _consumption(world: World, subject: dict[str, Any]) -> None:
    item, subscription = subject["item"]["transaction_id"], subject["subscription"]["transaction_id"]

    def second(transaction: str, **fields: Any) -> Any:
        body = {"customerConsented": True, "sampleContentProvided": False, "deliveryStatus": "DELIVERED", **fields}
        return lambda: _raw(world, "PUT", f"/inApps/v2/transactions/consumption/{transaction}", body)

    def first(transaction: str, **fields: Any) -> Any:
        body = {**FIRST_VERSION, **fields}
        return lambda: _raw(world, "PUT", f"/inApps/v1/transactions/consumption/{transaction}", body)

    cases: list[tuple[str, Any, Any]] = [
        ("not consented", second(item, customerConsented=False), 4000035),
        ("unknown transaction", second(UNKNOWN), 4040010),
        ("id in letters", second("one"), 4000006),
        ("app transaction id", second(subject["app_transaction"]), 4000048),
        ("not consented (v1)", first(item, customerConsented=False), 4000035),
        ("product for ever (v1)", first(subject["forever"]["transaction_id"]), (4000043, 4000047)),
        ("unknown transaction (v1)", first(UNKNOWN), 4040010),
    ]
    first_version = {
        "accountTenure": 4000032,
        "appAccountToken": 4000033,
        "consumptionStatus": 4000034,
        "deliveryStatus": 4000036,
        "lifetimeDollarsPurchased": 4000037,
        "lifetimeDollarsRefunded": 4000038,
        "platform": 4000039,
        "playTime": 4000040,
        "userStatus": 4000042,
    }
    cases.extend(
        (f"{field} (v1)", first(item, **{field: 99 if field != "appAccountToken" else "seven"}), code)
        for field, code in first_version.items()
    )
    cases.append(("sampleContentProvided (v1)", first(item, sampleContentProvided="maybe"), 4000041))
    for what, call, code in cases:
        _error(world, f"consumption: {what}", call, code)
    # Documented without a number: the status is all that can be held to.
    row = world.report.row(CLIENT, ERRORS)
    for what, call in (
        ("percentage above the whole", second(item, consumptionPercentage=100_001)),
        ("percentage of a subscription", second(subscription, consumptionPercentage=1)),
        (
            "percentage of what was not delivered",
            second(item, deliveryStatus="UNDELIVERED_OTHER", consumptionPercentage=1),
        ),
        ("unknown preference", second(item, refundPreference="PERHAPS")),
        ("unknown delivery status", second(item, deliveryStatus="LOST")),
    ):
        try:
            call()
        except APIException as error:
            row.check(error.http_status_code == 400, f"consumption: {what}: {error}")
        else:
            row.check(False, f"consumption: {what}: accepted")


def _orders(world: World, subject: dict[str, Any]) -> None:
    row = world.report.row(CLIENT, "order lookup")
    order = subject["subscription"]["order_id"]
    answer = world.apple.client.look_up_order_id(order)
    row.equal(answer.rawStatus, 0, "status of an order")
    found = {world.verifier.transaction(jws).transactionId for jws in answer.signedTransactions}
    row.check(subject["subscription"]["transaction_id"] in found, f"order {order} has {found}")
    answer = world.apple.client.look_up_order_id("STRANGER00")
    row.equal((answer.rawStatus, answer.signedTransactions or []), (1, []), "unknown order")


def _limits(world: World, subject: dict[str, Any]) -> None:
    transaction = subject["subscription"]["transaction_id"]
    world.control.post("outage", {"store": "app_store", "outage": "rate_limited"})
    try:
        world.apple.error(
            ERRORS, "too many calls", lambda: world.apple.client.get_transaction_info(transaction), 4290000
        )
        wait = world.apple.client.last.headers.get("retry-after", "")
        row = world.report.row(CLIENT, "rate limits")
        ahead = int(wait) / 1000 - time.time() if wait.isdigit() else None
        row.check(ahead is not None and -5 < ahead < 3700, f"Retry-After {wait!r} is no time ahead in milliseconds")
    finally:
        world.control.post("outage", {"store": "app_store"})
    world.control.post("outage", {"store": "app_store", "outage": "down503"})
    try:
        with world.report.row(CLIENT, "rate limits").refused("call while the store is down", Exception):
            world.apple.client.get_transaction_info(transaction)
    finally:
        world.control.post("outage", {"store": "app_store"})
    world.apple.transaction(transaction)


def check_sandbox_limit(world: World) -> None:
    """One call a second for the test's status, counted over an hour; the sandbox has a tenth."""
    row = world.report.row(CLIENT, "rate limits")
    client = world.apple.client
    refused = []
    world.control.post("rate-limits", {"enforced": True})
    try:
        for number in range(363):
            try:
                client.get_test_notification_status(f"{uuid.uuid4()}_1")
            except APIException as error:
                if error.raw_api_error == 4290000:
                    refused.append(number)
        row.equal(refused, [360, 361, 362], "calls that were refused")
        wait = int(client.last.headers["retry-after"]) / 1000 - time.time()
        row.check(3000 < wait <= 3600, f"Retry-After {wait:.1f} s ahead")
    finally:
        world.control.post("rate-limits", {"enforced": False})


PARTS = (
    _credentials,
    _transactions,
    _statuses,
    _history,
    _refunds,
    _notifications,
    _extensions,
    _consumption,
    _orders,
    _limits,
)
