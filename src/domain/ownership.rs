//! Who owns a chain: explicit transfer first, then the store's hint, then the first won claim.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, ClaimId};
use super::time::Instant;

/// How long a claim without a hint stays open to a later claim that the store's record confirms.
pub(crate) const PROVISIONAL_DAYS: i64 = 30;

/// The account that owns a chain, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) account: AccountId,
    pub(crate) since: Instant,
    /// Won by possession alone: a store-confirmed hint may still move it until then.
    pub(crate) provisional_until: Option<Instant>,
    /// Set by an operator: hints on purchases made before it no longer count.
    pub(crate) transferred: bool,
}

impl Owner {
    fn is_provisional_at(&self, now: Instant) -> bool {
        self.provisional_until.is_some_and(|until| now < until)
    }
}

/// An open wish to own the chain; a proof of possession stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenClaim {
    pub(crate) id: ClaimId,
    pub(crate) account: AccountId,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The chain was free, or provisional and the store's record names this account.
    Won,
    /// The account owned it already.
    Confirmed,
    /// Another account owns it, or the store's record names another account.
    OwnedByAnother,
    /// The store does not know the purchase, or not as this app's.
    NotFound,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Confirmed => "confirmed",
            Self::OwnedByAnother => "owned_by_another",
            Self::NotFound => "not_found",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [
            Self::Won,
            Self::Confirmed,
            Self::OwnedByAnother,
            Self::NotFound,
        ]
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
    /// An operator moved it.
    Transfer,
    /// Its purchase turned out to continue an older one that another account owns.
    Joined,
}

impl OwnershipReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::StoreHint => "store_hint",
            Self::Transfer => "transfer",
            Self::Joined => "joined",
        }
    }
}

/// The outcome for the chain and for each claim, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) owner: Option<Owner>,
    pub(crate) reason: Option<OwnershipReason>,
    pub(crate) verdicts: Vec<(ClaimId, AccountId, Verdict)>,
}

/// Decides all open claims on a chain that the store has confirmed.
///
/// `hint` is the living account that the store's record names; `purchased_at` the newest purchase.
pub(crate) fn rule(
    owner: Option<Owner>,
    hint: Option<AccountId>,
    purchased_at: Option<Instant>,
    claims: &[OpenClaim],
    now: Instant,
) -> Ruling {
    let hint = hint.filter(|_| !hint_is_older_than_transfer(owner, purchased_at));
    let (mut owner, mut reason) = follow_hint(owner, hint, now);
    let mut verdicts = Vec::with_capacity(claims.len());
    for claim in claims {
        let verdict = match owner {
            Some(current) if current.account == claim.account => {
                if reason.is_some() {
                    Verdict::Won
                } else {
                    Verdict::Confirmed
                }
            }
            Some(_) => Verdict::OwnedByAnother,
            None => {
                owner = Some(Owner {
                    account: claim.account,
                    since: now,
                    provisional_until: Some(now + chrono::TimeDelta::days(PROVISIONAL_DAYS)),
                    transferred: false,
                });
                reason = Some(OwnershipReason::Claimed);
                Verdict::Won
            }
        };
        verdicts.push((claim.id, claim.account, verdict));
    }
    Ruling {
        owner,
        reason,
        verdicts,
    }
}

fn hint_is_older_than_transfer(owner: Option<Owner>, purchased_at: Option<Instant>) -> bool {
    owner.is_some_and(|owner| {
        owner.transferred && purchased_at.is_none_or(|purchased| purchased <= owner.since)
    })
}

/// A free or provisional chain goes to the account that the store's record names.
fn follow_hint(
    owner: Option<Owner>,
    hint: Option<AccountId>,
    now: Instant,
) -> (Option<Owner>, Option<OwnershipReason>) {
    let Some(named) = hint else {
        return (owner, None);
    };
    match owner {
        Some(current) if current.account == named => (
            Some(Owner {
                provisional_until: None,
                ..current
            }),
            None,
        ),
        Some(current) if !current.is_provisional_at(now) => (Some(current), None),
        Some(_) | None => {
            let owner = Owner {
                account: named,
                since: now,
                provisional_until: None,
                transferred: false,
            };
            (Some(owner), Some(OwnershipReason::StoreHint))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use uuid::Uuid;

    use super::*;

    fn now() -> Instant {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
    }

    fn account(n: u128) -> AccountId {
        AccountId(Uuid::from_u128(n))
    }

    fn claim(n: u128) -> OpenClaim {
        OpenClaim {
            id: ClaimId(Uuid::from_u128(n)),
            account: account(n),
        }
    }

    fn owned_by(n: u128, provisional: bool) -> Owner {
        Owner {
            account: account(n),
            since: now(),
            provisional_until: provisional.then(|| now() + TimeDelta::days(PROVISIONAL_DAYS)),
            transferred: false,
        }
    }

    fn verdicts(ruling: &Ruling) -> Vec<Verdict> {
        ruling.verdicts.iter().map(|v| v.2).collect()
    }

    #[test]
    fn the_first_of_many_claims_wins_and_is_provisional() {
        let claims: Vec<_> = (1..=50).map(claim).collect();
        let ruling = rule(None, None, None, &claims, now());
        assert_eq!(ruling.owner.map(|o| o.account), Some(account(1)));
        assert!(ruling.owner.is_some_and(|o| o.is_provisional_at(now())));
        assert_eq!(verdicts(&ruling)[0], Verdict::Won);
        assert!(
            verdicts(&ruling)[1..]
                .iter()
                .all(|v| *v == Verdict::OwnedByAnother)
        );
    }

    #[test]
    fn the_stores_record_beats_a_provisional_owner_but_not_a_settled_one() {
        let over_provisional = rule(
            Some(owned_by(1, true)),
            Some(account(2)),
            None,
            &[claim(2)],
            now(),
        );
        assert_eq!(over_provisional.owner.map(|o| o.account), Some(account(2)));
        assert_eq!(verdicts(&over_provisional), [Verdict::Won]);

        let over_settled = rule(
            Some(owned_by(1, false)),
            Some(account(2)),
            None,
            &[claim(2)],
            now(),
        );
        assert_eq!(over_settled.owner.map(|o| o.account), Some(account(1)));
        assert_eq!(verdicts(&over_settled), [Verdict::OwnedByAnother]);

        let after_thirty_days = now() + TimeDelta::days(PROVISIONAL_DAYS);
        let too_late = rule(
            Some(owned_by(1, true)),
            Some(account(2)),
            None,
            &[claim(2)],
            after_thirty_days,
        );
        assert_eq!(too_late.owner.map(|o| o.account), Some(account(1)));
    }

    #[test]
    fn a_claim_against_the_stores_record_is_refused() {
        let ruling = rule(None, Some(account(9)), None, &[claim(1)], now());
        assert_eq!(ruling.owner.map(|o| o.account), Some(account(9)));
        assert_eq!(ruling.reason, Some(OwnershipReason::StoreHint));
        assert_eq!(verdicts(&ruling), [Verdict::OwnedByAnother]);
    }

    #[test]
    fn a_hint_confirms_its_owner_for_good() {
        let ruling = rule(
            Some(owned_by(1, true)),
            Some(account(1)),
            None,
            &[claim(1)],
            now(),
        );
        assert_eq!(ruling.owner.and_then(|o| o.provisional_until), None);
        assert_eq!(verdicts(&ruling), [Verdict::Confirmed]);
        assert_eq!(ruling.reason, None);
    }

    #[test]
    fn after_a_transfer_only_a_newer_purchase_carries_a_hint() {
        let transferred = Owner {
            transferred: true,
            ..owned_by(1, false)
        };
        let old_purchase = rule(Some(transferred), Some(account(2)), Some(now()), &[], now());
        assert_eq!(old_purchase.owner, Some(transferred));
        let confirmed = rule(
            Some(transferred),
            Some(account(1)),
            Some(now() + TimeDelta::days(1)),
            &[],
            now(),
        );
        assert_eq!(confirmed.owner.map(|o| o.account), Some(account(1)));
    }
}
