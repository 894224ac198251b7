//! Answers of the store, signed in the test, and what becomes of them.

mod charges;
mod foreign;
mod states;

use serde_json::{Value, json};

use super::support::{APP_APPLE_ID, BUNDLE, Signer, catalog, now};
use crate::domain::chain::{Alias, AppId};
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::StoreState;
use crate::providers::app_store::binding;
use crate::providers::contract::{FetchError, Store, StoreAnswer};

const ID: &str = "2000000000000001";

fn head() -> Alias {
    binding::alias(AppId("example-ios".into()), ID.into())
}

fn answer(call: &str, status: u16, body: &Value) -> StoreAnswer {
    StoreAnswer {
        call: call.into(),
        status,
        body: body.to_string().into(),
    }
}

fn row(signer: &Signer, status: i64, transaction: &Value, renewal: &Value) -> Value {
    json!({
        "status": status, "originalTransactionId": transaction["originalTransactionId"],
        "signedTransactionInfo": signer.sign(transaction),
        "signedRenewalInfo": signer.sign(renewal),
    })
}

fn statuses(rows: &[Value]) -> StoreAnswer {
    let body = json!({
        "environment": "Production", "bundleId": BUNDLE, "appAppleId": APP_APPLE_ID,
        "data": [{"subscriptionGroupIdentifier": "1", "lastTransactions": rows}],
    });
    answer("production/subscriptions", 200, &body)
}

fn history(signer: &Signer, transactions: &[Value]) -> StoreAnswer {
    let signed: Vec<String> = transactions.iter().map(|one| signer.sign(one)).collect();
    let body = json!({"signedTransactions": signed, "revision": "1", "hasMore": false});
    answer("production/history/1", 200, &body)
}

fn read(signer: &Signer, answers: &[StoreAnswer]) -> Result<Answer, FetchError> {
    signer
        .store("http://127.0.0.1:9")
        .normalize(&head(), answers, &catalog(), now())
}

fn state(signer: &Signer, answers: &[StoreAnswer]) -> StoreState {
    match read(signer, answers) {
        Ok(Answer::Store(state)) => state,
        other => panic!("{other:?}"),
    }
}
