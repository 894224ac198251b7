//! The public API as a client sees it: generated messages and client, and the descriptors.

#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/client/entitled.v1.rs"));
}

pub use generated::*;

/// The encoded `FileDescriptorSet` of `proto/`, for reflection and tests.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
