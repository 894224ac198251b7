//! A key of some apps, tried with every RPC of the descriptor set that names an app, a purchase or a
//! proof of one: it acts on purchases of its apps, and is told nothing of others'.

use std::collections::{BTreeMap, BTreeSet};

use entitled::config::tokens::AnonymousAccounts;
use entitled::policy::{AppKeys, POLICY, Row, Serves};
use entitled::proto::purchase_proof::Proof;
use entitled::proto::{
    self, BindOutcome, PurchaseProof, RestorePurchasesResponse, SuperwallProof, app_store_proof,
};
use prost::Message as _;
use prost_types::DescriptorProto;
use prost_types::field_descriptor_proto::{Label, Type};
use tonic::Code;

use crate::accounts::create;
use crate::api_keys::{self, Keys};
use crate::rpc_policy::{asked, rpcs};
use crate::scene::{MONTHLY, PACKAGE, bare_id, google_token};
use crate::support::{World, assert_refused};

const PROOF: &str = ".entitled.v1.PurchaseProof";

/// What names an app, or a purchase, which is of one app.
const NAMES: [&str; 8] = [
    "app",
    "apps",
    "package_name",
    "purchase",
    "store_transaction_id",
    "transaction_id",
    "delivery_id",
    "order_id",
];

const GOODS: &str = r#"
[products.sword]
kind = "consumable"
delivered_by = "backend"
app_store = { product_id = "com.example.sword" }
google_play = { product_id = "sword" }
"#;

const OFFER: &str = r#"
[offers.first_month]
product = "pro_monthly"
kind = "introductory"
eligible = "new"
"#;

fn takes_proofs(message: &DescriptorProto) -> Option<(u32, bool)> {
    let mut fields = message.field.iter();
    let field = fields.find(|field| field.type_name() == PROOF)?;
    let number = u32::try_from(field.number()).expect("a number");
    Some((number, field.label() == Label::Repeated))
}

/// The fields by which a request names an app or a purchase.
fn names(message: &DescriptorProto) -> impl Iterator<Item = (&str, u32)> {
    let fields = message.field.iter();
    let texts = fields.filter(|field| field.r#type() == Type::String);
    let named = texts.filter(|field| NAMES.contains(&field.name()));
    named.map(|field| {
        (
            field.name(),
            u32::try_from(field.number()).expect("a number"),
        )
    })
}

fn serves_services(row: &Row) -> bool {
    match row.serves {
        Serves::Callers | Serves::Accounts(_) | Serves::Services => true,
        Serves::Everyone | Serves::Operators(_) => false,
    }
}

#[test]
fn no_rpc_that_names_an_app_or_a_purchase_is_open_to_keys_of_some_apps() {
    let rpcs = rpcs();
    let mut limited = BTreeSet::new();
    for row in POLICY {
        let message = &rpcs[row.rpc];
        let about_purchases = takes_proofs(message).is_some() || names(message).next().is_some();
        if about_purchases {
            assert_ne!(row.app_keys, AppKeys::Whole, "{}", row.rpc);
        }
        if row.app_keys == AppKeys::TheirPurchases {
            assert!(
                serves_services(row),
                "{} serves no key of some apps",
                row.rpc
            );
            limited.insert(row.rpc);
        }
    }
    assert!(limited.len() >= 8, "{limited:?}");
}

/// One purchase at each store, as an app may show it.
struct Shown {
    apple: Vec<Proof>,
    /// Without possession: the store's record names the account.
    bare: Proof,
    google: Vec<Proof>,
}

impl Shown {
    async fn of(world: &World, store_token: &str) -> Self {
        let apple = world.buy_apple("alice", MONTHLY, None).await;
        let named = world.buy_apple("ann", MONTHLY, Some(store_token)).await;
        let google = world.buy_google("alice", "premium-monthly", None).await;
        let signed = app_store_proof::Proof::SignedTransaction(apple.signed_transaction.clone());
        let by_superwall = |store: proto::Store| SuperwallProof {
            store: store.into(),
            app: PACKAGE.into(),
            ..Default::default()
        };
        Self {
            apple: vec![
                Proof::AppStore(proto::AppStoreProof {
                    proof: Some(signed),
                }),
                Proof::Superwall(SuperwallProof {
                    original_transaction_id: apple.original_transaction_id.clone(),
                    signed_transaction: apple.signed_transaction,
                    ..by_superwall(proto::Store::AppStore)
                }),
            ],
            bare: bare_id(&named.transaction_id),
            google: vec![
                google_token(&google.purchase_token),
                Proof::Superwall(SuperwallProof {
                    original_transaction_id: google.order_id,
                    purchase_token: google.purchase_token,
                    ..by_superwall(proto::Store::GooglePlay)
                }),
            ],
        }
    }
}

/// A request about alice with these proofs.
fn request(number: u32, account: u32, proofs: &[Proof]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::string::encode(account, &"dev:alice".to_owned(), &mut bytes);
    for proof in proofs {
        let proof = PurchaseProof {
            proof: Some(proof.clone()),
        };
        prost::encoding::message::encode(number, &proof, &mut bytes);
    }
    bytes
}

fn account_field(message: &DescriptorProto) -> u32 {
    let field = message.field.iter().find(|field| field.name() == "account");
    u32::try_from(field.expect("an account").number()).expect("a number")
}

/// RPCs that serve services and take proofs: the proofs' field, whether it takes several, and the
/// account's.
fn takers(rpcs: &BTreeMap<String, DescriptorProto>) -> Vec<(&'static str, u32, bool, u32)> {
    let rows = POLICY.iter().filter(|row| serves_services(row));
    let takers = rows.filter_map(|row| {
        let (number, repeated) = takes_proofs(&rpcs[row.rpc])?;
        Some((row.rpc, number, repeated, account_field(&rpcs[row.rpc])))
    });
    takers.collect()
}

const REFUSED: (u32, &str) = (7, "APP_NOT_ALLOWED");
const UNKNOWN: (u32, &str) = (9, "PROOF_INSUFFICIENT");

/// Each proof of another app is refused by itself wherever one may be sent, nothing is begun for it,
/// and of a bare id not even that there is such a purchase is told; those of the own app are served.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_another_app_is_refused_wherever_one_may_be_sent() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let shown = Shown::of(&world, &alice.store_token).await;
    world.settled().await;
    let mut keys = Keys::of(&world).await;
    let mut key = async |app: &str| {
        let made = keys.create(api_keys::service(app, &[app])).await;
        made.expect("a key").secret
    };
    let (ios, android) = (key("example-ios").await, key("example-android").await);
    let rpcs = rpcs();
    let takers = takers(&rpcs);
    assert_eq!(takers.len(), 3, "a bind, a restore, a preflight");

    let foreign: Vec<(&str, &Proof, (u32, &str))> = [
        (&android, &shown.apple[0], REFUSED),
        (&android, &shown.apple[1], REFUSED),
        (&android, &shown.bare, UNKNOWN),
        (&ios, &shown.google[0], REFUSED),
        (&ios, &shown.google[1], REFUSED),
    ]
    .map(|(key, proof, told)| (key.as_str(), proof, told))
    .into();
    let before = world.row(BEGUN).await;
    for (rpc, number, repeated, account) in takers.clone() {
        for (key, proof, (code, reason)) in &foreign {
            let message = request(number, account, std::slice::from_ref(*proof));
            let (status, why, told) = asked(&world, rpc, Some(key), &message).await;
            match repeated {
                false => assert_eq!((status, why.as_str()), (*code, *reason), "{rpc}"),
                true => {
                    assert_eq!((status, why.as_str()), (0, ""), "{rpc}");
                    let told = RestorePurchasesResponse::decode(told.as_slice()).expect("told");
                    assert_eq!(told.purchases.len(), 1);
                    assert_eq!(told.purchases[0].reason, *reason, "{rpc}");
                }
            }
        }
    }
    assert_eq!(world.row(BEGUN).await, before, "nothing was begun for any");

    // In one restore with its own: each by itself, in order.
    let all = [&shown.google[..], &shown.apple[..]].concat();
    for (rpc, number, repeated, account) in takers.clone() {
        if repeated {
            let message = request(number, account, &all);
            let (_, _, told) = asked(&world, rpc, Some(&ios), &message).await;
            let told = RestorePurchasesResponse::decode(told.as_slice()).expect("told");
            let each: Vec<&str> = told.purchases.iter().map(|it| it.reason.as_str()).collect();
            assert_eq!(each, [REFUSED.1, REFUSED.1, "", ""]);
            assert!(
                told.purchases[2..]
                    .iter()
                    .all(|it| it.outcome() == BindOutcome::Bound)
            );
        }
    }
    let own = [
        (&ios, &shown.apple[0]),
        (&ios, &shown.apple[1]),
        (&ios, &shown.bare),
        (&android, &shown.google[0]),
        (&android, &shown.google[1]),
    ];
    for (rpc, number, _, account) in takers.clone() {
        for (key, proof) in own {
            let message = request(number, account, std::slice::from_ref(proof));
            let (status, why, _) = asked(&world, rpc, Some(key), &message).await;
            assert_eq!((status, why.as_str()), (0, ""), "{rpc}");
        }
    }
    world.settled().await;
    world.stop().await;
}

/// Whatever a bind or a restore begins.
const BEGUN: &str = "select jsonb_build_array(
    (select count(*) from ownership_claims), (select count(*) from ownership_changes),
    (select jsonb_agg(jsonb_build_array(id, owner_account_id) order by id)
     from purchase_chains))::text";

/// Every other RPC that serves such a key, with another app's purchase in each field that can name
/// one: nothing is done to it, and no answer holds a name of it.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_to_a_key_of_one_app_names_a_purchase_of_another() {
    let world = World::with(|options| options.catalog.push_str(GOODS)).await;
    let alice = world.person("alice").await;
    let google = world.buy_pieces_google("alice", "sword", 1, None).await;
    alice.bind_google(&google).await.expect("bound");
    let apple = world
        .buy_pieces_apple("alice", "com.example.sword", 1, None)
        .await;
    alice
        .bind_apple(&apple.signed_transaction)
        .await
        .expect("bound");
    world.settled().await;
    let order = "select transaction_id from transactions where transaction_id like 'GPA.%'";
    let order = world.row(order).await;
    let delivery = "select id::text from deliveries where transaction_id like 'GPA.%'";
    let delivery = world.row(delivery).await;
    let chain = world.chain_of(&google).await;
    let canaries = [google.as_str(), &order, &delivery, &chain];

    let mut keys = Keys::of(&world).await;
    let mut key = async |name: &str, apps: &[&str]| {
        let made = keys.create(api_keys::service(name, apps)).await;
        made.expect("a key").secret
    };
    let some = key("ios", &["example-ios"]).await;
    let all = key("backend", &[]).await;
    let rpcs = rpcs();
    let (mut asked_for, mut told_to_all) = (0, BTreeSet::new());
    for row in POLICY.iter().filter(|row| serves_services(row)) {
        if row.app_keys == AppKeys::Refused {
            continue;
        }
        let message = &rpcs[row.rpc];
        let mut requests = vec![about_alice(message)];
        for (name, number) in names(message) {
            let foreign = match name {
                "app" | "apps" => "example-android",
                "package_name" => PACKAGE,
                "delivery_id" => &delivery,
                "purchase" => &chain,
                _ => &order,
            };
            let mut named = about_alice(message);
            prost::encoding::string::encode(number, &foreign.to_owned(), &mut named);
            requests.push(named);
        }
        for request in requests {
            let (_, _, told) = asked(&world, row.rpc, Some(&some), &request).await;
            asked_for += 1;
            for canary in canaries {
                assert!(!holds(&told, canary), "{} tells {canary}", row.rpc);
            }
            // The test can see: who may have it is told.
            if row.rpc == "PurchaseService/ClaimDelivery" {
                continue;
            }
            let (_, _, told) = asked(&world, row.rpc, Some(&all), &request).await;
            if canaries.iter().any(|canary| holds(&told, canary)) {
                told_to_all.insert(row.rpc);
            }
        }
    }
    assert!(asked_for >= 16, "{asked_for} calls");
    let told_to_all: Vec<&str> = told_to_all.into_iter().collect();
    assert_eq!(
        told_to_all,
        [
            "PurchaseService/ListDeliveries",
            "PurchaseService/ListTransactions"
        ]
    );
    let claimed = "select count(*) from deliveries
        where claimed_at is not null and transaction_id like 'GPA.%'";
    assert_eq!(world.count(claimed).await, 0);
    world.stop().await;
}

fn holds(message: &[u8], text: &str) -> bool {
    let mut parts = message.windows(text.len());
    parts.any(|part| part == text.as_bytes())
}

/// A request about alice with what must be there before anybody asks what it names.
fn about_alice(message: &DescriptorProto) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in &message.field {
        let text = match field.name() {
            "account" => "dev:alice",
            "offer" | "claim_key" => "1",
            _ => continue,
        };
        let number = u32::try_from(field.number()).expect("a number");
        prost::encoding::string::encode(number, &text.to_owned(), &mut bytes);
    }
    bytes
}

/// Offers are signed with the name of an app in them: of a key's own apps alone, named or not.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_signed_for_a_keys_own_apps_alone() {
    let world = World::with(|options| options.catalog.push_str(OFFER)).await;
    world.person("alice").await;
    let mut keys = Keys::of(&world).await;
    let mut key = async |app: &str| {
        let made = keys.create(api_keys::service(app, &[app])).await;
        made.expect("a key").secret
    };
    let (ios, android) = (key("example-ios").await, key("example-android").await);
    for (key, app, signed) in [
        (&ios, "", true),
        (&ios, "example-ios", true),
        (&ios, "com.example.app", true),
        (&ios, "example-android", false),
        (&android, "", false),
        (&android, "example-ios", false),
        (&android, "com.example.app", false),
    ] {
        let request = proto::SignOfferRequest {
            offer: "first_month".into(),
            app: app.into(),
            transaction_id: "2000000000000001".into(),
            account: "dev:alice".into(),
        };
        let rpc = "EntitlementService/SignOffer";
        let message = request.encode_to_vec();
        let (status, why, told) = asked(&world, rpc, Some(key), &message).await;
        match signed {
            true => assert!(status == 0 && !told.is_empty(), "{app:?}: {status} {why}"),
            false => assert_eq!((status, why.as_str()), (3, "REQUEST_INVALID"), "{app:?}"),
        }
    }
    world.stop().await;
}

/// Where only services make accounts without a sign-in, a key of some apps makes none: what it would
/// make is good in every app.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_some_apps_makes_no_accounts() {
    let mut world = World::start().await;
    world
        .restart(|config| {
            let tokens = config.tokens.as_mut().expect("tokens");
            tokens.anonymous_accounts = AnonymousAccounts::Services;
        })
        .await;
    let mut keys = Keys::of(&world).await;
    let mut key = async |name: &str, apps: &[&str]| {
        let made = keys.create(api_keys::service(name, apps)).await;
        made.expect("a key").secret
    };
    let some = key("ios", &["example-ios"]).await;
    let all = key("backend", &[]).await;
    let nobody = create(&world).await.expect_err("nobody");
    assert_refused(
        &nobody,
        Code::Unauthenticated,
        "UNAUTHENTICATED_MISSING_TOKEN",
    );
    let mut service = crate::accounts::with(&world, &some).await;
    let refused = service
        .create_anonymous(proto::CreateAnonymousRequest {})
        .await;
    assert_refused(
        &refused.expect_err("of one app"),
        Code::PermissionDenied,
        "APP_NOT_ALLOWED",
    );
    let made = "select count(*) from account_identities where anonymous";
    assert_eq!(world.count(made).await, 0);
    let mut service = crate::accounts::with(&world, &all).await;
    service
        .create_anonymous(proto::CreateAnonymousRequest {})
        .await
        .expect("made");
    world.stop().await;
}
