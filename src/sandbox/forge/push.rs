//! The corpus of the tokens that Google's pushes carry.

use aws_lc_rs::hmac;
use serde_json::{Map, Value, json};

use super::super::Sandbox;
use super::super::identity::{PUSH_AUDIENCE, PUSH_EMAIL, PUSH_ISSUER, PushToken};
use super::super::jws::{Algorithm, SigningKey, compact, encode, machine_seconds, pem};
use super::{Forged, Specimen, forgery, genuine, of};

/// A claim, and what it says instead.
type Change = (&'static str, Value);

const HOUR: i64 = 3_600;
/// Parameters that bring a key or change what is signed.
const PARAMETERS: [&str; 6] = ["jku", "x5u", "jwk", "x5c", "crit", "b64"];

/// Tokens of Google's and of everybody else's. `canary` is a URL that nobody may ask for.
pub fn push_corpus(sandbox: &Sandbox, canary: &str) -> Forged {
    let mut all = claims(sandbox)?;
    all.extend(signers(sandbox, canary)?);
    Ok(of("C6", all).collect())
}

fn claims(sandbox: &Sandbox) -> Forged {
    let now = machine_seconds();
    let token = |changes: &[Change]| {
        let claims: Map<String, Value> = changes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        sandbox.push_token(&PushToken {
            claims,
            by_stranger: false,
        })
    };
    let aud = |value: Value| ("aud", value);
    let cases: Vec<(&str, Vec<Change>, bool)> = vec![
        ("as Google sends it", vec![], true),
        (
            "another audience",
            vec![aud(json!("https://evil.example"))],
            false,
        ),
        (
            "a longer audience",
            vec![aud(json!(format!("{PUSH_AUDIENCE}/")))],
            false,
        ),
        ("no audience", vec![aud(Value::Null)], false),
        ("an empty audience", vec![aud(json!(""))], false),
        (
            "another e-mail address",
            vec![("email", json!("a@b.iam.gserviceaccount.com"))],
            false,
        ),
        (
            "the e-mail address in capitals",
            vec![("email", json!(PUSH_EMAIL.to_uppercase()))],
            false,
        ),
        (
            "a longer e-mail address",
            vec![("email", json!(format!("{PUSH_EMAIL}.evil.example")))],
            false,
        ),
        ("no e-mail address", vec![("email", Value::Null)], false),
        (
            "an unverified e-mail address",
            vec![("email_verified", json!(false))],
            false,
        ),
        (
            "email_verified as text",
            vec![("email_verified", json!("true"))],
            false,
        ),
        (
            "no email_verified",
            vec![("email_verified", Value::Null)],
            false,
        ),
        (
            "another issuer",
            vec![("iss", json!("https://accounts.google.com.evil.example"))],
            false,
        ),
        (
            "an issuer in capitals",
            vec![("iss", json!(PUSH_ISSUER.to_uppercase()))],
            false,
        ),
        ("no issuer", vec![("iss", Value::Null)], false),
        (
            "expired an hour ago",
            vec![("iat", json!(now - 2 * HOUR)), ("exp", json!(now - HOUR))],
            false,
        ),
        (
            "expired two minutes ago",
            vec![("iat", json!(now - HOUR)), ("exp", json!(now - 120))],
            false,
        ),
        (
            "issued in ten minutes",
            vec![("iat", json!(now + 600)), ("exp", json!(now + HOUR))],
            false,
        ),
        (
            "issued within the minute from now",
            vec![("iat", json!(now + 55))],
            true,
        ),
        ("no expiry", vec![("exp", Value::Null)], false),
        (
            "expiry as text",
            vec![("exp", json!((now + HOUR).to_string()))],
            false,
        ),
        (
            "expiry with a fraction",
            vec![("exp", json!(now as f64 + 1800.5))],
            false,
        ),
        (
            "expiry in a list",
            vec![("exp", json!([now + HOUR]))],
            false,
        ),
        (
            "expiry in ten years",
            vec![("exp", json!(now + 10 * 365 * 24 * HOUR))],
            false,
        ),
        ("expiry below zero", vec![("exp", json!(-1))], false),
        (
            "expiry beyond all numbers",
            vec![("exp", json!(1e308))],
            false,
        ),
        (
            "not valid before an hour from now",
            vec![("nbf", json!(now + HOUR))],
            false,
        ),
        (
            "issue time as text",
            vec![("iat", json!(now.to_string()))],
            false,
        ),
        (
            "claims that nobody knows",
            vec![("future", json!({"a": [1]}))],
            true,
        ),
    ];
    let mut all = Vec::new();
    for (name, changes, is_genuine) in cases {
        let jws = token(&changes)?;
        all.push(Specimen {
            genuine: is_genuine,
            ..forgery(name, jws)
        });
    }
    Ok(all)
}

/// Signatures that are not Google's, and headers that want to be checked otherwise.
fn signers(sandbox: &Sandbox, canary: &str) -> Forged {
    let google = &sandbox.inner.keys.push;
    let now = machine_seconds();
    let claims = json!({
        "iss": PUSH_ISSUER, "aud": PUSH_AUDIENCE, "sub": "1", "azp": "1", "email": PUSH_EMAIL,
        "email_verified": true, "iat": now, "exp": now + HOUR,
    });
    let head = json!({"alg": "RS256", "kid": google.kid, "typ": "JWT"});
    let with = |name: &str, value: Value| {
        let mut head = head.clone();
        head[name] = value;
        compact(&head, &claims, |text| google.sign(text))
    };
    let hmac_by = |secret: &[u8], alg: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let head = json!({"alg": alg, "kid": google.kid, "typ": "JWT"});
        compact(&head, &claims, |text| {
            Ok(hmac::sign(&key, text).as_ref().to_vec())
        })
    };
    let stranger = SigningKey::generate(Algorithm::Rs256, google.kid.clone())?;
    let good = google.token(&claims)?;
    let (message, signature) = good.rsplit_once('.').unwrap_or_default();
    let public = pem("PUBLIC KEY", google.public_bytes());
    let unsigned = |alg: &str| {
        let head = encode(json!({"alg": alg, "kid": google.kid}).to_string());
        format!("{head}.{}.", encode(claims.to_string()))
    };
    let mut all = vec![
        genuine("with Google's key", good.clone()),
        forgery(
            "by a stranger under Google's key id",
            stranger.token(&claims)?,
        ),
        forgery(
            "HS256 under the public key in DER",
            hmac_by(google.public_bytes(), "HS256")?,
        ),
        forgery(
            "HS256 under the public key in PEM",
            hmac_by(public.as_bytes(), "HS256")?,
        ),
        forgery(
            "RS256 that is an HMAC",
            hmac_by(public.as_bytes(), "RS256")?,
        ),
        forgery("none", unsigned("none")),
        forgery("NonE", unsigned("NonE")),
        forgery("RS256 without a signature", unsigned("RS256")),
        forgery("alg RS384", with("alg", json!("RS384"))?),
        forgery("alg rs256", with("alg", json!("rs256"))?),
        forgery("alg PS256", with("alg", json!("PS256"))?),
        forgery("an unknown key id", with("kid", json!("nobody"))?),
        forgery(
            "a key id that is a path",
            with("kid", json!("../../etc/passwd"))?,
        ),
        forgery(
            "signature cut short",
            format!("{message}.{}", &signature[..signature.len() - 4]),
        ),
        forgery("two parts", message.to_owned()),
        forgery("no token", String::new()),
        forgery(
            "a token of a mebibyte",
            format!("{message}.{}", "A".repeat(1 << 20)),
        ),
        forgery("another document under the signature", {
            let mut changed = claims.clone();
            changed["sub"] = json!("2");
            let (head, _) = message.split_once('.').unwrap_or_default();
            format!("{head}.{}.{signature}", encode(changed.to_string()))
        }),
    ];
    for name in PARAMETERS {
        let value = match name {
            "jwk" => stranger.jwk(),
            "x5c" | "crit" => json!(["b64"]),
            "b64" => json!(false),
            _ => json!(canary),
        };
        all.push(forgery(format!("{name} in the header"), with(name, value)?));
    }
    Ok(all)
}
