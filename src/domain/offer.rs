//! Offers of the App Store that the app may make only with our signature: to whom.

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Product};
use super::holding::Holding;
use super::subscription::state::{ItemState, Leniency};
use super::subscription::store_state::ItemKind;
use super::time::Instant;

/// `[offers.ID]` in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfferSpec {
    /// The catalog's id of the subscription that it is for.
    pub(crate) product: String,
    pub(crate) kind: OfferKind,
    pub(crate) eligible: Eligible,
    /// Its id in App Store Connect; the catalog's, unless said. Introductory offers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offer_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OfferKind {
    /// To present and former subscribers: made only with a signature.
    Promotional,
    /// To new subscribers: Apple's own rule says who is one, and a signature says otherwise.
    Introductory,
}

/// Whom an offer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Eligible {
    /// Who never had a subscription that grants what this one grants.
    New,
    /// Who had one, and has none now.
    Lapsed,
    /// Who has one now.
    Active,
    Any,
}

impl Eligible {
    pub(crate) fn allows(self, history: History) -> bool {
        match (self, history) {
            (Self::Any, _)
            | (Self::New, History::New)
            | (Self::Lapsed, History::Lapsed)
            | (Self::Active, History::Active) => true,
            (Self::New, History::Lapsed | History::Active)
            | (Self::Lapsed, History::New | History::Active)
            | (Self::Active, History::New | History::Lapsed) => false,
        }
    }
}

/// How an account stands to what a product grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    New,
    Lapsed,
    Active,
}

/// Judges by the subscriptions of all stores that grant any of what `product` grants. What was
/// handed to another account counts as had.
pub(crate) fn history(
    catalog: &Catalog,
    product: &Product,
    holdings: &[Holding],
    leniency: Leniency,
    now: Instant,
) -> History {
    let mut history = History::New;
    for holding in holdings.iter().filter(|holding| counts(holding)) {
        let plan = catalog.plan(holding.provider, &holding.item.product);
        let alike = plan.is_some_and(|(_, plan)| {
            plan.grants
                .iter()
                .any(|grant| product.grants.contains(grant))
        });
        if !alike || !catalog.serves(holding.environment, holding.tester) {
            continue;
        }
        let access = holding.item.state.access(leniency, holding.store_away);
        if holding.away_since.is_none() && access.is_open_at(now) {
            return History::Active;
        }
        history = History::Lapsed;
    }
    history
}

/// A subscription that was paid, or tried for free, at some time.
fn counts(holding: &Holding) -> bool {
    holding.item.kind == ItemKind::Subscription
        && match holding.item.state {
            ItemState::Active { .. }
            | ItemState::GracePeriod { .. }
            | ItemState::OnHold { .. }
            | ItemState::Paused { .. }
            | ItemState::Expired { .. }
            | ItemState::Revoked { .. }
            | ItemState::Owned { .. } => true,
            ItemState::Pending | ItemState::Unknown { .. } => false,
        }
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
