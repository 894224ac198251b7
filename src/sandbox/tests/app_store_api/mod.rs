//! The App Store Server API as a server calls it.

mod changes;
mod consumption;
mod history;
mod notifications;
mod reads;

use reqwest::Method;

use super::*;

const FAMILY: &str = "com.example.family.monthly";
const SEASON: &str = "com.example.season";

/// One more group than the others' tests have, and something that ends without renewing.
async fn shop(environment: Environment) -> Rig {
    let mut options = options(environment);
    let products = &mut options.setup.app_store;
    products.push(AppStoreProduct::non_renewing(SEASON));
    products.push(AppStoreProduct::subscription(
        FAMILY,
        Period::months(1),
        "family",
    ));
    Rig::of(options).await
}

impl Rig {
    /// A call with a genuine token; the body is sent as JSON, `null` as none.
    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/apple/inApps{path}", self.sandbox.base_url());
        let mut request = self.http.request(method, url);
        if !body.is_null() {
            request = request.json(&body);
        }
        answer_of(request.bearer_auth(self.apple_token(&json!({})))).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Asserts that a call is refused with that code, and the status that belongs to it.
    async fn rejects(&self, method: Method, path: &str, body: Value, code: u32) {
        let told = format!("{path} {body}");
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(answer["errorCode"], code, "{told}: {answer}");
        assert_eq!(u32::from(status), code / 10_000, "{told}");
        assert!(answer["errorMessage"].is_string());
    }

    async fn rejects_get(&self, path: &str, code: u32) {
        self.rejects(Method::GET, path, Value::Null, code).await;
    }

    async fn done(&self, action: AppStoreAction) -> Outcome {
        self.sandbox.app_store(action).await.unwrap()
    }

    /// A family member's purchase of what alice has bought.
    async fn share(&self, purchase: &AppStorePurchase) -> AppStorePurchase {
        let shared = self.done(AppStoreAction::Share {
            original_transaction_id: purchase.original_transaction_id.clone(),
            member: "bob".to_owned(),
        });
        let Outcome::AppStore(purchase) = shared.await else {
            panic!("not shared")
        };
        purchase
    }

    /// The id of a customer's app transaction.
    fn app_transaction_id(&self, purchase: &AppStorePurchase) -> String {
        let transaction = payload(&purchase.signed_transaction);
        transaction["appTransactionId"].as_str().unwrap().to_owned()
    }
}

/// Ids of the transactions in an answer.
fn ids(answer: &Value) -> Vec<String> {
    let all = answer["signedTransactions"].as_array().unwrap().iter();
    all.map(|one| signed(one)["transactionId"].as_str().unwrap().to_owned())
        .collect()
}
