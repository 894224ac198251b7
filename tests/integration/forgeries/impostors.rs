//! A18: somebody else in the place of a store's API.

use entitled::sandbox::Store;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::canary::Canary;
use crate::process::{NOBODY, Process};
use crate::scene::YEARLY;
use crate::support::{World, is_active, reason};

/// A TLS server with a certificate that nobody has vouched for; its URL.
async fn self_signed() -> String {
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let identity = Identity::from_pem(made.cert.pem(), made.signing_key.serialize_pem());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(identity))
        .expect("TLS")
        .add_service(health)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(server);
    format!("https://127.0.0.1:{port}")
}

/// A redirect is not followed: not by a read, and not by the token request that carries a signed
/// assertion.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_sends_elsewhere_is_not_followed() {
    let mut world = World::start().await;
    let canary = Canary::set().await;
    let redirect = Canary::redirecting(&canary.url).await;
    let tls = self_signed().await;
    for impostor in [redirect.url.clone(), tls] {
        world
            .restart(|config| {
                let apple = config.app_store.as_mut().expect("an App Store");
                apple.production_url.clone_from(&impostor);
                apple.sandbox_url.clone_from(&impostor);
                let google = config.google_play.as_mut().expect("a Google Play");
                google.base_url.clone_from(&impostor);
                google.token_uri = Some(impostor.clone());
            })
            .await;
        let name = format!("alice at {impostor}");
        let alice = world.person(&name).await;
        world.hold().await;
        let google = world.buy_google(&name, "premium-yearly", None).await;
        let refused = alice
            .bind_google(&google.purchase_token)
            .await
            .expect_err("no store has answered");
        assert_eq!(reason(&refused), "STORE_UNAVAILABLE");
        assert!(!is_active(&alice.now().await, "pro_access"));
        let apple = world.buy_apple(&name, YEARLY, None).await;
        let refused = alice
            .bind_bare_id(&apple.transaction_id)
            .await
            .expect_err("no store has answered");
        assert!(["PROOF_INSUFFICIENT", "STORE_UNAVAILABLE"].contains(&reason(&refused).as_str()));
        assert!(!is_active(&alice.now().await, "pro_access"));
    }
    assert!(redirect.visits() > 0, "it was asked");
    assert_eq!(canary.visits(), 0, "and not believed");
    world.stop().await;
}

/// What the environment says about proxies leads nobody away.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_the_environment_is_not_used() {
    let mut world = World::with(|options| options.roles = NOBODY).await;
    let proxy = Canary::set().await;
    let url = proxy.url.as_str();
    let variables = [
        ("HTTP_PROXY", url),
        ("http_proxy", url),
        ("HTTPS_PROXY", url),
        ("https_proxy", url),
        ("ALL_PROXY", url),
        ("all_proxy", url),
        ("NO_PROXY", ""),
    ];
    let server = Process::start(&world, "start", &variables).await;
    server.serves(&mut world);
    let alice = world.person("alice").await;
    world.hold().await;
    let google = world.buy_google("alice", "premium-yearly", None).await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    let apple = world.buy_apple("alice", YEARLY, None).await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    assert!(world.asked(Store::AppStore) > 0 && world.asked(Store::GooglePlay) > 0);
    assert_eq!(proxy.visits(), 0);
    world.stop().await;
}
