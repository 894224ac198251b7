//! The catalog: applied as a numbered version, active on every replica.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{error, info};

use super::Core;
use crate::domain::catalog::{Catalog, CatalogFile};
use crate::domain::ids::CatalogVersion;
use crate::domain::time::Instant;
use crate::storage::catalogs::Applied;
use crate::storage::{Db, StorageError, catalogs, snapshots};

/// Why a catalog is not active.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    #[error("the catalog cannot be read: {0}")]
    Syntax(String),
    #[error("the catalog has problems:\n  - {}", .0.join("\n  - "))]
    Unsound(Vec<String>),
    #[error("no catalog has been applied; start once with --catalog FILE")]
    None,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads and checks a catalog file's text.
pub(crate) fn parse(text: &str, version: CatalogVersion) -> Result<Catalog, CatalogError> {
    let file: CatalogFile =
        toml::from_str(text).map_err(|error| CatalogError::Syntax(error.to_string()))?;
    Catalog::build(file, version).map_err(CatalogError::Unsound)
}

/// Applies `text` as a new version unless it is the newest already; every account is derived
/// again by it, in batches, by the job that passes time.
pub(crate) async fn apply(db: &Db, text: &str, now: Instant) -> Result<Catalog, CatalogError> {
    parse(text, CatalogVersion(0))?;
    let mut tx = db.begin().await?;
    let version = catalogs::apply(&mut tx, text, now).await?;
    let due = snapshots::make_due(&mut tx, version, now).await?;
    tx.commit().await.map_err(StorageError::from)?;
    info!(version = version.0, accounts = due, "catalog active");
    parse(text, version)
}

/// The active catalog.
pub(crate) async fn load(db: &Db) -> Result<Catalog, CatalogError> {
    let applied = catalogs::newest(db).await?.ok_or(CatalogError::None)?;
    parse(&applied.body, applied.version)
}

/// Takes up a version that another replica has applied.
pub(crate) async fn follow(core: &Core) -> Result<(), StorageError> {
    let newest = catalogs::newest_version(&core.db).await?;
    if newest == Some(core.catalog.load().version()) {
        return Ok(());
    }
    match load(&core.db).await {
        Ok(catalog) => {
            info!(version = catalog.version().0, "catalog taken up");
            core.catalog.store(Arc::new(catalog));
        }
        Err(CatalogError::Storage(error)) => return Err(error),
        Err(error) => error!(%error, "a newer catalog cannot be read; the former stays"),
    }
    Ok(())
}

/// A catalog as it was, for replay.
pub(crate) async fn version(
    db: &Db,
    version: CatalogVersion,
) -> Result<Option<Catalog>, CatalogError> {
    let applied = catalogs::get(db, version).await?;
    applied
        .map(|Applied { version, body }| parse(&body, version))
        .transpose()
}

/// The handle that flows and hub share.
pub(crate) fn handle(catalog: Catalog) -> Arc<ArcSwap<Catalog>> {
    Arc::new(ArcSwap::from_pointee(catalog))
}
