//! Server notifications: who sent them, and where they point.

use http::HeaderMap;
use serde_json::{Value, json};

use super::support::{
    APP_APPLE_ID, BUNDLE, NOW_MS, Signer, at, catalog, now, renewal, transaction, with,
};
use crate::config::app_store::AppStoreEnvironment;
use crate::domain::subscription::store_state::Evidence;
use crate::providers::app_store::AppStore;
use crate::providers::app_store::notification::meaning::ROWS;
use crate::providers::contract::{Authentic, Delivery, Meaning, Reading, Rejection, Store};

fn notification(signer: &Signer, transaction: &Value, renewal: &Value) -> Value {
    json!({
        "notificationType": "DID_RENEW", "subtype": "BILLING_RECOVERY", "version": "2.0",
        "notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20", "signedDate": NOW_MS,
        "data": {
            "environment": transaction["environment"], "bundleId": BUNDLE,
            "appAppleId": APP_APPLE_ID, "bundleVersion": "1", "status": 1,
            "signedTransactionInfo": signer.sign(transaction),
            "signedRenewalInfo": signer.sign(renewal),
        },
    })
}

fn body(signer: &Signer, payload: &Value) -> Vec<u8> {
    json!({"signedPayload": signer.sign(payload)})
        .to_string()
        .into_bytes()
}

async fn authenticate(store: &AppStore, body: &[u8]) -> Result<Authentic, Rejection> {
    let headers = HeaderMap::new();
    store
        .authenticate(Delivery {
            headers: &headers,
            body,
            now: now(),
        })
        .await
}

fn genuine(signer: &Signer) -> Value {
    notification(signer, &transaction(), &renewal())
}

#[tokio::test]
async fn an_authentic_notification_points_to_its_chain() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    let body = body(&signer, &genuine(&signer));
    let authentic = authenticate(&store, &body).await.unwrap();
    assert_eq!(authentic.event_id, "002e14d5-51f5-4503-b5a8-c3a1af68eb20");
    let Reading::Chain(signal) = store.read(&body, &catalog()) else {
        panic!("a chain")
    };
    assert_eq!(signal.kind, "DID_RENEW/BILLING_RECOVERY");
    assert_eq!(signal.alias.value, "2000000000000001");
    assert_eq!(signal.alias.app.0, "example-ios");
    assert_eq!(signal.occurred_at, Some(at(NOW_MS)));
    assert!(signal.evidence.is_empty());
}

#[tokio::test]
async fn what_apple_did_not_sign_as_a_notification_is_forged() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    let good = genuine(&signer);
    let signed = signer.sign(&good);
    let mut late = body(&signer, &good);
    late.resize(256 * 1024 + 1, b' ');
    let bodies = [
        body(&Signer::genuine(), &good),
        body(&signer, &transaction()),
        body(
            &signer,
            &with(good.clone(), json!({"notificationUUID": null})),
        ),
        body(&signer, &with(good.clone(), json!({"notificationUUID": 7}))),
        body(
            &signer,
            &with(good.clone(), json!({"signedDate": NOW_MS + 301_000})),
        ),
        body(&signer, &with(good.clone(), json!({"signedDate": null}))),
        signed.clone().into_bytes(),
        json!({"signedpayload": signed}).to_string().into_bytes(),
        json!({"signedPayload": [signed]}).to_string().into_bytes(),
        format!(r#"{{"signedPayload":"x","signedPayload":"{signed}"}}"#).into_bytes(),
        good.to_string().into_bytes(),
        b"\xff\xfe".to_vec(),
        Vec::new(),
        late,
    ];
    for (n, body) in bodies.iter().enumerate() {
        let result = authenticate(&store, body).await;
        assert!(matches!(result, Err(Rejection::Forged(_))), "case {n}");
    }
}

/// Apple would send it five times and then no more: what it has signed is kept, whatever it is.
#[tokio::test]
async fn what_apple_has_signed_is_authentic_though_nobody_can_read_it() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    for change in [
        json!({"notificationType": null}),
        json!({"notificationType": ["DID_RENEW"]}),
        json!({"subtype": {"of": "tomorrow"}}),
        json!({"data": []}),
        json!({"data": {"bundleId": [BUNDLE], "environment": "Production"}}),
        json!({"data": {"bundleId": BUNDLE, "environment": 1}}),
        json!({"data": {"bundleId": BUNDLE, "environment": "Production", "appAppleId": "1"}}),
    ] {
        let odd = with(genuine(&signer), change.clone());
        let body = body(&signer, &odd);
        assert!(authenticate(&store, &body).await.is_ok(), "{change}");
        assert!(
            matches!(reading(&signer, &odd), Reading::Unreadable { .. }),
            "{change}"
        );
    }
}

#[tokio::test]
async fn what_apple_signed_is_kept_whatever_shape_it_has() {
    let signer = Signer::genuine();
    let store = signer.store("http://127.0.0.1:9");
    let data = |changes: Value| {
        let payload = genuine(&signer);
        let data = with(payload["data"].clone(), changes);
        with(payload, json!({"data": data}))
    };
    let shapes = [
        data(json!({"signedTransactionInfo": 7})),
        data(json!({"signedTransactionInfo": {"transactionId": "1"}})),
        data(json!({"signedTransactionInfo": "not signed"})),
        data(json!({"signedRenewalInfo": [signer.sign(&renewal())]})),
        data(json!({"signedRenewalInfo": ""})),
        data(json!({"bundleId": null, "environment": 1, "appAppleId": "1"})),
        with(genuine(&signer), json!({"data": [1], "subtype": {}})),
    ];
    for (n, payload) in shapes.iter().enumerate() {
        let body = body(&signer, payload);
        let authentic = authenticate(&store, &body).await;
        let authentic = authentic.unwrap_or_else(|error| panic!("case {n}: {error}"));
        assert_eq!(authentic.event_id, "002e14d5-51f5-4503-b5a8-c3a1af68eb20");
        let read = store.read(&body, &catalog());
        assert!(
            matches!(read, Reading::Unreadable { .. }),
            "case {n}: {read:?}"
        );
    }
}

fn reading(signer: &Signer, payload: &Value) -> Reading {
    signer
        .store("http://127.0.0.1:9")
        .read(&body(signer, payload), &catalog())
}

#[test]
fn what_is_about_no_purchase_is_ignored() {
    let signer = Signer::genuine();
    let base = || with(genuine(&signer), json!({"data": null, "subtype": null}));
    let data = json!({"bundleId": BUNDLE, "environment": "Sandbox"});
    let cases = [
        json!({"notificationType": "TEST", "data": data}),
        json!({"notificationType": "RENEWAL_EXTENSION", "subtype": "SUMMARY", "summary": {"a": 1}}),
        json!({"notificationType": "EXTERNAL_PURCHASE_TOKEN", "externalPurchaseToken": {}}),
        json!({"notificationType": "RESCIND_CONSENT", "appData": {"bundleId": BUNDLE}}),
    ];
    for changes in cases {
        let reading = reading(&signer, &with(base(), changes.clone()));
        assert!(
            matches!(reading, Reading::Ignored { .. }),
            "{changes}: {reading:?}"
        );
    }
    let store = signer.store_for("http://127.0.0.1:9", &[AppStoreEnvironment::Production]);
    let sandbox = json!({"environment": "Sandbox"});
    let payload = notification(
        &signer,
        &with(transaction(), sandbox.clone()),
        &with(renewal(), sandbox),
    );
    let reading = store.read(&body(&signer, &payload), &catalog());
    assert!(matches!(reading, Reading::Ignored { .. }));
}

/// What Apple puts into a notification of a type, beside the envelope.
fn as_apple_sends(signer: &Signer, kind: &str, subtype: Option<&str>) -> Value {
    let changes = json!({"notificationType": kind, "subtype": subtype});
    let payload = with(genuine(signer), changes);
    let part = match (kind, subtype) {
        ("TEST", _) => json!({"data": {"bundleId": BUNDLE, "environment": "Sandbox"}}),
        ("RENEWAL_EXTENSION", Some("SUMMARY")) => json!({"data": null, "summary": {"a": 1}}),
        ("EXTERNAL_PURCHASE_TOKEN", _) => json!({"data": null, "externalPurchaseToken": {}}),
        ("RESCIND_CONSENT", _) => json!({"data": null, "appData": {"bundleId": BUNDLE}}),
        _ => return payload,
    };
    with(payload, part)
}

#[test]
fn every_type_and_subtype_is_read_by_its_row() {
    let signer = Signer::genuine();
    for row in ROWS {
        let name = match row.subtype {
            Some(subtype) => format!("{}/{subtype}", row.kind),
            None => row.kind.to_owned(),
        };
        let payload = as_apple_sends(&signer, row.kind, row.subtype);
        match reading(&signer, &payload) {
            Reading::Chain(signal) => {
                assert_eq!((&signal.kind, signal.meaning), (&name, row.meaning));
                let asks = row.meaning == Meaning::Asks;
                assert_eq!(signal.evidence.len(), usize::from(asks), "{name}");
                assert_eq!(signal.alias.value, "2000000000000001");
            }
            Reading::Ignored { kind, reason } => {
                assert_eq!((kind.as_str(), reason), (name.as_str(), row.told));
                assert!(payload["data"]["signedTransactionInfo"].is_null(), "{name}");
            }
            other @ (Reading::Hint(_)
            | Reading::Unsupported { .. }
            | Reading::Unreadable { .. }) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_this_version_does_not_know_is_kept_and_decides_nothing() {
    let signer = Signer::genuine();
    for (kind, subtype) in [
        ("A_TYPE_OF_TOMORROW", None),
        ("DID_RENEW", Some("EARLY")),
        ("SUBSCRIBED", None),
    ] {
        let payload = as_apple_sends(&signer, kind, subtype);
        let payload = with(payload, json!({"somethingNew": {"a": [1]}}));
        let Reading::Chain(signal) = reading(&signer, &payload) else {
            panic!("{kind} names a purchase: the store is asked")
        };
        assert_eq!(
            (signal.meaning, signal.evidence),
            (Meaning::Unknown, Vec::new())
        );
    }
    // About no purchase, in a known or an unknown frame.
    let about = |changes: Value| {
        let base = json!({"notificationType": "NEW", "subtype": null, "data": null});
        reading(&signer, &with(with(genuine(&signer), base), changes))
    };
    let known_frame = about(json!({"appData": {"bundleId": BUNDLE}}));
    assert!(matches!(known_frame, Reading::Ignored { .. }));
    let unknown_frame = about(json!({"suiteData": {"bundleId": BUNDLE}}));
    assert!(matches!(unknown_frame, Reading::Unreadable { .. }));
    // An environment of tomorrow, and those that nobody signs for.
    for environment in ["Xcode", "LocalTesting", "Preview"] {
        let there = json!({"environment": environment});
        let payload = notification(
            &signer,
            &with(transaction(), there.clone()),
            &with(renewal(), there),
        );
        let read = reading(&signer, &payload);
        assert!(matches!(read, Reading::Ignored { .. }), "{environment}");
    }
}

#[test]
fn a_question_about_consumption_is_evidence_of_its_transaction() {
    let signer = Signer::genuine();
    let older = with(transaction(), json!({"transactionId": "2000000000000000"}));
    let payload = notification(&signer, &older, &renewal());
    let data = with(
        payload["data"].clone(),
        json!({"consumptionRequestReason": "UNINTENDED_PURCHASE"}),
    );
    let asks = json!({"notificationType": "CONSUMPTION_REQUEST", "subtype": null, "data": data});
    let Reading::Chain(signal) = reading(&signer, &with(payload, asks)) else {
        panic!("a chain")
    };
    assert_eq!(
        signal.evidence,
        [Evidence::RefundRequest {
            transaction_id: "2000000000000000".into(),
            at: at(NOW_MS),
            reason: "UNINTENDED_PURCHASE".into(),
            token: None,
        }]
    );
}

#[test]
fn a_splice_points_nowhere() {
    let signer = Signer::genuine();
    let other = Signer::genuine();
    let spliced =
        |t: Value, r: Value| notification(&signer, &with(transaction(), t), &with(renewal(), r));
    let data = |changes: Value| {
        let payload = genuine(&signer);
        let data = with(payload["data"].clone(), changes);
        with(payload, json!({"data": data}))
    };
    let cases = [
        spliced(json!({"bundleId": "com.example.other"}), json!({})),
        spliced(json!({"originalTransactionId": "9"}), json!({})),
        spliced(json!({}), json!({"originalTransactionId": "9"})),
        spliced(json!({}), json!({"environment": "Sandbox"})),
        spliced(json!({"signedDate": NOW_MS + 301_000}), json!({})),
        data(json!({"environment": "Sandbox"})),
        data(json!({"bundleId": "com.stranger"})),
        data(json!({"bundleId": "com.example.other"})),
        data(json!({"appAppleId": 1})),
        data(json!({"appAppleId": null})),
        data(json!({"signedTransactionInfo": other.sign(&transaction())})),
        data(json!({"signedRenewalInfo": other.sign(&renewal())})),
        data(json!({"signedTransactionInfo": signer.sign(&renewal())})),
        data(json!({"signedTransactionInfo": "a.b.c"})),
        data(json!({"signedTransactionInfo": null})),
        with(genuine(&signer), json!({"data": null})),
    ];
    for (n, payload) in cases.iter().enumerate() {
        let reading = reading(&signer, payload);
        assert!(
            matches!(reading, Reading::Unreadable { .. }),
            "case {n}: {reading:?}"
        );
    }
}
