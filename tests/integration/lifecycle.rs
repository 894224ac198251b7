//! Each store's lifecycle as the account's devices read it.

use chrono::TimeDelta;
use entitled::proto::{AccessReason, BindOutcome, InactiveReason, SubscriptionStatus};
use entitled::sandbox::{AppStoreBuy, Billing, Store};

use crate::scene::{
    EXPORT, MONTHLY, YEARLY, access_until, google_buy, off, on, period, pro, seconds, status,
};
use crate::support::{World, entitlement, expires, is_active};

#[tokio::test(flavor = "multi_thread")]
async fn an_app_store_trial_becomes_paid_is_canceled_taken_back_and_expires() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let trial = AppStoreBuy {
        customer: "alice".into(),
        product_id: MONTHLY.into(),
        app_account_token: alice.store_token.parse().ok(),
        trial: Some(period("P7D")),
        ..AppStoreBuy::default()
    };
    let bought = world.stores().buy_app_store(&trial).await.expect("bought");
    let id = &bought.original_transaction_id;
    let bound = alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    assert_eq!(
        pro(&bound.snapshot.expect("a snapshot")),
        on(AccessReason::Trial, true)
    );
    world
        .stores()
        .advance(period("P8D"))
        .await
        .expect("the trial ends");
    assert_eq!(
        pro(&alice.now().await),
        on(AccessReason::Subscription, true)
    );

    world
        .stores()
        .set_auto_renew(id, false)
        .await
        .expect("canceled");
    let canceled = alice.now().await;
    assert_eq!(pro(&canceled), on(AccessReason::Subscription, false));
    assert_eq!(status(&canceled), SubscriptionStatus::Canceled);
    assert_eq!(
        access_until(&canceled),
        expires(&canceled, "pro_access"),
        "the end is known"
    );
    world
        .stores()
        .set_auto_renew(id, true)
        .await
        .expect("taken back");
    let back = alice.now().await;
    assert_eq!(
        (pro(&back), status(&back)),
        (
            on(AccessReason::Subscription, true),
            SubscriptionStatus::Active
        )
    );
    assert!(
        access_until(&back) > expires(&back, "pro_access"),
        "a renewal may be late"
    );

    world
        .stores()
        .set_auto_renew(id, false)
        .await
        .expect("canceled");
    world.stores().advance(period("P1M")).await.expect("over");
    let over = alice.now().await;
    assert_eq!(
        (pro(&over), status(&over)),
        (off(InactiveReason::Expired), SubscriptionStatus::Expired)
    );

    // The same Apple subscription again, another plan: one chain, one subscription.
    let again = world
        .buy_apple("alice", YEARLY, Some(&alice.store_token))
        .await;
    let bound = alice
        .bind_apple(&again.signed_transaction)
        .await
        .expect("bound");
    assert_eq!(bound.outcome(), BindOutcome::AlreadyYours);
    let again = alice.now().await;
    assert_eq!(pro(&again), on(AccessReason::Subscription, true));
    assert_eq!(
        (
            again.subscriptions.len(),
            again.subscriptions[0].plan.as_str()
        ),
        (1, "pro_yearly")
    );
    assert!(is_active(&again, "export"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn app_store_billing_fails_through_grace_and_hold_and_recovers() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    let id = &bought.original_transaction_id;
    let end = world.stores().purchases("alice")[0]
        .expires_at
        .expect("an end");
    world
        .stores()
        .set_app_store_billing(id, Billing::Fails)
        .await
        .expect("fails");
    world
        .stores()
        .advance_to(end + TimeDelta::hours(1))
        .await
        .expect("grace");
    let grace = alice.now().await;
    assert_eq!(pro(&grace), on(AccessReason::GracePeriod, true));
    assert_eq!(status(&grace), SubscriptionStatus::GracePeriod);
    assert_eq!(access_until(&grace), seconds(end + TimeDelta::days(16)));
    assert_eq!(
        grace.subscriptions[0]
            .billing_issue_since
            .map(|at| at.seconds),
        Some(seconds(end))
    );

    world
        .stores()
        .advance_to(end + TimeDelta::days(17))
        .await
        .expect("hold");
    let hold = alice.now().await;
    assert_eq!(
        (pro(&hold), status(&hold)),
        (off(InactiveReason::OnHold), SubscriptionStatus::OnHold)
    );
    world
        .stores()
        .set_app_store_billing(id, Billing::Works)
        .await
        .expect("recovers");
    let recovered = alice.now().await;
    assert_eq!(pro(&recovered), on(AccessReason::Subscription, true));
    assert_eq!(recovered.subscriptions[0].billing_issue_since, None);

    // The next failure is never made good.
    world
        .stores()
        .set_app_store_billing(id, Billing::Fails)
        .await
        .expect("fails");
    world
        .stores()
        .advance(period("P4M"))
        .await
        .expect("given up");
    let over = alice.now().await;
    assert_eq!(
        (pro(&over), status(&over)),
        (off(InactiveReason::Expired), SubscriptionStatus::Expired)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn google_play_billing_fails_through_silence_and_hold_and_recovers() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let mut trial = google_buy("alice", "premium-monthly", Some(&alice.store_token));
    trial.trial = Some(period("P7D"));
    let bought = world
        .stores()
        .buy_google_play(&trial)
        .await
        .expect("bought");
    let token = &bought.purchase_token;
    let bound = alice.bind_google(token).await.expect("bound");
    assert_eq!(
        pro(&bound.snapshot.expect("a snapshot")),
        on(AccessReason::Trial, true)
    );
    world.settled().await;
    world
        .stores()
        .advance(period("P8D"))
        .await
        .expect("the trial ends");
    assert_eq!(
        pro(&alice.now().await),
        on(AccessReason::Subscription, true)
    );

    let end = world.stores().purchases("alice")[0]
        .expires_at
        .expect("an end");
    world
        .stores()
        .set_google_play_billing(token, Billing::Fails)
        .await
        .expect("fails");
    // Google says nothing for a day and moves the expiry: the schedule finds it there.
    world
        .stores()
        .advance_to(end + TimeDelta::hours(12))
        .await
        .expect("silence");
    assert_eq!(
        pro(&alice.now().await),
        on(AccessReason::Subscription, true)
    );
    assert_eq!(
        expires(&alice.now().await, "pro_access"),
        seconds(end + TimeDelta::days(1))
    );
    world
        .stores()
        .advance_to(end + TimeDelta::hours(25))
        .await
        .expect("hold");
    let hold = alice.now().await;
    assert_eq!(
        (pro(&hold), status(&hold)),
        (off(InactiveReason::OnHold), SubscriptionStatus::OnHold)
    );
    world
        .stores()
        .set_google_play_billing(token, Billing::Works)
        .await
        .expect("recovers");
    assert_eq!(
        pro(&alice.now().await),
        on(AccessReason::Subscription, true)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_google_play_subscription_is_canceled_taken_back_expires_and_is_bought_again() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let bought = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    let token = &bought.purchase_token;
    alice.bind_google(token).await.expect("bound");
    world.settled().await;
    world
        .stores()
        .cancel_google_play(token)
        .await
        .expect("canceled");
    let canceled = alice.now().await;
    assert_eq!(pro(&canceled), on(AccessReason::Subscription, false));
    assert_eq!(status(&canceled), SubscriptionStatus::Canceled);
    world
        .stores()
        .restore_google_play(token)
        .await
        .expect("taken back");
    assert_eq!(
        pro(&alice.now().await),
        on(AccessReason::Subscription, true)
    );
    world
        .stores()
        .cancel_google_play(token)
        .await
        .expect("canceled");
    world.stores().advance(period("P2M")).await.expect("over");
    let over = alice.now().await;
    assert_eq!(
        (pro(&over), status(&over)),
        (off(InactiveReason::Expired), SubscriptionStatus::Expired)
    );

    // Taken up again in the Play store, without the app: no account id, only what it continues.
    let mut again = google_buy("alice", "premium-yearly", None);
    again.out_of_app = true;
    let again = world
        .stores()
        .buy_google_play(&again)
        .await
        .expect("bought");
    world.settled().await;
    let back = alice.now().await;
    assert_eq!(
        pro(&back),
        on(AccessReason::Subscription, true),
        "{back:#?}"
    );
    assert_eq!(
        (
            back.subscriptions.len(),
            back.subscriptions[0].plan.as_str()
        ),
        (1, "pro_yearly")
    );
    assert_eq!(
        world.stores().is_acknowledged(&again.purchase_token),
        Some(true)
    );
    world
        .stores()
        .advance(period("P1M"))
        .await
        .expect("a month");
    assert_eq!(
        pro(&alice.now().await),
        on(AccessReason::Subscription, true)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bought_once_lasts_until_it_is_refunded() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let apple = world
        .buy_apple("alice", EXPORT, Some(&alice.store_token))
        .await;
    let google = world
        .buy_google("alice", "export", Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    // Google refunds no order that is older than three years.
    world.stores().advance(period("P2Y")).await.expect("years");
    let told = alice.now().await;
    let export = entitlement(&told, "export");
    assert_eq!(
        (export.active, export.reason()),
        (true, AccessReason::Purchase)
    );
    assert_eq!(
        (export.expires_at, export.access_until, export.sources.len()),
        (None, None, 2)
    );
    world
        .stores()
        .refund_app_store(&apple.transaction_id)
        .await
        .expect("refunded");
    assert!(
        is_active(&alice.now().await, "export"),
        "the other one is still paid"
    );
    world
        .stores()
        .refund_google_play(&google.purchase_token)
        .await
        .expect("refunded");
    let told = alice.now().await;
    assert_eq!(
        entitlement(&told, "export").inactive_reason(),
        InactiveReason::Refunded
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_an_old_period_takes_nothing_from_the_newer_one() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let apple = world
        .buy_apple("alice", MONTHLY, Some(&alice.store_token))
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    let google = world
        .buy_google("alice", "premium-monthly", Some(&alice.store_token))
        .await;
    alice
        .bind_google(&google.purchase_token)
        .await
        .expect("bound");
    world.settled().await;
    world
        .stores()
        .advance(period("P1M"))
        .await
        .expect("renewed");
    let before = alice.now().await;
    world
        .stores()
        .refund_app_store(&apple.transaction_id)
        .await
        .expect("refunded");
    void_order(&world, &google.purchase_token, &google.order_id).await;
    world.settled().await;
    let after = alice.now().await;
    assert_eq!(
        entitlement(&after, "pro_access"),
        entitlement(&before, "pro_access")
    );
    assert_eq!(entitlement(&after, "pro_access").sources.len(), 2);
    let returned = "select count(*) from transactions where revoked_at is not null";
    assert_eq!(
        world.count(returned).await,
        2,
        "the money is known to have gone back"
    );

    // The refund of what is running now is another matter.
    let latest = world.stores().purchases("alice")[0]
        .latest_transaction
        .clone();
    world
        .stores()
        .refund_app_store(&latest)
        .await
        .expect("refunded");
    assert_eq!(
        entitlement(&alice.now().await, "pro_access").sources.len(),
        1
    );
    world
        .stores()
        .refund_google_play(&google.purchase_token)
        .await
        .expect("refunded");
    assert_eq!(pro(&alice.now().await), off(InactiveReason::Refunded));
    world.stop().await;
}

/// Google tells of a void of one order, whatever its purchase reads.
async fn void_order(world: &World, token: &str, order: &str) {
    use base64::Engine as _;
    let notification = serde_json::json!({
        "version": "1.0", "packageName": crate::scene::PACKAGE,
        "eventTimeMillis": world.stores().now().timestamp_millis().to_string(),
        "voidedPurchaseNotification":
            {"purchaseToken": token, "orderId": order, "productType": 1, "refundType": 1},
    });
    let data = base64::engine::general_purpose::STANDARD.encode(notification.to_string());
    let subscription = world.stores().manifest().push.subscription;
    let push = serde_json::json!({
        "message": {"messageId": "77001", "data": data, "publishTime": world.stores().now().to_rfc3339()},
        "subscription": subscription,
    });
    assert_eq!(world.post(Store::GooglePlay, push.to_string()).await, 200);
}
