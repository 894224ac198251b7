//! The renewal info of a subscription: what comes after the current period, and at which price.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::super::error::SandboxError;
use super::super::chain::{Chain, Phase, Subscription};
use super::super::commitment::Commitment;
use super::super::offers::AppliedOffer;
use super::super::shelf::Shelf;
use super::super::transaction::Transaction;
use super::{OfferFields, encode, plan_name};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RenewalPayload<'a> {
    original_transaction_id: &'a str,
    product_id: &'a str,
    auto_renew_product_id: &'a str,
    auto_renew_status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_price: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_intent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_in_billing_retry_period: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period_expires_date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price_increase_status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    offer: Option<OfferFields<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    eligible_win_back_offer_ids: &'a [String],
    signed_date: i64,
    environment: &'static str,
    recent_subscription_start_date: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_account_token: Option<Uuid>,
    app_transaction_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal_billing_plan_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment_info: Option<RenewalCommitmentFields<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RenewalCommitmentFields<'a> {
    commitment_auto_renew_product_id: &'a str,
    commitment_auto_renew_status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment_renewal_billing_plan_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment_renewal_date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commitment_renewal_price: Option<i64>,
}

/// The decoded payload of a subscription's renewal info; `None` for one-time purchases.
pub(in super::super) fn renewal(
    chain: &Chain,
    shelf: &Shelf<'_>,
    signed_at: DateTime<Utc>,
) -> Result<Option<Value>, SandboxError> {
    let (Some(subscription), Some(latest)) = (&chain.subscription, chain.latest()) else {
        return Ok(None);
    };
    let next = Next::of(chain, subscription, latest, shelf);
    let (intent, retrying, grace) = match subscription.phase {
        Phase::Active | Phase::Declined | Phase::Ending { .. } | Phase::Revoked => {
            (None, None, None)
        }
        Phase::Grace { until } => (Some(2), Some(true), Some(until)),
        Phase::Retry { .. } => (Some(2), Some(true), None),
        Phase::Expired { intent } => (Some(intent.code()), Some(false), None),
    };
    let win_back = match subscription.phase {
        Phase::Expired { .. } => shelf
            .for_sale(&latest.product_id)
            .map_or(&[][..], |product| &product.win_back_offers),
        Phase::Active
        | Phase::Declined
        | Phase::Ending { .. }
        | Phase::Grace { .. }
        | Phase::Retry { .. }
        | Phase::Revoked => &[],
    };
    let offer = next.as_ref().and_then(|next| next.offer.as_ref());
    encode(&RenewalPayload {
        original_transaction_id: &chain.original_transaction_id,
        product_id: &latest.product_id,
        auto_renew_product_id: match subscription.is_committed() {
            true => &latest.product_id,
            false => &subscription.renews_to,
        },
        auto_renew_status: subscription.renews().into(),
        renewal_price: next.as_ref().and_then(|next| next.price_milliunits),
        currency: next.as_ref().and_then(|next| next.currency),
        expiration_intent: intent,
        is_in_billing_retry_period: retrying,
        grace_period_expires_date: grace.map(|at| at.timestamp_millis()),
        price_increase_status: subscription
            .price_increase
            .map(|increase| increase.accepted().into()),
        offer: offer.map(OfferFields::from),
        eligible_win_back_offer_ids: win_back,
        signed_date: signed_at.timestamp_millis(),
        environment: shelf.setup.environment.as_str(),
        recent_subscription_start_date: subscription.since.timestamp_millis(),
        renewal_date: next.as_ref().map(|next| next.at.timestamp_millis()),
        app_account_token: chain.app_account_token,
        app_transaction_id: &chain.app_transaction_id,
        renewal_billing_plan_type: next.as_ref().map(|next| plan_name(next.monthly)),
        commitment_info: commitment_info(subscription, shelf),
    })
    .map(Some)
}

/// The renewal that is to come.
struct Next<'a> {
    at: DateTime<Utc>,
    /// None for family members, who do not pay.
    price_milliunits: Option<i64>,
    currency: Option<&'a str>,
    offer: Option<AppliedOffer>,
    monthly: bool,
}

impl<'a> Next<'a> {
    fn of(
        chain: &Chain,
        subscription: &Subscription,
        latest: &'a Transaction,
        shelf: &Shelf<'a>,
    ) -> Option<Self> {
        if !subscription.renews() {
            return None;
        }
        let committed = subscription.commitment.filter(Commitment::has_more);
        let again =
            subscription.commitment.is_some() && subscription.renews_to == latest.product_id;
        let terms = shelf.terms(&subscription.renews_to)?;
        let new_monthly = terms
            .product
            .monthly_commitment_milliunits
            .filter(|_| again);
        let offer = subscription
            .next_offer
            .as_ref()
            .filter(|_| committed.is_none());
        let (price, currency) = match (committed, offer, new_monthly) {
            (Some(running), _, _) => (running.monthly_milliunits, latest.currency.as_str()),
            (None, Some(run), _) => (run.price_milliunits(), terms.product.currency.as_str()),
            (None, None, Some(price)) => (price, terms.product.currency.as_str()),
            (None, None, None) => (terms.price_milliunits, terms.product.currency.as_str()),
        };
        let pays = !chain.sharing.is_shared();
        Some(Self {
            at: latest.expires_at.unwrap_or(latest.purchased_at),
            price_milliunits: pays.then_some(price),
            currency: pays.then_some(currency),
            offer: offer.filter(|_| pays).map(|run| run.applied(terms.period)),
            monthly: committed.is_some() || new_monthly.is_some(),
        })
    }
}

fn commitment_info<'a>(
    subscription: &'a Subscription,
    shelf: &Shelf<'_>,
) -> Option<RenewalCommitmentFields<'a>> {
    let running = subscription.commitment?;
    let terms = shelf
        .terms(&subscription.renews_to)
        .filter(|_| subscription.auto_renew);
    let monthly = terms.and_then(|terms| terms.product.monthly_commitment_milliunits);
    Some(RenewalCommitmentFields {
        commitment_auto_renew_product_id: &subscription.renews_to,
        commitment_auto_renew_status: subscription.auto_renew.into(),
        commitment_renewal_billing_plan_type: terms.map(|_| plan_name(monthly.is_some())),
        commitment_renewal_date: terms.map(|_| running.expires_at.timestamp_millis()),
        commitment_renewal_price: terms.map(|terms| {
            let committed = monthly
                .map(|price| Commitment::begin(price, running.expires_at))
                .map(|next| next.price_milliunits());
            committed.unwrap_or(terms.price_milliunits)
        }),
    })
}
