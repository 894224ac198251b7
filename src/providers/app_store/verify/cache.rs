//! Chains that held, so that the next document of the same signer costs one signature check.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{Context, SHA256};

use super::chain::Chain;

/// The App Store signs with one or two leaves at a time; beyond this the cache starts over.
const CHAINS_MAX: usize = 32;

type Key = [u8; 32];

/// Verified chains by the certificates that a header names. Only a chain that leads to a pinned
/// root gets in, so nobody else can fill it; its own validity is checked at every use.
#[derive(Default)]
pub(super) struct ChainCache(RwLock<HashMap<Key, Arc<Chain>>>);

impl ChainCache {
    pub(super) fn get(&self, certificates: [&str; 2]) -> Option<Arc<Chain>> {
        let chains = self.0.read().unwrap_or_else(PoisonError::into_inner);
        chains.get(&key(certificates)?).cloned()
    }

    pub(super) fn put(&self, certificates: [&str; 2], chain: Arc<Chain>) {
        let Some(key) = key(certificates) else { return };
        let mut chains = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if chains.len() >= CHAINS_MAX {
            chains.clear();
        }
        chains.insert(key, chain);
    }
}

/// Base64 holds no comma, so the two cannot be divided otherwise.
fn key([leaf, intermediate]: [&str; 2]) -> Option<Key> {
    let mut context = Context::new(&SHA256);
    context.update(leaf.as_bytes());
    context.update(b",");
    context.update(intermediate.as_bytes());
    context.finish().as_ref().try_into().ok()
}
