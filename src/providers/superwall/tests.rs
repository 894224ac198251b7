//! Deliveries that are believed and those that are not; which purchase a body is about.

#![allow(clippy::unwrap_used)]

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::read::read;
use super::verify::{SecretError, Untrue, Verifier};
use super::wire::redact;
use crate::domain::catalog::tests::example;
use crate::providers::contract::Reading;

// Example of the Svix documentation.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SENT: u64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn headers(prefix: &str, id: &str, sent: &str, signatures: &str) -> HeaderMap {
    let named = [("id", id), ("timestamp", sent), ("signature", signatures)];
    let header = |(name, value): (&str, &str)| {
        (
            HeaderName::try_from(format!("{prefix}-{name}")).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    named.into_iter().map(header).collect()
}

fn svix(signatures: &str) -> HeaderMap {
    headers("svix", ID, &SENT.to_string(), signatures)
}

fn verify(headers: &HeaderMap) -> Result<String, Untrue> {
    Verifier::new(SECRET).unwrap().verify(headers, BODY, SENT)
}

fn signed(secret: &str, id: &str, sent: &str) -> String {
    let key = STANDARD
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let message = [format!("{id}.{sent}.").as_bytes(), BODY].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&key, &message)))
}

#[test]
fn the_published_example_is_believed_under_both_sets_of_names() {
    assert_eq!(verify(&svix(SIGNATURE)), Ok(ID.to_owned()));
    let standard = headers("webhook", ID, &SENT.to_string(), SIGNATURE);
    assert_eq!(verify(&standard), Ok(ID.to_owned()));
    // A set is taken whole.
    let mut mixed = headers("webhook", ID, &SENT.to_string(), SIGNATURE);
    let id = mixed.remove("webhook-id").unwrap();
    mixed.insert("svix-id", id);
    assert_eq!(verify(&mixed), Err(Untrue::Headers));
    let mut twice = svix(SIGNATURE);
    twice.append("svix-id", HeaderValue::from_static(ID));
    assert_eq!(verify(&twice), Err(Untrue::Headers));
    assert_eq!(verify(&HeaderMap::new()), Err(Untrue::Headers));
}

#[test]
fn one_good_signature_among_the_first_sixteen_is_enough() {
    let other = format!("v1,{}", STANDARD.encode([7; 32]));
    for (signatures, believed) in [
        (format!("{other} {SIGNATURE}"), true),
        (format!("{SIGNATURE} {other}"), true),
        (format!("v1a,AAAA {SIGNATURE}"), true),
        (
            format!("{}{SIGNATURE}", format!("{other} ").repeat(15)),
            true,
        ),
        (
            format!("{}{SIGNATURE}", format!("{other} ").repeat(16)),
            false,
        ),
        (format!("{}{SIGNATURE}", "v1,A ".repeat(10_000)), false),
        (other, false),
        (SIGNATURE.replacen("v1", "v2", 1), false),
        (SIGNATURE.replacen("v1,", "v1a,", 1), false),
        (SIGNATURE.replacen("v1,", "", 1), false),
        ("v1,".to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(
            verify(&svix(&signatures)).is_ok(),
            believed,
            "{signatures:.60}"
        );
    }
    for length in 0..SIGNATURE.len() {
        let short = verify(&svix(&SIGNATURE[..length]));
        assert_eq!(short, Err(Untrue::Signature), "{length}");
    }
}

#[test]
fn the_time_of_sending_is_five_minutes_off_at_most() {
    let verifier = Verifier::new(SECRET).unwrap();
    for (now, expected) in [
        (SENT + 300, Ok(ID.to_owned())),
        (SENT - 300, Ok(ID.to_owned())),
        (SENT + 301, Err(Untrue::Moment)),
        (SENT - 301, Err(Untrue::Moment)),
    ] {
        assert_eq!(verifier.verify(&svix(SIGNATURE), BODY, now), expected);
    }
    // Signed by the true secret all the same.
    for (sent, expected) in [
        ("", Untrue::Timestamp),
        ("-1", Untrue::Timestamp),
        ("+1614265330", Untrue::Timestamp),
        ("1614265330.0", Untrue::Timestamp),
        ("1e9", Untrue::Timestamp),
        ("0x6037BBF2", Untrue::Timestamp),
        ("99999999999999999999999", Untrue::Timestamp),
        ("0", Untrue::Moment),
        ("1614265330000", Untrue::Moment),
    ] {
        let signature = signed(SECRET, ID, sent);
        let headers = headers("svix", ID, sent, &signature);
        assert_eq!(verify(&headers), Err(expected), "{sent}");
    }
}

#[test]
fn what_was_signed_is_the_id_the_time_and_every_byte() {
    let verifier = Verifier::new(SECRET).unwrap();
    for body in [
        &b""[..],
        b"{\"test\":2432232314}",
        b"{\"test\": 2432232314} ",
    ] {
        let changed = verifier.verify(&svix(SIGNATURE), body, SENT);
        assert_eq!(changed, Err(Untrue::Signature));
    }
    let other_id = headers("svix", "msg_other", &SENT.to_string(), SIGNATURE);
    assert_eq!(verify(&other_id), Err(Untrue::Signature));
    for id in ["", "msg.1", &"a".repeat(257)] {
        let signature = signed(SECRET, id, &SENT.to_string());
        let headers = headers("svix", id, &SENT.to_string(), &signature);
        assert_eq!(verify(&headers), Err(Untrue::Id), "{id}");
    }
}

#[test]
fn while_a_secret_is_rotated_both_hold_and_no_third() {
    let other = format!("whsec_{}", STANDARD.encode([3; 24]));
    let stranger = format!("whsec_{}", STANDARD.encode([4; 24]));
    let both = Verifier::new(&format!("{other}\n{SECRET}\n")).unwrap();
    let sent = SENT.to_string();
    for (secret, believed) in [(SECRET, true), (&other, true), (&stranger, false)] {
        let headers = svix(&signed(secret, ID, &sent));
        assert_eq!(both.verify(&headers, BODY, SENT).is_ok(), believed);
    }
    let after = Verifier::new(&other).unwrap();
    let old = after.verify(&svix(SIGNATURE), BODY, SENT);
    assert_eq!(old, Err(Untrue::Signature));
    let wrong = |text: &str| Verifier::new(text).err();
    assert_eq!(wrong(" \n"), Some(SecretError::None));
    assert_eq!(wrong("whsec_short="), Some(SecretError::Shape));
    assert_eq!(wrong("whsec_AAAA"), Some(SecretError::Shape));
    let many = format!("{SECRET} ").repeat(9);
    assert_eq!(wrong(&many), Some(SecretError::TooMany));
}

fn event(name: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut message = json!({
        "object": "event", "type": name, "projectId": 1, "applicationId": 1,
        "timestamp": 1_754_067_715_103_i64,
        "data": {
            "id": format!("d6cb1d43:{name}"), "name": name, "store": "APP_STORE",
            "environment": "PRODUCTION", "originalTransactionId": "700", "transactionId": "701",
            "originalAppUserId": null, "productId": "com.example.premium.yearly",
            "bundleId": "com.example.app", "ts": 1_754_067_710_000_i64, "price": -9.99,
        },
    });
    change(&mut message);
    message.to_string().into_bytes()
}

/// The names that a body gives its purchase, or what else it came to.
fn names(body: &[u8]) -> Result<Vec<String>, String> {
    match read(body, &example()) {
        Reading::Hint(hint) => Ok(hint
            .names
            .into_iter()
            .map(|name| format!("{}/{}/{}", name.app, name.kind.as_str(), name.value))
            .collect()),
        Reading::Ignored { .. } => Err("ignored".into()),
        Reading::Unsupported { reason, .. } => Err(reason.into()),
        other @ (Reading::Chain(_) | Reading::Unreadable { .. }) => Err(format!("{other:?}")),
    }
}

#[test]
fn every_published_event_names_its_purchase() {
    for name in [
        "initial_purchase",
        "renewal",
        "cancellation",
        "uncancellation",
        "expiration",
        "billing_issue",
        "product_change",
        "subscription_paused",
        "non_renewing_purchase",
    ] {
        let apple = names(&event(name, |_| {})).unwrap();
        assert_eq!(apple, ["example-ios/original_transaction_id/700"], "{name}");
    }
    let google = event("renewal", |message| {
        message["data"]["store"] = json!("PLAY_STORE");
        message["data"]["originalTransactionId"] = json!("GPA.3347-1");
        message["data"]["transactionId"] = json!("GPA.3347-2..7");
    });
    assert_eq!(
        names(&google).unwrap(),
        [
            "example-android/order_id/GPA.3347-1",
            "example-android/order_id/GPA.3347-2"
        ]
    );
    let one_order = event("renewal", |message| {
        message["data"]["store"] = json!("PLAY_STORE");
        message["data"]["originalTransactionId"] = json!("GPA.3347-1");
        message["data"]["transactionId"] = json!("GPA.3347-1..0");
    });
    assert_eq!(
        names(&one_order).unwrap(),
        ["example-android/order_id/GPA.3347-1"]
    );
}

#[test]
fn the_newer_shape_is_read_leniently() {
    let lean = event("renewal", |message| {
        let data = message["data"].as_object_mut().unwrap();
        data.remove("name");
        data.remove("bundleId");
        data.remove("transactionId");
        data.insert("originalTransactionId".into(), json!(700));
        data.insert("ts".into(), json!("2026-01-01"));
        data.insert("subscription".into(), json!({"state": ["odd"]}));
    });
    assert_eq!(
        names(&lean).unwrap(),
        ["example-ios/original_transaction_id/700"]
    );
    let no_original = event("renewal", |message| {
        message["data"]["originalTransactionId"] = Value::Null;
    });
    assert_eq!(
        names(&no_original).unwrap(),
        ["example-ios/original_transaction_id/701"]
    );
}

#[test]
fn what_is_not_understood_is_set_aside() {
    for (body, expected) in [
        (b"".to_vec(), "it is not JSON, or not an object"),
        (b"1".to_vec(), "it is not JSON, or not an object"),
        (b"[1]".to_vec(), "it has no data"),
        (b"{}".to_vec(), "it has no data"),
        (
            event("subscription_extended", |_| {}),
            "an event of an unknown kind",
        ),
        (
            event("renewal", |m| m["data"]["store"] = json!("HOME_STORE")),
            "it does not name a store that is known",
        ),
        (
            event("renewal", |m| m["data"]["store"] = json!("STRIPE")),
            "ignored",
        ),
        (
            event("renewal", |m| m["data"]["bundleId"] = json!("com.stranger")),
            "it is of an app that is not in the catalog",
        ),
        (
            event("renewal", |m| {
                m["data"]["originalTransactionId"] = Value::Null;
                m["data"]["transactionId"] = json!("9".repeat(129));
            }),
            "it does not name a purchase",
        ),
        (
            event("renewal", |m| {
                m["type"] = Value::Null;
                m["data"]["name"] = json!({});
            }),
            "it does not say what happened",
        ),
    ] {
        assert_eq!(names(&body), Err(expected.to_owned()));
    }
}

#[test]
fn what_is_said_of_people_is_not_kept() {
    let told = event("renewal", |message| {
        message["data"]["userAttributes"] = json!({"email": "a@example.com"});
        message["data"]["checkoutContext"] = json!({"email": "a@example.com"});
        message["data"]["originalAppUserId"] = json!("a@example.com");
        message["data"]["aliases"] = json!(["a@example.com"]);
    });
    let kept = redact(&told);
    assert!(!String::from_utf8_lossy(&kept).contains("example.com\""));
    assert_eq!(names(&kept), names(&told));
    let nothing = event("renewal", |_| {});
    assert_eq!(&*redact(&nothing), nothing, "byte for byte");
    assert_eq!(&*redact(b"no JSON"), b"no JSON");
}
