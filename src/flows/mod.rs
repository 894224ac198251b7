//! Use cases, as verbs. Everything that changes access ends in `settle` or `derive`.

pub(crate) mod act_at_store;
pub(crate) mod apply_catalog;
pub(crate) mod bind_purchase;
mod breaker;
pub(crate) mod claim_delivery;
mod core;
mod derive;
pub(crate) mod examine;
pub(crate) mod explain;
pub(crate) mod fulfil_duties;
mod goods;
pub(crate) mod grant;
mod join;
pub(crate) mod limits;
pub(crate) mod list_transactions;
pub(crate) mod own_account;
pub(crate) mod pass_time;
pub(crate) mod past;
pub(crate) mod preflight;
pub(crate) mod read_entitlements;
pub(crate) mod receive_notification;
pub(crate) mod reconcile;
pub(crate) mod refresh;
pub(crate) mod register_store_token;
pub(crate) mod replay;
pub(crate) mod replay_ingress;
pub(crate) mod resolve;
pub(crate) mod restore_purchases;
pub(crate) mod resync;
pub(crate) mod retain;
pub(crate) mod rotate_keys;
pub(crate) mod sessions;
pub(crate) mod set_consumption;
mod settle;
mod settled_events;
pub(crate) mod sign_offer;
pub(crate) mod sweep;
pub(crate) mod tell_timeline;
pub(crate) mod transfer;
pub(crate) mod watch_sources;

pub(crate) use self::core::{Core, Healing, Settings, Tuning};
// What the doors need to name: they speak to flows alone.
pub(crate) use crate::providers::contract::{Proof, ProofError};
pub(crate) use crate::storage::StorageError;
pub(crate) use crate::storage::accounts::Account;
