//! A core for whoever only looks: nothing is claimed, made or applied, and a part that cannot be built
//! is told by its step of setting up while the others go on.

use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use super::{
    STORE_CALL_TIMEOUT, app_store, assemble, check_migrated, check_mode, clock_of, google_play,
    mode_of,
};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::guide::Step;
use crate::domain::ids::CatalogVersion;
use crate::encryption;
use crate::flows::Core;
use crate::flows::apply_catalog::{self, CatalogError};
use crate::flows::examine::STATEMENT_MAX;
use crate::http::HttpClient;
use crate::providers::registry::Stores;
use crate::providers::superwall::Superwall;
use crate::storage::keyring::Keyring;
use crate::storage::{Db, deployment};

/// What could be built.
pub(crate) struct Looked {
    pub(crate) core: Arc<Core>,
    /// What could not, and why, in the order of the steps.
    pub(crate) failed: Vec<(Step, anyhow::Error)>,
}

/// Builds what can be built.
///
/// # Errors
/// The database cannot be reached, or is not this configuration's.
pub(crate) async fn core(config: &Config) -> anyhow::Result<Looked> {
    let database = &config.database;
    let url = database.url.expose_secret();
    let db = Db::open_to_look(url, database.connections_max, STATEMENT_MAX)?;
    check_migrated(&db).await?;
    check_claim(config, &db).await?;
    let mut failed = Vec::new();
    let mut or_told = Told(&mut failed);
    let db = match or_told.get(Step::ENCRYPTION, keyring(config, &db).await) {
        Some(keyring) => db.with_keyring(keyring),
        None => db,
    };
    let clock = or_told.get(Step::CLOCKS, clock_of(config).await);
    let catalog = or_told.get(Step::CATALOG, catalog(config, &db).await);
    let (catalog, unapplied) = catalog.unwrap_or_default();
    if let Some(unapplied) = unapplied {
        or_told.0.push((Step::CATALOG, unapplied));
    }
    let http = HttpClient::new(STORE_CALL_TIMEOUT)?;
    let superwall = config.superwall.as_ref().map(Superwall::new).transpose();
    let stores = Stores {
        app_store: or_told
            .get(Step::APPLE_KEY, app_store(config, &http))
            .flatten(),
        google_play: or_told
            .get(Step::GOOGLE_ACCOUNT, google_play(config, &http))
            .flatten(),
        superwall: or_told
            .get(Step::CONFIGURATION, superwall.map_err(Into::into))
            .flatten(),
    };
    let catalog = catalog.unwrap_or_else(Catalog::none);
    let clock = clock.unwrap_or(Clock::System);
    let core = assemble(config, db, clock, catalog, stores).await?;
    Ok(Looked {
        core: Arc::new(core),
        failed,
    })
}

/// A database as a command finds it: with the keys that it has, and of whoever it is, if anybody's.
pub(super) async fn unclaimed(config: &Config, db: Db) -> anyhow::Result<Db> {
    check_claim(config, &db).await?;
    let keyring = keyring(config, &db).await?;
    Ok(db.with_keyring(keyring))
}

async fn check_claim(config: &Config, db: &Db) -> anyhow::Result<()> {
    match deployment::mode(db).await? {
        Some(kept) => check_mode(&kept, mode_of(config)),
        None => Ok(()),
    }
}

/// Takes errors down by their step.
struct Told<'a>(&'a mut Vec<(Step, anyhow::Error)>);

impl Told<'_> {
    fn get<T>(&mut self, step: Step, built: anyhow::Result<T>) -> Option<T> {
        match built {
            Ok(built) => Some(built),
            Err(error) => {
                self.0.push((step, error));
                None
            }
        }
    }
}

async fn keyring(config: &Config, db: &Db) -> anyhow::Result<Keyring> {
    let keys = encryption::providers::of(&config.encryption)?;
    Ok(Keyring::look(db, keys, config.encryption.seals()).await?)
}

/// The active catalog; before there is one, what the configured file says, and that it is not
/// applied.
async fn catalog(
    config: &Config,
    db: &Db,
) -> anyhow::Result<(Option<Catalog>, Option<anyhow::Error>)> {
    let none = match apply_catalog::load(db).await {
        Ok(active) => return Ok((Some(active), None)),
        Err(none @ CatalogError::None) => none.into(),
        Err(error) => return Err(error.into()),
    };
    let Some(path) = &config.catalog else {
        return Ok((None, Some(none)));
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the catalog {} cannot be read", path.display()))?;
    let meant = apply_catalog::parse(&text, CatalogVersion(0))
        .with_context(|| format!("the catalog {}", path.display()))?;
    Ok((Some(meant), Some(none)))
}
