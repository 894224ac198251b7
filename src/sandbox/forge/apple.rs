//! The corpus of App Store documents: what forgers do, in generated variants, and genuine documents
//! that look odd.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use num_bigint::BigUint;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use super::super::Sandbox;
use super::super::certs::{AppleChain, Profile, RECEIPT_SIGNING_OID, header};
use super::super::error::SandboxError;
use super::super::jws::{Algorithm, SigningKey, compact, encode, under};
use super::{
    Forged, Specimen, apple_variants, authority, chained, forgery, genuine, leaf_of, of, signed,
};

/// Every spelling under which a verifier may take another algorithm, or none, for the one that the
/// App Store signs with. As JSON, because not all are strings.
const ALGORITHMS: [&str; 42] = [
    r#""none""#,
    r#""None""#,
    r#""NONE""#,
    r#""nOnE""#,
    r#""HS256""#,
    r#""hs256""#,
    r#""HS384""#,
    r#""HS512""#,
    r#""RS256""#,
    r#""rs256""#,
    r#""RS384""#,
    r#""RS512""#,
    r#""PS256""#,
    r#""PS384""#,
    r#""PS512""#,
    r#""ES384""#,
    r#""ES512""#,
    r#""ES256K""#,
    r#""es256""#,
    r#""Es256""#,
    r#""eS256""#,
    r#""ES-256""#,
    r#""ES_256""#,
    r#""ES256 ""#,
    r#"" ES256""#,
    r#""ES256\u0000""#,
    r#""ES256\n""#,
    r#""ES256\u200b""#,
    r#""\u0415S256""#,
    r#""ES256,none""#,
    r#""SHA256withECDSA""#,
    r#""ECDSA""#,
    r#""EdDSA""#,
    r#""Ed25519""#,
    r#""dir""#,
    r#""A256GCM""#,
    r#""""#,
    "null",
    "256",
    "true",
    r#"["ES256"]"#,
    r#"{"alg":"ES256"}"#,
];

/// The order of P-256's group.
static ORDER: LazyLock<BigUint> = LazyLock::new(|| {
    let order = b"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    BigUint::parse_bytes(order, 16).unwrap_or_default()
});

/// Single bytes that are changed in otherwise genuine documents.
const FLIPS: usize = 40;

/// Everything in [`apple_variants`] and more, with genuine documents among them. `canary` is a URL
/// that nobody may ask for; `seed` draws what is generated.
pub fn apple_corpus(sandbox: &Sandbox, payload: &Value, canary: &str, seed: u64) -> Forged {
    let chain = &sandbox.inner.keys.apple;
    let mut all = apple_variants(sandbox, payload)?;
    all.extend(of(
        "A1",
        vec![genuine("the genuine chain", chain.sign(payload)?)],
    ));
    all.extend(of("A2", chains(chain, payload)?));
    all.extend(of("A3", algorithms(chain, payload)?));
    all.extend(of("A4", headers(chain, payload, canary)?));
    all.extend(of("A5", signatures(chain, payload)?));
    all.extend(of("A6", moments(chain, payload)?));
    all.extend(of("A8", environments(chain, payload)?));
    all.extend(of("A10", flips(chain, payload, seed)?));
    Ok(all)
}

/// Further shapes of chains.
fn chains(chain: &AppleChain, payload: &Value) -> Forged {
    let [leaf, intermediate, root] = chain.x5c();
    let forge = |name: &str, certificates: &[&[u8]]| -> Result<Specimen, SandboxError> {
        Ok(forgery(name, chained(&chain.leaf, certificates, payload)?))
    };
    // The marker of the leaf on the intermediate, and the other way round.
    let swapped = authority(
        &chain.root,
        &Profile {
            markers: vec![RECEIPT_SIGNING_OID],
            ..chain.intermediate_profile()
        },
    )?;
    let beneath = leaf_of(&swapped, &chain.leaf_profile())?;
    let swapped_chain = [beneath.der.as_slice(), &swapped.der, root];
    let mut cut = leaf.to_vec();
    cut.truncate(leaf.len() / 2);
    let mut trailing = leaf.to_vec();
    trailing.push(0);
    let hundred = vec![leaf; 100];
    let stranger = chain.stranger()?;
    let [_, _, foreign_root] = stranger.x5c();
    let whole = [leaf, intermediate, root];
    Ok(vec![
        forge("leaf in the place of all", &[leaf, leaf, root])?,
        forge("root in the place of the intermediate", &[leaf, root, root])?,
        forge("root in the place of the leaf", &[root, intermediate, root])?,
        forge(
            "intermediate in the place of the leaf",
            &[intermediate, intermediate, root],
        )?,
        forge("a hundred certificates", &hundred)?,
        forge("leaf cut in half", &[&cut, intermediate, root])?,
        forge(
            "leaf with a byte too many",
            &[&trailing, intermediate, root],
        )?,
        forgery(
            "intermediate with the leaf's marker",
            chained(&beneath, &swapped_chain, payload)?,
        ),
        // What is pinned decides, not what a document calls its root.
        genuine(
            "a stranger's root in third place, which nobody looks at",
            chained(&chain.leaf, &[leaf, intermediate, foreign_root], payload)?,
        ),
        genuine("the chain as it is", chained(&chain.leaf, &whole, payload)?),
    ])
}

fn algorithms(chain: &AppleChain, payload: &Value) -> Forged {
    let x5c = header("ES256", &chain.x5c())["x5c"].to_string();
    let sign = |head: String| under(&encode(head), payload, |text| chain.leaf.key.sign(text));
    let mut all = Vec::new();
    for spelling in ALGORITHMS {
        let jws = sign(format!(r#"{{"alg":{spelling},"x5c":{x5c}}}"#))?;
        if spelling.to_lowercase().contains("none") {
            let (message, _) = jws.rsplit_once('.').unwrap_or_default();
            let name = format!("alg {spelling} without a signature");
            all.push(forgery(name, format!("{message}.")));
        }
        all.push(forgery(format!("alg {spelling}"), jws));
    }
    all.push(forgery("no alg", sign(format!(r#"{{"x5c":{x5c}}}"#))?));
    all.push(forgery(
        "alg given twice",
        sign(format!(r#"{{"alg":"none","alg":"ES256","x5c":{x5c}}}"#))?,
    ));
    all.push(forgery(
        "x5c given twice",
        sign(format!(r#"{{"alg":"ES256","x5c":[],"x5c":{x5c}}}"#))?,
    ));
    Ok(all)
}

/// Headers that bring a key, lead to one, or change what is signed.
fn headers(chain: &AppleChain, payload: &Value, canary: &str) -> Forged {
    let with = |name: &str, value: Value| {
        let mut head = header("ES256", &chain.x5c());
        head[name] = value;
        signed(&chain.leaf, &head, payload)
    };
    let own = SigningKey::generate(Algorithm::Es256, "own".to_owned())?;
    let by_own = |name: &str, value: Value| {
        let mut head = header("ES256", &chain.x5c());
        head[name] = value;
        compact(&head, payload, |text| own.sign(text))
    };
    let mut all = vec![
        forgery("jwk beside the chain", with("jwk", own.jwk())?),
        forgery("jku beside the chain", with("jku", json!(canary))?),
        forgery("x5u beside the chain", with("x5u", json!(canary))?),
        forgery("jku to the signer's keys", by_own("jku", json!(canary))?),
        forgery("x5u to the signer's chain", by_own("x5u", json!(canary))?),
        forgery("jwk of the signer", by_own("jwk", own.jwk())?),
        forgery("crit names b64", {
            let mut head = header("ES256", &chain.x5c());
            head["crit"] = json!(["b64"]);
            head["b64"] = json!(true);
            signed(&chain.leaf, &head, payload)?
        }),
        forgery("crit of nothing", with("crit", json!([]))?),
        forgery("b64 false", with("b64", json!(false))?),
    ];
    for kid in [
        "../../../../etc/passwd",
        "' or 1=1 --",
        canary,
        "\u{0}",
        "00000000-0000-0000-0000-000000000000",
    ] {
        let name = format!("kid {kid:?}, which nobody looks at");
        all.push(genuine(name, with("kid", json!(kid))?));
    }
    all.push(genuine("typ JWT", with("typ", json!("JWT"))?));
    Ok(all)
}

/// Numbers in the place of a signature.
fn signatures(chain: &AppleChain, payload: &Value) -> Forged {
    let good = chain.sign(payload)?;
    let (message, signature) = good.rsplit_once('.').unwrap_or_default();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let (r, s) = raw.split_at_checked(32).unwrap_or_default();
    let order = scalar(&ORDER);
    let zero = [0; 32];
    let with = |bytes: Vec<u8>| format!("{message}.{}", encode(bytes));
    let other = scalar(&(&*ORDER - BigUint::from_bytes_be(s)));
    let above = |part: &[u8]| scalar_or_ones(&(&*ORDER + BigUint::from_bytes_be(part)));
    Ok(vec![
        forgery("65 bytes", with([&raw[..], &[0]].concat())),
        forgery("66 bytes, each half with a zero in front", {
            with([&[0], r, &[0], s].concat())
        }),
        forgery("r is 0", with([&zero, s].concat())),
        forgery("s is 0", with([r, &zero].concat())),
        forgery("r is the group's order", with([&order, s].concat())),
        forgery("s is the group's order", with([r, &order].concat())),
        forgery("r above the order", with([&above(r), s].concat())),
        forgery("s above the order", with([r, &above(s)].concat())),
        forgery("all ones", with(vec![255; 64])),
        forgery("r and s exchanged", with([s, r].concat())),
        forgery("signature given twice", with([&raw[..], &raw].concat())),
        forgery("padded base64", format!("{message}.{signature}==")),
        forgery("base64 of the other alphabet", {
            // Both letters must occur for the alphabets to differ.
            let text = signature.replace('-', "+").replace('_', "/");
            match text == signature {
                true => format!("{message}.{signature}+"),
                false => format!("{message}.{text}"),
            }
        }),
        // Two signatures are good for every one: its bytes identify nothing.
        genuine("the other s", with([r, &other].concat())),
    ])
}

/// 32 bytes, big-endian.
fn scalar(number: &BigUint) -> Vec<u8> {
    let digits = number.to_bytes_be();
    let mut bytes = vec![0; 32_usize.saturating_sub(digits.len())];
    bytes.extend(digits);
    bytes
}

/// The same, or the greatest number if it does not fit.
fn scalar_or_ones(number: &BigUint) -> Vec<u8> {
    let bytes = scalar(number);
    if bytes.len() > 32 {
        vec![255; 32]
    } else {
        bytes
    }
}

/// When a document says it was signed, and when its certificates were good.
fn moments(chain: &AppleChain, payload: &Value) -> Forged {
    let signed_at = |value: Value| {
        let mut changed = payload.clone();
        changed["signedDate"] = value;
        chain.sign(&changed)
    };
    let without = {
        let mut changed = payload.clone();
        if let Some(fields) = changed.as_object_mut() {
            fields.remove("signedDate");
        }
        chain.sign(&changed)?
    };
    let millis = payload["signedDate"].as_i64().unwrap_or_default();
    let minute = 60_000;
    // Good for two years, while business time is later.
    let short = leaf_of(
        &chain.intermediate,
        &Profile {
            years: (2021, 2023),
            ..chain.leaf_profile()
        },
    )?;
    let [_, intermediate, root] = chain.x5c();
    let by_short = |millis: i64| {
        let mut changed = payload.clone();
        changed["signedDate"] = json!(millis);
        chained(&short, &[&short.der, intermediate, root], &changed)
    };
    let (in_2020, in_2022, in_2024) = (1_590_969_600_000, 1_654_041_600_000, 1_717_200_000_000);
    let mut all = vec![
        genuine("leaf that has expired since it signed", by_short(in_2022)?),
        forgery(
            "leaf that was not valid yet when it signed",
            by_short(in_2020)?,
        ),
        forgery("leaf that had expired when it signed", by_short(in_2024)?),
        forgery("no signedDate", without),
        genuine(
            "signed four minutes from now",
            signed_at(json!(millis + 4 * minute))?,
        ),
        forgery(
            "signed an hour from now",
            signed_at(json!(millis + 60 * minute))?,
        ),
        forgery(
            "signed in ten years",
            signed_at(json!(millis + 5_256_000 * minute))?,
        ),
    ];
    for odd in [
        json!(millis.to_string()),
        json!(1.5),
        json!(1e308),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0),
        Value::Null,
        json!(true),
        json!([millis]),
        json!({ "millis": millis }),
    ] {
        all.push(forgery(format!("signedDate {odd}"), signed_at(odd)?));
    }
    Ok(all)
}

/// Worlds in which Apple's own library checks no signature at all.
fn environments(chain: &AppleChain, payload: &Value) -> Forged {
    let stranger = chain.stranger()?;
    let mut all = Vec::new();
    for environment in ["Xcode", "LocalTesting"] {
        let mut changed = payload.clone();
        changed["environment"] = json!(environment);
        all.push(forgery(
            format!("{environment}, by a stranger"),
            stranger.sign(&changed)?,
        ));
        all.push(forgery(format!("{environment}, unsigned"), {
            let head = encode(json!({"alg": "ES256", "x5c": []}).to_string());
            format!("{head}.{}.", encode(changed.to_string()))
        }));
    }
    Ok(all)
}

/// Documents that Apple has signed, of another app or of no world of the stores'. Whoever looks at
/// the signature alone takes them.
pub fn apple_misplaced(sandbox: &Sandbox, payload: &Value) -> Forged {
    let chain = &sandbox.inner.keys.apple;
    let place = if payload.get("data").is_some() {
        "/data"
    } else {
        ""
    };
    let with = |field: &str, value: Option<Value>| {
        let mut changed = payload.clone();
        if let Some(fields) = changed.pointer_mut(place).and_then(Value::as_object_mut) {
            match value {
                Some(value) => fields.insert(field.to_owned(), value),
                None => fields.remove(field),
            };
        }
        chain.sign(&changed)
    };
    let bundle = sandbox.manifest().bundle_id;
    let mut all = vec![genuine("of this app", chain.sign(payload)?)];
    for odd in [
        Some(json!("com.example.other")),
        Some(json!(bundle.to_uppercase())),
        Some(json!(format!("{bundle}.evil"))),
        Some(json!(format!("evil.{bundle}"))),
        Some(json!(format!("{bundle} "))),
        Some(json!(format!("{bundle}\u{0}"))),
        Some(json!("")),
        Some(json!([bundle])),
        Some(json!({ "bundleId": bundle })),
        Some(Value::Null),
        None,
    ] {
        let name = match &odd {
            Some(odd) => format!("bundleId {odd}"),
            None => "no bundleId".to_owned(),
        };
        all.push(forgery(name, with("bundleId", odd)?));
    }
    for odd in ["Xcode", "LocalTesting", "production", "PRODUCTION", ""] {
        let name = format!("environment {odd:?}");
        all.push(forgery(name, with("environment", Some(json!(odd)))?));
    }
    if !place.is_empty() {
        let id = sandbox.manifest().app_apple_id;
        for odd in [json!(id + 1), json!(0), json!(-id), Value::Null] {
            let name = format!("appAppleId {odd}");
            all.push(forgery(name, with("appAppleId", Some(odd))?));
        }
        all.push(forgery("no appAppleId", with("appAppleId", None)?));
    }
    Ok(of("A7", all).collect())
}

/// One byte changed anywhere in a genuine document.
fn flips(chain: &AppleChain, payload: &Value, seed: u64) -> Forged {
    let good = chain.sign(payload)?;
    let mut dice = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    // The last character of a part may carry bits that decoding drops: another's matter.
    let ends: Vec<usize> = good
        .char_indices()
        .filter(|(_, letter)| *letter == '.')
        .map(|(at, _)| at.saturating_sub(1))
        .chain([good.len() - 1])
        .collect();
    while all.len() < FLIPS {
        let at = dice.random_range(0..good.len());
        let mut bytes = good.clone().into_bytes();
        let Some(byte) = bytes.get_mut(at) else { break };
        let new = *b"AZaz09-_.".get(dice.random_range(0..9)).unwrap_or(&b'A');
        if *byte == new || ends.contains(&at) {
            continue;
        }
        *byte = new;
        let jws = String::from_utf8_lossy(&bytes).into_owned();
        // A change of the third certificate is one that nobody looks at, but it is signed over.
        all.push(forgery(format!("byte {at} changed (seed {seed})"), jws));
    }
    Ok(all)
}
