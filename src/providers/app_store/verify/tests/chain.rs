//! Shapes of certificate chains: which may sign for the App Store.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};
use serde_json::{Value, json};

use super::outcome;
use crate::providers::app_store::tests::support::{
    Certified, DEVELOPER_OID, INTERMEDIATE_OID, LEAF_OID, Profile, Signer, at, transaction,
};
use crate::providers::app_store::verify::chain::Candidate;
use crate::providers::app_store::verify::error::Role;
use crate::providers::app_store::verify::{Roots, VerifyError};

const APPLE_INTERMEDIATE: &[u8] = include_bytes!("../../testdata/apple_wwdr_g6.cer");
const APPLE_LEAF: &[u8] = include_bytes!("../../testdata/apple_receipt_signing_2025.cer");

fn chain(x5c: &[&Certified]) -> Value {
    let x5c: Vec<String> = x5c.iter().map(|one| STANDARD.encode(&one.der)).collect();
    json!({"alg": "ES256", "x5c": x5c})
}

fn no_path(result: Result<(), VerifyError>) -> bool {
    matches!(result, Err(VerifyError::Path(_)))
}

#[test]
fn the_chain_that_apple_signs_with_leads_to_the_shipped_root() {
    let candidate = || {
        let x5c = [
            STANDARD.encode(APPLE_LEAF),
            STANDARD.encode(APPLE_INTERMEDIATE),
        ];
        Candidate::decode([&x5c[0], &x5c[1]]).unwrap()
    };
    let november_2025 = at(1_761_962_975_000);
    assert!(
        candidate()
            .verify(&Roots::apple().unwrap(), november_2025)
            .is_ok()
    );
    for outside in [1_700_000_000_000, 1_850_000_000_000] {
        let result = candidate()
            .verify(&Roots::apple().unwrap(), at(outside))
            .map(drop);
        assert_eq!(result, Err(VerifyError::NotValidThen));
    }
    let other_root = Signer::genuine().roots();
    assert!(no_path(
        candidate().verify(&other_root, november_2025).map(drop)
    ));
}

#[test]
fn a_root_of_the_same_name_is_not_the_pinned_one() {
    let (genuine, twin) = (Signer::genuine(), Signer::genuine());
    assert!(no_path(outcome(&genuine, &twin.sign(&transaction()))));
    let borrowed_root = chain(&[&twin.leaf, &twin.intermediate, &genuine.root]);
    let jws = twin.sign_header(&borrowed_root, &transaction());
    assert!(no_path(outcome(&genuine, &jws)));
    let borrowed_intermediate = chain(&[&twin.leaf, &genuine.intermediate, &genuine.root]);
    let jws = twin.sign_header(&borrowed_intermediate, &transaction());
    assert!(no_path(outcome(&genuine, &jws)));
    let jws = twin.sign_header(&genuine.header(), &transaction());
    assert_eq!(outcome(&genuine, &jws), Err(VerifyError::Signature));
}

#[test]
fn only_the_marked_shape_of_chain_may_sign() {
    let (intermediate, leaf) = (Profile::intermediate(), Profile::leaf());
    let marker = |role, oid| VerifyError::Marker { role, oid };
    let bad_leaf = || marker(Role::Leaf, "1.2.840.113635.100.6.11.1");
    let bad_intermediate = || marker(Role::Intermediate, "1.2.840.113635.100.6.2.1");
    let marked = |profile: &Profile, oid| Profile {
        marker: oid,
        ..profile.clone()
    };
    let not_null = |profile: &Profile| Profile {
        marker_value: vec![4, 0],
        ..profile.clone()
    };
    let ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cases = [
        (
            "a developer's leaf",
            intermediate.clone(),
            marked(&leaf, Some(DEVELOPER_OID)),
            bad_leaf(),
        ),
        (
            "no leaf marker",
            intermediate.clone(),
            marked(&leaf, None),
            bad_leaf(),
        ),
        (
            "markers swapped",
            marked(&intermediate, Some(LEAF_OID)),
            marked(&leaf, Some(INTERMEDIATE_OID)),
            bad_leaf(),
        ),
        (
            "leaf marker is not NULL",
            intermediate.clone(),
            not_null(&leaf),
            bad_leaf(),
        ),
        (
            "no intermediate marker",
            marked(&intermediate, None),
            leaf.clone(),
            bad_intermediate(),
        ),
        (
            "leaf marker on the intermediate",
            marked(&intermediate, Some(LEAF_OID)),
            leaf.clone(),
            bad_intermediate(),
        ),
        (
            "intermediate marker is not NULL",
            not_null(&intermediate),
            leaf.clone(),
            bad_intermediate(),
        ),
        (
            "the intermediate is no CA",
            Profile {
                ca: IsCa::ExplicitNoCa,
                ..intermediate.clone()
            },
            leaf.clone(),
            VerifyError::IntermediateNotCa,
        ),
        (
            "the leaf is a CA",
            intermediate.clone(),
            Profile { ca, ..leaf.clone() },
            VerifyError::LeafIsCa,
        ),
        (
            "the leaf may only issue",
            intermediate.clone(),
            Profile {
                usages: vec![KeyUsagePurpose::KeyCertSign],
                ..leaf.clone()
            },
            VerifyError::KeyUsage(Role::Leaf),
        ),
        (
            "the intermediate may only sign",
            Profile {
                usages: vec![KeyUsagePurpose::DigitalSignature],
                ..intermediate.clone()
            },
            leaf.clone(),
            VerifyError::KeyUsage(Role::Intermediate),
        ),
        (
            "the leaf had expired",
            intermediate.clone(),
            Profile {
                years: (2024, 2026),
                ..leaf.clone()
            },
            VerifyError::NotValidThen,
        ),
        (
            "the leaf was not valid yet",
            intermediate.clone(),
            Profile {
                years: (2027, 2029),
                ..leaf.clone()
            },
            VerifyError::NotValidThen,
        ),
        (
            "the intermediate had expired",
            Profile {
                years: (2020, 2026),
                ..intermediate.clone()
            },
            leaf.clone(),
            VerifyError::NotValidThen,
        ),
    ];
    for (name, intermediate, leaf, expected) in cases {
        let signer = Signer::shaped(&intermediate, &leaf);
        assert_eq!(
            outcome(&signer, &signer.sign(&transaction())),
            Err(expected),
            "{name}"
        );
    }
}

#[test]
fn a_leaf_on_another_curve_is_refused() {
    let signer = Signer::genuine();
    let leaf = signer.intermediate.issue(&Profile {
        p384: true,
        ..Profile::leaf()
    });
    let header = chain(&[&leaf, &signer.intermediate, &signer.root]);
    let jws = signer.sign_header(&header, &transaction());
    assert_eq!(outcome(&signer, &jws), Err(VerifyError::LeafKey));
}

#[test]
fn the_chain_has_three_certificates_in_their_order() {
    let signer = Signer::genuine();
    let (leaf, intermediate, root) = (&signer.leaf, &signer.intermediate, &signer.root);
    for count in [0, 1, 2, 4, 100] {
        let header = chain(&[leaf, intermediate, root].repeat(40)[..count]);
        let jws = signer.sign_header(&header, &transaction());
        assert_eq!(outcome(&signer, &jws), Err(VerifyError::ChainLength(count)));
    }
    for order in [
        [leaf, leaf, root],
        [root, root, root],
        [intermediate, leaf, root],
        [leaf, root, intermediate],
        [root, intermediate, leaf],
        [intermediate, intermediate, root],
    ] {
        let jws = signer.sign_header(&chain(&order), &transaction());
        assert!(matches!(
            outcome(&signer, &jws),
            Err(VerifyError::Marker { .. })
        ));
    }
}

#[test]
fn nothing_may_stand_between_or_beside_the_path() {
    let signer = Signer::genuine();
    // Under the root without the intermediate, which is genuine but has no part in it.
    let straight = Signer {
        leaf: signer.root.issue(&Profile::leaf()),
        root: Certified::self_signed(&Profile::root()),
        intermediate: Certified::self_signed(&Profile::intermediate()),
    };
    let header = chain(&[&straight.leaf, &signer.intermediate, &signer.root]);
    assert!(no_path(outcome(
        &signer,
        &straight.sign_header(&header, &transaction())
    )));
    // A leaf that mints a child of its own, with the markers of an intermediate.
    let minting = signer.intermediate.issue(&Profile {
        marker: Some(INTERMEDIATE_OID),
        ..Profile::leaf()
    });
    let child = Signer {
        leaf: minting.issue(&Profile::leaf()),
        root: Certified::self_signed(&Profile::root()),
        intermediate: minting,
    };
    let jws = child.sign(&transaction());
    assert_eq!(outcome(&signer, &jws), Err(VerifyError::IntermediateNotCa));
}

#[test]
fn certificates_are_standard_base64_of_der_and_the_root_is_ignored() {
    let signer = Signer::genuine();
    let genuine = signer.x5c();
    let replaced = |place: usize, text: String| {
        let mut x5c = genuine.clone();
        x5c[place] = text;
        signer.sign_header(&json!({"alg": "ES256", "x5c": x5c}), &transaction())
    };
    for anything in ["", "!!!", "AAAA"] {
        assert_eq!(outcome(&signer, &replaced(2, anything.to_owned())), Ok(()));
    }
    let mut leaf = signer.leaf.der.clone();
    leaf.push(0);
    let misspelt = [
        URL_SAFE.encode(&signer.leaf.der),
        format!("{} ", genuine[0]),
        format!("-----BEGIN CERTIFICATE-----\n{}", genuine[0]),
        genuine[0].replacen("MII", "MII\n", 1),
        STANDARD.encode(&leaf),
        STANDARD.encode(&leaf[..100]),
        String::new(),
        "%%%".to_owned(),
    ];
    for text in misspelt {
        let result = outcome(&signer, &replaced(0, text));
        assert_eq!(result, Err(VerifyError::Certificate(Role::Leaf)));
    }
    for x5c in [
        json!("x"),
        json!(null),
        json!([1, 2, 3]),
        json!({}),
        json!([["a"], "b", "c"]),
    ] {
        let jws = signer.sign_header(&json!({"alg": "ES256", "x5c": x5c}), &transaction());
        assert_eq!(outcome(&signer, &jws), Err(VerifyError::Header));
    }
}
