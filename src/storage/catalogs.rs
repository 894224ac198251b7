//! Applied catalogs: numbered versions, the newest is active on every replica. Each with its story,
//! and how far accounts have come with it.

use sqlx::types::Json;
use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::catalog::effect::Effect;
use crate::domain::chain::StoreProduct;
use crate::domain::event::SignalSource;
use crate::domain::ids::{AccountId, CatalogVersion, ChainId};
use crate::domain::provider::{Environment, Provider};
use crate::domain::time::Instant;

/// So many are named of accounts that cannot be derived.
const UNDERIVED_NAMED: i64 = 5;

/// A catalog as applied: TOML.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) version: CatalogVersion,
    pub(crate) body: String,
}

/// How a version came to be.
#[derive(Clone, Debug)]
pub(crate) struct NewVersion<'a> {
    pub(crate) body: &'a str,
    /// start, apply, rollback, dev
    pub(crate) origin: &'static str,
    pub(crate) actor: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) copy_of: Option<CatalogVersion>,
    pub(crate) effect: Option<&'a Effect>,
    pub(crate) confirmed_loss: Option<u64>,
    pub(crate) at: Instant,
}

/// A version's story.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) version: CatalogVersion,
    pub(crate) applied_at: Instant,
    pub(crate) origin: String,
    pub(crate) actor: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) copy_of: Option<CatalogVersion>,
    pub(crate) effect: Option<Effect>,
    pub(crate) confirmed_loss: Option<i64>,
    /// Snapshots there were when it was applied.
    pub(crate) accounts: Option<i64>,
    pub(crate) looked_again: i64,
    pub(crate) finished_at: Option<Instant>,
}

pub(crate) async fn newest(db: &Db) -> Result<Option<Applied>, StorageError> {
    let row =
        sqlx::query!("select version, body from catalog_versions order by version desc limit 1")
            .fetch_optional(db.pool())
            .await?;
    Ok(row.map(|row| Applied {
        version: CatalogVersion(row.version),
        body: row.body,
    }))
}

pub(crate) async fn newest_version(db: &Db) -> Result<Option<CatalogVersion>, StorageError> {
    let version = sqlx::query_scalar!("select max(version) from catalog_versions")
        .fetch_one(db.pool())
        .await?;
    Ok(version.map(CatalogVersion))
}

pub(crate) async fn get(db: &Db, version: CatalogVersion) -> Result<Option<Applied>, StorageError> {
    let row = sqlx::query!(
        "select body from catalog_versions where version = $1",
        version.0
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| Applied {
        version,
        body: row.body,
    }))
}

/// The newest version with exactly this text, if it has ever been one.
pub(crate) async fn with_body(db: &Db, body: &str) -> Result<Option<CatalogVersion>, StorageError> {
    let version = sqlx::query_scalar!(
        "select max(version) from catalog_versions where body = $1",
        body
    )
    .fetch_one(db.pool())
    .await?;
    Ok(version.map(CatalogVersion))
}

/// The right to add a version, held by one at a time; dropped, nothing is added.
#[derive(Debug)]
pub(crate) struct Adding {
    tx: Tx<'static>,
    newest: Option<CatalogVersion>,
}

impl Adding {
    /// Waits until nobody else has it. Readers and settles are not held up.
    pub(crate) async fn begin(db: &Db) -> Result<Self, StorageError> {
        let mut tx = db.begin().await?;
        sqlx::query!("lock table catalog_versions in exclusive mode")
            .execute(&mut *tx)
            .await?;
        let newest = sqlx::query_scalar!("select max(version) from catalog_versions")
            .fetch_one(&mut *tx)
            .await?
            .map(CatalogVersion);
        Ok(Self { tx, newest })
    }

    /// The active version: it stays so as long as this is held.
    pub(crate) fn newest(&self) -> Option<CatalogVersion> {
        self.newest
    }

    /// Adds a version, which is active from then on.
    pub(crate) async fn write(
        mut self,
        new: &NewVersion<'_>,
    ) -> Result<CatalogVersion, StorageError> {
        let version = sqlx::query_scalar!(
            r#"insert into catalog_versions (body, applied_at, origin, applied_by, reason, copy_of,
                   effect, confirmed_loss, accounts, finished_at)
               values ($1, $2, $3, $4, $5, $6, $7, $8,
                       (select count(*) from entitlement_snapshots),
                       -- Whoever has nothing yet may be having a purchase decided.
                       (select $2::timestamptz
                        where not exists (select 1 from catalog_versions)))
               returning version"#,
            new.body,
            new.at,
            new.origin,
            new.actor,
            new.reason,
            new.copy_of.map(|version| version.0),
            new.effect.map(Json) as _,
            new.confirmed_loss
                .map(|loss| i64::try_from(loss).unwrap_or(i64::MAX))
        )
        .fetch_one(&mut *self.tx)
        .await?;
        self.tx.commit().await?;
        Ok(CatalogVersion(version))
    }
}

/// Stories of versions up to `until` (inclusive), the newest first.
pub(crate) async fn stories(
    db: &Db,
    until: Option<CatalogVersion>,
    limit: i64,
) -> Result<Vec<Told>, StorageError> {
    let rows = sqlx::query!(
        r#"select version, applied_at, origin, applied_by, reason, copy_of,
                  effect as "effect: Json<Effect>", confirmed_loss, accounts, looked_again,
                  finished_at
           from catalog_versions where $1::bigint is null or version <= $1
           order by version desc limit $2"#,
        until.map(|version| version.0),
        limit
    )
    .fetch_all(db.pool())
    .await?;
    let told = rows.into_iter().map(|row| Told {
        version: CatalogVersion(row.version),
        applied_at: row.applied_at,
        origin: row.origin,
        actor: row.applied_by,
        reason: row.reason,
        copy_of: row.copy_of.map(CatalogVersion),
        effect: row.effect.map(|effect| effect.0),
        confirmed_loss: row.confirmed_loss,
        accounts: row.accounts,
        looked_again: row.looked_again,
        finished_at: row.finished_at,
    });
    Ok(told.collect())
}

/// Snapshots that an older catalog than `version` has derived.
pub(crate) async fn behind(db: &Db, version: CatalogVersion) -> Result<i64, StorageError> {
    let behind = sqlx::query_scalar!(
        r#"select count(*) as "behind!" from entitlement_snapshots where catalog_version < $1"#,
        version.0
    )
    .fetch_one(db.pool())
    .await?;
    Ok(behind)
}

/// Accounts that a catalog cannot derive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Underived {
    pub(crate) count: i64,
    /// The first few of them, by id.
    pub(crate) some: Vec<AccountId>,
}

/// Accounts that neither `version` nor a newer one could derive when it was last tried.
pub(crate) async fn underived(db: &Db, version: CatalogVersion) -> Result<Underived, StorageError> {
    let row = sqlx::query!(
        r#"with them as (
               select account_id from entitlement_snapshots
               where catalog_version < $1 and underived_by >= $1
           )
           select (select count(*) from them) as "count!",
                  array(select account_id from them order by account_id limit $2) as "some!: Vec<Uuid>"
           "#,
        version.0,
        UNDERIVED_NAMED
    )
    .fetch_one(db.pool())
    .await?;
    Ok(Underived {
        count: row.count,
        some: row.some.into_iter().map(AccountId).collect(),
    })
}

/// Whether there are accounts that an older catalog than `version` has derived, besides those that
/// could not be derived by it and whose time to be tried again has not come.
pub(crate) async fn any_left(db: &Db, version: CatalogVersion) -> Result<bool, StorageError> {
    let left = sqlx::query_scalar!(
        r#"select exists (select 1 from entitlement_snapshots
               where catalog_version < $1
                 and (underived_by is null or underived_by < $1
                      or underived_until <= clock_timestamp())) as "left!""#,
        version.0
    )
    .fetch_one(db.pool())
    .await?;
    Ok(left)
}

/// Whether `version` or an older one is still under way.
pub(crate) async fn any_unfinished(db: &Db, version: CatalogVersion) -> Result<bool, StorageError> {
    let unfinished = sqlx::query_scalar!(
        r#"select exists (select 1 from catalog_versions
                          where version <= $1 and finished_at is null) as "unfinished!""#,
        version.0
    )
    .fetch_one(db.pool())
    .await?;
    Ok(unfinished)
}

/// Says that every account has come to `version`.
pub(crate) async fn finish(
    db: &Db,
    version: CatalogVersion,
    now: Instant,
) -> Result<bool, StorageError> {
    let finished = sqlx::query!(
        "update catalog_versions set finished_at = $2 where version <= $1 and finished_at is null",
        version.0,
        now
    )
    .execute(db.pool())
    .await?
    .rows_affected();
    Ok(finished > 0)
}

/// The last version that everything came to: what purchases were looked at by.
pub(crate) async fn last_finished(
    db: &Db,
    before: CatalogVersion,
) -> Result<Option<CatalogVersion>, StorageError> {
    let version = sqlx::query_scalar!(
        "select max(version) from catalog_versions where version < $1 and finished_at is not null",
        before.0
    )
    .fetch_one(db.pool())
    .await?;
    Ok(version.map(CatalogVersion))
}

/// A purchase as the walk sees it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) chain: ChainId,
    pub(crate) provider: Provider,
    pub(crate) environment: Option<Environment>,
    pub(crate) products: Vec<StoreProduct>,
    /// The catalog of the last decision about it.
    pub(crate) decided_by: Option<CatalogVersion>,
}

/// The walk of `version` over owned purchases, taken for this transaction: the next of them.
/// `None`: another worker has it.
pub(crate) async fn walk(
    tx: &mut Tx<'_>,
    version: CatalogVersion,
    limit: i64,
) -> Result<Option<Vec<Seen>>, StorageError> {
    let walk = sqlx::query_scalar!(
        "select look_after from catalog_versions where version = $1 for update skip locked",
        version.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(after) = walk else { return Ok(None) };
    let rows = sqlx::query!(
        r#"select c.id, c.provider, s.known #>> '{state,environment}' as environment,
                  jsonb_path_query_array(s.known, '$.state.items[*].product')
                      as "products!: Json<Vec<StoreProduct>>",
                  (select e.catalog_version from subscription_events e
                   where e.chain_id = c.id and e.catalog_version is not null
                   order by e.id desc limit 1) as decided_by
           from purchase_chains c join store_subscription_state s on s.chain_id = c.id
           where c.id > $1 and c.merged_into is null and c.owner_account_id is not null
           order by c.id limit $2"#,
        after.unwrap_or(Uuid::nil()),
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let seen = rows.into_iter().map(|row| {
        let provider = Provider::parse(&row.provider)
            .ok_or_else(|| StorageError::Corrupt(format!("provider {:?}", row.provider)))?;
        Ok(Seen {
            chain: row.id.into(),
            provider,
            environment: row.environment.as_deref().and_then(Environment::parse),
            products: row.products.0,
            decided_by: row.decided_by.map(CatalogVersion),
        })
    });
    Ok(Some(seen.collect::<Result<_, StorageError>>()?))
}

/// Purchases that the walk has marked and nobody has read yet; counted up to `limit`.
pub(crate) async fn waiting_to_be_read(db: &Db, limit: i64) -> Result<i64, StorageError> {
    let waiting = sqlx::query_scalar!(
        r#"select count(*) as "waiting!" from (
               select from purchase_chains
               where dirty_seq > synced_seq and merged_into is null and dirty_source = $1
               limit $2) as marked"#,
        SignalSource::Catalog.as_str(),
        limit
    )
    .fetch_one(db.pool())
    .await?;
    Ok(waiting)
}

/// Says how far the walk has come, and that `marked` of what it saw is looked at again.
pub(crate) async fn walked(
    tx: &mut Tx<'_>,
    version: CatalogVersion,
    last: ChainId,
    marked: usize,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update catalog_versions set look_after = $2, looked_again = looked_again + $3
           where version = $1"#,
        version.0,
        last.0,
        i64::try_from(marked).unwrap_or(i64::MAX)
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
