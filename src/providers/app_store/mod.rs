//! The App Store: signed transactions, server notifications, and the App Store Server API.

mod binding;
mod charge;
mod client;
mod effects;
mod fetch;
mod item;
mod normalize;
mod notification;
mod probe;
mod promotion;
mod proof;
mod sweep;
mod token;
mod verify;
mod wire;
mod xcode;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

pub(crate) use probe::{TestOutcome, TestRequest};
pub(crate) use promotion::{Promotion, PromotionSignature};
pub(crate) use token::{KeyError, OfferClaims};
pub(crate) use verify::inspect::inspect;
pub(crate) use verify::{Roots, Verifier};

use super::contract::{
    Authentic, Command, CommandError, Delivery, Effect, FetchError, FetchRequest, Proof,
    ProofError, Proven, Reading, Rejection, Store, StoreAnswer, SweepPage, SweepRequest,
};
use crate::config::app_store::AppStoreConfig;
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;
use crate::http::HttpClient;
use binding::Accepted;
use client::Client;
use promotion::PromotionSigner;
use token::RequestTokens;
use verify::ocsp::{Ocsp, OcspError};
use verify::{Chain, VerifyError};
use xcode::Xcode;

/// A read of a chain, or the look-up of a bare id, takes no longer than this in all.
const DEADLINE: Duration = Duration::from_secs(8);

/// Why the App Store cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("app_store: {path} cannot be read: {error}")]
    File {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("app_store: private_key or private_key_file is missing")]
    NoKey,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("app_store: root_certificates: {0}")]
    Root(#[from] VerifyError),
    #[error("app_store: xcode: {0}")]
    Xcode(VerifyError),
    #[error("app_store: {0} is not a URL")]
    Url(&'static str),
}

/// The App Store of one team.
pub(crate) struct AppStore {
    verifier: Verifier,
    accepted: Accepted,
    client: Client,
    promotions: PromotionSigner,
    ocsp: Option<Ocsp>,
    /// Development only.
    xcode: Option<Xcode>,
}

impl AppStore {
    /// Reads keys and roots; calls nobody.
    pub(crate) fn new(config: &AppStoreConfig, http: HttpClient) -> Result<Self, SetupError> {
        let key = private_key(config)?;
        let tokens = RequestTokens::new(&config.issuer_id, &config.key_id, key.expose_secret())?;
        let promotions = PromotionSigner::new(&config.key_id, key.expose_secret())?;
        let url = |name, text: &str| Url::parse(text).map_err(|_| SetupError::Url(name));
        let client = Client::new(
            http.clone(),
            tokens,
            url("production_url", &config.production_url)?,
            url("sandbox_url", &config.sandbox_url)?,
        );
        Ok(Self {
            verifier: Verifier::new(roots(Some(config))?),
            accepted: Accepted::new(&config.environments),
            client,
            promotions,
            ocsp: config.ocsp.then(|| Ocsp::new(http)),
            xcode: config.xcode.as_ref().map(Xcode::new).transpose()?,
        })
    }

    /// Signs an offer for StoreKit; calls nobody.
    pub(crate) fn sign_offer(
        &self,
        bundle_id: &str,
        offer: &OfferClaims,
    ) -> Result<String, KeyError> {
        self.client.sign_offer(bundle_id, offer)
    }

    /// Signs a promotional offer for StoreKit's older interface; calls nobody.
    pub(crate) fn sign_promotion(
        &self,
        promotion: &Promotion<'_>,
    ) -> Result<PromotionSignature, KeyError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = i64::try_from(now.unwrap_or_default().as_millis()).map_err(|_| KeyError)?;
        self.promotions.sign(promotion, millis)
    }

    /// What answers for a chain of Xcode's.
    fn of_xcode(&self, head: &Alias) -> Option<&Xcode> {
        self.xcode.as_ref().filter(|_| xcode::is_ours(head))
    }

    /// Asks whether the certificates behind a stranger's document still stand. Answers of the
    /// Server API come from Apple over TLS and are not asked about.
    async fn check_revocation(&self, chain: &Chain) -> Result<(), OcspError> {
        match &self.ocsp {
            Some(ocsp) => ocsp.check(chain).await,
            None => Ok(()),
        }
    }
}

/// The roots that the configuration trusts: Apple's, or those of the store simulator.
pub(crate) fn roots(config: Option<&AppStoreConfig>) -> Result<Roots, SetupError> {
    let Some(config) = config.filter(|config| !config.root_certificates.is_empty()) else {
        return Ok(Roots::apple()?);
    };
    let files: Result<Vec<_>, _> = config.root_certificates.iter().map(read).collect();
    Ok(Roots::pinned(files?)?)
}

fn private_key(config: &AppStoreConfig) -> Result<SecretString, SetupError> {
    match (&config.private_key, &config.private_key_file) {
        (Some(key), _) => Ok(key.clone()),
        (None, Some(path)) => {
            let text = String::from_utf8(read(path)?).map_err(|_| KeyError)?;
            Ok(SecretString::from(text))
        }
        (None, None) => Err(SetupError::NoKey),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, SetupError> {
    std::fs::read(path).map_err(|error| SetupError::File {
        path: path.clone(),
        error,
    })
}

impl Store for AppStore {
    async fn authenticate(&self, delivery: Delivery<'_>) -> Result<Authentic, Rejection> {
        self.authenticate_notification(&delivery).await
    }

    fn read(&self, body: &[u8], catalog: &Catalog) -> Reading {
        self.read_notification(body, catalog)
    }

    async fn verify_proof(
        &self,
        proof: &Proof,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Proven, ProofError> {
        match proof {
            Proof::AppStoreTransaction(jws) => match &self.xcode {
                Some(xcode) if Xcode::is_meant(jws) => xcode.proof(jws, catalog, now),
                Some(_) | None => self.signed_transaction(jws, catalog, now).await,
            },
            Proof::AppStoreTransactionId {
                app,
                transaction_id,
            } => {
                let look_up =
                    self.bare_transaction_id(app.as_deref(), transaction_id, catalog, now);
                tokio::time::timeout(DEADLINE, look_up)
                    .await
                    .unwrap_or(Err(ProofError::Unavailable))
            }
            Proof::GooglePlayToken { .. } => {
                Err(ProofError::Invalid("it is of another store".to_owned()))
            }
        }
    }

    async fn fetch(&self, request: FetchRequest<'_>) -> Result<Vec<StoreAnswer>, FetchError> {
        if let Some(xcode) = self.of_xcode(request.head) {
            return xcode.fetch(request.head);
        }
        tokio::time::timeout(
            DEADLINE,
            fetch::chain(&self.client, &self.accepted, &request),
        )
        .await
        .unwrap_or_else(|_| Err(FetchError::away("no complete answer within the deadline")))
    }

    fn normalize(
        &self,
        head: &Alias,
        answers: &[StoreAnswer],
        catalog: &Catalog,
        fetched_at: Instant,
    ) -> Result<Answer, FetchError> {
        if let Some(xcode) = self.of_xcode(head) {
            return xcode.normalize(head, answers, fetched_at);
        }
        let reader = normalize::Reader {
            verifier: &self.verifier,
            accepted: &self.accepted,
            head,
            catalog,
            fetched_at,
        };
        reader.read(answers)
    }

    async fn perform(&self, effect: Effect<'_>, catalog: &Catalog) -> Result<(), FetchError> {
        if self.of_xcode(&effect.state.head).is_some() {
            // No store keeps the purchase: there is nobody to tell.
            return Ok(());
        }
        self.carry_out(&effect, catalog).await
    }

    async fn command(
        &self,
        state: &StoreState,
        command: &Command,
        catalog: &Catalog,
    ) -> Result<String, CommandError> {
        if self.of_xcode(&state.head).is_some() {
            return Err(CommandError::NotOffered(
                "no store keeps this purchase; in Xcode, Debug → StoreKit → Manage Transactions",
            ));
        }
        self.obey(state, command, catalog).await
    }

    async fn sweep(&self, request: SweepRequest<'_>) -> Result<SweepPage, FetchError> {
        self.sent(&request).await
    }
}
