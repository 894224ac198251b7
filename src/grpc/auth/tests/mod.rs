//! Credentials from the outside: headers in, callers or refusals out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accepted;
mod attacks;
mod forged;
mod keys;
mod malformed;
mod presets;
mod support;
mod tokens;
mod world;
