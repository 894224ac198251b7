//! The tokens with which a server calls the App Store Server API.

use serde_json::Value;

use super::super::jws::{Opened, SigningKey};

const AUDIENCE: &str = "appstoreconnect-v1";
/// A token may be valid this long at most.
const LIFETIME_SECONDS_MAX: i64 = 60 * 60;
/// How far a caller's clock may be ahead.
const SKEW_SECONDS: i64 = 60;

/// Who may call.
pub(super) struct Expected<'a> {
    pub(super) key: &'a SigningKey,
    pub(super) issuer_id: &'a str,
    pub(super) bundle_id: &'a str,
}

impl Expected<'_> {
    /// Whether Apple would let a request with this `Authorization` header in.
    pub(super) fn admits(&self, authorization: Option<&str>, now_seconds: i64) -> bool {
        authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(Opened::parse)
            .is_some_and(|token| {
                token.header["kid"] == *self.key.kid
                    && token.signed_by(self.key)
                    && self.claims_hold(&token.claims, now_seconds)
            })
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
        let expected = Expected {
            key: &key,
            issuer_id: "issuer",
            bundle_id: "com.example.app",
        };
        let admits = |token: String| expected.admits(Some(&format!("Bearer {token}")), NOW);
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            key.token(&claims).unwrap()
        };
        assert!(admits(key.token(&claims()).unwrap()));
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
