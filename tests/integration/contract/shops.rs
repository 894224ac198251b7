//! The two stores, as the contract sees them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entitled::proto::BindPurchaseResponse;
use entitled::sandbox::{AppStoreBuy, GooglePlayBuy, PushToken, Store, forge};
use serde_json::{Value, json};
use tonic::Status;

use super::{Bought, Product, Shop, truth};
use crate::support::{HTTP, World};

const PACKAGE: &str = "com.example.app";

pub(super) struct AppStore;

impl Shop for AppStore {
    const STORE: Store = Store::AppStore;
    const WANTS_ACKNOWLEDGEMENT: bool = false;

    async fn buy(world: &World, customer: &str, account: Option<&str>, product: Product) -> Bought {
        let product_id = match product {
            Product::Monthly => "com.example.premium.monthly",
            Product::Yearly => "com.example.premium.yearly",
            Product::Export => "com.example.export",
        };
        let buy = AppStoreBuy {
            customer: customer.into(),
            product_id: product_id.into(),
            app_account_token: account.map(|token| token.parse().expect("a UUID")),
            ..AppStoreBuy::default()
        };
        let bought = world
            .stack
            .sandbox
            .buy_app_store(&buy)
            .await
            .expect("bought");
        Bought {
            id: bought.original_transaction_id,
            proof: bought.signed_transaction,
        }
    }

    async fn bind(
        world: &World,
        subject: &str,
        proof: &str,
    ) -> Result<BindPurchaseResponse, Status> {
        world.client(subject).await.bind_app_store(proof).await
    }

    async fn cancel(world: &World, bought: &Bought) {
        world
            .stack
            .sandbox
            .set_auto_renew(&bought.id, false)
            .await
            .expect("turned off");
    }

    async fn refund(world: &World, bought: &Bought) {
        let all = world.stack.sandbox.all_purchases();
        let latest = all
            .into_iter()
            .find(|purchase| purchase.id == bought.id)
            .expect("bought");
        world
            .stack
            .sandbox
            .refund_app_store(&latest.latest_transaction)
            .await
            .expect("refunded");
    }

    fn forged_proofs(world: &World, genuine: &Bought) -> Vec<String> {
        let claims = claims(&genuine.proof);
        let forged = forge::apple_variants(&world.stack.sandbox, &claims).expect("forged");
        forged
            .into_iter()
            .map(|forgery| forgery.jws)
            .filter(|jws| !jws.is_empty())
            .collect()
    }

    async fn send_as_a_stranger(world: &World) -> u16 {
        let body: Value = serde_json::from_str(&latest(world, Store::AppStore)).expect("JSON");
        let claims = claims(body["signedPayload"].as_str().expect("a document"));
        let forged = forge::apple_variants(&world.stack.sandbox, &claims)
            .expect("forged")
            .swap_remove(0);
        post(
            world,
            "app-store",
            json!({ "signedPayload": forged.jws }).to_string(),
            None,
        )
        .await
    }
}

pub(super) struct GooglePlay;

impl Shop for GooglePlay {
    const STORE: Store = Store::GooglePlay;
    const WANTS_ACKNOWLEDGEMENT: bool = true;

    async fn buy(world: &World, customer: &str, account: Option<&str>, product: Product) -> Bought {
        let (product_id, base_plan_id) = match product {
            Product::Monthly => ("premium", Some("premium-monthly")),
            Product::Yearly => ("premium", Some("premium-yearly")),
            Product::Export => ("export", None),
        };
        let buy = GooglePlayBuy {
            customer: customer.into(),
            product_id: product_id.into(),
            base_plan_id: base_plan_id.map(ToOwned::to_owned),
            obfuscated_account_id: account.map(ToOwned::to_owned),
            ..Default::default()
        };
        let token = world
            .stack
            .sandbox
            .buy_google_play(&buy)
            .await
            .expect("bought")
            .purchase_token;
        Bought {
            id: token.clone(),
            proof: token,
        }
    }

    async fn bind(
        world: &World,
        subject: &str,
        proof: &str,
    ) -> Result<BindPurchaseResponse, Status> {
        world
            .client(subject)
            .await
            .bind_google_play(PACKAGE, proof)
            .await
    }

    async fn cancel(world: &World, bought: &Bought) {
        world
            .stack
            .sandbox
            .cancel_google_play(&bought.id)
            .await
            .expect("turned off");
    }

    async fn refund(world: &World, bought: &Bought) {
        world
            .stack
            .sandbox
            .refund_google_play(&bought.id)
            .await
            .expect("refunded");
    }

    fn forged_proofs(_: &World, genuine: &Bought) -> Vec<String> {
        let mut altered = genuine.proof.clone();
        let last = altered.pop().expect("a token");
        altered.push(if last == 'A' { 'B' } else { 'A' });
        vec![
            altered,
            format!("{}x", genuine.proof),
            genuine.proof.chars().rev().collect(),
            "123456789012345".into(),
            "abcdefghijklmnopqrstuvwx".into(),
            format!("../tokens/{}", genuine.proof),
            format!("{}:acknowledge", genuine.proof),
        ]
    }

    async fn send_as_a_stranger(world: &World) -> u16 {
        let stranger = PushToken {
            by_stranger: true,
            ..PushToken::default()
        };
        let token = world.stack.sandbox.push_token(&stranger).expect("a token");
        post(
            world,
            "google-play",
            latest(world, Store::GooglePlay),
            Some(token),
        )
        .await
    }
}

/// The body of the latest notification of a store.
fn latest(world: &World, store: Store) -> String {
    let all = world.stack.sandbox.notifications();
    all.into_iter()
        .rfind(|record| record.source == store)
        .expect("a notification")
        .body
}

fn claims(jws: &str) -> Value {
    let part = jws.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

async fn post(world: &World, path: &str, body: String, bearer: Option<String>) -> u16 {
    let base = world.stack.app.webhooks_url().expect("webhooks");
    let mut request = HTTP.post(format!("{base}/webhooks/{path}")).body(body);
    if let Some(token) = bearer {
        request = request.bearer_auth(token);
    }
    request.send().await.expect("an answer").status().as_u16()
}

/// Whether the store has heard that the purchase reached its owner; `None` where it does not ask.
pub(super) fn acknowledged(world: &World, customer: &str) -> Option<bool> {
    truth(world, customer).acknowledged
}
