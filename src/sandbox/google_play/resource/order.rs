//! `Order`.

use serde_json::{Value, json};

use super::super::super::setup::tax_percent;
use super::super::item::OfferPhase;
use super::super::order::{Order, OrderLine, OrderRefund, OrderState, PaidFor, Progress};
use super::super::purchase::Purchase;
use super::product::PURCHASE_OPTION;
use super::{money, time};

/// Google keeps fifteen per cent of what is left after tax.
const REVENUE_PERCENT: i64 = 85;

/// `Order`.
pub(in super::super) fn order(purchase: &Purchase, order: &Order) -> Value {
    let currency = purchase.currency.as_str();
    let sum = |micros| money(micros, currency);
    let total = order.total_micros();
    let left = order.left_micros();
    let revenue = (left - tax(left, currency)) / 100 * REVENUE_PERCENT;
    let lines = order.lines.iter().map(|paid| line(paid, currency));
    json!({
        "orderId": order.id,
        "purchaseToken": purchase.token,
        "state": match order.state() {
            OrderState::Pending => "PENDING",
            OrderState::Processed => "PROCESSED",
            OrderState::Canceled => "CANCELED",
            OrderState::PendingRefund => "PENDING_REFUND",
            OrderState::PartiallyRefunded => "PARTIALLY_REFUNDED",
            OrderState::Refunded => "REFUNDED",
        },
        "createTime": time(order.created_at),
        "lastEventTime": time(order.last_event_at()),
        "total": sum(total),
        "tax": sum(tax(total, currency)),
        "developerRevenueInBuyerCurrency": sum(revenue),
        "salesChannel": match purchase.out_of_app {
            Some(_) => "PLAY_STORE",
            None => "IN_APP",
        },
        "orderDetails": {"taxInclusive": true},
        "lineItems": lines.collect::<Vec<_>>(),
        "orderHistory": history(order, currency),
    })
}

/// The tax that a price contains.
fn tax(micros: i64, currency: &str) -> i64 {
    let percent = tax_percent(currency);
    micros * percent / (100 + percent)
}

fn line(paid: &OrderLine, currency: &str) -> Value {
    let sum = |micros| money(micros, currency);
    let mut line = json!({
        "productId": paid.product_id,
        "productTitle": paid.product_id,
        "listingPrice": sum(paid.listing_micros),
        "total": sum(paid.total_micros),
        "tax": sum(tax(paid.total_micros, currency)),
    });
    match &paid.paid_for {
        PaidFor::OneTime { quantity } => {
            line["oneTimePurchaseDetails"] =
                json!({"quantity": quantity, "purchaseOptionId": PURCHASE_OPTION});
        }
        PaidFor::Subscription {
            base_plan_id,
            offer_id,
            phase,
            from,
            until,
        } => {
            let mut details = json!({
                "basePlanId": base_plan_id,
                "offerPhaseDetails": phase_details(*phase),
                "servicePeriodStartTime": time(*from),
                "servicePeriodEndTime": time(*until),
            });
            if let Some(offer) = offer_id {
                details["offerId"] = json!(offer);
            }
            line["subscriptionDetails"] = details;
        }
    }
    line
}

fn phase_details(phase: OfferPhase) -> Value {
    match phase {
        OfferPhase::Base => json!({"baseDetails": {}}),
        OfferPhase::FreeTrial => json!({"freeTrialDetails": {}}),
        OfferPhase::Introductory => json!({"introductoryPriceDetails": {}}),
        OfferPhase::Proration => json!({"prorationPeriodDetails": {}}),
        OfferPhase::ProrationOfBase => {
            json!({"prorationPeriodDetails": {"originalOfferPhase": "BASE"}})
        }
    }
}

fn history(order: &Order, currency: &str) -> Value {
    let mut history = json!({});
    match order.progress {
        Progress::Pending => {}
        Progress::Processed { at } => history["processedEvent"] = json!({"eventTime": time(at)}),
        Progress::Canceled { at } => history["cancellationEvent"] = json!({"eventTime": time(at)}),
    }
    let details = |refund: &OrderRefund| {
        json!({
            "total": money(refund.micros, currency),
            "tax": money(tax(refund.micros, currency), currency),
        })
    };
    if let Some(refund) = order.refunds.iter().rfind(|refund| refund.whole) {
        history["refundEvent"] = json!({
            "eventTime": time(refund.at),
            "refundReason": if refund.charge_back { "CHARGEBACK" } else { "OTHER" },
            "refundDetails": details(refund),
        });
    }
    let parts: Vec<_> = order
        .refunds
        .iter()
        .filter(|refund| !refund.whole)
        .map(|refund| {
            json!({
                "createTime": time(refund.at),
                "processTime": time(refund.at),
                "state": "PROCESSED_SUCCESSFULLY",
                "refundDetails": details(refund),
            })
        })
        .collect();
    if !parts.is_empty() {
        history["partialRefundEvents"] = json!(parts);
    }
    history
}
