//! The shortcut of warm reads gives the ordinary way's answer, or none: each case is sent plainly,
//! where the shortcut may take it, and as a browser sends it, where it may not.

use entitled::proto::{
    Consistency, GetEntitlementsRequest, GetEntitlementsResponse, RevisionToken, consistency,
};
use entitled::sandbox::IdentityToken;
use prost::Message as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use serde_json::json;

use crate::privacy::erase;
use crate::scene::{MONTHLY, now};
use crate::support::{HTTP, World, is_active};

/// Somebody who speaks HTTP/2 without a TLS handshake, on one connection.
struct Caller {
    http: reqwest::Client,
    url: String,
}

/// What both ways must agree on.
#[derive(Debug, PartialEq)]
struct Answer {
    http: u16,
    content_type: Option<String>,
    /// Of a call that ended with its headers.
    status: Option<String>,
    message: Option<String>,
    /// Without the moment it was given at.
    body: Option<GetEntitlementsResponse>,
    /// Of a body that is no message.
    bytes: usize,
}

impl Caller {
    fn of(world: &World) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .build()
            .expect("a client");
        let server = &world.stack.address.server;
        Self {
            http,
            url: format!("{server}/entitled.v1.EntitlementService/GetEntitlements"),
        }
    }

    async fn send(&self, headers: &HeaderMap, body: Vec<u8>) -> Answer {
        let request = self.http.post(&self.url).headers(headers.clone());
        let answer = request.body(body).send().await.expect("an answer");
        let text = |name: &str| {
            let value = answer.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (http, content_type) = (answer.status().as_u16(), text("content-type"));
        let (status, message) = (text("grpc-status"), text("grpc-message"));
        // A call that is refused while its body is still sent may be cut.
        let bytes = answer.bytes().await.unwrap_or_default();
        let framed = bytes.get(5..);
        let body = framed.and_then(|message| GetEntitlementsResponse::decode(message).ok());
        Answer {
            http,
            content_type,
            status,
            message,
            bytes: if body.is_some() { 0 } else { bytes.len() },
            body: body.map(|body| GetEntitlementsResponse {
                as_of: None,
                ..body
            }),
        }
    }

    /// The answer, the same by either way.
    async fn both(&self, name: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let plain = self.send(headers, body.to_vec()).await;
        let mut of_a_page = headers.clone();
        of_a_page.insert(ORIGIN, HeaderValue::from_static("https://app.example.com"));
        let ordinary = self.send(&of_a_page, body.to_vec()).await;
        assert_eq!(plain, ordinary, "{name}");
        plain
    }
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let value = HeaderValue::try_from(format!("Bearer {token}")).expect("a header");
    headers.insert(AUTHORIZATION, value);
    headers
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short");
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

fn asking(requirement: consistency::Requirement) -> GetEntitlementsRequest {
    GetEntitlementsRequest {
        consistency: Some(Consistency {
            requirement: Some(requirement),
        }),
        ..Default::default()
    }
}

fn at_least(epoch: &str, revision: i64) -> GetEntitlementsRequest {
    asking(consistency::Requirement::AtLeast(RevisionToken {
        epoch: epoch.into(),
        revision,
    }))
}

/// How many reads of this process took the shortcut so far.
async fn warm(world: &World) -> u64 {
    let url = format!("{}/metrics", world.stack.app.admin_url());
    let metrics = HTTP.get(url).send().await.expect("metrics");
    let text = metrics.text().await.expect("text");
    text.lines()
        .find_map(|line| line.strip_prefix("entitled_warm_reads_total "))
        .map_or(0, |count| count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_read_says_what_the_ordinary_way_says_whatever_is_asked() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let account = phone.latest.account.clone().expect("an account");
    world
        .buy_apple("alice", MONTHLY, Some(&account.store_token))
        .await;
    phone.until_active("pro_access").await;
    let (epoch, revision) = (phone.latest.epoch.clone(), phone.latest.revision);

    let caller = Caller::of(&world);
    let alice = headers(&world.token("alice"));
    let plain = framed(0, &[]);
    let before = warm(&world).await;
    for _ in 0..3 {
        let answer = caller.both("plain", &alice, &plain).await;
        let body = answer.body.expect("a message");
        let snapshot = body.snapshot.expect("a snapshot");
        assert_eq!(snapshot.account.as_ref(), Some(&account));
        assert!(is_active(&snapshot, "pro_access"));
    }
    assert!(warm(&world).await >= before + 2, "the shortcut is taken");

    let with = |name: &'static str, value: &'static str| {
        let mut headers = alice.clone();
        let value = HeaderValue::from_static(value);
        headers.insert(HeaderName::from_static(name), value);
        headers
    };
    let stranger = |claims: serde_json::Value, ttl_seconds: i64| {
        let token = IdentityToken {
            ttl_seconds,
            claims: claims.as_object().expect("claims").clone(),
            ..IdentityToken::of("alice")
        };
        headers(&world.stores().identity_token(&token).expect("a token"))
    };
    let mut two = alice.clone();
    two.append(AUTHORIZATION, alice[AUTHORIZATION].clone());
    let mut nobody = alice.clone();
    nobody.remove(AUTHORIZATION);
    let mut lower = alice.clone();
    let value = alice[AUTHORIZATION].to_str().expect("text");
    let value = value.replacen("Bearer", "bearer", 1);
    lower.insert(AUTHORIZATION, value.parse().expect("a header"));
    let unknown_field = [
        &[0xF8, 0x07, 0x01][..],
        &at_least(&epoch, 1).encode_to_vec(),
    ]
    .concat();
    let as_of = GetEntitlementsRequest {
        as_of: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        }),
        ..Default::default()
    };
    let named = GetEntitlementsRequest {
        account: account.id.clone(),
        ..Default::default()
    };
    let full = asking(consistency::Requirement::FullyConsistent(true));
    let not_full = asking(consistency::Requirement::FullyConsistent(false));

    let fine = Some("200 message");
    #[rustfmt::skip]
    let cases: Vec<(&str, HeaderMap, Vec<u8>, Option<&str>)> = vec![
        ("at least what is known", alice.clone(), framed(0, &at_least(&epoch, revision).encode_to_vec()), fine),
        ("at least what is not there", alice.clone(), framed(0, &at_least(&epoch, revision + 9).encode_to_vec()), fine),
        ("another history", alice.clone(), framed(0, &at_least("other", 1).encode_to_vec()), fine),
        ("fully consistent", alice.clone(), framed(0, &full.encode_to_vec()), fine),
        ("not fully consistent", alice.clone(), framed(0, &not_full.encode_to_vec()), fine),
        ("a field of a later version", alice.clone(), framed(0, &unknown_field), fine),
        ("the scheme in small letters", lower, plain.clone(), fine),
        ("with its encoding named", with("content-type", "application/grpc+proto"), plain.clone(), fine),
        ("no compression, said aloud", with("grpc-encoding", "identity"), plain.clone(), fine),
        ("an account is named", alice.clone(), framed(0, &named.encode_to_vec()), Some("7")),
        ("a past moment", alice.clone(), framed(0, &as_of.encode_to_vec()), Some("3")),
        ("no credential", nobody, plain.clone(), Some("16")),
        ("two credentials", two, plain.clone(), Some("3")),
        ("a word of another scheme", with("authorization", "Basic YWxpY2U6"), plain.clone(), Some("16")),
        ("no token", with("authorization", "Bearer "), plain.clone(), Some("16")),
        ("another audience", stranger(json!({ "aud": "other" }), 600), plain.clone(), Some("16")),
        ("another issuer", stranger(json!({ "iss": "https://other.example" }), 600), plain.clone(), Some("16")),
        ("an expired token", stranger(json!({}), -3_600), plain.clone(), Some("16")),
        ("compressed, it says", alice.clone(), framed(1, &[]), None),
        ("no such flag", alice.clone(), framed(2, &[]), None),
        ("an encoding that is not served", with("grpc-encoding", "gzip"), plain.clone(), None),
        ("no body", alice.clone(), vec![], None),
        ("half a frame", alice.clone(), vec![0, 0], None),
        ("less than it says", alice.clone(), vec![0, 0, 0, 0, 9, 1], None),
        ("more than it says", alice.clone(), vec![0, 0, 0, 0, 0, 1], None),
        ("two messages", alice.clone(), [&plain[..], &plain].concat(), fine),
        ("no message at all", alice.clone(), framed(0, &[0xFF; 9]), None),
        ("more than is taken", alice.clone(), framed(0, &vec![0; 70_000]), None),
        ("JSON", with("content-type", "application/json"), plain.clone(), None),
        ("a browser's framing", with("content-type", "application/grpc-web+proto"), plain.clone(), None),
        ("gRPC in name only", with("content-type", "application/grpcs"), plain.clone(), None),
    ];
    for (name, headers, body, expected) in cases {
        let answer = caller.both(name, &headers, &body).await;
        let told = match (&answer.status, &answer.body) {
            (Some(status), _) => status.clone(),
            (None, Some(_)) => format!("{} message", answer.http),
            (None, None) => format!("{}, {} bytes", answer.http, answer.bytes),
        };
        match expected {
            Some(expected) => assert_eq!(told, expected, "{name}: {answer:?}"),
            // Whatever it is, it is nobody's entitlements.
            None if name == "a browser's framing" => {}
            None => assert_ne!(Some(told.as_str()), fine, "{name}: {answer:?}"),
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_on_one_connection_are_told_apart() {
    let world = World::start().await;
    let caller = Caller::of(&world);
    let mut people = Vec::new();
    for name in ["ann", "bob", "cid"] {
        let account = now(&world.client(name).await).await.account;
        people.push((headers(&world.token(name)), account.expect("an account").id));
    }
    for (headers, _) in &people {
        caller.send(headers, framed(0, &[])).await;
    }
    let before = warm(&world).await;
    let asked = (0..60).map(|turn| {
        let (headers, id) = &people[turn % people.len()];
        let caller = &caller;
        async move {
            let answer = caller.send(headers, framed(0, &[])).await;
            let snapshot = answer.body.expect("a message").snapshot;
            let account = snapshot.expect("a snapshot").account;
            assert_eq!(&account.expect("an account").id, id);
        }
    });
    futures::future::join_all(asked).await;
    assert!(warm(&world).await >= before + 60, "the shortcut is taken");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_is_refused_at_once_however_warm() {
    let world = World::start().await;
    let caller = Caller::of(&world);
    let token = world.token("alice");
    let (alice, plain) = (headers(&token), framed(0, &[]));
    let before = warm(&world).await;
    let mut id = None;
    for _ in 0..3 {
        let answer = caller.both("before", &alice, &plain).await;
        id = answer.body.and_then(|body| body.snapshot?.account);
    }
    assert!(warm(&world).await > before, "the shortcut is taken");
    erase(&world, &token, "", "").await.expect("erased");
    // The same name from then on is another account's.
    let answer = caller.both("after", &alice, &plain).await;
    let told = answer.body.and_then(|body| body.snapshot?.account);
    assert_ne!(told, id, "nothing of what was erased is told");
    world.stop().await;
}
