"""Every endpoint of purchases and orders: what it refuses and pages."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import exceptions
from google.oauth2.credentials import Credentials
from googleapiclient.errors import HttpError

from ..world import GOOGLE_PATH, World
from .client import CLIENT, error_problems, error_reason
from .push import decode
from .scenes import buy, expect, subscribe

DAY = 86_400_000
NOT_FOUND = ("notFound", "purchaseTokenNotFound")
BAD = ("invalid", "invalidValue", "badRequest")


def check(world: World) -> None:
    for part in (_credentials, _refusals, _orders, _voided, _reviews, _limits, _coverage):
        with world.report.row(CLIENT, "endpoint checks ended").case(part.__name__):
            part(world)


def _credentials(world: World) -> None:
    row = world.report.row(CLIENT, "credentials")
    token = subscribe(world, "g-endpoints", "premium", "monthly")
    for what, changes in (
        ("another account", {"client_email": "stranger@example.iam.gserviceaccount.com"}),
        ("another key", {"private_key": _another_key()}),
    ):
        api = world.google.build(world.google.credentials(**changes))
        request = api.purchases().subscriptionsv2().get(packageName=world.google.package, token=token)
        with row.refused(what, exceptions.RefreshError):
            request.execute()
    stale = world.google.build(Stranger("stranger"))
    world.google.error(
        "unknown access token",
        stale.purchases().subscriptionsv2().get(packageName=world.google.package, token=token),
        401,
        "authError",
    )
    fresh = world.google.credentials()
    api = world.google.build(fresh)
    with row.case("token from the token endpoint"):
        api.purchases().subscriptionsv2().get(packageName=world.google.package, token=token).execute()
        row.check(fresh.valid and fresh.expiry is not None, "no expiry of the access token")


class Stranger(Credentials):
    """An access token that nobody gave, and gets no better by asking again."""

    def refresh(self, request: Any) -> None:
        del request


def _another_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _refusals(world: World) -> None:
    play, package = world.google, world.google.package
    subscription = subscribe(world, "g-refused", "premium", "monthly")
    item = buy(world, "g-refused", "coins")["purchase_token"]
    v2, v1 = play.subscriptions_v2, play.subscriptions
    cancellation = {"cancellationContext": {"cancellationType": "USER_REQUESTED_STOP_RENEWALS"}}
    etag = play.subscription(subscription)["etag"]

    def deferral(**context: Any) -> Any:
        body = {"deferralContext": {"etag": etag, "deferDuration": "864000s", **context}}
        return v2.defer(packageName=package, token=subscription, body=body)

    for what, request, status, reasons in (
        ("unknown subscription", v2.get(packageName=package, token="stranger"), (400, 404), NOT_FOUND + BAD),
        (
            "subscription of another app",
            v2.get(packageName="com.example.stranger", token=subscription),
            (400, 403, 404),
            (),
        ),
        ("subscription by a product's token", v2.get(packageName=package, token=item), (400, 404), ()),
        (
            "unknown product",
            play.products_v2.getproductpurchasev2(packageName=package, token="stranger"),
            (400, 404),
            NOT_FOUND + BAD,
        ),
        (
            "unknown product (v1)",
            play.products.get(packageName=package, productId="coins", token="stranger"),
            (400, 404),
            NOT_FOUND + BAD,
        ),
        (
            "product by a subscription's token",
            play.products_v2.getproductpurchasev2(packageName=package, token=subscription),
            (400, 404),
            (),
        ),
        (
            "product of another id (v1)",
            play.products.get(packageName=package, productId="export", token=item),
            (400, 404),
            (),
        ),
        (
            "acknowledge an unknown subscription",
            v1.acknowledge(packageName=package, subscriptionId="-", token="stranger", body={}),
            (400, 404),
            NOT_FOUND + BAD,
        ),
        (
            "acknowledge an unknown product",
            play.products.acknowledge(packageName=package, productId="coins", token="stranger", body={}),
            (400, 404),
            NOT_FOUND + BAD,
        ),
        (
            "consume an unknown product",
            play.products.consume(packageName=package, productId="coins", token="stranger"),
            (400, 404),
            NOT_FOUND + BAD,
        ),
        (
            "cancel an unknown subscription",
            v2.cancel(packageName=package, token="stranger", body=cancellation),
            (400, 404),
            NOT_FOUND + BAD,
        ),
        ("cancel without saying how", v2.cancel(packageName=package, token=subscription, body={}), 400, ()),
        (
            "revoke an unknown subscription",
            v2.revoke(packageName=package, token="stranger", body={"revocationContext": {"fullRefund": {}}}),
            (400, 404),
            NOT_FOUND + BAD,
        ),
        ("revoke without saying how", v2.revoke(packageName=package, token=subscription, body={}), 400, ()),
        ("defer by an hour", deferral(deferDuration="3600s"), 400, ()),
        ("defer by two years", deferral(deferDuration=f"{2 * 365 * 86400}s"), 400, ()),
        ("defer by nonsense", deferral(deferDuration="long"), 400, ()),
        ("unknown order", play.orders.get(packageName=package, orderId="GPA.0000-0000-0000-00000"), (400, 404), ()),
        (
            "refund an unknown order",
            play.orders.refund(packageName=package, orderId="GPA.0000-0000-0000-00000"),
            (400, 404),
            (),
        ),
    ):
        _refused(world, what, request, status, reasons)
    acknowledged = v1.acknowledge(packageName=package, subscriptionId="premium", token=subscription, body={})
    play.call(acknowledged)
    play.call(
        v1.acknowledge(packageName=package, subscriptionId="-", token=subscription, body={"developerPayload": "again"})
    )
    first = play.subscription(subscription)["lineItems"][0]["expiryTime"]
    millis = _millis(first)
    answer = play.call(
        v1.defer(
            packageName=package,
            subscriptionId="premium",
            token=subscription,
            body={
                "deferralInfo": {
                    "expectedExpiryTimeMillis": str(millis),
                    "desiredExpiryTimeMillis": str(millis + 5 * DAY),
                }
            },
        )
    )
    world.report.row(CLIENT, "lifecycle").equal(answer["newExpiryTimeMillis"], str(millis + 5 * DAY), "deferred (v1)")


def _millis(time: str) -> int:
    return int(datetime.datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp() * 1000)


def _refused(world: World, what: str, request: Any, status: int | tuple[int, ...], reasons: tuple[str, ...]) -> None:
    """One of these statuses, whichever it is well-formed."""
    wanted = (status,) if isinstance(status, int) else status
    row = world.report.row(CLIENT, "errors with Google's reasons")
    world.google.called[request.methodId.split(".", 1)[1]] += 1
    try:
        answer = request.execute()
    except HttpError as error:
        if row.check(error.status_code in wanted, f"{what}: {error.status_code} ({error.reason}), expected {wanted}"):
            row.none(error_problems(error, error.status_code), what)
            reason = error_reason(error)
            row.check(not reasons or reason in reasons, f"{what}: reason {reason!r}, expected one of {reasons}")
    else:
        row.check(False, f"{what}: no error but {answer!r}")


def _orders(world: World) -> None:
    play, package = world.google, world.google.package
    row = world.report.row(CLIENT, "orders")
    purchases = [buy(world, f"g-orders-{number}", "export") for number in range(3)]
    ids = [purchase["order_id"] for purchase in purchases]
    for purchase in purchases:
        play.call(
            play.products.acknowledge(
                packageName=package, productId="export", token=purchase["purchase_token"], body={}
            )
        )
    answer = play.call(play.orders.batchget(packageName=package, orderIds=ids))
    row.equal({order["orderId"] for order in answer["orders"]}, set(ids), "orders in a batch")
    for what, asked in (
        ("one unknown", [*ids, "GPA.0000-0000-0000-00000"]),
        ("one twice", [ids[0], ids[0]]),
        ("none", []),
    ):
        _refused(world, f"batch with {what}", play.orders.batchget(packageName=package, orderIds=asked), (400, 404), ())
    play.call(play.orders.refund(packageName=package, orderId=ids[0], revoke=True))
    row.equal(play.order(ids[0])["state"], "REFUNDED", "refunded with its access")
    state = play.product(purchases[0]["purchase_token"])["purchaseStateContext"]["purchaseState"]
    row.equal(state, "CANCELLED", "a product whose order was refunded and revoked")
    play.call(play.orders.refund(packageName=package, orderId=ids[1], revoke=False))
    row.equal(play.order(ids[1])["state"], "REFUNDED", "refunded without its access")
    subscription = subscribe(world, "g-orders", "premium", "monthly")
    order = play.subscription(subscription)["lineItems"][0]["latestSuccessfulOrderId"]
    play.call(play.orders.refund(packageName=package, orderId=order, revoke=True))
    expect(world, subscription, "EXPIRED", "order refunded and revoked")


def _voided(world: World) -> None:
    """All pages of what was voided in the last thirty days, and nothing else."""
    play, package = world.google, world.google.package
    for number in range(7):
        purchase = buy(world, f"g-voided-{number}", "export")
        world.control.google("refund", purchase_token=purchase["purchase_token"])
    row = world.report.row(CLIENT, "voided purchases, page by page")
    now = world.control.now_millis()

    def pages(**query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token = None
        while True:
            answer = play.call(play.voided.list(packageName=package, maxResults=3, token=token, **query))
            rows = answer.get("voidedPurchases", [])
            row.check(len(rows) <= 3, f"{len(rows)} on a page of 3")
            found.extend(rows)
            token = answer.get("tokenPagination", {}).get("nextPageToken")
            if token is None:
                return found

    items = pages(type=0)
    both = pages(type=1)
    row.check(len(items) >= 7, f"{len(items)} voided products of seven or more")
    row.check(len(both) > len(items), f"{len(both)} voided of all kinds, {len(items)} products")
    ids = [(purchase["orderId"], purchase["voidedTimeMillis"]) for purchase in both]
    row.equal(len(ids), len(set(ids)), "rows without repetition")
    times = [int(purchase["voidedTimeMillis"]) for purchase in both]
    row.equal(times, sorted(times), "oldest first")
    row.check(all(now - 30 * DAY <= time <= now for time in times), "within thirty days")
    orders = {purchase["orderId"] for purchase in both}
    told = {
        inner["orderId"]
        for delivery in world.receiver.at(GOOGLE_PATH)
        if (inner := decode(delivery).get("voidedPurchaseNotification"))
        and int(decode(delivery)["eventTimeMillis"]) > now - 29 * DAY
    }
    row.check(
        told <= orders | {p["orderId"] for p in pages(type=1, includeQuantityBasedPartialRefund=True)},
        f"told of but not listed: {told - orders}",
    )
    row.equal(pages(type=1, startTime=now - 1000, endTime=now - 1000), [], "an empty span")
    for what, query in (
        ("too many results", {"maxResults": 5000}),
        ("an unknown page", {"token": "stranger"}),
        ("a start too early", {"startTime": now - 40 * DAY}),
    ):
        answer = play.voided.list(packageName=package, **query)
        if what == "an unknown page":
            _refused(world, f"voided purchases with {what}", answer, 400, ())
        else:
            # Google's reference says the limits, not whether it refuses or clamps.
            with row.case(what):
                _either(world, answer)


def _either(world: World, request: Any) -> None:
    """An answer that is valid, or an error that is."""
    try:
        world.google.call(request)
    except HttpError as error:
        if wrong := error_problems(error, 400):
            raise AssertionError("; ".join(wrong)) from error


def _reviews(world: World) -> None:
    """A chargeback about to happen is answered by the developer."""
    play, package = world.google, world.google.package
    purchase = buy(world, "g-reviewed", "export")
    play.call(
        play.products.acknowledge(packageName=package, productId="export", token=purchase["purchase_token"], body={})
    )
    world.control.google("charge_back", purchase_token=purchase["purchase_token"])
    reviews = [
        inner
        for delivery in world.receiver.at(GOOGLE_PATH)
        if (inner := decode(delivery).get("pendingRefundReviewNotification"))
        and inner["orderId"] == purchase["order_id"]
    ]
    row = world.report.row(CLIENT, "refund reviews")
    if not row.equal(len(reviews), 1, "notifications of a pending refund"):
        return
    row.equal(reviews[0]["refundReason"], 7, "reason of a chargeback")
    review = {
        "pendingRefundToken": reviews[0]["pendingRefundToken"],
        "refundPreference": "DECLINE",
        "sampleContentProvided": False,
        "consumptionPercentageMilliunits": 50_000,
    }
    order = purchase["order_id"]
    for what, body in (
        ("an unknown token", {**review, "pendingRefundToken": "stranger"}),
        ("an unknown preference", {**review, "refundPreference": "PERHAPS"}),
        ("too high a percentage", {**review, "consumptionPercentageMilliunits": 100_001}),
    ):
        _refused(
            world,
            f"review with {what}",
            play.orders.reviewrefund(packageName=package, orderId=order, body=body),
            (400, 404),
            (),
        )
    play.call(play.orders.reviewrefund(packageName=package, orderId=order, body=review))


def _limits(world: World) -> None:
    request = lambda: world.google.voided.list(packageName=world.google.package)  # noqa: E731
    for outage, status in (("rate_limited", 429), ("down503", 503)):
        world.control.post("outage", {"store": "google_play", "outage": outage})
        try:
            world.google.error(f"outage {outage}", request(), status)
        finally:
            world.control.post("outage", {"store": "google_play"})
    world.google.call(request())


def _coverage(world: World) -> None:
    """Every method of purchases and orders has been called."""
    row = world.report.row(CLIENT, "methods called")
    for method in world.google.discovery.methods("purchases", "orders"):
        row.check(world.google.called[method] > 0, f"{method} was never called")
