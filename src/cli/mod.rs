//! The command line.

pub mod client;
pub mod stack;
mod token;
