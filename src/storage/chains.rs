//! Purchase chains: found by alias, marked dirty, locked, settled.

use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::chain::{Alias, AliasKind, AppId};
use crate::domain::event::SignalSource;
use crate::domain::ids::{AccountId, CatalogVersion, ChainId};
use crate::domain::ownership::Owner;
use crate::domain::provider::Provider;
use crate::domain::time::Instant;

/// A chain's row under its lock.
#[derive(Clone, Debug)]
pub(crate) struct Locked {
    pub(crate) id: ChainId,
    pub(crate) head: Alias,
    pub(crate) owner: Option<Owner>,
    pub(crate) store_away: bool,
    /// When the account that owned it was erased.
    pub(crate) detached_at: Option<Instant>,
    /// Its store's record named an account that was erased since.
    pub(crate) names_erased: bool,
    pub(crate) claim_no: i64,
    pub(crate) created_at: Instant,
}

/// Where a chain stands, for a caller that waits for its own signal to be worked in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) synced_seq: i64,
    /// Every signal so far is worked in.
    pub(crate) in_sync: bool,
    /// No hint of the store can move it: not provisional, not transferred.
    pub(crate) owner_is_settled: bool,
    pub(crate) owner: Option<AccountId>,
    pub(crate) owner_is_anonymous: bool,
    pub(crate) lives_in: ChainId,
}

pub(super) fn alias(
    provider: &str,
    app: String,
    kind: &str,
    value: String,
) -> Result<Alias, StorageError> {
    let provider = Provider::parse(provider)
        .ok_or_else(|| StorageError::Corrupt(format!("provider {provider:?}")))?;
    let kind = AliasKind::parse(kind)
        .ok_or_else(|| StorageError::Corrupt(format!("alias kind {kind:?}")))?;
    Ok(Alias {
        provider,
        app: AppId(app),
        kind,
        value,
    })
}

/// The chain that an alias names, if it is known.
pub(crate) async fn find(tx: &mut Tx<'_>, alias: &Alias) -> Result<Option<ChainId>, StorageError> {
    let id = sqlx::query_scalar!(
        r#"select chain_id from chain_aliases
           where provider = $1 and app = $2 and kind = $3 and value = $4"#,
        alias.provider.as_str(),
        alias.app.0,
        alias.kind.as_str(),
        alias.value
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(id.map(ChainId))
}

/// The chain that an alias names, created unowned on its first signal. Safe to race.
pub(crate) async fn find_or_create(
    tx: &mut Tx<'_>,
    alias: &Alias,
    now: Instant,
) -> Result<ChainId, StorageError> {
    if let Some(id) = find(tx, alias).await? {
        return Ok(id);
    }
    if let Some(id) = create(tx, alias, now).await? {
        return Ok(id);
    }
    find(tx, alias)
        .await?
        .ok_or_else(|| StorageError::Conflict("an alias came and went".into()))
}

/// A new chain, unowned; `None` if another transaction named it first and has committed: its chain
/// is the one.
pub(crate) async fn create(
    tx: &mut Tx<'_>,
    alias: &Alias,
    now: Instant,
) -> Result<Option<ChainId>, StorageError> {
    let id = ChainId(Uuid::now_v7());
    sqlx::query!(
        r#"insert into purchase_chains (id, provider, app, head_kind, head_value, created_at)
           values ($1, $2, $3, $4, $5, $6)"#,
        id.0,
        alias.provider.as_str(),
        alias.app.0,
        alias.kind.as_str(),
        alias.value,
        now
    )
    .execute(&mut **tx)
    .await?;
    if add_alias(tx, id, alias).await? {
        return Ok(Some(id));
    }
    sqlx::query!("delete from purchase_chains where id = $1", id.0)
        .execute(&mut **tx)
        .await?;
    Ok(None)
}

/// Adds an alias; `false` if it names a chain already.
pub(crate) async fn add_alias(
    tx: &mut Tx<'_>,
    id: ChainId,
    alias: &Alias,
) -> Result<bool, StorageError> {
    let added = sqlx::query!(
        r#"insert into chain_aliases (provider, app, kind, value, chain_id)
           values ($1, $2, $3, $4, $5) on conflict do nothing"#,
        alias.provider.as_str(),
        alias.app.0,
        alias.kind.as_str(),
        alias.value,
        id.0
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok(added == 1)
}

/// Makes sure that an alias names this chain. If it came to name another one since the caller
/// looked, that is a conflict: the two are to be joined.
pub(crate) async fn own_alias(
    tx: &mut Tx<'_>,
    id: ChainId,
    alias: &Alias,
) -> Result<(), StorageError> {
    if add_alias(tx, id, alias).await? || find(tx, alias).await? == Some(id) {
        Ok(())
    } else {
        Err(StorageError::Conflict(
            "an alias names another chain by now".into(),
        ))
    }
}

pub(crate) async fn aliases(db: &Db, id: ChainId) -> Result<Vec<Alias>, StorageError> {
    let rows = sqlx::query!(
        "select provider, app, kind, value from chain_aliases where chain_id = $1",
        id.0
    )
    .fetch_all(db.pool())
    .await?;
    rows.into_iter()
        .map(|row| alias(&row.provider, row.app, &row.kind, row.value))
        .collect()
}

/// Marks a chain dirty; the number is what a waiter waits for. Back-off is kept; work is taken in
/// the order in which it came; a waiting bind stays a bind, and what an operator doubts is read whole.
///
/// A chain that was merged in the meantime is a conflict: look its alias up again.
pub(crate) async fn mark_dirty(
    tx: &mut Tx<'_>,
    id: ChainId,
    source: SignalSource,
) -> Result<i64, StorageError> {
    sqlx::query_scalar!(
        r#"update purchase_chains
           set dirty_seq = dirty_seq + 1,
               dirty_source = case when dirty_seq > synced_seq
                                     and (dirty_source = 'operator'
                                          or dirty_source = 'proof' and $2 <> 'operator')
                                   then dirty_source else $2 end,
               not_before = case when dirty_seq > synced_seq then not_before
                                 else greatest(not_before, clock_timestamp()) end
           where id = $1 and merged_into is null returning dirty_seq"#,
        id.0,
        source.as_str()
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or_else(|| StorageError::Conflict("the chain was merged meanwhile".into()))
}

/// Marks up to `limit` chains of an account dirty: those that are read by schedule first, then the
/// newest. Runs again when it loses to a settle.
pub(crate) async fn mark_account_dirty(
    db: &Db,
    account: AccountId,
    source: SignalSource,
    limit: i64,
) -> Result<Vec<(ChainId, i64)>, StorageError> {
    for _ in 0..3 {
        match try_mark_account_dirty(db, account, source, limit).await {
            Err(StorageError::Conflict(_)) => {}
            other => return other,
        }
    }
    try_mark_account_dirty(db, account, source, limit).await
}

async fn try_mark_account_dirty(
    db: &Db,
    account: AccountId,
    source: SignalSource,
    limit: i64,
) -> Result<Vec<(ChainId, i64)>, StorageError> {
    let rows = sqlx::query!(
        r#"update purchase_chains
           set dirty_seq = dirty_seq + 1,
               dirty_source = case when dirty_seq > synced_seq
                                     and (dirty_source = 'operator'
                                          or dirty_source = 'proof' and $2 <> 'operator')
                                   then dirty_source else $2 end
           where id in (select id from purchase_chains where id in (
                            select id from purchase_chains
                            where owner_account_id = $1 and merged_into is null
                            order by next_check_at is null, created_at desc limit $3)
                        order by id for update)
           returning id, dirty_seq"#,
        account.0,
        source.as_str(),
        limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id.into(), row.dirty_seq))
        .collect())
}

pub(crate) async fn progress(db: &Db, id: ChainId, now: Instant) -> Result<Progress, StorageError> {
    let row = sqlx::query!(
        r#"select c.synced_seq, m.owner_account_id, m.id as lives_in,
                  m.synced_seq >= m.dirty_seq as "in_sync!",
                  coalesce(m.owner_provisional_until <= $2, true) and not m.owner_transferred
                      as "owner_is_settled!",
                  exists (select 1 from account_identities i
                          where i.account_id = m.owner_account_id and i.retired_at is null)
                  and not exists (select 1 from account_identities i
                          where i.account_id = m.owner_account_id and i.retired_at is null
                            and not i.anonymous)
                      as "owner_is_anonymous!"
           from purchase_chains c join purchase_chains m on m.id = coalesce(c.merged_into, c.id)
           where c.id = $1"#,
        id.0,
        now
    )
    .fetch_one(db.pool())
    .await?;
    Ok(Progress {
        synced_seq: row.synced_seq,
        in_sync: row.in_sync,
        owner_is_settled: row.owner_is_settled,
        owner: row.owner_account_id.map(AccountId),
        owner_is_anonymous: row.owner_is_anonymous,
        lives_in: row.lives_in.into(),
    })
}

/// Locks chains in id order; the first half of every settle's lock order.
pub(crate) async fn lock(tx: &mut Tx<'_>, ids: &[ChainId]) -> Result<Vec<Locked>, StorageError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select id, provider, app, head_kind, head_value, owner_account_id, owner_since,
                  owner_provisional_until, owner_transferred, store_away, detached_at,
                  names_erased, claim_no, created_at
           from purchase_chains where id = any($1) and merged_into is null order by id for update"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let owner = row
                .owner_account_id
                .zip(row.owner_since)
                .map(|(account, since)| Owner {
                    account: AccountId(account),
                    since,
                    provisional_until: row.owner_provisional_until,
                    transferred: row.owner_transferred,
                });
            Ok(Locked {
                id: row.id.into(),
                head: alias(&row.provider, row.app, &row.head_kind, row.head_value)?,
                owner,
                store_away: row.store_away,
                detached_at: row.detached_at,
                names_erased: row.names_erased,
                claim_no: row.claim_no,
                created_at: row.created_at,
            })
        })
        .collect()
}

/// Whose a chain is, and whether its store could not be asked when its period ended; without a lock.
pub(crate) async fn owner(
    tx: &mut Tx<'_>,
    id: ChainId,
) -> Result<(Option<Owner>, bool), StorageError> {
    let row = sqlx::query!(
        r#"select owner_account_id, owner_since, owner_provisional_until, owner_transferred,
                  store_away
           from purchase_chains where id = $1"#,
        id.0
    )
    .fetch_one(&mut **tx)
    .await?;
    let owner = row
        .owner_account_id
        .zip(row.owner_since)
        .map(|(account, since)| Owner {
            account: AccountId(account),
            since,
            provisional_until: row.owner_provisional_until,
            transferred: row.owner_transferred,
        });
    Ok((owner, row.store_away))
}

/// When the account that owned a chain was erased.
pub(crate) async fn detached_at(
    tx: &mut Tx<'_>,
    id: ChainId,
) -> Result<Option<Instant>, StorageError> {
    let at = sqlx::query_scalar!(
        "select detached_at from purchase_chains where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(at.flatten())
}

/// What settle writes into the chain's row.
#[derive(Debug)]
pub(crate) struct Settled<'a> {
    pub(crate) id: ChainId,
    pub(crate) head: &'a Alias,
    pub(crate) owner: Option<Owner>,
    pub(crate) store_away: bool,
    pub(crate) detached_at: Option<Instant>,
    pub(crate) next_check_at: Option<Instant>,
    /// `None` leaves the chain dirty: the store is still to be asked.
    pub(crate) synced_seq: Option<i64>,
    /// The newest catalog that the caller has seen; `None`: it decides nothing by a catalog.
    pub(crate) catalog: Option<CatalogVersion>,
}

/// Writes the chain's row; `false`: a newer catalog has become active since the caller looked, and
/// nothing was written.
pub(crate) async fn settle(tx: &mut Tx<'_>, settled: &Settled<'_>) -> Result<bool, StorageError> {
    let written = sqlx::query!(
        r#"update purchase_chains
           set head_kind = $2, head_value = $3, owner_account_id = $4, owner_since = $5,
               owner_provisional_until = $6, owner_transferred = $7, store_away = $8,
               next_check_at = $9, detached_at = $11,
               synced_seq = greatest(synced_seq, coalesce($10, synced_seq)),
               failures = case when $10::bigint is null then failures else 0 end,
               not_before = case when $10::bigint is null then not_before else '-infinity' end,
               lease_until = case when $10::bigint is null then lease_until else '-infinity' end
           where id = $1
             and ($12::bigint is null
                  or $12 >= (select coalesce(max(version), 0) from catalog_versions))"#,
        settled.id.0,
        settled.head.kind.as_str(),
        settled.head.value,
        settled.owner.map(|owner| owner.account.0),
        settled.owner.map(|owner| owner.since),
        settled.owner.and_then(|owner| owner.provisional_until),
        settled.owner.is_some_and(|owner| owner.transferred),
        settled.store_away,
        settled.next_check_at,
        settled.synced_seq,
        settled.detached_at,
        settled.catalog.map(|version| version.0)
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok(written > 0)
}

/// How many chains have work that waits.
pub(crate) async fn backlog(db: &Db, now: Instant) -> Result<i64, StorageError> {
    let waiting = sqlx::query_scalar!(
        r#"select count(*) as "count!" from purchase_chains
           where merged_into is null and (dirty_seq > synced_seq or next_check_at <= $1)"#,
        now
    )
    .fetch_one(db.pool())
    .await?;
    Ok(waiting)
}
