//! What an app may know before it acts: what a claim would come to, and what the account has already.
//! Nothing of it says anything of another account but that there is one.

use super::catalog::Catalog;
use super::entitlement::{Snapshot, Source, SubscriptionView};
use super::ids::{AccountId, ClaimId};
use super::ownership::{Case, OpenClaim, Possession, Verdict, rule};
use super::provider::{Environment, Provider};
use super::subscription::state::ItemState;
use super::time::Instant;

/// What a purchase, or a product that is about to be bought, is to the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    New,
    Yours,
    OwnedByOther,
    AlreadySubscribed,
}

/// What a bind would do with a purchase now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It becomes the account's.
    Bind,
    /// It stays the account's.
    Confirm,
    /// It leaves its present owner.
    Move,
    /// It stays with its owner.
    Refuse,
}

/// What a claim would come to if it were decided now; `case` has no claims.
pub(crate) fn foresee(
    case: &Case<'_>,
    claimant: AccountId,
    possession: Possession,
) -> (Standing, Effect) {
    let claim = OpenClaim {
        id: ClaimId(uuid::Uuid::nil()),
        account: claimant,
        possession,
        misnamed: false,
    };
    let ruling = rule(&Case {
        claims: std::slice::from_ref(&claim),
        ..*case
    });
    let verdict = ruling.verdicts.first().map(|(_, _, verdict)| *verdict);
    match (verdict, case.owner) {
        (Some(Verdict::Confirmed), _) => (Standing::Yours, Effect::Confirm),
        (Some(Verdict::Won), None) => (Standing::New, Effect::Bind),
        (Some(Verdict::Won), Some(_)) => (Standing::OwnedByOther, Effect::Move),
        (Some(Verdict::NotFresh), _) => (Standing::New, Effect::Refuse),
        (Some(Verdict::OwnedByAnother | Verdict::NotFound | Verdict::Misnamed) | None, _) => {
            (Standing::OwnedByOther, Effect::Refuse)
        }
    }
}

/// A purchase of the account's own that gives, or will give again, what is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) store: Provider,
    pub(crate) plan: String,
    pub(crate) product_id: String,
    pub(crate) environment: Environment,
    /// Those of the entitlements asked about.
    pub(crate) entitlements: Vec<String>,
    /// `None` for what was bought once.
    pub(crate) state: Option<ItemState>,
    pub(crate) expires_at: Option<Instant>,
    pub(crate) will_renew: bool,
    pub(crate) family_shared: bool,
}

/// The account's purchases that give any of `wanted`, and its subscriptions that will give it again
/// without another purchase: whoever buys beside them pays twice. Gifts of support do not count.
pub(crate) fn held(snapshot: &Snapshot, wanted: &[String], catalog: &Catalog) -> Vec<Held> {
    let mut held: Vec<Held> = Vec::new();
    let open = snapshot
        .entitlements
        .iter()
        .filter(|entitlement| wanted.contains(&entitlement.id));
    for entitlement in open {
        for source in &entitlement.sources {
            let Some(store) = source.store else { continue };
            let same = |held: &&mut Held| {
                held.store == store
                    && held.product_id == source.product_id
                    && held.plan == source.plan
                    && held.environment == source.environment
            };
            match held.iter_mut().find(same) {
                Some(held) => held.entitlements.push(entitlement.id.clone()),
                None => held.push(of_source(snapshot, &entitlement.id, store, source)),
            }
        }
    }
    let returning = snapshot.subscriptions.iter().filter_map(|view| {
        let plan = catalog.product(&view.plan)?;
        let gives = |id: &&String| wanted.contains(id);
        let entitlements: Vec<String> = plan.grants.iter().filter(gives).cloned().collect();
        (will_return(&view.state) && !entitlements.is_empty())
            .then(|| of_subscription(view, entitlements))
    });
    held.extend(returning);
    held
}

/// It grants nothing now, and will once the store is paid or the customer ends the pause.
fn will_return(state: &ItemState) -> bool {
    match state {
        ItemState::OnHold { .. } | ItemState::Paused { .. } | ItemState::Pending => true,
        ItemState::Active { .. }
        | ItemState::GracePeriod { .. }
        | ItemState::Expired { .. }
        | ItemState::Revoked { .. }
        | ItemState::Owned { .. }
        | ItemState::Unknown { .. } => false,
    }
}

fn of_source(snapshot: &Snapshot, entitlement: &str, store: Provider, source: &Source) -> Held {
    let view = snapshot.subscriptions.iter().find(|view| {
        view.store == store
            && view.product_id == source.product_id
            && view.plan == source.plan
            && view.environment == source.environment
    });
    Held {
        store,
        plan: source.plan.clone(),
        product_id: source.product_id.clone(),
        environment: source.environment,
        entitlements: vec![entitlement.to_owned()],
        state: view.map(|view| view.state.clone()),
        expires_at: source.expires_at,
        will_renew: source.will_renew,
        family_shared: source.family_shared,
    }
}

fn of_subscription(view: &SubscriptionView, entitlements: Vec<String>) -> Held {
    Held {
        store: view.store,
        plan: view.plan.clone(),
        product_id: view.product_id.clone(),
        environment: view.environment,
        entitlements,
        state: Some(view.state.clone()),
        expires_at: view.state.expires_at(),
        will_renew: view.will_renew,
        family_shared: view.family_shared,
    }
}

#[cfg(test)]
#[path = "preflight_tests.rs"]
mod tests;
