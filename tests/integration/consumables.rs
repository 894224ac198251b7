//! Consumables: credited once for what is paid, by the piece, to whoever owns the purchase; handed
//! out by a backend once; told to the store after that.

use entitled::proto::purchase_service_client::PurchaseServiceClient;
use entitled::proto::{
    ClaimDeliveryRequest, ClaimDeliveryResponse, Delivery, EntitlementSnapshot, Environment,
    ListDeliveriesRequest, claim_delivery_request,
};
use entitled::sandbox::{
    AppStoreAction, AppStoreBuy, AppStorePurchase, Endpoint, GooglePlayAction, GooglePlayBuy,
    VoidReason, VoidSource,
};
use tonic::{Code, Request, Status};

use crate::process::eventually;
use crate::scene::Person;
use crate::support::{World, assert_refused};

const COINS: &str = "com.example.coins";
const SWORD: &str = "com.example.sword";

const CATALOG: &str = r#"
    [[apps]]
    id = "example-ios"
    bundle_id = "com.example.app"
    app_apple_id = 1234567890
    [[apps]]
    id = "example-android"
    package_name = "com.example.app"
    [entitlements.pro_access]
    [credits.coins]
    [products.coins]
    kind = "consumable"
    credits = { coins = 100 }
    app_store = { product_id = "com.example.coins" }
    google_play = { product_id = "coins" }
    [products.sword]
    kind = "consumable"
    delivered_by = "backend"
    app_store = { product_id = "com.example.sword" }
    google_play = { product_id = "sword" }
    [products.lifetime]
    kind = "non_consumable"
    grants = ["pro_access"]
    app_store = { product_id = "com.example.lifetime" }
"#;

/// What an account has of the one credit, and in which environment.
fn coins(snapshot: &EntitlementSnapshot) -> Vec<(i64, Environment)> {
    let balances = snapshot.credits.iter();
    balances
        .inspect(|credit| assert_eq!(credit.id, "coins"))
        .map(|credit| (credit.balance, credit.environment()))
        .collect()
}

fn real(balance: i64) -> Vec<(i64, Environment)> {
    vec![(balance, Environment::Production)]
}

fn never() -> Vec<(i64, Environment)> {
    vec![(0, Environment::Unspecified)]
}

impl World {
    async fn with_goods() -> Self {
        Self::with(|options| options.catalog = CATALOG.into()).await
    }

    pub async fn buy_pieces_apple(
        &self,
        buyer: &str,
        product: &str,
        quantity: u8,
        token: Option<&str>,
    ) -> AppStorePurchase {
        let buy = AppStoreBuy {
            customer: buyer.into(),
            product_id: product.into(),
            quantity: Some(quantity),
            app_account_token: token.map(|token| token.parse().expect("a UUID")),
            ..AppStoreBuy::default()
        };
        let bought = self.stores().buy_app_store(&buy).await.expect("bought");
        self.settled().await;
        bought
    }

    pub async fn buy_pieces_google(
        &self,
        buyer: &str,
        product: &str,
        quantity: u32,
        token: Option<&str>,
    ) -> String {
        let buy = GooglePlayBuy {
            customer: buyer.into(),
            product_id: product.into(),
            quantity: Some(quantity),
            obfuscated_account_id: token.map(str::to_owned),
            ..Default::default()
        };
        let bought = self.stores().buy_google_play(&buy).await.expect("bought");
        self.settled().await;
        bought.purchase_token
    }

    /// Waits for what the store is told after the commit.
    async fn told(&self, endpoint: Endpoint, times: u64) {
        let told = async || self.calls(endpoint) >= times;
        eventually(&format!("{endpoint:?} is called"), told).await;
        self.settled().await;
        assert_eq!(self.calls(endpoint), times, "{endpoint:?}");
    }

    async fn apple(&self, action: AppStoreAction) {
        self.stores().app_store(action).await.expect("done");
        self.settled().await;
    }

    pub async fn claim(
        &self,
        token: &str,
        account: &str,
        delivery: claim_delivery_request::Delivery,
        key: &str,
    ) -> Result<ClaimDeliveryResponse, Status> {
        let request = ClaimDeliveryRequest {
            account: account.into(),
            delivery: Some(delivery),
            claim_key: key.into(),
        };
        let mut client = self.purchases().await;
        let answer = client.claim_delivery(self.signed(token, request)).await;
        answer.map(tonic::Response::into_inner)
    }

    pub async fn deliveries(&self, token: &str, account: &str) -> Vec<Delivery> {
        let request = ListDeliveriesRequest {
            account: account.into(),
            ..Default::default()
        };
        let mut client = self.purchases().await;
        let answer = client.list_deliveries(self.signed(token, request)).await;
        answer.expect("listed").into_inner().deliveries
    }

    async fn purchases(&self) -> PurchaseServiceClient<tonic::transport::Channel> {
        let server = self.stack.address.server.clone();
        PurchaseServiceClient::connect(server)
            .await
            .expect("connected")
    }

    fn signed<T>(&self, token: &str, request: T) -> Request<T> {
        let mut request = Request::new(request);
        let bearer = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", bearer);
        request
    }
}

async fn has(person: &Person, wanted: Vec<(i64, Environment)>) {
    assert_eq!(coins(&person.now().await), wanted, "{}", person.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_of_apple_are_counted_refunded_given_back_and_finished() {
    let world = World::with_goods().await;
    let alice = world.person("alice").await;
    has(&alice, never()).await;
    let mut phone = world.device("alice").await;
    let bought = world.buy_pieces_apple("alice", COINS, 3, None).await;
    has(&alice, never()).await;
    assert_eq!(world.calls(Endpoint::AppleFinish), 0, "nobody owns it");

    let bound = alice.bind_apple(&bought.signed_transaction).await;
    assert_eq!(coins(&bound.expect("bound").snapshot.unwrap()), real(300));
    phone
        .until("the coins", |told| coins(told) == real(300))
        .await;
    world.told(Endpoint::AppleFinish, 1).await;

    let id = &bought.transaction_id;
    world
        .apple(AppStoreAction::Refund {
            transaction_id: id.clone(),
            percent: 100,
        })
        .await;
    has(&alice, real(0)).await;
    phone
        .until("the refund", |told| coins(told) == real(0))
        .await;
    world
        .apple(AppStoreAction::ReverseRefund {
            transaction_id: id.clone(),
        })
        .await;
    has(&alice, real(300)).await;
    // The stores repeat themselves.
    for said in world.said() {
        world.deliver(&said).await;
    }
    world.settled().await;
    has(&alice, real(300)).await;
    let story = "select string_agg(reason || ' ' || amount, ', ' order by id) from credit_entries";
    assert_eq!(
        world.row(story).await,
        "purchase 300, refund -300, refund_reversed 300"
    );
    // The money: a charge, its refund, taken back.
    let money = "select string_agg(concat_ws(' ', kind, quantity, refund_kind,
        case when reversed_at is not null then 'reversed' end,
        case when account_id is not null then 'owned' end), ', ' order by kind) from transactions";
    assert_eq!(
        world.row(money).await,
        "purchase 3 owned, refund 3 full reversed owned"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_of_google_are_consumed_and_taken_back_by_the_piece() {
    let world = World::with_goods().await;
    let alice = world.person("alice").await;
    let token = &alice.store_token;
    let bought = world
        .buy_pieces_google("alice", "coins", 3, Some(token))
        .await;
    alice.bind_google(&bought).await.expect("bound");
    has(&alice, real(300)).await;
    world.told(Endpoint::GoogleConsume, 1).await;
    assert_eq!(world.calls(Endpoint::GoogleAcknowledge), 0);
    let refund = |quantity| GooglePlayAction::Refund {
        purchase_token: bought.clone(),
        order_id: None,
        revoke: true,
        quantity,
        source: VoidSource::default(),
        reason: VoidReason::default(),
    };
    world
        .stores()
        .google_play(refund(Some(1)))
        .await
        .expect("one");
    world.settled().await;
    has(&alice, real(200)).await;
    world.stores().google_play(refund(None)).await.expect("all");
    world.settled().await;
    has(&alice, real(0)).await;
    // Consumed, it is for sale again.
    let again = world
        .buy_pieces_google("alice", "coins", 1, Some(token))
        .await;
    alice.bind_google(&again).await.expect("bound");
    has(&alice, real(100)).await;
    world.told(Endpoint::GoogleConsume, 2).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_binds_of_one_token_credit_it_once() {
    let world = World::with_goods().await;
    let alice = world.person("alice").await;
    let bought = world.buy_pieces_google("alice", "coins", 2, None).await;
    let mut binds = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (alice, token) = (alice.clone(), bought.clone());
        binds.spawn(async move { alice.bind_google(&token).await });
    }
    let bound = binds.join_all().await;
    assert!(bound.iter().any(Result::is_ok));
    world.settled().await;
    has(&alice, real(200)).await;
    assert_eq!(world.count("select count(*) from credit_entries").await, 1);
    world.told(Endpoint::GoogleConsume, 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_moves_takes_its_coins_along() {
    let world = World::with_goods().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let bought = world.buy_pieces_apple("alice", COINS, 1, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let mut phone = world.device("alice").await;
    let chain = world.chain_of(&bought.original_transaction_id).await;
    let args = [
        "transfer",
        &chain,
        &bob.account,
        "--reason",
        "asked for",
        "--actor",
        "eve",
    ];
    world.command(&args).await;
    phone.until("the move", |told| coins(told) == real(0)).await;
    has(&bob, real(100)).await;
    world
        .apple(AppStoreAction::Refund {
            transaction_id: bought.transaction_id.clone(),
            percent: 100,
        })
        .await;
    has(&bob, real(0)).await;
    has(&alice, real(0)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_coins_stand_apart_and_serve_whom_the_catalog_says() {
    let world = World::with(|options| {
        options.catalog = CATALOG.into();
        options.environment = entitled::sandbox::Environment::Sandbox;
    })
    .await;
    let alice = world.person("alice").await;
    let bought = world.buy_pieces_apple("alice", COINS, 1, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    has(&alice, vec![(100, Environment::Sandbox)]).await;
    world.stop().await;

    let world = World::with(|options| {
        options.catalog = format!("sandbox_access = \"nobody\"\n{CATALOG}");
        options.environment = entitled::sandbox::Environment::Sandbox;
    })
    .await;
    let alice = world.person("alice").await;
    let bought = world.buy_pieces_apple("alice", COINS, 1, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    has(&alice, never()).await;
    assert_eq!(world.count("select count(*) from credit_entries").await, 0);
    assert_eq!(world.calls(Endpoint::AppleFinish), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goods_are_claimed_by_one_backend_and_then_told_to_the_store() {
    use claim_delivery_request::Delivery as Named;
    let world = World::with_goods().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let backend = world.service_token();
    let token = &alice.store_token;
    let bought = world
        .buy_pieces_google("alice", "sword", 2, Some(token))
        .await;
    alice.bind_google(&bought).await.expect("bound");
    world.settled().await;
    assert_eq!(world.calls(Endpoint::GoogleConsume), 0, "not handed out");
    assert_eq!(world.calls(Endpoint::GoogleAcknowledge), 0);
    let open = world.deliveries(&backend, "").await;
    assert_eq!(
        (open.len(), open[0].plan.as_str(), open[0].units),
        (1, "sword", 2)
    );
    let id = Named::DeliveryId(open[0].id.clone());

    // Of fifty workers one gets it.
    let tries = (0..50).map(|number| {
        let (world, backend, id) = (&world, &backend, id.clone());
        let account = &alice.account;
        async move {
            let key = format!("worker-{number}");
            let claimed = world.claim(backend, account, id, &key).await;
            (key, claimed)
        }
    });
    let answers = futures::future::join_all(tries).await;
    let won: Vec<_> = answers.iter().filter(|(_, a)| a.is_ok()).collect();
    assert_eq!(won.len(), 1);
    for (_, refused) in answers.iter().filter(|(_, a)| a.is_err()) {
        let status = refused.as_ref().expect_err("refused");
        assert_refused(status, Code::FailedPrecondition, "DELIVERY_CLAIMED");
    }
    let key = &won[0].0;
    let again = world
        .claim(&backend, &alice.account, id.clone(), key)
        .await
        .expect("the same answer");
    assert!(again.delivery.expect("it").claimed_at.is_some());
    world.told(Endpoint::GoogleConsume, 1).await;
    assert!(world.deliveries(&backend, &alice.account).await.is_empty());
    let story = ["timeline", "dev:alice", "--layer", "delivery"];
    let told = world.command(&story).await;
    for step in ["2 of sword to be handed out", "2 of sword handed out", key] {
        assert!(told.contains(step), "{step}: {told}");
    }

    // Nobody else's, no device's, none that was taken back; a key claims one thing.
    let refused = world.claim(&backend, &bob.account, id.clone(), "b").await;
    let refused = refused.expect_err("another account");
    assert_refused(&refused, Code::NotFound, "DELIVERY_NOT_FOUND");
    let device = world.token("alice");
    let refused = world.claim(&device, "", id, "d").await;
    assert_refused(
        &refused.expect_err("a device"),
        Code::PermissionDenied,
        "SERVICE_REQUIRED",
    );
    let second = world.buy_pieces_apple("bob", SWORD, 1, None).await;
    bob.bind_apple(&second.signed_transaction)
        .await
        .expect("bound");
    let second = second.transaction_id;
    let named = Named::StoreTransactionId(second.clone());
    let refused = world
        .claim(&backend, &bob.account, named.clone(), key)
        .await;
    let refused = refused.expect_err("a used key");
    assert_refused(&refused, Code::FailedPrecondition, "CLAIM_KEY_REUSED");
    world
        .apple(AppStoreAction::Refund {
            transaction_id: second.clone(),
            percent: 100,
        })
        .await;
    let refused = world
        .claim(&backend, &bob.account, named.clone(), "b")
        .await;
    let refused = refused.expect_err("taken back");
    assert_refused(&refused, Code::FailedPrecondition, "DELIVERY_REVOKED");
    assert_eq!(world.calls(Endpoint::AppleFinish), 0);
    world
        .apple(AppStoreAction::ReverseRefund {
            transaction_id: second,
        })
        .await;
    world
        .claim(&backend, &bob.account, named, "b")
        .await
        .expect("open again");
    world.told(Endpoint::AppleFinish, 1).await;
    world.stop().await;
}

/// What cannot be read fails whoever reads it.
const UNREADABLE: &str = "update store_subscription_state set known = '{}'";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_up_is_not_read_again_with_the_next_purchase() {
    let world = World::with_goods().await;
    let alice = world.person("alice").await;
    let coins = |number: i64| (COINS, real(100 * number), number.unsigned_abs());
    for (product, balance, finished) in [(SWORD, never(), 0), coins(1), coins(2)] {
        let bought = world.buy_pieces_apple("alice", product, 1, None).await;
        let bound = alice.bind_apple(&bought.signed_transaction).await;
        bound.expect("however much was bought before");
        world.told(Endpoint::AppleFinish, finished).await;
        has(&alice, balance).await;
        // Nothing to see, and still found by the next catalog.
        let snapshots = "select count(*) from entitlement_snapshots";
        assert_eq!(world.count(snapshots).await, 1, "{product}");
        let pool = world.tables().await;
        sqlx::query(UNREADABLE)
            .execute(&pool)
            .await
            .expect("for the test");
        pool.close().await;
    }
    world.stop().await;
}
