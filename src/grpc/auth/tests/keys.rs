//! Key sets over time: rotation, unknown key ids, outages, discovery, hostile answers.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::refresh::discovered;
use super::super::{Authenticator, Cause};
use super::support::{KEYS, Signer, Site, Time, authenticator, base64, present, token, with};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

struct World {
    site: Site,
    auth: Authenticator,
}

impl World {
    async fn open(keys: Vec<Value>) -> Self {
        let site = Site::with_keys(keys).await;
        let auth = Self::authenticator(&site.base, "");
        Self { site, auth }
    }

    fn authenticator(base: &str, more: &str) -> Authenticator {
        authenticator(&format!(
            "[[issuers]]\nname = \"app\"\npreset = \"oidc\"\nissuer = \"{base}\"\n\
             jwks_url = \"{base}/keys\"\naudience = [\"api\"]\n{more}"
        ))
    }

    fn token(&self, kid: Option<&str>, alg: &str, signer: &Signer, sub: &str) -> String {
        let header = with(&json!({ "alg": alg }), json!({ "kid": kid }));
        let exp = Time::NOW + 48 * HOUR;
        let claims = json!({ "iss": self.site.base, "aud": "api", "sub": sub, "exp": exp });
        token(&header, &claims, signer)
    }

    async fn ask(&self, token: &str, time: Time) -> Result<(), Cause> {
        present(&self.auth, token, time).await.map(drop)
    }

    /// Waits for a fetch that runs behind a request.
    async fn requests_become(&self, expected: usize) {
        for _ in 0..200 {
            if self.site.requests() >= expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.site.requests(), expected);
    }
}

#[tokio::test]
async fn a_storm_of_unknown_key_ids_causes_one_fetch_a_minute() {
    let world = World::open(vec![KEYS.es256.jwk("es")]).await;
    let start = Time::start();
    let genuine = world.token(Some("es"), "ES256", &KEYS.es256, "u");
    world.ask(&genuine, start).await.unwrap();
    for second in 0..5 * MINUTE {
        for n in 0..4 {
            let kid = format!("forged-{second}-{n}");
            let forged = world.token(Some(&kid), "ES256", &KEYS.stranger, "u");
            let answer = world.ask(&forged, start.later(second)).await;
            assert_eq!(answer, Err(Cause::KeyUnknown));
        }
    }
    // The first load and one for each full minute since.
    assert_eq!(world.site.requests(), 5);
    world.ask(&genuine, start.later(5 * MINUTE)).await.unwrap();
}

#[tokio::test]
async fn simultaneous_first_callers_share_one_fetch() {
    let world = World::open(vec![KEYS.es256.jwk("es")]).await;
    world.site.slow(Duration::from_millis(100));
    let tokens: Vec<String> = (0..50)
        .map(|n| world.token(Some("es"), "ES256", &KEYS.es256, &format!("u{n}")))
        .collect();
    let start = Time::start();
    let asked = tokens.iter().map(|token| world.ask(token, start));
    let answers = futures::future::join_all(asked).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(world.site.requests(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_the_fetch() {
    let world = World::open(vec![KEYS.es256.jwk("es")]).await;
    world.site.slow(Duration::from_millis(200));
    let token = world.token(Some("es"), "ES256", &KEYS.es256, "u");
    let asked = world.ask(&token, Time::start());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), asked)
            .await
            .is_err()
    );
    world.ask(&token, Time::start()).await.unwrap();
    assert_eq!(world.site.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_at_the_next_allowed_fetch() {
    let world = World::open(vec![KEYS.es256.jwk("old")]).await;
    let start = Time::start();
    let old = world.token(Some("old"), "ES256", &KEYS.es256, "u");
    let new = world.token(Some("new"), "EdDSA", &KEYS.eddsa, "u");
    world.ask(&old, start).await.unwrap();
    world
        .site
        .publish(vec![KEYS.es256.jwk("old"), KEYS.eddsa.jwk("new")]);
    assert_eq!(
        world.ask(&new, start.later(59)).await,
        Err(Cause::KeyUnknown)
    );
    world.ask(&new, start.later(60)).await.unwrap();
    world.ask(&old, start.later(60)).await.unwrap();
    assert_eq!(world.site.requests(), 2);
}

#[tokio::test]
async fn a_removed_key_stops_verifying_after_the_refresh_even_for_remembered_tokens() {
    let world = World::open(vec![KEYS.es256.jwk("old"), KEYS.eddsa.jwk("new")]).await;
    let start = Time::start();
    let old = world.token(Some("old"), "ES256", &KEYS.es256, "u");
    let new = world.token(Some("new"), "EdDSA", &KEYS.eddsa, "u");
    world.ask(&old, start).await.unwrap();
    assert_eq!(world.auth.verified.len(), 1);
    world.site.publish(vec![KEYS.eddsa.jwk("new")]);
    // Fresh enough: nothing is fetched. Then the age is noticed, behind the request.
    world.ask(&old, start.later(9 * MINUTE)).await.unwrap();
    assert_eq!(world.site.requests(), 1);
    world.ask(&old, start.later(10 * MINUTE)).await.unwrap();
    world.requests_become(2).await;
    let later = start.later(10 * MINUTE + 1);
    assert_eq!(world.ask(&old, later).await, Err(Cause::KeyUnknown));
    world.ask(&new, later).await.unwrap();
    // And again: renewals by age go on for ever.
    for round in 2..5 {
        world
            .ask(&new, start.later(10 * MINUTE * round))
            .await
            .unwrap();
        world
            .requests_become(usize::try_from(round).unwrap() + 1)
            .await;
    }
}

#[tokio::test]
async fn after_an_idle_time_the_keys_are_fetched_before_they_are_believed() {
    let world = World::open(vec![KEYS.es256.jwk("old")]).await;
    let start = Time::start();
    let old = world.token(Some("old"), "ES256", &KEYS.es256, "u");
    world.ask(&old, start).await.unwrap();
    world.site.publish(vec![KEYS.eddsa.jwk("new")]);
    assert_eq!(
        world.ask(&old, start.later(HOUR)).await,
        Err(Cause::KeyUnknown)
    );
}

#[tokio::test]
async fn known_keys_outlive_an_outage_of_a_day_and_no_more() {
    let world = World::open(vec![KEYS.es256.jwk("es")]).await;
    let start = Time::start();
    let known = world.token(Some("es"), "ES256", &KEYS.es256, "u");
    world.ask(&known, start).await.unwrap();
    world.site.fail();
    for minute in [30, 31, 120, 23 * 60 + 59] {
        let other = world.token(Some("es"), "ES256", &KEYS.es256, &format!("u{minute}"));
        world
            .ask(&known, start.later(minute * MINUTE))
            .await
            .unwrap();
        world
            .ask(&other, start.later(minute * MINUTE))
            .await
            .unwrap();
    }
    // A key that cannot be looked up may be genuine.
    let unknown = world.token(Some("new"), "ES256", &KEYS.es256, "u");
    let hour = start.later(23 * HOUR);
    assert_eq!(world.ask(&unknown, hour).await, Err(Cause::KeysUnavailable));
    let day = start.later(24 * HOUR);
    assert_eq!(world.ask(&known, day).await, Err(Cause::KeysUnavailable));
    world.site.publish(vec![KEYS.es256.jwk("es")]);
    world.ask(&known, day.later(MINUTE)).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_asked_every_few_seconds() {
    let world = World::open(vec![]).await;
    world.site.fail();
    let start = Time::start();
    let token = world.token(Some("es"), "ES256", &KEYS.es256, "u");
    for second in 0..10 {
        let answer = world.ask(&token, start.later(second)).await;
        assert_eq!(answer, Err(Cause::KeysUnavailable));
    }
    assert_eq!(world.site.requests(), 2);
    world.site.publish(vec![KEYS.es256.jwk("es")]);
    world.ask(&token, start.later(10)).await.unwrap();
}

#[tokio::test]
async fn a_token_without_a_key_id_needs_exactly_one_key_that_fits() {
    let world = World::open(vec![KEYS.es256.jwk("a"), KEYS.eddsa.jwk("b")]).await;
    let token = world.token(None, "ES256", &KEYS.es256, "u");
    world.ask(&token, Time::start()).await.unwrap();
    let world = World::open(vec![KEYS.es256.jwk("a"), KEYS.stranger.jwk("b")]).await;
    let token = world.token(None, "ES256", &KEYS.es256, "u");
    assert_eq!(
        world.ask(&token, Time::start()).await,
        Err(Cause::KeyAmbiguous)
    );
    let none = world.token(None, "EdDSA", &KEYS.eddsa, "u");
    assert_eq!(
        world.ask(&none, Time::start()).await,
        Err(Cause::AlgorithmMismatch)
    );
    // An id must be published to be named, and the same id twice names nothing.
    let unnamed = with(&KEYS.es256.jwk("x"), json!({ "kid": null }));
    let world = World::open(vec![unnamed]).await;
    let token = world.token(Some("x"), "ES256", &KEYS.es256, "u");
    assert_eq!(
        world.ask(&token, Time::start()).await,
        Err(Cause::KeyUnknown)
    );
    let world = World::open(vec![KEYS.stranger.jwk("x"), KEYS.es256.jwk("x")]).await;
    let token = world.token(Some("x"), "ES256", &KEYS.es256, "u");
    assert_eq!(
        world.ask(&token, Time::start()).await,
        Err(Cause::KeyAmbiguous)
    );
}

#[tokio::test]
async fn keys_for_other_uses_verify_nothing() {
    let good = KEYS.rs256.jwk("k");
    let unusable = [
        json!({ "use": "enc" }),
        json!({ "use": 1 }),
        json!({ "key_ops": ["encrypt"] }),
        json!({ "key_ops": [] }),
        json!({ "key_ops": "verify" }),
        json!({ "kty": "rsa" }),
        json!({ "kty": "XYZ" }),
        json!({ "alg": "RS384" }),
        json!({ "alg": "ES256" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "none" }),
        json!({ "alg": 1 }),
        json!({ "alg": "RSA-OAEP" }),
        json!({ "n": base64([0xff; 255]) }),
        json!({ "n": "not base64" }),
        json!({ "e": "" }),
        json!({ "d": "AQAB" }),
        json!({ "kid": ["k"] }),
    ];
    for changes in unusable {
        let world = World::open(vec![with(&good, changes.clone())]).await;
        let token = world.token(Some("k"), "RS256", &KEYS.rs256, "u");
        let answer = world.ask(&token, Time::start()).await;
        assert_eq!(answer, Err(Cause::KeyUnknown), "{changes}");
    }
    for changes in [
        json!({ "x": "AQAB" }),
        json!({ "crv": "P-384" }),
        json!({ "crv": "secp256k1" }),
    ] {
        let world = World::open(vec![with(&KEYS.es256.jwk("k"), changes.clone())]).await;
        let token = world.token(Some("k"), "ES256", &KEYS.es256, "u");
        assert_eq!(
            world.ask(&token, Time::start()).await,
            Err(Cause::KeyUnknown),
            "{changes}"
        );
    }
}

#[tokio::test]
async fn the_configured_algorithms_decide_for_keys_without_one() {
    let cases = [
        ("[\"RS384\", \"RS256\"]", "RS384", &KEYS.rs384, true),
        ("[\"RS384\", \"RS256\"]", "RS256", &KEYS.rs256, false),
        ("[\"PS256\"]", "PS256", &KEYS.ps256, true),
        ("[\"PS256\"]", "RS256", &KEYS.rs256, false),
        ("[\"ES384\"]", "ES384", &KEYS.es384, true),
        ("[\"ES384\"]", "ES256", &KEYS.es256, false),
    ];
    for (allowed, alg, signer, accepted) in cases {
        let site = Site::with_keys(vec![signer.jwk("k")]).await;
        let auth = World::authenticator(&site.base, &format!("algorithms = {allowed}"));
        let world = World { site, auth };
        let token = world.token(Some("k"), alg, signer, "u");
        let answer = world.ask(&token, Time::start()).await;
        assert_eq!(answer.is_ok(), accepted, "{allowed} {alg}: {answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_changes_nothing() {
    let many: Vec<Value> = (0..101).map(|n| KEYS.eddsa.jwk(&n.to_string())).collect();
    let good = json!({ "keys": [KEYS.es256.jwk("es")] }).to_string();
    let answers = [
        String::new(),
        "<html>".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        json!({ "keys": {} }).to_string(),
        json!({ "keys": many }).to_string(),
        good.replacen('{', "{\"keys\":[],", 1),
        format!("{good}{}", " ".repeat(256 * 1024)),
    ];
    let world = World::open(vec![KEYS.es256.jwk("es")]).await;
    let token = world.token(Some("es"), "ES256", &KEYS.es256, "u");
    let mut time = Time::start();
    world.ask(&token, time).await.unwrap();
    for answer in answers {
        world.site.put("/keys", answer);
        time = time.later(11 * MINUTE);
        let unknown = world.token(Some("new"), "ES256", &KEYS.es256, "u");
        assert_eq!(world.ask(&unknown, time).await, Err(Cause::KeysUnavailable));
        world.ask(&token, time).await.unwrap();
    }
    // An empty set is one: the issuer has withdrawn its keys.
    world.site.publish(vec![]);
    time = time.later(MINUTE);
    let unknown = world.token(Some("new"), "ES256", &KEYS.es256, "u");
    assert_eq!(world.ask(&unknown, time).await, Err(Cause::KeyUnknown));
    assert_eq!(world.ask(&token, time).await, Err(Cause::KeyUnknown));
}

#[tokio::test]
async fn discovery_must_name_the_same_issuer() {
    let site = Site::with_keys(vec![KEYS.es256.jwk("es")]).await;
    let base = site.base.clone();
    let toml = format!(
        "[[issuers]]\nname = \"app\"\npreset = \"oidc\"\nissuer = \"{base}\"\naudience = [\"api\"]"
    );
    let auth = authenticator(&toml);
    let world = World { site, auth };
    let token = world.token(Some("es"), "ES256", &KEYS.es256, "u");
    let keys = format!("{base}/keys");
    let documents = [
        json!({ "issuer": format!("{base}/"), "jwks_uri": keys }).to_string(),
        json!({ "issuer": "https://evil.example", "jwks_uri": keys }).to_string(),
        json!({ "jwks_uri": keys }).to_string(),
        json!({ "issuer": base }).to_string(),
        json!({ "issuer": base, "jwks_uri": 1 }).to_string(),
        json!({ "issuer": base, "jwks_uri": "http://192.0.2.1/keys" }).to_string(),
        json!({ "issuer": base, "jwks_uri": "file:///etc/passwd" }).to_string(),
        format!("{{\"issuer\":\"x\",\"issuer\":\"{base}\",\"jwks_uri\":\"{keys}\"}}"),
    ];
    let mut time = Time::start();
    for document in documents {
        world
            .site
            .put("/.well-known/openid-configuration", document.clone());
        time = time.later(5);
        let answer = world.ask(&token, time).await;
        assert_eq!(answer, Err(Cause::KeysUnavailable), "{document}");
    }
    let document = json!({ "issuer": base, "jwks_uri": keys }).to_string();
    world
        .site
        .put("/.well-known/openid-configuration", document);
    world.ask(&token, time.later(5)).await.unwrap();
}

#[tokio::test]
async fn preloading_spares_the_first_caller_the_fetch() {
    let world = World::open(vec![KEYS.es256.jwk("es")]).await;
    world.auth.preload().await;
    assert_eq!(world.site.requests(), 1);
    let token = world.token(Some("es"), "ES256", &KEYS.es256, "u");
    world.ask(&token, Time::start()).await.unwrap();
    assert_eq!(world.site.requests(), 1);
}

#[test]
fn an_https_issuer_cannot_point_to_plain_http() {
    let issuer = "https://id.example.com";
    let found = |url: &str| {
        let document = json!({ "issuer": issuer, "jwks_uri": url }).to_string();
        discovered(document.as_bytes(), issuer)
    };
    let keys = "https://keys.example.com/certs";
    assert_eq!(found(keys).as_deref(), Some(keys));
    assert_eq!(found("http://127.0.0.1/certs"), None);
}
