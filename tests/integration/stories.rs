//! Failures that other systems are known for, each told as a test: it must not happen here.

mod owners;
mod signals;
mod silence;
