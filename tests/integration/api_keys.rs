//! API keys: made once, kept hashed, two for a rotation, revoked everywhere, for some apps only.

mod rotation;

use std::time::Duration;

use entitled::cli::client::{Bearer, Client};
use entitled::proto::claim_delivery_request::Delivery;
use entitled::proto::key_service_client::KeyServiceClient;
use entitled::proto::purchase_service_client::PurchaseServiceClient;
use entitled::proto::{
    ApiKey, ApiKeyKind, BindPurchaseRequest, CreateApiKeyRequest, CreateApiKeyResponse,
    GetEntitlementsRequest, GooglePlayProof, ListApiKeysRequest, ListTransactionsRequest,
    OperatorRole, PurchaseProof, RevokeApiKeyRequest, SetConsumptionRequest, Store,
    WatchEntitlementsRequest, purchase_proof,
};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::scene::{PACKAGE, READER};
use crate::support::{HTTP, PATIENCE, World, assert_refused, is_active};

/// The keys of a deployment, as one of its operators sees them.
pub struct Keys(KeyServiceClient<InterceptedService<Channel, Bearer>>);

impl Keys {
    pub async fn of(world: &World) -> Self {
        let token = crate::tickets::token(world, "ada", "entitled.admin");
        Self::with(&world.stack.address.server, &token).await
    }

    pub async fn with(server: &str, token: &str) -> Self {
        let bearer = Bearer::of(token).expect("a token");
        let channel = channel(server).await;
        Self(KeyServiceClient::with_interceptor(channel, bearer))
    }

    pub async fn create(
        &mut self,
        request: CreateApiKeyRequest,
    ) -> Result<CreateApiKeyResponse, Status> {
        let created = self.0.create_api_key(request).await;
        created.map(tonic::Response::into_inner)
    }

    pub async fn revoke(&mut self, id: &str) -> Result<ApiKey, Status> {
        let request = RevokeApiKeyRequest { id: id.into() };
        let revoked = self.0.revoke_api_key(request).await?.into_inner();
        Ok(revoked.api_key.expect("a key"))
    }

    async fn list(&mut self, show_ended: bool) -> Vec<ApiKey> {
        let request = ListApiKeysRequest { show_ended };
        let listed = self.0.list_api_keys(request).await.expect("listed");
        listed.into_inner().api_keys
    }
}

async fn channel(server: &str) -> Channel {
    let endpoint = Endpoint::from_shared(server.to_owned()).expect("a URL");
    endpoint.connect().await.expect("a server")
}

pub fn service(name: &str, apps: &[&str]) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        name: name.into(),
        kind: ApiKeyKind::Service.into(),
        apps: apps.iter().map(|&app| app.to_owned()).collect(),
        ..Default::default()
    }
}

pub fn operator(name: &str, role: OperatorRole) -> CreateApiKeyRequest {
    CreateApiKeyRequest {
        name: name.into(),
        kind: ApiKeyKind::Operator.into(),
        role: role.into(),
        ..Default::default()
    }
}

/// What a service with that key reads of alice.
async fn reads(server: &str, key: &str) -> Result<bool, Status> {
    let client = Client::over(channel(server).await, key).expect("a client");
    let request = GetEntitlementsRequest {
        account: "dev:alice".into(),
        ..Default::default()
    };
    let read = client.inner.clone().get_entitlements(request).await?;
    let snapshot = read.into_inner().snapshot.expect("a snapshot");
    Ok(is_active(&snapshot, "pro_access"))
}

/// Tries until the key is refused.
async fn until_refused(server: &str, key: &str) {
    for _ in 0..600 {
        match reads(server, key).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(refused) => {
                assert_refused(&refused, Code::Unauthenticated, "KEY_INVALID");
                return;
            }
        }
    }
    panic!("a revoked key is still taken");
}

/// CRC-32 in six characters, as keys end.
fn checksum(body: &str) -> String {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let crc = !body.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    let letter = |place: u32| char::from(LETTERS[(crc / 62_u32.pow(place) % 62) as usize]);
    (0..6).rev().map(letter).collect()
}

/// A key of the same id with another secret, its checksum in order: only the secret is wrong.
fn guess(key: &str) -> String {
    let (body, check) = key.split_at(key.len() - 6);
    assert_eq!(checksum(body), check, "as it was written");
    let other_end = if body.ends_with('x') { 'y' } else { 'x' };
    let body = format!("{}{other_end}", &body[..body.len() - 1]);
    format!("{body}{}", checksum(&body))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_told_once_two_live_for_a_rotation_and_the_revoked_one_ends_everywhere() {
    let world = World::start().await;
    let _alice = world.person("alice").await;
    let server = world.stack.address.server.clone();
    let reader = world.replica(READER, |_| {}).await;
    let other = reader.grpc_url().expect("gRPC");
    let mut keys = Keys::of(&world).await;

    let first = keys.create(service("backend", &[])).await.expect("made");
    let (old, made) = (first.secret, first.api_key.expect("a key"));
    assert!(old.starts_with("entitled_svc_") && old[13..].starts_with(&made.id));
    assert_eq!(
        (made.name.as_str(), made.created_by.as_str()),
        ("backend", "app:ada")
    );
    // At once, and on a replica that has never heard of it.
    assert!(!reads(&server, &old).await.expect("served"));
    assert!(!reads(&other, &old).await.expect("served"));
    let kept = world
        .row("select string_agg(k::text, ' ') from api_keys k")
        .await;
    assert!(!kept.contains(&old[23..]), "only its hash is kept: {kept}");

    // Spoilt, made up, or of another's secret: the same answer.
    let mut second = keys
        .create(service("backend", &[]))
        .await
        .expect("the second");
    let other_end = if old.ends_with('x') { 'y' } else { 'x' };
    let spoilt = format!("{}{other_end}", &old[..old.len() - 1]);
    let guessed = guess(&old);
    for text in [&spoilt, &guessed, "entitled_svc_", "entitled_op_0123456789"] {
        let refused = reads(&server, text).await.expect_err(text);
        assert_refused(&refused, Code::Unauthenticated, "KEY_INVALID");
    }
    let refused = keys.create(service("backend", &[])).await;
    let refused = refused.expect_err("a third");
    assert_refused(&refused, Code::FailedPrecondition, "API_KEY_LIMIT");
    for differs in [
        operator("backend", OperatorRole::Viewer),
        service("backend", &["example-ios"]),
        service("Back end", &[]),
        service("backend2", &["example-web"]),
        CreateApiKeyRequest {
            expires_at: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            ..service("backend2", &[])
        },
        CreateApiKeyRequest {
            apps: vec!["example-ios".into()],
            ..operator("sue", OperatorRole::Support)
        },
        operator("sue", OperatorRole::Unspecified),
    ] {
        let refused = keys.create(differs.clone()).await;
        let refused = refused.expect_err(&format!("{differs:?}"));
        assert_refused(&refused, Code::InvalidArgument, "REQUEST_INVALID");
    }

    // Revoked: refused by every replica, its streams ended by every replica; the other goes on.
    let mut streams = Vec::new();
    for server in [&server, &other] {
        let client = Client::over(channel(server).await, &old).expect("a client");
        let request = WatchEntitlementsRequest {
            account: "dev:alice".into(),
            ..Default::default()
        };
        let stream = client.inner.clone().watch_entitlements(request).await;
        let mut stream = stream.expect("a stream").into_inner();
        stream.message().await.expect("alive").expect("a snapshot");
        streams.push(stream);
    }
    let revoked = keys.revoke(&made.id).await.expect("revoked");
    assert_eq!(revoked.revoked_by, "app:ada");
    for mut stream in streams {
        let end = async {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("an end without a word"),
                    Err(status) => return status,
                }
            }
        };
        let end = tokio::time::timeout(PATIENCE, end).await;
        let end = end.expect("streams of a revoked key end");
        assert_refused(&end, Code::Unauthenticated, "KEY_INVALID");
    }
    until_refused(&server, &old).await;
    until_refused(&other, &old).await;
    let new = std::mem::take(&mut second.secret);
    assert!(!reads(&server, &new).await.expect("the other is good"));
    let again = keys.revoke(&made.id).await.expect("twice is once");
    assert_eq!(again.revoked_at, revoked.revoked_at);
    let missing = keys.revoke("nosuchkey0").await.expect_err("no such key");
    assert_refused(&missing, Code::NotFound, "API_KEY_NOT_FOUND");

    // There is room for its successor, and the list tells the story.
    let third = keys
        .create(service("backend", &[]))
        .await
        .expect("the third");
    assert_ne!(third.secret, old);
    let (live, all) = (keys.list(false).await, keys.list(true).await);
    assert_eq!((live.len(), all.len()), (2, 3));
    assert!(all.iter().all(|key| key.name == "backend"));

    // One that is over ends by itself.
    let pool = world.tables().await;
    sqlx::query("update api_keys set expires_at = clock_timestamp() where revoked_at is null")
        .execute(&pool)
        .await
        .expect("over");
    pool.close().await;
    until_refused(&server, &new).await;
    reader.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_is_written_rarely_and_a_key_works_nowhere_but_in_its_header() {
    let world = World::start().await;
    let _alice = world.person("alice").await;
    let server = world.stack.address.server.clone();
    let mut keys = Keys::of(&world).await;
    let made = keys.create(service("backend", &[])).await.expect("made");
    assert!(keys.list(false).await[0].last_used_at.is_none());
    for _ in 0..20 {
        reads(&server, &made.secret).await.expect("served");
    }
    let mut used = None;
    for _ in 0..600 {
        used = keys.list(false).await[0].last_used_at;
        if used.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(used.is_some(), "its use was seen");
    // Used on and on, over several looks of the replica: its row is written no more.
    let written = "select string_agg(id || ' ' || xmin::text, ', ') from api_keys";
    let before = world.row(written).await;
    for _ in 0..50 {
        reads(&server, &made.secret).await.expect("served");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.row(written).await, before, "not a write for a call");

    let call = |url: String, header: Option<(&'static str, String)>| async move {
        let mut request = HTTP
            .post(url)
            .header("content-type", "application/grpc-web+proto")
            .body(vec![0; 5]);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.headers().get("grpc-status");
        status
            .and_then(|status| status.to_str().ok())
            .map(str::to_owned)
    };
    let method = "entitled.v1.EntitlementService/ListProducts";
    let key = &made.secret;
    let (host, rest) = server.split_at("http://".len());
    for (url, header) in [
        (format!("{server}/{method}?key={key}"), None),
        (format!("{server}/{method}?access_token={key}"), None),
        (format!("{host}{key}@{rest}/{method}"), None),
        (
            format!("{server}/{method}"),
            Some(("x-api-key", key.clone())),
        ),
        (
            format!("{server}/{method}"),
            Some(("authorization", key.clone())),
        ),
        (
            format!("{server}/{method}"),
            Some(("authorization", format!("Basic {key}"))),
        ),
    ] {
        assert_eq!(call(url, header).await.as_deref(), Some("16"));
    }
    let sent = Some(("authorization", format!("Bearer {key}")));
    assert_eq!(
        call(format!("{server}/{method}"), sent).await,
        None,
        "served"
    );
    world.stop().await;
}

const GOODS: &str = r#"
[products.sword]
kind = "consumable"
delivered_by = "backend"
app_store = { product_id = "com.example.sword" }
google_play = { product_id = "sword" }
"#;

/// What a key for one app may do with purchases of two.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_app_binds_lists_and_hands_out_for_that_app_alone() {
    let world = World::with(|options| options.catalog.push_str(GOODS)).await;
    let alice = world.person("alice").await;
    let mut keys = Keys::of(&world).await;
    let made = keys.create(service("ios-backend", &["example-ios"])).await;
    let key = made.expect("made").secret;
    let server = world.stack.address.server.clone();
    let mut client = Client::over(channel(&server).await, &key).expect("a client");

    let apple = world
        .buy_pieces_apple("alice", "com.example.sword", 1, None)
        .await;
    let google = world.buy_pieces_google("alice", "sword", 1, None).await;
    let bind = |proof| BindPurchaseRequest {
        account: "dev:alice".into(),
        proof: Some(PurchaseProof { proof: Some(proof) }),
    };
    let google_proof = purchase_proof::Proof::GooglePlay(GooglePlayProof {
        package_name: PACKAGE.into(),
        purchase_token: google.clone(),
    });
    let refused = client.inner.bind_purchase(bind(google_proof)).await;
    let refused = refused.expect_err("of the other app");
    assert_refused(&refused, Code::PermissionDenied, "APP_NOT_ALLOWED");
    let claims = world.count("select count(*) from ownership_claims").await;
    assert_eq!(claims, 0, "nothing was asked for");
    let signed = entitled::proto::app_store_proof::Proof::SignedTransaction(
        apple.signed_transaction.clone(),
    );
    let apple_proof = purchase_proof::Proof::AppStore(entitled::proto::AppStoreProof {
        proof: Some(signed),
    });
    client
        .inner
        .bind_purchase(bind(apple_proof))
        .await
        .expect("of its own app");
    alice.bind_google(&google).await.expect("by the app itself");
    world.settled().await;

    // The account's access is shared by its apps; its purchases are each app's own.
    assert!(!reads(&server, &key).await.expect("any account"));
    let bearer = Bearer::of(&key).expect("a key");
    let mut purchases = PurchaseServiceClient::with_interceptor(channel(&server).await, bearer);
    let listed = purchases
        .list_transactions(ListTransactionsRequest {
            account: "dev:alice".into(),
            ..Default::default()
        })
        .await
        .expect("listed")
        .into_inner();
    let stores: Vec<Store> = listed.transactions.iter().map(|it| it.store()).collect();
    assert_eq!(stores, [Store::AppStore]);
    let order = world
        .row("select transaction_id from transactions where transaction_id like 'GPA.%'")
        .await;
    let named = purchases
        .list_transactions(ListTransactionsRequest {
            account: "dev:alice".into(),
            store_transaction_id: order.clone(),
            ..Default::default()
        })
        .await
        .expect("listed");
    assert!(named.into_inner().transactions.is_empty());
    for (transaction, code, reason) in [
        (order.as_str(), Code::NotFound, "PURCHASE_NOT_FOUND"),
        ("", Code::InvalidArgument, "REQUEST_INVALID"),
    ] {
        let request = SetConsumptionRequest {
            account: "dev:alice".into(),
            store_transaction_id: transaction.into(),
            customer_consented: true,
            ..Default::default()
        };
        let refused = purchases.set_consumption(request).await;
        assert_refused(&refused.expect_err("another app's"), code, reason);
    }
    for account in ["", "dev:alice"] {
        let mine = world.deliveries(&key, account).await;
        let mine: Vec<&str> = mine
            .iter()
            .map(|it| it.store_transaction_id.as_str())
            .collect();
        assert_eq!(mine, [apple.transaction_id.as_str()]);
    }
    let foreign = Delivery::StoreTransactionId(order);
    let refused = world.claim(&key, "dev:alice", foreign, "ticket-1").await;
    let refused = refused.expect_err("another app's");
    assert_refused(&refused, Code::NotFound, "DELIVERY_NOT_FOUND");
    let own = Delivery::StoreTransactionId(apple.transaction_id.clone());
    world
        .claim(&key, "dev:alice", own, "ticket-2")
        .await
        .expect("its own");

    // A key for all apps sees both.
    let all = keys
        .create(service("backend", &[]))
        .await
        .expect("made")
        .secret;
    assert_eq!(world.deliveries(&all, "").await.len(), 1);
    world.stop().await;
}
