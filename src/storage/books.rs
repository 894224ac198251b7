//! Everything that accounts are derived from, read for many of them at once: for counting what a
//! catalog would do, and for deriving all of them by a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::types::Json;
use tracing::warn;
use uuid::Uuid;

use super::accounts::Account;
use super::snapshots::Stored;
use super::{Db, StorageError, Tx, ledger};
use crate::domain::entitlement::{Grant, Snapshot};
use crate::domain::event::{Decision, SignalSource};
use crate::domain::holding::Holding;
use crate::domain::ids::{AccountId, CatalogVersion, Revision};
use crate::domain::provider::Environment;
use crate::domain::time::Instant;

/// One account's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) holdings: Vec<Holding>,
    pub(crate) grants: Vec<Grant>,
    /// Of credits, by environment.
    pub(crate) sums: Vec<(String, Environment, i64)>,
}

/// Accounts with a snapshot, by id, behind `after`.
pub(crate) async fn accounts(
    db: &Db,
    after: Option<AccountId>,
    limit: i64,
) -> Result<Vec<AccountId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select account_id from entitlement_snapshots where account_id > $1
           order by account_id limit $2"#,
        after.map_or(Uuid::nil(), |id| id.0),
        limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids.into_iter().map(AccountId).collect())
}

/// A transaction that reads everything as of one moment and writes nothing.
pub(crate) async fn look(db: &Db) -> Result<Tx<'static>, StorageError> {
    let mut tx = db.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

/// Everything below it is committed and seen by whoever reads from now on: a transaction horizon.
pub(crate) async fn horizon(db: &Db) -> Result<i64, StorageError> {
    let horizon = sqlx::query_scalar!(
        r#"select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as "horizon!""#
    )
    .fetch_one(db.pool())
    .await?;
    Ok(horizon)
}

/// Transactions below it had begun to write by now: whatever begins later is at or above it.
pub(crate) async fn begun(db: &Db) -> Result<i64, StorageError> {
    let begun = sqlx::query_scalar!(
        r#"select pg_snapshot_xmax(pg_current_snapshot())::text::bigint as "begun!""#
    )
    .fetch_one(db.pool())
    .await?;
    Ok(begun)
}

/// Accounts whose snapshot has changed at or above a horizon, by id, behind `after`.
pub(crate) async fn changed_since(
    db: &Db,
    horizon: i64,
    after: Option<AccountId>,
    limit: i64,
) -> Result<Vec<AccountId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select account_id from entitlement_snapshots
           where changed_xid >= $1 and account_id > $2 order by account_id limit $3"#,
        horizon,
        after.map_or(Uuid::nil(), |id| id.0),
        limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids.into_iter().map(AccountId).collect())
}

/// About how many accounts have a snapshot.
pub(crate) async fn count(db: &Db) -> Result<u64, StorageError> {
    let count = sqlx::query_scalar!(r#"select count(*) as "count!" from entitlement_snapshots"#)
        .fetch_one(db.pool())
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// What these accounts hold, were given and were credited with; without purchases of nothing but
/// `used_up` (`goods::used_up`). Every one of them has an entry.
pub(crate) async fn of_accounts(
    tx: &mut Tx<'_>,
    ids: &[AccountId],
    used_up: &[String],
) -> Result<BTreeMap<AccountId, Books>, StorageError> {
    let mut books: BTreeMap<AccountId, Books> =
        ids.iter().map(|id| (*id, Books::default())).collect();
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    for (account, held) in ledger::holdings_of(tx, &ids, used_up).await? {
        books.entry(account).or_default().holdings = held;
    }
    let grants = sqlx::query!(
        r#"select account_id, entitlement, expires_at from grants
           where account_id = any($1) and revoked_at is null order by created_at, id"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    for row in grants {
        let book = books.entry(row.account_id.into()).or_default();
        book.grants.push(Grant {
            entitlement: row.entitlement,
            expires_at: row.expires_at,
        });
    }
    let sums = sqlx::query!(
        r#"select account_id, credit, environment, sum(amount)::bigint as "sum!"
           from credit_entries where account_id = any($1)
           group by account_id, credit, environment order by credit, environment"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    for row in sums {
        let environment = Environment::parse(&row.environment)
            .ok_or_else(|| StorageError::Corrupt(format!("environment {:?}", row.environment)))?;
        let book = books.entry(row.account_id.into()).or_default();
        book.sums.push((row.credit, environment, row.sum));
    }
    Ok(books)
}

/// Which of these accounts have one of these names: `issuer:subject` or their id.
pub(crate) async fn named(
    tx: &mut Tx<'_>,
    ids: &[AccountId],
    names: &[String],
) -> Result<Vec<AccountId>, StorageError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let named = sqlx::query_scalar!(
        r#"select id as "id!" from unnest($1::uuid[]) as id where id::text = any($2) or exists
             (select 1 from account_identities
              where account_id = id and issuer || ':' || subject = any($2))"#,
        &ids,
        names
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(named.into_iter().map(AccountId).collect())
}

/// Accounts that are taken together, by id: behind `after`, up to `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) after: Option<AccountId>,
    pub(crate) until: Option<AccountId>,
    pub(crate) limit: i64,
}

/// An account that an older catalog has derived, under lock with its snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Behind {
    pub(crate) account: Account,
    pub(crate) revision: Revision,
    /// `None`: this version cannot read it. Whatever it said, it is derived anew.
    pub(crate) snapshot: Option<Snapshot>,
}

/// Locks accounts that an older catalog than `version` has derived and that nobody else has under
/// lock: no settle is waited for, and two workers never take the same. Without those that could not
/// be derived and whose time to be tried again has not come.
pub(crate) async fn take_behind(
    tx: &mut Tx<'_>,
    version: CatalogVersion,
    range: Range,
) -> Result<Vec<Behind>, StorageError> {
    let rows = sqlx::query!(
        r#"select a.id, s.revision, s.body as "body: Json<Box<RawValue>>",
                  case when a.erased_at is not null then '' else
                      coalesce((select token from store_tokens where account_id = a.id
                                order by kind <> 'issued', created_at, token limit 1), '') end
                  as "token!"
           from entitlement_snapshots s join accounts a on a.id = s.account_id
           where s.catalog_version < $1 and s.account_id > $2 and s.account_id <= $3
             and a.merged_into is null
             and (s.underived_by is null or s.underived_by < $1
                  or s.underived_until <= clock_timestamp())
           order by s.account_id limit $4
           for update of a, s skip locked"#,
        version.0,
        range.after.map_or(Uuid::nil(), |id| id.0),
        range.until.map_or(Uuid::max(), |id| id.0),
        range.limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let behind = rows.into_iter().map(|row| Behind {
        account: Account {
            id: row.id.into(),
            store_token: row.token,
        },
        revision: Revision(row.revision),
        snapshot: serde_json::from_str(row.body.get())
            .inspect_err(|error| warn!(account = %row.id, %error, "an unreadable snapshot"))
            .ok(),
    });
    Ok(behind.collect())
}

/// Says that `version` cannot derive the account, and that it is not tried again before `pause` has
/// passed.
pub(crate) async fn mark_underived(
    db: &Db,
    account: AccountId,
    version: CatalogVersion,
    pause: Duration,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update entitlement_snapshots
           set underived_by = $2, underived_until = clock_timestamp() + make_interval(secs => $3)
           where account_id = $1 and catalog_version < $2"#,
        account.0,
        version.0,
        pause.as_secs_f64()
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// Whether an older catalog than `version` has derived the account.
pub(crate) async fn is_behind(
    db: &Db,
    account: AccountId,
    version: CatalogVersion,
) -> Result<bool, StorageError> {
    let behind = sqlx::query_scalar!(
        r#"select exists (select 1 from entitlement_snapshots
                          where account_id = $1 and catalog_version < $2) as "behind!""#,
        account.0,
        version.0
    )
    .fetch_one(db.pool())
    .await?;
    Ok(behind)
}

/// The same snapshots, derived by a newer catalog: no new revisions. Each with its next transition.
pub(crate) async fn touch(
    tx: &mut Tx<'_>,
    same: &[(AccountId, Option<Instant>)],
    catalog: CatalogVersion,
) -> Result<(), StorageError> {
    if same.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = same.iter().map(|(id, _)| id.0).collect();
    let next: Vec<Option<Instant>> = same.iter().map(|(_, next)| *next).collect();
    sqlx::query!(
        r#"update entitlement_snapshots s
           set next_transition_at = same.next, catalog_version = $3
           from unnest($1::uuid[], $2::timestamptz[]) as same (id, next)
           where s.account_id = same.id"#,
        &ids,
        &next as _,
        catalog.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Why snapshots are renewed, told in the event of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renewal {
    pub(crate) source: SignalSource,
    pub(crate) decision: Decision,
    pub(crate) catalog: CatalogVersion,
    /// Business time.
    pub(crate) at: Instant,
}

/// Writes the next revisions of accounts that are under lock, all in one statement: the snapshot,
/// its place in the history, and the event that tells it. Each follows the revision that is there,
/// or nothing is written at all.
pub(crate) async fn renew(
    tx: &mut Tx<'_>,
    renewed: &[&Stored],
    why: Renewal,
) -> Result<(), StorageError> {
    if renewed.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = renewed.iter().map(|stored| stored.account.0).collect();
    let revisions: Vec<i64> = renewed.iter().map(|stored| stored.revision.0).collect();
    let bodies: Vec<Json<&Snapshot>> = renewed
        .iter()
        .map(|stored| Json(&stored.snapshot))
        .collect();
    let next: Vec<Option<Instant>> = renewed
        .iter()
        .map(|stored| stored.snapshot.next_transition_at)
        .collect();
    let (decision, reason) = why.decision.words();
    let told = sqlx::query!(
        r#"with renewed as (
               select * from unnest($1::uuid[], $2::bigint[], $3::jsonb[], $4::timestamptz[])
                   as renewed (account_id, revision, body, next)
           ), written as (
               update entitlement_snapshots s
               set revision = r.revision, body = r.body, next_transition_at = r.next,
                   catalog_version = $5::bigint, changed_xid = pg_current_xact_id()::text::bigint
               from renewed r
               where s.account_id = r.account_id and s.revision = r.revision - 1
               returning s.account_id, s.revision, s.body
           ), kept as (
               insert into snapshot_history (account_id, revision, at, catalog_version, body)
               select account_id, revision, $6::timestamptz, $5::bigint, body from written
               on conflict do nothing
           )
           insert into subscription_events
               (account_id, at, source, decision, reason, revision, catalog_version)
           select account_id, $6::timestamptz, $7::text, $8::text, $9::text, revision, $5::bigint
           from written"#,
        &ids,
        &revisions,
        &bodies as _,
        &next as _,
        why.catalog.0,
        why.at,
        why.source.as_str(),
        decision,
        reason
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    match usize::try_from(told) == Ok(renewed.len()) {
        true => Ok(()),
        false => Err(StorageError::Conflict(format!(
            "{told} of {} snapshots were where they had been read",
            renewed.len()
        ))),
    }
}
