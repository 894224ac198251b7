//! Google's token endpoint: a signed assertion of the service account for a bearer token.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::jws::{Opened, SigningKey};

/// What google-auth puts into `aud` whatever token endpoint it is pointed at.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/androidpublisher";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const LIFETIME_SECONDS: i64 = 3_600;
/// How far a caller's clock may be off.
const SKEW_SECONDS: i64 = 60;

/// The service account that may ask.
pub(in crate::sandbox) const EMAIL: &str = "entitled@entitled-sandbox.iam.gserviceaccount.com";

/// What the service account may do, as granted in the Play Console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleAccess {
    /// Look, and manage orders and subscriptions.
    #[default]
    Full,
    /// Look only.
    ViewOnly,
    /// Nothing: the account has not been invited.
    None,
}

/// Bearer tokens given out, with the machine time at which they end, and what they open.
#[derive(Default)]
pub(in crate::sandbox) struct Tokens {
    ends: Mutex<BTreeMap<String, Instant>>,
    access: Mutex<ConsoleAccess>,
}

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
        let Some(assertion) = form.get("assertion") else {
            return Err(refuse(
                "invalid_request",
                "Missing required parameter: assertion",
            ));
        };
        let assertion = Opened::parse(assertion).filter(|assertion| assertion.signed_by(key));
        let Some(assertion) = assertion else {
            return Err(refuse("invalid_grant", "Invalid JWT Signature."));
        };
        check(&assertion.claims, own_url, now_seconds)
            .map_err(|(error, why)| refuse(error, why))?;
        let token = format!("ya29.{}", Uuid::new_v4().simple());
        let end = Instant::now() + Duration::from_secs(LIFETIME_SECONDS.unsigned_abs());
        let mut tokens = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
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
        let tokens = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|token| tokens.get(token))
            .is_some_and(|end| *end > Instant::now())
    }

    pub(super) fn access(&self) -> ConsoleAccess {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the account may do.
    pub(in crate::sandbox) fn set_access(&self, access: ConsoleAccess) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
    }

    /// Ends all tokens, as when the account's key is revoked.
    pub(in crate::sandbox) fn revoke_all(&self) {
        self.ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

/// What is wrong with an assertion's claims: `error` and `error_description`.
fn check(claims: &Value, own_url: &str, now: i64) -> Result<(), (&'static str, &'static str)> {
    if claims["iss"] != EMAIL {
        return Err(("invalid_grant", "Invalid grant: account not found"));
    }
    if claims["aud"] != AUDIENCE && claims["aud"] != own_url {
        return Err((
            "invalid_grant",
            "Invalid JWT: Failed audience check. The right audience is \
             https://oauth2.googleapis.com/token",
        ));
    }
    let times = (claims["iat"].as_i64(), claims["exp"].as_i64());
    let timely = matches!(times, (Some(issued), Some(expires))
        if issued <= now + SKEW_SECONDS
            && expires > now - SKEW_SECONDS
            && expires - issued <= LIFETIME_SECONDS);
    if !timely {
        return Err((
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable \
             timeframe. Check your iat and exp values in the JWT claim.",
        ));
    }
    let scopes = claims["scope"].as_str().unwrap_or_default();
    match scopes.split(' ').any(|scope| scope == SCOPE) {
        true => Ok(()),
        false => Err((
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided.",
        )),
    }
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
            let error = match name {
                "scope" => "invalid_scope",
                _ => "invalid_grant",
            };
            assert_eq!(refusal["error"], error, "{name}");
            assert!(refusal["error_description"].is_string());
        }
        assert!(ask(stranger.token(&claims()).unwrap()).is_err());
        assert!(!tokens.admits(Some("Bearer ya29.guess")));
        tokens.revoke_all();
        assert!(!tokens.admits(Some(&bearer)));
    }
}
