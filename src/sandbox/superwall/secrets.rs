//! The webhook's signing secrets: the one in use, and for a day after a rotation the last one.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::super::disk;
use super::super::error::SandboxError;
use super::super::jws::machine_seconds;

const FILE: &str = "superwall.json";
const PREFIX: &str = "whsec_";
const SECRET_BYTES: usize = 24;
/// After a rotation messages are signed with the old secret as well for so long.
const OVERLAP: Duration = Duration::from_secs(86_400);

/// Secrets as they are handed out.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::sandbox) struct Secrets {
    current: String,
    previous: Option<Previous>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Previous {
    secret: String,
    /// Machine time in seconds at which it was replaced.
    replaced_at: i64,
}

impl Secrets {
    /// Loads the secrets kept in `dir`, or makes a new one.
    pub(in crate::sandbox) fn load_or_generate(dir: Option<&Path>) -> Result<Self, SandboxError> {
        if let Some(dir) = dir
            && let Some(stored) = disk::read(&dir.join(FILE))?
        {
            return Ok(stored);
        }
        let secrets = Self {
            current: fresh()?,
            previous: None,
        };
        secrets.save(dir)?;
        Ok(secrets)
    }

    /// A new secret signs from now on, and the last one beside it for a day of machine time.
    pub(in crate::sandbox) fn rotate(&mut self, dir: Option<&Path>) -> Result<(), SandboxError> {
        let secret = std::mem::replace(&mut self.current, fresh()?);
        self.previous = Some(Previous {
            secret,
            replaced_at: machine_seconds(),
        });
        self.save(dir)
    }

    fn save(&self, dir: Option<&Path>) -> Result<(), SandboxError> {
        dir.map_or(Ok(()), |dir| disk::write(&dir.join(FILE), self))
    }

    /// The secret in use, as the developer copies it: `whsec_` and base64.
    pub(in crate::sandbox) fn current(&self) -> &str {
        &self.current
    }

    /// The value of `svix-signature`: a signature by each secret that holds.
    pub(super) fn signatures(&self, id: &str, seconds: i64, body: &str) -> String {
        let overlap = i64::try_from(OVERLAP.as_secs()).unwrap_or(i64::MAX);
        let previous = self.previous.as_ref();
        let previous = previous.filter(|previous| seconds - previous.replaced_at < overlap);
        let secrets = [
            Some(self.current.as_str()),
            previous.map(|previous| previous.secret.as_str()),
        ];
        let signed = secrets.into_iter().flatten().map(|secret| {
            let key = STANDARD.decode(secret.strip_prefix(PREFIX).unwrap_or(secret));
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key.unwrap_or_default());
            let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
            format!("v1,{}", STANDARD.encode(tag))
        });
        signed.collect::<Vec<_>>().join(" ")
    }
}

fn fresh() -> Result<String, SandboxError> {
    let mut bytes = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_published_example() {
        // Example of the Svix documentation.
        let secrets = Secrets {
            current: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            previous: None,
        };
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(
            secrets.signatures(id, 1_614_265_330, r#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_rotation_signs_twice_for_a_day() {
        let mut secrets = Secrets::load_or_generate(None).unwrap();
        let before = secrets.signatures("a", machine_seconds(), "{}");
        let old = secrets.current().to_owned();
        secrets.rotate(None).unwrap();
        assert_ne!(old, secrets.current());
        let now = machine_seconds();
        let both = secrets.signatures("a", now, "{}");
        assert_eq!(both.split(' ').count(), 2);
        assert!(both.ends_with(&before) || now > machine_seconds() - 2);
        let later = secrets.signatures("a", now + 86_400, "{}");
        assert_eq!(later.split(' ').count(), 1);
    }
}
