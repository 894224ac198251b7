//! What a catalog would do to every account, counted without writing anything: each is derived by
//! the active catalog and by the new one, from the books as they are.

use std::collections::BTreeSet;

use tracing::error;

use super::derive::snapshot_of;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::effect::{
    Effect, Unseen, brings_nothing, is_out_of_reach, paid_for, payer_loses,
};
use crate::domain::entitlement::Snapshot;
use crate::domain::goods;
use crate::domain::holding::Holding;
use crate::domain::ids::AccountId;
use crate::domain::subscription::state::Leniency;
use crate::domain::time::Instant;
use crate::storage::books::{self, Books};
use crate::storage::{Db, StorageError, Tx};

/// Accounts that are read at one moment.
const BATCH: i64 = 500;
/// Rounds over what has changed meanwhile: each finds what changed during the one before.
const RECOUNTS_MAX: u32 = 5;

/// What a look at accounts needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) db: &'a Db,
    pub(crate) leniency: Leniency,
    pub(crate) now: Instant,
}

/// A counting, and what it takes to bring its losses up to date.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) effect: Effect,
    /// The payers who lose, and whom nobody could look at.
    losing: BTreeSet<AccountId>,
    unreadable: BTreeSet<AccountId>,
    /// What changed before it was seen: a transaction horizon.
    since: i64,
}

impl Counted {
    fn take(&mut self, account: AccountId, judged: Option<&Judged>) {
        match judged {
            Some(judged) => {
                if self.effect.count(&judged.was, &judged.is, judged.unseen) {
                    self.losing.insert(account);
                }
            }
            None => {
                self.unreadable.insert(account);
                self.effect.unreadable += 1;
            }
        }
    }

    /// Whether it loses is seen anew; everything else stays as it was counted.
    fn take_again(&mut self, account: AccountId, judged: Option<&Judged>) {
        self.losing.remove(&account);
        self.unreadable.remove(&account);
        match judged {
            Some(judged) if judged.loses() => {
                self.losing.insert(account);
            }
            Some(_) => {}
            None => {
                self.unreadable.insert(account);
            }
        }
        self.effect.payers_losing = self.losing.len() as u64;
        self.effect.unreadable = self.unreadable.len() as u64;
    }
}

/// Counts every account that ever had something. Each batch is read at one moment: what changes
/// meanwhile is counted as it was or as it is.
pub(crate) async fn count_effect(
    ground: &Ground<'_>,
    old: &Catalog,
    new: &Catalog,
    mut progress: impl FnMut(u64, u64),
) -> Result<Counted, StorageError> {
    let total = books::count(ground.db).await?;
    let between = Between::of(old, new);
    let mut counted = Counted {
        effect: Effect::default(),
        losing: BTreeSet::new(),
        unreadable: BTreeSet::new(),
        since: books::horizon(ground.db).await?,
    };
    let mut last = None;
    loop {
        let ids = books::accounts(ground.db, last, BATCH).await?;
        let Some(end) = ids.last() else {
            return Ok(counted);
        };
        last = Some(*end);
        for (account, judged) in between.judge_all(ground, &ids).await? {
            counted.take(account, judged.as_ref());
        }
        let accounts = counted.effect.accounts;
        progress(accounts, total.max(accounts));
    }
}

/// Looks again at the accounts that have changed since they were counted, until hardly any has.
pub(crate) async fn recount(
    ground: &Ground<'_>,
    old: &Catalog,
    new: &Catalog,
    counted: &mut Counted,
) -> Result<(), StorageError> {
    let between = Between::of(old, new);
    for _ in 0..RECOUNTS_MAX {
        let horizon = books::horizon(ground.db).await?;
        let (mut last, mut looked_at) = (None, 0);
        loop {
            let ids = books::changed_since(ground.db, counted.since, last, BATCH).await?;
            let Some(end) = ids.last() else { break };
            last = Some(*end);
            looked_at += ids.len();
            for (account, judged) in between.judge_all(ground, &ids).await? {
                counted.take_again(account, judged.as_ref());
            }
        }
        counted.since = horizon;
        if i64::try_from(looked_at).is_ok_and(|looked_at| looked_at < BATCH) {
            break;
        }
    }
    Ok(())
}

/// What an account has by each of the two.
struct Judged {
    was: Snapshot,
    is: Snapshot,
    unseen: Unseen,
}

impl Judged {
    fn loses(&self) -> bool {
        Effect::default().count(&self.was, &self.is, self.unseen)
    }
}

/// Two catalogs, and what neither needs to read.
struct Between<'a> {
    old: &'a Catalog,
    new: &'a Catalog,
    used_up: Vec<String>,
}

impl<'a> Between<'a> {
    fn of(old: &'a Catalog, new: &'a Catalog) -> Self {
        let (before, after) = (goods::used_up(old), goods::used_up(new));
        let both = before.into_iter().filter(|name| after.contains(name));
        Self {
            old,
            new,
            used_up: both.collect(),
        }
    }

    /// Each by itself if they cannot be read together; `None`: not even so.
    async fn judge_all(
        &self,
        ground: &Ground<'_>,
        ids: &[AccountId],
    ) -> Result<Vec<(AccountId, Option<Judged>)>, StorageError> {
        let together = match self.judge(ground, ids).await {
            Err(StorageError::Corrupt(_) | StorageError::Other(_)) => None,
            judged => Some(judged?),
        };
        if let Some(judged) = together {
            let judged = judged.into_iter();
            return Ok(judged.map(|(id, judged)| (id, Some(judged))).collect());
        }
        let mut all = Vec::new();
        for id in ids {
            match self.judge(ground, &[*id]).await {
                Err(cause @ (StorageError::Corrupt(_) | StorageError::Other(_))) => {
                    error!(account = %id, error = %cause, "an account cannot be counted");
                    all.push((*id, None));
                }
                judged => {
                    let judged = judged?.into_iter();
                    all.extend(judged.map(|(id, judged)| (id, Some(judged))));
                }
            }
        }
        Ok(all)
    }

    async fn judge(
        &self,
        ground: &Ground<'_>,
        ids: &[AccountId],
    ) -> Result<Vec<(AccountId, Judged)>, StorageError> {
        let mut tx = books::look(ground.db).await?;
        let served_before = testers(&mut tx, ids, self.old).await?;
        let served_after = testers(&mut tx, ids, self.new).await?;
        let read = books::of_accounts(&mut tx, ids, &self.used_up).await?;
        tx.commit().await.map_err(StorageError::from)?;
        let judged = read.into_iter().map(|(account, books)| {
            let tests = [&served_before, &served_after].map(|served| served.contains(&account));
            (account, self.judge_one(ground, books, tests))
        });
        Ok(judged.collect())
    }

    fn judge_one(&self, ground: &Ground<'_>, mut books: Books, tests: [bool; 2]) -> Judged {
        let by_both = |books: &mut Books| {
            let mut by =
                |catalog, tester| snapshot_of(catalog, books, tester, ground.leniency, ground.now);
            (by(self.old, tests[0]), by(self.new, tests[1]))
        };
        let (was, is) = by_both(&mut books);
        let mut held = books.holdings.iter();
        let out_of_reach = held.any(|held| is_out_of_reach(self.old, self.new, held));
        let mut held = books.holdings.iter();
        let mut later = held.any(|held| brings_nothing(self.old, self.new, held));
        if let Some(holdings) = once_paid(&books.holdings, ground.now) {
            books.holdings = holdings;
            let (was, is) = by_both(&mut books);
            later |= payer_loses(&was, &is);
        }
        let unseen = Unseen {
            out_of_reach,
            later,
        };
        Judged { was, is, unseen }
    }
}

/// What an account holds once everything that waits for money has it; `None` if nothing waits.
fn once_paid(holdings: &[Holding], now: Instant) -> Option<Vec<Holding>> {
    let paid: Vec<Option<Holding>> = holdings.iter().map(|held| paid_for(held, now)).collect();
    if paid.iter().all(Option::is_none) {
        return None;
    }
    let both = holdings.iter().zip(paid);
    Some(
        both.map(|(held, paid)| paid.unwrap_or_else(|| held.clone()))
            .collect(),
    )
}

/// Those of the accounts whom sandbox purchases serve while they serve some and not others.
pub(super) async fn testers(
    tx: &mut Tx<'_>,
    ids: &[AccountId],
    catalog: &Catalog,
) -> Result<Vec<AccountId>, StorageError> {
    match catalog.testers() {
        Some(names) if !names.is_empty() => books::named(tx, ids, names).await,
        Some(_) | None => Ok(Vec::new()),
    }
}
