//! What support asks and does: on the database host or over the API, by the same calls.

mod acts;
mod json;
mod replay;
mod story;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

pub(super) use self::acts::{
    GrantArgs, ResyncArgs, RevokeGrantArgs, StoreArgs, TransferArgs, at_store, grant, resync,
    revoke_grant, transfer,
};
pub(super) use self::replay::{ReplayArgs, replay};
pub(super) use self::story::{
    EntitlementsArgs, ExplainArgs, FindArgs, TimelineArgs, TransactionsArgs, entitlements, explain,
    find, timeline, transactions,
};

/// Rows that one call asks for.
pub(super) const PAGE: i32 = 500;

pub(super) fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// A moment to the second: "2027-01-15 12:00:00"; empty if there is none.
fn moment(at: Option<Timestamp>) -> String {
    at.and_then(|at| DateTime::<Utc>::from_timestamp(at.seconds, 0))
        .map(|at| at.format("%F %T").to_string())
        .unwrap_or_default()
}

/// A value's own word: `INACTIVE_REASON_ON_HOLD` of `INACTIVE_REASON` is "on_hold".
fn word(name: &str, of: &str) -> String {
    let own = name.strip_prefix(of).unwrap_or(name);
    own.trim_start_matches('_').to_lowercase()
}
