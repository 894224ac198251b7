//! Who owns a chain: explicit transfer first, then the store's hint, then the first won claim.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, TransferPolicy};
use super::chain::Alias;
use super::ids::{AccountId, ClaimId};
use super::planted::{self, Bug};
use super::provider::{Environment, Provider};
use super::subscription::store_state::StoreState;
use super::time::Instant;

/// How long a claim without a hint stays open to a later claim that the store's record confirms.
pub(crate) const PROVISIONAL_DAYS: i64 = 30;
/// A signed transaction shows that its holder has the purchase now if it was signed so lately.
const FRESH_FOR: TimeDelta = TimeDelta::hours(24);
/// One genuine proof that is passed around does not serve many: no more moves by policy…
pub(crate) const MOVES_MAX: u32 = 3;
/// …within this time.
pub(crate) const MOVES_COUNTED_FOR: TimeDelta = TimeDelta::days(30);

/// The account that owns a chain, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) account: AccountId,
    pub(crate) since: Instant,
    /// Won by possession alone: a store-confirmed hint may still move it until then.
    pub(crate) provisional_until: Option<Instant>,
    /// Moved here from another account, by an operator or by policy: hints on purchases made
    /// before no longer count.
    pub(crate) transferred: bool,
}

impl Owner {
    /// Whether a hint that counts moves the chain: a claim by possession alone yields to it, and
    /// whoever got the chain by a transfer to the buyer of what was bought after that.
    fn yields_to_a_hint_at(&self, now: Instant) -> bool {
        self.transferred || self.provisional_until.is_some_and(|until| now < until)
    }

    /// Named by the store's record: nothing but a transfer moves it.
    fn confirmed(account: AccountId, now: Instant) -> Self {
        Self {
            account,
            since: now,
            provisional_until: None,
            transferred: false,
        }
    }

    /// Won by possession alone.
    fn provisional(account: AccountId, now: Instant) -> Self {
        Self {
            provisional_until: Some(now + TimeDelta::days(PROVISIONAL_DAYS)),
            ..Self::confirmed(account, now)
        }
    }

    /// Moved from another account.
    pub(crate) fn transferred(account: AccountId, now: Instant) -> Self {
        Self {
            transferred: true,
            ..Self::confirmed(account, now)
        }
    }
}

/// What a claimant has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "shown", rename_all = "snake_case")]
pub(crate) enum Possession {
    /// A document that the store signed at `at`.
    Signed { at: Instant, shown_at: Instant },
    /// A purchase token.
    Token { token: Alias },
    /// A bare id whose record names the claimant.
    #[default]
    Named,
}

impl Possession {
    /// Whether it shows that the claimant holds the purchase now; `head` is the purchase that the
    /// store's answer is about, if it has answered.
    fn is_fresh(&self, head: Option<&Alias>) -> bool {
        match self {
            Self::Signed { at, shown_at } => *shown_at - *at <= FRESH_FOR,
            Self::Token { token } => head == Some(token),
            Self::Named => false,
        }
    }

    /// Whether it was shown by the store after `moment`, or is the purchase as it lives now.
    fn is_fresh_since(&self, moment: Instant, head: Option<&Alias>) -> bool {
        let later = match self {
            Self::Signed { at, .. } => *at > moment,
            Self::Token { .. } | Self::Named => true,
        };
        later && self.is_fresh(head)
    }
}

/// Of two things that one account has shown of one purchase at the same time, what speaks for it: a
/// token, or what was signed last.
pub(crate) fn stronger(a: Possession, b: Possession) -> Possession {
    let rank = |shown: &Possession| match shown {
        Possession::Named => (0, None),
        Possession::Signed { at, .. } => (1, Some(*at)),
        Possession::Token { .. } => (2, None),
    };
    if rank(&b) > rank(&a) { b } else { a }
}

/// Whether an account that has shown both, `old` of a purchase and `new` of what continues it, is
/// judged by `new`: only what shows the purchase as it is now lets it move.
pub(crate) fn shows_more(old: &Possession, new: &Possession, head: Option<&Alias>) -> bool {
    new.is_fresh(head) || !old.is_fresh(head)
}

/// An open wish to own the chain; a proof of possession stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenClaim {
    pub(crate) id: ClaimId,
    pub(crate) account: AccountId,
    #[serde(default)]
    pub(crate) possession: Possession,
    /// The claimant named the purchase by another id, too, and that is another purchase's.
    #[serde(default)]
    pub(crate) misnamed: bool,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The chain was free, or provisional and the store's record names this account, or the policy
    /// let it move.
    Won,
    /// The account owned it already.
    Confirmed,
    /// Another account owns it, or the store's record names another account.
    OwnedByAnother,
    /// The store does not know the purchase, or not as this app's.
    NotFound,
    /// The store knows it, and not by the further id that the claimant gave.
    Misnamed,
    /// Its owner was erased, and what the claimant shows is from before that.
    NotFresh,
}

impl Verdict {
    const ALL: [Self; 6] = [
        Self::Won,
        Self::Confirmed,
        Self::OwnedByAnother,
        Self::NotFound,
        Self::Misnamed,
        Self::NotFresh,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Confirmed => "confirmed",
            Self::OwnedByAnother => "owned_by_another",
            Self::NotFound => "not_found",
            Self::Misnamed => "misnamed",
            Self::NotFresh => "not_fresh",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.as_str() == word)
    }
}

/// Why a chain has a new owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OwnershipReason {
    /// The first claim that the store confirmed.
    Claimed,
    /// The store's record names an account token that we issued.
    StoreHint,
    /// A claim with fresh possession, where the catalog's policy lets purchases move.
    Policy,
    /// An operator moved it.
    Transfer,
    /// Its purchase turned out to continue an older one that another account owns.
    Joined,
    /// The account that owned it became part of this one.
    Linked,
}

impl OwnershipReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::StoreHint => "store_hint",
            Self::Policy => "policy",
            Self::Transfer => "transfer",
            Self::Joined => "joined",
            Self::Linked => "linked",
        }
    }
}

/// By which rules purchases of a chain change hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) policy: TransferPolicy,
    /// A hint binds without a claim.
    pub(crate) auto_bind: bool,
    /// Nobody has signed in to the account that owns the chain: a reinstall brings another, and
    /// whoever shows fresh possession is taken for the customer.
    pub(crate) owner_is_anonymous: bool,
}

impl Rules {
    /// The catalog's rules for what the store says: of its environment, unless a product has its
    /// own; of several products the strictest.
    pub(crate) fn of(
        catalog: &Catalog,
        provider: Provider,
        state: &StoreState,
        owner_is_anonymous: bool,
    ) -> Self {
        let rules = catalog.ownership();
        let general = match state.environment {
            Environment::Production => rules.production,
            Environment::Sandbox => rules.sandbox,
        };
        let plans = state
            .items
            .iter()
            .filter_map(|item| catalog.plan(provider, &item.product));
        let policy = plans.map(|(_, plan)| plan.ownership.unwrap_or(general));
        Self {
            policy: policy.min().unwrap_or(general),
            auto_bind: rules.auto_bind,
            owner_is_anonymous,
        }
    }

    /// Whether fresh possession moves nothing, whatever the purchase's state.
    pub(crate) fn keep_always(self) -> bool {
        self.policy == TransferPolicy::Keep && !self.owner_is_anonymous
    }

    fn let_move(self, active: bool, moves: u32) -> bool {
        let allowed = match self.policy {
            TransferPolicy::Keep => false,
            TransferPolicy::TransferIfInactive => !active,
            TransferPolicy::Transfer => true,
        };
        (allowed || self.owner_is_anonymous) && moves < MOVES_MAX
    }
}

/// Everything that a ruling depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) owner: Option<Owner>,
    /// When the account that owned it was erased. Nothing from before says whose it is now.
    pub(crate) detached_at: Option<Instant>,
    /// The living account that the store's record names.
    pub(crate) hint: Option<AccountId>,
    /// When the chain's newest purchase was made.
    pub(crate) purchased_at: Option<Instant>,
    /// The purchase that the store's answer is about; `None`: it has not answered.
    pub(crate) head: Option<&'a Alias>,
    /// Oldest first.
    pub(crate) claims: &'a [OpenClaim],
    pub(crate) rules: Rules,
    /// Whether the chain grants its owner anything now.
    pub(crate) active: bool,
    /// How often the policy has moved it lately (`MOVES_COUNTED_FOR`).
    pub(crate) moves: u32,
    pub(crate) now: Instant,
}

/// The outcome for the chain and for each claim, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) owner: Option<Owner>,
    pub(crate) reason: Option<OwnershipReason>,
    pub(crate) verdicts: Vec<(ClaimId, AccountId, Verdict)>,
}

/// Decides all open claims on a chain that the store has confirmed. One claim at most changes the
/// owner: whoever is told that they won has it.
pub(crate) fn rule(case: &Case<'_>) -> Ruling {
    // What was bought before a transfer names who it was taken from; before an erasure, whoever is
    // forgotten, or was not asked then.
    let hint = case.hint.filter(|_| {
        !hint_is_older_than_transfer(case.owner, case.purchased_at)
            && !is_before(case.purchased_at, case.detached_at)
    });
    let (mut owner, mut reason) = follow_hint(case, hint);
    // A hint that moved it was the one change.
    let mut moved = reason.is_some();
    let mut verdicts = Vec::with_capacity(case.claims.len());
    for claim in case.claims {
        let verdict = match owner {
            _ if claim.misnamed => Verdict::Misnamed,
            Some(current) if current.account == claim.account && reason.is_some() => Verdict::Won,
            Some(current) if current.account == claim.account => Verdict::Confirmed,
            Some(_) | None => match successor(case, hint, owner, claim).filter(|_| !moved) {
                Some((next, why)) => {
                    (owner, reason, moved) = (Some(next), Some(why), true);
                    Verdict::Won
                }
                None if planted::is(Bug::EveryClaimWins) => Verdict::Won,
                None if owner.is_none() && hint.is_none() => Verdict::NotFresh,
                None => Verdict::OwnedByAnother,
            },
        };
        verdicts.push((claim.id, claim.account, verdict));
    }
    Ruling {
        owner,
        reason,
        verdicts,
    }
}

/// Two chains turned out to be one, the older one `ours`: a transfer request of the newer one's
/// owner, who has shown possession of what the purchase goes on as.
pub(crate) fn join(
    ours: Owner,
    theirs: Owner,
    rules: Rules,
    active: bool,
    moves: u32,
    now: Instant,
) -> Owner {
    if ours.account != theirs.account && rules.let_move(active, moves) {
        Owner::transferred(theirs.account, now)
    } else {
        ours
    }
}

fn is_before(purchased_at: Option<Instant>, moment: Option<Instant>) -> bool {
    moment.is_some_and(|moment| purchased_at.is_none_or(|purchased| purchased <= moment))
}

fn hint_is_older_than_transfer(owner: Option<Owner>, purchased_at: Option<Instant>) -> bool {
    owner.is_some_and(|owner| {
        owner.transferred && purchased_at.is_none_or(|purchased| purchased <= owner.since)
    })
}

/// A hint that counts confirms the owner it names; where it binds by itself, a chain that is free
/// or yields to it goes to the account that it names.
fn follow_hint(
    case: &Case<'_>,
    hint: Option<AccountId>,
) -> (Option<Owner>, Option<OwnershipReason>) {
    let Some(named) = hint else {
        return (case.owner, None);
    };
    match case.owner {
        Some(current) if current.account == named => (
            Some(Owner {
                provisional_until: None,
                ..current
            }),
            None,
        ),
        Some(current) if !current.yields_to_a_hint_at(case.now) => (Some(current), None),
        unsettled @ (Some(_) | None) if !case.rules.auto_bind => (unsettled, None),
        Some(_) | None => {
            let owner = Owner::confirmed(named, case.now);
            (Some(owner), Some(OwnershipReason::StoreHint))
        }
    }
}

/// Whose the chain becomes by the claim of an account that does not own it; `None`: it stays.
fn successor(
    case: &Case<'_>,
    hint: Option<AccountId>,
    owner: Option<Owner>,
    claim: &OpenClaim,
) -> Option<(Owner, OwnershipReason)> {
    let settled = owner.is_some_and(|owner| !owner.yields_to_a_hint_at(case.now));
    if hint == Some(claim.account) && !settled {
        let confirmed = Owner::confirmed(claim.account, case.now);
        return Some((confirmed, OwnershipReason::StoreHint));
    }
    let may_have_it = case
        .detached_at
        .is_none_or(|moment| claim.possession.is_fresh_since(moment, case.head));
    if owner.is_none() && hint.is_none() && may_have_it {
        let first = Owner::provisional(claim.account, case.now);
        return Some((first, OwnershipReason::Claimed));
    }
    let moves =
        claim.possession.is_fresh(case.head) && case.rules.let_move(case.active, case.moves);
    moves.then(|| {
        let moved = Owner::transferred(claim.account, case.now);
        (moved, OwnershipReason::Policy)
    })
}

#[cfg(test)]
#[path = "ownership_tests.rs"]
mod tests;
