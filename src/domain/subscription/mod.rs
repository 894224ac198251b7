//! Payment state: what a store says of one purchase, and when its word is taken.

pub(crate) mod guard;
pub(crate) mod state;
pub(crate) mod store_state;
