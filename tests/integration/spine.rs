//! One purchase at each store, from bind to expiry, over the real interfaces.

use entitled::sandbox::{AppStoreBuy, GooglePlayBuy};

use crate::support::{World, expires};

#[tokio::test(flavor = "multi_thread")]
async fn an_app_store_purchase_becomes_access_renews_and_is_refunded() {
    let world = World::start().await;
    let mut phone = world.device("alice").await;
    let mut tablet = world.device("alice").await;
    let token = phone
        .latest
        .account
        .as_ref()
        .expect("account")
        .store_token
        .clone();
    let bought = world
        .stack
        .sandbox
        .buy_app_store(&AppStoreBuy {
            customer: "alice".into(),
            product_id: "com.example.premium.yearly".into(),
            app_account_token: token.parse().ok(),
            ..AppStoreBuy::default()
        })
        .await
        .expect("bought");
    let mut app = world.client("alice").await;
    let bound = app
        .bind_app_store(&bought.signed_transaction)
        .await
        .expect("bound");
    println!("{bound:#?}");
    phone.until_active("pro_access").await;
    tablet.until_active("pro_access").await;
    let before = expires(&phone.latest, "pro_access");

    world
        .stack
        .sandbox
        .advance("P1Y".parse().expect("period"))
        .await
        .expect("a year passes");
    phone
        .until("renewed", |s| expires(s, "pro_access") > before)
        .await;

    let latest = world.stack.sandbox.purchases("alice")[0]
        .latest_transaction
        .clone();
    world
        .stack
        .sandbox
        .refund_app_store(&latest)
        .await
        .expect("refunded");
    phone.until_inactive("pro_access").await;
    tablet.until_inactive("pro_access").await;
    world.settled().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_google_play_purchase_becomes_access_is_acknowledged_and_is_refunded() {
    let world = World::start().await;
    let mut phone = world.device("bob").await;
    let token = phone
        .latest
        .account
        .as_ref()
        .expect("account")
        .store_token
        .clone();
    let bought = world
        .stack
        .sandbox
        .buy_google_play(&GooglePlayBuy {
            customer: "bob".into(),
            product_id: "premium".into(),
            base_plan_id: Some("premium-yearly".into()),
            obfuscated_account_id: Some(token),
            ..Default::default()
        })
        .await
        .expect("bought");
    let mut app = world.client("bob").await;
    app.bind_google_play("com.example.app", &bought.purchase_token)
        .await
        .expect("bound");
    phone.until_active("pro_access").await;
    world.settled().await;
    assert_eq!(
        world.stack.sandbox.is_acknowledged(&bought.purchase_token),
        Some(true)
    );
    world
        .stack
        .sandbox
        .refund_google_play(&bought.purchase_token)
        .await
        .expect("refunded");
    phone.until_inactive("pro_access").await;
    world.stop().await;
}
