//! Changes of plan: replacement modes and linked tokens.

use chrono::TimeDelta;

use super::*;

/// Fifteen and a half of thirty-one days are left: half of 9.99 is 4.995.
#[tokio::test]
async fn each_replacement_mode_has_its_price_and_its_time() {
    let proration = json!({"prorationPeriod": {}});
    let of_base = json!({"prorationPeriod": {"originalOfferPhaseType": "BASE"}});
    for (mode, name, charged, expiry, phase) in [
        // 4.995 of 19.99 for 31 days (of 26 January to 26 February) is 7 d 17 h 54 min 25 s.
        (
            ReplacementMode::WithTimeProration,
            "WITH_TIME_PRORATION",
            0,
            "2026-02-02T17:54:25.032Z",
            &proration,
        ),
        (
            ReplacementMode::ChargeProratedPrice,
            "CHARGE_PRORATED_PRICE",
            5_000_000,
            "2026-02-10T12:00:00.000Z",
            &proration,
        ),
        (
            ReplacementMode::WithoutProration,
            "WITHOUT_PRORATION",
            0,
            "2026-02-10T12:00:00.000Z",
            &proration,
        ),
        (
            ReplacementMode::ChargeFullPrice,
            "CHARGE_FULL_PRICE",
            19_990_000,
            "2026-03-05T17:54:25.032Z",
            &of_base,
        ),
    ] {
        let shop = Shop::open().await;
        let old = shop.subscribe("basic", "monthly").await;
        shop.until("2026-01-26T00:00:00Z").await;
        let new = shop.buy(change(&old, "pro", "monthly", mode)).await;
        shop.acknowledge(&new);
        assert_eq!(shop.told(), ["PURCHASED", "PURCHASED"], "{name}");
        let shown = shop.show(&new);
        let replaced = json!({
            "productId": "basic",
            "basePlanId": "monthly",
            "replacementMode": name,
        });
        assert_shows(
            &shown,
            &[
                (STATE, state("ACTIVE")),
                ("/linkedPurchaseToken", json!(old)),
                (EXPIRY, json!(expiry)),
                (PHASE, phase.clone()),
                ("/lineItems/0/itemReplacement", replaced),
                (
                    "/lineItems/0/autoRenewingPlan/recurringPrice",
                    usd(19_990_000),
                ),
            ],
        );
        assert_eq!(shop.orders(&new)[0]["total"], usd(charged), "{name}");
        assert_shows(
            &shop.show(&old),
            &[
                (STATE, state("EXPIRED")),
                (EXPIRY, json!("2026-01-26T00:00:00.000Z")),
                ("/canceledStateContext/replacementCancellation", json!({})),
            ],
        );
        shop.wait(TimeDelta::seconds(3)).await;
        assert_eq!(shop.told(), ["EXPIRED"], "{name}");
        // The next renewal is a full one at the full price.
        shop.until(expiry).await;
        assert_eq!(shop.told(), ["RENEWED"], "{name}");
        assert_eq!(shop.orders(&new)[1]["total"], usd(19_990_000), "{name}");
        assert_eq!(
            shop.show(&new)["lineItems"][0]["offerPhase"],
            json!({"basePrice": {}})
        );
        // What was replaced is shown for sixty days.
        shop.until("2026-04-01T00:00:00Z").await;
        assert!(shop.show(&new)["lineItems"][0]["itemReplacement"].is_null());
    }
}

#[tokio::test]
async fn a_deferred_change_waits_in_the_new_token() {
    let shop = Shop::open().await;
    let old = shop.subscribe("pro", "monthly").await;
    shop.until("2026-01-26T00:00:00Z").await;
    let downgrade = change(&old, "basic", "monthly", ReplacementMode::Deferred);
    let new = shop.buy(downgrade).await;
    shop.acknowledge(&new);
    shop.wait(TimeDelta::seconds(3)).await;
    assert_eq!(shop.told(), ["PURCHASED", "PURCHASED", "EXPIRED"]);
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("ACTIVE")),
            ("/linkedPurchaseToken", json!(old)),
            ("/lineItems/0/productId", json!("pro")),
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
            (RENEWS, Value::Null),
            (
                "/lineItems/0/deferredItemReplacement",
                json!({"productId": "basic"}),
            ),
            ("/lineItems/1/productId", json!("basic")),
            ("/lineItems/1/expiryTime", Value::Null),
            ("/lineItems/1/latestSuccessfulOrderId", Value::Null),
            (
                "/lineItems/1/autoRenewingPlan/autoRenewEnabled",
                json!(true),
            ),
            (
                "/lineItems/1/itemReplacement/replacementMode",
                json!("DEFERRED"),
            ),
        ],
    );
    let owned: Vec<_> = shop.truth(&new).into_iter().map(|t| t.product_id).collect();
    assert_eq!(owned, ["pro"]);
    shop.until("2026-02-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["RENEWED"]);
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("ACTIVE")),
            ("/lineItems/0/productId", json!("basic")),
            (EXPIRY, json!("2026-03-10T12:00:00.000Z")),
            ("/lineItems/1", Value::Null),
        ],
    );
    assert_eq!(shop.orders(&new)[1]["total"], usd(9_990_000));

    // Cancelled while it waits: the old one runs out, the new one never begins.
    let last = change(&new, "pro", "monthly", ReplacementMode::Deferred);
    let last = shop.buy(last).await;
    shop.acknowledge(&last);
    let cancel = GooglePlayAction::Cancel {
        purchase_token: last.clone(),
        survey: None,
    };
    shop.act(cancel).await.unwrap();
    shop.until("2026-03-11T00:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED", "CANCELED", "EXPIRED", "EXPIRED"]);
    assert_eq!(shop.show(&last)["subscriptionState"], state("EXPIRED"));
}

#[tokio::test]
async fn a_deferred_change_that_cannot_be_paid_keeps_the_old_item_through_grace() {
    let shop = Shop::open().await;
    let old = shop.subscribe("pro", "monthly").await;
    let new = shop
        .buy(change(&old, "basic", "monthly", ReplacementMode::Deferred))
        .await;
    shop.acknowledge(&new);
    let billing = |billing| GooglePlayAction::SetBilling {
        purchase_token: new.clone(),
        billing,
    };
    shop.act(billing(Billing::Fails)).await.unwrap();
    shop.until("2026-02-12T12:00:00Z").await;
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("IN_GRACE_PERIOD")),
            (EXPIRY, json!("2026-02-17T12:00:00.000Z")),
            ("/lineItems/1/expiryTime", Value::Null),
        ],
    );
    shop.act(billing(Billing::Works)).await.unwrap();
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("ACTIVE")),
            ("/lineItems/0/productId", json!("basic")),
            (EXPIRY, json!("2026-03-10T12:00:00.000Z")),
        ],
    );
}

#[tokio::test]
async fn what_the_store_does_not_change() {
    let shop = Shop::open().await;
    let held = shop.subscribe("pro", "monthly").await;
    let refusals = [
        (
            change(
                &held,
                "basic",
                "monthly",
                ReplacementMode::ChargeProratedPrice,
            ),
            "only an upgrade can be charged the difference",
        ),
        (
            change(&held, "ticket", "month", ReplacementMode::WithTimeProration),
            "a change to a prepaid plan is charged in full",
        ),
        (
            change(&held, "basic", "monthly", ReplacementMode::KeepExisting),
            "only the same plan can be kept",
        ),
        (order("pro", "monthly"), "already owned"),
    ];
    for (buy, reason) in refusals {
        assert_eq!(shop.refusal(GooglePlayAction::Buy(buy)).await, reason);
    }
    assert_eq!(shop.told(), ["PURCHASED"]);
}

#[tokio::test]
async fn a_cancelled_subscription_that_is_bought_again_before_its_end_is_linked() {
    let shop = Shop::open().await;
    let old = shop.subscribe("basic", "monthly").await;
    let cancel = GooglePlayAction::Cancel {
        purchase_token: old.clone(),
        survey: None,
    };
    shop.act(cancel).await.unwrap();
    shop.until("2026-01-26T00:00:00Z").await;
    let again = shop.buy(order("basic", "monthly")).await;
    assert_shows(
        &shop.show(&again),
        &[
            ("/linkedPurchaseToken", json!(old)),
            // What is left of the old period is worth the same time of the new one.
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
        ],
    );
}

#[tokio::test]
async fn a_subscription_goes_on_in_one_purchase_at_most() {
    let shop = Shop::open().await;
    let old = shop.subscribe("basic", "monthly").await;
    shop.until("2026-01-12T00:00:00Z").await;
    let later = GooglePlayBuy {
        pending: true,
        ..change(&old, "pro", "monthly", ReplacementMode::ChargeFullPrice)
    };
    let waiting = shop.buy(later.clone()).await;
    let settle = |token: &str, paid| GooglePlayAction::SettlePending {
        purchase_token: token.to_owned(),
        paid,
    };
    let other = || {
        let mode = ReplacementMode::ChargeFullPrice;
        GooglePlayAction::Buy(change(&old, "extra", "monthly", mode))
    };
    let reason = "a change of it awaits its payment";
    assert_eq!(shop.refusal(other()).await, reason);
    // Given up, it is as if it had never been asked for.
    shop.act(settle(&waiting, false)).await.unwrap();
    let waiting = shop.buy(later).await;
    shop.act(settle(&waiting, true)).await.unwrap();
    // What was changed has not lapsed.
    let outside = GooglePlayBuy {
        out_of_app: true,
        ..order("basic", "monthly")
    };
    let reason = "it goes on in another purchase";
    assert_eq!(shop.refusal(GooglePlayAction::Buy(outside)).await, reason);
}
