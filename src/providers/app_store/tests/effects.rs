//! Duties and commands: what Apple is told, in its words, and what each of its answers means.

use http::Method;
use serde_json::{Value, json};

use super::support::{
    Loopback, NOW_MS, Reply, Signer, catalog, now, ok, refusal, transaction, with,
};
use crate::domain::chain::AppId;
use crate::domain::duty::Duty;
use crate::domain::provider::Environment;
use crate::domain::refund_defence::{Delivery, Preference, RefundAnswer};
use crate::domain::subscription::store_state::StoreState;
use crate::providers::app_store::{binding, normalize, wire};
use crate::providers::contract::{Command, CommandError, Effect, FetchError, Store};

const ID: &str = "2000000000000001";

fn known(signer: &Signer, changes: Value) -> StoreState {
    let signed = signer.sign(&with(transaction(), changes));
    let document = signer
        .verifier()
        .verify::<wire::Transaction>(&signed, now())
        .unwrap();
    let head = binding::alias(AppId("example-ios".into()), ID.into());
    normalize::alone(head, Environment::Production, document, now())
}

fn answer() -> RefundAnswer {
    RefundAnswer {
        sample_content_provided: true,
        delivery: Delivery::Delivered,
        consumption_millipercent: Some(40_000),
        preference: Preference::Decline,
    }
}

async fn perform(
    reply: Reply,
    changes: Value,
    duty: Duty,
    answer: Option<&RefundAnswer>,
) -> (Result<(), FetchError>, Vec<(Method, String, Value)>) {
    let signer = Signer::genuine();
    let server = Loopback::start(move |_| reply.clone()).await;
    let state = known(&signer, changes);
    let effect = Effect {
        state: &state,
        transaction_id: ID,
        duty: &duty,
        answer,
    };
    let store = signer.store(&server.base);
    let result = store.perform(effect, &catalog()).await;
    let said = server.said.lock().unwrap().clone();
    let calls = said.into_iter().zip(server.paths());
    let calls = calls.map(|((method, body), path)| (method, path, body));
    (result, calls.collect())
}

#[tokio::test]
async fn what_is_delivered_is_finished() {
    let reply = (200, Vec::new(), Value::Null);
    let (result, calls) = perform(reply, json!({}), Duty::Finish, None).await;
    result.unwrap();
    let path = "/production/inApps/v1/transactions/2000000000000001/finish";
    assert_eq!(calls, [(Method::POST, path.to_owned(), Value::Null)]);
}

#[tokio::test]
async fn the_owners_token_is_put_into_apples_record() {
    let token = "0f0e0d0c-0b0a-4908-8706-050403020100";
    let duty = || Duty::SetAccountToken {
        account_token: token.to_owned(),
    };
    let (result, calls) = perform(ok(Value::Null), json!({}), duty(), None).await;
    result.unwrap();
    let path = "/production/inApps/v1/transactions/2000000000000001/appAccountToken";
    let body = json!({"appAccountToken": token});
    assert_eq!(calls, [(Method::PUT, path.to_owned(), body)]);
    // Nothing is left to do where Apple cannot keep it; everything else is tried again.
    for code in [4_000_183, 4_000_185, 4_000_187, 4_040_005, 4_040_010] {
        let (result, _) = perform(refusal(code), json!({}), duty(), None).await;
        assert!(result.is_ok(), "{code}");
    }
    for code in [4_000_000, 4_030_000, 4_040_003] {
        let (result, _) = perform(refusal(code), json!({}), duty(), None).await;
        assert!(matches!(result, Err(FetchError::Refused(_))), "{code}");
    }
    for code in [5_000_000, 4_290_000, 4_040_006] {
        let (result, _) = perform(refusal(code), json!({}), duty(), None).await;
        assert!(matches!(result, Err(FetchError::Away { .. })), "{code}");
    }
}

#[tokio::test]
async fn consumption_is_told_as_version_2_wants_it() {
    let told = async |kind: &str, answer: RefundAnswer| {
        let reply = (202, Vec::new(), Value::Null);
        let duty = Duty::AnswerConsumptionRequest;
        let (result, mut calls) = perform(reply, json!({"type": kind}), duty, Some(&answer)).await;
        result.unwrap();
        let (method, path, body) = calls.remove(0);
        assert_eq!(method, Method::PUT);
        assert_eq!(
            path,
            "/production/inApps/v2/transactions/consumption/2000000000000001"
        );
        body
    };
    let base = json!({
        "customerConsented": true, "sampleContentProvided": true, "deliveryStatus": "DELIVERED",
        "consumptionPercentage": 40_000, "refundPreference": "DECLINE",
    });
    assert_eq!(told("Consumable", answer()).await, base);
    // 4000209: no share of what renews.
    let renewable = told("Auto-Renewable Subscription", answer()).await;
    assert_eq!(
        renewable,
        with(base.clone(), json!({"consumptionPercentage": null}))
    );
    let undelivered = RefundAnswer {
        delivery: Delivery::ServerOutage,
        preference: Preference::GrantProrated,
        ..answer()
    };
    let changes = json!({
        "deliveryStatus": "UNDELIVERED_SERVER_OUTAGE", "consumptionPercentage": 0,
        "refundPreference": "GRANT_PRORATED",
    });
    assert_eq!(
        told("Non-Consumable", undelivered).await,
        with(base.clone(), changes)
    );
    let neutral = RefundAnswer {
        consumption_millipercent: None,
        preference: Preference::Neutral,
        ..answer()
    };
    assert_eq!(
        told("Consumable", neutral).await,
        with(
            base,
            json!({"consumptionPercentage": null, "refundPreference": null})
        )
    );
}

#[tokio::test]
async fn nothing_is_said_without_an_answer_or_where_nothing_is_to_be_said() {
    let without = Duty::AnswerConsumptionRequest;
    let (result, calls) = perform(ok(Value::Null), json!({}), without, None).await;
    assert!(matches!(result, Err(FetchError::Refused(_))) && calls.is_empty());
    for duty in [
        Duty::Consume,
        Duty::Acknowledge {
            account_token: None,
        },
    ] {
        let (result, calls) = perform(ok(Value::Null), json!({}), duty, None).await;
        assert!(result.is_ok() && calls.is_empty());
    }
}

async fn command(
    reply: Reply,
    command: Command,
) -> (Result<String, CommandError>, Vec<(Method, Value)>) {
    let signer = Signer::genuine();
    let server = Loopback::start(move |_| reply.clone()).await;
    let state = known(&signer, json!({}));
    let store = signer.store(&server.base);
    let result = store.command(&state, &command, &catalog()).await;
    let said = server.said.lock().unwrap().clone();
    (result, said)
}

fn extend(days: u32) -> Command {
    Command::Extend {
        days,
        request_id: "outage-7".into(),
    }
}

#[tokio::test]
async fn time_is_given_once_and_its_end_is_told() {
    let done = ok(json!({
        "originalTransactionId": ID, "webOrderLineItemId": "1", "success": true,
        "effectiveDate": NOW_MS,
    }));
    let (result, said) = command(done, extend(90)).await;
    assert_eq!(result.unwrap(), "renews on 2026-09-21 14:13:20 UTC now");
    let body = json!({
        "extendByDays": 90, "extendReasonCode": 1, "requestIdentifier": "outage-7",
    });
    assert_eq!(said, [(Method::PUT, body)]);
    for (reply, expected) in [
        (refusal(4_030_004), "not in a paid period"),
        (refusal(4_030_005), "twice within a year"),
        (refusal(4_030_007), "its purchaser's"),
        (refusal(4_040_010), "4040010"),
        (ok(json!({"success": false})), "did not say why"),
    ] {
        let (result, _) = command(reply, extend(1)).await;
        let Err(CommandError::Declined(why)) = result else {
            panic!("{expected}")
        };
        assert!(why.contains(expected), "{why}");
    }
    // Whether it was done is not known: it is not said twice.
    let (result, said) = command(refusal(5_000_001), extend(1)).await;
    assert!(matches!(
        result,
        Err(CommandError::Store(FetchError::Away { .. }))
    ));
    assert_eq!(said.len(), 1);
    for days in [0, 91] {
        let (result, said) = command(ok(Value::Null), extend(days)).await;
        assert!(matches!(result, Err(CommandError::Declined(_))) && said.is_empty());
    }
}

#[tokio::test]
async fn what_apple_leaves_to_nobody_says_where_it_is_done() {
    for (order, place) in [
        (
            Command::Refund {
                order_id: "1".into(),
                revoke: true,
            },
            "reportaproblem.apple.com",
        ),
        (
            Command::Revoke { prorated: true },
            "reportaproblem.apple.com",
        ),
        (Command::Cancel { by_developer: true }, "Settings"),
    ] {
        let (result, said) = command(ok(Value::Null), order).await;
        let Err(CommandError::NotOffered(why)) = result else {
            panic!("{place}")
        };
        assert!(why.contains(place) && said.is_empty());
    }
}
