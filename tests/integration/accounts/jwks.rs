//! The published key set, and what is refused although one of its keys signed it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tonic::Code;

use super::{Phone, refused};
use crate::scene::{now, payload_of};
use crate::support::{HTTP, World, assert_refused};

const ISSUER: &str = "https://entitled.invalid";

async fn key_set(world: &World) -> Value {
    let url = format!("{}/.well-known/jwks.json", world.stack.address.server);
    let answer = HTTP.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().expect("text");
    assert_eq!(kind, "application/jwk-set+json");
    answer.json().await.expect("JSON")
}

fn seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

/// The server's own key, as a thief of it would use it, to see what else is checked.
fn key(world: &World) -> EncodingKey {
    let file = world.stack.address.config.with_file_name("tokens.pem");
    let pem = std::fs::read(file).expect("the key");
    EncodingKey::from_ec_pem(&pem).expect("a key")
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_can_check_our_tokens_by_the_published_keys() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let token = phone.credentials.access_token.as_str();
    let header = jsonwebtoken::decode_header(token).expect("a header");
    assert_eq!(header.alg, Algorithm::ES256);
    let set = key_set(&world).await;
    let keys = set["keys"].as_array().expect("keys");
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0]["kid"].as_str(), header.kid.as_deref());
    assert!(keys[0].get("d").is_none(), "a private key was published");

    let (x, y) = (keys[0]["x"].as_str(), keys[0]["y"].as_str());
    let public = DecodingKey::from_ec_components(x.expect("x"), y.expect("y")).expect("a key");
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&[ISSUER]);
    rules.set_issuer(&[ISSUER]);
    let claims = jsonwebtoken::decode::<Value>(token, &public, &rules).expect("it verifies");
    assert_eq!(claims.claims["sub"], phone.person.account);
    assert!(claims.claims["exp"].as_u64().expect("exp") <= seconds() + 15 * 60);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_signs_and_the_old_one_still_verifies() {
    let mut world = World::start().await;
    let before = Phone::first_start(&world).await;
    let new = world.stack.address.config.with_file_name("new.pem");
    let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    std::fs::write(&new, made.serialize_pem()).expect("written");
    world
        .restart(|config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            tokens.key_files.insert(0, new.clone());
        })
        .await;
    assert_eq!(
        key_set(&world).await["keys"].as_array().map(Vec::len),
        Some(2)
    );
    let old = world
        .client_with_token(&before.credentials.access_token)
        .await;
    now(&old).await;
    let after = Phone::first_start(&world).await;
    let kid = |token: &str| jsonwebtoken::decode_header(token).expect("a header").kid;
    assert_ne!(
        kid(&after.credentials.access_token),
        kid(&before.credentials.access_token)
    );

    // The old key is gone: its tokens are, too; its sessions are not.
    world
        .restart(|config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            tokens.key_files = vec![new.clone()];
        })
        .await;
    let gone = refused(&world, &before.credentials.access_token).await;
    assert_refused(&gone, Code::Unauthenticated, "TOKEN_INVALID");
    super::refresh(&world, &before.credentials.refresh_token)
        .await
        .expect("credentials");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_key_signed_for_another_purpose_is_no_credential() {
    let world = World::start().await;
    let phone = Phone::first_start(&world).await;
    let good = payload_of(&phone.credentials.access_token);
    let kid = jsonwebtoken::decode_header(&phone.credentials.access_token)
        .expect("a header")
        .kid;
    let header = |kind: Option<&str>| Header {
        typ: kind.map(str::to_owned),
        kid: kid.clone(),
        ..Header::new(Algorithm::ES256)
    };
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("claims").remove(name);
        claims
    };
    let access = Some("at+jwt");
    let forged = [
        (header(Some("JWT")), good.clone()),
        (header(None), good.clone()),
        (header(Some("lease+jwt")), good.clone()),
        (header(access), with("aud", json!("https://other.example"))),
        (header(access), with("aud", json!([ISSUER]))),
        (header(access), without("aud")),
        (header(access), without("exp")),
        (header(access), with("exp", json!("4102444800"))),
        (header(access), with("nbf", json!(seconds() + 3_600))),
        (header(access), with("sub", json!("alice"))),
        (header(access), without("sub")),
        (header(access), with("sid", json!(7))),
        (header(access), with("sid", json!("x"))),
    ];
    for (number, (header, claims)) in forged.into_iter().enumerate() {
        let token = jsonwebtoken::encode(&header, &claims, &key(&world)).expect("signed");
        let refused = refused(&world, &token).await;
        assert_eq!(refused.code(), Code::Unauthenticated, "{number}");
        assert_refused(&refused, Code::Unauthenticated, "TOKEN_INVALID");
    }
    let expired = jsonwebtoken::encode(
        &header(access),
        &with("exp", json!(seconds() - 120))
            .as_object()
            .map(|claims| {
                let mut claims = claims.clone();
                claims.insert("iat".into(), json!(seconds() - 600));
                claims
            }),
        &key(&world),
    );
    let expired = refused(&world, &expired.expect("signed")).await;
    assert_refused(&expired, Code::Unauthenticated, "TOKEN_EXPIRED");

    // Nobody's account and nobody's session, genuinely signed.
    let nobody = uuid::Uuid::new_v4().to_string();
    for (name, claims) in [
        ("sid", with("sid", json!(nobody))),
        ("sub", {
            let mut claims = with("sub", json!(nobody));
            claims.as_object_mut().expect("claims").remove("sid");
            claims
        }),
    ] {
        let token = jsonwebtoken::encode(&header(access), &claims, &key(&world)).expect("signed");
        let refused = refused(&world, &token).await;
        assert_eq!(refused.code(), Code::Unauthenticated, "{name}");
        assert_refused(&refused, Code::Unauthenticated, "ACCOUNT_GONE");
    }
    // The scopes of services and operators mean nothing in a token of ours.
    let mut client = super::with(
        &world,
        &jsonwebtoken::encode(
            &header(access),
            &with("scope", json!("entitled.service entitled.operator")),
            &key(&world),
        )
        .expect("signed"),
    )
    .await;
    let minted = client.mint_token(entitled::proto::MintTokenRequest {
        account: "backend:1".into(),
        ttl: None,
    });
    assert_refused(
        &minted.await.expect_err("a user"),
        Code::PermissionDenied,
        "SERVICE_REQUIRED",
    );

    // Signed by nobody, or by somebody else.
    let parts: Vec<&str> = phone.credentials.access_token.split('.').collect();
    let none = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "at+jwt" }).to_string());
    let own = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let own = EncodingKey::from_ec_pem(own.serialize_pem().as_bytes()).expect("a key");
    let by_another = jsonwebtoken::encode(&header(access), &good, &own).expect("signed");
    for token in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        by_another,
    ] {
        let refused = refused(&world, &token).await;
        assert_refused(&refused, Code::Unauthenticated, "TOKEN_INVALID");
    }
    let accounts = "select count(*) from accounts";
    assert_eq!(world.count(accounts).await, 1, "nobody was made known");
    world.stop().await;
}
