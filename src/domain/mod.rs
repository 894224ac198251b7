//! The functional core: what a purchase means, who owns it, what an account may use.
//!
//! Nothing here waits, reads a clock, rolls dice, logs, or knows SQL or a wire format.

pub(crate) mod account_token;
pub(crate) mod api_key;
pub(crate) mod catalog;
pub(crate) mod chain;
pub(crate) mod credit;
pub(crate) mod delivery;
pub(crate) mod duty;
pub(crate) mod entitlement;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod gift;
pub(crate) mod goods;
pub(crate) mod guide;
pub(crate) mod holding;
pub(crate) mod horizon;
pub(crate) mod ids;
pub(crate) mod lease;
pub(crate) mod linking;
pub(crate) mod money;
pub(crate) mod offer;
pub(crate) mod ownership;
pub(crate) mod planted;
pub(crate) mod preflight;
pub(crate) mod provider;
pub(crate) mod reconcile;
pub(crate) mod refund_defence;
pub(crate) mod role;
pub(crate) mod session;
pub(crate) mod silence;
mod stacking;
pub(crate) mod subscription;
pub(crate) mod sweep;
pub(crate) mod time;
pub(crate) mod waiver;
pub(crate) mod wording;
