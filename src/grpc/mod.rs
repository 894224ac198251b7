//! The public door: gRPC and gRPC-Web by tonic. A handler is parse → one flow → convert.

mod accept;
mod accounts;
pub(crate) mod auth;
mod catalog;
pub(crate) mod codec;
mod connection;
mod convert;
mod deadline;
mod door;
mod entry;
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
mod shed;
mod status;
mod streams;
mod support;
mod threads;
mod transcode;
mod wire;

pub(crate) use accounts::Tokens;
pub(crate) use convert::encode_snapshot;
pub(crate) use server::{Carrier, ServeOptions, in_process, serve};
pub(crate) use threads::ConnectionThreads;
pub(crate) use transcode::openapi;
