//! Subscriptions with add-ons.

use super::*;

fn add_on(product_id: &str) -> AddOn {
    AddOn {
        product_id: product_id.to_owned(),
        base_plan_id: None,
        trial: None,
    }
}

fn expiries(shown: &Value) -> Vec<(&str, &str)> {
    let items = shown["lineItems"].as_array().unwrap().iter();
    items
        .map(|item| {
            let product = item["productId"].as_str().unwrap();
            (product, item["expiryTime"].as_str().unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn items_are_bought_and_renewed_together_in_one_order() {
    let shop = Shop::open().await;
    let buy = GooglePlayBuy {
        add_ons: vec![add_on("extra")],
        ..order("basic", "monthly")
    };
    let token = shop.buy(buy).await;
    shop.acknowledge(&token);
    shop.until("2026-02-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED", "RENEWED"]);
    let until = "2026-03-10T12:00:00.000Z";
    assert_eq!(
        expiries(&shop.show(&token)),
        [("basic", until), ("extra", until)]
    );
    let order = &shop.orders(&token)[1];
    assert_eq!(order["lineItems"].as_array().unwrap().len(), 2);
    assert_eq!(
        order["total"],
        json!({"currencyCode": "USD", "units": "14", "nanos": 980_000_000})
    );
    assert_eq!(shop.truth(&token).len(), 2);
}

#[tokio::test]
async fn an_added_item_is_aligned_and_a_removed_one_runs_out() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "monthly").await;
    shop.until("2026-01-26T00:00:00Z").await;
    let add = GooglePlayAction::AddItems {
        purchase_token: token.clone(),
        items: vec![add_on("extra")],
    };
    shop.act(add.clone()).await.unwrap();
    assert_eq!(shop.told(), ["PURCHASED", "ITEMS_CHANGED"]);
    let shown = shop.show(&token);
    let until = "2026-02-10T12:00:00.000Z";
    assert_eq!(expiries(&shown), [("basic", until), ("extra", until)]);
    assert_eq!(
        shown["lineItems"][1]["offerPhase"],
        json!({"prorationPeriod": {}})
    );
    // Half of a month of 4.99.
    assert_eq!(
        shop.orders(&token)[1]["total"],
        json!({"currencyCode": "USD", "units": "2", "nanos": 495_000_000})
    );
    assert_eq!(
        shop.refusal(add).await,
        "a product cannot be in a purchase twice"
    );

    let remove = |product: &str| GooglePlayAction::RemoveItem {
        purchase_token: token.clone(),
        product_id: product.to_owned(),
    };
    shop.act(remove("extra")).await.unwrap();
    assert_eq!(shop.told(), ["ITEMS_CHANGED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ACTIVE")),
            ("/lineItems/1/deferredItemRemoval", json!({})),
            (
                "/lineItems/1/autoRenewingPlan/autoRenewEnabled",
                Value::Null,
            ),
        ],
    );
    assert_eq!(
        shop.refusal(remove("basic")).await,
        "the last item can only be cancelled"
    );
    shop.until("2026-02-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["RENEWED"]);
    assert_eq!(
        expiries(&shop.show(&token)),
        [("basic", "2026-03-10T12:00:00.000Z"), ("extra", until)]
    );
    let entitled: Vec<_> = shop.truth(&token).iter().map(|t| t.entitled).collect();
    assert_eq!(entitled, [true, false]);
}

#[tokio::test]
async fn an_added_item_leaves_a_waiting_one_alone_and_must_be_paid() {
    let shop = Shop::open().await;
    let old = shop.subscribe("pro", "monthly").await;
    let token = shop
        .buy(change(&old, "basic", "monthly", ReplacementMode::Deferred))
        .await;
    shop.acknowledge(&token);
    shop.until("2026-01-26T00:00:00Z").await;
    let add = GooglePlayAction::AddItems {
        purchase_token: token.clone(),
        items: vec![add_on("extra")],
    };
    let billing = |billing| GooglePlayAction::SetBilling {
        purchase_token: token.clone(),
        billing,
    };
    shop.act(billing(Billing::Fails)).await.unwrap();
    assert_eq!(shop.refusal(add.clone()).await, "the payment is declined");
    shop.act(billing(Billing::Works)).await.unwrap();
    shop.act(add).await.unwrap();
    let until = "2026-02-10T12:00:00.000Z";
    assert_eq!(
        expiries(&shop.show(&token)),
        [("pro", until), ("basic", ""), ("extra", until)]
    );
    shop.until("2026-02-10T12:00:00Z").await;
    let until = "2026-03-10T12:00:00.000Z";
    assert_eq!(
        expiries(&shop.show(&token)),
        [("basic", until), ("extra", until)]
    );
}

#[tokio::test]
async fn an_item_on_trial_has_its_own_expiry_until_it_is_aligned() {
    let shop = Shop::open().await;
    let buy = GooglePlayBuy {
        add_ons: vec![AddOn {
            trial: Some(Period::weeks(1)),
            ..add_on("extra")
        }],
        ..order("basic", "monthly")
    };
    let token = shop.buy(buy).await;
    shop.acknowledge(&token);
    let until = "2026-02-10T12:00:00.000Z";
    assert_eq!(
        expiries(&shop.show(&token)),
        [("basic", until), ("extra", "2026-01-17T12:00:00.000Z")]
    );
    shop.until("2026-01-17T12:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED", "RENEWED"]);
    let shown = shop.show(&token);
    assert_eq!(expiries(&shown), [("basic", until), ("extra", until)]);
    assert_eq!(
        shown["lineItems"][1]["offerPhase"],
        json!({"prorationPeriod": {}})
    );
    let lines = shop.orders(&token)[1]["lineItems"].clone();
    assert_eq!(lines.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_through_the_app_keeps_items_in_a_new_token() {
    let shop = Shop::open().await;
    let old = shop.subscribe("basic", "monthly").await;
    shop.until("2026-01-26T00:00:00Z").await;
    let buy = GooglePlayBuy {
        replaces: Some(old.clone()),
        replacement_mode: Some(ReplacementMode::KeepExisting),
        add_ons: vec![add_on("extra")],
        ..order("basic", "monthly")
    };
    let new = shop.buy(buy).await;
    let until = "2026-02-10T12:00:00.000Z";
    let shown = shop.show(&new);
    assert_eq!(expiries(&shown), [("basic", until), ("extra", until)]);
    assert_shows(
        &shown,
        &[
            ("/linkedPurchaseToken", json!(old)),
            (
                "/lineItems/0/itemReplacement/replacementMode",
                json!("KEEP_EXISTING"),
            ),
            ("/lineItems/1/itemReplacement", Value::Null),
        ],
    );
}

#[tokio::test]
async fn items_must_fit_together() {
    let shop = Shop::open().await;
    for (product, reason) in [
        ("ticket", "only auto-renewing plans can be bought together"),
        ("basic", "a product cannot be in a purchase twice"),
    ] {
        let buy = GooglePlayBuy {
            add_ons: vec![add_on(product)],
            ..order("basic", "monthly")
        };
        assert_eq!(shop.refusal(GooglePlayAction::Buy(buy)).await, reason);
    }
    let buy = GooglePlayBuy {
        add_ons: vec![add_on("extra")],
        ..order("basic", "yearly")
    };
    let reason = shop.refusal(GooglePlayAction::Buy(buy)).await;
    assert_eq!(
        reason,
        "plans that are bought together must have the same period"
    );
}

#[tokio::test]
async fn an_item_that_was_dropped_has_no_grace() {
    let shop = Shop::open().await;
    let buy = GooglePlayBuy {
        add_ons: vec![add_on("extra")],
        ..order("basic", "monthly")
    };
    let token = shop.buy(buy).await;
    shop.acknowledge(&token);
    let remove = GooglePlayAction::RemoveItem {
        purchase_token: token.clone(),
        product_id: "extra".to_owned(),
    };
    shop.act(remove).await.unwrap();
    let fails = GooglePlayAction::SetBilling {
        purchase_token: token.clone(),
        billing: Billing::Fails,
    };
    shop.act(fails).await.unwrap();
    shop.until("2026-02-10T12:00:00Z").await;
    let shown = shop.show(&token);
    assert_eq!(shown["subscriptionState"], state("IN_GRACE_PERIOD"));
    assert_eq!(
        expiries(&shown),
        [
            ("basic", "2026-02-17T12:00:00.000Z"),
            ("extra", "2026-02-10T12:00:00.000Z")
        ]
    );
}
