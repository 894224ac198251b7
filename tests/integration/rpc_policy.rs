//! Who may call what: the server's own table, tried for every RPC of the descriptor set, as
//! everybody, about everybody's objects.
//!
//! An RPC without a row fails, and so does one that tells or does what its row does not say.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use entitled::policy::{About, AppKeys, Operators, POLICY, Role, Row, Serves};
use entitled::proto;
use entitled::proto::{CreateApiKeyRequest, OperatorRole};
use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::api_keys::{self, Keys};
use crate::scene::{PACKAGE, bare_id, google_token};
use crate::support::World;

/// Every RPC, by service and name, with the message that it takes.
pub fn rpcs() -> BTreeMap<String, DescriptorProto> {
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
    let (status, reason, _) = asked(world, rpc, token, message).await;
    (status, reason)
}

/// The same with the first message of the answer.
pub async fn asked(
    world: &World,
    rpc: &str,
    token: Option<&str>,
    message: &[u8],
) -> (u32, String, Vec<u8>) {
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
        let status = status.parse().expect("a number");
        return (status, reason(&details), Vec::new());
    }
    // A stream that was opened has a message; whatever else is answered is not refused.
    let mut told = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        told.extend(chunk);
        if let Some([_, a, b, c, d]) = told.first_chunk::<5>() {
            let end = 5 + usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).expect("short");
            if told.len() >= end {
                return (0, String::new(), told[5..end].to_vec());
            }
        }
    }
    (0, String::new(), told)
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
const INVALID_ARGUMENT: u32 = 3;
const UNIMPLEMENTED: u32 = 12;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    User,
    Service,
    /// With an API key of one app.
    ServiceOfApp,
    Operator(Role),
}

/// What the table says of a call, with the reason if it is refused.
fn expected(row: &Row, who: Who, names_somebody: bool) -> Result<(), &'static str> {
    if who == Who::ServiceOfApp {
        expected(row, Who::Service, names_somebody)?;
        let reaches_beyond = row.app_keys == AppKeys::Refused;
        return (!reaches_beyond).then_some(()).ok_or("APP_NOT_ALLOWED");
    }
    match (row.serves, who) {
        (Serves::Everyone | Serves::Callers, _) => Ok(()),
        (Serves::Accounts(_), Who::User) if names_somebody => Err("ACCOUNT_NOT_ALLOWED"),
        (_, Who::ServiceOfApp) => unreachable!("told above"),
        (Serves::Accounts(_), Who::User | Who::Service) => Ok(()),
        (Serves::Accounts(Operators::Never), Who::Operator(_)) => Err("ACCOUNT_NOT_ALLOWED"),
        (Serves::Services, Who::Service) => Ok(()),
        (Serves::Services, Who::User | Who::Operator(_)) => Err("SERVICE_REQUIRED"),
        (Serves::Operators(_), Who::User | Who::Service) => Err("OPERATOR_REQUIRED"),
        (
            Serves::Operators(least) | Serves::Accounts(Operators::From(least)),
            Who::Operator(role),
        ) => {
            let enough = role >= least;
            enough.then_some(()).ok_or("ROLE_INSUFFICIENT")
        }
    }
}

/// A token of each kind of caller, and an API key of each kind.
async fn callers(world: &World) -> Vec<(Who, String)> {
    let operator = |role, scope| {
        let token = crate::tickets::token(world, "sue", scope);
        (Who::Operator(role), token)
    };
    let mut keys = Keys::of(world).await;
    let mut key =
        async |request: CreateApiKeyRequest| keys.create(request).await.expect("a key").secret;
    vec![
        (Who::Service, key(api_keys::service("backend", &[])).await),
        (
            Who::ServiceOfApp,
            key(api_keys::service("ios", &["example-ios"])).await,
        ),
        (
            Who::Operator(Role::Viewer),
            key(api_keys::operator("viewer", OperatorRole::Viewer)).await,
        ),
        (
            Who::Operator(Role::Support),
            key(api_keys::operator("support", OperatorRole::Support)).await,
        ),
        (
            Who::Operator(Role::Admin),
            key(api_keys::operator("admin", OperatorRole::Admin)).await,
        ),
        (Who::User, world.token("mallory")),
        (Who::Service, world.service_token()),
        operator(Role::Viewer, "entitled.viewer"),
        operator(Role::Support, "entitled.operator"),
        operator(Role::Admin, "entitled.admin"),
    ]
}

#[test]
fn every_rpc_has_a_row_and_says_whose_object_it_names() {
    let rpcs = rpcs();
    for name in rpcs.keys() {
        let row = POLICY.iter().find(|row| row.rpc == name);
        assert!(row.is_some(), "whom does {name} serve? src/grpc/policy.rs");
    }
    for row in POLICY {
        let message = rpcs.get(row.rpc);
        let message = message.unwrap_or_else(|| panic!("{} is no RPC", row.rpc));
        let names = |wanted: &str| message.field.iter().any(|field| field.name() == wanted);
        match row.about {
            About::Nobody => assert!(!names("account") && !names("purchase"), "{}", row.rpc),
            About::Account | About::AnyAccount => assert!(names("account"), "{}", row.rpc),
            About::Accounts => assert!(names("requests"), "{}", row.rpc),
            About::Everybody => assert!(names("cursor") || names("page_token"), "{}", row.rpc),
            About::Purchase => assert!(names("purchase"), "{}", row.rpc),
        }
    }
}

/// Every RPC, as every kind of caller, about themselves, somebody else by both names, and nobody
/// that is known: what the table refuses is refused with the table's reason, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_holds_for_every_rpc_caller_and_object() {
    let rpcs = rpcs();
    let world = World::start().await;
    let alice = world.person("alice").await;
    let nobody = uuid::Uuid::nil().to_string();
    let objects = [
        "",
        alice.account.as_str(),
        "dev:alice",
        "dev:nobody",
        &nobody,
    ];
    let stranger = world.token_signed_with("somebody else's secret of 32 bytes");
    let callers = callers(&world).await;
    for row in POLICY {
        let message = &rpcs[row.rpc];
        let empty = request(row.rpc, message, "");
        if row.serves != Serves::Everyone {
            for token in [None, Some(""), Some("a.b.c"), Some(stranger.as_str())] {
                let (status, why) = call(&world, row.rpc, token, &empty).await;
                assert_eq!(status, UNAUTHENTICATED, "{}: {why}", row.rpc);
            }
        }
        let tried = callers.iter().flat_map(|(who, token)| {
            let (world, empty) = (&world, &empty);
            objects.map(|object| async move {
                let message = request(row.rpc, message, object);
                let named = message != *empty;
                let answer = call(world, row.rpc, Some(token), &message).await;
                (*who, object, named, answer)
            })
        });
        for (who, object, named, (status, why)) in futures::future::join_all(tried).await {
            let case = format!("{} as {who:?} about {object:?}: {status} {why}", row.rpc);
            match expected(row, who, named) {
                Err(reason) => {
                    assert_eq!(
                        (status, why.as_str()),
                        (PERMISSION_DENIED, reason),
                        "{case}"
                    );
                }
                Ok(()) => {
                    let broken = [UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED];
                    assert!(!broken.contains(&status), "{case}");
                    assert!(![INTERNAL, UNKNOWN].contains(&status), "{case}");
                    if row.about == About::Account && who != Who::User && !named {
                        assert_eq!(status, INVALID_ARGUMENT, "{case}");
                    }
                }
            }
        }
    }
    // What is in no row is not there, for whoever asks.
    for (who, token) in &callers {
        let (status, _) = call(&world, "SupportService/Everything", Some(token), &[]).await;
        assert_eq!(status, UNIMPLEMENTED, "{who:?}");
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
    let operator = crate::tickets::token(&world, "sue", "entitled.admin");
    let mut asked = 0;
    for (number, text) in odd_texts().into_iter().enumerate() {
        let mut calls: Vec<(&str, String, Vec<u8>)> = Vec::new();
        for row in POLICY {
            let name = row.rpc;
            let (token, named) = match row.serves {
                Serves::Everyone | Serves::Callers | Serves::Accounts(_) => {
                    (world.token(&format!("odd{number}")), "")
                }
                Serves::Services => (world.service_token(), alice.account.as_str()),
                Serves::Operators(_) => (operator.clone(), alice.account.as_str()),
            };
            for field in &rpcs[name].field {
                if field.r#type() != Type::String {
                    continue;
                }
                // Whom it is about stays right, where it is not what is odd.
                let mut message = request(name, &rpcs[name], named);
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
        let restore = proto::RestorePurchasesRequest {
            proofs: odd_proofs(&text)
                .into_iter()
                .map(|proof| proto::PurchaseProof { proof: Some(proof) })
                .collect(),
            ..Default::default()
        };
        let token = world.token(&format!("odd{number}-all"));
        let name = "EntitlementService/RestorePurchases";
        calls.push((name, token, restore.encode_to_vec()));
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
