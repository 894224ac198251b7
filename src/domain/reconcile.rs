//! One step of one chain: everything known plus one answer gives everything to be written.
//!
//! Pure: settle gathers the inputs under lock, this decides, settle writes. Replay folds the same
//! function over stored inputs and must arrive at the stored state.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, FamilySharing, Product, ProductKind};
use super::duty::{self, Holder, NewDuty};
use super::event::{ApplyReason, Decision, MergeReason, SignalSource, SkipReason};
use super::ids::{AccountId, ClaimId};
use super::ownership::{self, Case, OpenClaim, Owner, OwnershipReason, Rules, Verdict};
use super::planted::{self, Bug};
use super::provider::Provider;
use super::subscription::guard::{self, Known};
use super::subscription::state::{ExpiryReason, ItemState, Leniency, Renewal};
use super::subscription::store_state::{Evidence, Item, StoreState};
use super::time::{Instant, earliest};

/// How long to wait before a store is asked again whose answer was older than, or contradicted,
/// what is known: replicas' clocks and stores' caches differ by less.
const DOUBT_RECHECK: TimeDelta = TimeDelta::seconds(15);
/// How often a store that has not renewed an ended period yet is asked again.
const LATE_RENEWAL_RECHECK_MIN: TimeDelta = TimeDelta::seconds(30);
const LATE_RENEWAL_RECHECK_MAX: TimeDelta = TimeDelta::minutes(15);

/// How soon a store is asked again that told what was bought and could not tell what was paid;
/// then as long again as that has lasted.
const UNTOLD_MONEY_RECHECK_MIN: TimeDelta = TimeDelta::minutes(5);

/// What is known of a chain before the step, read under its lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) owner: Option<Owner>,
    pub(crate) known: Option<Known>,
    /// The store could not be asked when the period ended.
    pub(crate) store_away: bool,
    /// When the account that owned it was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detached_at: Option<Instant>,
}

/// What the store, or what stands in for it, says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "state", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The store's own answer, with the evidence that only signals carry.
    Store(StoreState),
    /// A signed proof while the store cannot be asked.
    Proof(StoreState),
    /// The store does not know the purchase.
    NotFound,
    /// The store's record is gone; it was there once.
    Gone,
    /// The store cannot be asked.
    Away,
}

impl Answer {
    /// Takes out whom it names; tells whether it named anybody. Stores go on naming who was erased:
    /// that is not kept again.
    pub(crate) fn forget_account(&mut self) -> bool {
        match self {
            Self::Store(state) | Self::Proof(state) => state.account_token.take().is_some(),
            Self::NotFound | Self::Gone | Self::Away => false,
        }
    }
}

/// The inputs of one step; kept with its event, so that replay can decide again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) source: SignalSource,
    pub(crate) now: Instant,
    pub(crate) answer: Answer,
    /// The living account here that the store's record names.
    pub(crate) hint: Option<AccountId>,
    /// Oldest first.
    pub(crate) claims: Vec<OpenClaim>,
    /// The store tokens of every account that may own the chain after this step; of what is kept,
    /// that of the one that does.
    #[serde(default)]
    pub(crate) tokens: Vec<(AccountId, String)>,
    /// Those of them whom sandbox purchases do not serve, while they serve testers alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_testers: Vec<AccountId>,
    /// How often the policy has moved the chain lately.
    #[serde(default)]
    pub(crate) moves: u32,
    /// Nobody has signed in to the account that owns the chain.
    #[serde(default)]
    pub(crate) owner_is_anonymous: bool,
    /// The answer named an account that is erased by now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forgotten: bool,
}

impl Step {
    /// The accounts that it names beside the one that owns the chain.
    pub(crate) fn parties(&self) -> impl Iterator<Item = AccountId> {
        let claimants = self.claims.iter().map(|claim| claim.account);
        claimants.chain(self.hint)
    }

    fn token_of(&self, owner: Owner) -> Option<&str> {
        let known = self.tokens.iter().find(|(id, _)| *id == owner.account);
        known.map(|(_, token)| token.as_str())
    }
}

/// Settings that a step is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) leniency: Leniency,
    /// The longest an owned chain goes without being read again (default 24 h).
    pub(crate) recheck_max: TimeDelta,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            leniency: Leniency::default(),
            recheck_max: TimeDelta::hours(24),
        }
    }
}

/// Everything to be written, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) decision: Decision,
    pub(crate) book: Book,
    pub(crate) ownership: Option<OwnershipReason>,
    pub(crate) verdicts: Vec<(ClaimId, AccountId, Verdict)>,
    /// When the chain must be looked at again without any signal.
    pub(crate) next_check_at: Option<Instant>,
    /// What the store must be told, once this is committed.
    pub(crate) duties: Vec<NewDuty>,
}

/// Decides one step. `facts` are those that the answer was read with: only signals carry them.
pub(crate) fn reconcile(
    provider: Provider,
    book: &Book,
    step: &Step,
    facts: &[Evidence],
    catalog: &Catalog,
    policy: Policy,
) -> Outcome {
    let (decision, known) = take(book, step);
    let confirmed = match &step.answer {
        Answer::Store(_) | Answer::Proof(_) => decision_stands(decision),
        Answer::Gone => known.is_some(),
        Answer::NotFound | Answer::Away => false,
    };
    let ruling = match &known {
        Some(known) if confirmed => {
            let answered = matches!(step.answer, Answer::Store(_));
            ownership::rule(&Case {
                owner: book
                    .owner
                    .filter(|_| step.claims.is_empty() || !planted::is(Bug::NoOwnerCheckOnRestore)),
                detached_at: book.detached_at,
                hint: step.hint.filter(|_| !planted::is(Bug::HintIgnored)),
                purchased_at: known.state.purchased_at,
                head: answered.then_some(&known.state.head),
                claims: &step.claims,
                rules: Rules::of(catalog, provider, &known.state, step.owner_is_anonymous),
                active: grants(provider, known, book.store_away, catalog, policy, step.now),
                moves: step.moves,
                now: step.now,
            })
        }
        Some(_) | None => ownership::Ruling {
            owner: book.owner,
            reason: None,
            verdicts: refused(step),
        },
    };
    let store_away = match &step.answer {
        Answer::Away => true,
        // Mid-period nothing has to be prolonged.
        Answer::Proof(_) => {
            book.store_away
                || known
                    .as_ref()
                    .is_some_and(|known| awaits_renewal(known, step.now))
        }
        Answer::Store(_) | Answer::NotFound | Answer::Gone => false,
    };
    let next = Book {
        owner: ruling.owner,
        known,
        store_away,
        detached_at: book.detached_at,
    };
    let mut decision = narrow(decision, book, &next, &step.not_testers, provider, catalog);
    if decision == Decision::Apply(ApplyReason::OwnerChanged)
        && ruling.reason == Some(OwnershipReason::Policy)
    {
        decision = Decision::Apply(ApplyReason::Transferred);
    }
    let next_check_at = next_check(&next, decision, provider, catalog, policy, step.now);
    let duties = match (&next.owner, &next.known) {
        (Some(owner), Some(known)) => {
            let holder = Holder {
                owner: *owner,
                store_token: step.token_of(*owner),
            };
            duty::due(provider, holder, &known.state, facts, catalog)
        }
        (None, _) | (_, None) => Vec::new(),
    };
    Outcome {
        decision,
        book: next,
        ownership: ruling.reason,
        verdicts: ruling.verdicts,
        next_check_at,
        duties,
    }
}

/// A paid period that should renew has ended, and no later one is known.
pub(crate) fn awaits_renewal(known: &Known, now: Instant) -> bool {
    known.state.items.iter().any(|item| {
        matches!(item.state, ItemState::Active { expires_at, renewal: Renewal::On } if expires_at <= now)
    })
}

fn take(book: &Book, step: &Step) -> (Decision, Option<Known>) {
    let known = book.known.clone();
    let (incoming, standing_in) = match &step.answer {
        Answer::Store(state) => (state, false),
        Answer::Proof(state) => (state, true),
        Answer::NotFound => return (Decision::Skip(SkipReason::NotAtStore), known),
        Answer::Gone => {
            return (
                Decision::Skip(SkipReason::GoneAtStore),
                known.map(|k| close(k, step.now)),
            );
        }
        Answer::Away if book.store_away || known.is_none() => {
            return (Decision::Skip(SkipReason::StoreUnreachable), known);
        }
        Answer::Away => return (Decision::Apply(ApplyReason::StoreAway), known),
    };
    let decision = guard::decide(known.as_ref(), incoming, standing_in);
    let known = match decision {
        // A proof adds nothing to what is known already.
        Decision::MergeOnly(_) if standing_in => known,
        Decision::Apply(_) | Decision::MergeOnly(_) => {
            let since = known.as_ref().and_then(|known| known.unconfirmed_since);
            let unconfirmed_since = standing_in.then(|| since.unwrap_or(step.now));
            let before = known.as_ref().and_then(|known| known.state.purchased_at);
            let untold = known.as_ref().and_then(|known| known.money_untold_since);
            let untold = incoming.money_untold.then(|| untold.unwrap_or(step.now));
            Some(Known {
                state: StoreState {
                    // A read of what changed does not repeat when it was bought.
                    purchased_at: incoming.purchased_at.max(before),
                    ..incoming.clone()
                },
                contradictions: 0,
                unconfirmed_since,
                money_untold_since: untold,
            })
        }
        Decision::Skip(SkipReason::Contradiction) => known.map(|known| Known {
            contradictions: known.contradictions + 1,
            ..known
        }),
        Decision::Skip(_) => known,
    };
    (decision, known)
}

/// The store has forgotten the purchase: what had ended by then stays ended.
fn close(mut known: Known, now: Instant) -> Known {
    for item in &mut known.state.items {
        if let ItemState::Active { expires_at, .. } | ItemState::GracePeriod { expires_at, .. } =
            item.state
            && expires_at <= now
        {
            item.state = ItemState::Expired {
                at: expires_at,
                reason: ExpiryReason::Other,
            };
        }
    }
    known
}

/// Whether the step leaves the chain with a store-confirmed state that claims can be judged by.
fn decision_stands(decision: Decision) -> bool {
    match decision {
        Decision::Apply(_) | Decision::MergeOnly(_) => true,
        // The chain is known; an older or contradicting answer does not make a claim worse.
        Decision::Skip(SkipReason::StaleAnswer | SkipReason::Contradiction) => true,
        Decision::Skip(
            SkipReason::EnvironmentChanged
            | SkipReason::NotAtStore
            | SkipReason::GoneAtStore
            | SkipReason::StoreUnreachable
            | SkipReason::OwnedByAnother
            | SkipReason::Ignored
            | SkipReason::Unsupported
            | SkipReason::Unreadable
            | SkipReason::StoreActionRefused,
        ) => false,
    }
}

/// Claims on something that the store does not know are refused; while it is away they stay open.
fn refused(step: &Step) -> Vec<(ClaimId, AccountId, Verdict)> {
    match step.answer {
        Answer::Away if !planted::is(Bug::OutageRefusesClaims) => Vec::new(),
        Answer::Away | Answer::NotFound | Answer::Gone | Answer::Store(_) | Answer::Proof(_) => {
            step.claims
                .iter()
                .map(|claim| (claim.id, claim.account, Verdict::NotFound))
                .collect()
        }
    }
}

/// An answer that no account can feel is kept, not applied.
fn narrow(
    decision: Decision,
    before: &Book,
    after: &Book,
    not_testers: &[AccountId],
    provider: Provider,
    catalog: &Catalog,
) -> Decision {
    let owner_changed = before.owner.map(|o| o.account) != after.owner.map(|o| o.account);
    let Some(known) = &after.known else {
        return decision;
    };
    match decision {
        Decision::Apply(_) if after.owner.is_none() => Decision::MergeOnly(MergeReason::Unowned),
        Decision::Apply(_) | Decision::MergeOnly(_)
            if !catalog.accepts(known.state.environment) =>
        {
            Decision::MergeOnly(MergeReason::EnvironmentNotAccepted)
        }
        Decision::Apply(_) | Decision::MergeOnly(_)
            if !catalog.serves(known.state.environment, false)
                && after
                    .owner
                    .is_some_and(|owner| not_testers.contains(&owner.account)) =>
        {
            Decision::MergeOnly(MergeReason::NotATester)
        }
        Decision::Apply(_) | Decision::MergeOnly(_)
            if !known.state.items.is_empty() && !any_mapped(known, provider, catalog) =>
        {
            Decision::MergeOnly(MergeReason::UnmappedProduct)
        }
        Decision::Apply(_) | Decision::MergeOnly(_)
            if !known.state.items.is_empty() && all_refused_family(known, provider, catalog) =>
        {
            Decision::MergeOnly(MergeReason::FamilySharingRefused)
        }
        Decision::MergeOnly(_) if owner_changed => Decision::Apply(ApplyReason::OwnerChanged),
        Decision::Apply(_) | Decision::MergeOnly(_) | Decision::Skip(_) => decision,
    }
}

/// Whether the chain opens anything to its owner at `now`.
pub(crate) fn grants(
    provider: Provider,
    known: &Known,
    store_away: bool,
    catalog: &Catalog,
    policy: Policy,
    now: Instant,
) -> bool {
    let opens = |item: &Item| {
        let plan = catalog.plan(provider, &item.product);
        plan.is_some_and(|(_, plan)| !is_refused_family(item, plan))
            && item
                .state
                .access(policy.leniency, store_away)
                .is_open_at(now)
    };
    catalog.accepts(known.state.environment) && known.state.items.iter().any(opens)
}

/// A family member's share of what is for its purchaser alone.
fn is_refused_family(item: &Item, plan: &Product) -> bool {
    item.family_shared && plan.family_sharing == FamilySharing::Refuse
}

fn all_refused_family(known: &Known, provider: Provider, catalog: &Catalog) -> bool {
    known.state.items.iter().all(|item| {
        let plan = catalog.plan(provider, &item.product);
        plan.is_some_and(|(_, plan)| is_refused_family(item, plan))
    })
}

fn any_mapped(known: &Known, provider: Provider, catalog: &Catalog) -> bool {
    known
        .state
        .items
        .iter()
        .any(|item| catalog.plan(provider, &item.product).is_some())
}

/// Owned chains that grant, or may grant again without a new purchase, are read again by themselves.
/// What was bought to be used up is not: its refund comes by notification, or is found by a sweep.
fn next_check(
    book: &Book,
    decision: Decision,
    provider: Provider,
    catalog: &Catalog,
    policy: Policy,
    now: Instant,
) -> Option<Instant> {
    if planted::is(Bug::NeverLooksAgain) {
        return None;
    }
    if let Decision::Skip(SkipReason::Contradiction | SkipReason::StaleAnswer) = decision {
        return Some(now + DOUBT_RECHECK);
    }
    // Whether anybody owns it or not: money is booked for what was sold.
    let untold = book.known.as_ref().filter(|k| k.state.money_untold);
    let untold = untold.map(|known| {
        let since = known.money_untold_since.unwrap_or(now);
        let most = policy.recheck_max.max(UNTOLD_MONEY_RECHECK_MIN);
        now + (now - since).clamp(UNTOLD_MONEY_RECHECK_MIN, most)
    });
    if book.owner.is_none() {
        return untold;
    }
    let items = &book.known.as_ref()?.state.items;
    let ends = items
        .iter()
        .filter_map(|item| item_check(item, policy, now));
    let used_up = |item: &Item| {
        let plan = catalog.plan(provider, &item.product);
        let consumable = plan.is_some_and(|(_, plan)| plan.kind == ProductKind::Consumable);
        consumable && matches!(item.state, ItemState::Owned { .. })
    };
    let open = items
        .iter()
        .any(|item| !item.state.is_ended() && !used_up(item));
    let by_rule = open.then(|| now + policy.recheck_max);
    let by_rule = earliest(by_rule, untold);
    ends.fold(by_rule, |next, at| earliest(next, Some(at)))
}

fn item_check(item: &Item, policy: Policy, now: Instant) -> Option<Instant> {
    let end = match item.state {
        ItemState::Active { expires_at, .. } => expires_at,
        ItemState::GracePeriod { until, .. } => until,
        ItemState::Paused { resumes_at, .. } => resumes_at?,
        ItemState::OnHold { .. }
        | ItemState::Pending
        | ItemState::Expired { .. }
        | ItemState::Revoked { .. }
        | ItemState::Owned { .. }
        | ItemState::Unknown { .. } => return None,
    };
    if now < end {
        return Some(end);
    }
    let overdue = now - end;
    if overdue > policy.leniency.outage {
        // Access is over; `recheck_max` is often enough for a store that never says so.
        return None;
    }
    Some(now + overdue.clamp(LATE_RENEWAL_RECHECK_MIN, LATE_RENEWAL_RECHECK_MAX))
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
pub(crate) mod tests;
