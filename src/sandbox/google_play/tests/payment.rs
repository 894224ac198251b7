//! Renewal, grace, hold, recovery, cancellation, pauses, pending purchases, acknowledgement.

use chrono::TimeDelta;

use super::super::developer::Acknowledgement;
use super::*;

fn billing(token: &str, billing: Billing) -> GooglePlayAction {
    GooglePlayAction::SetBilling {
        purchase_token: token.to_owned(),
        billing,
    }
}

fn cancel(token: &str) -> GooglePlayAction {
    GooglePlayAction::Cancel {
        purchase_token: token.to_owned(),
        survey: None,
    }
}

fn pause(token: &str, period: Period) -> GooglePlayAction {
    GooglePlayAction::Pause {
        purchase_token: token.to_owned(),
        period,
    }
}

#[tokio::test]
async fn purchase_renewal_cancellation_and_restoration_show_what_the_notifications_mean() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "monthly").await;
    assert_eq!(shop.told(), ["PURCHASED"]);
    let first = shop.show(&token);
    assert_shows(
        &first,
        &[
            (STATE, state("ACTIVE")),
            ("/startTime", json!("2026-01-10T12:00:00.000Z")),
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
            (RENEWS, json!(true)),
            (PHASE, json!({"basePrice": {}})),
            (
                "/acknowledgementState",
                json!("ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED"),
            ),
            ("/canceledStateContext", Value::Null),
        ],
    );
    shop.until("2026-02-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["RENEWED"]);
    let renewed = shop.show(&token);
    assert_ne!(first["etag"], renewed["etag"]);
    let order_id = format!("{}..0", first["latestOrderId"].as_str().unwrap());
    assert_shows(
        &renewed,
        &[
            (EXPIRY, json!("2026-03-10T12:00:00.000Z")),
            ("/latestOrderId", json!(order_id)),
            ("/lineItems/0/latestSuccessfulOrderId", json!(order_id)),
        ],
    );
    let survey = Some(CancelSurvey {
        reason: CancelReason::Others,
        comment: Some("moving".to_owned()),
    });
    shop.act(GooglePlayAction::Cancel {
        purchase_token: token.clone(),
        survey,
    })
    .await
    .unwrap();
    assert_eq!(shop.told(), ["CANCELED"]);
    let user = "/canceledStateContext/userInitiatedCancellation";
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("CANCELED")),
            (RENEWS, Value::Null),
            (
                &format!("{user}/cancelTime"),
                json!("2026-02-10T12:00:00.000Z"),
            ),
            (
                &format!("{user}/cancelSurveyResult"),
                json!({"reason": "CANCEL_SURVEY_REASON_OTHERS", "reasonUserInput": "moving"}),
            ),
        ],
    );
    let restore = GooglePlayAction::Restore {
        purchase_token: token.clone(),
    };
    shop.act(restore).await.unwrap();
    assert_eq!(shop.told(), ["RESTARTED"]);
    assert_shows(
        &shop.show(&token),
        &[(STATE, state("ACTIVE")), (RENEWS, json!(true))],
    );
    shop.act(cancel(&token)).await.unwrap();
    shop.until("2026-03-10T12:00:01Z").await;
    assert_eq!(shop.show(&token)["subscriptionState"], state("EXPIRED"));
    shop.until("2026-03-10T12:00:03Z").await;
    assert_eq!(shop.told(), ["CANCELED", "EXPIRED"]);
}

#[tokio::test]
async fn a_month_that_falls_on_the_28th_stays_there() {
    let shop = Shop::open().await;
    shop.until("2026-01-31T09:00:00Z").await;
    let token = shop.subscribe("basic", "monthly").await;
    for expiry in [
        "2026-02-28T09:00:00.000Z",
        "2026-03-28T09:00:00.000Z",
        "2026-04-28T09:00:00.000Z",
    ] {
        assert_eq!(shop.show(&token)["lineItems"][0]["expiryTime"], expiry);
        shop.until(expiry).await;
    }
}

#[tokio::test]
async fn grace_keeps_the_renewal_date_and_hold_moves_it() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "monthly").await;
    let paid = shop.show(&token)["latestOrderId"].clone();
    let failed = format!("{}..0", paid.as_str().unwrap());
    shop.act(billing(&token, Billing::Fails)).await.unwrap();
    shop.until("2026-02-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED", "IN_GRACE_PERIOD"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("IN_GRACE_PERIOD")),
            (EXPIRY, json!("2026-02-17T12:00:00.000Z")),
            (RENEWS, json!(true)),
            ("/latestOrderId", json!(failed)),
            ("/lineItems/0/latestSuccessfulOrderId", paid),
            (
                "/inGracePeriodStateContext/renewalDeclined/pendingOrderId",
                json!(failed),
            ),
        ],
    );
    assert_eq!(shop.orders(&token)[1]["state"], "PENDING");
    shop.until("2026-02-12T12:00:00Z").await;
    shop.act(billing(&token, Billing::Works)).await.unwrap();
    assert_eq!(shop.told(), ["RENEWED"]);
    let recovered = shop.show(&token);
    assert_shows(
        &recovered,
        &[
            (STATE, state("ACTIVE")),
            (EXPIRY, json!("2026-03-10T12:00:00.000Z")),
            ("/latestOrderId", json!(failed)),
        ],
    );
    assert_eq!(shop.orders(&token)[1]["state"], "PROCESSED");

    shop.act(billing(&token, Billing::Fails)).await.unwrap();
    shop.until("2026-03-17T12:00:00Z").await;
    assert_eq!(shop.told(), ["IN_GRACE_PERIOD", "ON_HOLD"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ON_HOLD")),
            (EXPIRY, json!("2026-03-17T12:00:00.000Z")),
            (
                "/onHoldStateContext/renewalDeclined/pendingOrderId",
                json!(failed.replace("..0", "..1")),
            ),
        ],
    );
    assert!(!shop.truth(&token)[0].entitled);
    shop.until("2026-03-20T08:00:00Z").await;
    shop.act(billing(&token, Billing::Works)).await.unwrap();
    assert_eq!(shop.told(), ["RECOVERED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ACTIVE")),
            (EXPIRY, json!("2026-04-20T08:00:00.000Z")),
        ],
    );
}

#[tokio::test]
async fn the_end_of_hold_is_told_twice_and_its_order_was_never_paid() {
    let shop = Shop::open().await;
    let token = shop.subscribe("strict", "monthly").await;
    shop.act(billing(&token, Billing::Fails)).await.unwrap();
    // The silent day: nothing is told, and the state is ACTIVE.
    shop.until("2026-02-11T11:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED"]);
    assert_eq!(shop.show(&token)["subscriptionState"], state("ACTIVE"));
    assert!(shop.truth(&token)[0].entitled);
    shop.until("2026-02-11T12:00:00Z").await;
    assert_eq!(shop.told(), ["ON_HOLD"]);
    // Thirty days of hold.
    shop.until("2026-03-12T12:00:00Z").await;
    assert_eq!(shop.told(), ["CANCELED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("EXPIRED")),
            (
                "/canceledStateContext/systemInitiatedCancellation",
                json!({}),
            ),
        ],
    );
    shop.wait(TimeDelta::seconds(3)).await;
    assert_eq!(shop.told(), ["EXPIRED"]);
    assert_eq!(shop.orders(&token)[1]["state"], "CANCELED");
}

#[tokio::test]
async fn who_cancels_without_paying_ends_at_once() {
    for phase in ["grace", "hold", "pause"] {
        let shop = Shop::open().await;
        let token = shop.subscribe("basic", "monthly").await;
        if phase == "pause" {
            shop.act(pause(&token, Period::months(1))).await.unwrap();
        } else {
            shop.act(billing(&token, Billing::Fails)).await.unwrap();
        }
        let day = if phase == "hold" {
            "2026-02-18"
        } else {
            "2026-02-12"
        };
        shop.until(&format!("{day}T12:00:00Z")).await;
        shop.told();
        shop.act(cancel(&token)).await.unwrap();
        assert_eq!(shop.told(), ["CANCELED"], "{phase}");
        assert_eq!(
            shop.show(&token)["subscriptionState"],
            state("EXPIRED"),
            "{phase}"
        );
        shop.wait(TimeDelta::seconds(3)).await;
        assert_eq!(shop.told(), ["EXPIRED"], "{phase}");
    }
}

#[tokio::test]
async fn a_pause_begins_with_the_next_period_and_ends_by_itself_or_by_hand() {
    let shop = Shop::open().await;
    let token = shop.subscribe("basic", "monthly").await;
    shop.act(pause(&token, Period::months(2))).await.unwrap();
    assert_eq!(shop.told(), ["PURCHASED", "PAUSE_SCHEDULE_CHANGED"]);
    assert_eq!(shop.show(&token)["subscriptionState"], state("ACTIVE"));
    shop.until("2026-02-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["PAUSED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("PAUSED")),
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
            (
                "/pausedStateContext/autoResumeTime",
                json!("2026-04-10T12:00:00.000Z"),
            ),
        ],
    );
    assert_eq!(shop.truth(&token)[0].state, PurchaseState::Paused);
    assert!(!shop.truth(&token)[0].entitled);
    shop.until("2026-04-10T12:00:00Z").await;
    assert_eq!(shop.told(), ["RECOVERED"]);
    assert_eq!(
        shop.show(&token)["lineItems"][0]["expiryTime"],
        "2026-05-10T12:00:00.000Z"
    );

    // Again, ended by hand: the billing date moves.
    shop.act(pause(&token, Period::months(1))).await.unwrap();
    shop.until("2026-05-20T00:00:00Z").await;
    let resume = GooglePlayAction::Resume {
        purchase_token: token.clone(),
    };
    shop.act(resume.clone()).await.unwrap();
    assert_eq!(
        shop.told(),
        ["PAUSE_SCHEDULE_CHANGED", "PAUSED", "RECOVERED"]
    );
    assert_eq!(
        shop.show(&token)["lineItems"][0]["expiryTime"],
        "2026-06-20T00:00:00.000Z"
    );

    // Taken back before it began, and one that ends without money.
    shop.act(pause(&token, Period::months(1))).await.unwrap();
    shop.act(resume.clone()).await.unwrap();
    assert_eq!(shop.told(), ["PAUSE_SCHEDULE_CHANGED"; 2]);
    assert_eq!(shop.refusal(resume).await, "nothing is paused");
    shop.act(pause(&token, Period::months(1))).await.unwrap();
    shop.act(billing(&token, Billing::Fails)).await.unwrap();
    shop.until("2026-07-20T00:00:00Z").await;
    assert_eq!(shop.told(), ["PAUSE_SCHEDULE_CHANGED", "PAUSED", "ON_HOLD"]);
    assert_shows(&shop.show(&token), &[(STATE, state("ON_HOLD"))]);
}

#[tokio::test]
async fn pauses_have_lengths_by_plan() {
    let shop = Shop::open().await;
    let monthly = shop.subscribe("basic", "monthly").await;
    let weekly = shop.subscribe("strict", "weekly").await;
    let mut yearly = order("basic", "yearly");
    yearly.customer = "bob".to_owned();
    let yearly = shop.buy(yearly).await;
    for (token, period, offered) in [
        (&monthly, Period::months(3), true),
        (&monthly, Period::months(4), false),
        (&monthly, Period::weeks(1), false),
        (&weekly, Period::weeks(4), true),
        (&weekly, Period::months(1), false),
        (&yearly, Period::months(1), false),
    ] {
        let answer = shop.act(pause(token, period)).await;
        assert_eq!(answer.is_ok(), offered, "{period}");
    }
}

#[tokio::test]
async fn a_pending_subscription_is_granted_by_payment_and_its_clock_starts_then() {
    let shop = Shop::open().await;
    let pending = |product: &str| GooglePlayBuy {
        pending: true,
        ..order(product, "monthly")
    };
    let settle = |token: &str, paid| GooglePlayAction::SettlePending {
        purchase_token: token.to_owned(),
        paid,
    };
    let token = shop.buy(pending("basic")).await;
    assert!(shop.told().is_empty());
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("PENDING")),
            ("/startTime", Value::Null),
            (EXPIRY, Value::Null),
            ("/lineItems/0/productId", json!("basic")),
        ],
    );
    assert_eq!(shop.truth(&token)[0].state, PurchaseState::Pending);
    let early =
        shop.change(|turn| turn.google_play_acknowledge(&token, Acknowledgement::default()));
    assert!(early.is_err());
    // Never forfeited while it is pending.
    shop.until("2026-01-20T12:00:00Z").await;
    shop.act(settle(&token, true)).await.unwrap();
    assert_eq!(shop.told(), ["PURCHASED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ACTIVE")),
            ("/startTime", json!("2026-01-20T12:00:00.000Z")),
            (EXPIRY, json!("2026-02-20T12:00:00.000Z")),
        ],
    );
    shop.acknowledge(&token);

    // A change of plan that is not paid: the old one goes on.
    let change = GooglePlayBuy {
        replaces: Some(token.clone()),
        ..pending("pro")
    };
    let new = shop.buy(change).await;
    assert_eq!(shop.show(&new)["linkedPurchaseToken"], json!(token));
    assert!(shop.truth(&token)[0].entitled);
    shop.act(settle(&new, false)).await.unwrap();
    assert_eq!(shop.told(), ["PENDING_PURCHASE_CANCELED"]);
    assert_shows(
        &shop.show(&new),
        &[
            (STATE, state("PENDING_PURCHASE_CANCELED")),
            ("/linkedPurchaseToken", json!(token)),
        ],
    );
    assert!(shop.truth(&token)[0].entitled);
    assert_eq!(shop.orders(&new)[0]["state"], "CANCELED");
    assert_eq!(
        shop.refusal(settle(&new, true)).await,
        "nothing awaits payment"
    );
}

#[tokio::test]
async fn a_pending_one_time_purchase_is_paid_or_given_up() {
    let shop = Shop::open().await;
    for (paid, told, state) in [
        (false, "ONE_TIME_PRODUCT_CANCELED", "CANCELLED"),
        (true, "ONE_TIME_PRODUCT_PURCHASED", "PURCHASED"),
    ] {
        let token = shop
            .buy(GooglePlayBuy {
                customer: "bob".to_owned(),
                product_id: "coins".to_owned(),
                pending: true,
                ..GooglePlayBuy::default()
            })
            .await;
        let shown = shop.show(&token);
        assert_eq!(shown["purchaseStateContext"]["purchaseState"], "PENDING");
        assert!(shown["purchaseCompletionTime"].is_null());
        let settle = GooglePlayAction::SettlePending {
            purchase_token: token.clone(),
            paid,
        };
        shop.act(settle).await.unwrap();
        assert_eq!(shop.told(), [told]);
        let shown = shop.show(&token);
        assert_eq!(shown["purchaseStateContext"]["purchaseState"], state);
        assert_eq!(shown["purchaseCompletionTime"].is_string(), paid);
        assert_eq!(shop.truth(&token)[0].entitled, paid);
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_is_given_back() {
    let shop = Shop::open().await;
    let month = shop.buy(order("basic", "monthly")).await;
    let short = shop.buy(order("ticket", "three-days")).await;
    // Half of three days.
    shop.wait(TimeDelta::hours(37)).await;
    assert_eq!(shop.truth(&short)[0].state, PurchaseState::Revoked);
    assert!(shop.truth(&month)[0].entitled);
    shop.wait(TimeDelta::hours(35)).await;
    assert_eq!(shop.truth(&month)[0].state, PurchaseState::Revoked);
    let told = shop.told();
    assert_eq!(
        told,
        [
            "PURCHASED",
            "PURCHASED",
            "REVOKED",
            "VOIDED_PURCHASE",
            "REVOKED",
            "VOIDED_PURCHASE"
        ]
    );
    let reasons = |_: &Purchase, google: &GooglePlay| {
        let voided = google.voided().iter();
        voided
            .map(|row| (row.source, row.reason))
            .collect::<Vec<_>>()
    };
    let unacknowledged = (VoidSource::Google, VoidReason::UnacknowledgedPurchase);
    assert_eq!(shop.look(reasons, &month), [unacknowledged; 2]);
}

#[tokio::test]
async fn while_the_store_is_late_to_charge_its_answers_say_active() {
    let shop = Shop::with(Timing {
        google_renewal_lag_seconds: 135,
        ..Timing::default()
    })
    .await;
    let token = shop.subscribe("basic", "monthly").await;
    shop.until("2026-02-10T12:02:14Z").await;
    assert_eq!(shop.told(), ["PURCHASED"]);
    assert_shows(
        &shop.show(&token),
        &[
            (STATE, state("ACTIVE")),
            (EXPIRY, json!("2026-02-10T12:00:00.000Z")),
        ],
    );
    assert!(shop.truth(&token)[0].entitled);
    shop.until("2026-02-10T12:02:15Z").await;
    assert_eq!(shop.told(), ["RENEWED"]);
    // The period starts when it was due.
    assert_shows(
        &shop.show(&token),
        &[(EXPIRY, json!("2026-03-10T12:00:00.000Z"))],
    );
}

#[tokio::test]
async fn a_subscription_on_hold_can_be_replaced_by_one_that_is_paid() {
    let shop = Shop::open().await;
    let held = shop.subscribe("basic", "monthly").await;
    shop.act(billing(&held, Billing::Fails)).await.unwrap();
    shop.until("2026-02-20T12:00:00Z").await;
    assert_eq!(shop.told(), ["PURCHASED", "IN_GRACE_PERIOD", "ON_HOLD"]);
    let new = shop
        .buy(GooglePlayBuy {
            replaces: Some(held.clone()),
            ..order("basic", "monthly")
        })
        .await;
    assert_shows(
        &shop.show(&new),
        &[
            ("/linkedPurchaseToken", json!(held)),
            (EXPIRY, json!("2026-03-20T12:00:00.000Z")),
        ],
    );
    assert_eq!(shop.orders(&held)[1]["state"], "CANCELED");
}
