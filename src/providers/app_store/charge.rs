//! What a signed transaction says of money: the charge, and what of it went back.

use super::wire::{Discount, Ownership, Reason, RevocationType, Transaction};
use crate::domain::chain::StoreProduct;
use crate::domain::money::{Currency, Money};
use crate::domain::subscription::state::Offer;
use crate::domain::subscription::store_state::{self, ChargeReason, Refund, RefundKind};

/// All of the price, in thousandths of a percent.
const WHOLE: u32 = 100_000;

pub(super) fn of(payload: &Transaction) -> store_state::Transaction {
    let price = price(payload);
    store_state::Transaction {
        reason: reason(payload),
        expires_at: payload.expires_date.map(|date| date.0),
        quantity: quantity(payload),
        price,
        storefront: payload.storefront.clone(),
        offer: offer(payload),
        family_shared: is_family_shared(payload),
        // Full or prorated: Apple marks only what it takes back.
        revoked_at: payload.revocation_date.map(|date| date.0),
        refund: refund(payload, price),
        ..store_state::Transaction::new(
            payload.transaction_id.clone(),
            StoreProduct::new(payload.product_id.clone()),
            payload.purchase_date.0,
        )
    }
}

/// Transactions of before 2023 do not say it.
fn reason(payload: &Transaction) -> ChargeReason {
    match &payload.transaction_reason {
        Some(Reason::Renewal) => ChargeReason::Renewal,
        Some(Reason::Purchase | Reason::Unknown(_)) => ChargeReason::Purchase,
        None if payload.transaction_id == payload.original_transaction_id => ChargeReason::Purchase,
        None if payload.expires_date.is_some() => ChargeReason::Renewal,
        None => ChargeReason::Purchase,
    }
}

/// Units bought: only consumables and non-renewing subscriptions have more than one.
pub(super) fn quantity(payload: &Transaction) -> u32 {
    let said = payload.quantity.and_then(|said| u32::try_from(said).ok());
    said.unwrap_or(1).max(1)
}

/// `offerType` 1 introductory, 2 promotional, 3 offer code, 4 win-back.
pub(super) fn offer(payload: &Transaction) -> Offer {
    match (&payload.offer_discount_type, payload.offer_type) {
        (Some(Discount::FreeTrial), _) => Offer::FreeTrial,
        (_, Some(1)) => Offer::Introductory,
        (_, Some(2..=4)) => Offer::Promotional,
        (_, Some(_) | None) => Offer::None,
    }
}

pub(super) fn is_family_shared(payload: &Transaction) -> bool {
    payload.in_app_ownership_type == Some(Ownership::FamilyShared)
}

fn price(payload: &Transaction) -> Option<Money> {
    let currency = Currency::parse(payload.currency.as_deref()?)?;
    Money::from_milliunits(payload.price?, currency)
}

/// Money that went back. Where family sharing ended, none did.
fn refund(payload: &Transaction, price: Option<Money>) -> Option<Refund> {
    let at = payload.revocation_date?.0;
    let share = payload
        .revocation_percentage
        .and_then(|share| u32::try_from(share).ok());
    let kind = match &payload.revocation_type {
        Some(RevocationType::RefundFull) => RefundKind::Full,
        Some(RevocationType::RefundProrated) => RefundKind::Prorated,
        Some(RevocationType::FamilyRevoke) => return None,
        Some(RevocationType::Unknown(_)) if share.is_none() => return None,
        Some(RevocationType::Unknown(_)) => RefundKind::Partial,
        // Documents of before 2025 do not say what kind.
        None if is_family_shared(payload) => return None,
        None if share.is_none_or(|share| share == WHOLE) => RefundKind::Full,
        None => RefundKind::Prorated,
    };
    let share = match kind {
        RefundKind::Full => Some(WHOLE),
        RefundKind::Prorated
        | RefundKind::Partial
        | RefundKind::Chargeback
        | RefundKind::Unacknowledged => share.map(|share| share.min(WHOLE)),
    };
    Some(Refund {
        at,
        kind,
        amount: price.zip(share).map(|(price, share)| price.share(share)),
        quantity: None,
    })
}
