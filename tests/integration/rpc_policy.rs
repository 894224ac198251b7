//! Who may call what: a row for every RPC of the descriptor set, tried as everybody.
//!
//! An RPC without a row fails, and so does a field of a request that names an account and that
//! somebody else can put another's name into.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use entitled::proto;
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::scene::{PACKAGE, bare_id, google_token};
use crate::support::World;

/// Whom a call serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Serves {
    /// Devices for themselves; services and operators for an account that they name.
    Accounts,
    /// Whoever has a credential: it is about nobody.
    Anybody,
    /// Backends.
    Services,
    /// People of the support.
    Operators,
}

const POLICY: &[(&str, Serves)] = &[
    ("EntitlementService/BindPurchase", Serves::Accounts),
    ("EntitlementService/GetEntitlements", Serves::Accounts),
    ("EntitlementService/RefreshSubscription", Serves::Accounts),
    ("EntitlementService/WatchEntitlements", Serves::Accounts),
    ("EntitlementService/ListProducts", Serves::Anybody),
    ("EntitlementService/SignOffer", Serves::Accounts),
    ("PurchaseService/ListTransactions", Serves::Accounts),
    ("PurchaseService/SetConsumption", Serves::Accounts),
    ("PurchaseService/ClaimDelivery", Serves::Services),
    ("PurchaseService/ListDeliveries", Serves::Services),
    ("SupportService/GetTimeline", Serves::Operators),
    ("SupportService/ExplainEntitlement", Serves::Operators),
    ("SupportService/GrantEntitlement", Serves::Operators),
    ("SupportService/RevokeGrant", Serves::Operators),
    ("SupportService/TransferPurchase", Serves::Operators),
    ("SupportService/Resync", Serves::Operators),
    ("SupportService/Replay", Serves::Operators),
    ("SupportService/ActAtStore", Serves::Operators),
];

/// Every RPC, by service and name, with the message that it takes.
fn rpcs() -> BTreeMap<String, DescriptorProto> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("descriptors");
    let ours = set
        .file
        .iter()
        .filter(|file| file.package() == "entitled.v1");
    let mut messages = BTreeMap::new();
    let mut found = BTreeMap::new();
    for file in ours.clone() {
        for message in &file.message_type {
            messages.insert(format!(".entitled.v1.{}", message.name()), message.clone());
        }
    }
    for service in ours.flat_map(|file| &file.service) {
        for method in &service.method {
            let name = format!("{}/{}", service.name(), method.name());
            found.insert(name, messages[method.input_type()].clone());
        }
    }
    found
}

/// A request with every text field that names an account set to `account`, and with what must be
/// there before anybody asks whose it is.
fn request(rpc: &str, message: &DescriptorProto, account: &str) -> Vec<u8> {
    let mut bytes = match rpc {
        "EntitlementService/BindPurchase" => proto::BindPurchaseRequest {
            proof: Some(proto::PurchaseProof {
                proof: Some(bare_id("2000000000000001")),
            }),
            ..Default::default()
        }
        .encode_to_vec(),
        _ => Vec::new(),
    };
    for field in &message.field {
        let text = match field.name() {
            "account" | "to_account" | "from_account" => account,
            "offer" | "claim_key" => "1",
            _ => continue,
        };
        let number = u32::try_from(field.number()).expect("a number");
        prost::encoding::string::encode(number, &text.to_owned(), &mut bytes);
    }
    bytes
}

/// The gRPC status with which a call ends, and the reason in its details.
async fn call(world: &World, rpc: &str, token: Option<&str>, message: &[u8]) -> (u32, String) {
    let url = format!("{}/entitled.v1.{rpc}", world.stack.address.server);
    let length = u32::try_from(message.len()).expect("short");
    let body = [&[0][..], &length.to_be_bytes(), message].concat();
    // Made once: a client reads the machine's certificates.
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
    let mut request = CLIENT
        .post(url)
        .header("content-type", "application/grpc-web+proto")
        .body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut answer = request.send().await.expect("an answer");
    let header = |name: &str| {
        let value = answer.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    if let Some(status) = header("grpc-status") {
        let details = header("grpc-status-details-bin").unwrap_or_default();
        return (status.parse().expect("a number"), reason(&details));
    }
    // A stream that was opened has a message; whatever else is answered is not refused.
    let _ = answer.chunk().await;
    (0, String::new())
}

/// The reason of `google.rpc.Status` in base64.
fn reason(details: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let bytes = STANDARD_NO_PAD
        .decode(details.trim_end_matches('='))
        .expect("base64");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let words = text.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'));
    words
        .filter(|word| word.len() > 5 && word.contains('_'))
        .map(str::to_owned)
        .next()
        .unwrap_or_default()
}

const UNAUTHENTICATED: u32 = 16;
const PERMISSION_DENIED: u32 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_is_refused_to_whom_it_does_not_serve() {
    let rpcs = rpcs();
    let listed: Vec<&str> = POLICY.iter().map(|(name, _)| *name).collect();
    for name in rpcs.keys() {
        assert!(listed.contains(&name.as_str()), "whom does {name} serve?");
    }
    assert_eq!(rpcs.len(), POLICY.len(), "a row without an RPC");

    let world = World::start().await;
    let alice = world.person("alice").await;
    let (user, service) = (world.token("mallory"), world.service_token());
    let operator = crate::tickets::token(&world, "sue", "entitled.operator");
    let stranger = world.token_signed_with("somebody else's secret of 32 bytes");
    for (name, serves) in POLICY {
        let message = &rpcs[*name];
        let empty = request(name, message, "");
        for token in [None, Some(""), Some("a.b.c"), Some(stranger.as_str())] {
            let (status, why) = call(&world, name, token, &empty).await;
            assert_eq!(status, UNAUTHENTICATED, "{name}: {why}");
        }
        let named = request(name, message, &alice.account);
        let as_user = call(&world, name, Some(&user), &named).await;
        let as_service = call(&world, name, Some(&service), &named).await;
        let as_operator = call(&world, name, Some(&operator), &named).await;
        let denied = |reason: &str| (PERMISSION_DENIED, reason.to_owned());
        match serves {
            Serves::Accounts => {
                assert_ne!(named, empty, "{name} names no account");
                assert_eq!(as_user, denied("ACCOUNT_NOT_ALLOWED"), "{name}");
            }
            Serves::Anybody => assert_eq!(named, empty, "{name} names an account"),
            Serves::Services => {
                assert_eq!(as_user, denied("SERVICE_REQUIRED"), "{name}");
                assert_eq!(as_operator, denied("SERVICE_REQUIRED"), "{name}");
                assert_ne!(as_service.0, PERMISSION_DENIED, "{name}: {as_service:?}");
            }
            Serves::Operators => {
                assert_eq!(as_user, denied("OPERATOR_REQUIRED"), "{name}");
                assert_eq!(as_service, denied("OPERATOR_REQUIRED"), "{name}");
                assert_ne!(as_operator.0, PERMISSION_DENIED, "{name}: {as_operator:?}");
            }
        }
    }
    world.stop().await;
}

const INTERNAL: u32 = 13;
const UNKNOWN: u32 = 2;

/// Texts that break out of where they stand, or that no database holds.
fn odd_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\u{0}",
        "a\u{0}b:c\u{0}",
        "dev:\u{0}",
        "' or 1=1 --",
        "../../etc/passwd",
        "%00%2f..",
        "\r\nhost: evil.example",
        "\u{202e}\u{1f4b0}\u{ffff}",
        "-1",
        "99999999999999999999999999",
    ]
    .map(str::to_owned)
    .into();
    texts.push("a".repeat(50_000));
    texts
}

/// Proofs with an odd text in each place that takes one.
fn odd_proofs(text: &str) -> Vec<proto::purchase_proof::Proof> {
    use proto::purchase_proof::Proof;
    let superwall = |store: proto::Store| proto::SuperwallProof {
        store: store.into(),
        app: PACKAGE.into(),
        original_transaction_id: "GPA.1234-1234-1234-12345".into(),
        purchase_token: format!("{}.AO-J1O{}", "a".repeat(24), "x".repeat(110)),
        ..Default::default()
    };
    let (google, apple) = (
        superwall(proto::Store::GooglePlay),
        superwall(proto::Store::AppStore),
    );
    vec![
        bare_id(text),
        google_token(text),
        Proof::GooglePlay(proto::GooglePlayProof {
            package_name: text.into(),
            purchase_token: google.purchase_token.clone(),
        }),
        Proof::Superwall(proto::SuperwallProof {
            original_transaction_id: text.into(),
            ..google.clone()
        }),
        Proof::Superwall(proto::SuperwallProof {
            app: text.into(),
            ..google
        }),
        Proof::Superwall(proto::SuperwallProof {
            original_transaction_id: text.into(),
            ..apple.clone()
        }),
        Proof::Superwall(proto::SuperwallProof {
            signed_transaction: text.into(),
            ..apple
        }),
    ]
}

/// Whatever stands in a text, the mistake is the caller's and is told as one.
#[tokio::test(flavor = "multi_thread")]
async fn no_text_is_a_mistake_of_ours() {
    let world = World::start().await;
    let alice = world.person("alice").await;
    let rpcs = rpcs();
    let operator = crate::tickets::token(&world, "sue", "entitled.operator");
    let mut asked = 0;
    for (number, text) in odd_texts().into_iter().enumerate() {
        let mut calls: Vec<(&str, String, Vec<u8>)> = Vec::new();
        for (name, serves) in POLICY {
            let token = match serves {
                Serves::Accounts | Serves::Anybody => world.token(&format!("odd{number}")),
                Serves::Services => world.service_token(),
                Serves::Operators => operator.clone(),
            };
            for field in &rpcs[*name].field {
                if field.r#type() != Type::String {
                    continue;
                }
                // Whom it is about stays right, where it is not what is odd.
                let named = match serves {
                    Serves::Accounts | Serves::Anybody => "",
                    Serves::Services | Serves::Operators => alice.account.as_str(),
                };
                let mut message = request(name, &rpcs[*name], named);
                let place = u32::try_from(field.number()).expect("a number");
                prost::encoding::string::encode(place, &text, &mut message);
                calls.push((name, token.clone(), message));
            }
        }
        for (nth, proof) in odd_proofs(&text).into_iter().enumerate() {
            let message = proto::BindPurchaseRequest {
                proof: Some(proto::PurchaseProof { proof: Some(proof) }),
                ..Default::default()
            };
            let token = world.token(&format!("odd{number}-{nth}"));
            let name = "EntitlementService/BindPurchase";
            calls.push((name, token, message.encode_to_vec()));
        }
        let answers = calls.iter().map(|(name, token, message)| {
            let world = &world;
            async move { (name, call(world, name, Some(token), message).await) }
        });
        for (name, (status, why)) in futures::future::join_all(answers).await {
            asked += 1;
            assert!(
                ![INTERNAL, UNKNOWN].contains(&status),
                "{name}, text {number}: {status} {why}"
            );
        }
    }
    assert!(asked > 300, "{asked} calls");
    world.settled().await;
    world.stop().await;
}
