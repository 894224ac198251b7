//! The orders of a purchase: all of them once, afterwards only what changed.

use serde_json::{Value, json};

use super::testkit::{FakeGoogle, error_body};
use super::*;
use crate::domain::subscription::store_state::RefundKind;

fn renewed(times: i64) -> Value {
    let mut purchase = purchase(None);
    let suffix = if times < 0 {
        String::new()
    } else {
        format!("..{times}")
    };
    purchase["lineItems"][0]["latestSuccessfulOrderId"] = json!(format!("GPA.7{suffix}"));
    purchase
}

fn order(id: &str, state: &str) -> Value {
    let at = "2026-01-10T00:00:00Z";
    json!({"orderId": id, "purchaseToken": TOKEN, "state": state, "createTime": at,
        "lastEventTime": at, "total": {"currencyCode": "EUR", "units": "9"},
        "buyerAddress": {"street": "secret"},
        "lineItems": [{"productId": "premium", "subscriptionDetails": {
            "basePlanId": "premium-yearly", "servicePeriodStartTime": at,
            "servicePeriodEndTime": "2026-02-10T00:00:00Z"}}]})
}

const BATCH: &str = "GET /orders:batchGet";

async fn read(store: &GooglePlay, last: Option<&StoreState>) -> StoreState {
    let (head, catalog) = (alias(TOKEN), example());
    let request = FetchRequest {
        thorough: false,
        head: &head,
        evidence: &[],
        known: &[],
        last,
        catalog: &catalog,
    };
    let answers = store.fetch(request).await.unwrap();
    for answer in &answers {
        let body = String::from_utf8_lossy(&answer.body);
        assert!(!body.contains("secret"), "{body}");
    }
    let read = store.normalize(&head, &answers, &catalog, now()).unwrap();
    let Answer::Store(state) = read else {
        panic!("{read:?}")
    };
    state
}

fn charged(state: &StoreState) -> Vec<&str> {
    let ids = state.transactions.iter();
    ids.map(|charge| charge.transaction_id.as_str()).collect()
}

fn asked(google: &FakeGoogle) -> String {
    google.script(|script| {
        let mut batches = script.sent.iter().filter(|call| call.starts_with(BATCH));
        batches.next_back().cloned().unwrap_or_default()
    })
}

#[tokio::test]
async fn lost_renewals_are_made_up_for_and_later_only_news_is_kept() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, renewed(1));
    google.on(&format!("GET {PATH}"), 200, renewed(2));
    let page = |orders: Vec<Value>| json!({"orders": orders});
    let paid = |id| order(id, "PROCESSED");
    google.on(
        BATCH,
        200,
        page(vec![paid("GPA.7"), paid("GPA.7..0"), paid("GPA.7..1")]),
    );
    let late = order("GPA.7", "REFUNDED");
    google.on(
        BATCH,
        200,
        page(vec![
            late,
            paid("GPA.7..0"),
            paid("GPA.7..1"),
            paid("GPA.7..2"),
        ]),
    );
    let first = read(&store, None).await;
    assert_eq!(charged(&first), ["GPA.7", "GPA.7..0", "GPA.7..1"]);
    let second = read(&store, Some(&first)).await;
    assert_eq!(
        charged(&second),
        ["GPA.7", "GPA.7..2"],
        "what is new or changed"
    );
    let refund = second.transactions[0].refund.as_ref().unwrap();
    assert_eq!(
        (refund.kind, second.transactions[0].revoked_at),
        (RefundKind::Full, None)
    );
    assert!(matches!(
        second.items[0].state,
        crate::domain::subscription::state::ItemState::Active { .. }
    ));
    let third = read(&store, Some(&second)).await;
    assert_eq!(charged(&third), ["GPA.7..2"], "the current one always");
    let asked = asked(&google);
    assert!(
        !asked.contains("orderIds=GPA.7&"),
        "what is refunded stays so: {asked}"
    );
}

#[tokio::test]
async fn one_missing_order_hides_no_other_and_is_asked_for_once() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, renewed(1));
    google.on(BATCH, 404, error_body(404, "orderNotFound"));
    google.on(
        BATCH,
        200,
        json!({"orders": [order("GPA.7", "PROCESSED"), order("GPA.7..1", "PROCESSED")]}),
    );
    for id in ["GPA.7", "GPA.7..1"] {
        google.on(&format!("GET /orders/{id}"), 200, order(id, "PROCESSED"));
    }
    let first = read(&store, None).await;
    assert_eq!(charged(&first), ["GPA.7", "GPA.7..1"]);
    read(&store, Some(&first)).await;
    let asked = asked(&google);
    assert!(
        asked.contains("GPA.7..1") && !asked.contains("GPA.7..0"),
        "{asked}"
    );
}

#[tokio::test]
async fn access_does_not_wait_for_orders() {
    for (status, away) in [(403, false), (500, true)] {
        let (google, store) = setup().await;
        google.on(&format!("GET {PATH}"), 200, renewed(1));
        google.on(BATCH, status, error_body(status, "permissionDenied"));
        let state = read(&store, None).await;
        assert_eq!((state.items.len(), state.transactions.len()), (1, 0));
        assert_eq!(
            state.money_untold, away,
            "a missing permission is no outage"
        );
        // They are read as soon as they can be, also after the purchase went on to another order.
        google.script(|script| script.answers.clear());
        let mut switched = renewed(1);
        switched["lineItems"][0]["latestSuccessfulOrderId"] = json!("GPA.8");
        google.on(&format!("GET {PATH}"), 200, switched);
        let ids = ["GPA.7", "GPA.7..0", "GPA.7..1", "GPA.8"];
        let orders: Vec<Value> = ids.iter().map(|id| order(id, "PROCESSED")).collect();
        google.on(BATCH, 200, json!({"orders": orders}));
        google.on("GET /orders/GPA.8", 200, order("GPA.8", "PROCESSED"));
        let state = read(&store, Some(&state)).await;
        assert!(!state.money_untold);
        let expected: &[&str] = if away { &ids } else { &["GPA.8"] };
        assert_eq!(charged(&state), expected);
    }
    // Why it ended is told by the order alone.
    let (google, store) = setup().await;
    let mut expired = renewed(1);
    expired["subscriptionState"] = json!("SUBSCRIPTION_STATE_EXPIRED");
    google.on(&format!("GET {PATH}"), 200, expired);
    google.on(BATCH, 500, error_body(500, "backendError"));
    assert!(matches!(fetch(&store).await, Err(FetchError::Away { .. })));
}

#[tokio::test]
async fn an_order_leads_to_its_purchase() {
    let (google, store) = setup().await;
    google.on(&format!("GET {PATH}"), 200, renewed(-1));
    google.on("GET /orders/GPA.7", 200, order("GPA.7", "PROCESSED"));
    let (catalog, none) = (example(), []);
    let app = AppId("example-android".into());
    for (id, found) in [("GPA.7", true), ("GPA.8", false)] {
        let head = read::order_alias(app.clone(), id);
        let request = FetchRequest {
            thorough: false,
            head: &head,
            evidence: &none,
            known: &[],
            last: None,
            catalog: &catalog,
        };
        let answers = store.fetch(request).await.unwrap();
        let answer = store.normalize(&head, &answers, &catalog, now()).unwrap();
        match answer {
            Answer::Store(state) => {
                assert!(found);
                assert_eq!(state.head, alias(TOKEN));
                assert!(state.aliases.contains(&head));
            }
            other @ (Answer::Proof(_) | Answer::NotFound | Answer::Gone | Answer::Away) => {
                assert!(!found && other == Answer::NotFound, "{other:?}");
            }
        }
    }
}
