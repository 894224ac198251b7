//! Rows of the voided purchases list, as the sweep hands them on: wrapped in an object of ours that
//! says of which app they are.

use serde::{Deserialize, Serialize};

use super::{Notification, Subject, meaning};
use crate::domain::subscription::store_state::{Evidence, VoidCause};
use crate::providers::google_play::wire::VoidedPurchase;

/// `voidedReason` of the bank's and of the store's own refund.
const CHARGEBACK: i64 = 7;
const UNACKNOWLEDGED: i64 = 8;

/// What a sweep puts into ingress.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SweptVoid {
    pub(crate) package_name: String,
    pub(crate) voided_purchase: serde_json::Value,
}

/// Equal on every sweep that meets the row; a later void of the same order is another one.
pub(crate) fn event_id(row: &VoidedPurchase) -> String {
    let order = row.order_id.as_deref().unwrap_or("-");
    format!("voided/{order}/{}", row.voided_time.timestamp_millis())
}

pub(super) fn decode(body: &[u8]) -> Option<Result<Notification, String>> {
    let swept: SweptVoid = serde_json::from_slice(body).ok()?;
    let unreadable = |_| "not a row of the voided purchases list".to_owned();
    let row = serde_json::from_value(swept.voided_purchase).map_err(unreadable);
    Some(row.map(|row| notification(swept.package_name, row)))
}

fn notification(package_name: String, row: VoidedPurchase) -> Notification {
    let cause = match row.voided_reason {
        Some(CHARGEBACK) => VoidCause::Chargeback,
        Some(UNACKNOWLEDGED) => VoidCause::Unacknowledged,
        Some(_) | None => VoidCause::Other,
    };
    let void = row.order_id.map(|order_id| Evidence::Void {
        order_id,
        at: row.voided_time,
        partial: row.voided_quantity.is_some(),
        cause,
    });
    Notification {
        package_name,
        event_time: row.voided_time,
        kind: meaning::of_void(),
        subject: Subject::Purchase {
            token: row.purchase_token,
            void,
        },
    }
}
