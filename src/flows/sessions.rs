//! Sessions of accounts without a sign-in: opened with the account, carried on by refresh tokens.

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use tracing::warn;
use uuid::Uuid;

use super::Core;
use crate::domain::ids::AccountId;
use crate::domain::session::{OWN_ISSUER, Renewal, Why, renew};
use crate::failpoint;
use crate::storage::accounts::Account;
use crate::storage::token_sessions::{self, Hash, Locked};
use crate::storage::{StorageError, Tx, accounts};

/// Says what the text is, to people and to scanners that look for leaked secrets.
const PREFIX: &str = "ert_";
const FAMILY_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// A session with the refresh token that carries it on.
pub(crate) struct Session {
    pub(crate) id: Uuid,
    pub(crate) account: AccountId,
    pub(crate) refresh_token: SecretString,
}

/// Why a refresh token is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshTokenError {
    /// Not one of ours, expired, or replaced: not told apart.
    #[error("the refresh token is not accepted")]
    Invalid,
    #[error("the user has signed in since")]
    Linked,
    /// The token stays good; it may be tried again after that long.
    #[error("this session was refreshed too often")]
    TooMany(Duration),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a client holds: which session, and the secret that is good for one refresh.
struct RefreshToken {
    family: [u8; FAMILY_BYTES],
    secret: [u8; SECRET_BYTES],
}

impl RefreshToken {
    fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (family, secret) = bytes.split_at_checked(FAMILY_BYTES)?;
        Some(Self {
            family: family.try_into().ok()?,
            secret: secret.try_into().ok()?,
        })
    }

    fn text(&self) -> SecretString {
        let bytes = [self.family.as_slice(), &self.secret].concat();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).into()
    }

    fn hash(&self) -> Hash {
        sha256(&self.secret)
    }

    /// The token after this one. Who has this one and the salt can make it again; who has the
    /// database alone cannot.
    fn next(&self, salt: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(hmac::sign(&key, salt).as_ref());
        Self {
            family: self.family,
            secret,
        }
    }
}

fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Makes an account that nobody has signed in to, and its session.
pub(crate) async fn create_anonymous(
    core: &Core,
    lifetime: Duration,
) -> Result<(Account, Session), StorageError> {
    let token = RefreshToken {
        family: rand::random(),
        secret: rand::random(),
    };
    let mut tx = core.db.begin().await?;
    let account = accounts::create_anonymous(&mut tx, OWN_ISSUER, core.clock.now()).await?;
    let id = token_sessions::open(
        &mut tx,
        account.id,
        &sha256(&token.family),
        &token.hash(),
        lifetime,
    )
    .await?;
    tx.commit().await?;
    let session = Session {
        id,
        account: account.id,
        refresh_token: token.text(),
    };
    Ok((account, session))
}

/// Carries a session on. Safe to repeat and to race: whoever sends the same token meets the row's
/// lock, and gets the same answer.
pub(crate) async fn refresh_token(
    core: &Core,
    presented: &str,
    lifetime: Duration,
) -> Result<Session, RefreshTokenError> {
    let token = RefreshToken::parse(presented).ok_or(RefreshTokenError::Invalid)?;
    let mut tx = core.db.begin().await?;
    let locked = token_sessions::lock(&mut tx, &sha256(&token.family)).await?;
    let locked = locked.ok_or(RefreshTokenError::Invalid)?;
    let next = match renew(&locked.kept, &token.hash()) {
        Renewal::Rotate | Renewal::Replace => {
            let limit = &core.limits.rotations;
            limit
                .take_of(locked.id)
                .map_err(RefreshTokenError::TooMany)?;
            rotate(&mut tx, &locked, &token, lifetime).await?
        }
        Renewal::Repeat => match &locked.salt {
            Some(salt) => token.next(salt),
            None => return Err(StorageError::Corrupt("a session without its salt".into()).into()),
        },
        Renewal::Revoke => {
            token_sessions::revoke(&mut tx, locked.id, Why::Reused).await?;
            tx.commit().await.map_err(StorageError::from)?;
            core.hub.end(locked.id, locked.account);
            metrics::counter!("entitled_sessions_revoked_total", "reason" => "reused").increment(1);
            warn!(session = %locked.id, account = %locked.account,
                "a refresh token came that had been replaced; its session is over");
            return Err(RefreshTokenError::Invalid);
        }
        Renewal::Refuse(Some(Why::Linked)) => return Err(RefreshTokenError::Linked),
        Renewal::Refuse(Some(Why::Reused | Why::Erased) | None) => {
            return Err(RefreshTokenError::Invalid);
        }
    };
    failpoint::at("before_refresh_commit");
    tx.commit().await.map_err(StorageError::from)?;
    failpoint::at("after_refresh_commit");
    Ok(Session {
        id: locked.id,
        account: locked.account,
        refresh_token: next.text(),
    })
}

async fn rotate(
    tx: &mut Tx<'_>,
    locked: &Locked,
    token: &RefreshToken,
    lifetime: Duration,
) -> Result<RefreshToken, StorageError> {
    let salt: [u8; SECRET_BYTES] = rand::random();
    let next = token.next(&salt);
    token_sessions::rotate(tx, locked.id, &token.hash(), &salt, &next.hash(), lifetime).await?;
    Ok(next)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_only_so() {
        let token = RefreshToken {
            family: [1; FAMILY_BYTES],
            secret: [2; SECRET_BYTES],
        };
        let text = token.text();
        let text = text.expose_secret();
        let read = RefreshToken::parse(text).expect("read");
        assert_eq!((read.family, read.secret), (token.family, token.secret));
        for junk in [
            "",
            "ert_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}A"),
            &text.replace("ert_", "ERT_"),
        ] {
            assert!(RefreshToken::parse(junk).is_none(), "{junk}");
        }
    }

    #[test]
    fn the_next_token_follows_from_this_one_and_the_salt() {
        let token = RefreshToken {
            family: [1; FAMILY_BYTES],
            secret: [2; SECRET_BYTES],
        };
        let next = token.next(b"salt");
        assert_eq!(next.secret, token.next(b"salt").secret);
        assert_ne!(next.secret, token.next(b"other").secret);
        assert_ne!(next.secret, token.secret);
        assert_eq!(next.family, token.family);
    }
}
