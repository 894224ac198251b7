//! Every key the two stores and the identity provider hold. Apple's follow from the seed, the
//! others are made at random; the state directory keeps them all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::certs::{AppleChain, StoredChain};
use super::disk;
use super::ecdsa::{Curve, EcKey};
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

/// What the simulator is started from, as far as keys depend on it.
pub(super) struct Origin<'a> {
    pub(super) seed: u64,
    /// The state directory, if there is one.
    pub(super) dir: Option<&'a Path>,
    /// Base URL of the OCSP responders that certificates name.
    pub(super) ocsp: String,
}

impl Origin<'_> {
    /// What a key with this name is drawn from.
    fn secret(&self, name: &str) -> String {
        format!("entitled sandbox {} {name}", self.seed)
    }

    /// The first 16 bytes that belong to this name, for ids.
    fn id(&self, name: &str) -> [u8; 16] {
        let hash = digest(&SHA256, self.secret(name).as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(hash.as_ref().get(..16).unwrap_or(&[0; 16]));
        id
    }
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
        origin: &Origin<'_>,
        rsa: impl Fn(Role) -> Result<SigningKey, SandboxError>,
    ) -> Result<Self, SandboxError> {
        let uuid = |name| uuid::Builder::from_random_bytes(origin.id(name)).into_uuid();
        let kid = uuid("key id").simple().to_string().to_uppercase();
        let kid = kid.chars().take(10).collect();
        let api = EcKey::derive(Curve::P256, origin.secret("api").as_bytes())?;
        Ok(Self {
            apple: AppleChain::derive(&origin.secret("chain"), origin.ocsp.clone())?,
            apple_api: SigningKey::es256(kid, api),
            apple_issuer_id: uuid("issuer").to_string(),
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

/// Loads the keys kept in the state directory, or makes new ones.
pub(super) fn load_or_generate(origin: &Origin<'_>) -> Result<(Keys, IdentityKeys), SandboxError> {
    let dir = origin.dir;
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
        let keys = Keys::generate(origin, rsa)?;
        save(dir, &keys, &identity)?;
        return Ok((keys, identity));
    };
    let load_all = |keys: Vec<StoredKey>| -> Result<Vec<_>, _> {
        keys.into_iter().map(SigningKey::load).collect()
    };
    Ok((
        Keys {
            apple: AppleChain::load(&stored.apple, origin.ocsp.clone())?,
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
