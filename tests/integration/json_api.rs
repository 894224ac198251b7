//! JSON over HTTP: the same answers as gRPC, refusals as problem details, the stream as events.

use std::sync::LazyLock;
use std::time::Duration;

use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::method_options::IdempotencyLevel;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api_keys::{Keys, service};
use crate::catalog_versions::service::OFFERINGS;
use crate::process::eventually;
use crate::scene::{READER, YEARLY};
use crate::support::{PATIENCE, World};

// Made once: a client reads the machine's certificates.
static HTTP: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);

const GET_ENTITLEMENTS: &str = "/v1/entitlement:getEntitlements";
const BIND_PURCHASE: &str = "/v1/entitlement:bindPurchase";
const LIST_PRODUCTS: &str = "/v1/entitlement:listProducts";
const WATCH: &str = "/v1/entitlement:watchEntitlements";

/// RPCs that serve whoever has no credential yet.
const OPEN: [&str; 2] = ["CreateAnonymous", "RefreshToken"];

fn request(world: &World, method: Method, path: &str) -> RequestBuilder {
    HTTP.request(method, format!("{}{path}", world.stack.address.server))
}

fn get(world: &World, path: &str, subject: &str) -> RequestBuilder {
    request(world, Method::GET, path).bearer_auth(world.token(subject))
}

fn post(world: &World, path: &str, subject: &str, body: &Value) -> RequestBuilder {
    request(world, Method::POST, path)
        .bearer_auth(world.token(subject))
        .json(body)
}

async fn answer(request: RequestBuilder) -> Value {
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    answer.json().await.expect("JSON")
}

/// The problem with which a request is refused, after what every problem has in common.
async fn problem(request: RequestBuilder) -> (Response, Value) {
    let mut answer = request.send().await.expect("an answer");
    assert!(!answer.status().is_success(), "{answer:?}");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.expect("a body") {
        bytes.extend_from_slice(&chunk);
    }
    let problem: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(problem["status"], answer.status().as_u16());
    let reason = problem["reason"].as_str().expect("a reason");
    assert_eq!(problem["type"], format!("/v1/errors/{reason}"));
    (answer, problem)
}

#[tokio::test(flavor = "multi_thread")]
async fn json_tells_what_grpc_tells() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world.buy_apple("alice", YEARLY, None).await;
    let body = json!({"proof": {"appStore": {"signedTransaction": bought.signed_transaction}}});
    let bound = answer(post(&world, BIND_PURCHASE, "alice", &body)).await;
    assert_eq!(bound["outcome"], "BIND_OUTCOME_BOUND");
    assert_eq!(bound["clientAction"], "CLIENT_ACTION_FINISH");

    let grpc = alice.now().await;
    let query = format!("{GET_ENTITLEMENTS}?consistency.fullyConsistent=true");
    let read = answer(get(&world, &query, "alice")).await;
    let body = json!({"consistency": {"fullyConsistent": true}});
    let posted = answer(post(&world, GET_ENTITLEMENTS, "alice", &body)).await;
    assert_eq!(read["snapshot"], posted["snapshot"]);
    let snapshot = &read["snapshot"];
    assert_eq!(snapshot["epoch"], grpc.epoch);
    assert_eq!(snapshot["revision"], grpc.revision.to_string());
    let told = snapshot["entitlements"].as_array().expect("a list");
    assert_eq!(told.len(), grpc.entitlements.len());
    for (told, entitlement) in told.iter().zip(&grpc.entitlements) {
        assert_eq!(told["id"], entitlement.id);
        assert_eq!(told["active"], entitlement.active, "{told}");
        assert_eq!(told["reason"], entitlement.reason().as_str_name());
        let expires = entitlement.expires_at.as_ref().map(ToString::to_string);
        assert_eq!(told["expiresAt"].as_str(), expires.as_deref());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_is_carried_by_the_rule() {
    let world = World::start().await;
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
    let files = set.file.iter();
    let ours = files.filter(|file| file.package() == "entitled.v1");
    for service in ours.flat_map(|file| &file.service) {
        let area = service.name().trim_end_matches("Service").to_lowercase();
        for method in &service.method {
            let (first, rest) = method.name().split_at(1);
            let path = format!("/v1/{area}:{}{rest}", first.to_lowercase());
            let (answer, _) = problem(request(&world, Method::DELETE, &path)).await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            let options = method.options.as_ref();
            let reads =
                options.is_some_and(|it| it.idempotency_level() == IdempotencyLevel::NoSideEffects);
            let allow = if reads { "GET, POST" } else { "POST" };
            assert_eq!(answer.headers()["allow"], allow, "{path}");
            // A nonsense credential gets as far as the service, and no further.
            for verb in [Method::GET, Method::POST] {
                if verb == Method::POST || reads {
                    let call = request(&world, verb.clone(), &path).bearer_auth("nonsense");
                    if OPEN.contains(&method.name()) {
                        let answer = call.send().await.expect("an answer");
                        assert!(!matches!(answer.status().as_u16(), 404 | 405), "{path}");
                        continue;
                    }
                    let (answer, problem) = self::problem(call).await;
                    assert_eq!(answer.status(), 401, "{verb} {path}: {problem}");
                    assert_eq!(problem["reason"], "TOKEN_INVALID", "{verb} {path}");
                    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
                }
            }
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_gets_wrong_is_a_problem_with_a_reason() {
    let world = World::start().await;
    let with_type = |kind: &'static str, body: &'static str| {
        let call = request(&world, Method::POST, GET_ENTITLEMENTS);
        call.bearer_auth(world.token("alice"))
            .header("content-type", kind)
            .body(body)
    };
    let account = format!("{GET_ENTITLEMENTS}?account=dev:bob");
    let query = format!("{GET_ENTITLEMENTS}?acount=x");
    let long = json!({"account": "x".repeat(70_000)});
    let table = [
        (get(&world, "/v1/nothing", "alice"), 404, "PATH_UNKNOWN", ""),
        (get(&world, "/v1/", "alice"), 404, "PATH_UNKNOWN", ""),
        (
            get(&world, BIND_PURCHASE, "alice"),
            405,
            "METHOD_NOT_ALLOWED",
            "",
        ),
        (
            with_type("text/plain", "{}"),
            415,
            "CONTENT_TYPE_UNSUPPORTED",
            "",
        ),
        (
            with_type("application/json", "{}").header("content-encoding", "gzip"),
            415,
            "CONTENT_TYPE_UNSUPPORTED",
            "",
        ),
        (
            with_type("application/json", "{"),
            400,
            "REQUEST_INVALID",
            "",
        ),
        (
            with_type("application/json", r#"{"consistency": {"atLeest": {}}}"#),
            400,
            "REQUEST_INVALID",
            "consistency.atLeest",
        ),
        (
            post(&world, BIND_PURCHASE, "alice", &long),
            413,
            "BODY_TOO_LARGE",
            "",
        ),
        (
            get(&world, &query, "alice"),
            400,
            "REQUEST_INVALID",
            "acount",
        ),
        (
            post(&world, &query, "alice", &json!({})),
            400,
            "REQUEST_INVALID",
            "",
        ),
        (
            post(&world, BIND_PURCHASE, "alice", &json!({})),
            400,
            "REQUEST_INVALID",
            "proof",
        ),
        (
            get(&world, &account, "alice"),
            403,
            "ACCOUNT_NOT_ALLOWED",
            "",
        ),
        // Who may not call is told that before anything else.
        (
            request(&world, Method::GET, &query),
            401,
            "UNAUTHENTICATED_MISSING_TOKEN",
            "",
        ),
    ];
    for (call, status, reason, field) in table {
        let (answer, problem) = problem(call).await;
        let told = (answer.status().as_u16(), problem["reason"].as_str());
        assert_eq!(told, (status, Some(reason)), "{problem}");
        let named = problem["fieldViolations"][0]["field"].as_str();
        assert_eq!(named.unwrap_or_default(), field, "{problem}");
    }
    world.stop().await;
}

/// Whoever may not call costs no reading: they are answered although they never send their body.
#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_read_of_whoever_may_not_call() {
    let world = World::start().await;
    let address = world.stack.address.server.replace("http://", "");
    let alice = format!("authorization: Bearer {}\r\n", world.token("alice"));
    for (path, credential, status) in [
        (BIND_PURCHASE, "", "401"),
        ("/v1/entitlement:restorePurchases", "", "401"),
        ("/v1/catalog:applyCatalog", alice.as_str(), "403"),
        // Theirs to send, and more than a request of theirs may hold.
        (BIND_PURCHASE, alice.as_str(), "413"),
    ] {
        let mut socket = TcpStream::connect(&address).await.expect("connects");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             {credential}content-length: 900000\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("writes");
        if status == "413" {
            let body = vec![b' '; 100_000];
            socket.write_all(&body).await.expect("writes");
        }
        let mut answer = [0; 12];
        let read = socket.read_exact(&mut answer);
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.expect("in time").expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer, format!("HTTP/1.1 {status}"), "{path}");
    }
    world.stop().await;
}

/// What opens a purchase never stands in a URL, which proxies keep in their logs.
#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_token_is_refused_in_a_query_and_taken_in_a_body() {
    let world = World::start().await;
    let path = "/v1/entitlement:preflightPurchase";
    let query = format!(
        "{path}?proof.googlePlay.packageName=com.example.app&proof.googlePlay.purchaseToken=canary"
    );
    let (refused, told) = problem(get(&world, &query, "alice")).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let field = &told["fieldViolations"][0]["field"];
    assert_eq!(field, "proof.googlePlay.purchaseToken");
    assert!(!told.to_string().contains("canary"), "{told}");
    let product = format!("{path}?product=pro_yearly");
    answer(get(&world, &product, "alice")).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sold_is_kept_and_asked_for_by_its_name() {
    let text = format!("{EXAMPLE_CATALOG}{OFFERINGS}");
    let world = World::with(|options| options.catalog = text.clone()).await;
    let list = async |server: &str, path: &str, subject: &str, known: Option<&str>| {
        let call = HTTP.get(format!("{server}{path}"));
        let mut call = call.bearer_auth(world.token(subject));
        if let Some(known) = known {
            call = call.header("if-none-match", known);
        }
        let answer = call.send().await.expect("an answer");
        let headers = answer.headers();
        assert_eq!(headers["cache-control"], "private, no-cache");
        let name = headers["etag"].to_str().expect("text").to_owned();
        (answer.status(), name, answer.bytes().await.expect("a body"))
    };
    let here = world.stack.address.server.as_str();
    let (status, name, body) = list(here, LIST_PRODUCTS, "alice", None).await;
    assert_eq!(status, StatusCode::OK);
    let told: Value = serde_json::from_slice(&body).expect("JSON");
    let revision = told["revision"].as_str().expect("a revision");
    assert_eq!(name, format!("W/\"{revision}\""));

    // It is what is sold: the same for everybody, on every replica.
    let other = world.replica(READER, |_| {}).await;
    let there = other.grpc_url().expect("an API");
    for (server, subject) in [(here, "alice"), (here, "bob"), (&there, "alice")] {
        let kept = list(server, LIST_PRODUCTS, subject, Some(&name)).await;
        assert_eq!((kept.0, &kept.1), (StatusCode::NOT_MODIFIED, &name));
        assert!(kept.2.is_empty(), "{:?}", kept.2);
    }
    other.stop().await;
    let google = format!("{LIST_PRODUCTS}?store=STORE_GOOGLE_PLAY");
    let (status, google, _) = list(here, &google, "alice", Some(&name)).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(google, name);

    // A name is no credential; only a GET's answer has one; no account's answer has one.
    let stranger = request(&world, Method::GET, LIST_PRODUCTS).header("if-none-match", &name);
    let (refused, _) = problem(stranger).await;
    assert_eq!(refused.status(), 401);
    assert!(!refused.headers().contains_key("etag"));
    let posted = post(&world, LIST_PRODUCTS, "alice", &json!({}));
    answer(posted.header("if-none-match", "*")).await;
    let own = get(&world, GET_ENTITLEMENTS, "alice");
    answer(own.header("if-none-match", "*")).await;

    // A version that sells the same keeps the name, another one does not.
    let apply = async |text: &str| {
        let file = world.catalog_file("next.toml", text);
        let file = file.to_str().expect("a path");
        world.command(&["catalog", "apply", file]).await;
    };
    apply(&format!("{text}\n[entitlements.unsold]")).await;
    eventually("the version is taken up", async || {
        let (_, named, body) = list(here, LIST_PRODUCTS, "alice", None).await;
        assert_eq!(named, name);
        let told: Value = serde_json::from_slice(&body).expect("JSON");
        told["catalogVersion"] == "2"
    })
    .await;
    let (status, _, _) = list(here, LIST_PRODUCTS, "alice", Some(&name)).await;
    assert_eq!(status, StatusCode::NOT_MODIFIED);
    apply(&text.replace("Go Pro", "Go far")).await;
    eventually("the change is told", async || {
        let (status, next, _) = list(here, LIST_PRODUCTS, "alice", Some(&name)).await;
        assert_eq!(status == StatusCode::OK, next != name);
        status == StatusCode::OK
    })
    .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_says_how_long_it_waits() {
    let world = World::start().await;
    let query = format!("{GET_ENTITLEMENTS}?consistency.fullyConsistent=true");
    let call = get(&world, &query, "alice").header("prefer", "wait=0");
    let (answer, problem) = problem(call).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(problem["reason"], "DEADLINE_EXCEEDED");
    assert_eq!(problem["clientAction"], "KEEP_AND_RETRY");
    assert_eq!(answer.headers()["retry-after"], "1");
    self::answer(get(&world, &query, "alice").header("prefer", "wait=20")).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_of_any_origin_may_call() {
    let world = World::start().await;
    let preflight = request(&world, Method::OPTIONS, GET_ENTITLEMENTS)
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization, prefer")
        .send()
        .await
        .expect("an answer");
    assert!(preflight.status().is_success());
    let allowed = &preflight.headers()["access-control-allow-headers"];
    assert_eq!(allowed, "authorization, prefer");
    let call = get(&world, GET_ENTITLEMENTS, "alice").header("origin", "https://app.example.com");
    let answer = call.send().await.expect("an answer");
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(
        !answer
            .headers()
            .contains_key("access-control-allow-credentials")
    );
    world.stop().await;
}

/// One event as it came.
#[derive(Debug, Default)]
struct Event {
    name: String,
    id: String,
    retry: Option<u64>,
    data: Value,
}

/// A stream of events as a browser reads it.
struct Events {
    answer: Response,
    read: String,
}

impl Events {
    async fn open(world: &World, last: &str) -> Self {
        let mut call = get(world, WATCH, "alice");
        if !last.is_empty() {
            call = call.header("last-event-id", last);
        }
        Self::of(call).await
    }

    async fn of(call: RequestBuilder) -> Self {
        let call = call.header("accept", "text/event-stream");
        let answer = call.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self {
            answer,
            read: String::new(),
        }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let mut read = Event::default();
                for line in event.lines() {
                    let (name, value) = line.split_once(": ").expect("a field");
                    match name {
                        "event" => read.name = value.to_owned(),
                        "id" => read.id = value.to_owned(),
                        "retry" => read.retry = value.parse().ok(),
                        "data" => read.data = serde_json::from_str(value).expect("JSON"),
                        other => panic!("no such field: {other}"),
                    }
                }
                self.read = rest.to_owned();
                return Some(read);
            }
            let next = tokio::time::timeout(Duration::from_secs(30), self.answer.chunk());
            let chunk = next.await.expect("in time").ok()??;
            self.read
                .push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    async fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("an event");
            if event.name == name {
                return event;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_told_as_events_that_can_be_resumed() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mut events = Events::open(&world, "").await;
    let first = events.next().await.expect("an event");
    assert_eq!(first.name, "snapshot");
    let before: i64 = revision(&first);

    let bought = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let pushed = events.named("snapshot").await;
    assert!(revision(&pushed) > before);
    assert_ne!(pushed.id, first.id);

    // Who comes back with the latest event is told that nothing is new; with an older one, all.
    world.settled().await;
    let mut latest = Events::open(&world, "").await;
    let latest = latest.named("snapshot").await;
    let mut resumed = Events::open(&world, &latest.id).await;
    let unchanged = resumed.next().await.expect("an event");
    assert_eq!(unchanged.name, "unchanged", "{unchanged:?}");
    let mut late = Events::open(&world, &first.id).await;
    let caught_up = late.next().await.expect("an event");
    assert_eq!(caught_up.name, "snapshot");
    assert_eq!(revision(&caught_up), revision(&latest));

    // The end is an event: why, and when to come back.
    let ended = tokio::spawn(async move { resumed.named("end").await });
    world.stop().await;
    let end = ended.await.expect("an end");
    assert_eq!(end.data["reason"], "STREAM_RENEW");
    assert_eq!(end.data["clientAction"], "KEEP_AND_RETRY");
    assert!(end.retry.is_some(), "{end:?}");
}

/// A token's time ends its streams as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_token_does() {
    let world = World::start().await;
    let _alice = world.person("alice").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let until = now.expect("after 1970").as_secs() + 2;
    let claims = json!({ "iss": "dev", "aud": "entitled", "sub": "alice", "exp": until });
    let secret = EncodingKey::from_secret(world.stack.address.secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret);
    let call = request(&world, Method::GET, WATCH).bearer_auth(token.expect("signed"));
    let mut events = Events::of(call).await;
    let end = tokio::time::timeout(PATIENCE, events.named("end")).await;
    let end = end.expect("in time");
    assert_eq!(end.data["reason"], "TOKEN_EXPIRED");
    assert_eq!(end.data["status"], 401);
    assert_eq!(end.data["clientAction"], "SIGN_IN");
    assert_eq!(end.retry, None, "not before there is another credential");
    assert!(events.next().await.is_none(), "nothing comes after the end");
    world.stop().await;
}

/// A key that is revoked ends its streams, and the last event says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_credential_that_opened_it() {
    let world = World::start().await;
    let mut keys = Keys::of(&world).await;
    let made = keys.create(service("backend", &[])).await.expect("made");
    let watch = format!("{WATCH}?account=dev:alice");
    let _alice = world.person("alice").await;
    let call = request(&world, Method::GET, &watch).bearer_auth(&made.secret);
    let mut events = Events::of(call).await;
    assert_eq!(events.next().await.expect("an event").name, "snapshot");
    let key = made.api_key.expect("a key");
    keys.revoke(&key.id).await.expect("revoked");
    let end = events.named("end").await;
    assert_eq!(end.data["reason"], "KEY_INVALID");
    assert_eq!(end.data["status"], 401);
    assert_eq!(end.retry, None, "not before there is another credential");
    assert!(events.next().await.is_none(), "nothing comes after the end");
    world.stop().await;
}

fn revision(event: &Event) -> i64 {
    let revision = event.data["snapshot"]["revision"].as_str();
    revision.expect("a revision").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_refused_is_a_problem() {
    let world = World::start().await;
    let (answer, refused) = problem(request(&world, Method::GET, WATCH)).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused["clientAction"], "SIGN_IN");
    let (answer, _) = problem(get(&world, &format!("{WATCH}?account=dev:bob"), "alice")).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    world.stop().await;
}
