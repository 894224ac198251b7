//! Spellings of headers, forms, signatures and dates: which are a signed document.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::outcome;
use crate::providers::app_store::tests::support::{
    DAY_MS, NOW_MS, Signer, at, now, renewal, transaction, unsigned, with,
};
use crate::providers::app_store::verify::VerifyError;
use crate::providers::app_store::verify::jws::JWS_BYTES_MAX;
use crate::providers::app_store::wire::{Notification, RenewalInfo, Transaction};

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
    0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[test]
fn genuine_documents_are_believed_again_and_again() {
    let signer = Signer::genuine();
    let verifier = signer.verifier();
    for _ in 0..2 {
        let jws = signer.sign(&transaction());
        let verified = verifier.verify::<Transaction>(&jws, now()).unwrap();
        assert_eq!(verified.signed_at(), now());
        assert_eq!(verified.payload().product_id, "monthly");
    }
    let tampered = signer.sign(&transaction()).replacen('.', ".e30", 1);
    assert!(verifier.verify::<Transaction>(&tampered, now()).is_err());
}

#[test]
fn the_algorithm_has_one_spelling() {
    let signer = Signer::genuine();
    let with_alg = |alg: &Value| {
        let header = with(signer.header(), json!({"alg": alg}));
        outcome(&signer, &signer.sign_header(&header, &transaction()))
    };
    let words = [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "HS256",
        "HS384",
        "HS512",
        "RS256",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "ES384",
        "ES512",
        "ES256K",
        "EdDSA",
        "Ed25519",
        "es256",
        "Es256",
        "eS256",
        "ES256 ",
        " ES256",
        "ES256\n",
        "ES256\0",
        "ES-256",
        "ECDSA",
        "SHA256",
        "ES255",
        "ES2560",
        "E\u{405}256",
    ];
    for word in words {
        assert_eq!(
            with_alg(&json!(word)),
            Err(VerifyError::Algorithm),
            "{word:?}"
        );
    }
    for value in [
        json!(["ES256"]),
        json!({"a": "ES256"}),
        json!(256),
        json!(true),
        json!(false),
    ] {
        assert_eq!(with_alg(&value), Err(VerifyError::Header), "{value}");
    }
    let x5c = serde_json::to_string(&signer.x5c()).unwrap();
    for header in [
        format!(r#"{{"x5c":{x5c}}}"#),
        format!(r#"{{"alg":null,"x5c":{x5c}}}"#),
        format!(r#"{{"alg":"none","alg":"ES256","x5c":{x5c}}}"#),
        format!(r#"{{"alg":"ES256","x5c":{x5c},"x5c":{x5c}}}"#),
        format!(r#"{{"alg":"ES256","x5c":{x5c}}} x"#),
        r#"{"alg":"ES256"}"#.to_owned(),
        r#""ES256""#.to_owned(),
        String::new(),
    ] {
        let jws = signer.sign_text(&header, &transaction().to_string());
        assert_eq!(
            outcome(&signer, &jws),
            Err(VerifyError::Header),
            "{header:.40}"
        );
    }
}

#[test]
fn an_hmac_with_the_public_key_is_no_signature() {
    let signer = Signer::genuine();
    let header = with(signer.header(), json!({"alg": "HS256"}));
    let signed = unsigned(&header.to_string(), &transaction().to_string());
    let key = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA256,
        signer.leaf.key().public_key_raw(),
    );
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    let jws = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(outcome(&signer, &jws), Err(VerifyError::Algorithm));
}

#[test]
fn header_names_that_bring_keys_or_rules_are_refused() {
    let signer = Signer::genuine();
    for name in ["jwk", "jku", "x5u", "crit", "b64"] {
        for value in [r#""http://127.0.0.1:9/""#, "null", "false", "[]", "{}"] {
            let x5c = serde_json::to_string(&signer.x5c()).unwrap();
            let header = format!(r#"{{"alg":"ES256","x5c":{x5c},"{name}":{value}}}"#);
            let jws = signer.sign_text(&header, &transaction().to_string());
            assert_eq!(
                outcome(&signer, &jws),
                Err(VerifyError::ForbiddenHeader(name))
            );
        }
    }
    let harmless = with(
        signer.header(),
        json!({"kid": "../../etc", "typ": "JWT", "new": [1]}),
    );
    assert_eq!(
        outcome(&signer, &signer.sign_header(&harmless, &transaction())),
        Ok(())
    );
}

#[test]
fn the_form_is_compact_and_unpadded() {
    let signer = Signer::genuine();
    let jws = signer.sign(&transaction());
    let parts: Vec<&str> = jws.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("three parts")
    };
    let forms = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{jws}."),
        format!("{jws}.{signature}"),
        format!(".{jws}"),
        format!("{jws}="),
        format!("{jws} "),
        format!(" {jws}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}\n.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.+{payload}.{signature}"),
        format!("\u{feff}{jws}"),
        json!({"payload": payload, "protected": header, "signature": signature}).to_string(),
        "x".repeat(JWS_BYTES_MAX + 1),
    ];
    for form in forms {
        assert!(outcome(&signer, &form).is_err(), "{form:.60}");
    }
    assert_eq!(outcome(&signer, &jws), Ok(()));
}

/// `ORDER` − `s`: the other half of an ECDSA signature's twin.
fn minus(s: &[u8]) -> Vec<u8> {
    let mut borrow = 0_i16;
    let mut result = vec![0; 32];
    for n in (0..32).rev() {
        let difference = i16::from(ORDER[n]) - i16::from(s[n]) - borrow;
        borrow = i16::from(difference < 0);
        result[n] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    result
}

#[test]
fn a_signature_is_r_and_s_in_range() {
    let signer = Signer::genuine();
    let signed = unsigned(&signer.header().to_string(), &transaction().to_string());
    let signature = signer.es256(signed.as_bytes());
    let (r, s) = signature.split_at(32);
    let der = [&[0x30, 68, 2, 32][..], r, &[2, 32], s].concat();
    let try_with = |bytes: &[u8]| {
        outcome(
            &signer,
            &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes)),
        )
    };
    assert_eq!(try_with(&signature), Ok(()));
    assert_eq!(
        try_with(&[r, &minus(s)].concat()),
        Ok(()),
        "high s, as Apple's library does"
    );
    for length in [
        &der[..],
        &signature[..63],
        &[&signature[..], &[0]].concat(),
        b"",
        &[0; 128],
    ] {
        assert_eq!(try_with(length), Err(VerifyError::SignatureLength));
    }
    let zero = [0; 32];
    for (r, s) in [
        (&zero[..], s),
        (r, &zero[..]),
        (&zero, &zero),
        (&ORDER, s),
        (r, &ORDER),
        (s, r),
    ] {
        assert_eq!(try_with(&[r, s].concat()), Err(VerifyError::Signature));
    }
    assert_eq!(try_with(&[0xff; 64]), Err(VerifyError::Signature));
}

#[test]
fn time_is_judged_at_signed_date() {
    let signer = Signer::genuine();
    let minute = 60_000;
    // The leaf is valid from 2025-01-01 to 2027-01-01; 2027-06-01 is after it.
    let later = at(1_811_800_000_000);
    let old = signer.sign(&with(
        transaction(),
        json!({"signedDate": NOW_MS - 300 * DAY_MS}),
    ));
    assert!(signer.verifier().verify::<Transaction>(&old, later).is_ok());
    let cases = [
        (json!(NOW_MS + 5 * minute), Ok(())),
        (
            json!(NOW_MS + 5 * minute + 1),
            Err(VerifyError::SignedInFuture),
        ),
        (json!(NOW_MS + 400 * DAY_MS), Err(VerifyError::NotValidThen)),
        (json!(1), Err(VerifyError::NotValidThen)),
        (json!(-1), Err(VerifyError::NotValidThen)),
        (json!(0), Err(VerifyError::NotValidThen)),
        (json!(NOW_MS / 1000), Err(VerifyError::NotValidThen)),
        (json!(i64::MAX), Err(VerifyError::SignedDate)),
        (json!(i64::MIN), Err(VerifyError::SignedDate)),
        (json!(u64::MAX), Err(VerifyError::SignedDate)),
        (json!(NOW_MS.to_string()), Err(VerifyError::SignedDate)),
        (json!(1_790_000_000_000.0_f64), Err(VerifyError::SignedDate)),
        (json!(1e308), Err(VerifyError::SignedDate)),
        (json!([NOW_MS]), Err(VerifyError::SignedDate)),
        (json!(true), Err(VerifyError::SignedDate)),
        (json!(null), Err(VerifyError::SignedDate)),
    ];
    for (date, expected) in cases {
        let jws = signer.sign(&with(transaction(), json!({"signedDate": date})));
        assert_eq!(outcome(&signer, &jws), expected, "{date}");
    }
}

#[test]
fn a_remembered_chain_still_minds_its_time_and_signature() {
    let signer = Signer::genuine();
    let verifier = signer.verifier();
    let verify = |jws: &str| verifier.verify::<Transaction>(jws, now()).map(drop);
    assert_eq!(verify(&signer.sign(&transaction())), Ok(()));
    let expired = signer.sign(&with(
        transaction(),
        json!({"signedDate": 1_600_000_000_000_i64}),
    ));
    assert_eq!(verify(&expired), Err(VerifyError::NotValidThen));
    let forger = Signer::genuine().sign_header(&signer.header(), &transaction());
    assert_eq!(verify(&forger), Err(VerifyError::Signature));
}

#[test]
fn one_kind_of_document_does_not_pass_for_another() {
    let signer = Signer::genuine();
    let verifier = signer.verifier();
    let jws = signer.sign(&transaction());
    assert!(verifier.verify::<Notification>(&jws, now()).is_err());
    let jws = signer.sign(&renewal());
    assert!(verifier.verify::<RenewalInfo>(&jws, now()).is_ok());
    assert!(verifier.verify::<Transaction>(&jws, now()).is_err());
}
