//! SignOffer: for whom the catalog makes an offer, in both of StoreKit's forms; for nobody else.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use entitled::cli::stack::EXAMPLE_CATALOG;
use entitled::proto::{SignOfferRequest, SignOfferResponse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Map, Value, json};
use tonic::{Code, Status};

use crate::scene::{MONTHLY, YEARLY, period};
use crate::support::{World, assert_refused};

const OFFERS: &str = r#"
[offers.come_back]
product = "pro_yearly"
kind = "promotional"
eligible = "lapsed"
offer_id = "back_50"

[offers.first_month]
product = "pro_monthly"
kind = "introductory"
eligible = "new"
"#;

async fn ask(
    client: &entitled::cli::client::Client,
    offer: &str,
    transaction_id: &str,
) -> Result<SignOfferResponse, Status> {
    let request = SignOfferRequest {
        offer: offer.into(),
        transaction_id: transaction_id.into(),
        ..SignOfferRequest::default()
    };
    let mut client = client.clone();
    client
        .inner
        .sign_offer(request)
        .await
        .map(tonic::Response::into_inner)
}

/// The claims, if the key of the App Store's API has signed them.
fn claims(world: &World, jws: &str, audience: &str) -> Map<String, Value> {
    let manifest = world.stores().manifest();
    let pair = KeyPair::from_pem(&manifest.apple_private_key_pem).expect("a key");
    let mut rules = Validation::new(Algorithm::ES256);
    rules.set_audience(&[audience]);
    rules.set_issuer(&[&manifest.apple_issuer_id]);
    rules.set_required_spec_claims(&["aud", "iss"]);
    rules.validate_exp = false;
    let public = DecodingKey::from_ec_der(pair.der_bytes());
    jsonwebtoken::decode::<Map<String, Value>>(jws, &public, &rules)
        .expect("signed by the key")
        .claims
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_are_signed_for_whom_the_catalog_makes_them_to() {
    let world = World::with(|options| {
        options.catalog = format!("{EXAMPLE_CATALOG}{OFFERS}");
    })
    .await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let refused = ask(&alice.client, "come_back", "").await;
    assert_refused(
        &refused.expect_err("she has never left"),
        Code::FailedPrecondition,
        "OFFER_NOT_ELIGIBLE",
    );
    let unknown = ask(&alice.client, "come_forward", "").await;
    assert_refused(&unknown.expect_err("none"), Code::NotFound, "OFFER_UNKNOWN");
    let bought = world.buy_apple("alice", MONTHLY, None).await;
    alice
        .bind_apple(&bought.signed_transaction)
        .await
        .expect("bound");
    let stores = world.stores();
    stores
        .set_auto_renew(&bought.original_transaction_id, false)
        .await
        .expect("off");
    let refused = ask(&alice.client, "come_back", "").await;
    refused.expect_err("she has not left yet");
    stores.advance(period("P40D")).await.expect("lapsed");
    world.settled().await;

    let signed = ask(&alice.client, "come_back", "").await.expect("hers");
    assert_eq!(
        (signed.product_id.as_str(), signed.offer_id.as_str()),
        (YEARLY, "back_50")
    );
    let told = claims(&world, &signed.jws, "promotional-offer");
    assert_eq!(told["productId"], json!(YEARLY));
    assert_eq!(told["offerIdentifier"], json!("back_50"));
    assert_eq!(told["transactionId"], json!(bought.transaction_id));
    assert_eq!(told["bid"], json!("com.example.app"));

    // The older form: over her own store token, by the same key.
    let manifest = stores.manifest();
    let promotion = signed.promotion.expect("in both forms");
    assert_eq!(promotion.key_id, manifest.apple_key_id);
    assert_eq!(promotion.app_account_token, alice.store_token);
    let message = [
        "com.example.app",
        &promotion.key_id,
        YEARLY,
        "back_50",
        &alice.store_token,
        &promotion.nonce,
        &promotion.timestamp.to_string(),
    ]
    .join("\u{2063}");
    let pair = KeyPair::from_pem(&manifest.apple_private_key_pem).expect("a key");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.der_bytes())
        .verify(message.as_bytes(), &promotion.signature)
        .expect("signed by the key");

    // Who has bought before is told no, by a signature; who has not needs a name at Apple's.
    let no = ask(&alice.client, "first_month", "").await.expect("told");
    assert!(!no.allow_introductory_offer && no.promotion.is_none());
    let told = claims(&world, &no.jws, "introductory-offer-eligibility");
    assert_eq!(told["allowIntroductoryOffer"], json!(false));
    let nameless = ask(&bob.client, "first_month", "").await;
    assert_refused(
        &nameless.expect_err("who is it?"),
        Code::InvalidArgument,
        "REQUEST_INVALID",
    );
    for odd in ["12a", "../1", &"1".repeat(65)] {
        let refused = ask(&bob.client, "first_month", odd).await;
        assert_refused(
            &refused.expect_err(odd),
            Code::InvalidArgument,
            "REQUEST_INVALID",
        );
    }
    let yes = ask(&bob.client, "first_month", "2000000000000001")
        .await
        .expect("told");
    assert!(yes.allow_introductory_offer);
    let told = claims(&world, &yes.jws, "introductory-offer-eligibility");
    assert_eq!(told["allowIntroductoryOffer"], json!(true));
    assert_eq!(told["transactionId"], json!("2000000000000001"));
    world.stop().await;
}
