//! What a caller hands over as proof of an App Store purchase.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;

use super::AppStore;
use super::binding::{self, BindingError};
use super::client::Call;
use super::normalize;
use super::verify::ocsp::OcspError;
use super::verify::{Verified, VerifyError};
use super::wire::{ProductType, Transaction, TransactionInfoResponse};
use crate::domain::catalog::{App, Catalog};
use crate::domain::ownership::Possession;
use crate::domain::subscription::state::ItemState;
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;
use crate::providers::contract::{FetchError, ProofError, Proven};

/// A transaction signed longer ago says too little of today to stand in for the store.
const STAND_IN_AGE_MAX: TimeDelta = TimeDelta::hours(24);

impl From<VerifyError> for ProofError {
    fn from(error: VerifyError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<BindingError> for ProofError {
    fn from(error: BindingError) -> Self {
        match error {
            BindingError::UnknownApp | BindingError::AppAppleId => Self::UnknownApp,
            BindingError::EnvironmentNotAccepted => Self::EnvironmentNotAccepted,
            BindingError::Mismatch(_) => Self::Invalid(error.to_string()),
        }
    }
}

impl From<OcspError> for ProofError {
    fn from(error: OcspError) -> Self {
        match error {
            OcspError::Unavailable(_) => Self::Unavailable,
            OcspError::Refused(_) => Self::Invalid(error.to_string()),
        }
    }
}

/// PKCS#7 in base64, as `appStoreReceiptURL` holds it: a long DER sequence, and no parts.
fn is_app_receipt(proof: &str) -> bool {
    proof.trim_start().starts_with("MII") && !proof.contains('.')
}

impl AppStore {
    /// A signed transaction shows possession by itself.
    pub(super) async fn signed_transaction(
        &self,
        jws: &str,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Proven, ProofError> {
        if is_app_receipt(jws) {
            return Err(ProofError::ReceiptUnsupported);
        }
        let document =
            self.verifier
                .verify::<Transaction>(jws, now)
                .map_err(|error| match mistaken(jws) {
                    Some(what) => ProofError::Invalid(what.to_owned()),
                    None => error.into(),
                })?;
        let payload = document.payload();
        let environment = self.accepted.check(&payload.environment)?;
        let app = binding::app(catalog, &payload.bundle_id, environment)?;
        if !binding::is_transaction_id(&payload.original_transaction_id) {
            return Err(VerifyError::Payload("transaction").into());
        }
        self.check_revocation(document.chain()).await?;
        let alias = binding::alias(app.id.clone(), payload.original_transaction_id.clone());
        let account_token = payload.app_account_token.clone();
        let possession = Possession::Signed {
            at: document.signed_at(),
            shown_at: now,
        };
        let fresh = now - document.signed_at() <= STAND_IN_AGE_MAX;
        // What is used up at once cannot be taken back if the store disagrees later.
        let lasts = payload.product_type != ProductType::Consumable;
        let state = normalize::alone(alias.clone(), environment, document, now);
        let stand_in = Some(state).filter(|state| fresh && lasts && grants(state));
        Ok(Proven {
            alias,
            stand_in,
            account_token,
            possession,
        })
    }

    /// A bare id shows nothing: the store's record must name the caller, which is for the caller
    /// of this to compare.
    pub(super) async fn bare_transaction_id(
        &self,
        app: Option<&str>,
        transaction_id: &str,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Proven, ProofError> {
        if !binding::is_transaction_id(transaction_id) {
            return Err(ProofError::Insufficient);
        }
        let apps = named(catalog, app);
        if apps.is_empty() {
            return Err(ProofError::UnknownApp);
        }
        for app in apps {
            if let Some(document) = self.look_up(app, transaction_id, catalog, now).await? {
                let payload = document.payload();
                let id = payload.original_transaction_id.clone();
                return Ok(Proven {
                    alias: binding::alias(app.id.clone(), id),
                    stand_in: None,
                    account_token: payload.app_account_token.clone(),
                    possession: Possession::Named,
                });
            }
        }
        Err(ProofError::Insufficient)
    }

    /// The store's signed record of one transaction, in whichever environment it is.
    async fn look_up(
        &self,
        app: &App,
        transaction_id: &str,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Option<Verified<Transaction>>, ProofError> {
        let Some(bundle_id) = app.bundle_id.as_deref() else {
            return Ok(None);
        };
        for environment in self.accepted.in_order() {
            if binding::app(catalog, bundle_id, environment).is_err() {
                continue;
            }
            let answer = self
                .client
                .read(environment, bundle_id, Call::Transaction, transaction_id)
                .await
                .map_err(unavailable)?;
            if answer.status != 200 {
                continue;
            }
            let response: TransactionInfoResponse =
                serde_json::from_slice(&answer.body).map_err(|_| ProofError::Unavailable)?;
            let document = self
                .verifier
                .verify::<Transaction>(&response.signed_transaction_info, now)
                .map_err(|_| ProofError::Unavailable)?;
            let payload = document.payload();
            let as_asked = payload.transaction_id == transaction_id
                && payload.bundle_id == bundle_id
                && self.accepted.check(&payload.environment) == Ok(environment)
                && binding::is_transaction_id(&payload.original_transaction_id);
            return if as_asked {
                Ok(Some(document))
            } else {
                Err(ProofError::Insufficient)
            };
        }
        Ok(None)
    }
}

/// What else of Apple's the caller took for a transaction. Nothing is believed of it but the names
/// of its fields, to say what to send instead.
fn mistaken(jws: &str) -> Option<&'static str> {
    let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1)?).ok()?;
    let payload: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&payload).ok()?;
    if payload.get("environment").and_then(|it| it.as_str()) == Some("Xcode") {
        Some(
            "it is of StoreKit testing in Xcode, which no store has signed; `entitled dev \
             --xcode-cert FILE` takes what one Xcode signs",
        )
    } else if payload.contains_key("transactionId") {
        None
    } else if payload.contains_key("receiptCreationDate") || payload.contains_key("receiptType") {
        Some(
            "it is an AppTransaction, which shows where the app came from and no purchase; send \
             the jwsRepresentation of a Transaction",
        )
    } else if payload.contains_key("autoRenewStatus") {
        Some("it is a RenewalInfo; send the jwsRepresentation of the Transaction beside it")
    } else if payload.contains_key("notificationType") {
        Some("it is a server notification; send the jwsRepresentation of a Transaction")
    } else {
        None
    }
}

/// The apps that an id may be of: the named one, or all that the App Store sells in.
fn named<'a>(catalog: &'a Catalog, app: Option<&str>) -> Vec<&'a App> {
    let fits = |candidate: &&App| {
        let bundle_id = candidate.bundle_id.as_deref();
        bundle_id.is_some() && app.is_none_or(|app| candidate.id.0 == app || bundle_id == Some(app))
    };
    catalog.apps().iter().filter(fits).collect()
}

/// Only a state that grants access can stand in for one.
fn grants(state: &StoreState) -> bool {
    state.items.iter().any(|item| {
        matches!(
            item.state,
            ItemState::Active { .. } | ItemState::Owned { .. }
        )
    })
}

fn unavailable(_: FetchError) -> ProofError {
    ProofError::Unavailable
}
