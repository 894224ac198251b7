//! Answers about nothing, or about something else, make no state; old ones make the same again.

use serde_json::{Value, json};

use super::super::support::{DAY_MS, NOW_MS, Signer, at, catalog, now, renewal, transaction, with};
use super::{ID, answer, head, history, read, row, state, statuses};
use crate::domain::provider::Environment;
use crate::domain::reconcile::Answer;
use crate::providers::contract::{FetchError, Store};

#[test]
fn what_no_environment_knows_is_not_found() {
    let signer = Signer::genuine();
    let error = json!({"errorCode": 4_040_010});
    let missing = |call: &str| answer(call, 404, &error);
    let nowhere = [
        missing("production/subscriptions"),
        missing("production/transaction"),
        missing("sandbox/subscriptions"),
        missing("sandbox/transaction"),
    ];
    assert!(matches!(read(&signer, &nowhere), Ok(Answer::NotFound)));
    assert!(matches!(read(&signer, &[]), Err(FetchError::Unreadable(_))));
    assert!(matches!(
        read(&signer, &nowhere[..1]),
        Err(FetchError::Unreadable(_))
    ));

    let sandbox = with(
        transaction(),
        json!({"environment": "Sandbox", "type": "Non-Consumable"}),
    );
    let mut answers = nowhere.to_vec();
    answers[3] = answer(
        "sandbox/transaction",
        200,
        &json!({"signedTransactionInfo": signer.sign(&sandbox)}),
    );
    assert_eq!(state(&signer, &answers).environment, Environment::Sandbox);
}

#[test]
fn answers_of_other_purchases_apps_and_worlds_are_not_taken() {
    let signer = Signer::genuine();
    let other = Signer::genuine();
    let good = || row(&signer, 1, &transaction(), &renewal());
    let row_with = |t: Value, r: Value| {
        let mut row = row(&signer, 1, &with(transaction(), t), &with(renewal(), r));
        row["originalTransactionId"] = json!(ID);
        statuses(&[row])
    };
    let envelope = |changes: Value| {
        let body: Value = serde_json::from_slice(&statuses(&[good()]).body).unwrap();
        answer("production/subscriptions", 200, &with(body, changes))
    };
    let single = |changes: Value| {
        let jws = signer.sign(&with(transaction(), changes));
        answer(
            "production/transaction",
            200,
            &json!({"signedTransactionInfo": jws}),
        )
    };
    let later = NOW_MS + 6 * 60_000;
    let bad = [
        vec![row_with(json!({"originalTransactionId": "9"}), json!({}))],
        vec![row_with(json!({}), json!({"originalTransactionId": "9"}))],
        vec![row_with(
            json!({"bundleId": "com.example.other"}),
            json!({}),
        )],
        vec![row_with(json!({"bundleId": "com.stranger"}), json!({}))],
        vec![row_with(json!({"environment": "Sandbox"}), json!({}))],
        vec![row_with(json!({"environment": "Xcode"}), json!({}))],
        vec![row_with(json!({}), json!({"environment": "Sandbox"}))],
        vec![row_with(json!({"signedDate": later}), json!({}))],
        vec![row_with(json!({}), json!({"signedDate": later}))],
        vec![statuses(&[row(&other, 1, &transaction(), &renewal())])],
        vec![statuses(&[with(
            good(),
            json!({"signedRenewalInfo": other.sign(&renewal())}),
        )])],
        vec![statuses(&[with(
            good(),
            json!({"signedTransactionInfo": "a.b.c"}),
        )])],
        vec![statuses(&[with(
            good(),
            json!({"signedTransactionInfo": signer.sign(&renewal())}),
        )])],
        vec![envelope(json!({"bundleId": "com.example.other"}))],
        vec![envelope(json!({"environment": "Sandbox"}))],
        vec![envelope(json!({"environment": "LocalTesting"}))],
        vec![envelope(json!({"appAppleId": 1}))],
        vec![envelope(json!({"appAppleId": null}))],
        vec![answer("production/subscriptions", 200, &json!([]))],
        vec![statuses(&[good()]), history(&other, &[transaction()])],
        vec![
            statuses(&[good()]),
            history(
                &signer,
                &[with(transaction(), json!({"bundleId": "com.stranger"}))],
            ),
        ],
        vec![single(json!({"originalTransactionId": "9"}))],
        vec![single(json!({"bundleId": "com.example.other"}))],
        vec![single(json!({"environment": "Sandbox"}))],
        vec![answer("production/transaction", 200, &json!({}))],
        vec![answer("elsewhere/transaction", 404, &json!({}))],
    ];
    for (n, answers) in bad.iter().enumerate() {
        assert!(
            matches!(read(&signer, answers), Err(FetchError::Unreadable(_))),
            "case {n}"
        );
    }
    assert!(read(&signer, &[statuses(&[good()])]).is_ok());
}

#[test]
fn stored_answers_read_the_same_after_the_leaf_has_expired() {
    let signer = Signer::genuine();
    let answers = [statuses(&[row(&signer, 1, &transaction(), &renewal())])];
    let store = signer.store("http://127.0.0.1:9");
    let years_later = at(NOW_MS + 3000 * DAY_MS);
    let then = store
        .normalize(&head(), &answers, &catalog(), years_later)
        .unwrap();
    assert_eq!(
        then,
        store
            .normalize(&head(), &answers, &catalog(), now())
            .unwrap()
    );
}
