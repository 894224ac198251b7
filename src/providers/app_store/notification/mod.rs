//! App Store Server Notifications V2: authentic ones point to a chain; state is read from the store.

pub(super) mod meaning;

use super::AppStore;
use super::binding::{self, BindingError};
use super::verify::ocsp::OcspError;
use super::verify::{Verified, VerifyError};
use super::wire::{
    Notification, NotificationBody, NotificationData, NotificationName, RenewalInfo, Transaction,
};
use crate::domain::catalog::Catalog;
use crate::domain::provider::Environment;
use crate::domain::subscription::store_state::Evidence;
use crate::domain::time::Instant;
use crate::providers::contract::{Authentic, Delivery, Meaning, Reading, Rejection, Signal};

/// The largest body that is looked at.
const BODY_BYTES_MAX: usize = 256 * 1024;

impl From<VerifyError> for Rejection {
    fn from(error: VerifyError) -> Self {
        Self::Forged(error.to_string())
    }
}

impl From<OcspError> for Rejection {
    fn from(error: OcspError) -> Self {
        match error {
            OcspError::Unavailable(_) => Self::Unavailable(error.to_string()),
            OcspError::Refused(_) => Self::Forged(error.to_string()),
        }
    }
}

/// Why an authentic notification points nowhere.
#[derive(Debug, thiserror::Error)]
enum NotReadable {
    #[error("the notification: {0}")]
    Outer(VerifyError),
    #[error("the signed document in the notification: {0}")]
    Inner(VerifyError),
    #[error("the notification: {0}")]
    Binding(#[from] BindingError),
    #[error("the notification names no transaction")]
    NoTransaction,
}

impl AppStore {
    pub(super) async fn authenticate_notification(
        &self,
        delivery: &Delivery<'_>,
    ) -> Result<Authentic, Rejection> {
        if delivery.body.len() > BODY_BYTES_MAX {
            return Err(VerifyError::TooLarge.into());
        }
        let jws = payload_of(delivery.body)?;
        // Whatever else is in it: what Apple has signed is kept, and read as far as it can be.
        let named = self
            .verifier
            .verify::<NotificationName>(&jws, delivery.now)?;
        self.check_revocation(named.chain()).await?;
        let event_id = named.payload().uuid.clone();
        Ok(Authentic { event_id })
    }

    pub(super) fn read_notification(&self, body: &[u8], catalog: &Catalog) -> Reading {
        match self.reading(body, catalog) {
            Ok(reading) => reading,
            Err(error) => Reading::Unreadable {
                reason: error.to_string(),
            },
        }
    }

    /// The bundle id and the world that a notification was sent for.
    pub(crate) fn sent_for(&self, body: &[u8]) -> Option<(String, Environment)> {
        let jws = payload_of(body).ok()?;
        let verified = self.verifier.verify::<Notification>(&jws, Instant::MAX_UTC);
        let data = verified.ok()?.payload().data.clone()?;
        let environment = self.accepted.check(&data.environment).ok()?;
        Some((data.bundle_id, environment))
    }

    fn reading(&self, body: &[u8], catalog: &Catalog) -> Result<Reading, NotReadable> {
        let jws = payload_of(body).map_err(NotReadable::Outer)?;
        // Its age was judged on arrival; it is read, and read again, at any later time.
        let outer = self
            .verifier
            .verify::<Notification>(&jws, Instant::MAX_UTC)
            .map_err(NotReadable::Outer)?;
        let notification = outer.payload();
        let kind = kind(notification);
        let subtype = notification.subtype.as_deref();
        let meaning = meaning::meaning(&notification.notification_type, subtype);
        if let Some(reason) = about_no_purchase(notification) {
            return Ok(Reading::Ignored { kind, reason });
        }
        let data = notification
            .data
            .as_ref()
            .ok_or(NotReadable::NoTransaction)?;
        match self.transaction(data, catalog, outer.signed_at()) {
            Ok((app, transaction)) => Ok(Reading::Chain(Signal {
                kind,
                alias: binding::alias(app, transaction.payload().original_transaction_id.clone()),
                evidence: asked(notification, transaction.payload(), outer.signed_at()),
                occurred_at: Some(outer.signed_at()),
                meaning,
            })),
            Err(NotReadable::Binding(BindingError::EnvironmentNotAccepted)) => {
                Ok(Reading::Ignored {
                    kind,
                    reason: "an environment that is not accepted here",
                })
            }
            Err(error) => Err(error),
        }
    }

    /// The transaction inside, verified on its own and against what stands around it.
    fn transaction(
        &self,
        data: &NotificationData,
        catalog: &Catalog,
        sent_at: Instant,
    ) -> Result<(crate::domain::chain::AppId, Verified<Transaction>), NotReadable> {
        let environment = self.accepted.check(&data.environment)?;
        let app = binding::app(catalog, &data.bundle_id, environment)?;
        binding::check_app_apple_id(app, environment, data.app_apple_id)?;
        let jws = data
            .signed_transaction_info
            .as_deref()
            .ok_or(NotReadable::NoTransaction)?;
        let transaction = self
            .verifier
            .verify::<Transaction>(jws, sent_at)
            .map_err(NotReadable::Inner)?;
        let payload = transaction.payload();
        if payload.bundle_id != data.bundle_id {
            return Err(BindingError::Mismatch("the bundleId").into());
        }
        if payload.environment != data.environment {
            return Err(BindingError::Mismatch("the environment").into());
        }
        if !binding::is_transaction_id(&payload.original_transaction_id) {
            return Err(NotReadable::NoTransaction);
        }
        if let Some(jws) = &data.signed_renewal_info {
            let renewal = self
                .verifier
                .verify::<RenewalInfo>(jws, sent_at)
                .map_err(NotReadable::Inner)?;
            binding::check_renewal(payload, renewal.payload())?;
        }
        Ok((app.id.clone(), transaction))
    }
}

fn payload_of(body: &[u8]) -> Result<String, VerifyError> {
    serde_json::from_slice(body)
        .map(|body: NotificationBody| body.signed_payload)
        .map_err(|_| VerifyError::Payload("notification body"))
}

/// Apple's words: `DID_RENEW`, `DID_RENEW/BILLING_RECOVERY`.
fn kind(notification: &Notification) -> String {
    match &notification.subtype {
        Some(subtype) => format!("{}/{subtype}", notification.notification_type),
        None => notification.notification_type.clone(),
    }
}

/// Why a notification points to no purchase, if it does not. Every other one says where to look,
/// so a type of tomorrow is as good as those of today.
fn about_no_purchase(notification: &Notification) -> Option<&'static str> {
    let (kind, subtype) = (
        notification.notification_type.as_str(),
        notification.subtype.as_deref(),
    );
    let of_the_app = notification.summary.0
        || notification.external_purchase_token.0
        || notification.app_data.0
        || kind == "TEST";
    let names_one = notification
        .data
        .as_ref()
        .is_some_and(|data| data.signed_transaction_info.is_some());
    match meaning::of(kind, subtype) {
        Some(row) if of_the_app => Some(row.told),
        Some(row) if row.meaning == Meaning::Elsewhere && !names_one => Some(row.told),
        Some(_) => None,
        None => {
            of_the_app.then_some("of a type that this version does not know, about no purchase")
        }
    }
}

/// The question that only the notification carries: Apple waits 12 hours for the answer.
fn asked(notification: &Notification, about: &Transaction, at: Instant) -> Vec<Evidence> {
    let data = notification.data.as_ref();
    if notification.notification_type != "CONSUMPTION_REQUEST"
        || !binding::is_transaction_id(&about.transaction_id)
    {
        return Vec::new();
    }
    vec![Evidence::RefundRequest {
        transaction_id: about.transaction_id.clone(),
        at,
        reason: data
            .and_then(|data| data.consumption_request_reason.clone())
            .unwrap_or_default(),
        token: None,
    }]
}
