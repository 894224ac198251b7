"""A year of customers at the App Store: together they cause everything that Apple notifies of."""

from __future__ import annotations

import uuid
from typing import Any

from appstoreserverlibrary.models.ConsumptionRequest import ConsumptionRequest
from appstoreserverlibrary.models.ConsumptionRequestV1 import ConsumptionRequestV1
from appstoreserverlibrary.models.DeliveryStatus import DeliveryStatus
from appstoreserverlibrary.models.ExtendReasonCode import ExtendReasonCode
from appstoreserverlibrary.models.ExtendRenewalDateRequest import ExtendRenewalDateRequest
from appstoreserverlibrary.models.MassExtendRenewalDateRequest import MassExtendRenewalDateRequest
from appstoreserverlibrary.models.RefundPreference import RefundPreference
from appstoreserverlibrary.models.UpdateAppAccountTokenRequest import UpdateAppAccountTokenRequest

from ..scenes import Scene, days
from ..world import APPLE_PATH, World
from .verifier import CLIENT

MONTH = days(31)
WEEK = days(7)

# Apple's documented types with their subtypes; those of the Advanced Commerce API apart.
EXPECTED = {
    "SUBSCRIBED/INITIAL_BUY",
    "SUBSCRIBED/RESUBSCRIBE",
    "DID_RENEW",
    "DID_RENEW/BILLING_RECOVERY",
    "DID_CHANGE_RENEWAL_PREF",
    "DID_CHANGE_RENEWAL_PREF/UPGRADE",
    "DID_CHANGE_RENEWAL_PREF/DOWNGRADE",
    "DID_CHANGE_RENEWAL_STATUS/AUTO_RENEW_ENABLED",
    "DID_CHANGE_RENEWAL_STATUS/AUTO_RENEW_DISABLED",
    "OFFER_REDEEMED",
    "OFFER_REDEEMED/UPGRADE",
    "OFFER_REDEEMED/DOWNGRADE",
    "DID_FAIL_TO_RENEW",
    "DID_FAIL_TO_RENEW/GRACE_PERIOD",
    "GRACE_PERIOD_EXPIRED",
    "EXPIRED/VOLUNTARY",
    "EXPIRED/BILLING_RETRY",
    "EXPIRED/PRICE_INCREASE",
    "EXPIRED/PRODUCT_NOT_FOR_SALE",
    "PRICE_INCREASE/PENDING",
    "PRICE_INCREASE/ACCEPTED",
    "REFUND",
    "REFUND_DECLINED",
    "REFUND_REVERSED",
    "REVOKE",
    "CONSUMPTION_REQUEST",
    "RENEWAL_EXTENDED",
    "RENEWAL_EXTENSION/SUMMARY",
    "RENEWAL_EXTENSION/FAILURE",
    "ONE_TIME_CHARGE",
    "EXTERNAL_PURCHASE_TOKEN/CREATED",
    "EXTERNAL_PURCHASE_TOKEN/ACTIVE_TOKEN_REMINDER",
    "EXTERNAL_PURCHASE_TOKEN/UNREPORTED",
    "TEST",
    "RESCIND_CONSENT",
}


def buy(world: World, customer: str, product_id: str, *, held: str | None = None, **more: Any) -> dict[str, Any]:
    """A purchase, its signed transaction verified as the app gets it; `held` stays until a move takes effect."""
    token = None if more.get("outside_app") else str(uuid.uuid5(uuid.NAMESPACE_DNS, customer))
    purchase = world.control.apple(
        "buy", customer=customer, product_id=product_id, **{"app_account_token": token, **more}
    )
    decoded = world.verifier.transaction(purchase["signed_transaction"])
    row = world.report.row(CLIENT, "purchases as the app gets them")
    row.equal(decoded.transactionId, purchase["transaction_id"], "transaction id")
    row.equal(decoded.originalTransactionId, purchase["original_transaction_id"], "original transaction id")
    row.equal(decoded.productId, held or product_id, "product id")
    row.equal(decoded.appAccountToken, more.get("app_account_token", token), "app account token")
    return purchase


def chain(purchase: dict[str, Any]) -> str:
    return purchase["original_transaction_id"]


def latest(world: World, original: str) -> str:
    """The newest transaction of a chain, as its status names it."""
    for group in world.apple.statuses(original).data:
        for last in group.lastTransactions:
            if last.originalTransactionId == original:
                return world.verifier.transaction(last.signedTransactionInfo).transactionId
    raise LookupError(f"no status of {original}")


def happy_year(world: World) -> Scene:
    bought = buy(world, "happy", "premium.monthly")
    yield 7 * MONTH
    renewed = latest(world, chain(bought))
    world.apple.transaction(renewed)
    world.apple.client.set_app_account_token(
        chain(bought), UpdateAppAccountTokenRequest(appAccountToken=str(uuid.uuid5(uuid.NAMESPACE_DNS, "another")))
    )
    yield 2 * MONTH
    row = world.report.row(CLIENT, "app account token set by the server")
    token = str(uuid.uuid5(uuid.NAMESPACE_DNS, "another"))
    row.equal(world.apple.transaction(latest(world, chain(bought))).appAccountToken, token, "token of a renewal")
    row.check(world.apple.transaction(renewed).appAccountToken is not None, "token of an earlier renewal")


def weekly_reader(world: World) -> Scene:
    bought = buy(world, "reader", "news.weekly")
    yield days(400)
    row = world.report.row(CLIENT, "history filters")
    history = world.apple.history(chain(bought))
    row.check(len(history) > 50, f"{len(history)} transactions of a weekly subscription after 400 days")
    ids = [transaction.transactionId for transaction in history]
    row.equal(len(ids), len(set(ids)), "transactions without repetition")


def leaves_and_returns(world: World) -> Scene:
    bought = buy(world, "returner", "premium.monthly")
    yield days(3)
    for enabled in (False, True, False):
        world.control.apple("set_auto_renew", original_transaction_id=chain(bought), enabled=enabled)
        yield days(2)
    yield 2 * MONTH
    again = buy(world, "returner", "basic.monthly")
    world.report.row(CLIENT, "lifecycle").equal(chain(again), chain(bought), "chain after resubscribing")
    yield MONTH


def trial(world: World) -> Scene:
    buy(world, "trier", "premium.monthly", trial="P1W")
    bought = buy(world, "leaver", "premium.monthly", trial="P1W")
    yield days(2)
    world.control.apple("set_auto_renew", original_transaction_id=chain(bought), enabled=False)
    yield MONTH


def introductory_offers(world: World) -> Scene:
    offers: list[dict[str, Any]] = [
        {"kind": "introductory", "payment": "free_trial", "period": "P2W"},
        {"kind": "introductory", "payment": "pay_as_you_go", "period": "P1M", "periods": 3, "price_milliunits": 1990},
        {"kind": "introductory", "payment": "pay_up_front", "period": "P3M", "price_milliunits": 4990},
        {"kind": "promotional", "payment": "pay_as_you_go", "id": "spring", "period": "P1M", "price_milliunits": 2990},
        {"kind": "offer_code", "payment": "free_trial", "id": "FAIR", "period": "P1M"},
    ]
    for number, offer in enumerate(offers):
        buy(world, f"offered-{number}", "premium.monthly", offer=offer)
    buy(world, "coder", "premium.monthly", outside_app=True, offer=offers[-1])
    yield 4 * MONTH


def redeemed_offers(world: World) -> Scene:
    promotion = {
        "kind": "promotional",
        "payment": "pay_as_you_go",
        "id": "loyal",
        "period": "P1M",
        "price_milliunits": 1990,
    }
    same, up, down = (buy(world, f"redeemer-{number}", "premium.monthly") for number in range(3))
    yield days(5)
    world.control.apple("redeem_offer", original_transaction_id=chain(same), offer=promotion)
    world.control.apple("redeem_offer", original_transaction_id=chain(up), offer=promotion, product_id="premium.yearly")
    world.control.apple(
        "redeem_offer", original_transaction_id=chain(down), offer=promotion, product_id="basic.monthly"
    )
    yield 2 * MONTH


def win_back(world: World) -> Scene:
    bought = buy(world, "won-back", "premium.monthly")
    world.control.apple("set_auto_renew", original_transaction_id=chain(bought), enabled=False)
    yield 4 * MONTH
    offer = {
        "kind": "win_back",
        "payment": "pay_as_you_go",
        "id": "come-back",
        "period": "P1M",
        "price_milliunits": 990,
    }
    buy(world, "won-back", "premium.monthly", offer=offer)
    yield 2 * MONTH


def billing_trouble(world: World) -> Scene:
    within_grace = buy(world, "graceful", "premium.monthly")
    after_grace = buy(world, "late", "premium.monthly")
    never = buy(world, "lost", "premium.monthly")
    no_grace = buy(world, "graceless", "basic.monthly")
    everybody = (within_grace, after_grace, never, no_grace)
    yield days(10)
    for bought in everybody:
        world.control.apple("set_billing", original_transaction_id=chain(bought), billing="fails")
    yield days(25)
    for bought in everybody:
        world.apple.statuses(chain(bought))
    world.control.apple("set_billing", original_transaction_id=chain(within_grace), billing="works")
    yield days(20)
    for bought in (after_grace, no_grace):
        world.control.apple("set_billing", original_transaction_id=chain(bought), billing="works")
    yield days(90)


def plan_changes(world: World) -> Scene:
    bought = buy(world, "mover", "premium.monthly")
    yield days(3)
    for product, held in (("basic.monthly", "premium.monthly"), ("premium.monthly", None), ("premium.yearly", None)):
        buy(world, "mover", product, held=held)
        yield days(3)
    history = world.apple.history(chain(bought))
    row = world.report.row(CLIENT, "lifecycle")
    row.check(any(transaction.isUpgraded for transaction in history), "no transaction isUpgraded after an upgrade")
    buy(world, "mover", "basic.monthly", held="premium.yearly")
    yield days(400)


def refund_consultation(world: World) -> Scene:
    consent = ConsumptionRequest(
        customerConsented=True,
        sampleContentProvided=False,
        deliveryStatus=DeliveryStatus.DELIVERED,
        consumptionPercentage=25_000,
        refundPreference=RefundPreference.GRANT_PRORATED,
    )
    declined = buy(world, "asker", "coins")
    granted = buy(world, "granted", "coins", quantity=3)
    subscriber = buy(world, "complainer", "premium.yearly")
    yield days(1)
    reasons = ("unintended_purchase", "fulfillment_issue", "unsatisfied_with_purchase")
    for bought, reason in zip((declined, granted, subscriber), reasons, strict=True):
        world.control.apple("request_refund", transaction_id=bought["transaction_id"], reason=reason)
    world.apple.client.send_consumption_information(declined["transaction_id"], consent)
    world.apple.client.send_consumption_data(
        granted["transaction_id"],
        ConsumptionRequestV1(
            customerConsented=True,
            rawConsumptionStatus=1,
            rawPlatform=1,
            sampleContentProvided=False,
            rawDeliveryStatus=0,
            appAccountToken=str(uuid.uuid5(uuid.NAMESPACE_DNS, "granted")),
            rawAccountTenure=3,
            rawPlayTime=2,
            rawLifetimeDollarsRefunded=1,
            rawLifetimeDollarsPurchased=2,
            rawUserStatus=1,
            rawRefundPreference=2,
        ),
    )
    world.apple.client.send_consumption_information(
        subscriber["transaction_id"],
        ConsumptionRequest(customerConsented=True, sampleContentProvided=True, deliveryStatus=DeliveryStatus.DELIVERED),
    )
    yield days(1)
    world.control.apple("decline_refund", transaction_id=declined["transaction_id"])
    world.control.apple("refund", transaction_id=granted["transaction_id"])
    world.control.apple("refund", transaction_id=subscriber["transaction_id"], percent=40)
    yield days(10)
    row = world.report.row(CLIENT, "refunds")
    for bought in (granted, subscriber):
        found = [transaction.transactionId for transaction in world.apple.refunds(chain(bought))]
        row.check(bought["transaction_id"] in found, f"refund history {found} lacks {bought['transaction_id']}")
    row.equal(world.apple.transaction(subscriber["transaction_id"]).revocationPercentage, 40_000, "prorated refund")


def refund_reversed(world: World) -> Scene:
    bought = buy(world, "regretful", "premium.monthly")
    yield days(40)
    world.control.apple("request_refund", transaction_id=bought["transaction_id"], reason="other")
    yield days(1)
    world.control.apple("refund", transaction_id=bought["transaction_id"])
    row = world.report.row(CLIENT, "refunds")
    row.check(world.apple.transaction(bought["transaction_id"]).revocationDate is not None, "no revocation date")
    yield days(5)
    world.control.apple("reverse_refund", transaction_id=bought["transaction_id"])
    row.equal(world.apple.transaction(bought["transaction_id"]).revocationDate, None, "revocation date afterwards")
    yield days(5)
    newest = latest(world, chain(bought))
    world.control.apple("request_refund", transaction_id=newest, reason="legal")
    world.control.apple("refund", transaction_id=newest)
    yield MONTH


def many_refunds(world: World) -> Scene:
    bought = [buy(world, "spender", "coins", quantity=number % 10 + 1) for number in range(23)]
    yield days(1)
    for purchase in bought:
        world.control.apple("refund", transaction_id=purchase["transaction_id"])
    yield days(1)
    found = [transaction.revocationDate for transaction in world.apple.refunds(chain(bought[0]))]
    row = world.report.row(CLIENT, "refunds")
    row.equal(len(found), len(bought), "refunds of one customer")
    row.equal(found, sorted(found), "refunds in the order of their dates")


def one_time(world: World) -> Scene:
    bought = buy(world, "owner", "export")
    buy(world, "owner", "coins", quantity=5)
    buy(world, "owner", "season")
    yield days(30)
    world.control.apple("request_refund", transaction_id=bought["transaction_id"], reason="unintended_purchase")
    world.control.apple("refund", transaction_id=bought["transaction_id"])
    yield days(1)
    world.apple.client.finish_transaction(bought["transaction_id"])


def family(world: World) -> Scene:
    bought = buy(world, "parent", "premium.yearly")
    yield days(2)
    child = world.control.apple("share", original_transaction_id=chain(bought), member="child")
    world.control.apple("share", original_transaction_id=chain(bought), member="aunt")
    shared = world.verifier.transaction(child["signed_transaction"])
    row = world.report.row(CLIENT, "family sharing")
    row.equal(shared.rawInAppOwnershipType, "FAMILY_SHARED", "ownership of a member's transaction")
    row.equal(shared.appAccountToken, None, "app account token of a member's transaction")
    row.check(shared.originalTransactionId != chain(bought), "a member has a chain of their own")
    world.apple.statuses(chain(child))
    world.apple.error(
        "errors with Apple's codes",
        "app account token of a family member",
        lambda: world.apple.client.set_app_account_token(
            chain(child), UpdateAppAccountTokenRequest(appAccountToken=str(uuid.uuid4()))
        ),
        4000185,
    )
    world.apple.error(
        "errors with Apple's codes",
        "extension for a family member",
        lambda: world.apple.client.extend_subscription_renewal_date(chain(child), extension(7)),
        4030007,
    )
    yield days(20)
    world.control.apple("unshare", original_transaction_id=chain(bought), member="aunt")
    yield days(20)
    world.control.apple("refund", transaction_id=bought["transaction_id"])
    yield days(1)


def extension(length: int, identifier: str | None = None) -> ExtendRenewalDateRequest:
    return ExtendRenewalDateRequest(
        extendByDays=length,
        extendReasonCode=ExtendReasonCode.CUSTOMER_SATISFACTION,
        requestIdentifier=identifier or f"extension-{length}",
    )


def extended(world: World) -> Scene:
    bought = buy(world, "patient", "extended.monthly")
    for number in range(3):
        buy(world, f"mass-{number}", "extended.monthly")
    unpaid = buy(world, "mass-unpaid", "extended.monthly", trial="P1M")
    yield days(2)
    row = world.report.row(CLIENT, "renewal dates extended")
    before = world.apple.transaction(bought["transaction_id"]).expiresDate
    answer = world.apple.client.extend_subscription_renewal_date(chain(bought), extension(10))
    row.equal((answer.originalTransactionId, answer.success), (chain(bought), True), "answer to an extension")
    row.equal(answer.effectiveDate, before + 10 * 86_400_000, "effective date")
    world.control.apple("extend", original_transaction_id=chain(bought), days=5)
    for length, code in ((0, 4000009), (91, 4000009), (5, 4030005)):
        world.apple.error(
            "errors with Apple's codes",
            f"extension by {length} days",
            lambda length=length: world.apple.client.extend_subscription_renewal_date(chain(bought), extension(length)),
            code,
        )
    world.apple.error(
        "errors with Apple's codes",
        "extension of a free trial",
        lambda: world.apple.client.extend_subscription_renewal_date(chain(unpaid), extension(5)),
        4030004,
    )
    yield days(2)
    request = MassExtendRenewalDateRequest(
        extendByDays=7,
        extendReasonCode=ExtendReasonCode.SERVICE_ISSUE_OR_OUTAGE,
        requestIdentifier=str(uuid.uuid5(uuid.NAMESPACE_DNS, "mass")),
        productId="extended.monthly",
    )
    accepted = world.apple.client.extend_renewal_date_for_all_active_subscribers(request)
    row.equal(accepted.requestIdentifier, request.requestIdentifier, "mass extension accepted")
    yield days(2)
    status = world.apple.client.get_status_of_subscription_renewal_date_extensions(
        request.requestIdentifier, "extended.monthly"
    )
    row.equal(status.complete, True, "mass extension complete")
    row.check(status.succeededCount >= 3, f"{status.succeededCount} extended of three or more")
    row.check(status.failedCount >= 1, f"{status.failedCount} failed of one or more")
    yield 2 * MONTH


def prices(world: World) -> Scene:
    accepts = buy(world, "accepts", "raised.monthly")
    refuses = buy(world, "refuses", "raised.monthly")
    buy(world, "unasked", "adjusted.monthly")
    buy(world, "silent", "raised.monthly")
    yield days(5)
    world.control.apple("raise_price", product_id="raised.monthly", price_milliunits=5990, consent=True)
    world.control.apple("raise_price", product_id="adjusted.monthly", price_milliunits=4490, consent=False)
    yield days(3)
    world.control.apple("answer_price", original_transaction_id=chain(accepts), accept=True)
    world.control.apple("answer_price", original_transaction_id=chain(refuses), accept=False)
    for bought in (accepts, refuses):
        world.apple.statuses(chain(bought))
    yield 4 * MONTH


def withdrawn(world: World) -> Scene:
    buy(world, "stranded", "news.retired")
    yield days(10)
    world.control.apple("withdraw_product", product_id="news.retired")
    yield 2 * MONTH


def commitment(world: World) -> Scene:
    stays = buy(world, "committed", "commitment.yearly", billing_plan="monthly")
    leaves = buy(world, "uncommitted", "commitment.yearly", billing_plan="monthly")
    buy(world, "prepaid", "commitment.yearly", billing_plan="upfront")
    yield 2 * MONTH
    world.control.apple("set_auto_renew", original_transaction_id=chain(leaves), enabled=False)
    row = world.report.row(CLIENT, "twelve-month commitment")
    for bought in (stays, leaves):
        decoded = world.apple.transaction(latest(world, chain(bought)))
        row.equal(decoded.rawBillingPlanType, "MONTHLY", "billing plan")
        row.equal(decoded.commitmentInfo and decoded.commitmentInfo.totalBillingPeriods, 12, "billing periods")
    yield days(400)


def app_level(world: World) -> Scene:
    buy(world, "minor", "premium.monthly")
    yield days(3)
    world.control.apple("rescind_consent", customer="minor")
    for kind in ("created", "reminder", "unreported"):
        world.control.apple("external_purchase", kind=kind)
    yield days(1)
    token = world.apple.client.request_test_notification().testNotificationToken
    yield days(1)
    answer = world.apple.client.get_test_notification_status(token)
    row = world.report.row(CLIENT, "test notification")
    row.equal(world.verifier.notification(answer.signedPayload).rawNotificationType, "TEST", "type of the test")
    row.equal([attempt.rawSendAttemptResult for attempt in answer.sendAttempts], ["SUCCESS"], "attempts of the test")


def refused_delivery(world: World) -> Scene:
    """The server fails twice: production tries again by the schedule, the sandbox never does."""
    yield days(350 if world.control.production else 60)
    world.receiver.answers[APPLE_PATH] = [500, 503]
    token = world.apple.client.request_test_notification().testNotificationToken
    yield days(5)
    answer = world.apple.client.get_test_notification_status(token)
    row = world.report.row(CLIENT, "attempts of a refused notification")
    results = [attempt.rawSendAttemptResult for attempt in answer.sendAttempts]
    failed = "UNSUCCESSFUL_HTTP_RESPONSE_CODE"
    row.equal(results, [failed, failed, "SUCCESS"] if world.control.production else [failed], "results")
    dates = [attempt.attemptDate for attempt in answer.sendAttempts]
    waits = [round((later - earlier) / 3_600_000, 1) for earlier, later in zip(dates, dates[1:], strict=False)]
    row.equal(waits, [1.0, 12.0] if world.control.production else [], "hours between attempts")


SCENES = [
    happy_year,
    weekly_reader,
    leaves_and_returns,
    trial,
    introductory_offers,
    redeemed_offers,
    win_back,
    billing_trouble,
    plan_changes,
    refund_consultation,
    refund_reversed,
    many_refunds,
    one_time,
    family,
    extended,
    prices,
    withdrawn,
    commitment,
    app_level,
    refused_delivery,
]
