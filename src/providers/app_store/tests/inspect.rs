//! What `inspect` says of right and wrong documents.

use serde_json::json;

use super::support::{
    BUNDLE, DEVELOPER_OID, NOW_MS, Profile, Signer, catalog, now, renewal, transaction, with,
};
use crate::providers::app_store::inspect;
use crate::providers::app_store::verify::inspect::Report;

fn faults(report: &Report) -> Vec<(&str, &str)> {
    report
        .lines
        .iter()
        .filter(|line| !line.ok)
        .map(|line| (line.part, line.step))
        .collect()
}

#[test]
fn a_genuine_notification_is_right_in_every_step() {
    let signer = Signer::genuine();
    let payload = json!({
        "notificationType": "DID_RENEW", "notificationUUID": "u", "signedDate": NOW_MS,
        "data": {
            "environment": "Production", "bundleId": BUNDLE, "appAppleId": 1_234_567_890,
            "signedTransactionInfo": signer.sign(&transaction()),
            "signedRenewalInfo": signer.sign(&renewal()),
        },
    });
    let look = |payload: &serde_json::Value| {
        let jws = signer.sign(payload);
        inspect(&jws, &signer.roots(), Some(&catalog()), now())
    };
    let of_another = |field: &str, value: serde_json::Value| {
        let mut other = payload.clone();
        other["data"][field] = value;
        look(&other)
    };
    assert_eq!(
        faults(&of_another("appAppleId", json!(7))),
        [("document", "app")]
    );
    let foreign = of_another("bundleId", json!("com.example.evil"));
    assert!(faults(&foreign).contains(&("document", "app")));
    let report = look(&payload);
    assert_eq!(faults(&report), []);
    assert!(report.is_genuine());
    assert!(
        report
            .lines
            .iter()
            .any(|line| line.part == "signedRenewalInfo")
    );
    assert_eq!(report.payload.unwrap()["notificationType"], "DID_RENEW");
}

#[test]
fn every_fault_is_named_at_its_step() {
    let signer = Signer::genuine();
    let developer = Signer::shaped(
        &Profile::intermediate(),
        &Profile {
            marker: Some(DEVELOPER_OID),
            ..Profile::leaf()
        },
    );
    let none = with(signer.header(), json!({"alg": "none", "jwk": {}}));
    let cases = [
        (String::new(), vec![("document", "form")]),
        (
            signer.sign_header(&none, &transaction()),
            vec![("document", "alg"), ("document", "header names")],
        ),
        (
            Signer::genuine().sign(&transaction()),
            vec![("document", "chain")],
        ),
        (
            signer.sign(&with(
                transaction(),
                json!({"signedDate": NOW_MS + 600_000}),
            )),
            vec![("document", "signedDate is past")],
        ),
        (
            signer.sign(&with(transaction(), json!({"environment": "Xcode"}))),
            vec![("document", "environment")],
        ),
        (
            signer.sign(&with(transaction(), json!({"bundleId": "com.stranger"}))),
            vec![("document", "app")],
        ),
        (
            signer.sign(&json!({"signedDate": NOW_MS})),
            vec![("document", "contents")],
        ),
    ];
    for (jws, expected) in cases {
        let report = inspect(&jws, &signer.roots(), Some(&catalog()), now());
        assert_eq!(faults(&report), expected);
        assert!(!report.is_genuine());
    }
    let report = inspect(
        &developer.sign(&transaction()),
        &developer.roots(),
        None,
        now(),
    );
    assert!(faults(&report).contains(&("document", "leaf")));
    assert!(
        report
            .lines
            .iter()
            .any(|line| line.explanation.contains("1.2.840.113635.100.6.11.1"))
    );
}
