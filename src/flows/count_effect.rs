//! What a catalog would do to every account, counted without writing anything: each is derived by
//! the active catalog and by the new one, from the books as they are.

use tracing::error;

use super::derive::snapshot_of;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::effect::{Effect, is_out_of_reach};
use crate::domain::goods;
use crate::domain::ids::AccountId;
use crate::domain::subscription::state::Leniency;
use crate::domain::time::Instant;
use crate::storage::{Db, StorageError, Tx, books};

/// Accounts that are read at one moment.
const BATCH: i64 = 500;

/// What a look at accounts needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) db: &'a Db,
    pub(crate) leniency: Leniency,
    pub(crate) now: Instant,
}

/// Counts every account that ever had something. Each batch is read at one moment: what changes
/// meanwhile is counted as it was or as it is.
pub(crate) async fn count_effect(
    ground: &Ground<'_>,
    old: &Catalog,
    new: &Catalog,
    mut progress: impl FnMut(u64, u64),
) -> Result<Effect, StorageError> {
    let total = books::count(ground.db).await?;
    let (before, after) = (goods::used_up(old), goods::used_up(new));
    let used_up: Vec<String> = before
        .into_iter()
        .filter(|name| after.contains(name))
        .collect();
    let mut effect = Effect::default();
    let mut last = None;
    loop {
        let ids = books::accounts(ground.db, last, BATCH).await?;
        let Some(end) = ids.last() else {
            return Ok(effect);
        };
        last = Some(*end);
        match count_batch(ground, (old, new), &ids, &used_up, &mut effect).await {
            Err(StorageError::Corrupt(_) | StorageError::Other(_)) => {
                for id in ids {
                    let one = count_batch(ground, (old, new), &[id], &used_up, &mut effect).await;
                    if let Err(error) = one {
                        error!(account = %id, %error, "an account cannot be counted");
                        effect.unreadable += 1;
                    }
                }
            }
            counted => counted?,
        }
        progress(effect.accounts, total.max(effect.accounts));
    }
}

/// Counts nothing if one of them cannot be read.
async fn count_batch(
    ground: &Ground<'_>,
    (old, new): (&Catalog, &Catalog),
    ids: &[AccountId],
    used_up: &[String],
    effect: &mut Effect,
) -> Result<(), StorageError> {
    let mut tx = books::look(ground.db).await?;
    let served_before = testers(&mut tx, ids, old).await?;
    let served_after = testers(&mut tx, ids, new).await?;
    let read = books::of_accounts(&mut tx, ids, used_up).await?;
    tx.commit().await.map_err(StorageError::from)?;
    for (account, mut books) in read {
        let mut by = |catalog, served: &[AccountId]| {
            let tester = served.contains(&account);
            snapshot_of(catalog, &mut books, tester, ground.leniency, ground.now)
        };
        let was = by(old, &served_before);
        let is = by(new, &served_after);
        let mut held = books.holdings.iter();
        let out_of_reach = held.any(|held| is_out_of_reach(old, new, held));
        effect.count(&was, &is, out_of_reach);
    }
    Ok(())
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
