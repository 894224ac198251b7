//! Google's token endpoint: a signed assertion of the service account for a bearer token.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::jws::{Opened, SigningKey};

/// What google-auth puts into `aud` whatever token endpoint it is pointed at.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/androidpublisher";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const LIFETIME_SECONDS: u64 = 3_600;
/// How far a caller's clock may be off.
const SKEW_SECONDS: i64 = 60;

/// The service account that may ask.
pub(in crate::sandbox) const EMAIL: &str = "entitled@entitled-sandbox.iam.gserviceaccount.com";

/// Bearer tokens given out, with the machine time at which they end.
#[derive(Default)]
pub(in crate::sandbox) struct Tokens(Mutex<BTreeMap<String, Instant>>);

impl Tokens {
    /// Answers a token request; `Err` holds the body of a refusal.
    pub(super) fn grant(
        &self,
        form: &BTreeMap<String, String>,
        key: &SigningKey,
        own_url: &str,
        now_seconds: i64,
    ) -> Result<Value, Value> {
        let refuse = |error: &str, why: &str| json!({"error": error, "error_description": why});
        if form.get("grant_type").map(String::as_str) != Some(GRANT) {
            return Err(refuse("unsupported_grant_type", "Invalid grant_type."));
        }
        let assertion = form.get("assertion").and_then(|text| Opened::parse(text));
        let Some(assertion) = assertion.filter(|assertion| assertion.signed_by(key)) else {
            return Err(refuse("invalid_grant", "Invalid JWT Signature."));
        };
        if !claims_hold(&assertion.claims, own_url, now_seconds) {
            return Err(refuse("invalid_grant", "Invalid JWT."));
        }
        let token = format!("ya29.{}", Uuid::new_v4().simple());
        let end = Instant::now() + Duration::from_secs(LIFETIME_SECONDS);
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, end| *end > Instant::now());
        tokens.insert(token.clone(), end);
        Ok(json!({
            "access_token": token,
            "expires_in": LIFETIME_SECONDS - 1,
            "token_type": "Bearer",
        }))
    }

    /// Whether the header carries a token that was given out and still holds.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|token| tokens.get(token))
            .is_some_and(|end| *end > Instant::now())
    }

    /// Ends all tokens, as when the account's key is revoked.
    pub(in crate::sandbox) fn revoke_all(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

fn claims_hold(claims: &Value, own_url: &str, now: i64) -> bool {
    let (Some(issued), Some(expires)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
        return false;
    };
    let scope = claims["scope"].as_str().unwrap_or_default();
    claims["iss"] == EMAIL
        && (claims["aud"] == AUDIENCE || claims["aud"] == own_url)
        && scope.split(' ').any(|scope| scope == SCOPE)
        && issued <= now + SKEW_SECONDS
        && expires > now - SKEW_SECONDS
        && expires - issued <= i64::try_from(LIFETIME_SECONDS).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::super::jws::Algorithm;
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const OWN: &str = "http://127.0.0.1:1/google/token";

    fn claims() -> Value {
        json!({"iss": EMAIL, "scope": SCOPE, "aud": AUDIENCE, "iat": NOW, "exp": NOW + 3_600})
    }

    #[test]
    fn a_bearer_token_is_given_for_a_genuine_assertion_only() {
        let key = SigningKey::generate(Algorithm::Rs256, "k".to_owned()).unwrap();
        let stranger = SigningKey::generate(Algorithm::Rs256, "k".to_owned()).unwrap();
        let tokens = Tokens::default();
        let ask = |assertion: String| {
            let form = [("grant_type", GRANT), ("assertion", &assertion)];
            let form = form.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            tokens.grant(&form, &key, OWN, NOW)
        };
        let answer = ask(key.token(&claims()).unwrap()).unwrap();
        let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
        assert!(tokens.admits(Some(&bearer)));
        let mut own = claims();
        own["aud"] = json!(OWN);
        assert!(ask(key.token(&own).unwrap()).is_ok());
        for (name, value) in [
            ("iss", json!("somebody@else")),
            ("aud", json!("https://example.com")),
            ("scope", json!("https://www.googleapis.com/auth/drive")),
            ("exp", json!(NOW - 61)),
            ("exp", json!(NOW + 7_200)),
            ("iat", Value::Null),
        ] {
            let mut claims = claims();
            claims[name] = value;
            let refusal = ask(key.token(&claims).unwrap()).unwrap_err();
            assert_eq!(refusal["error"], "invalid_grant", "{name}");
        }
        assert!(ask(stranger.token(&claims()).unwrap()).is_err());
        assert!(!tokens.admits(Some("Bearer ya29.guess")));
        tokens.revoke_all();
        assert!(!tokens.admits(Some(&bearer)));
    }
}
