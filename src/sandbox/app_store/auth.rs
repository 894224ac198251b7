//! The tokens with which a server calls the App Store Server API.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::super::jws::{Opened, SigningKey};

const AUDIENCE: &str = "appstoreconnect-v1";
/// A token may be valid this long at most.
const LIFETIME_SECONDS_MAX: i64 = 60 * 60;
/// How far a caller's clock may be ahead.
const SKEW_SECONDS: i64 = 60;

/// The token whose signature was found good last: callers use one for many calls, and to verify it
/// costs more than to answer most of them.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct LastToken(Mutex<String>);

impl LastToken {
    fn is(&self, token: &str) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == token
    }

    fn set(&self, token: &str) {
        token.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Who may call.
pub(super) struct Expected<'a> {
    pub(super) key: &'a SigningKey,
    pub(super) last: &'a LastToken,
    pub(super) issuer_id: &'a str,
    pub(super) bundle_id: &'a str,
}

impl Expected<'_> {
    /// Whether Apple would let a request with this `Authorization` header in.
    pub(super) fn admits(&self, authorization: Option<&str>, now_seconds: i64) -> bool {
        let bearer = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let Some((text, token)) = bearer.and_then(|text| Some((text, Opened::parse(text)?))) else {
            return false;
        };
        token.header["kid"] == *self.key.kid
            && self.is_signed(text, &token)
            && self.claims_hold(&token.claims, now_seconds)
    }

    fn is_signed(&self, text: &str, token: &Opened<'_>) -> bool {
        if self.last.is(text) {
            return true;
        }
        let signed = token.signed_by(self.key);
        if signed {
            self.last.set(text);
        }
        signed
    }

    fn claims_hold(&self, claims: &Value, now: i64) -> bool {
        let Some(expires) = claims["exp"].as_i64() else {
            return false;
        };
        // `iat` is optional: Apple's own Python library sends none.
        let stated = claims.get("iat").filter(|stated| !stated.is_null());
        let Some(issued) = stated.map_or(Some(now), Value::as_i64) else {
            return false;
        };
        claims["iss"] == *self.issuer_id
            && claims["aud"] == AUDIENCE
            && claims["bid"] == *self.bundle_id
            && issued <= now + SKEW_SECONDS
            && expires > now
            && expires - issued <= LIFETIME_SECONDS_MAX
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::jws::{Algorithm, compact};
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_800_000_000;

    fn claims() -> Value {
        json!({"iss": "issuer", "aud": AUDIENCE, "bid": "com.example.app", "exp": NOW + 300})
    }

    #[test]
    fn only_the_registered_key_with_the_right_claims_is_let_in() {
        let key = SigningKey::generate(Algorithm::Es256, "K1".to_owned()).unwrap();
        let stranger = SigningKey::generate(Algorithm::Es256, "K1".to_owned()).unwrap();
        let last = LastToken::default();
        let expected = Expected {
            key: &key,
            last: &last,
            issuer_id: "issuer",
            bundle_id: "com.example.app",
        };
        let admits = |token: String| expected.admits(Some(&format!("Bearer {token}")), NOW);
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            key.token(&claims).unwrap()
        };
        let good = key.token(&claims()).unwrap();
        // Known by then, it is let in until it runs out, and no token that only begins like it is.
        for _ in 0..2 {
            assert!(admits(good.clone()));
            assert!(!admits(good[..good.len() - 2].to_owned()));
        }
        assert!(!expected.admits(Some(&format!("Bearer {good}")), NOW + 300));
        assert!(admits(with("iat", json!(NOW))));
        for (name, value) in [
            ("iss", json!("other")),
            ("aud", json!("appstoreconnect-v2")),
            ("bid", json!("com.example.other")),
            ("exp", json!(NOW)),
            ("exp", json!(NOW + 3_601)),
            ("exp", json!("soon")),
            ("exp", Value::Null),
            ("iat", json!(NOW + 120)),
            ("iat", json!(NOW - 3_500)),
        ] {
            assert!(!admits(with(name, value.clone())), "{name} = {value}");
        }
        assert!(!admits(stranger.token(&claims()).unwrap()));
        let header = json!({"alg": "ES256", "kid": "K2"});
        assert!(!admits(
            compact(&header, &claims(), |m| key.sign(m)).unwrap()
        ));
        let header = json!({"alg": "none", "kid": "K1"});
        assert!(!admits(
            compact(&header, &claims(), |_| Ok(Vec::new())).unwrap()
        ));
        assert!(!expected.admits(None, NOW));
        assert!(!expected.admits(Some("Bearer x"), NOW));
    }
}
