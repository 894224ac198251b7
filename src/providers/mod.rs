//! The stores at the edge: each verifies, fetches and normalises its own, and nothing else.

pub(crate) mod app_store;
pub(crate) mod contract;
pub(crate) mod google_play;
pub(crate) mod registry;
pub(crate) mod superwall;
