//! `entitled`: what does this account have access to right now? See `docs/architecture.md`.

pub mod app;
mod bounded;
pub mod cli;
pub mod clock;
pub mod config;
mod domain;
mod edge;
mod encryption;
mod failpoint;
mod flows;
mod grpc;
mod http;
mod jobs;
pub mod proto;
mod providers;
pub mod sandbox;
pub mod storage;
pub mod telemetry;
mod watch;
mod webhooks;

pub use crate::grpc::policy;
