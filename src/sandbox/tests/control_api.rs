//! The control API's own promises: whom it answers, what it refuses and how, journeys, customers.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HOST, ORIGIN};

use super::*;

#[tokio::test]
async fn pages_of_others_are_kept_out_and_programs_are_not() {
    let rig = Rig::start().await;
    let base = rig.sandbox.base_url();
    let clock = format!("{base}/control/clock");
    let ask = |name, value: &str| rig.http.get(&clock).header(name, value);
    for (refused, request) in [
        (403, ask(HOST, "evil.example")),
        (403, ask(ORIGIN, "https://evil.example")),
        (200, ask(ORIGIN, base)),
        (200, ask(HOST, "localhost:1")),
    ] {
        let (status, body) = answer_of(request).await;
        assert_eq!(status, refused, "{body}");
    }
    let page = rig.http.get(base).header(HOST, "evil.example");
    assert_eq!(answer_of(page).await.0, 403);

    let form = rig.http.post(format!("{base}/control/advance"));
    let form = form
        .header(CONTENT_TYPE, "text/plain")
        .body(r#"{"by":"P1D"}"#);
    assert_eq!(answer_of(form).await.0, 415);
    assert_eq!(rig.sandbox.now(), start_time());
}

#[tokio::test]
async fn a_refusal_says_what_was_wrong_and_what_to_do() {
    let rig = Rig::start().await;
    for (path, body, status, detail) in [
        (
            "/app-store/buy",
            json!({"customer": "a", "product_id": MONTHLY, "colour": 1}),
            422,
            "unknown field `colour`",
        ),
        (
            "/google-play/cancel",
            json!({"purchase_token": "t", "why": 1}),
            422,
            "unknown field `why`",
        ),
        (
            "/app-store/dance",
            json!({}),
            422,
            "unknown variant `dance`",
        ),
        (
            "/app-store/refund",
            json!({}),
            422,
            "missing field `transaction_id`",
        ),
        ("/app-store/refund", json!([]), 422, "not a JSON object"),
        (
            "/app-store/refund",
            json!({"transaction_id": "1"}),
            404,
            "no such purchase",
        ),
        (
            "/advance",
            json!({"by": "P1D", "to": start_time()}),
            422,
            "one of",
        ),
        (
            "/advance",
            json!({"until": "next_event"}),
            409,
            "no purchase renews",
        ),
        ("/customers", json!({"name": " "}), 422, "`name`"),
        ("/nowhere", json!({}), 404, "no endpoint"),
        ("/clock/hands", json!({}), 404, "no endpoint"),
    ] {
        let (found, problem) = rig.control(path, body).await;
        assert_eq!(
            (found, &problem["status"]),
            (status, &json!(status)),
            "{path}"
        );
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains(detail), "{path}: {said}");
        assert!(problem["next"].is_string() && problem["title"].is_string());
    }
    let url = format!(
        "{}/notifications?colour=1",
        rig.sandbox.manifest().control_url
    );
    let answer = rig.http.get(url).send().await.unwrap();
    assert_eq!(answer.status(), 422);
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
}

#[tokio::test]
async fn time_passes_to_the_next_event_in_the_background_and_not_twice_at_once() {
    let rig = Rig::start().await;
    rig.buy_apple("alice", MONTHLY).await;
    let due = rig.look("/clock").await["next_event_at"].clone();
    let (status, clock) = rig
        .control("/advance", json!({"until": "next_event"}))
        .await;
    assert_eq!((status, &clock["now"]), (200, &due));
    assert_eq!(clock["advancing"], Value::Null);

    // The server under test is slow, so the journey takes long enough to be looked at.
    rig.sandbox
        .set_idle_hook(|| Box::pin(tokio::time::sleep(Duration::from_millis(300))));
    let (status, clock) = rig
        .control("/advance", json!({"by": "P1Y", "wait": false}))
        .await;
    assert_eq!(status, 202);
    assert!(clock["advancing"]["to"].is_string());
    assert_eq!(rig.control("/advance", json!({"by": "P1D"})).await.0, 409);
    rig.control("/advance/stop", json!({})).await;
    while rig.look("/clock").await["advancing"] != Value::Null {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let year = Period::years(1).after(start_time());
    assert!(rig.sandbox.now() < year);
}

#[tokio::test]
async fn the_clock_stops_and_runs_at_any_rate_and_can_be_followed() {
    let rig = Rig::start().await;
    let clock = rig.look("/clock").await;
    assert_eq!(
        (&clock["mode"], &clock["now"]),
        (&json!("stopped"), &json!(start_time()))
    );
    let wish = json!({"mode": "scaled", "rate": 86_400});
    let (status, fast) = rig.control("/clock", wish).await;
    assert_eq!(
        (status, &fast["mode"], &fast["rate"]),
        (200, &json!("scaled"), &json!(86_400.0))
    );
    let known = clock["version"].as_u64().unwrap();
    let heard = rig.look(&format!("/clock?after={known}")).await;
    assert_eq!(heard["version"], fast["version"]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_, stopped) = rig.control("/clock", json!({"mode": "stopped"})).await;
    assert!(rig.sandbox.now() > start_time());
    assert_eq!(rig.look("/clock").await["now"], stopped["now"]);
    for wrong in [
        json!({"mode": "scaled"}),
        json!({"mode": "scaled", "rate": -1}),
        json!({"mode": "real", "rate": 2}),
        json!({"mode": "backwards"}),
    ] {
        assert_eq!(rig.control("/clock", wrong).await.0, 422);
    }
}

#[tokio::test]
async fn customers_are_named_listed_and_shown_with_what_they_have() {
    let rig = Rig::start().await;
    let (status, alice) = rig.control("/customers", json!({"name": "alice"})).await;
    assert_eq!((status, &alice["purchases"]), (201, &json!([])));
    let again = rig.look("/customers/alice").await;
    assert_eq!(again["account"], alice["account"]);
    rig.buy_apple("bob", MONTHLY).await;
    rig.buy_google("bob", "lifetime").await;
    let page = rig.look("/customers").await;
    assert_eq!(page["total"], 2);
    assert_eq!(page["customers"][0]["name"], "alice");
    assert_eq!(page["customers"][1]["purchases"], 2);
    assert_eq!(
        page["customers"][1]["entitled"],
        json!([MONTHLY, "lifetime"])
    );
    assert_eq!(rig.look("/customers?search=BO").await["total"], 1);
    let next = rig.look("/customers?after=alice&limit=1").await;
    assert_eq!(next["customers"][0]["name"], "bob");
    let bob = rig.look("/customers/bob").await;
    assert_eq!(bob["purchases"].as_array().unwrap().len(), 2);
    let charged = &bob["purchases"][0]["transactions"][0];
    assert_eq!(charged["price_micros"], 9_990_000);
    assert_eq!(bob["purchases"][0]["billing"], "works");
    let heard = rig.look("/customers/bob?notifications=1").await;
    assert_eq!(heard["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(heard["notifications"][0]["customer"], "bob");
    assert_eq!(rig.look("/customers/nobody").await["status"], 404);
    assert_eq!(
        rig.look("/truth?customer=bob")
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        rig.look("/products").await["app_store"][0]["product_id"],
        MONTHLY
    );
}

#[tokio::test]
async fn notifications_are_paged_filtered_and_opened() {
    let rig = Rig::start().await;
    let alice = rig.buy_apple("alice", MONTHLY).await;
    let bob = rig.buy_google("bob", "premium").await;
    rig.sandbox.advance(Period::months(1)).await.unwrap();
    let all = rig.look("/notifications").await;
    let all = all.as_array().unwrap();
    assert!(all.len() >= 3);
    let numbers: Vec<u64> = all.iter().map(|n| n["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b), "newest first");
    let first = rig.look("/notifications?after=0&limit=1").await;
    assert_eq!(first[0]["number"], 1);
    let oldest = rig.look("/notifications?before=1").await;
    assert_eq!(oldest[0]["number"], 0);
    for (query, customer) in [
        ("customer=bob", "bob"),
        ("source=google_play", "bob"),
        (
            &format!("purchase={}", alice.original_transaction_id),
            "alice",
        ),
        (
            &format!("purchase={}&state=delivered", bob.purchase_token),
            "bob",
        ),
    ] {
        let found = rig.look(&format!("/notifications?{query}")).await;
        let found = found.as_array().unwrap();
        assert!(!found.is_empty(), "{query}");
        assert!(found.iter().all(|n| n["customer"] == customer), "{query}");
    }
    let id = oldest[0]["id"].as_str().unwrap();
    let shown = rig.look(&format!("/notifications/{id}")).await;
    assert_eq!(shown["attempts"][0]["status"], 200);
    let opened = &shown["decoded"]["signedPayload"]["payload"];
    assert_eq!(opened["notificationType"], "SUBSCRIBED");
    let transaction = &opened["data"]["signedTransactionInfo"]["payload"];
    assert_eq!(transaction["productId"], MONTHLY);
    assert!(shown["body"].as_str().unwrap().contains("signedPayload"));
}

#[tokio::test]
async fn the_network_sins_when_told_to_and_calls_are_remembered() {
    let rig = Rig::start().await;
    let sins = json!({"deliveries": {"duplicate": 0.5}, "calls": {"stale": 0.1}});
    assert_eq!(rig.control("/sins", sins).await.0, 204);
    let kept = rig.look("/sins").await;
    assert_eq!(kept["deliveries"]["duplicate"], 0.5);
    assert_eq!(kept["calls"]["stale"], 0.1);
    for wrong in [
        json!({"deliveries": {"duplicate": 2}}),
        json!({"deliveries": {"lost": 1}}),
    ] {
        assert_eq!(rig.control("/sins", wrong).await.0, 422);
    }
    assert_eq!(rig.control("/sins", json!({})).await.0, 204);
    assert_eq!(rig.look("/sins").await["deliveries"]["duplicate"], 0.0);

    let next = json!({"source": "app_store", "suffer": {"sin": "drop"}});
    assert_eq!(rig.control("/sins/deliveries", next).await.0, 204);
    rig.buy_apple("alice", MONTHLY).await;
    let told = rig.look("/notifications").await;
    assert_eq!(told[0]["sins"][0]["sin"], "drop");
    assert_ne!(told[0]["state"], "delivered");
    assert_eq!(rig.control("/notifications/flush", json!({})).await.0, 204);

    let next = json!({"store": "app_store", "suffer": {"sin": "rate_limited"}});
    assert_eq!(rig.control("/sins/calls", next).await.0, 204);
    assert_eq!(rig.apple("/inApps/v1/transactions/1").await.0, 429);
    assert_eq!(rig.apple("/inApps/v1/transactions/1").await.0, 404);
    let calls = rig.look("/calls").await;
    assert_eq!(calls["recent"][0]["status"], 404);
    assert_eq!(calls["recent"][1]["status"], 429);
    assert_eq!(
        calls["recent"][0]["path"],
        "/apple/inApps/v1/transactions/1"
    );

    let outage = json!({"store": "google_play", "outage": "timeout"});
    assert_eq!(rig.control("/outage", outage).await.0, 204);
    assert_eq!(rig.look("/outage").await, json!({"google_play": "timeout"}));
}

#[tokio::test]
async fn watchers_hear_of_clock_and_notifications_as_they_change() {
    let rig = Rig::start().await;
    let url = format!("{}/events", rig.sandbox.manifest().control_url);
    let mut events = rig.http.get(url).send().await.unwrap();
    let heard = events.chunk().await.unwrap().unwrap();
    assert!(heard.starts_with(b"event: changed\ndata: "));
    rig.buy_apple("alice", MONTHLY).await;
    let mut heard = String::new();
    while !heard.contains("\"delivered\"") {
        let chunk = tokio::time::timeout(Duration::from_secs(5), events.chunk()).await;
        heard += std::str::from_utf8(&chunk.unwrap().unwrap().unwrap()).unwrap();
    }
    assert!(heard.contains("\"SUBSCRIBED\"") && heard.contains("\"alice\""));
    rig.sandbox.shutdown().await;
}

#[tokio::test]
async fn the_page_is_served_with_a_policy_that_lets_nothing_foreign_in() {
    let rig = Rig::start().await;
    let base = rig.sandbox.base_url();
    let page = rig.http.get(base).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert_eq!(page.headers()["x-frame-options"], "DENY");
    let html = page.text().await.unwrap();
    for file in html.split('"').filter(|text| text.starts_with("/page/")) {
        let found = rig.http.get(format!("{base}{file}")).send().await.unwrap();
        assert_eq!(found.status(), 200, "{file}");
        assert_eq!(found.headers()["x-content-type-options"], "nosniff");
    }
    let moved = rig
        .http
        .get(format!("{base}/control"))
        .send()
        .await
        .unwrap();
    assert_eq!(moved.url().path(), "/");
    let missing = rig.http.get(format!("{base}/page/mod.rs"));
    assert_eq!(missing.send().await.unwrap().status(), 404);
}
