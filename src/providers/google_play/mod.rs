//! Google Play: pushed notifications say where to look, the Developer API says what is true.

mod client;
mod fetch;
pub(crate) mod inspect;
mod normalize;
mod read;
mod token;
mod verify;
mod wire;

use std::path::PathBuf;

use reqwest::Url;

use self::client::Client;
use self::verify::{Moment, PushVerifier};
use self::wire::{ProductPurchase, SubscriptionPurchase};
use crate::config::google_play::GooglePlayConfig;
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::duty::Duty;
use crate::domain::ownership::Possession;
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::{ItemKind, StoreState};
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

    async fn acknowledge_now(
        &self,
        state: &StoreState,
        catalog: &Catalog,
    ) -> Result<(), FetchError> {
        let package = fetch::package(&state.head, catalog)?;
        let item = state.items.first();
        let item =
            item.ok_or_else(|| FetchError::Unreadable("a purchase of nothing".to_owned()))?;
        let (product_id, token) = (&item.product.product_id, &state.head.value);
        let kind = match item.kind {
            ItemKind::Subscription => "subscriptions",
            ItemKind::OneTime => "products",
        };
        let reply = self
            .client
            .acknowledge(package, kind, product_id, token)
            .await?;
        // A refusal may only mean that somebody was faster.
        let done = match reply.status {
            200..=299 => true,
            _ => self.is_acknowledged(package, item.kind, token).await?,
        };
        if done {
            return Ok(());
        }
        let (status, reason) = (reply.status, client::reason(&reply.body));
        Err(FetchError::Unreadable(format!(
            "acknowledge: status {status} {reason}"
        )))
    }

    async fn is_acknowledged(
        &self,
        package: &str,
        kind: ItemKind,
        token: &str,
    ) -> Result<bool, FetchError> {
        let said = match kind {
            ItemKind::Subscription => {
                let reply = self.client.subscription(package, token).await?;
                serde_json::from_slice::<SubscriptionPurchase>(&reply.body)
                    .map(|purchase| purchase.acknowledgement_state)
            }
            ItemKind::OneTime => {
                let reply = self.client.product(package, token).await?;
                serde_json::from_slice::<ProductPurchase>(&reply.body)
                    .map(|purchase| purchase.acknowledgement_state)
            }
        };
        Ok(said.is_ok_and(|said| said == "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED"))
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
        match effect.duty {
            Duty::Acknowledge { .. } => {
                tokio::time::timeout(fetch::DEADLINE, self.acknowledge_now(effect.state, catalog))
                    .await
                    .unwrap_or_else(|_| Err(FetchError::away("no answer to acknowledge in time")))
            }
            Duty::Consume | Duty::ReviewRefund { .. } => {
                Err(FetchError::Refused("not offered yet".to_owned()))
            }
            Duty::Finish | Duty::SetAccountToken { .. } | Duty::AnswerConsumptionRequest => Ok(()),
        }
    }

    async fn command(
        &self,
        _: &StoreState,
        _: &Command,
        _: &Catalog,
    ) -> Result<String, CommandError> {
        Err(CommandError::NotOffered("not offered yet"))
    }

    async fn sweep(&self, _: SweepRequest<'_>) -> Result<SweepPage, FetchError> {
        Ok(SweepPage::default())
    }
}

fn url(name: &'static str, text: &str) -> Result<Url, SetupError> {
    Url::parse(text).map_err(|_| SetupError::Url(name))
}

#[cfg(test)]
mod tests;
