//! What a pushed notification points at. It is a hint where to look, never the state itself.

mod meaning;
pub(super) mod voided_row;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::wire::{
    DeveloperNotification, PushEnvelope, RefundReviewNotification, VoidedPurchaseNotification,
};
use crate::domain::catalog::Catalog;
use crate::domain::chain::{Alias, AliasKind, AppId};
use crate::domain::provider::Provider;
use crate::domain::subscription::store_state::{Evidence, VoidCause};
use crate::domain::time::Instant;
use crate::providers::contract::{Meaning, Reading, Signal};

/// Genuine tokens and order ids are far shorter.
const ID_BYTES_MAX: usize = 1024;
/// `refundType`: part of the quantity of a one-time product.
const REFUND_OF_QUANTITY: i64 = 2;
/// `refundReason`: the only one there is so far.
const CHARGEBACK: i64 = 7;

/// A notification, reduced to what is acted on.
pub(super) struct Notification {
    pub(super) package_name: String,
    pub(super) event_time: Instant,
    /// The store's own word, and what it means.
    pub(super) kind: (String, Meaning),
    pub(super) subject: Subject,
}

pub(super) enum Subject {
    Purchase {
        token: String,
        void: Option<Evidence>,
    },
    /// A refund that waits for our word; only the order is named.
    Order {
        id: String,
        request: Evidence,
    },
    Nothing {
        reason: &'static str,
    },
}

/// A push of Pub/Sub's, or what a sweep found.
pub(super) fn read(body: &[u8], catalog: &Catalog) -> Reading {
    let swept = voided_row::decode(body);
    let read = swept.unwrap_or_else(|| unwrap(body).and_then(|data| decode(&data)));
    let Notification {
        package_name,
        event_time,
        kind: (kind, meaning),
        subject,
    } = match read {
        Ok(notification) => notification,
        Err(reason) => return Reading::Unreadable { reason },
    };
    let Some(app) = catalog.app_by_package(&package_name) else {
        return Reading::Ignored {
            kind,
            reason: "unknown_app",
        };
    };
    let app = app.id.clone();
    let (alias, evidence) = match subject {
        Subject::Nothing { reason } => return Reading::Ignored { kind, reason },
        Subject::Purchase { token, void } => (token_alias(app, token), void),
        Subject::Order { id, request } => (order_alias(app, &id), Some(request)),
    };
    Reading::Chain(Signal {
        kind,
        alias,
        evidence: evidence.into_iter().collect(),
        occurred_at: Some(event_time),
        meaning,
    })
}

pub(super) fn token_alias(app: AppId, token: String) -> Alias {
    Alias {
        provider: Provider::GooglePlay,
        app,
        kind: AliasKind::PurchaseToken,
        value: token,
    }
}

/// Renewals share their first order's id, with a suffix (`GPA.1234-…..3`).
pub(super) fn order_alias(app: AppId, order_id: &str) -> Alias {
    let base = order_id.split_once("..").map_or(order_id, |(base, _)| base);
    Alias {
        provider: Provider::GooglePlay,
        app,
        kind: AliasKind::OrderId,
        value: base.to_owned(),
    }
}

/// The notification inside a push.
pub(super) fn unwrap(body: &[u8]) -> Result<Vec<u8>, String> {
    let push: PushEnvelope =
        serde_json::from_slice(body).map_err(|_| "the body is not a Pub/Sub push".to_owned())?;
    STANDARD
        .decode(push.message.data)
        .map_err(|_| "the message's data is not base64".to_owned())
}

pub(super) fn decode(data: &[u8]) -> Result<Notification, String> {
    let wire: DeveloperNotification = serde_json::from_slice(data).map_err(|error| {
        // The text of a serde error may quote the document, and that holds purchase tokens.
        format!(
            "not a DeveloperNotification (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let event_time = wire.event_time;
    let mut found = Vec::with_capacity(1);
    if let Some(subscription) = wire.subscription_notification {
        let kind = meaning::of_subscription(subscription.notification_type);
        found.push((kind, about(subscription.purchase_token)));
    }
    if let Some(product) = wire.one_time_product_notification {
        let kind = meaning::of_one_time_product(product.notification_type);
        found.push((kind, about(product.purchase_token)));
    }
    if let Some(voided) = wire.voided_purchase_notification {
        found.push((meaning::of_void(), void(voided, event_time)));
    }
    if let Some(review) = wire.pending_refund_review_notification {
        found.push((meaning::of_refund_review(), request(review, event_time)));
    }
    if wire.test_notification.is_some() {
        let kind = ("TEST".to_owned(), Meaning::Informs);
        found.push((kind, Subject::Nothing { reason: "test" }));
    }
    let count = found.len();
    let (Some((kind, subject)), 1) = (found.pop(), count) else {
        return Err(format!("{count} known notifications in one message, not 1"));
    };
    check_length(&subject)?;
    Ok(Notification {
        package_name: wire.package_name,
        event_time,
        kind,
        subject,
    })
}

/// Ids become aliases, and aliases are indexed.
fn check_length(subject: &Subject) -> Result<(), String> {
    let (what, length) = match subject {
        Subject::Purchase { token, .. } => ("purchase token", token.len()),
        Subject::Order { id, .. } => ("order id", id.len()),
        Subject::Nothing { .. } => return Ok(()),
    };
    match (1..=ID_BYTES_MAX).contains(&length) {
        true => Ok(()),
        false => Err(format!("the {what} has {length} characters")),
    }
}

fn about(token: String) -> Subject {
    Subject::Purchase { token, void: None }
}

fn void(voided: VoidedPurchaseNotification, at: Instant) -> Subject {
    let partial = voided.refund_type == Some(REFUND_OF_QUANTITY);
    let void = voided.order_id.map(|order_id| Evidence::Void {
        order_id,
        at,
        partial,
        // The list of voided purchases tells why.
        cause: VoidCause::Other,
    });
    Subject::Purchase {
        token: voided.purchase_token,
        void,
    }
}

fn request(review: RefundReviewNotification, at: Instant) -> Subject {
    let reason = match review.refund_reason {
        Some(CHARGEBACK) => "CHARGEBACK".to_owned(),
        Some(number) => format!("REASON_{number}"),
        None => "UNSPECIFIED".to_owned(),
    };
    Subject::Order {
        request: Evidence::RefundRequest {
            transaction_id: review.order_id.clone(),
            at,
            reason,
            token: Some(review.pending_refund_token),
        },
        id: review.order_id,
    }
}

#[cfg(test)]
mod tests;
