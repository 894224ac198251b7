//! Whether a verified document is of an app and environment that this deployment serves, and
//! whether documents that come together belong together.

use super::wire;
use crate::config::app_store::AppStoreEnvironment;
use crate::domain::catalog::{App, Catalog};
use crate::domain::chain::{Alias, AliasKind, AppId};
use crate::domain::provider::{Environment, Provider};

/// Apple's transaction ids are decimal; none is longer than this.
const TRANSACTION_ID_BYTES_MAX: usize = 32;

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BindingError {
    #[error("it is of an app that the catalog does not list")]
    UnknownApp,
    /// The catalog must name the numeric id before production purchases of the app count.
    #[error("the catalog has another app_apple_id for this app, or none")]
    AppAppleId,
    #[error("it was made in an environment that is not accepted here")]
    EnvironmentNotAccepted,
    #[error("{0} of documents that come together differ")]
    Mismatch(&'static str),
}

/// The environments that this deployment accepts.
#[derive(Clone, Debug)]
pub(super) struct Accepted(Vec<Environment>);

impl Accepted {
    pub(super) fn new(configured: &[AppStoreEnvironment]) -> Self {
        let ours = |environment: &AppStoreEnvironment| match environment {
            AppStoreEnvironment::Production => Environment::Production,
            AppStoreEnvironment::Sandbox => Environment::Sandbox,
        };
        Self(configured.iter().map(ours).collect())
    }

    /// Production first: Apple's advice for an id of unknown environment.
    pub(super) fn in_order(&self) -> impl Iterator<Item = Environment> + '_ {
        [Environment::Production, Environment::Sandbox]
            .into_iter()
            .filter(|environment| self.0.contains(environment))
    }

    pub(super) fn check(&self, said: &wire::Environment) -> Result<Environment, BindingError> {
        let environment = match said {
            wire::Environment::Production => Environment::Production,
            wire::Environment::Sandbox => Environment::Sandbox,
            wire::Environment::Unknown(_) => return Err(BindingError::EnvironmentNotAccepted),
        };
        if self.0.contains(&environment) {
            Ok(environment)
        } else {
            Err(BindingError::EnvironmentNotAccepted)
        }
    }
}

/// The catalog's app of a bundle, if purchases of that environment may count for it.
pub(super) fn app<'a>(
    catalog: &'a Catalog,
    bundle_id: &str,
    environment: Environment,
) -> Result<&'a App, BindingError> {
    let app = catalog
        .app_by_bundle(bundle_id)
        .ok_or(BindingError::UnknownApp)?;
    match (environment, app.app_apple_id) {
        (Environment::Production, None) => Err(BindingError::AppAppleId),
        (Environment::Production, Some(_)) | (Environment::Sandbox, _) => Ok(app),
    }
}

/// In production the numeric id that stands beside the bundle id must be the catalog's.
pub(super) fn check_app_apple_id(
    app: &App,
    environment: Environment,
    said: Option<i64>,
) -> Result<(), BindingError> {
    let differs = app.app_apple_id.is_none() || app.app_apple_id != said;
    if environment == Environment::Production && differs {
        Err(BindingError::AppAppleId)
    } else {
        Ok(())
    }
}

/// Renewal info names no bundle: it belongs to the transaction of its chain and environment.
pub(super) fn check_renewal(
    transaction: &wire::Transaction,
    renewal: &wire::RenewalInfo,
) -> Result<(), BindingError> {
    if renewal.original_transaction_id != transaction.original_transaction_id {
        return Err(BindingError::Mismatch("the originalTransactionId"));
    }
    if renewal.environment != transaction.environment {
        return Err(BindingError::Mismatch("the environment"));
    }
    Ok(())
}

/// Digits only, so that an id can stand in a path and never means another.
pub(super) fn is_transaction_id(id: &str) -> bool {
    (1..=TRANSACTION_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn alias(app: AppId, original_transaction_id: String) -> Alias {
    Alias {
        provider: Provider::AppStore,
        app,
        kind: AliasKind::OriginalTransactionId,
        value: original_transaction_id,
    }
}
