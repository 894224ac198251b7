//! The public listener: health, reflection, gRPC-Web, limits; what a production configuration refuses.

use std::time::Duration;

use entitled::app::{App, Roles};
use entitled::cli::client::{Bearer, Client};
use entitled::config::{Config, Mode};
use entitled::proto::key_service_client::KeyServiceClient;
use entitled::proto::{GetEntitlementsRequest, GetEntitlementsResponse, ListApiKeysRequest};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};

use crate::support::{HTTP, World, assert_refused};
use crate::tickets;

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer_without_a_credential() {
    let world = World::start().await;
    let server = Endpoint::from_shared(world.stack.address.server.clone()).expect("a URL");
    let channel = server.connect().await.expect("connects");
    let mut health = HealthClient::new(channel.clone());
    let service = "entitled.v1.EntitlementService".to_owned();
    let answer = health
        .check(HealthCheckRequest { service })
        .await
        .expect("serving")
        .into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(channel);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::once(list))
        .await
        .expect("reflects")
        .into_inner();
    let answer = answers.message().await.expect("answers").expect("one");
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) =
        answer.message_response
    else {
        panic!("not a list");
    };
    assert!(
        service
            .iter()
            .any(|s| s.name == "entitled.v1.EntitlementService")
    );
    world.stop().await;
}

/// What is for operators is on their listener, and on the public one only where that is wanted.
#[tokio::test(flavor = "multi_thread")]
async fn operators_have_a_listener_of_their_own() {
    let world = World::start().await;
    let any = ([127, 0, 0, 1], 0).into();
    let serve = Roles {
        serve: true,
        webhooks: false,
        worker: false,
    };
    let app = world
        .replica(serve, |config| {
            (config.grpc.listen, config.admin.listen) = (any, any);
            (config.grpc.operators, config.grpc.reflection) = (false, Some(false));
        })
        .await;
    let (public, own) = (app.grpc_url().expect("an API"), app.admin_url());
    let boss = tickets::token(&world, "ada", "entitled.admin");
    for (server, expected) in [(&public, Code::Unimplemented), (&own, Code::Ok)] {
        let channel = Endpoint::from_shared(server.clone()).expect("a URL");
        let channel = channel.connect().await.expect("connects");
        let bearer = Bearer::of(&boss).expect("a token");
        let mut keys = KeyServiceClient::with_interceptor(channel.clone(), bearer);
        let listed = keys.list_api_keys(ListApiKeysRequest::default()).await;
        assert_eq!(
            listed.err().map_or(Code::Ok, |refused| refused.code()),
            expected
        );
        assert_eq!(reflects(channel).await, expected, "{server}");
    }
    // The same guard is in front of them; and nobody reads entitlements there.
    let channel = Endpoint::from_shared(own.clone()).expect("a URL");
    let channel = channel.connect().await.expect("connects");
    let mut stranger = KeyServiceClient::new(channel);
    let refused = stranger.list_api_keys(ListApiKeysRequest::default()).await;
    assert_eq!(refused.expect_err("nobody").code(), Code::Unauthenticated);
    let mut alice = Client::connect(&own, &world.token("alice"))
        .await
        .expect("connects");
    let refused = alice.get().await.expect_err("not there");
    assert_eq!(refused.code(), Code::Unimplemented);
    let metrics = HTTP
        .get(format!("{own}/metrics"))
        .send()
        .await
        .expect("answers");
    assert!(
        metrics
            .text()
            .await
            .expect("text")
            .contains("entitled_connections")
    );
    app.stop().await;
    world.stop().await;
}

async fn reflects(channel: Channel) -> Code {
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(channel);
    let answer = reflection
        .server_reflection_info(tokio_stream::once(list))
        .await;
    answer.err().map_or(Code::Ok, |refused| refused.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_reads_entitlements_by_grpc_web() {
    let world = World::start().await;
    let url = format!(
        "{}/entitled.v1.EntitlementService/GetEntitlements",
        world.stack.address.server
    );
    let token = world.token("alice");
    let mut body = vec![0, 0, 0, 0, 0];
    GetEntitlementsRequest::default()
        .encode(&mut body)
        .expect("encodes");
    let answer = HTTP
        .post(url)
        .header("content-type", "application/grpc-web+proto")
        .header("origin", "https://app.example.com")
        .bearer_auth(token)
        .body(body)
        .send()
        .await
        .expect("answers");
    assert!(answer.headers().contains_key("access-control-allow-origin"));
    let bytes = answer.bytes().await.expect("body");
    let length = u32::from_be_bytes(bytes[1..5].try_into().expect("four")) as usize;
    let message = GetEntitlementsResponse::decode(&bytes[5..5 + length]).expect("decodes");
    assert_eq!(message.snapshot.expect("snapshot").entitlements.len(), 2);
    let trailers = String::from_utf8_lossy(&bytes[5 + length..]);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_or_with_a_foreign_credential_are_refused() {
    let world = World::start().await;
    for token in ["", "nonsense", "a.b.c"] {
        let mut client = world.client_with_token(token).await;
        let status = client.get().await.expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{token:?}");
    }
    let mut stranger = world
        .client_with_token(&world.token_signed_with("somebody else's secret of 32 bytes"))
        .await;
    let status = stranger.get().await.expect_err("refused");
    assert_refused(&status, Code::Unauthenticated, "TOKEN_INVALID");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_requests_are_refused() {
    let world = World::start().await;
    let mut client = world.client("alice").await;
    let status = client
        .bind_app_store(&"x".repeat(100_000))
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_says_nothing_is_closed() {
    let world = World::start().await;
    let address = world
        .stack
        .address
        .server
        .trim_start_matches("http://")
        .to_owned();
    let mut silent = TcpStream::connect(&address).await.expect("connects");
    let closed = tokio::time::timeout(Duration::from_secs(15), silent.read(&mut [0; 1])).await;
    assert!(
        matches!(closed, Ok(Ok(0) | Err(_))),
        "closed within the limit"
    );

    let mut greeted = TcpStream::connect(&address).await.expect("connects");
    greeted
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .expect("writes");
    let mut answer = [0; 9];
    greeted
        .read_exact(&mut answer)
        .await
        .expect("settings come back");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn production_refuses_what_is_for_development() {
    let world = World::start().await;
    let mut config = Config::load(Some(&world.stack.address.config)).expect("reads");
    config.mode = Mode::Production;
    let error = App::start(config, Roles::ALL, None)
        .await
        .expect_err("refused")
        .to_string();
    for word in [
        "clock.follow",
        "shared_secret",
        "root_certificates",
        "jwks_url",
    ] {
        assert!(error.contains(word), "{word} is not refused: {error}");
    }
    world.stop().await;
}
