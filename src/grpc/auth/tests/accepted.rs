//! What is accepted, what kind of caller it gives, and what a refused caller is told.

use serde_json::json;

use super::super::{AuthError, CallerKind, Cause};
use super::support::{KEYS, Time, present, token};
use super::world::{NOW, World};
use crate::domain::role::Role;

#[tokio::test]
async fn genuine_tokens_of_every_algorithm_are_accepted() {
    let world = World::open().await;
    let signers = [
        ("RS256", "rs", &KEYS.rs256),
        ("ES256", "es", &KEYS.es256),
        ("EdDSA", "ed", &KEYS.eddsa),
    ];
    for (alg, kid, signer) in signers {
        let token = token(&json!({ "alg": alg, "kid": kid }), &world.claims, signer);
        let caller = present(&world.auth, &token, Time::start())
            .await
            .expect(alg);
        assert_eq!((&*caller.issuer, &*caller.subject), ("app", "user-1"));
        assert_eq!((caller.kind, caller.anonymous), (CallerKind::User, false));
    }
    let claims = json!({ "iss": "dev", "sub": "d", "exp": NOW + 60, "is_anonymous": true });
    for header in [
        json!({ "alg": "HS256" }),
        json!({ "alg": "HS256", "kid": "any" }),
    ] {
        let token = token(&header, &claims, &KEYS.hs256);
        let caller = present(&world.auth, &token, Time::start()).await.unwrap();
        assert_eq!((&*caller.issuer, caller.anonymous), ("dev", true));
    }
}

#[tokio::test]
async fn what_is_unusual_but_allowed_is_accepted() {
    let world = World::open().await;
    let good = [
        world.with_header(json!({ "typ": null })),
        world.with_header(json!({ "typ": "at+jwt" })),
        world.with_header(json!({ "typ": "application/AT+JWT" })),
        world.with_header(json!({ "cat": "cl_B7d4PD111AAA", "x5t": "AAAA" })),
        world.with_claims(json!({ "exp": NOW + 1 })),
        world.with_claims(json!({ "exp": NOW - 59, "iat": null })),
        world.with_claims(json!({ "exp": 253_402_300_799_u64 })),
        world.with_claims(json!({ "nbf": NOW + 60, "iat": NOW + 60 })),
        world.with_claims(json!({ "nbf": 0, "iat": 0 })),
        world.with_claims(json!({ "iat": null })),
        world.with_claims(json!({ "aud": ["other", "api"] })),
        world.with_claims(json!({ "sub": "s".repeat(255) })),
        world.with_claims(json!({ "sub": "auth0|Ünïcode 用户" })),
        world.with_claims(json!({ "pad": "p".repeat(4096) })),
        world.edited("\"sub\"", "\n\t\"\\u0073ub\""),
    ];
    for (index, token) in good.iter().enumerate() {
        let answer = present(&world.auth, token, Time::start()).await;
        assert!(answer.is_ok(), "{index}: {answer:?}");
    }
    let token = world.genuine();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        for space in [" ", "  "] {
            let header = format!("{scheme}{space}{token}");
            let answer = world
                .auth
                .authenticate_at(Some(&header), Time::start().0)
                .await;
            assert!(answer.is_ok(), "{scheme}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_service_is_a_caller_with_the_configured_scope() {
    let world = World::open().await;
    let cases = [
        (
            json!({ "scope": "openid entitled.service" }),
            CallerKind::Service,
        ),
        (
            json!({ "scope": ["entitled.service"] }),
            CallerKind::Service,
        ),
        (
            json!({ "scp": ["a", "entitled.service"] }),
            CallerKind::Service,
        ),
        (json!({ "scp": "entitled.service" }), CallerKind::Service),
        (
            json!({ "scope": "entitled.service.read" }),
            CallerKind::User,
        ),
        (json!({ "scope": "ENTITLED.SERVICE" }), CallerKind::User),
        (
            json!({ "scope": { "entitled.service": true } }),
            CallerKind::User,
        ),
        (json!({ "scope": "" }), CallerKind::User),
        (json!({ "roles": ["entitled.service"] }), CallerKind::User),
    ];
    for (changes, kind) in cases {
        let token = world.with_claims(changes.clone());
        let caller = present(&world.auth, &token, Time::start()).await.unwrap();
        assert_eq!(caller.kind, kind, "{changes}");
    }
}

#[tokio::test]
async fn an_operator_has_the_highest_role_that_a_claim_names() {
    let world = World::open().await;
    let operator = CallerKind::Operator;
    let cases = [
        (
            json!({ "scope": "entitled.viewer" }),
            operator(Role::Viewer),
        ),
        (
            json!({ "scp": ["entitled.operator"] }),
            operator(Role::Support),
        ),
        (
            json!({ "roles": ["entitled.admin"] }),
            operator(Role::Admin),
        ),
        (
            json!({ "realm_access": { "roles": ["x", "entitled.admin"] } }),
            operator(Role::Admin),
        ),
        (
            json!({ "scope": "entitled.viewer", "roles": ["entitled.operator"] }),
            operator(Role::Support),
        ),
        (
            json!({ "scope": "entitled.service entitled.viewer" }),
            operator(Role::Viewer),
        ),
        (
            json!({ "realm_access": ["entitled.admin"] }),
            CallerKind::User,
        ),
        (
            json!({ "/realm_access/roles": ["entitled.admin"] }),
            CallerKind::User,
        ),
        (
            json!({ "roles": { "entitled.admin": true } }),
            CallerKind::User,
        ),
        (json!({ "groups": ["entitled.admin"] }), CallerKind::User),
        (
            json!({ "scope": "entitled.administrator" }),
            CallerKind::User,
        ),
    ];
    for (changes, kind) in cases {
        let token = world.with_claims(changes.clone());
        let caller = present(&world.auth, &token, Time::start()).await.unwrap();
        assert_eq!(caller.kind, kind, "{changes}");
    }
}

#[tokio::test]
async fn headers_that_hold_no_bearer_token_are_told_so() {
    let world = World::open().await;
    let token = world.genuine();
    let headers = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer   ".to_owned(),
        token.clone(),
        format!("Basic {token}"),
        format!("Bearer\t{token}"),
        format!(" Bearer {token}"),
        format!("Bearer {token} "),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},{token}"),
        format!("Bearer {token}, Bearer {token}"),
        format!("BearerX {token}"),
        format!("Bearer:{token}"),
        format!("Bearer {token}\n"),
    ];
    for header in headers {
        let answer = world
            .auth
            .authenticate_at(Some(&header), Time::start().0)
            .await;
        assert_eq!(answer.err(), Some(Cause::NotBearer), "{header:?}");
    }
    let none = world.auth.authenticate(None).await.unwrap_err();
    assert_eq!(none.reason(), "UNAUTHENTICATED_MISSING_TOKEN");
    assert_eq!(none.cause(), Cause::HeaderMissing);
}

#[tokio::test]
async fn the_callers_side_of_a_refusal_is_uniform() {
    use tonic::Code;
    let message = AuthError(Cause::SignatureInvalid).to_string();
    let cases = [
        (
            Cause::HeaderMissing,
            "UNAUTHENTICATED_MISSING_TOKEN",
            Code::Unauthenticated,
        ),
        (
            Cause::SignatureInvalid,
            "TOKEN_INVALID",
            Code::Unauthenticated,
        ),
        (Cause::Audience, "TOKEN_INVALID", Code::Unauthenticated),
        (Cause::KeyUnknown, "TOKEN_INVALID", Code::Unauthenticated),
        (Cause::Expired, "TOKEN_EXPIRED", Code::Unauthenticated),
        (
            Cause::IssuerUnknown,
            "ISSUER_UNKNOWN",
            Code::Unauthenticated,
        ),
    ];
    for (cause, reason, code) in cases {
        let error = AuthError(cause);
        assert_eq!((error.reason(), error.code()), (reason, code));
        assert_eq!(error.to_string(), message);
    }
    let error = AuthError(Cause::KeysUnavailable);
    assert_eq!(
        (error.reason(), error.code()),
        ("KEYS_UNAVAILABLE", Code::Unavailable)
    );
    assert_ne!(error.to_string(), message);
}
