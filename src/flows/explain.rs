//! ExplainEntitlement: what is stored about an account, put before the pure explanation; now, or as
//! it was at a past moment.

use serde::Serialize;

use super::{Core, derive, replay};
use crate::domain::event::{Decision, SignalSource};
use crate::domain::explain::{
    Decider, Explanation, Facts, Gift, Purchase, Standing, explain as explain_it,
};
use crate::domain::holding::{Chain, Holding};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::ownership::Verdict;
use crate::domain::provider::Provider;
use crate::domain::reconcile::Book;
use crate::domain::subscription::guard::Known;
use crate::domain::time::Instant;
use crate::domain::wording;
use crate::storage::holdings::{self, Decided, Held};
use crate::storage::{StorageError, grants, ledger};

/// An explanation with the trace that proves it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Explained {
    pub(crate) entitlement: String,
    /// Business time that it is true for.
    pub(crate) at: Instant,
    #[serde(flatten)]
    pub(crate) explanation: Explanation,
    /// The purchase that decides, if one does.
    pub(crate) purchase: Option<ChainId>,
    pub(crate) decided: Option<Deciding>,
}

/// The event that the deciding purchase or gift stands by.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Deciding {
    pub(crate) event: i64,
    pub(crate) at: Instant,
    pub(crate) source: String,
    /// The store's own word for the notification, if one made us look.
    pub(crate) signal: Option<String>,
    pub(crate) decision: String,
    pub(crate) reason: String,
    pub(crate) actor: Option<String>,
    /// All of it in words.
    pub(crate) words: String,
}

/// Why an entitlement could not be explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    #[error("the catalog has no entitlement {0:?}")]
    UnknownEntitlement(String),
    #[error("that moment has not come yet")]
    Future,
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Stored steps that cannot be folded.
    #[error("{0}")]
    History(anyhow::Error),
}

/// Explains one entitlement of an account; `at` is a past moment, or now.
pub(crate) async fn explain(
    core: &Core,
    account: AccountId,
    entitlement: &str,
    at: Option<Instant>,
) -> Result<Explained, ExplainError> {
    let now = core.clock.now();
    if at.is_some_and(|at| at > now) {
        return Err(ExplainError::Future);
    }
    let moment = at.unwrap_or(now);
    let catalog = core.catalog.load_full();
    let tester = derive::is_tester(core, account, &catalog).await?;
    let (mut chains, mut purchases) = (Vec::new(), Vec::new());
    for held in holdings::of_account(&core.db, account).await? {
        let book = match at {
            Some(at) => past(core, &held, at).await?,
            None => present(&held),
        };
        if let Some(purchase) = purchase(core, &held, book, account, tester, moment).await? {
            chains.push(Some(held.chain));
            purchases.push(purchase);
        }
    }
    // A bind of what is another's is refused at once, and leaves an event alone.
    let refusal = ["owned_by_another".to_owned()];
    let refusal = holdings::decided_for_account(&core.db, account, &refusal, moment).await?;
    if let Some(refusal) = &refusal {
        let verdict = Verdict::OwnedByAnother;
        let at = refusal.at;
        chains.push(None);
        purchases.push(Purchase {
            store: None,
            holdings: Vec::new(),
            standing: Standing::Refused { at, verdict },
        });
    }
    let gifts = gifts(core, account, moment).await?;
    let facts = Facts {
        catalog: &catalog,
        purchases: &purchases,
        gifts: &gifts,
        leniency: core.policy.leniency,
        now: moment,
    };
    let explanation = explain_it(entitlement, &facts)
        .ok_or_else(|| ExplainError::UnknownEntitlement(entitlement.to_owned()))?;
    let (chain, store) = match explanation.decider {
        Decider::Purchase(n) => (
            chains.get(n).copied().flatten(),
            purchases.get(n).and_then(|purchase| purchase.store),
        ),
        Decider::Gift(_) | Decider::Nothing => (None, None),
    };
    let decided = match (explanation.decider, chain) {
        (Decider::Purchase(_), Some(chain)) => holdings::decided(&core.db, chain, moment).await?,
        (Decider::Gift(_), _) => {
            holdings::decided_for_account(
                &core.db,
                account,
                &["granted".to_owned(), "grant_revoked".to_owned()],
                moment,
            )
            .await?
        }
        (Decider::Purchase(_), None) => refusal,
        (Decider::Nothing, _) => None,
    };
    Ok(Explained {
        entitlement: entitlement.to_owned(),
        at: moment,
        explanation,
        purchase: chain,
        decided: decided.map(|decided| deciding(decided, store, now)),
    })
}

/// What was known of a purchase, by whose answer it stood.
struct Standpoint {
    known: Option<Known>,
    store_away: bool,
    owner: Option<AccountId>,
}

fn present(held: &Held) -> Standpoint {
    Standpoint {
        known: held.known.clone(),
        store_away: held.store_away,
        owner: held.owner,
    }
}

/// The stored steps up to a moment, folded as replay folds them.
async fn past(core: &Core, held: &Held, at: Instant) -> Result<Standpoint, ExplainError> {
    let Book {
        known, store_away, ..
    } = replay::book_at(core, held.chain, at)
        .await
        .map_err(ExplainError::History)?;
    Ok(Standpoint {
        known,
        store_away,
        owner: holdings::owner_at(&core.db, held.chain, at).await?,
    })
}

/// `None`: the purchase had nothing to do with the account at that moment.
async fn purchase(
    core: &Core,
    held: &Held,
    point: Standpoint,
    account: AccountId,
    tester: bool,
    at: Instant,
) -> Result<Option<Purchase>, StorageError> {
    let claimed = held.claimed_at.filter(|claimed| *claimed <= at);
    let away_since = match point.owner {
        Some(owner) if owner == account => None,
        Some(_) | None => holdings::left_at(&core.db, held.chain, account, at).await?,
    };
    let theirs = point.owner == Some(account) || away_since.is_some();
    let verdict = held.verdict.as_deref().and_then(Verdict::parse);
    let standing = match (theirs, claimed, verdict) {
        (true, _, _) => Standing::Theirs,
        (false, Some(since), None) => Standing::Asked { since },
        (false, Some(at), Some(verdict)) => Standing::Refused { at, verdict },
        (false, None, _) => return Ok(None),
    };
    let holdings = match point.known {
        Some(known) if theirs => {
            let charged = ledger::charged(&core.db, held.chain, at).await?;
            let chain = Chain {
                provider: held.provider,
                store_away: point.store_away,
                away_since,
                known,
            };
            let holdings = chain.holdings(charged).into_iter();
            holdings
                .map(|holding| Holding { tester, ..holding })
                .collect()
        }
        Some(_) | None => Vec::new(),
    };
    Ok(Some(Purchase {
        store: Some(held.provider),
        holdings,
        standing,
    }))
}

async fn gifts(core: &Core, account: AccountId, at: Instant) -> Result<Vec<Gift>, StorageError> {
    let given = grants::all_of_account(&core.db, account).await?;
    let gifts = given
        .into_iter()
        .filter(|given| given.given_at <= at)
        .map(|given| Gift {
            grant: given.grant,
            actor: given.actor,
            reason: given.reason,
            revoked_at: given.revoked_at.filter(|revoked| *revoked <= at),
        });
    Ok(gifts.collect())
}

fn deciding(decided: Decided, store: Option<Provider>, now: Instant) -> Deciding {
    let source = SignalSource::parse(&decided.source)
        .map_or_else(|| decided.source.clone(), |it| wording::source(it, store));
    let signal = decided
        .signal
        .as_ref()
        .map(|signal| format!(" ({signal})"))
        .unwrap_or_default();
    let by = decided
        .actor
        .as_ref()
        .map(|actor| format!(" by {actor}"))
        .unwrap_or_default();
    let what = Decision::parse(&decided.decision, &decided.reason)
        .map_or(decided.reason.clone(), |it| {
            wording::decision(it).to_owned()
        });
    let words = format!(
        "{}, {source}{signal}{by}: {what}",
        wording::moment(decided.at, now)
    );
    Deciding {
        event: decided.event,
        at: decided.at,
        source: decided.source,
        signal: decided.signal,
        decision: decided.decision,
        reason: decided.reason,
        actor: decided.actor,
        words,
    }
}
