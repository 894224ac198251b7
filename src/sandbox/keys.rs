//! Every key the two stores and the identity provider hold; made at random once, kept in the
//! state directory after that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::certs::{AppleChain, StoredChain};
use super::disk;
use super::error::SandboxError;
use super::jws::{Algorithm, SigningKey, StoredKey};

const FILE: &str = "keys.json";

/// Keys that never change while a simulator lives.
pub(super) struct Keys {
    pub(super) apple: AppleChain,
    /// What the server signs its App Store Server API requests with.
    pub(super) apple_api: SigningKey,
    pub(super) apple_issuer_id: String,
    /// The server's service account at Google.
    pub(super) service_account: SigningKey,
    /// Google's own key, for the tokens on pushed notifications.
    pub(super) push: SigningKey,
}

/// The identity provider's keys: those that sign now, and those just retired.
pub(super) struct IdentityKeys {
    current: Vec<SigningKey>,
    previous: Vec<SigningKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKeys {
    apple: StoredChain,
    apple_api: StoredKey,
    apple_issuer_id: String,
    service_account: StoredKey,
    push: StoredKey,
    identity: Vec<StoredKey>,
    identity_previous: Vec<StoredKey>,
}

/// What an RSA key is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    ServiceAccount,
    Push,
    Identity,
}

fn fresh(algorithm: Algorithm) -> Result<SigningKey, SandboxError> {
    SigningKey::generate(algorithm, Uuid::new_v4().simple().to_string())
}

/// RSA keys take long to make, so the simulators of one process that keep nothing share them.
fn shared_rsa(role: Role) -> Result<SigningKey, SandboxError> {
    static SHARED: Mutex<BTreeMap<Role, StoredKey>> = Mutex::new(BTreeMap::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stored) = shared.get(&role) {
        return SigningKey::load(stored.clone());
    }
    let key = fresh(Algorithm::Rs256)?;
    shared.insert(role, key.store());
    Ok(key)
}

impl Keys {
    fn generate(
        rsa: impl Fn(Role) -> Result<SigningKey, SandboxError>,
    ) -> Result<Self, SandboxError> {
        let kid = Uuid::new_v4().simple().to_string().to_uppercase();
        let kid = kid.chars().take(10).collect();
        Ok(Self {
            apple: AppleChain::generate()?,
            apple_api: SigningKey::generate(Algorithm::Es256, kid)?,
            apple_issuer_id: Uuid::new_v4().to_string(),
            service_account: rsa(Role::ServiceAccount)?,
            push: rsa(Role::Push)?,
        })
    }
}

impl IdentityKeys {
    fn generate(rsa: SigningKey) -> Result<Self, SandboxError> {
        Ok(Self {
            current: vec![fresh(Algorithm::Es256)?, rsa, fresh(Algorithm::EdDsa)?],
            previous: Vec::new(),
        })
    }

    /// New keys sign from now on; the last ones stay published, those before them vanish.
    pub(super) fn rotate(&mut self) -> Result<(), SandboxError> {
        let next = Self::generate(fresh(Algorithm::Rs256)?)?;
        self.previous = std::mem::replace(&mut self.current, next.current);
        Ok(())
    }

    pub(super) fn signer(&self, algorithm: Algorithm) -> Result<&SigningKey, SandboxError> {
        self.current
            .iter()
            .find(|key| key.algorithm() == algorithm)
            .ok_or_else(|| SandboxError::Key("no identity key of that algorithm".to_owned()))
    }

    /// Public halves of all keys that verify.
    pub(super) fn jwks(&self) -> Vec<Value> {
        self.current
            .iter()
            .chain(&self.previous)
            .map(SigningKey::jwk)
            .collect()
    }
}

/// Loads the keys kept in `dir`, or makes new ones.
pub(super) fn load_or_generate(dir: Option<&Path>) -> Result<(Keys, IdentityKeys), SandboxError> {
    let stored: Option<StoredKeys> = match dir {
        Some(dir) => disk::read(&dir.join(FILE))?,
        None => None,
    };
    let Some(stored) = stored else {
        let rsa = |role| match dir {
            Some(_) => fresh(Algorithm::Rs256),
            None => shared_rsa(role),
        };
        let identity = IdentityKeys::generate(rsa(Role::Identity)?)?;
        let keys = Keys::generate(rsa)?;
        save(dir, &keys, &identity)?;
        return Ok((keys, identity));
    };
    let load_all = |keys: Vec<StoredKey>| -> Result<Vec<_>, _> {
        keys.into_iter().map(SigningKey::load).collect()
    };
    Ok((
        Keys {
            apple: AppleChain::load(stored.apple)?,
            apple_api: SigningKey::load(stored.apple_api)?,
            apple_issuer_id: stored.apple_issuer_id,
            service_account: SigningKey::load(stored.service_account)?,
            push: SigningKey::load(stored.push)?,
        },
        IdentityKeys {
            current: load_all(stored.identity)?,
            previous: load_all(stored.identity_previous)?,
        },
    ))
}

/// Writes all keys to `dir`, if there is one.
pub(super) fn save(
    dir: Option<&Path>,
    keys: &Keys,
    identity: &IdentityKeys,
) -> Result<(), SandboxError> {
    let Some(dir) = dir else { return Ok(()) };
    let stored = StoredKeys {
        apple: keys.apple.store(),
        apple_api: keys.apple_api.store(),
        apple_issuer_id: keys.apple_issuer_id.clone(),
        service_account: keys.service_account.store(),
        push: keys.push.store(),
        identity: identity.current.iter().map(SigningKey::store).collect(),
        identity_previous: identity.previous.iter().map(SigningKey::store).collect(),
    };
    disk::write(&dir.join(FILE), &stored)
}
