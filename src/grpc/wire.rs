//! The API as the server speaks it: snapshots are bytes that were encoded once.

#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    dead_code
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/server/entitled.v1.rs"));
}

pub(crate) use generated::*;
