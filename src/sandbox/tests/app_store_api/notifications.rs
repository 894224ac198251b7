//! Get Notification History and the test notification.

use super::*;

const HISTORY: &str = "/v1/notifications/history";

async fn page(rig: &Rig, wish: &Value, token: Option<&str>) -> Value {
    let path = match token {
        Some(token) => format!("{HISTORY}?paginationToken={token}"),
        None => HISTORY.to_owned(),
    };
    let (status, answer) = rig.call(Method::POST, &path, wish.clone()).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn kinds(page: &Value) -> Vec<String> {
    let items = page["notificationHistory"].as_array().unwrap().iter();
    items
        .map(|item| signed(&item["signedPayload"])["notificationType"].clone())
        .map(|kind| kind.as_str().unwrap().to_owned())
        .collect()
}

/// Everything since the start of the test.
fn wish(changes: Value) -> Value {
    let start = start_time().timestamp_millis();
    let mut wish = json!({"startDate": start, "endDate": start + 100 * 86_400_000});
    for (name, value) in changes.as_object().unwrap() {
        wish[name] = value.clone();
    }
    wish
}

#[tokio::test]
async fn the_history_is_paged_and_shows_what_was_sent_then() {
    let rig = shop(Environment::Production).await;
    for _ in 0..45 {
        rig.buy_apple("alice", COINS).await;
    }
    let wish = wish(json!({}));
    let first = page(&rig, &wish, None).await;
    assert_eq!(kinds(&first).len(), 20);
    assert_eq!(first["hasMore"], true);
    let token = first["paginationToken"].as_str().unwrap();
    let second = page(&rig, &wish, Some(token)).await;
    assert_eq!(kinds(&second).len(), 20);
    let last = second["paginationToken"].as_str().unwrap();
    let third = page(&rig, &wish, Some(last)).await;
    assert_eq!(kinds(&third).len(), 5);
    assert_eq!(third["hasMore"], false);
    assert!(third.get("paginationToken").is_none());
    let records = rig.sandbox.notifications();
    let sent: Value = serde_json::from_str(&records[20].body).unwrap();
    let item = &second["notificationHistory"][0];
    assert_eq!(item["signedPayload"], sent["signedPayload"]);
    assert_eq!(item["sendAttempts"][0]["sendAttemptResult"], "SUCCESS");
    assert_eq!(
        item["sendAttempts"][0]["attemptDate"],
        start_time().timestamp_millis()
    );

    let path = format!("{HISTORY}?paginationToken=x");
    rig.rejects(Method::POST, &path, wish.clone(), 4_000_014)
        .await;
    let mut other = wish;
    other["onlyFailures"] = json!(true);
    let path = format!("{HISTORY}?paginationToken={token}");
    rig.rejects(Method::POST, &path, other, 4_000_017).await;
}

#[tokio::test]
async fn the_history_is_narrowed_by_time_type_customer_and_failure() {
    let rig = shop(Environment::Production).await;
    let alice = rig.buy_apple("alice", MONTHLY).await;
    rig.buy_apple("alice", LIFETIME).await;
    *rig.answer.lock().unwrap() = StatusCode::SERVICE_UNAVAILABLE;
    rig.buy_apple("bob", MONTHLY).await;
    let id = &alice.original_transaction_id;
    rig.sandbox.set_auto_renew(id, false).await.unwrap();
    rig.sandbox.advance_by(TimeDelta::days(8)).await.unwrap();
    *rig.answer.lock().unwrap() = StatusCode::OK;
    rig.sandbox.set_auto_renew(id, true).await.unwrap();
    rig.buy_google("alice", "premium").await;

    let found = async |changes: Value| kinds(&page(&rig, &wish(changes), None).await);
    assert_eq!(found(json!({})).await.len(), 5);
    assert_eq!(
        found(json!({"notificationType": "SUBSCRIBED"})).await.len(),
        2
    );
    let disabled = json!({
        "notificationType": "DID_CHANGE_RENEWAL_STATUS",
        "notificationSubtype": "AUTO_RENEW_DISABLED",
    });
    assert_eq!(found(disabled).await, ["DID_CHANGE_RENEWAL_STATUS"]);
    assert_eq!(found(json!({"transactionId": id})).await.len(), 4);
    let failures = wish(json!({"onlyFailures": true}));
    let failures = page(&rig, &failures, None).await;
    assert_eq!(
        kinds(&failures),
        ["SUBSCRIBED", "DID_CHANGE_RENEWAL_STATUS"]
    );
    let attempts = &failures["notificationHistory"][0]["sendAttempts"];
    let attempts = attempts.as_array().unwrap();
    assert_eq!(attempts.len(), 6);
    assert_eq!(
        attempts[5]["sendAttemptResult"],
        "UNSUCCESSFUL_HTTP_RESPONSE_CODE"
    );
    let later = start_time().timestamp_millis() + 86_400_000;
    assert_eq!(found(json!({"startDate": later})).await.len(), 1);
    assert_eq!(found(json!({"endDate": later})).await.len(), 4);

    let now = rig.sandbox.now().timestamp_millis();
    let old = now - 181 * 86_400_000;
    for (changes, code) in [
        (json!({"startDate": "x"}), 4_000_015),
        (json!({"startDate": null}), 4_000_015),
        (json!({"endDate": null}), 4_000_016),
        (json!({"startDate": now, "endDate": now}), 4_000_013),
        (json!({"startDate": old}), 4_000_012),
        (json!({"notificationType": "BOUGHT"}), 4_000_018),
        (json!({"notificationSubtype": "UPGRADE"}), 4_000_018),
        (
            json!({"notificationType": "REFUND", "notificationSubtype": "UPGRADE"}),
            4_000_018,
        ),
        (
            json!({"notificationType": "REFUND", "transactionId": id}),
            4_000_019,
        ),
        (json!({"transactionId": "abc"}), 4_000_006),
        (json!({"transactionId": "12345"}), 4_040_010),
    ] {
        rig.rejects(Method::POST, HISTORY, wish(changes), code)
            .await;
    }
}

#[tokio::test]
async fn the_history_of_the_sandbox_reaches_back_thirty_days() {
    let rig = shop(Environment::Sandbox).await;
    let day = 86_400_000;
    let now = rig.sandbox.now().timestamp_millis();
    let wish = |days: i64| json!({"startDate": now - days * day, "endDate": now + day});
    assert_eq!(kinds(&page(&rig, &wish(30), None).await).len(), 0);
    rig.rejects(Method::POST, HISTORY, wish(31), 4_000_012)
        .await;
}

#[tokio::test]
async fn a_test_can_be_asked_about_once_it_was_sent_and_for_half_a_year() {
    let rig = shop(Environment::Production).await;
    rig.sandbox.hold_deliveries(true).await.unwrap();
    let test = "/v1/notifications/test";
    let (_, answer) = rig.call(Method::POST, test, Value::Null).await;
    let token = answer["testNotificationToken"].as_str().unwrap();
    let path = format!("{test}/{token}");
    rig.rejects_get(&path, 4_040_008).await;
    rig.sandbox.hold_deliveries(false).await.unwrap();
    let told = rig.get(&path).await;
    assert_eq!(told["firstSendAttemptResult"], "SUCCESS");
    assert_eq!(signed(&told["signedPayload"])["notificationType"], "TEST");
    for (token, code) in [
        ("x", 4_000_020),
        ("x_y", 4_000_020),
        ("2f0a5e0e-8f0e-4d8e-9f60-0d6b2f0f7f11_1", 4_040_008),
    ] {
        rig.rejects_get(&format!("{test}/{token}"), code).await;
    }
    let bought = rig.buy_apple("alice", COINS).await;
    assert!(!bought.transaction_id.is_empty());
    let other = rig.sandbox.notifications().pop().unwrap().id;
    rig.rejects_get(&format!("{test}/{other}_1"), 4_040_008)
        .await;
    rig.sandbox.advance_by(TimeDelta::days(181)).await.unwrap();
    rig.rejects_get(&path, 4_040_008).await;
    rig.sandbox.set_webhooks(Webhooks::default()).unwrap();
    rig.rejects(Method::POST, test, Value::Null, 4_040_007)
        .await;
}
