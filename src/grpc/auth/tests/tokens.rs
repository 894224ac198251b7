//! Remembered tokens: spared the signature, never the expiry.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use uuid::Uuid;

use super::super::cache::{self, Verified, VerifiedTokens};
use super::super::{Authenticator, Cause, Moment};
use super::support::{KEYS, SECRET, Time, authenticator, present, token};

const NOW: u64 = Time::NOW;

fn development() -> Authenticator {
    authenticator(&format!(
        "[[issuers]]\nname = \"dev\"\nshared_secret = \"{SECRET}\""
    ))
}

fn minted(exp: u64) -> String {
    let claims = json!({ "iss": "dev", "sub": "u", "exp": exp });
    token(&json!({ "alg": "HS256" }), &claims, &KEYS.hs256)
}

#[tokio::test]
async fn one_token_is_one_caller() {
    let auth = development();
    let token = minted(NOW + 100);
    let first = present(&auth, &token, Time::start()).await.unwrap();
    let account = Uuid::from_u128(1);
    assert_eq!(first.account.get_or_init(|| account), &account);
    let second = present(&auth, &token, Time::start().later(99))
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(second.account.get(), Some(&account));
    assert_eq!(
        second.expires_at,
        UNIX_EPOCH + Duration::from_secs(NOW + 100)
    );
    let other = present(&auth, &minted(NOW + 101), Time::start())
        .await
        .unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    assert_eq!(auth.verified.len(), 2);
}

#[tokio::test]
async fn an_entry_is_not_believed_at_or_after_its_expiry() {
    let auth = development();
    let token = minted(NOW + 100);
    let start = Time::start();
    let first = present(&auth, &token, start).await.unwrap();
    // Within the tolerance it is verified anew, not remembered.
    for seconds in [100, 130, 159] {
        let again = present(&auth, &token, start.later(seconds)).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &again), "{seconds}");
    }
    for seconds in [160, 161, 100_000] {
        let answer = present(&auth, &token, start.later(seconds)).await;
        assert_eq!(answer.err(), Some(Cause::Expired), "{seconds}");
    }
}

#[tokio::test]
async fn a_token_in_its_tolerance_is_never_remembered() {
    let auth = development();
    let token = minted(NOW - 30);
    present(&auth, &token, Time::start()).await.unwrap();
    present(&auth, &minted(NOW), Time::start()).await.unwrap();
    assert_eq!(auth.verified.len(), 0);
}

#[tokio::test]
async fn the_cache_itself_lets_go_at_expiry() {
    let auth = development();
    let wall = SystemTime::now();
    let unix = wall.duration_since(UNIX_EPOCH).unwrap();
    let token = minted(unix.as_secs() + 2);
    let caller = auth
        .authenticate(Some(&format!("Bearer {token}")))
        .await
        .unwrap();
    assert_eq!(auth.verified.len(), 1);
    let digest = cache::digest(&token);
    assert!(auth.verified.caller(&digest, Moment::now()).is_some());
    // The same caller in a cache of its own, with half a second to live.
    let issuer = auth.issuers.values().next().unwrap();
    let wall = caller.expires_at - Duration::from_millis(500);
    let now = Moment {
        wall,
        ..Moment::now()
    };
    let tokens = VerifiedTokens::new();
    tokens.insert(digest, Verified::new(&caller, issuer, 0, now), now);
    assert!(tokens.caller(&digest, now).is_some());
    // By either clock: one that was set back prolongs nothing.
    let half = Duration::from_millis(500);
    let steady = Moment {
        steady: now.steady + half,
        ..now
    };
    assert!(tokens.caller(&digest, steady).is_none());
    let wall = Moment {
        wall: now.wall + half,
        ..now
    };
    assert!(tokens.caller(&digest, wall).is_none());
}

#[tokio::test]
async fn tokens_that_differ_in_one_bit_share_nothing() {
    let auth = development();
    let token = minted(NOW + 100);
    present(&auth, &token, Time::start()).await.unwrap();
    let mut forged = token.clone().into_bytes();
    let middle = forged.len() - 20;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let answer = present(&auth, &forged, Time::start()).await;
    assert_eq!(answer.err(), Some(Cause::SignatureInvalid));
}

#[test]
fn nothing_printed_names_the_token_or_the_secret() {
    let auth = development();
    let issuer = auth.issuers.values().next().unwrap();
    assert_eq!(&*issuer.value, "dev");
    for cause in [Cause::SignatureInvalid, Cause::Malformed, Cause::Subject] {
        let error = super::super::AuthError(cause);
        let printed = format!("{error} {error:?} {cause}");
        assert!(
            !printed.contains(SECRET) && !printed.contains("eyJ"),
            "{printed}"
        );
    }
}
