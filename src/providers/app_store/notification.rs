//! App Store Server Notifications V2: authentic ones point to a chain; state is read from the store.

use super::AppStore;
use super::binding::{self, BindingError};
use super::verify::ocsp::OcspError;
use super::verify::{Verified, VerifyError};
use super::wire::{Notification, NotificationBody, NotificationData, RenewalInfo, Transaction};
use crate::domain::catalog::Catalog;
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
        let notification = self.verifier.verify::<Notification>(&jws, delivery.now)?;
        self.check_revocation(notification.chain()).await?;
        let event_id = notification.payload().notification_uuid.clone();
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

    fn reading(&self, body: &[u8], catalog: &Catalog) -> Result<Reading, NotReadable> {
        let jws = payload_of(body).map_err(NotReadable::Outer)?;
        // Its age was judged on arrival; it is read, and read again, at any later time.
        let outer = self
            .verifier
            .verify::<Notification>(&jws, Instant::MAX_UTC)
            .map_err(NotReadable::Outer)?;
        let notification = outer.payload();
        let kind = kind(notification);
        if let Some(reason) = of_no_consequence(notification) {
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
                evidence: Vec::new(),
                occurred_at: Some(outer.signed_at()),
                meaning: Meaning::Informs,
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

/// Notifications that are about no one purchase. Every other type only says where to look, so a
/// type of tomorrow is as good as those of today.
fn of_no_consequence(notification: &Notification) -> Option<&'static str> {
    if notification.notification_type == "TEST" {
        Some("a test")
    } else if notification.summary.0 {
        Some("the summary of an extension for many subscribers")
    } else if notification.external_purchase_token.0 {
        Some("a token of a purchase outside the App Store")
    } else if notification.app_data.0 {
        Some("about the app as a whole, not a purchase")
    } else {
        None
    }
}
