//! Goods that a backend hands out itself: exactly one claim of each, then the store is told.

use uuid::Uuid;

use super::{Core, goods};
use crate::domain::api_key::AppScope;
use crate::domain::ids::AccountId;
use crate::domain::time::Instant;
pub(crate) use crate::storage::deliveries::{Listed, Named};
use crate::storage::{StorageError, chains, deliveries, ledger};

const ATTEMPTS_MAX: u32 = 4;

/// Why goods may not be handed out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Not there, or another account's: which of the two is not told.
    #[error("the account has no such delivery")]
    NotFound,
    #[error("it was claimed with another key")]
    Claimed,
    #[error("the store took the purchase back")]
    Revoked,
    #[error("the key has claimed another delivery")]
    KeyReused,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Claims a delivery of an account, of those apps, for whoever names `key`, once and for ever: the same key again
/// gets the same answer, any other is refused.
pub(crate) async fn claim_delivery(
    core: &Core,
    account: AccountId,
    (named, apps): (Named<'_>, &AppScope),
    key: &str,
) -> Result<Listed, ClaimError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_claim(core, account, (named, apps), key).await {
            Err(ClaimError::Storage(StorageError::Conflict(_))) if attempt < ATTEMPTS_MAX => {}
            other => return other,
        }
    }
}

async fn try_claim(
    core: &Core,
    account: AccountId,
    (named, apps): (Named<'_>, &AppScope),
    key: &str,
) -> Result<Listed, ClaimError> {
    let now = core.clock.now();
    let mut tx = core.db.begin().await?;
    let seen = deliveries::find(&mut tx, account, named, apps).await?;
    let seen = seen.ok_or(ClaimError::NotFound)?;
    // Chain first, as everywhere; what it says then is what counts.
    let Some(locked) = chains::lock(&mut tx, &[seen.chain]).await?.pop() else {
        return Err(StorageError::Conflict("the purchase became part of another".into()).into());
    };
    let row = deliveries::find(&mut tx, account, Named::Id(seen.id), apps).await?;
    let row = row.ok_or(ClaimError::NotFound)?;
    match (&row.claim_key, row.revoked_at) {
        (Some(claimed), _) if claimed == key => return Ok(row),
        (Some(_), _) => return Err(ClaimError::Claimed),
        (None, Some(_)) => return Err(ClaimError::Revoked),
        (None, None) => {}
    }
    if !deliveries::claim(&mut tx, row.id, key, now).await? {
        return Err(ClaimError::KeyReused);
    }
    if let (Some(owner), Some(known)) = (locked.owner, ledger::known(&mut tx, seen.chain).await?) {
        let chain = (seen.chain, locked.head.provider);
        let catalog = core.catalog.load_full();
        goods::tell_store(&mut tx, chain, &known.state, owner.account, &catalog, now).await?;
    }
    tx.commit().await.map_err(StorageError::from)?;
    core.duties.notify_one();
    Ok(Listed {
        claimed_at: Some(now),
        claim_key: Some(key.to_owned()),
        ..row
    })
}

/// What is to be handed out, oldest first; of one account or of all.
pub(crate) async fn list_deliveries(
    core: &Core,
    account: Option<AccountId>,
    apps: &AppScope,
    after: Option<(Instant, Uuid)>,
    limit: i64,
) -> Result<Vec<Listed>, StorageError> {
    deliveries::open(&core.db, account, apps, after, limit).await
}
