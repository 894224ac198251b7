//! What only Google Play has, through the outside: prepaid plans, installments, add-ons, refunds by
//! the piece and by the order, changes of plan that await payment, purchases made in the store, and
//! the money of all of it.

use chrono::TimeDelta;
use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::InactiveReason;
use entitled::sandbox::{
    AddOn, Environment, GooglePlayAction, GooglePlayBuy, GooglePlayProduct, ReplacementMode,
    StoreSetup, Timing,
};

use crate::scene::{google_buy, off, pro};
use crate::support::{World, expires, is_active};

const MORE: &str = r#"
[entitlements.extra]
[products.pro_prepaid]
kind = "subscription"
period = "P1M"
grants = ["pro_access"]
google_play = { product_id = "premium", base_plan_id = "premium-prepaid" }
[products.pro_installments]
kind = "subscription"
period = "P1M"
grants = ["pro_access"]
google_play = { product_id = "premium", base_plan_id = "premium-installments" }
[products.extra_monthly]
kind = "subscription"
period = "P1M"
grants = ["extra"]
google_play = { product_id = "extra", base_plan_id = "extra-monthly" }
"#;

/// Example products, and those that only Google sells.
async fn world() -> World {
    let month = "P1M".parse().expect("a period");
    let year = "P1Y".parse().expect("a period");
    let subscription = GooglePlayProduct::subscription;
    let setup = StoreSetup {
        bundle_id: "com.example.app".into(),
        app_apple_id: 1_234_567_890,
        package_name: "com.example.app".into(),
        environment: Environment::Production,
        app_store: Vec::new(),
        google_play: vec![
            subscription("premium", "premium-monthly", month),
            subscription("premium", "premium-yearly", year),
            GooglePlayProduct::prepaid("premium", "premium-prepaid", month),
            GooglePlayProduct::installments("premium", "premium-installments", month, 3),
            subscription("extra", "extra-monthly", month),
            GooglePlayProduct::consumable("coins_100"),
        ],
        timing: Timing::default(),
        deliveries: Default::default(),
        superwall: Default::default(),
    };
    World::with(|options| {
        options.catalog = format!("{EXAMPLE_CATALOG}{MORE}");
        options.setup = Some(setup);
    })
    .await
}

impl World {
    async fn buys(&self, buy: GooglePlayBuy) -> String {
        let bought = self.stores().buy_google_play(&buy).await.expect("bought");
        self.settled().await;
        bought.purchase_token
    }

    async fn at_google(&self, action: GooglePlayAction) {
        self.stores().google_play(action).await.expect("done");
        self.settled().await;
    }

    async fn days(&self, days: i64) {
        let days = TimeDelta::days(days);
        self.stores().advance_by(days).await.expect("later");
        self.settled().await;
    }
}

/// Charges and refunds in the books: how many of each, and their sums in millionths.
const MONEY: &str = "select concat_ws(' ', count(*) filter (where kind <> 'refund'),
    coalesce(sum(amount_micros) filter (where kind <> 'refund'), 0),
    count(*) filter (where kind = 'refund'),
    coalesce(sum(abs(amount_micros)) filter (where kind = 'refund'), 0)) from transactions";
const CHAINS: &str = "select count(*) from purchase_chains where merged_into is null";
const OPEN_DUTIES: &str = "select count(*) from duties where done_at is null";

#[tokio::test(flavor = "multi_thread")]
async fn a_prepaid_plan_is_topped_up_by_further_purchases() {
    let world = world().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let first = world
        .buys(google_buy("alice", "premium-prepaid", token))
        .await;
    alice.bind_google(&first).await.expect("bound");
    let before = alice.now().await;
    assert!(
        is_active(&before, "pro_access") && !pro(&before).3,
        "it does not renew"
    );
    world.days(10).await;
    let top_up = GooglePlayAction::TopUp {
        purchase_token: first.clone(),
    };
    world.at_google(top_up).await;
    let after = alice.now().await;
    let month = expires(&after, "pro_access") - expires(&before, "pro_access");
    assert!(month >= 28 * 86_400, "{month}");
    assert_eq!(world.count(CHAINS).await, 1, "one purchase that goes on");
    assert_eq!(world.row(MONEY).await, "2 19980000 0 0");
    assert_eq!(
        world.count(OPEN_DUTIES).await,
        0,
        "each top-up is acknowledged"
    );
    world.days(60).await;
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Expired));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn installments_run_out_after_the_customer_has_canceled() {
    let world = world().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let bought = world
        .buys(google_buy("alice", "premium-installments", token))
        .await;
    alice.bind_google(&bought).await.expect("bound");
    let cancel = GooglePlayAction::Cancel {
        purchase_token: bought,
        survey: None,
    };
    world.at_google(cancel).await;
    let told = alice.now().await;
    assert!(
        is_active(&told, "pro_access") && pro(&told).3,
        "two payments are owed"
    );
    world.days(35).await;
    assert!(pro(&alice.now().await).3, "one payment is owed");
    world.days(30).await;
    let last = alice.now().await;
    assert!(
        is_active(&last, "pro_access") && !pro(&last).3,
        "the last is paid"
    );
    world.days(40).await;
    assert!(!is_active(&alice.now().await, "pro_access"));
    assert_eq!(world.row(MONEY).await, "3 29970000 0 0");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_item_lasts_for_its_own_time() {
    let world = world().await;
    let alice = world.person("alice").await;
    let bought = world
        .buys(GooglePlayBuy {
            add_ons: vec![AddOn {
                product_id: "extra".into(),
                base_plan_id: None,
                trial: None,
            }],
            ..google_buy("alice", "premium-monthly", Some(&alice.store_token))
        })
        .await;
    alice.bind_google(&bought).await.expect("bound");
    let both = alice.now().await;
    assert!(is_active(&both, "pro_access") && is_active(&both, "extra"));
    let remove = GooglePlayAction::RemoveItem {
        purchase_token: bought,
        product_id: "extra".into(),
    };
    world.at_google(remove).await;
    assert!(is_active(&alice.now().await, "extra"), "paid until the end");
    world.days(32).await;
    let one = alice.now().await;
    assert!(is_active(&one, "pro_access") && !is_active(&one, "extra"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn some_of_several_are_given_back() {
    let world = world().await;
    let alice = world.person("alice").await;
    let bought = world
        .buys(GooglePlayBuy {
            quantity: Some(5),
            ..google_buy("alice", "coins_100", Some(&alice.store_token))
        })
        .await;
    alice.bind_google(&bought).await.expect("bound");
    world.settled().await;
    const COINS: &str = "select coalesce(sum(amount), 0)::bigint from credit_entries";
    assert_eq!(world.count(COINS).await, 500);
    let refund = GooglePlayAction::Refund {
        purchase_token: bought,
        order_id: None,
        revoke: true,
        quantity: Some(2),
        source: Default::default(),
        reason: Default::default(),
    };
    world.at_google(refund).await;
    assert_eq!(world.count(COINS).await, 300);
    assert_eq!(world.row(MONEY).await, "1 49950000 1 19980000");
    assert_eq!(world.count(OPEN_DUTIES).await, 0, "consumed");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_plan_that_awaits_payment_leaves_the_old_plan_alone() {
    let world = world().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let old = world
        .buys(google_buy("alice", "premium-monthly", token))
        .await;
    alice.bind_google(&old).await.expect("bound");
    world.settled().await;
    let change = GooglePlayBuy {
        replaces: Some(old.clone()),
        replacement_mode: Some(ReplacementMode::ChargeFullPrice),
        pending: true,
        ..google_buy("alice", "premium-yearly", token)
    };
    for paid in [false, true] {
        let pending = world.buys(change.clone()).await;
        alice.bind_google(&pending).await.expect("bound");
        let told = alice.now().await;
        assert!(is_active(&told, "pro_access") && !is_active(&told, "export"));
        let settle = GooglePlayAction::SettlePending {
            purchase_token: pending,
            paid,
        };
        world.at_google(settle).await;
        let told = alice.now().await;
        assert!(is_active(&told, "pro_access"));
        assert_eq!(is_active(&told, "export"), paid);
    }
    // The late end of the old token does not touch the new one.
    world.days(40).await;
    assert!(is_active(&alice.now().await, "export"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_bought_in_the_store_is_named_when_it_is_acknowledged() {
    let world = world().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let old = world
        .buys(google_buy("alice", "premium-monthly", token))
        .await;
    alice.bind_google(&old).await.expect("bound");
    world
        .at_google(GooglePlayAction::Cancel {
            purchase_token: old,
            survey: None,
        })
        .await;
    world.days(40).await;
    assert!(!is_active(&alice.now().await, "pro_access"));
    let again = world
        .buys(GooglePlayBuy {
            out_of_app: true,
            ..google_buy("alice", "premium-monthly", None)
        })
        .await;
    assert!(
        is_active(&alice.now().await, "pro_access"),
        "without the app"
    );
    assert_eq!(world.count(CHAINS).await, 1);
    assert_eq!(world.stores().is_acknowledged(&again), Some(true));
    world.days(1).await;
    // The store's record names her now, which the next read shows.
    let named = format!(
        "select count(*) from store_subscription_state
         where known -> 'state' ->> 'account_token' = '{}'",
        alice.store_token
    );
    assert_eq!(world.count(Box::leak(named.into_boxed_str())).await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_refunded_and_access_stays() {
    let world = world().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let buy = google_buy("alice", "premium-monthly", token);
    let bought = world.stores().buy_google_play(&buy).await.expect("bought");
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    // Nothing is told for months, and every charge is in the books all the same.
    world.hold().await;
    world.days(100).await;
    assert_eq!(world.row(MONEY).await, "4 39960000 0 0");
    let refund = GooglePlayAction::Refund {
        purchase_token: bought.purchase_token.clone(),
        order_id: Some(bought.order_id),
        revoke: false,
        quantity: None,
        source: Default::default(),
        reason: Default::default(),
    };
    world.at_google(refund).await;
    world.days(2).await;
    assert_eq!(world.row(MONEY).await, "4 39960000 1 9990000");
    assert!(
        is_active(&alice.now().await, "pro_access"),
        "an older order"
    );
    // The order of the current period, with the end of access: nobody tells, and it shows.
    world
        .stores()
        .refund_google_play(&bought.purchase_token)
        .await
        .expect("refunded");
    world.days(2).await;
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Refunded));
    assert_eq!(world.row(MONEY).await, "4 39960000 2 19980000");
    world.stop().await;
}
