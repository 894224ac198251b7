//! The provider against documents signed in the test and a store on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod effects;
mod inspect;
mod normalize;
mod notification;
mod proof;
pub(super) mod support;
mod sweep;
mod xcode;
