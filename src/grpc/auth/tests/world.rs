//! The issuers of the attack tests, their genuine token, and ways to spoil it.

use serde_json::{Value, json};

use super::super::{Authenticator, Cause};
use super::support::{KEYS, SECRET, Site, Time, authenticator, base64, raw, token, with};

pub(super) const NOW: u64 = Time::NOW;
/// The genuine header, as text.
pub(super) const HEADER: &str = r#"{"alg":"ES256","kid":"es","typ":"JWT"}"#;

pub(super) struct World {
    pub(super) site: Site,
    pub(super) auth: Authenticator,
    pub(super) header: Value,
    pub(super) claims: Value,
}

impl World {
    pub(super) async fn open() -> Self {
        let site = Site::with_keys(vec![
            with(
                &KEYS.rs256.jwk("rs"),
                json!({ "alg": "RS256", "use": "sig" }),
            ),
            KEYS.es256.jwk("es"),
            with(&KEYS.eddsa.jwk("ed"), json!({ "key_ops": ["verify"] })),
            with(&KEYS.stranger.jwk("enc"), json!({ "use": "enc" })),
            with(&KEYS.rs384.jwk("rs384"), json!({ "alg": "RS384" })),
            with(&KEYS.ps256.jwk("ps256"), json!({ "alg": "PS256" })),
            KEYS.es384.jwk("es384"),
            json!({ "kty": "oct", "kid": "oct", "k": base64(SECRET), "alg": "HS256" }),
            json!({ "kty": "RSA", "kid": "weak", "n": base64([0xff; 128]), "e": "AQAB" }),
            json!({ "kty": "EC", "kid": "off", "crv": "P-256",
                    "x": base64([7; 32]), "y": base64([9; 32]) }),
        ])
        .await;
        let base = &site.base;
        let auth = authenticator(&format!(
            r#"
            [[issuers]]
            name = "app"
            preset = "oidc"
            issuer = "{base}"
            jwks_url = "{base}/keys"
            audience = ["api"]
            service_scope = "entitled.service"
            viewer_scope = "entitled.viewer"
            operator_scope = "entitled.operator"
            admin_scope = "entitled.admin"
            role_claim = "/realm_access/roles"
            [[issuers]]
            name = "dev"
            shared_secret = "{SECRET}"
            "#
        ));
        let claims = json!({
            "iss": base, "sub": "user-1", "aud": "api", "exp": NOW + 600, "iat": NOW - 10,
        });
        let header = serde_json::from_str(HEADER).unwrap();
        Self {
            site,
            auth,
            header,
            claims,
        }
    }

    pub(super) fn genuine(&self) -> String {
        token(&self.header, &self.claims, &KEYS.es256)
    }

    pub(super) fn with_header(&self, changes: Value) -> String {
        token(&with(&self.header, changes), &self.claims, &KEYS.es256)
    }

    /// `null` removes a claim here; a claim that is null is in the raw cases.
    pub(super) fn with_claims(&self, changes: Value) -> String {
        token(&self.header, &with(&self.claims, changes), &KEYS.es256)
    }

    /// The genuine claims as text, with `from` replaced by `to`.
    pub(super) fn edited(&self, from: &str, to: &str) -> String {
        let claims = self.claims.to_string();
        assert!(claims.contains(from), "{from}");
        raw(HEADER, &claims.replacen(from, to, 1), &KEYS.es256)
    }

    pub(super) fn with_extra(&self, extra: &str) -> String {
        self.edited("{", &format!("{{{extra},"))
    }
}

/// A name, a token, and why it must be refused.
pub(super) type Case = (String, String, Cause);

pub(super) fn case(name: impl Into<String>, token: String, cause: Cause) -> Case {
    (name.into(), token, cause)
}
