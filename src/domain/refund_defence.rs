//! Refund defence: what a store is told when a customer asks it for money back.
//!
//! Pure: the settings, what the app told us about use, and what was bought give the answer, or say
//! what it waits for.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::catalog::ProductKind;
use super::provider::Provider;
use super::time::Instant;
use super::waiver::Waiver;

/// The answer to a store's question about a refund, in our words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefundAnswer {
    /// The customer could try it before buying.
    pub(crate) sample_content_provided: bool,
    pub(crate) delivery: Delivery,
    /// How much was used, in thousandths of a percent: 100,000 is all of it. `None`: not told.
    pub(crate) consumption_millipercent: Option<u32>,
    pub(crate) preference: Preference,
}

/// Whether what was bought arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Delivery {
    Delivered,
    QualityIssue,
    WrongItem,
    ServerOutage,
    OtherReason,
}

impl Delivery {
    pub(crate) const ALL: [Self; 5] = [
        Self::Delivered,
        Self::QualityIssue,
        Self::WrongItem,
        Self::ServerOutage,
        Self::OtherReason,
    ];

    /// The word used in SQL.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::QualityIssue => "quality_issue",
            Self::WrongItem => "wrong_item",
            Self::ServerOutage => "server_outage",
            Self::OtherReason => "other_reason",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.as_str() == word)
    }
}

/// What we would like the store to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Preference {
    /// The store decides.
    #[default]
    Neutral,
    Decline,
    GrantFull,
    /// Apple only; Google is told `NEUTRAL`.
    GrantProrated,
}

/// The settings of `[refund_defence]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DefencePolicy {
    pub(crate) enabled: bool,
    /// How long a question that may be answered without waits for what the app knows about use.
    pub(crate) wait_for_consumption: TimeDelta,
    pub(crate) sample_content_provided: bool,
    /// What holds where no rule does.
    pub(crate) preference: Preference,
    /// The first that fits decides.
    pub(crate) rules: Vec<DefenceRule>,
}

impl Default for DefencePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            wait_for_consumption: TimeDelta::hours(1),
            sample_content_provided: false,
            preference: Preference::Neutral,
            rules: Vec::new(),
        }
    }
}

/// What is preferred for some purchases; what is not given fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DefenceRule {
    /// Catalog ids.
    pub(crate) products: Vec<String>,
    pub(crate) kind: Option<ProductKind>,
    /// Fits only if the app told that at least so much was used.
    pub(crate) used_millipercent_min: Option<u32>,
    pub(crate) preference: Preference,
}

/// What the app told us about one purchase, or about all of an account's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumption {
    /// The customer agreed that the store is told.
    pub(crate) consented: bool,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) used_millipercent: Option<u32>,
}

/// A store's question.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) provider: Provider,
    pub(crate) asked_at: Instant,
    pub(crate) deadline: Instant,
    /// The catalog's id and kind of what was bought, if it is mapped.
    pub(crate) product: Option<(&'a str, ProductKind)>,
}

/// What becomes of a question now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    Answer(RefundAnswer),
    /// Not before `until`, unless the app tells something earlier.
    Wait {
        until: Instant,
        waits_for: Lack,
    },
    Waive(Waiver),
}

/// What is missing for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Apple forbids an answer without the customer's consent.
    Consent,
    /// The answer would be worth more with it.
    Consumption,
}

impl Lack {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Consumption => "consumption",
        }
    }
}

/// Rules on a question. Apple is answered only with recorded consent, which may come until the
/// deadline; Google asks for none, but what the customer did with the purchase is told only with it.
pub(crate) fn rule(
    question: &Question<'_>,
    told: Option<&Consumption>,
    policy: &DefencePolicy,
    now: Instant,
) -> Ruling {
    if !policy.enabled {
        return Ruling::Waive(Waiver::DefenceOff);
    }
    let consented = told.is_some_and(|told| told.consented);
    match question.provider {
        Provider::AppStore if !consented && now >= question.deadline => {
            return Ruling::Waive(Waiver::NoConsent);
        }
        Provider::AppStore if !consented => {
            return Ruling::Wait {
                until: question.deadline,
                waits_for: Lack::Consent,
            };
        }
        Provider::AppStore | Provider::GooglePlay => {}
    }
    let patience = question.asked_at + policy.wait_for_consumption;
    // Half of the store's patience is left for its outages.
    let half = question.asked_at + (question.deadline - question.asked_at) / 2;
    let until = patience.min(half);
    if told.is_none() && now < until {
        return Ruling::Wait {
            until,
            waits_for: Lack::Consumption,
        };
    }
    Ruling::Answer(answer(question, told.filter(|_| consented), policy))
}

fn answer(
    question: &Question<'_>,
    told: Option<&Consumption>,
    policy: &DefencePolicy,
) -> RefundAnswer {
    // Access is given before anybody can complain: it arrived unless the app says otherwise.
    let delivery = told
        .and_then(|told| told.delivery)
        .unwrap_or(Delivery::Delivered);
    let used = told.and_then(|told| told.used_millipercent);
    let renews = question
        .product
        .is_some_and(|(_, kind)| kind == ProductKind::Subscription);
    let consumption_millipercent = match (question.provider, delivery) {
        // Apple refuses a percentage of an auto-renewing subscription (error 4000209).
        (Provider::AppStore, _) if renews => None,
        (_, Delivery::Delivered) => used,
        // What did not arrive was not used; Apple refuses anything else.
        (
            _,
            Delivery::QualityIssue
            | Delivery::WrongItem
            | Delivery::ServerOutage
            | Delivery::OtherReason,
        ) => used.map(|_| 0),
    };
    let rule = policy
        .rules
        .iter()
        .find(|rule| fits(rule, question.product, used));
    RefundAnswer {
        sample_content_provided: policy.sample_content_provided,
        delivery,
        consumption_millipercent,
        preference: rule.map_or(policy.preference, |rule| rule.preference),
    }
}

fn fits(rule: &DefenceRule, product: Option<(&str, ProductKind)>, used: Option<u32>) -> bool {
    let named = rule.products.is_empty()
        || product.is_some_and(|(id, _)| rule.products.iter().any(|named| named == id));
    let of_kind = rule
        .kind
        .is_none_or(|kind| product.is_some_and(|(_, bought)| bought == kind));
    let used_enough = rule
        .used_millipercent_min
        .is_none_or(|least| used.is_some_and(|used| used >= least));
    named && of_kind && used_enough
}

#[cfg(test)]
#[path = "refund_defence_tests.rs"]
mod tests;
