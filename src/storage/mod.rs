//! Postgres: one file per table or aggregate. SQL lives here and nowhere else.

pub(crate) mod accounts;
pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod budget;
pub(crate) mod catalogs;
pub(crate) mod chains;
pub(crate) mod claims;
pub mod cluster;
pub(crate) mod consumption;
pub(crate) mod credits;
mod db;
pub(crate) mod deliveries;
pub(crate) mod deployment;
pub(crate) mod diagnosis;
pub(crate) mod duties;
pub(crate) mod events;
pub(crate) mod evidence;
pub(crate) mod grants;
pub(crate) mod history;
pub(crate) mod holdings;
pub(crate) mod ingress;
pub(crate) mod job_cursors;
pub(crate) mod joins;
pub(crate) mod leases;
pub(crate) mod ledger;
pub(crate) mod listener;
pub(crate) mod operator_actions;
pub(crate) mod ownership;
pub(crate) mod replays;
pub(crate) mod retention;
pub(crate) mod scratch;
pub(crate) mod snapshots;
pub(crate) mod timeline;
pub(crate) mod transactions;
pub(crate) mod work;

pub(crate) use db::{Db, StorageError, Tx, savepoint};
