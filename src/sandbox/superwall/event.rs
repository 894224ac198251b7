//! What Superwall makes of a store's signal: one of its events, with the facts that it carries.

use chrono::{DateTime, Utc};

use super::super::delivery::Store;

/// The events that Superwall's reference lists; there is none for refunds, extensions, price
/// changes or family members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    InitialPurchase,
    Renewal,
    Cancellation,
    Uncancellation,
    Expiration,
    BillingIssue,
    ProductChange,
    SubscriptionPaused,
    NonRenewingPurchase,
}

impl Name {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InitialPurchase => "initial_purchase",
            Self::Renewal => "renewal",
            Self::Cancellation => "cancellation",
            Self::Uncancellation => "uncancellation",
            Self::Expiration => "expiration",
            Self::BillingIssue => "billing_issue",
            Self::ProductChange => "product_change",
            Self::SubscriptionPaused => "subscription_paused",
            Self::NonRenewingPurchase => "non_renewing_purchase",
        }
    }
}

/// `cancelReason` and `expirationReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    BillingError,
    CustomerSupport,
    Unsubscribe,
    PriceIncrease,
    DeveloperInitiated,
    Unknown,
}

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::BillingError => "BILLING_ERROR",
            Self::CustomerSupport => "CUSTOMER_SUPPORT",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::PriceIncrease => "PRICE_INCREASE",
            Self::DeveloperInitiated => "DEVELOPER_INITIATED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// `periodType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeriodType {
    Trial,
    Intro,
    Normal,
}

impl PeriodType {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Trial => "TRIAL",
            Self::Intro => "INTRO",
            Self::Normal => "NORMAL",
        }
    }
}

/// Where a subscription stands, in the second version of the webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Active,
    Canceled,
    InGracePeriod,
    InBillingRetry,
    Paused,
    Expired,
    Revoked,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Canceled => "CANCELED",
            Self::InGracePeriod => "IN_GRACE_PERIOD",
            Self::InBillingRetry => "IN_BILLING_RETRY",
            Self::Paused => "PAUSED",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
        }
    }
}

/// A subscription or one-time purchase as it stands when an event is told.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) store: Store,
    /// Original transaction id or purchase token.
    pub(super) purchase: String,
    pub(super) customer: String,
    /// At Google Play the first order's id.
    pub(super) original_transaction_id: String,
    /// At Google Play the latest order's id.
    pub(super) transaction_id: String,
    /// At Google Play `product:basePlan[:offer]`.
    pub(super) product_id: String,
    pub(super) period_type: PeriodType,
    pub(super) purchased_at: DateTime<Utc>,
    /// None for what does not renew.
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) currency: String,
    pub(super) offer_code: Option<String>,
    pub(super) family_share: bool,
    pub(super) state: State,
    pub(super) renews: bool,
}

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) name: Name,
    pub(super) subject: Subject,
    /// What was charged, in millionths of the major unit; given back if negative.
    pub(super) price_micros: i64,
    pub(super) trial_conversion: bool,
    pub(super) new_product_id: Option<String>,
    pub(super) reason: Option<Reason>,
}

impl Event {
    /// An event without money or reason.
    pub(super) fn new(name: Name, subject: Subject) -> Self {
        Self {
            name,
            subject,
            price_micros: 0,
            trial_conversion: false,
            new_product_id: None,
            reason: None,
        }
    }

    pub(super) fn charged(self, price_micros: i64) -> Self {
        Self {
            price_micros,
            ..self
        }
    }

    pub(super) fn because(self, reason: Reason) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    pub(super) fn changed_to(self, product_id: String) -> Self {
        Self {
            new_product_id: Some(product_id),
            ..self
        }
    }
}
