//! Google Play: pushed notifications say where to look, the Developer API says what is true.

mod client;
mod command;
mod fetch;
pub(crate) mod inspect;
mod normalize;
mod perform;
mod probe;
mod read;
mod sweep;
mod token;
mod verify;
mod wire;

pub(crate) use self::probe::Offered;

use std::path::PathBuf;

use reqwest::Url;

use self::client::Client;
use self::verify::{Moment, PushVerifier};
use crate::config::google_play::GooglePlayConfig;
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::ownership::Possession;
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;
use crate::http::HttpClient;
use crate::providers::contract::{
    Authentic, Command, CommandError, Delivery, Effect, FetchError, FetchRequest, Proof,
    ProofError, Proven, Reading, Rejection, Store, StoreAnswer, SweepPage, SweepRequest,
};

/// Why the provider cannot start. Never holds any part of the key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("google_play: no service account is configured")]
    NoServiceAccount,
    #[error("google_play: {} cannot be read: {source}", path.display())]
    ServiceAccountFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "google_play: the service account is not the JSON that Google hands out (client_email, \
         private_key, private_key_id, token_uri)"
    )]
    ServiceAccountJson,
    #[error("google_play: the service account's private_key is not an RSA key in PEM")]
    ServiceAccountKey,
    #[error("google_play: {0} is not a URL")]
    Url(&'static str),
}

/// Google Play, for all apps of the catalog.
pub(crate) struct GooglePlay {
    client: Client,
    push: Option<PushVerifier>,
}

impl GooglePlay {
    /// Reads the service account's key; calls nobody.
    pub(crate) fn new(config: &GooglePlayConfig, http: &HttpClient) -> Result<Self, SetupError> {
        let push = config
            .push
            .as_ref()
            .map(|push| PushVerifier::new(push, http))
            .transpose()?;
        Ok(Self {
            client: Client::new(config, http.clone())?,
            push,
        })
    }
}

impl Store for GooglePlay {
    async fn authenticate(&self, delivery: Delivery<'_>) -> Result<Authentic, Rejection> {
        let Some(push) = &self.push else {
            let reason = "[google_play.push] is not configured".to_owned();
            return Err(Rejection::Unavailable(reason));
        };
        push.verify(delivery.headers, delivery.body, Moment::now())
            .await
            .map_err(Rejection::from)
    }

    fn read(&self, body: &[u8], catalog: &Catalog) -> Reading {
        read::read(body, catalog)
    }

    async fn verify_proof(
        &self,
        proof: &Proof,
        catalog: &Catalog,
        _now: Instant,
    ) -> Result<Proven, ProofError> {
        let (package_name, value) = match proof {
            Proof::GooglePlayToken {
                package_name,
                token,
            } => (package_name, token),
            Proof::AppStoreTransaction(_) | Proof::AppStoreTransactionId { .. } => {
                return Err(ProofError::Invalid(
                    "not a Google Play purchase token".to_owned(),
                ));
            }
        };
        token::check(value).map_err(|shape| ProofError::Invalid(shape.to_string()))?;
        let app = catalog
            .app_by_package(package_name)
            .ok_or(ProofError::UnknownApp)?;
        let alias = read::token_alias(app.id.clone(), value.clone());
        Ok(Proven {
            possession: Possession::Token {
                token: alias.clone(),
            },
            alias,
            stand_in: None,
            account_token: None,
        })
    }

    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Vec<StoreAnswer>, FetchError> {
        fetch::fetch(&self.client, request).await
    }

    fn normalize(
        &self,
        head: &Alias,
        answers: &[StoreAnswer],
        _catalog: &Catalog,
        fetched_at: Instant,
    ) -> Result<Answer, FetchError> {
        normalize::normalize(head, answers, fetched_at)
    }

    async fn perform(&self, effect: Effect<'_>, catalog: &Catalog) -> Result<(), FetchError> {
        perform::perform(&self.client, effect, catalog).await
    }

    async fn command(
        &self,
        state: &StoreState,
        command: &Command,
        catalog: &Catalog,
    ) -> Result<String, CommandError> {
        command::command(&self.client, state, command, catalog).await
    }

    async fn sweep(&self, request: SweepRequest<'_>) -> Result<SweepPage, FetchError> {
        sweep::sweep(&self.client, request).await
    }
}

fn url(name: &'static str, text: &str) -> Result<Url, SetupError> {
    Url::parse(text).map_err(|_| SetupError::Url(name))
}

#[cfg(test)]
mod tests;
