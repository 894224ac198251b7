//! Signed leases: what is in one, how long, for whom; what ends in the next; by which key; on a stream.
//! `tests/leases/run` has other languages judge them.

use chrono::TimeDelta;
use entitled::app::Roles;
use entitled::cli::client::Client;
use entitled::proto::watch_entitlements_response::Event;
use entitled::proto::{
    EntitlementSnapshot, IssueLeaseRequest, IssueLeaseResponse, LeaseTerms, OperatorRole,
    RevisionToken, WatchEntitlementsRequest, WatchEntitlementsResponse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming};

use crate::accounts;
use crate::api_keys::{Keys, operator, service};
use crate::scene::{MONTHLY, Person, YEARLY, access_until, period};
use crate::support::{HTTP, PATIENCE, World, assert_refused};

const IOS: &str = "example-ios";
const ISSUER: &str = "https://entitled.invalid";
const DAY: i64 = 24 * 60 * 60;
/// Of RFC 7638's own example.
const THUMBPRINT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

fn ios() -> LeaseTerms {
    LeaseTerms {
        app: IOS.into(),
        ..Default::default()
    }
}

fn asks(terms: LeaseTerms, account: &str) -> IssueLeaseRequest {
    IssueLeaseRequest {
        terms: Some(terms),
        account: account.into(),
        consistency: None,
    }
}

async fn issue(client: &Client, request: IssueLeaseRequest) -> Result<IssueLeaseResponse, Status> {
    let answer = client.inner.clone().issue_lease(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn lease_of(person: &Person) -> Value {
    let issued = issue(&person.client, asks(ios(), "")).await;
    claims(&issued.expect("signed").lease)
}

/// What a lease says, unchecked.
fn claims(lease: &str) -> Value {
    crate::scene::payload_of(lease)
}

fn until(claims: &Value, entitlement: &str) -> Option<i64> {
    claims["entitlements"][entitlement]["until"].as_i64()
}

async fn key_set(world: &World) -> Vec<Value> {
    let url = format!("{}/.well-known/jwks.json", world.stack.address.server);
    let answer = HTTP.get(url).send().await.expect("an answer");
    let mut set: Value = answer.json().await.expect("JSON");
    serde_json::from_value(set["keys"].take()).expect("keys")
}

/// Whether one of the published keys has signed it.
fn is_signed(lease: &str, keys: &[Value]) -> bool {
    let header = jsonwebtoken::decode_header(lease).expect("a header");
    let named = |key: &&Value| key["kid"].as_str() == header.kid.as_deref();
    let Some(key) = keys.iter().find(named) else {
        return false;
    };
    let part = |name: &str| key[name].as_str().expect("a coordinate");
    let key = DecodingKey::from_ec_components(part("x"), part("y")).expect("a key");
    let mut rules = Validation::new(Algorithm::ES256);
    // Business time is not this machine's.
    (rules.validate_exp, rules.validate_aud) = (false, false);
    jsonwebtoken::decode::<Value>(lease, &key, &rules).is_ok()
}

async fn buys(world: &World, name: &str, product: &str) -> Person {
    let person = world.person(name).await;
    let bought = world
        .buy_apple(name, product, Some(&person.store_token))
        .await;
    let bound = person.bind_apple(&bought.signed_transaction).await;
    bound.expect("bound");
    person
}

fn assert_claims(told: &Value, expected: &[(&str, Value)]) {
    let told = told.as_object().expect("claims");
    let names: Vec<&str> = told.keys().map(String::as_str).collect();
    let mut wanted: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    for (name, value) in expected {
        assert_eq!(&told[*name], value, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_says_what_the_snapshot_says_and_whom_it_is_for() {
    let world = World::still().await;
    let alice = buys(&world, "alice", YEARLY).await;
    world.settled().await;
    let snapshot = alice.now().await;
    let now = world.stack.clock.now().timestamp();
    let issued = issue(&alice.client, asks(ios(), "")).await.expect("signed");
    let keys = key_set(&world).await;
    let header = jsonwebtoken::decode_header(&issued.lease).expect("a header");
    assert_eq!(header.typ.as_deref(), Some("lease+jwt"));
    assert_eq!(header.alg, Algorithm::ES256);
    assert_eq!(header.kid.as_deref(), keys[0]["kid"].as_str());
    assert!(is_signed(&issued.lease, &keys));
    let bought = json!({ "until": now + 3 * DAY, "environment": "production" });
    let usual = [
        ("iss", json!(ISSUER)),
        ("aud", json!(IOS)),
        ("sub", json!(alice.account)),
        ("iat", json!(now)),
        ("nbf", json!(now)),
        ("exp", json!(now + 3 * DAY)),
        ("epoch", json!(snapshot.epoch)),
        ("revision", json!(snapshot.revision)),
        ("environment", json!("production")),
        (
            "entitlements",
            json!({ "export": bought, "pro_access": bought }),
        ),
    ];
    assert_claims(&claims(&issued.lease), &usual);
    let seconds = |at: Option<prost_types::Timestamp>| at.map(|at| at.seconds);
    assert_eq!(seconds(issued.as_of), Some(now));
    assert_eq!(seconds(issued.expires_at), Some(now + 3 * DAY));
    assert_eq!(seconds(issued.renew_at), Some(now + 3 * DAY / 2));

    // For one device's key, in answer to one request.
    let terms = LeaseTerms {
        app: IOS.into(),
        device_key: THUMBPRINT.into(),
        nonce: "seven".into(),
    };
    let bound = issue(&alice.client, asks(terms, "")).await.expect("signed");
    let mut of_a_device = usual.to_vec();
    of_a_device.push(("cnf", json!({ "jkt": THUMBPRINT })));
    of_a_device.push(("nonce", json!("seven")));
    assert_claims(&claims(&bound.lease), &of_a_device);

    // Who has nothing has it signed, too.
    let bob = world.person("bob").await;
    let nothing = lease_of(&bob).await;
    assert_eq!(nothing["entitlements"], json!({}));

    // Over HTTP it is the same; as a credential it is none.
    let url = format!(
        "{}/v1/entitlement:issueLease?terms.app={IOS}",
        world.stack.address.server
    );
    let answer = HTTP.get(url).bearer_auth(world.token("alice")).send().await;
    let answer: Value = answer.expect("an answer").json().await.expect("JSON");
    let lease = answer["lease"].as_str().expect("a lease");
    assert_claims(&claims(lease), &usual);
    let refused = accounts::refused(&world, &issued.lease).await;
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_INVALID");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_with_the_access_and_a_refund_with_the_next_one() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    let bound = alice.bind_apple(&bought.signed_transaction).await;
    bound.expect("bound");
    let id = &bought.original_transaction_id;
    world.stores().set_auto_renew(id, false).await.expect("off");
    world.settled().await;
    let end = access_until(&alice.now().await);
    let early = lease_of(&alice).await;
    let issued = early["iat"].as_i64().expect("a moment");
    assert_eq!(until(&early, "pro_access"), Some(issued + 3 * DAY));
    world.stores().advance(period("P30D")).await.expect("days");
    let late = lease_of(&alice).await;
    assert_eq!(until(&late, "pro_access"), Some(end), "not a second later");
    assert_eq!(late["exp"], json!(end));
    world.stores().advance(period("P2D")).await.expect("days");
    assert_eq!(until(&lease_of(&alice).await, "pro_access"), None);

    let bob = world.person("bob").await;
    let bought = world.buy_apple("bob", YEARLY, Some(&bob.store_token)).await;
    let bound = bob.bind_apple(&bought.signed_transaction).await;
    let before = bound.expect("bound").snapshot.expect("a snapshot");
    assert!(until(&lease_of(&bob).await, "pro_access").is_some());
    world
        .stores()
        .refund_app_store(&bought.transaction_id)
        .await
        .expect("refunded");
    let after = bob.now().await;
    let next = lease_of(&bob).await;
    assert_eq!(until(&next, "pro_access"), None);
    assert_eq!(next["revision"], json!(after.revision));
    assert!(after.revision > before.revision);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_says_how_long_leases_on_an_entitlement_are() {
    let world = World::with(|options| {
        options.catalog = options
            .catalog
            .replace(
                "[entitlements.pro_access]",
                "[entitlements.pro_access]\nlease = { device_minutes = 30, service_minutes = 1 }",
            )
            .replace(
                "[entitlements.export]",
                "[entitlements.export]\nlease = { device_minutes = 0 }",
            );
    })
    .await;
    let alice = buys(&world, "alice", YEARLY).await;
    for id in ["pro_access", "export"] {
        let gift = ["grant", "dev:alice", id, "--reason", "a gift"];
        world.command(&gift).await;
    }
    let snapshot = alice.now().await;
    let at_least = entitled::proto::consistency::Requirement::AtLeast(RevisionToken {
        epoch: snapshot.epoch,
        revision: snapshot.revision,
    });
    let consistency = Some(entitled::proto::Consistency {
        requirement: Some(at_least),
    });
    let backend = world.client_with_token(&world.service_token()).await;
    for (client, account, expected) in [
        (&alice.client, "", json!([30 * 60, null])),
        (&backend, "dev:alice", json!([60, 5 * 60])),
    ] {
        let request = IssueLeaseRequest {
            consistency: consistency.clone(),
            ..asks(ios(), account)
        };
        let said = claims(&issue(client, request).await.expect("signed").lease);
        let issued = said["iat"].as_i64().expect("a moment");
        let left = |id: &str| until(&said, id).map(|until| until - issued);
        assert_eq!(json!([left("pro_access"), left("export")]), expected);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_leases_of_minutes_and_operators_none() {
    let world = World::start().await;
    let alice = buys(&world, "alice", YEARLY).await;
    let mut keys = Keys::of(&world).await;
    let backend = keys.create(service("backend", &[])).await.expect("made");
    let backend = world.client_with_token(&backend.secret).await;
    let own = issue(&backend, asks(LeaseTerms::default(), "dev:alice")).await;
    let own = claims(&own.expect("signed").lease);
    assert_eq!(own["aud"], "key:backend");
    assert_eq!(own["sub"], json!(alice.account));
    let issued = own["iat"].as_i64().expect("a moment");
    assert_eq!(own["exp"], json!(issued + 5 * 60));
    let edge = issue(&backend, asks(ios(), "dev:alice")).await;
    assert_eq!(claims(&edge.expect("signed").lease)["aud"], IOS);

    let nobody = issue(&backend, asks(ios(), "dev:nobody")).await;
    assert_refused(
        &nobody.expect_err("refused"),
        Code::NotFound,
        "ACCOUNT_NOT_FOUND",
    );
    let other = service("android", &["example-android"]);
    let other = keys.create(other).await.expect("made");
    let other = world.client_with_token(&other.secret).await;
    let refused = issue(&other, asks(ios(), "dev:alice")).await;
    let refused = refused.expect_err("refused");
    assert_refused(&refused, Code::PermissionDenied, "APP_NOT_ALLOWED");

    let ada = keys.create(operator("ada", OperatorRole::Admin)).await;
    let ada = world.client_with_token(&ada.expect("made").secret).await;
    let refused = issue(&ada, asks(ios(), "dev:alice")).await;
    assert_eq!(refused.expect_err("refused").code(), Code::PermissionDenied);
    let watch = WatchEntitlementsRequest {
        account: "dev:alice".into(),
        lease_terms: Some(ios()),
        ..Default::default()
    };
    let refused = ada.inner.clone().watch_entitlements(watch).await;
    let refused = refused.expect_err("refused");
    assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lease_cannot_be_signed_for_is_refused() {
    let mut world = World::start().await;
    let alice = world.person("alice").await;
    let terms = |app: &str, device_key: &str, nonce: &str| LeaseTerms {
        app: app.into(),
        device_key: device_key.into(),
        nonce: nonce.into(),
    };
    let long = "n".repeat(129);
    let (short, padded) = (&THUMBPRINT[1..], format!("{THUMBPRINT}="));
    for (what, asked) in [
        ("no app, of two", terms("", "", "")),
        ("an unknown app", terms("com.example.other", "", "")),
        ("what two apps are called", terms("com.example.app", "", "")),
        ("no thumbprint", terms(IOS, "alice's phone", "")),
        ("a short one", terms(IOS, short, "")),
        ("a padded one", terms(IOS, &padded, "")),
        ("a long nonce", terms(IOS, "", &long)),
    ] {
        let refused = issue(&alice.client, asks(asked.clone(), "")).await;
        let refused = refused.expect_err(what);
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
        let watch = WatchEntitlementsRequest {
            lease_terms: Some(asked),
            ..Default::default()
        };
        let refused = alice.client.inner.clone().watch_entitlements(watch).await;
        let refused = refused.expect_err(what);
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }
    let other = issue(&alice.client, asks(ios(), "dev:bob")).await;
    let other = other.expect_err("somebody else's");
    assert_refused(&other, Code::PermissionDenied, "ACCOUNT_NOT_ALLOWED");

    world.restart(|config| config.tokens = None).await;
    let client = world.client("alice").await;
    let refused = issue(&client, asks(ios(), "")).await;
    let refused = refused.expect_err("no key");
    assert_refused(&refused, Code::FailedPrecondition, "TOKENS_OFF");
    let refused = client
        .inner
        .clone()
        .watch_entitlements(watching(None))
        .await;
    let refused = refused.expect_err("no key");
    assert_refused(&refused, Code::FailedPrecondition, "TOKENS_OFF");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_change_while_what_they_signed_holds() {
    let mut world = World::start().await;
    let alice = buys(&world, "alice", YEARLY).await;
    let sign = async |client: &Client| {
        let issued = issue(client, asks(ios(), "")).await;
        issued.expect("signed").lease
    };
    let old = sign(&alice.client).await;
    let beside = |name: &str| world.stack.address.config.with_file_name(name);
    let (first, second) = (beside("tokens.pem"), beside("tokens-2.pem"));
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    std::fs::write(&second, pair.serialize_pem()).expect("written");

    let files = [first, second.clone()];
    let served = |files: &[std::path::PathBuf]| {
        let files = files.to_vec();
        move |config: &mut entitled::config::Config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            (tokens.key_files, tokens.keys) = (files, None);
        }
    };
    // Published before it signs.
    world.restart(served(&files)).await;
    let kid = |lease: &str| jsonwebtoken::decode_header(lease).map(|Header { kid, .. }| kid);
    let still = sign(&world.client("alice").await).await;
    assert_eq!(kid(&still), kid(&old));
    assert_eq!(key_set(&world).await.len(), 2);
    // It signs; what the first has signed holds.
    world
        .restart(served(&[files[1].clone(), files[0].clone()]))
        .await;
    let new = sign(&world.client("alice").await).await;
    assert_ne!(kid(&new), kid(&old));
    let both = key_set(&world).await;
    assert!(is_signed(&old, &both) && is_signed(&new, &both));
    // The first goes.
    world.restart(served(&[second])).await;
    let only = key_set(&world).await;
    assert!(is_signed(&new, &only) && !is_signed(&old, &only));
    world.stop().await;
}

/// A request for a stream of who has seen `known`, with leases.
fn watching(
    known: Option<&(EntitlementSnapshot, prost_types::Timestamp)>,
) -> WatchEntitlementsRequest {
    WatchEntitlementsRequest {
        known: known.map(|(snapshot, _)| RevisionToken {
            epoch: snapshot.epoch.clone(),
            revision: snapshot.revision,
        }),
        known_as_of: known.map(|(_, as_of)| *as_of),
        lease_terms: Some(ios()),
        ..Default::default()
    }
}

async fn next(stream: &mut Streaming<WatchEntitlementsResponse>) -> WatchEntitlementsResponse {
    loop {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let next = next.expect("in time").expect("reads").expect("a message");
        if !matches!(next.event, Some(Event::Heartbeat(_))) {
            return next;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_leases_on_request_and_with_every_change() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let open = async |request: WatchEntitlementsRequest| {
        let stream = alice.client.inner.clone().watch_entitlements(request).await;
        stream.expect("a stream").into_inner()
    };
    let mut leased = open(watching(None)).await;
    let mut plain = open(WatchEntitlementsRequest::default()).await;
    let first = next(&mut leased).await;
    assert_eq!(until(&claims(&first.lease), "pro_access"), None);
    assert_eq!(next(&mut plain).await.lease, "");

    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let bound = alice.bind_apple(&bought.signed_transaction).await;
    bound.expect("bound");
    let keys = key_set(&world).await;
    let is_on = |message: &WatchEntitlementsResponse| match &message.event {
        Some(Event::Snapshot(snapshot)) => crate::support::is_active(snapshot, "pro_access"),
        _ => false,
    };
    let with_pro = loop {
        let message = next(&mut leased).await;
        assert!(is_signed(&message.lease, &keys), "with each change");
        let Some(Event::Snapshot(snapshot)) = &message.event else {
            panic!("a change is a snapshot: {message:?}");
        };
        let said = claims(&message.lease);
        assert_eq!(said["revision"], json!(snapshot.revision));
        assert_eq!(until(&said, "pro_access").is_some(), is_on(&message));
        if is_on(&message) {
            break (snapshot.clone(), message.as_of.expect("a moment"));
        }
    };
    loop {
        let message = next(&mut plain).await;
        assert_eq!(message.lease, "", "nobody asked");
        if is_on(&message) {
            break;
        }
    }

    // Who has the snapshot already gets the lease alone.
    world.settled().await;
    let latest = (alice.now().await, with_pro.1);
    let mut again = open(watching(Some(&latest))).await;
    let unchanged = next(&mut again).await;
    assert!(
        matches!(unchanged.event, Some(Event::Unchanged(_))),
        "{unchanged:?}"
    );
    assert!(until(&claims(&unchanged.lease), "pro_access").is_some());

    // Shared by both: the snapshot's bytes hold no lease, whichever replica tells it.
    let replica = world.replica(Roles::ALL, |_| {}).await;
    let server = replica.grpc_url().expect("gRPC");
    let other = Client::connect(&server, &world.token("alice")).await;
    let other = other
        .expect("a client")
        .inner
        .clone()
        .watch_entitlements(watching(None))
        .await;
    let elsewhere = next(&mut other.expect("a stream").into_inner()).await;
    assert!(is_signed(&elsewhere.lease, &keys));
    let Some(Event::Snapshot(told)) = elsewhere.event else {
        panic!("the whole snapshot first");
    };
    assert_eq!(told, latest.0);
    replica.stop().await;

    // A refund takes it out of the next.
    world
        .stores()
        .refund_app_store(&bought.transaction_id)
        .await
        .expect("refunded");
    loop {
        let message = next(&mut leased).await;
        assert_eq!(
            until(&claims(&message.lease), "pro_access").is_some(),
            is_on(&message)
        );
        if !is_on(&message) {
            break;
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_over_http_have_leases_too() {
    let world = World::start().await;
    let _alice = buys(&world, "alice", YEARLY).await;
    for (query, leased) in [("", false), ("?leaseTerms.app=example-ios", true)] {
        let server = &world.stack.address.server;
        let url = format!("{server}/v1/entitlement:watchEntitlements{query}");
        let call = HTTP.get(url).header("accept", "text/event-stream");
        let answer = call.bearer_auth(world.token("alice")).send().await;
        let mut answer = answer.expect("an answer");
        let mut read = String::new();
        while !read.contains("\n\n") {
            let chunk = tokio::time::timeout(PATIENCE, answer.chunk()).await;
            let chunk = chunk.expect("in time").expect("reads").expect("an event");
            read.push_str(&String::from_utf8_lossy(&chunk));
        }
        let data = read.lines().find_map(|line| line.strip_prefix("data: "));
        let data: Value = serde_json::from_str(data.expect("data")).expect("JSON");
        let lease = data["lease"].as_str().unwrap_or_default();
        assert_eq!(!lease.is_empty(), leased, "{data}");
        if leased {
            assert!(until(&claims(lease), "pro_access").is_some());
        }
    }
    world.stop().await;
}

/// A day of business time passes between two leases of a stream's reader: neither reaches further
/// than its own moment allows.
#[tokio::test(flavor = "multi_thread")]
async fn the_moment_of_a_lease_is_the_servers_business_time() {
    let world = World::still().await;
    let alice = buys(&world, "alice", YEARLY).await;
    let before = lease_of(&alice).await["iat"].as_i64().expect("a moment");
    world
        .stores()
        .advance_by(TimeDelta::days(1))
        .await
        .expect("a day");
    let after = lease_of(&alice).await;
    assert_eq!(after["iat"], json!(before + DAY));
    assert_eq!(until(&after, "pro_access"), Some(before + 4 * DAY));
    world.stop().await;
}
