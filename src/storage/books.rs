//! Everything that accounts are derived from, read for many of them at once: for counting what a
//! catalog would do, and for deriving all of them by a new one.

use std::collections::BTreeMap;

use sqlx::types::Json;
use uuid::Uuid;

use super::accounts::Account;
use super::ledger::Former;
use super::{Db, StorageError, Tx};
use crate::domain::entitlement::{Grant, Snapshot};
use crate::domain::holding::{Chain, Holding};
use crate::domain::ids::{AccountId, CatalogVersion, Revision};
use crate::domain::provider::{Environment, Provider};
use crate::domain::subscription::guard::Known;
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

/// About how many accounts have a snapshot.
pub(crate) async fn count(db: &Db) -> Result<u64, StorageError> {
    let count = sqlx::query_scalar!(r#"select count(*) as "count!" from entitlement_snapshots"#)
        .fetch_one(db.pool())
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Accounts that an older catalog than `version` has derived, by id, behind `after`.
pub(crate) async fn behind(
    db: &Db,
    version: CatalogVersion,
    after: Option<AccountId>,
    limit: i64,
) -> Result<Vec<AccountId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select account_id from entitlement_snapshots
           where catalog_version < $1 and account_id > $2 order by account_id limit $3"#,
        version.0,
        after.map_or(Uuid::nil(), |id| id.0),
        limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids.into_iter().map(AccountId).collect())
}

/// Locks those of the accounts that nobody else has under lock: a settle is not waited for.
pub(crate) async fn lock_free(
    tx: &mut Tx<'_>,
    ids: &[AccountId],
) -> Result<Vec<Account>, StorageError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let free = sqlx::query_scalar!(
        "select id from accounts where id = any($1) order by id for update skip locked",
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let free: Vec<AccountId> = free.into_iter().map(AccountId).collect();
    super::accounts::lock(tx, &free).await
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
    holdings(tx, &ids, used_up, &mut books).await?;
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

/// The same as `ledger::holdings`, of many accounts.
async fn holdings(
    tx: &mut Tx<'_>,
    ids: &[Uuid],
    used_up: &[String],
    books: &mut BTreeMap<AccountId, Books>,
) -> Result<(), StorageError> {
    let rows = sqlx::query!(
        r#"with mine as (
               select owner_account_id as account_id, id, null::timestamptz as away_since
               from purchase_chains where owner_account_id = any($1)
               union all
               select o.from_account_id, whole.id, max(o.at) from ownership_changes o
               join purchase_chains c on c.id = o.chain_id
               join purchase_chains whole on whole.id = coalesce(c.merged_into, c.id)
               where o.from_account_id = any($1)
                 and whole.owner_account_id is distinct from o.from_account_id
               group by o.from_account_id, whole.id
           )
           select mine.account_id as "account_id!", c.provider, c.store_away,
                  s.known as "known: Json<Known>", mine.away_since,
                  (select jsonb_agg(jsonb_build_object('product', f.product, 'ended_at', f.ended_at))
                   from (select jsonb_build_object('product_id', product_id,
                                                   'base_plan_id', base_plan_id) as product,
                                max(expires_at) as ended_at
                         from transactions t
                         where t.chain_id = c.id and kind <> 'refund' and expires_at is not null
                         group by 1) f) as "former: Json<Vec<Former>>"
           from mine join purchase_chains c on c.id = mine.id
                join store_subscription_state s on s.chain_id = c.id
           where s.bought_once is null or not s.bought_once <@ $2
           order by c.created_at, c.id"#,
        ids,
        used_up
    )
    .fetch_all(&mut **tx)
    .await?;
    for row in rows {
        let provider = Provider::parse(&row.provider)
            .ok_or_else(|| StorageError::Corrupt(format!("provider {:?}", row.provider)))?;
        let chain = Chain {
            provider,
            store_away: row.store_away,
            away_since: row.away_since,
            known: row.known.0,
        };
        let former = row.former.map(|json| json.0).unwrap_or_default();
        let former = former.into_iter().map(|was| (was.product, was.ended_at));
        let book = books.entry(row.account_id.into()).or_default();
        book.holdings.extend(chain.holdings(former));
    }
    Ok(())
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

/// A snapshot under its account's lock.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) account: AccountId,
    pub(crate) revision: Revision,
    pub(crate) snapshot: Snapshot,
    pub(crate) catalog: CatalogVersion,
}

/// The snapshots of accounts that are under lock.
pub(crate) async fn current(
    tx: &mut Tx<'_>,
    ids: &[AccountId],
) -> Result<Vec<Current>, StorageError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select account_id, revision, catalog_version, body as "body: Json<Snapshot>"
           from entitlement_snapshots where account_id = any($1)"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let current = rows.into_iter().map(|row| Current {
        account: row.account_id.into(),
        revision: Revision(row.revision),
        snapshot: row.body.0,
        catalog: CatalogVersion(row.catalog_version),
    });
    Ok(current.collect())
}

/// The same snapshots, derived by a newer catalog: no new revisions. Each with its next transition.
pub(crate) async fn touch(
    tx: &mut Tx<'_>,
    same: &[(AccountId, Option<Instant>)],
    catalog: CatalogVersion,
) -> Result<(), StorageError> {
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
