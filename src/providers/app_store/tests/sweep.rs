//! The notification history: pages of what was sent, believed by their signatures alone.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::support::{Loopback, NOW_MS, Reply, Signer, catalog, now, ok, refusal};
use crate::domain::chain::AppId;
use crate::domain::provider::Environment;
use crate::providers::contract::{FetchError, Store, SweepPage, SweepRequest};

async fn sweep(
    signer: &Signer,
    reply: Reply,
    days: i64,
    only_failures: bool,
    cursor: Option<&str>,
) -> (Result<SweepPage, FetchError>, Vec<(String, Value)>) {
    let server = Loopback::start(move |_| reply.clone()).await;
    let catalog = catalog();
    let request = SweepRequest {
        app: catalog.app(&AppId("example-ios".into())).unwrap(),
        environment: Environment::Sandbox,
        since: now() - TimeDelta::days(days),
        until: now(),
        only_failures,
        cursor,
    };
    let page = signer.store(&server.base).sweep(request).await;
    let bodies = server.said.lock().unwrap().clone();
    let calls = server.paths().into_iter().zip(bodies);
    (page, calls.map(|(path, (_, body))| (path, body)).collect())
}

#[tokio::test]
async fn a_page_is_found_as_it_would_have_been_delivered() {
    let signer = Signer::genuine();
    let stranger = Signer::genuine();
    let payload = |uuid: &str| json!({"notificationType": "TEST", "notificationUUID": uuid, "signedDate": NOW_MS});
    let one = signer.sign(&payload("a"));
    let history = json!({
        "paginationToken": "t&2", "hasMore": true,
        "notificationHistory": [
            {"signedPayload": one, "sendAttempts": [{"sendAttemptResult": "TIMED_OUT"}]},
            {"signedPayload": stranger.sign(&payload("b"))},
            {"signedPayload": "nothing"},
        ],
    });
    let (page, calls) = sweep(&signer, ok(history), 7, true, None).await;
    let page = page.unwrap();
    assert_eq!(page.next.as_deref(), Some("t&2"));
    let [found] = &page.found[..] else {
        panic!("one is genuine: {:?}", page.found)
    };
    assert_eq!(found.event_id, "a");
    let body: Value = serde_json::from_slice(&found.body).unwrap();
    assert_eq!(body, json!({"signedPayload": one}));
    let asked = json!({
        "startDate": NOW_MS - 7 * 86_400_000, "endDate": NOW_MS, "onlyFailures": true,
    });
    let path = "/sandbox/inApps/v1/notifications/history".to_owned();
    assert_eq!(calls, [(path, asked)]);

    let last = json!({"paginationToken": "t3", "hasMore": false, "notificationHistory": []});
    let (page, calls) = sweep(&signer, ok(last), 400, false, Some("t&2")).await;
    assert_eq!(page.unwrap().next, None);
    assert_eq!(
        calls[0].0,
        "/sandbox/inApps/v1/notifications/history?paginationToken=t%262"
    );
    // No further back than the sandbox remembers.
    let asked = json!({"startDate": NOW_MS - (30 * 24 - 1) * 3_600_000, "endDate": NOW_MS});
    assert_eq!(calls[0].1, asked);
}

#[tokio::test]
async fn a_page_that_cannot_be_had_is_told_apart() {
    let signer = Signer::genuine();
    for code in [4_000_014, 4_000_017, 4_000_012] {
        let (page, _) = sweep(&signer, refusal(code), 1, true, Some("old")).await;
        assert!(matches!(page, Err(FetchError::Refused(_))), "{code}");
    }
    let (page, _) = sweep(&signer, refusal(5_000_000), 1, true, None).await;
    assert!(matches!(page, Err(FetchError::Away { .. })));
    let (page, _) = sweep(&signer, ok(json!([])), 1, true, None).await;
    assert!(matches!(page, Err(FetchError::Unreadable(_))));
    let (page, calls) = sweep(&signer, ok(json!({})), 0, true, None).await;
    assert!(page.unwrap().found.is_empty() && calls.is_empty());
}
