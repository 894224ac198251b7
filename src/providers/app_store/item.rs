//! What a signed transaction, with or without its subscription's status, says of one line item.

use super::charge;
use super::wire::{Ownership, ProductType, RenewalInfo, RevocationType, Transaction};
use crate::domain::chain::StoreProduct;
use crate::domain::subscription::state::{ExpiryReason, ItemState, Renewal, RevocationReason};
use crate::domain::subscription::store_state::{Item, ItemKind};
use crate::domain::time::Instant;

/// The one item of a renewable chain: stable over renewals, upgrades and crossgrades.
const SUBSCRIPTION_KEY: &str = "subscription";
/// The one item of any other chain.
const PURCHASE_KEY: &str = "purchase";

/// A row of the subscription statuses, verified.
pub(super) struct Renewable<'a> {
    pub(super) status: i64,
    pub(super) transaction: &'a Transaction,
    pub(super) renewal: Option<&'a RenewalInfo>,
    pub(super) signed_at: Instant,
}

impl Renewable<'_> {
    pub(super) fn item(&self) -> Item {
        let state = self.state();
        let pending_product = self.pending_product().filter(|_| !state.is_ended());
        Item {
            pending_product,
            ..item(self.transaction, state)
        }
    }

    fn state(&self) -> ItemState {
        let transaction = self.transaction;
        if let Some(strange) = strange(transaction) {
            return strange;
        }
        // A prorated refund of what goes on is money.
        let goes_on = matches!(self.status, 1 | 4)
            && transaction.revocation_type == Some(RevocationType::RefundProrated);
        if transaction.revocation_date.is_some() && !goes_on {
            return revoked(transaction, self.signed_at);
        }
        if transaction.is_upgraded {
            return replaced(transaction, self.signed_at);
        }
        let Some(expires_at) = transaction.expires_date.map(|date| date.0) else {
            return unknown("a subscription without expiresDate");
        };
        match self.status {
            1 => ItemState::Active {
                expires_at,
                renewal: self.renewal(),
            },
            2 => ItemState::Expired {
                at: expires_at,
                reason: self.expiry_reason(),
            },
            3 => ItemState::OnHold { since: expires_at },
            4 => match self
                .renewal
                .and_then(|renewal| renewal.grace_period_expires_date)
            {
                Some(until) => ItemState::GracePeriod {
                    expires_at,
                    until: until.0,
                },
                None => unknown("a grace period without gracePeriodExpiresDate"),
            },
            5 => revoked(transaction, self.signed_at),
            other => unknown(&format!("status {other}")),
        }
    }

    /// A year's commitment goes on charging by the month, whatever auto-renew says.
    fn renewal(&self) -> Renewal {
        let renewal = self.renewal;
        let auto_renew = renewal.and_then(|renewal| renewal.auto_renew_status);
        let commitment = self.transaction.commitment_info.as_ref();
        let committed_until = commitment.and_then(|commitment| commitment.commitment_expires_date);
        let on = match committed_until {
            Some(until) if Some(until) > self.transaction.expires_date => true,
            Some(_) => {
                let commitment = renewal.and_then(|renewal| renewal.commitment_info.as_ref());
                let at_its_end = commitment.and_then(|info| info.commitment_auto_renew_status);
                at_its_end.or(auto_renew) == Some(1)
            }
            None => auto_renew == Some(1),
        };
        if on { Renewal::On } else { Renewal::Off }
    }

    fn expiry_reason(&self) -> ExpiryReason {
        match self.renewal.and_then(|renewal| renewal.expiration_intent) {
            Some(1) => ExpiryReason::Canceled,
            Some(2) => ExpiryReason::BillingError,
            Some(3) => ExpiryReason::PriceIncreaseDeclined,
            Some(4) => ExpiryReason::ProductUnavailable,
            Some(_) | None => ExpiryReason::Other,
        }
    }

    /// After a downgrade, or a crossgrade to another length: what the next period is of. While a
    /// commitment runs, what follows it.
    fn pending_product(&self) -> Option<StoreProduct> {
        let renewal = self.renewal?;
        let after = renewal.commitment_info.as_ref().filter(|info| {
            // Charged to its end whatever follows: nothing follows unless that says so.
            info.commitment_auto_renew_status == Some(1)
        });
        let next = after
            .and_then(|info| info.commitment_auto_renew_product_id.as_deref())
            .or(renewal.auto_renew_product_id.as_deref())?;
        let renews = self.renewal() == Renewal::On;
        (renews && next != self.transaction.product_id).then(|| StoreProduct::new(next))
    }
}

/// What the transaction shows by itself. Nothing in it tells whether the store will renew, so a
/// subscription is taken for one that ends when its signed period does: the leniency that bridges
/// a late renewal is for renewals that the store has announced.
pub(super) fn of_transaction(transaction: &Transaction, signed_at: Instant, now: Instant) -> Item {
    let state = if let Some(strange) = strange(transaction) {
        strange
    } else if transaction.revocation_date.is_some() {
        revoked(transaction, signed_at)
    } else if transaction.is_upgraded {
        replaced(transaction, signed_at)
    } else {
        match (&transaction.product_type, transaction.expires_date) {
            (ProductType::AutoRenewable, Some(date)) if date.0 > now => ItemState::Active {
                expires_at: date.0,
                renewal: Renewal::Off,
            },
            (ProductType::AutoRenewable, Some(date)) => ItemState::Expired {
                at: date.0,
                reason: ExpiryReason::Other,
            },
            (ProductType::AutoRenewable, None) => unknown("a subscription without expiresDate"),
            (ProductType::NonConsumable, _) => ItemState::Owned {
                since: transaction
                    .original_purchase_date
                    .unwrap_or(transaction.purchase_date)
                    .0,
            },
            // How long it lasts, if at all, is the catalog's to say.
            (ProductType::Consumable | ProductType::NonRenewing, _) => ItemState::Owned {
                since: transaction.purchase_date.0,
            },
            (said @ ProductType::Unknown(_), _) => unknown(&said.to_string()),
        }
    };
    item(transaction, state)
}

fn item(transaction: &Transaction, state: ItemState) -> Item {
    let (key, kind) = match transaction.product_type {
        ProductType::AutoRenewable => (SUBSCRIPTION_KEY, ItemKind::Subscription),
        ProductType::NonConsumable
        | ProductType::Consumable
        | ProductType::NonRenewing
        | ProductType::Unknown(_) => (PURCHASE_KEY, ItemKind::OneTime),
    };
    Item {
        key: key.to_owned(),
        product: StoreProduct::new(transaction.product_id.clone()),
        kind,
        state,
        offer: charge::offer(transaction),
        started_at: Some(transaction.purchase_date.0),
        transaction_id: Some(transaction.transaction_id.clone()),
        pending_product: None,
        family_shared: charge::is_family_shared(transaction),
        quantity: charge::quantity(transaction),
    }
}

/// A way to have it that this version does not know grants nothing.
fn strange(transaction: &Transaction) -> Option<ItemState> {
    match &transaction.in_app_ownership_type {
        Some(Ownership::Unknown(said)) => Some(unknown(&format!("ownership {said}"))),
        Some(Ownership::Purchased | Ownership::FamilyShared) | None => None,
    }
}

fn revoked(transaction: &Transaction, signed_at: Instant) -> ItemState {
    let reason = match &transaction.revocation_type {
        Some(RevocationType::FamilyRevoke) => RevocationReason::FamilySharingEnded,
        Some(RevocationType::RefundFull | RevocationType::RefundProrated) => {
            RevocationReason::Refunded
        }
        Some(RevocationType::Unknown(_)) => RevocationReason::Store,
        None if charge::is_family_shared(transaction) => RevocationReason::FamilySharingEnded,
        None => RevocationReason::Refunded,
    };
    let at = transaction.revocation_date.map_or(signed_at, |date| date.0);
    ItemState::Revoked { at, reason }
}

/// An upgrade took the rest of its period; when, is not said.
fn replaced(transaction: &Transaction, signed_at: Instant) -> ItemState {
    let end = transaction
        .expires_date
        .map_or(signed_at, |date| date.0.min(signed_at));
    ItemState::Expired {
        at: end,
        reason: ExpiryReason::Replaced,
    }
}

fn unknown(said: &str) -> ItemState {
    ItemState::Unknown {
        said: said.to_owned(),
    }
}
