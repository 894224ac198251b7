//! What is sold in a scenario: terms at each store, and what the buyer gets.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::setup::{AppStoreKind, AppStoreProduct, GooglePlayKind, GooglePlayProduct};
use super::offer::{Money, billing_period};
use super::time::Length;

/// Apple's days of billing retry, and Google's of hold, where the scenario says nothing.
const RETRY_DAYS: u16 = 60;
const HOLD_DAYS: u16 = 30;
/// Group identifiers count up from here.
const FIRST_GROUP: u32 = 21_000_000;

/// A product, as the scenario names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Entitlements that it gives while it is paid.
    #[serde(default)]
    pub gives: Vec<String>,
    /// What it gives to be counted, per piece bought: coins, for instance.
    #[serde(default)]
    pub credits: BTreeMap<String, u64>,
    /// What it is; a subscription if it has a period, else bought once for ever.
    pub kind: Option<Kind>,
    /// Length of one paid period.
    pub period: Option<Length>,
    /// Its price at both stores; 9.99 USD if absent.
    pub price: Option<Money>,
    /// How the App Store sells it.
    pub app_store: Option<AppStoreTerms>,
    /// How Google Play sells it.
    pub google_play: Option<GooglePlayTerms>,
}

/// What a product is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Renews by itself.
    Subscription,
    /// Bought once, for ever.
    NonConsumable,
    /// Bought again and again.
    Consumable,
    /// App Store: ends when the app says so, and is bought again.
    NonRenewing,
    /// Google Play: paid ahead, and topped up.
    Prepaid,
    /// Google Play: renews, with a commitment to a number of payments.
    Installments,
}

impl Kind {
    /// Whether one payment buys a period.
    const fn is_periodic(self) -> bool {
        match self {
            Self::Subscription | Self::Prepaid | Self::Installments => true,
            Self::NonConsumable | Self::Consumable | Self::NonRenewing => false,
        }
    }
}

/// How the App Store sells a product.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppStoreTerms {
    /// Product id.
    pub id: String,
    /// Subscription group; a customer holds at most one of a group. All share one if absent.
    pub group: Option<String>,
    /// Level within the group, 1 the highest.
    pub rank: Option<u32>,
    /// Billing grace period; none if absent.
    pub grace: Option<Length>,
    /// Billing retry; 60 days if absent.
    pub retry: Option<Length>,
    /// Grace only after a paid period, not after a free offer.
    #[serde(default)]
    pub grace_after_paid_only: bool,
    /// Price of one month of twelve that a customer can commit to instead of paying a year at once.
    pub monthly_commitment: Option<Money>,
    /// Ids of the offers that Apple makes to who has left.
    #[serde(default)]
    pub win_back_offers: Vec<String>,
}

/// How Google Play sells a product.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GooglePlayTerms {
    /// Product id.
    pub id: String,
    /// Base plan, for subscriptions.
    pub base_plan: Option<String>,
    /// Grace period; only the store's silent day if absent.
    pub grace: Option<Length>,
    /// Account hold; 30 days if absent.
    pub hold: Option<Length>,
    /// Installments: payments that a customer commits to at first.
    pub payments: Option<u32>,
    /// Installments: payments of each further commitment; none if absent.
    pub further_payments: Option<u32>,
}

impl Product {
    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind.unwrap_or(match self.period {
            Some(_) => Kind::Subscription,
            None => Kind::NonConsumable,
        })
    }

    /// What contradicts itself, in a sentence.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let subscription = self.kind().is_periodic();
        if self.app_store.is_none() && self.google_play.is_none() {
            return Some("no store sells it; add app_store or google_play");
        }
        if self.gives.is_empty() && self.credits.is_empty() {
            return Some("it gives nothing; add gives = [\"an entitlement\"]");
        }
        match self.period {
            // Apple knows nothing of it: the app and its server count it from the purchase.
            Some(_) if self.kind() == Kind::NonRenewing => {}
            Some(_) if !subscription => return Some("only subscriptions have a period"),
            None if self.kind() == Kind::NonRenewing => {
                return Some("what does not renew needs a period: \"1 month\"");
            }
            None if subscription => return Some("a subscription needs a period: \"1 month\""),
            Some(period) => {
                if let Err(problem) = billing_period(period) {
                    return Some(problem);
                }
            }
            None => {}
        }
        match self.kind() {
            Kind::NonRenewing if self.google_play.is_some() => {
                return Some("Google Play has no non_renewing products");
            }
            Kind::Prepaid | Kind::Installments if self.app_store.is_some() => {
                return Some("the App Store has no prepaid or installments products");
            }
            Kind::Subscription
            | Kind::NonConsumable
            | Kind::Consumable
            | Kind::NonRenewing
            | Kind::Prepaid
            | Kind::Installments => {}
        }
        let base_plan = self.google_play.as_ref().map(|terms| &terms.base_plan);
        if base_plan.is_some_and(|plan| plan.is_some() != subscription) {
            return Some("google_play subscriptions, and only they, name a base_plan");
        }
        let apple = self.app_store.iter().flat_map(|t| [t.grace, t.retry]);
        let google = self.google_play.iter().flat_map(|t| [t.grace, t.hold]);
        let whole_days = |length: Length| length.days().is_some();
        if !apple.chain(google).flatten().all(whole_days) {
            return Some("grace, retry and hold are whole days");
        }
        None
    }

    fn app_store_kind(&self, terms: &AppStoreTerms, groups: &[&str]) -> AppStoreKind {
        let period = self.period.and_then(Length::period);
        match (self.kind(), period) {
            (Kind::Subscription, Some(period)) => {
                let group = terms.group.as_deref().unwrap_or_default();
                let position = groups.iter().position(|known| *known == group);
                let number = u32::try_from(position.unwrap_or_default()).unwrap_or_default();
                AppStoreKind::AutoRenewable {
                    period,
                    group: (FIRST_GROUP + number).to_string(),
                    rank: terms.rank.unwrap_or(1),
                    grace_days: terms.grace.and_then(Length::days).unwrap_or(0),
                    retry_days: terms.retry.and_then(Length::days).unwrap_or(RETRY_DAYS),
                }
            }
            (Kind::Consumable, _) => AppStoreKind::Consumable,
            (Kind::NonRenewing, _) => AppStoreKind::NonRenewing,
            (Kind::Subscription, None)
            | (Kind::NonConsumable | Kind::Prepaid | Kind::Installments, _) => {
                AppStoreKind::NonConsumable
            }
        }
    }

    fn google_play_kind(&self, terms: &GooglePlayTerms) -> GooglePlayKind {
        let (Some(period), Some(base_plan)) =
            (self.period.and_then(Length::period), &terms.base_plan)
        else {
            return match self.kind() {
                Kind::Consumable => GooglePlayKind::Consumable,
                Kind::Subscription
                | Kind::NonConsumable
                | Kind::NonRenewing
                | Kind::Prepaid
                | Kind::Installments => GooglePlayKind::NonConsumable,
            };
        };
        let base_plan_id = base_plan.clone();
        let grace_days = terms.grace.and_then(Length::days).unwrap_or(0);
        let hold_days = terms.hold.and_then(Length::days).unwrap_or(HOLD_DAYS);
        match self.kind() {
            Kind::Prepaid => GooglePlayKind::Prepaid {
                base_plan_id,
                period,
            },
            Kind::Installments => GooglePlayKind::Installments {
                base_plan_id,
                period,
                payments: terms.payments.unwrap_or(1),
                further_payments: terms.further_payments.unwrap_or(0),
                grace_days,
                hold_days,
            },
            Kind::Subscription | Kind::NonConsumable | Kind::Consumable | Kind::NonRenewing => {
                GooglePlayKind::AutoRenewable {
                    base_plan_id,
                    period,
                    grace_days,
                    hold_days,
                }
            }
        }
    }
}

/// What the simulated App Store sells.
pub(super) fn app_store(products: &BTreeMap<String, Product>) -> Vec<AppStoreProduct> {
    let terms = products
        .values()
        .filter_map(|p| Some((p, p.app_store.as_ref()?)));
    let groups: BTreeSet<&str> = terms
        .clone()
        .map(|(_, terms)| terms.group.as_deref().unwrap_or_default())
        .collect();
    let groups: Vec<&str> = groups.into_iter().collect();
    let sold = |(product, terms): (&Product, &AppStoreTerms)| {
        let base = AppStoreProduct::non_consumable(&terms.id);
        let price = product.price.as_ref();
        AppStoreProduct {
            kind: product.app_store_kind(terms, &groups),
            price_milliunits: price.map_or(base.price_milliunits, Money::milliunits),
            currency: price.map_or_else(|| base.currency.clone(), |p| p.currency.clone()),
            monthly_commitment_milliunits: terms.monthly_commitment.as_ref().map(Money::milliunits),
            grace_after_paid_only: terms.grace_after_paid_only,
            win_back_offers: terms.win_back_offers.clone(),
            ..base
        }
    };
    terms.map(sold).collect()
}

/// What simulated Google Play sells.
pub(super) fn google_play(products: &BTreeMap<String, Product>) -> Vec<GooglePlayProduct> {
    let terms = products
        .values()
        .filter_map(|p| Some((p, p.google_play.as_ref()?)));
    let sold = |(product, terms): (&Product, &GooglePlayTerms)| {
        let base = GooglePlayProduct::non_consumable(&terms.id);
        let price = product.price.as_ref();
        GooglePlayProduct {
            kind: product.google_play_kind(terms),
            price_micros: price.map_or(base.price_micros, |price| price.micros),
            currency: price.map_or_else(|| base.currency.clone(), |p| p.currency.clone()),
            ..base
        }
    };
    terms.map(sold).collect()
}
