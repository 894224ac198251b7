//! The catalog: applied as a numbered version, active on every replica.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::Core;
use crate::domain::catalog::{Catalog, CatalogFile};
use crate::domain::ids::CatalogVersion;
use crate::domain::time::Instant;
use crate::storage::catalogs::Applied;
use crate::storage::{Db, StorageError, catalogs, snapshots};

/// Accounts that one statement makes due.
const ROUND: i64 = 500;

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

/// Applies `text` as a new version unless it has been one: a replica that restarts with the file
/// of last week does not take this week's catalog back. Every account is derived again by the
/// newest, in rounds (`follow`).
pub(crate) async fn apply(db: &Db, text: &str, now: Instant) -> Result<Catalog, CatalogError> {
    parse(text, CatalogVersion(0))?;
    let mut tx = db.begin().await?;
    let applied = catalogs::apply(&mut tx, text, now).await?;
    tx.commit().await.map_err(StorageError::from)?;
    if applied.body != text {
        warn!(
            active = applied.version.0,
            "the catalog file was replaced by a newer version; that one stays active"
        );
    }
    parse(&applied.body, applied.version)
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
            core.hub.forget();
            spread(core).await?;
        }
        Err(CatalogError::Storage(error)) => return Err(error),
        Err(error) => error!(%error, "a newer catalog cannot be read; the former stays"),
    }
    Ok(())
}

/// Has every account that an older catalog was applied to derived by this one, in rounds.
pub(crate) async fn spread(core: &Core) -> Result<(), StorageError> {
    let version = core.catalog.load().version();
    loop {
        let due = snapshots::make_due(&core.db, version, core.clock.now(), ROUND).await?;
        if due > 0 {
            info!(
                accounts = due,
                version = version.0,
                "accounts are derived by the newest catalog"
            );
        }
        if due < ROUND.unsigned_abs() {
            return Ok(());
        }
    }
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
