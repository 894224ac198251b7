//! The public door: gRPC and gRPC-Web by tonic. A handler is parse → one flow → convert.

pub(crate) mod auth;
pub(crate) mod codec;
mod convert;
mod door;
mod guard;
mod offers;
mod pages;
pub mod policy;
mod purchases;
mod server;
mod service;
pub(crate) mod shared_snapshot;
mod status;
mod streams;
mod support;
mod wire;

pub(crate) use convert::encode_snapshot;
pub(crate) use server::{Limits, ServeOptions, serve};
