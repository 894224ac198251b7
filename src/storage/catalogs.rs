//! Applied catalogs: numbered versions, the newest is active on every replica.

use super::{Db, StorageError, Tx};
use crate::domain::ids::CatalogVersion;
use crate::domain::time::Instant;

/// A catalog as applied: TOML.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) version: CatalogVersion,
    pub(crate) body: String,
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

/// Adds a version unless that text has been one; gives the newest. Replicas that start together
/// add one.
pub(crate) async fn apply(
    tx: &mut Tx<'_>,
    body: &str,
    now: Instant,
) -> Result<Applied, StorageError> {
    sqlx::query!("lock table catalog_versions in exclusive mode")
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        r#"insert into catalog_versions (body, applied_at)
           select $1, $2 where not exists (select 1 from catalog_versions where body = $1)"#,
        body,
        now
    )
    .execute(&mut **tx)
    .await?;
    let newest =
        sqlx::query!("select version, body from catalog_versions order by version desc limit 1")
            .fetch_one(&mut **tx)
            .await?;
    Ok(Applied {
        version: CatalogVersion(newest.version),
        body: newest.body,
    })
}
