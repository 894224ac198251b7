//! What each kind of product gives: periods that stack, things that last until they are taken back,
//! offers by their name, items that live by themselves, what is pending, and plans that are over.

use entitled::proto::{
    BindOutcome, EntitlementSnapshot, InactiveReason, OfferType, Store as SoldBy,
    SubscriptionStatus,
};
use entitled::sandbox::{
    AddOn, AppStoreAction, AppStoreBuy, AppStoreOffer, GooglePlayAction, GooglePlayBuy, OfferKind,
    OfferPayment,
};

use crate::scene::{EXPORT, MONTHLY, YEARLY, google_buy, period, seconds};
use crate::support::{World, entitlement, expires, is_active};

const PASS: &str = "com.example.pass";

/// The world's clock runs: a purchase is made a moment after it was looked at.
fn about(told: i64, wanted: chrono::DateTime<chrono::Utc>) {
    assert!((told - seconds(wanted)).abs() < 60, "{told}, not {wanted}");
}

fn reason(snapshot: &EntitlementSnapshot, id: &str) -> InactiveReason {
    entitlement(snapshot, id).inactive_reason()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_lasts_its_period_and_longer_when_bought_again() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = alice.store_token.clone();
    let first_at = world.stores().now();
    let first = world.buy_apple("alice", PASS, Some(&token)).await;
    alice
        .bind_apple(&first.signed_transaction)
        .await
        .expect("bound");
    let mut phone = world.device("alice").await;
    phone.until_active("pro_access").await;
    let three_months = period("P3M").after(first_at);
    let told = alice.now().await;
    about(expires(&told, "pro_access"), three_months);
    assert!(!entitlement(&told, "pro_access").will_renew);

    // Another, at the other store, while it lasts.
    world.stores().advance(period("P1M")).await.expect("later");
    let second = world.buy_google("alice", "season_pass", Some(&token)).await;
    alice
        .bind_google(&second.purchase_token)
        .await
        .expect("bound");
    let six_months = period("P3M").after(three_months);
    about(expires(&alice.now().await, "pro_access"), six_months);

    // Refunded, it is as if it had never been bought; given back, it is again.
    let refund = AppStoreAction::Refund {
        transaction_id: first.transaction_id.clone(),
        percent: 100,
    };
    world.stores().app_store(refund).await.expect("refunded");
    world.settled().await;
    let from_the_second = period("P3M").after(period("P1M").after(first_at));
    about(expires(&alice.now().await, "pro_access"), from_the_second);
    let back = AppStoreAction::ReverseRefund {
        transaction_id: first.transaction_id,
    };
    world.stores().app_store(back).await.expect("given back");
    world.settled().await;
    about(expires(&alice.now().await, "pro_access"), six_months);

    let over = six_months + chrono::TimeDelta::minutes(2);
    world.stores().advance_to(over).await.expect("over");
    phone.until_inactive("pro_access").await;
    let over = alice.now().await;
    assert_eq!(reason(&over, "pro_access"), InactiveReason::Expired);
    about(expires(&over, "pro_access"), six_months);
    // It is for sale again.
    let third = world.buy_google("alice", "season_pass", Some(&token)).await;
    alice
        .bind_google(&third.purchase_token)
        .await
        .expect("bound");
    assert!(is_active(&alice.now().await, "pro_access"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lasts_is_taken_back_and_given_back() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", EXPORT, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let mut phone = world.device("alice").await;
    phone.until_active("export").await;
    let refund = AppStoreAction::Refund {
        transaction_id: bought.transaction_id.clone(),
        percent: 100,
    };
    world.stores().app_store(refund).await.expect("refunded");
    phone.until_inactive("export").await;
    assert_eq!(
        reason(&alice.now().await, "export"),
        InactiveReason::Refunded
    );
    let back = AppStoreAction::ReverseRefund {
        transaction_id: bought.transaction_id,
    };
    world.stores().app_store(back).await.expect("given back");
    phone.until_active("export").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_that_a_change_ended_is_over_and_not_never_had() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let yearly = world.buy_apple("alice", YEARLY, token).await;
    alice
        .bind_apple(&yearly.signed_transaction)
        .await
        .expect("bound");
    // A downgrade waits for the renewal: the pending plan is shown meanwhile.
    world.buy_apple("alice", MONTHLY, token).await;
    world.settled().await;
    let waiting = alice.now().await;
    assert_eq!(waiting.subscriptions[0].pending_plan, "pro_monthly");
    assert!(is_active(&waiting, "export"));
    let end = expires(&waiting, "export");
    world.stores().advance(period("P1Y")).await.expect("a year");
    world
        .stores()
        .advance(period("P1D"))
        .await
        .expect("and a day");
    let after = alice.now().await;
    assert_eq!(after.subscriptions.len(), 1);
    assert_eq!(after.subscriptions[0].plan, "pro_monthly");
    assert!(is_active(&after, "pro_access"));
    assert_eq!(reason(&after, "export"), InactiveReason::Expired);
    assert_eq!(expires(&after, "export"), end);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_are_told_by_their_kind() {
    let world = World::start().await;
    let offer = |kind| AppStoreOffer {
        kind,
        payment: OfferPayment::PayAsYouGo,
        id: (kind != OfferKind::Introductory).then(|| "spring".to_owned()),
        period: Some(period("P1M")),
        periods: 1,
        price_milliunits: 990,
    };
    let kinds = [
        (Some(period("P7D")), None, OfferType::FreeTrial),
        (
            None,
            Some(offer(OfferKind::Introductory)),
            OfferType::Introductory,
        ),
        (
            None,
            Some(offer(OfferKind::OfferCode)),
            OfferType::Promotional,
        ),
        (None, None, OfferType::Unspecified),
    ];
    for (number, (trial, offer, wanted)) in kinds.into_iter().enumerate() {
        let name = format!("buyer{number}");
        let person = world.person(&name).await;
        let buy = AppStoreBuy {
            customer: name,
            product_id: MONTHLY.into(),
            app_account_token: person.store_token.parse().ok(),
            trial,
            offer,
            ..AppStoreBuy::default()
        };
        let bought = world.stores().buy_app_store(&buy).await.expect("bought");
        person
            .bind_apple(&bought.signed_transaction)
            .await
            .expect("bound");
        let told = person.now().await;
        let source = &entitlement(&told, "pro_access").sources[0];
        assert_eq!(source.offer_type(), wanted);
        assert_eq!(told.subscriptions[0].offer_type(), wanted);
        assert_eq!(told.subscriptions[0].trial, wanted == OfferType::FreeTrial);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_on_lives_by_its_own_end() {
    let catalog = r#"
        [[apps]]
        id = "example-android"
        package_name = "com.example.app"
        [entitlements.pro_access]
        [entitlements.export]
        [products.base]
        kind = "subscription"
        period = "P1M"
        grants = ["pro_access"]
        google_play = { product_id = "base", base_plan_id = "monthly" }
        [products.more]
        kind = "subscription"
        period = "P1M"
        grants = ["export"]
        google_play = { product_id = "more", base_plan_id = "monthly" }
    "#;
    let world = World::with(|options| {
        options.catalog = catalog.into();
    })
    .await;
    let alice = world.person("alice").await;
    let buy = GooglePlayBuy {
        customer: "alice".into(),
        product_id: "base".into(),
        base_plan_id: Some("monthly".into()),
        obfuscated_account_id: Some(alice.store_token.clone()),
        add_ons: vec![AddOn {
            product_id: "more".into(),
            base_plan_id: Some("monthly".into()),
            trial: Some(period("P7D")),
        }],
        ..Default::default()
    };
    let bought = world.stores().buy_google_play(&buy).await.expect("bought");
    alice
        .bind_google(&bought.purchase_token)
        .await
        .expect("bound");
    let told = alice.now().await;
    assert_eq!(told.subscriptions.len(), 2);
    assert!(is_active(&told, "pro_access") && is_active(&told, "export"));
    assert_ne!(expires(&told, "pro_access"), expires(&told, "export"));
    let trial = &entitlement(&told, "export").sources[0];
    assert_eq!(trial.offer_type(), OfferType::FreeTrial);
    let base = &entitlement(&told, "pro_access").sources[0];
    assert_eq!(base.offer_type(), OfferType::Unspecified);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_awaits_its_payment_is_shown_and_its_completion_is_pushed() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let mut phone = world.device("alice").await;
    let cash = GooglePlayBuy {
        pending: true,
        ..google_buy("alice", "coins_100", token)
    };
    let coins = world
        .stores()
        .buy_google_play(&cash)
        .await
        .expect("ordered");
    let plan = GooglePlayBuy {
        pending: true,
        ..google_buy("alice", "premium-monthly", token)
    };
    let plan = world
        .stores()
        .buy_google_play(&plan)
        .await
        .expect("ordered");
    for purchase in [&coins, &plan] {
        let bound = alice.bind_google(&purchase.purchase_token).await;
        assert_eq!(bound.expect("bound").outcome(), BindOutcome::Pending);
    }
    phone
        .until("both orders", |told| {
            told.pending_purchases.len() == 1 && told.subscriptions.len() == 1
        })
        .await;
    let told = alice.now().await;
    let order = &told.pending_purchases[0];
    assert_eq!(
        (order.store(), order.plan.as_str(), order.quantity),
        (SoldBy::GooglePlay, "coins_100", 1)
    );
    assert_eq!(told.subscriptions[0].status(), SubscriptionStatus::Pending);
    assert_eq!(reason(&told, "pro_access"), InactiveReason::Pending);
    assert_eq!(told.credits[0].balance, 0);
    for purchase in [coins, plan] {
        let paid = GooglePlayAction::SettlePending {
            purchase_token: purchase.purchase_token,
            paid: true,
        };
        world.stores().google_play(paid).await.expect("paid");
    }
    phone
        .until("the completion", |told| {
            told.pending_purchases.is_empty()
                && told.credits[0].balance == 100
                && is_active(told, "pro_access")
        })
        .await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_change_that_awaits_its_payment_leaves_the_old_plan_alone() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let token = Some(alice.store_token.as_str());
    let monthly = world.buy_google("alice", "premium-monthly", token).await;
    alice
        .bind_google(&monthly.purchase_token)
        .await
        .expect("bound");
    let change = GooglePlayBuy {
        pending: true,
        replaces: Some(monthly.purchase_token.clone()),
        ..google_buy("alice", "premium-yearly", token)
    };
    let change = world
        .stores()
        .buy_google_play(&change)
        .await
        .expect("ordered");
    let bound = alice.bind_google(&change.purchase_token).await;
    assert_eq!(bound.expect("bound").outcome(), BindOutcome::Pending);
    let waiting = alice.now().await;
    assert!(is_active(&waiting, "pro_access"));
    let mut plans: Vec<_> = waiting
        .subscriptions
        .iter()
        .map(|one| (one.plan.as_str(), one.status()))
        .collect();
    plans.sort_unstable_by_key(|one| one.0);
    assert_eq!(
        plans,
        [
            ("pro_monthly", SubscriptionStatus::Active),
            ("pro_yearly", SubscriptionStatus::Pending)
        ]
    );
    assert_eq!(reason(&waiting, "export"), InactiveReason::Pending);
    let paid = GooglePlayAction::SettlePending {
        purchase_token: change.purchase_token,
        paid: true,
    };
    world.stores().google_play(paid).await.expect("paid");
    world.settled().await;
    let after = alice.now().await;
    assert!(is_active(&after, "export") && is_active(&after, "pro_access"));
    assert_eq!(after.subscriptions.len(), 1, "one subscription carries on");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_tells_what_a_unit_brings() {
    let world = World::start().await;
    let products = world
        .client("alice")
        .await
        .products()
        .await
        .expect("listed");
    let coins = products.products.iter().find(|one| one.id == "coins_100");
    let credits = &coins.expect("for sale").credits;
    assert_eq!((credits[0].id.as_str(), credits[0].amount), ("coins", 100));
    world.stop().await;
}
