//! Genuine documents are believed; every forged, misused or misspelt one is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chain;
mod jws;

use super::VerifyError;
use crate::providers::app_store::tests::support::{Signer, now};
use crate::providers::app_store::wire::Transaction;

fn outcome(signer: &Signer, jws: &str) -> Result<(), VerifyError> {
    signer
        .verifier()
        .verify::<Transaction>(jws, now())
        .map(drop)
}
