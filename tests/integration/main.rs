//! Through the public interfaces, on a real Postgres, against the store simulator.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub
)]

mod support;

mod doors;
mod spine;
