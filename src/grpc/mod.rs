//! The public door: gRPC and gRPC-Web by tonic. A handler is parse → one flow → convert.

mod accounts;
mod address;
pub(crate) mod auth;
mod catalog;
pub(crate) mod codec;
mod convert;
mod door;
mod guard;
mod keys;
mod offers;
mod pages;
pub mod policy;
mod preflight;
mod products;
mod published;
mod purchases;
mod request_size;
mod restore;
mod server;
mod service;
pub(crate) mod shared_snapshot;
mod socket;
mod status;
mod streams;
mod support;
mod transcode;
mod wire;

pub(crate) use accounts::Tokens;
pub(crate) use address::TrustedProxies;
pub(crate) use convert::encode_snapshot;
pub(crate) use server::{Carrier, Limits, ServeOptions, in_process, serve};
pub(crate) use socket::Tls;
pub(crate) use transcode::openapi;
