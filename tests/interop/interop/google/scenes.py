"""A year of customers at Google Play: together they cause every real-time developer notification."""

from __future__ import annotations

import hashlib
from typing import Any

from ..scenes import Scene, days
from ..world import World
from .client import CLIENT
from .push import ONE_TIME_TYPES, SUBSCRIPTION_TYPES

MONTH = days(31)

# PRICE_CHANGE_CONFIRMED is deprecated: Google sends PRICE_CHANGE_UPDATED now.
EXPECTED = (
    (set(SUBSCRIPTION_TYPES.values()) - {"PRICE_CHANGE_CONFIRMED"})
    | set(ONE_TIME_TYPES.values())
    | {
        "VOIDED_SUBSCRIPTION_FULL",
        "VOIDED_ONE_TIME_FULL",
        "VOIDED_ONE_TIME_PARTIAL",
        "PENDING_REFUND_REVIEW",
        "TEST",
    }
)

STATE = "SUBSCRIPTION_STATE_"


def buy(world: World, customer: str, product_id: str, plan: str | None = None, **more: Any) -> dict[str, Any]:
    account = None if more.get("out_of_app") else hashlib.sha256(customer.encode()).hexdigest()
    return world.control.google(
        "buy",
        customer=customer,
        product_id=product_id,
        base_plan_id=plan,
        **{"obfuscated_account_id": account, **more},
    )


def subscribe(world: World, customer: str, product_id: str, plan: str, **more: Any) -> str:
    """An acknowledged subscription's token."""
    token = buy(world, customer, product_id, plan, **more)["purchase_token"]
    world.google.acknowledge(token)
    return token


def expect(world: World, token: str, state: str, what: str) -> dict[str, Any]:
    """The subscription must be in this state now."""
    found = world.google.subscription(token)
    world.report.row(CLIENT, "lifecycle").equal(found.get("subscriptionState"), STATE + state, what)
    return found


def happy_year(world: World) -> Scene:
    token = subscribe(world, "g-happy", "premium", "monthly")
    subscribe(world, "g-yearly", "premium", "yearly")
    subscribe(world, "g-trier", "premium", "monthly", trial="P1W")
    offer = {"id": "intro", "price_micros": 1_990_000, "period": "P1M", "periods": 3}
    subscribe(world, "g-offered", "premium", "monthly", offer=offer)
    yield 3 * MONTH
    found = expect(world, token, "ACTIVE", "after three months")
    (line,) = found["lineItems"]
    order = world.google.order(line["latestSuccessfulOrderId"])
    row = world.report.row(CLIENT, "orders")
    row.equal(order["purchaseToken"], token, "token of a renewal's order")
    row.equal(order["state"], "PROCESSED", "state of a renewal's order")
    yield 9 * MONTH


def cancels_and_restores(world: World) -> Scene:
    token = subscribe(world, "g-waverer", "premium", "monthly")
    yield days(3)
    world.control.google("cancel", purchase_token=token)
    found = expect(world, token, "CANCELED", "cancelled by the customer")
    row = world.report.row(CLIENT, "lifecycle")
    row.check(
        "userInitiatedCancellation" in found.get("canceledStateContext", {}), f"{found.get('canceledStateContext')}"
    )
    yield days(3)
    world.control.google("restore", purchase_token=token)
    expect(world, token, "ACTIVE", "restored")
    yield days(3)
    survey = {"reason": "cost_related"}
    world.control.google("cancel", purchase_token=token, survey=survey)
    yield 2 * MONTH
    expect(world, token, "EXPIRED", "cancelled and over")
    again = buy(world, "g-waverer", "premium", "monthly", out_of_app=True)["purchase_token"]
    found = expect(world, again, "ACTIVE", "resubscribed in the store")
    row.equal(found.get("outOfAppPurchaseContext", {}).get("expiredPurchaseToken"), token, "expired token")
    world.google.acknowledge(again, externalAccountIds={"obfuscatedAccountId": "account-7"})
    found = world.google.subscription(again)
    row.check("outOfAppPurchaseContext" not in found, "context of an acknowledged purchase")
    identifiers = found.get("externalAccountIdentifiers", {})
    row.equal(identifiers.get("obfuscatedExternalAccountId"), "account-7", "account told while acknowledging")
    yield MONTH


def never_acknowledged(world: World) -> Scene:
    token = buy(world, "g-forgotten", "premium", "monthly")["purchase_token"]
    item = buy(world, "g-forgotten", "export")["purchase_token"]
    yield days(4)
    expect(world, token, "EXPIRED", "never acknowledged")
    state = world.google.product(item)["purchaseStateContext"]["purchaseState"]
    world.report.row(CLIENT, "lifecycle").equal(state, "CANCELLED", "product never acknowledged")


def billing_trouble(world: World) -> Scene:
    in_grace = subscribe(world, "g-graceful", "premium", "monthly")
    in_hold = subscribe(world, "g-held", "premium", "monthly")
    lost = subscribe(world, "g-lost", "premium", "monthly")
    silent = subscribe(world, "g-silent", "basic", "monthly")
    gives_up = subscribe(world, "g-gives-up", "premium", "monthly")
    everybody = (in_grace, in_hold, lost, silent, gives_up)
    yield days(10)
    for token in everybody:
        world.control.google("set_billing", purchase_token=token, billing="fails")
    yield days(24)
    for token in (in_grace, in_hold, lost, gives_up):
        expect(world, token, "IN_GRACE_PERIOD", "three days after a failed renewal")
    world.control.google("set_billing", purchase_token=in_grace, billing="works")
    expect(world, in_grace, "ACTIVE", "recovered in grace")
    world.control.google("cancel", purchase_token=gives_up)
    expect(world, gives_up, "EXPIRED", "cancelled in grace")
    yield days(10)
    for token in (in_hold, lost, silent):
        expect(world, token, "ON_HOLD", "two weeks after a failed renewal")
    world.control.google("set_billing", purchase_token=in_hold, billing="works")
    expect(world, in_hold, "ACTIVE", "recovered from hold")
    yield 2 * MONTH
    expect(world, lost, "EXPIRED", "after hold")


def pauses(world: World) -> Scene:
    token = subscribe(world, "g-traveller", "premium", "monthly")
    stays = subscribe(world, "g-returns-early", "premium", "monthly")
    yield days(5)
    world.control.google("pause", purchase_token=token, period="P1M")
    world.control.google("pause", purchase_token=stays, period="P3M")
    expect(world, token, "ACTIVE", "pause is scheduled")
    yield MONTH
    found = expect(world, token, "PAUSED", "paused")
    world.report.row(CLIENT, "lifecycle").check("pausedStateContext" in found, "no pausedStateContext")
    world.control.google("resume", purchase_token=stays)
    expect(world, stays, "ACTIVE", "resumed")
    yield 2 * MONTH
    expect(world, token, "ACTIVE", "pause is over")


def plan_changes(world: World) -> Scene:
    row = world.report.row(CLIENT, "lifecycle")
    for mode, before, after in (
        ("with_time_proration", ("premium", "monthly"), ("premium", "yearly")),
        # Only for a higher price of the same time.
        ("charge_prorated_price", ("basic", "monthly"), ("premium", "monthly")),
        ("without_proration", ("premium", "monthly"), ("basic", "monthly")),
        ("charge_full_price", ("premium", "monthly"), ("premium", "yearly")),
        ("deferred", ("premium", "monthly"), ("basic", "monthly")),
    ):
        old = subscribe(world, f"g-mover-{mode}", *before)
        yield days(2)
        new = subscribe(world, f"g-mover-{mode}", *after, replaces=old, replacement_mode=mode)
        found = world.google.subscription(new)
        row.equal(found.get("linkedPurchaseToken"), old, f"linked token after {mode}")
        yield days(1)
        replaced = expect(world, old, "EXPIRED", f"replaced by {mode}")
        context = replaced.get("canceledStateContext", {})
        row.check("replacementCancellation" in context, f"{mode}: {context}")
    yield 3 * MONTH


def add_ons(world: World) -> Scene:
    token = subscribe(
        world, "g-bundler", "premium", "monthly", add_ons=[{"product_id": "addon", "base_plan_id": "monthly"}]
    )
    row = world.report.row(CLIENT, "lifecycle")
    products = {line["productId"] for line in world.google.subscription(token)["lineItems"]}
    row.equal(products, {"premium", "addon"}, "line items of a purchase with an add-on")
    yield days(5)
    world.control.google("remove_item", purchase_token=token, product_id="addon")
    world.google.subscription(token)
    yield 2 * MONTH
    other = subscribe(world, "g-collector", "premium", "monthly")
    yield days(2)
    items = [{"product_id": "addon", "base_plan_id": "monthly"}]
    added = world.control.google("add_items", purchase_token=other, items=items)
    world.google.subscription(added.get("purchase_token", other))
    yield 2 * MONTH


def prepaid(world: World) -> Scene:
    token = subscribe(world, "g-prepaid", "pass", "prepaid")
    row = world.report.row(CLIENT, "lifecycle")
    row.check("prepaidPlan" in world.google.subscription(token)["lineItems"][0], "no prepaidPlan")
    yield days(20)
    topped = world.control.google("top_up", purchase_token=token)["purchase_token"]
    world.google.acknowledge(topped)
    row.equal(world.google.subscription(topped).get("linkedPurchaseToken"), token, "linked token of a top-up")
    yield 3 * MONTH
    expect(world, topped, "EXPIRED", "prepaid and over")


def installments(world: World) -> Scene:
    token = subscribe(world, "g-payer", "course", "installments")
    other = subscribe(world, "g-payer-2", "course", "installments")
    row = world.report.row(CLIENT, "lifecycle")
    plan = world.google.subscription(token)["lineItems"][0]["autoRenewingPlan"]
    row.check("installmentDetails" in plan, f"no installmentDetails in {plan}")
    yield 2 * MONTH
    world.control.google("cancel", purchase_token=token)
    plan = expect(world, token, "ACTIVE", "cancelled during the commitment")["lineItems"][0]["autoRenewingPlan"]
    row.check("pendingCancellation" in plan.get("installmentDetails", {}), "no pendingCancellation")
    world.google.call(
        world.google.subscriptions_v2.cancel(
            packageName=world.google.package,
            token=other,
            body={"cancellationContext": {"cancellationType": "USER_REQUESTED_STOP_RENEWALS"}},
        )
    )
    yield 5 * MONTH
    expect(world, token, "EXPIRED", "commitment is over")


def pending(world: World) -> Scene:
    paid = buy(world, "g-cash", "premium", "monthly", pending=True)["purchase_token"]
    unpaid = buy(world, "g-no-cash", "premium", "monthly", pending=True)["purchase_token"]
    paid_item = buy(world, "g-cash", "coins", pending=True)["purchase_token"]
    unpaid_item = buy(world, "g-no-cash", "export", pending=True)["purchase_token"]
    row = world.report.row(CLIENT, "lifecycle")
    for token in (paid, unpaid):
        row.check("startTime" not in expect(world, token, "PENDING", "not paid yet"), "a pending purchase started")
    for token in (paid_item, unpaid_item):
        row.equal(
            world.google.product(token)["purchaseStateContext"]["purchaseState"], "PENDING", "product not paid yet"
        )
    yield days(1)
    for token, is_paid in ((paid, True), (unpaid, False), (paid_item, True), (unpaid_item, False)):
        world.control.google("settle_pending", purchase_token=token, paid=is_paid)
    world.google.acknowledge(paid)
    expect(world, paid, "ACTIVE", "paid")
    expect(world, unpaid, "PENDING_PURCHASE_CANCELED", "not paid after all")
    row.equal(world.google.product(unpaid_item)["purchaseStateContext"]["purchaseState"], "CANCELLED", "product unpaid")
    package = world.google.package
    world.google.call(world.google.products.consume(packageName=package, productId="coins", token=paid_item))
    yield days(10)


def one_time(world: World) -> Scene:
    package = world.google.package
    owned = buy(world, "g-owner", "export")["purchase_token"]
    coins = buy(world, "g-owner", "coins", quantity=5)["purchase_token"]
    row = world.report.row(CLIENT, "one-time products")
    world.google.product(owned)
    world.google.product_v1("export", owned)
    world.google.call(world.google.products.acknowledge(packageName=package, productId="export", token=owned, body={}))
    row.equal(world.google.product_v1("export", owned)["acknowledgementState"], 1, "acknowledged (v1)")
    row.equal(
        world.google.product(owned)["acknowledgementState"], "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED", "acknowledged (v2)"
    )
    yield days(1)
    world.control.google("refund", purchase_token=coins, quantity=2)
    details = world.google.product(coins)["productLineItem"][0]["productOfferDetails"]
    row.equal((details.get("quantity"), details.get("refundableQuantity")), (5, 3), "quantity after a partial refund")
    world.google.call(world.google.products.consume(packageName=package, productId="coins", token=coins))
    details = world.google.product(coins)["productLineItem"][0]["productOfferDetails"]
    row.equal(details["consumptionState"], "CONSUMPTION_STATE_CONSUMED", "consumed (v2)")
    row.equal(world.google.product_v1("coins", coins)["consumptionState"], 1, "consumed (v1)")
    again = buy(world, "g-owner", "coins")["purchase_token"]
    row.check(again != coins, "a consumable has a new token when bought again")
    world.google.call(world.google.products.consume(packageName=package, productId="coins", token=again))
    yield days(30)
    world.control.google("refund", purchase_token=owned)
    row.equal(world.google.product(owned)["purchaseStateContext"]["purchaseState"], "CANCELLED", "refunded")


def refunds(world: World) -> Scene:
    refunded = subscribe(world, "g-refunded", "premium", "monthly")
    kept = subscribe(world, "g-kept", "premium", "monthly")
    disputed = buy(world, "g-disputer", "premium", "yearly")
    world.google.acknowledge(disputed["purchase_token"])
    yield days(40)
    world.control.google("refund", purchase_token=refunded)
    expect(world, refunded, "EXPIRED", "refunded and revoked")
    first = world.google.subscription(kept)["lineItems"][0]["latestSuccessfulOrderId"]
    world.control.google("refund", purchase_token=kept, order_id=first, revoke=False)
    expect(world, kept, "ACTIVE", "an order refunded, access kept")
    row = world.report.row(CLIENT, "orders")
    order = world.google.order(first)
    row.equal(order["state"], "REFUNDED", "state of a refunded order")
    row.check("refundEvent" in order.get("orderHistory", {}), "no refundEvent")
    world.control.google("charge_back", purchase_token=disputed["purchase_token"])
    yield days(3)
    order = world.google.order(disputed["order_id"])
    row.equal(order.get("orderHistory", {}).get("refundEvent", {}).get("refundReason"), "CHARGEBACK", "refund reason")
    yield days(2)


def developer_decides(world: World) -> Scene:
    """What the developer causes through the API."""
    package, api = world.google.package, world.google.subscriptions_v2
    deferred, stopped, ended, prorated, v1 = (
        subscribe(world, f"g-decided-{number}", "premium", "monthly") for number in range(5)
    )
    bundle = subscribe(
        world, "g-decided-bundle", "premium", "monthly", add_ons=[{"product_id": "addon", "base_plan_id": "monthly"}]
    )
    yield days(5)
    row = world.report.row(CLIENT, "lifecycle")
    before = world.google.subscription(deferred)
    for validate_only in (True, False):
        context = {"etag": before["etag"], "deferDuration": "864000s", "validateOnly": validate_only}
        answer = world.google.call(api.defer(packageName=package, token=deferred, body={"deferralContext": context}))
        (item,) = answer["itemExpiryTimeDetails"]
        row.check(item["expiryTime"] > before["lineItems"][0]["expiryTime"], "deferred to an earlier time")
    after = world.google.subscription(deferred)
    row.equal(after["lineItems"][0]["expiryTime"], item["expiryTime"], "expiry after a deferral")
    stale = {"deferralContext": {"etag": before["etag"], "deferDuration": "864000s"}}
    world.google.error(
        "deferral with a stale etag",
        api.defer(packageName=package, token=deferred, body=stale),
        409,
        "concurrentUpdate",
    )
    context = {"cancellationContext": {"cancellationType": "DEVELOPER_REQUESTED_STOP_PAYMENTS"}}
    world.google.call(api.cancel(packageName=package, token=stopped, body=context))
    found = expect(world, stopped, "CANCELED", "stopped by the developer")
    row.check(
        "developerInitiatedCancellation" in found.get("canceledStateContext", {}),
        f"{found.get('canceledStateContext')}",
    )
    for token, refund in ((ended, {"fullRefund": {}}), (prorated, {"proratedRefund": {}})):
        world.google.call(api.revoke(packageName=package, token=token, body={"revocationContext": refund}))
        expect(world, token, "EXPIRED", f"revoked with {refund}")
    context = {"revocationContext": {"itemBasedRefund": {"productId": "addon"}}}
    world.google.call(api.revoke(packageName=package, token=bundle, body=context))
    expect(world, bundle, "ACTIVE", "one item revoked")
    world.google.call(world.google.subscriptions.cancel(packageName=package, subscriptionId="premium", token=v1))
    expect(world, v1, "CANCELED", "cancelled with the first API version")
    yield MONTH


def prices(world: World) -> Scene:
    accepts = subscribe(world, "g-accepts", "raised", "monthly")
    refuses = subscribe(world, "g-refuses", "raised", "monthly")
    # In Korea the customer is asked before a trial turns into something that costs.
    korean = subscribe(world, "g-korean", "stepped", "monthly", trial="P2W")
    yield days(3)
    world.control.google(
        "change_price", product_id="raised", base_plan_id="monthly", price_micros=5_990_000, mode="increase"
    )
    world.google.subscription(accepts)
    yield days(10)
    world.control.google("answer_price", purchase_token=accepts, accept=True)
    world.control.google("answer_price", purchase_token=refuses, accept=False)
    (line,) = world.google.subscription(korean)["lineItems"]
    row = world.report.row(CLIENT, "lifecycle")
    row.check("priceStepUpConsentDetails" in line["autoRenewingPlan"], "no consent is asked for")
    world.control.google("step_up_consent", purchase_token=korean, accept=True)
    for token in (accepts, refuses, korean):
        world.google.subscription(token)
    yield 3 * MONTH
    for mode, price in (("decrease", 2_990_000), ("opt_out_increase", 4_490_000)):
        world.control.google("change_price", product_id="raised", base_plan_id="monthly", price_micros=price, mode=mode)
        yield days(2)
        world.google.subscription(accepts)
        yield 2 * MONTH


def token_gone(world: World) -> Scene:
    token = subscribe(world, "g-gone", "premium", "monthly")
    world.control.google("cancel", purchase_token=token)
    yield days(80)
    expect(world, token, "EXPIRED", "expired seven weeks ago")
    yield days(20)
    world.google.error(
        "token of a subscription that ended more than 60 days ago",
        world.google.subscriptions_v2.get(packageName=world.google.package, token=token),
        410,
        "subscriptionNoLongerAvailable",
        "purchaseTokenNoLongerValid",
        "subscriptionPurchaseNoLongerAvailable",
    )


SCENES = [
    happy_year,
    cancels_and_restores,
    never_acknowledged,
    billing_trouble,
    pauses,
    plan_changes,
    add_ons,
    prepaid,
    installments,
    pending,
    one_time,
    refunds,
    developer_decides,
    prices,
    token_gone,
]
