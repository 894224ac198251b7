//! Refunds, revocations, charge-backs and the voided list; deferral.

use chrono::TimeDelta;

use super::super::developer::{CancellationType, STALE_ETAG};
use super::super::refund::{Cause, RefundPreference, Revocation};
use super::*;

fn refund(token: &str, order_id: Option<&str>, revoke: bool) -> GooglePlayAction {
    GooglePlayAction::Refund {
        purchase_token: token.to_owned(),
        order_id: order_id.map(ToOwned::to_owned),
        revoke,
        quantity: None,
        source: VoidSource::Developer,
        reason: VoidReason::Other,
    }
}

fn voided_ids(shop: &Shop, token: &str) -> Vec<String> {
    let ids = |_: &Purchase, google: &GooglePlay| {
        let rows = google.voided().iter();
        rows.map(|row| row.order_id.clone()).collect()
    };
    shop.look(ids, token)
}

#[tokio::test]
async fn a_refund_without_revoke_leaves_access_and_is_not_in_the_voided_list() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "monthly").await;
    let first = shop.look(|purchase, _| purchase.first_order_id().to_owned(), &token);
    shop.until("2026-02-10T12:00:00Z").await;
    shop.told();
    shop.act(refund(&token, Some(&first), false)).await.unwrap();
    assert!(shop.told().is_empty());
    assert!(shop.truth(&token)[0].entitled);
    assert!(voided_ids(&shop, &token).is_empty());
    assert_shows(
        &shop.orders(&token)[0],
        &[
            ("/state", json!("REFUNDED")),
            ("/orderHistory/refundEvent/refundReason", json!("OTHER")),
            (
                "/orderHistory/refundEvent/refundDetails/total",
                json!({"currencyCode": "USD", "units": "9", "nanos": 990_000_000}),
            ),
        ],
    );
    assert_eq!(shop.orders(&token)[1]["state"], "PROCESSED");
    assert_eq!(
        shop.refusal(refund(&token, Some(&first), true)).await,
        "already refunded"
    );

    shop.act(refund(&token, None, true)).await.unwrap();
    assert_eq!(shop.told(), ["REVOKED", "VOIDED_PURCHASE"]);
    assert_eq!(voided_ids(&shop, &token), [format!("{first}..0")]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("EXPIRED")),
            (
                "/canceledStateContext/userInitiatedCancellation/cancelTime",
                json!("2026-02-10T12:00:00.000Z"),
            ),
        ],
    );
    assert_eq!(shop.truth(&token)[0].state, PurchaseState::Revoked);
}

#[tokio::test]
async fn one_time_purchases_are_refunded_by_quantity() {
    let shop = Shop::open().await;
    let buy = GooglePlayBuy {
        customer: "alice".to_owned(),
        product_id: "coins".to_owned(),
        quantity: Some(5),
        ..GooglePlayBuy::default()
    };
    let token = shop.buy(buy).await;
    shop.acknowledge(&token);
    let some = |quantity| GooglePlayAction::Refund {
        purchase_token: token.clone(),
        order_id: None,
        revoke: true,
        quantity: Some(quantity),
        source: VoidSource::User,
        reason: VoidReason::Remorse,
    };
    shop.act(some(2)).await.unwrap();
    assert_eq!(
        shop.told(),
        ["ONE_TIME_PRODUCT_PURCHASED", "VOIDED_PURCHASE"]
    );
    let offer = &shop.show(&token)["productLineItem"][0]["productOfferDetails"];
    assert_eq!(
        (&offer["quantity"], &offer["refundableQuantity"]),
        (&json!(5), &json!(3))
    );
    assert_shows(
        &shop.orders(&token)[0],
        &[
            ("/state", json!("PARTIALLY_REFUNDED")),
            ("/lineItems/0/oneTimePurchaseDetails/quantity", json!(5)),
            (
                "/orderHistory/partialRefundEvents/0/refundDetails/total",
                json!({"currencyCode": "USD", "units": "19", "nanos": 980_000_000}),
            ),
        ],
    );
    let truth = &shop.truth(&token)[0];
    assert_eq!((truth.entitled, truth.quantity), (true, 3));
    assert_eq!(
        shop.refusal(some(4)).await,
        "not so many are left to refund"
    );
    shop.act(some(3)).await.unwrap();
    assert!(!shop.truth(&token)[0].entitled);
    let rows = |_: &Purchase, google: &GooglePlay| {
        let rows = google.voided().iter();
        rows.map(|row| (row.quantity, row.source.number(), row.reason.number()))
            .collect::<Vec<_>>()
    };
    assert_eq!(shop.look(rows, &token), [(Some(2), 0, 1), (None, 0, 1)]);
}

#[tokio::test]
async fn a_charge_back_is_decided_by_the_developer_or_after_a_day() {
    for (preference, lost) in [
        (Some(RefundPreference::Approve), true),
        (Some(RefundPreference::Neutral), true),
        (Some(RefundPreference::Decline), false),
        (None, true),
    ] {
        let shop = Shop::open().await;
        let token = shop.subscribe("basic", "monthly").await;
        let asked = shop.act(GooglePlayAction::ChargeBack {
            purchase_token: token.clone(),
            order_id: None,
        });
        let Outcome::RefundReview {
            pending_refund_token,
            order_id,
        } = asked.await.unwrap()
        else {
            panic!("no review");
        };
        assert_eq!(shop.told(), ["PURCHASED", "PENDING_REFUND_REVIEW"]);
        assert_eq!(shop.orders(&token)[0]["state"], "PENDING_REFUND");
        assert!(shop.truth(&token)[0].entitled);
        let wrong = shop.change(|turn| {
            turn.google_play_review_refund(&order_id, "wrong", RefundPreference::Approve)
        });
        assert!(wrong.is_err());
        match preference {
            Some(preference) => shop
                .change(|turn| {
                    turn.google_play_review_refund(&order_id, &pending_refund_token, preference)
                })
                .unwrap(),
            None => {
                shop.wait(TimeDelta::hours(23)).await;
                assert!(shop.truth(&token)[0].entitled);
                shop.wait(TimeDelta::hours(1)).await;
            }
        }
        let told: &[&str] = match lost {
            true => &["REVOKED", "VOIDED_PURCHASE"],
            false => &[],
        };
        assert_eq!(shop.told(), told, "{preference:?}");
        let order = &shop.orders(&token)[0];
        assert_eq!(order["state"], if lost { "REFUNDED" } else { "PROCESSED" });
        assert_eq!(shop.truth(&token)[0].entitled, !lost);
        if lost {
            assert_eq!(
                order["orderHistory"]["refundEvent"]["refundReason"],
                "CHARGEBACK"
            );
            let row = shop.look(|_, google| google.voided()[0].clone(), &token);
            assert_eq!((row.source.number(), row.reason.number()), (2, 7));
        }
    }
}

#[tokio::test]
async fn the_developer_revokes_in_full_in_part_or_by_item() {
    let shop = Shop::open().await;
    let full = shop.subscribe("basic", "monthly").await;
    let buy = GooglePlayBuy {
        add_ons: vec![AddOn {
            product_id: "extra".to_owned(),
            base_plan_id: None,
            trial: None,
        }],
        ..order("pro", "monthly")
    };
    let several = shop.buy(buy).await;
    shop.acknowledge(&several);
    let prorated = shop.subscribe("strict", "monthly").await;
    shop.until("2026-01-26T00:00:00Z").await;
    shop.told();
    let revoke =
        |token: &str, revocation| shop.change(|turn| turn.google_play_revoke(token, &revocation));
    revoke(&full, Revocation::Full).unwrap();
    assert_eq!(shop.told(), ["REVOKED", "VOIDED_PURCHASE"]);
    assert_eq!(shop.orders(&full)[0]["state"], "REFUNDED");
    assert!(revoke(&full, Revocation::Full).is_err());

    revoke(&prorated, Revocation::Prorated).unwrap();
    assert_eq!(shop.told(), ["REVOKED", "VOIDED_PURCHASE"]);
    assert_shows(
        &shop.orders(&prorated)[0],
        &[
            ("/state", json!("PARTIALLY_REFUNDED")),
            (
                "/orderHistory/partialRefundEvents/0/refundDetails/total",
                json!({"currencyCode": "USD", "units": "4", "nanos": 995_000_000}),
            ),
        ],
    );

    revoke(&several, Revocation::Item("extra".to_owned())).unwrap();
    assert_eq!(shop.told(), ["ITEMS_CHANGED"]);
    let entitled: Vec<_> = shop.truth(&several).iter().map(|t| t.entitled).collect();
    assert_eq!(entitled, [true, false]);
    revoke(&several, Revocation::Item("pro".to_owned())).unwrap();
    assert_eq!(shop.told(), ["REVOKED", "VOIDED_PURCHASE"]);
    assert_eq!(shop.orders(&several)[0]["state"], "REFUNDED");
}

#[tokio::test]
async fn a_revocation_gives_back_what_each_item_was_paid_with() {
    let shop = Shop::open().await;
    let full = shop.subscribe("basic", "monthly").await;
    let prorated = shop.subscribe("pro", "monthly").await;
    shop.until("2026-01-26T00:00:00Z").await;
    for (token, product_id) in [(&full, "extra"), (&prorated, "strict")] {
        let items = vec![AddOn {
            product_id: product_id.to_owned(),
            base_plan_id: None,
            trial: None,
        }];
        let add = GooglePlayAction::AddItems {
            purchase_token: token.clone(),
            items,
        };
        shop.act(add).await.unwrap();
    }
    shop.told();
    let states = |token: &str| -> Vec<_> {
        let orders = shop.orders(token).into_iter();
        orders.map(|order| order["state"].clone()).collect()
    };
    for (token, revocation, expected) in [
        (&full, Revocation::Full, ["REFUNDED", "REFUNDED"]),
        (
            &prorated,
            Revocation::Prorated,
            ["PARTIALLY_REFUNDED", "REFUNDED"],
        ),
    ] {
        shop.change(|turn| turn.google_play_revoke(token, &revocation))
            .unwrap();
        let told = ["REVOKED", "VOIDED_PURCHASE", "VOIDED_PURCHASE"];
        assert_eq!(shop.told(), told);
        assert_eq!(states(token), expected);
        assert!(shop.truth(token).iter().all(|item| !item.entitled));
    }
    let mut voided = voided_ids(&shop, &full);
    voided.dedup();
    assert_eq!(voided.len(), 4);
}

#[tokio::test]
async fn the_developer_stops_renewals_or_payments() {
    for (kind, restorable) in [
        (CancellationType::UserRequestedStopRenewals, true),
        (CancellationType::DeveloperRequestedStopPayments, false),
    ] {
        let shop = Shop::open().await;
        let plain = shop.subscribe("basic", "monthly").await;
        let course = shop.subscribe("course", "half-year").await;
        shop.told();
        let cancel =
            |token: &str| shop.change(|turn| turn.google_play_cancel_by_developer(token, kind));
        cancel(&plain).unwrap();
        assert_shows(
            &shop.show(&plain),
            &[
                (STATE, state("CANCELED")),
                (
                    "/canceledStateContext/developerInitiatedCancellation",
                    json!({}),
                ),
            ],
        );
        cancel(&course).unwrap();
        let installments = if restorable {
            "CANCELLATION_SCHEDULED"
        } else {
            "CANCELED"
        };
        assert_eq!(shop.told(), ["CANCELED", installments]);
        let restore = GooglePlayAction::Restore {
            purchase_token: plain.clone(),
        };
        assert_eq!(shop.act(restore).await.is_ok(), restorable);
    }
}

#[tokio::test]
async fn the_developer_defers_with_the_latest_entity_tag() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "monthly").await;
    let etag = shop.show(&token)["etag"].as_str().unwrap().to_owned();
    let defer = |etag: &str, by, validate_only| {
        shop.change(|turn| turn.google_play_defer(&token, etag, by, validate_only))
    };
    let week = TimeDelta::days(7);
    let later = vec![("basic".to_owned(), at("2026-02-17T12:00:00Z"))];
    assert_eq!(defer(&etag, week, true).unwrap(), later);
    assert_eq!(
        shop.show(&token)["lineItems"][0]["expiryTime"],
        "2026-02-10T12:00:00.000Z"
    );
    for too in [TimeDelta::hours(23), TimeDelta::days(366)] {
        assert!(defer(&etag, too, true).is_err());
    }
    assert_eq!(defer(&etag, week, false).unwrap(), later);
    assert_eq!(shop.told(), ["PURCHASED", "DEFERRED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ACTIVE")),
            (EXPIRY, json!("2026-02-17T12:00:00.000Z")),
        ],
    );
    let stale = defer(&etag, week, false);
    assert!(matches!(stale, Err(SandboxError::Refused(STALE_ETAG))));
    shop.until("2026-02-16T12:00:00Z").await;
    assert!(shop.told().is_empty());
    shop.until("2026-02-17T12:00:00Z").await;
    assert_eq!(shop.told(), ["RENEWED"]);
}

#[tokio::test]
async fn orders_older_than_three_years_are_not_refunded() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "yearly").await;
    let first = shop.look(|purchase, _| purchase.first_order_id().to_owned(), &token);
    shop.until("2029-02-01T00:00:00Z").await;
    let refund = |order: &str| {
        shop.change(|turn| turn.google_play_refund_order(order, false, Cause::default()))
    };
    assert!(refund(&first).is_err());
    refund(&format!("{first}..2")).unwrap();
}

#[tokio::test]
async fn what_a_voided_order_paid_for_ends_wherever_it_has_gone_on() {
    let shop = Shop::open().await;
    let old = shop.subscribe("pro", "monthly").await;
    shop.until("2026-01-12T00:00:00Z").await;
    let deferred = change(&old, "basic", "monthly", ReplacementMode::Deferred);
    let new = shop.buy(deferred).await;
    shop.acknowledge(&new);
    shop.wait(TimeDelta::seconds(3)).await;
    shop.told();
    assert!(shop.truth(&new)[0].entitled);

    shop.act(refund(&old, None, true)).await.unwrap();
    assert_eq!(shop.told(), ["VOIDED_PURCHASE", "REVOKED"]);
    assert_shows(&shop.show(&new), &[(STATE, state("EXPIRED"))]);
    assert!(!shop.truth(&new)[0].entitled);

    // Another order than the one that paid takes nothing away.
    let bob = GooglePlayBuy {
        customer: "bob".to_owned(),
        ..order("basic", "monthly")
    };
    let old = shop.buy(bob).await;
    shop.acknowledge(&old);
    let at_once = GooglePlayBuy {
        customer: "bob".to_owned(),
        ..change(&old, "pro", "monthly", ReplacementMode::ChargeFullPrice)
    };
    let new = shop.buy(at_once).await;
    shop.acknowledge(&new);
    shop.act(refund(&old, None, true)).await.unwrap();
    assert!(shop.truth(&new)[0].entitled);
}
