//! What happens to an App Store chain, as a state machine that knows neither keys nor the network:
//! each step changes the chain and says what Apple will tell about it.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::ids::Ids;
use super::super::period::Period;
use super::super::setup::{AppStoreKind, AppStoreProduct, StoreSetup, Timing};
use super::{Billing, Signal, Transaction};

/// One original transaction id and everything that followed from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Chain {
    pub(in crate::sandbox) original_transaction_id: String,
    pub(in crate::sandbox) customer: String,
    pub(in crate::sandbox) app_transaction_id: String,
    pub(in crate::sandbox) app_account_token: Option<Uuid>,
    /// Oldest first; never empty.
    pub(in crate::sandbox) transactions: Vec<Transaction>,
    /// Present for auto-renewable subscriptions.
    pub(in crate::sandbox) subscription: Option<Subscription>,
}

/// The renewing part of a chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::sandbox) struct Subscription {
    pub(in crate::sandbox) group: String,
    /// Product of the next period; differs from the current one after a downgrade.
    pub(in crate::sandbox) renews_to: String,
    pub(in crate::sandbox) auto_renew: bool,
    pub(in crate::sandbox) billing: Billing,
    pub(in crate::sandbox) phase: Phase,
    /// When the customer last came back, or first came.
    pub(in crate::sandbox) since: DateTime<Utc>,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(in crate::sandbox) enum Phase {
    /// Paid for.
    Active,
    /// Paid for, but the charge for the next period has failed.
    Declined,
    /// Unpaid, with access.
    Grace { until: DateTime<Utc> },
    /// Unpaid, without access, still being charged.
    Retry { until: DateTime<Utc> },
    /// Ended; the intent is Apple's `expirationIntent`.
    Expired { intent: u8 },
    /// Refunded.
    Revoked,
}

/// What a subscription product costs and gives.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    product: &'a AppStoreProduct,
    pub(super) period: Period,
    pub(super) group: &'a str,
    rank: u32,
    grace_days: u16,
    retry_days: u16,
}

impl<'a> Terms<'a> {
    pub(super) fn of(product: &'a AppStoreProduct) -> Option<Self> {
        match &product.kind {
            AppStoreKind::AutoRenewable {
                period,
                group,
                rank,
                grace_days,
                retry_days,
            } => Some(Self {
                product,
                period: *period,
                group,
                rank: *rank,
                grace_days: *grace_days,
                retry_days: *retry_days,
            }),
            AppStoreKind::NonConsumable | AppStoreKind::Consumable => None,
        }
    }

    fn find(setup: &'a StoreSetup, product_id: &str) -> Option<Self> {
        setup.app_store_product(product_id).and_then(Self::of)
    }

    /// Whether a move from `other` to this takes effect at once.
    pub(super) fn is_upgrade_from(&self, other: &Self) -> bool {
        self.rank < other.rank || (self.rank == other.rank && self.period == other.period)
    }
}

/// A charge that becomes a transaction.
#[derive(Clone, Copy)]
pub(super) struct Charge<'a> {
    pub(super) terms: Terms<'a>,
    pub(super) at: DateTime<Utc>,
    pub(super) trial: Option<Period>,
    pub(super) renewal: bool,
}

impl Chain {
    /// The latest transaction.
    pub(in crate::sandbox) fn latest(&self) -> Option<&Transaction> {
        self.transactions.last()
    }

    pub(super) fn transaction(&self, id: &str) -> Option<&Transaction> {
        self.transactions.iter().find(|t| t.id == id)
    }

    /// End of the latest paid period.
    fn expires_at(&self) -> DateTime<Utc> {
        self.latest()
            .and_then(|t| t.expires_at)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// End of what was paid, or of the grace period.
    pub(in crate::sandbox) fn access_until(&self) -> Option<DateTime<Utc>> {
        let subscription = self.subscription.as_ref()?;
        Some(match subscription.phase {
            Phase::Grace { until } => until,
            Phase::Active
            | Phase::Declined
            | Phase::Retry { .. }
            | Phase::Expired { .. }
            | Phase::Revoked => self.expires_at(),
        })
    }

    pub(super) fn signal(&self, kind: &'static str, subtype: Option<&'static str>) -> Signal {
        Signal {
            kind,
            subtype,
            transaction_id: self.latest().map(|t| t.id.clone()).unwrap_or_default(),
        }
    }

    /// When something happens to this chain by itself.
    pub(in crate::sandbox) fn next_due(&self, timing: &Timing) -> Option<DateTime<Utc>> {
        let subscription = self.subscription.as_ref()?;
        let expires = self.expires_at();
        let seconds = |count: u32| TimeDelta::seconds(count.into());
        match subscription.phase {
            Phase::Active if subscription.auto_renew => {
                Some(expires - seconds(timing.apple_renewal_lead_seconds))
            }
            Phase::Active => Some(expires + seconds(timing.apple_expiry_lag_seconds)),
            Phase::Declined => Some(expires),
            Phase::Grace { until } | Phase::Retry { until } => Some(until),
            Phase::Expired { .. } | Phase::Revoked => None,
        }
    }

    /// Lets happen what is due.
    pub(super) fn play(&mut self, setup: &StoreSetup, ids: &mut Ids) -> Vec<Signal> {
        let expires = self.expires_at();
        let Some(subscription) = self.subscription.as_mut() else {
            return Vec::new();
        };
        let pays = subscription.billing == Billing::Works;
        match subscription.phase {
            Phase::Active if !subscription.auto_renew => self.expire(1, Some("VOLUNTARY")),
            Phase::Active if !pays => {
                subscription.phase = Phase::Declined;
                Vec::new()
            }
            Phase::Active => self.renew(setup, ids, expires, None),
            Phase::Declined if pays => self.renew(setup, ids, expires, None),
            Phase::Declined => self.fail_to_renew(setup, expires),
            Phase::Grace { until } => {
                let retry = self.retry_days(setup);
                self.enter(Phase::Retry {
                    until: until.max(expires + retry),
                });
                vec![self.signal("GRACE_PERIOD_EXPIRED", None)]
            }
            Phase::Retry { .. } => self.expire(2, Some("BILLING_RETRY")),
            Phase::Expired { .. } | Phase::Revoked => Vec::new(),
        }
    }

    fn enter(&mut self, phase: Phase) {
        if let Some(subscription) = self.subscription.as_mut() {
            subscription.phase = phase;
        }
    }

    fn retry_days(&self, setup: &StoreSetup) -> TimeDelta {
        let terms = self
            .latest()
            .and_then(|t| Terms::find(setup, &t.product_id));
        TimeDelta::days(terms.map_or(60, |t| t.retry_days.into()))
    }

    fn expire(&mut self, intent: u8, subtype: Option<&'static str>) -> Vec<Signal> {
        if let Some(subscription) = self.subscription.as_mut() {
            subscription.auto_renew = false;
            subscription.phase = Phase::Expired { intent };
        }
        vec![self.signal("EXPIRED", subtype)]
    }

    fn fail_to_renew(&mut self, setup: &StoreSetup, expires: DateTime<Utc>) -> Vec<Signal> {
        let grace = self
            .latest()
            .and_then(|t| Terms::find(setup, &t.product_id))
            .map_or(0, |t| t.grace_days);
        if grace == 0 {
            let until = expires + self.retry_days(setup);
            self.enter(Phase::Retry { until });
            return vec![self.signal("DID_FAIL_TO_RENEW", None)];
        }
        let until = expires + TimeDelta::days(grace.into());
        self.enter(Phase::Grace { until });
        vec![self.signal("DID_FAIL_TO_RENEW", Some("GRACE_PERIOD"))]
    }

    /// Charges the next period, which starts at `start`.
    fn renew(
        &mut self,
        setup: &StoreSetup,
        ids: &mut Ids,
        start: DateTime<Utc>,
        subtype: Option<&'static str>,
    ) -> Vec<Signal> {
        let next = self.subscription.as_ref().map(|s| s.renews_to.clone());
        let Some(terms) = next.and_then(|product| Terms::find(setup, &product)) else {
            return self.expire(4, Some("PRODUCT_NOT_FOR_SALE"));
        };
        self.charge(
            Charge {
                terms,
                at: start,
                trial: None,
                renewal: true,
            },
            ids,
        );
        vec![self.signal("DID_RENEW", subtype)]
    }

    /// Adds the transaction of a successful charge; the subscription is active again.
    pub(super) fn charge(&mut self, charge: Charge<'_>, ids: &mut Ids) {
        let prefix = transaction_prefix(&self.original_transaction_id);
        let product = charge.terms.product;
        let period = charge.trial.unwrap_or(charge.terms.period);
        self.transactions.push(Transaction {
            id: match self.transactions.is_empty() {
                true => self.original_transaction_id.clone(),
                false => ids.number(prefix, 15),
            },
            web_order_line_item_id: Some(ids.number(prefix, 15)),
            product_id: product.product_id.clone(),
            purchased_at: charge.at,
            expires_at: Some(period.after(charge.at)),
            price_milliunits: match charge.trial {
                Some(_) => 0,
                None => product.price_milliunits,
            },
            currency: product.currency.clone(),
            trial: charge.trial,
            renewal: charge.renewal,
            revoked_at: None,
            upgraded: false,
        });
        self.enter(Phase::Active);
    }

    /// The customer turns auto-renewal on or off.
    pub(super) fn set_auto_renew(&mut self, enabled: bool) -> Vec<Signal> {
        let Some(subscription) = self.subscription.as_mut() else {
            return Vec::new();
        };
        if subscription.auto_renew == enabled {
            return Vec::new();
        }
        subscription.auto_renew = enabled;
        let unpaid = matches!(
            subscription.phase,
            Phase::Grace { .. } | Phase::Retry { .. }
        );
        if subscription.phase == Phase::Declined {
            subscription.phase = Phase::Active;
        }
        let subtype = match enabled {
            true => "AUTO_RENEW_ENABLED",
            false => "AUTO_RENEW_DISABLED",
        };
        let mut signals = vec![self.signal("DID_CHANGE_RENEWAL_STATUS", Some(subtype))];
        if unpaid && !enabled {
            // Nobody is left to be charged: access ends with the wish to leave.
            signals.extend(self.expire(1, Some("VOLUNTARY")));
        }
        signals
    }

    /// The means of payment fails or works again; a debt is paid at once.
    pub(super) fn set_billing(
        &mut self,
        billing: Billing,
        now: DateTime<Utc>,
        setup: &StoreSetup,
        ids: &mut Ids,
    ) -> Vec<Signal> {
        let expires = self.expires_at();
        let Some(subscription) = self.subscription.as_mut() else {
            return Vec::new();
        };
        subscription.billing = billing;
        let recovered = Some("BILLING_RECOVERY");
        match (billing, subscription.phase) {
            // Within grace the billing date stays; out of retry it moves to the day of recovery.
            (Billing::Works, Phase::Grace { .. }) => self.renew(setup, ids, expires, recovered),
            (Billing::Works, Phase::Retry { .. }) => self.renew(setup, ids, now, recovered),
            (Billing::Works, Phase::Declined) => self.renew(setup, ids, expires, None),
            _ => Vec::new(),
        }
    }

    /// Refunds one transaction in full; ends the subscription only if it is the latest.
    pub(super) fn refund(&mut self, transaction_id: &str, now: DateTime<Utc>) -> Option<Signal> {
        let latest = self.latest()?.id == transaction_id;
        let transaction = self
            .transactions
            .iter_mut()
            .find(|t| t.id == transaction_id && t.revoked_at.is_none())?;
        transaction.revoked_at = Some(now);
        if let Some(subscription) = self.subscription.as_mut().filter(|_| latest) {
            subscription.auto_renew = false;
            subscription.phase = Phase::Revoked;
        }
        Some(Signal {
            kind: "REFUND",
            subtype: None,
            transaction_id: transaction_id.to_owned(),
        })
    }

    /// Whether the customer has the use of the latest transaction.
    pub(in crate::sandbox) fn entitles(&self, now: DateTime<Utc>) -> bool {
        match &self.subscription {
            Some(_) => matches!(self.status(now), Some(1 | 4)),
            None => self.latest().is_some_and(|t| t.revoked_at.is_none()),
        }
    }

    /// Apple's `status`, for subscriptions.
    pub(in crate::sandbox) fn status(&self, now: DateTime<Utc>) -> Option<u8> {
        let subscription = self.subscription.as_ref()?;
        Some(match subscription.phase {
            Phase::Active if !subscription.auto_renew && now >= self.expires_at() => 2,
            Phase::Active | Phase::Declined => 1,
            Phase::Grace { .. } => 4,
            Phase::Retry { .. } => 3,
            Phase::Expired { .. } => 2,
            Phase::Revoked => 5,
        })
    }
}

/// Ids in the sandbox and in production differ in their first digits; a chain keeps its own.
fn transaction_prefix(id: &str) -> &'static str {
    match id.starts_with("2000000") {
        true => "2000000",
        false => "57000",
    }
}
