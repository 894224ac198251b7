//! Tokens that an attacker made or moved: algorithms, keys, headers, signatures.

use serde_json::json;

use super::super::Cause;
use super::super::verify::decode;
use super::support::{KEYS, Signer, base64, raw, token, with};
use super::world::{Case, HEADER, NOW, World, case};

pub(super) fn algorithms(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let names = [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        " ",
        "ES256 ",
        " ES256",
        "es256",
        "Es256",
        "ES256K",
        "ES384",
        "ES512",
        "RS384",
        "RS512",
        "PS256",
        "PS384",
        "PS512",
        "HS256",
        "HS384",
        "HS512",
        "hs256",
        "rs256",
        "eddsa",
        "EDDSA",
        "Ed25519",
        "Ed448",
        "RSA1_5",
        "dir",
        "A128KW",
        "RS1",
        "ES256\u{0}",
        "ＥＳ２５６",
    ];
    for name in names {
        let header = json!({ "alg": name });
        let title = format!("alg {name:?}");
        cases.push(case(
            title,
            world.with_header(header),
            Cause::AlgorithmRefused,
        ));
    }
    for value in [
        json!(["ES256"]),
        json!(256),
        json!(true),
        json!({ "alg": "ES256" }),
        json!(null),
    ] {
        let title = format!("alg {value}");
        cases.push(case(
            title,
            world.with_header(json!({ "alg": value })),
            Cause::AlgorithmRefused,
        ));
    }
    for (kid, alg) in [
        ("es", "RS256"),
        ("es", "EdDSA"),
        ("rs", "ES256"),
        ("ed", "ES256"),
    ] {
        let changes = json!({ "alg": alg, "kid": kid });
        let title = format!("{alg} with the key {kid}");
        cases.push(case(
            title,
            world.with_header(changes),
            Cause::AlgorithmMismatch,
        ));
    }
    for key in [&KEYS.rs256, &KEYS.es256, &KEYS.eddsa] {
        let secret = key.public_bytes();
        for kid in ["rs", "es", "ed"] {
            let header = json!({ "alg": "HS256", "kid": kid, "typ": "JWT" });
            let forged = token(&header, &world.claims, &Signer::hs256(&secret));
            let title = format!("public key as HMAC secret, {kid}");
            cases.push(case(title, forged, Cause::AlgorithmRefused));
        }
    }
    cases
}

pub(super) fn keys(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let ids = [
        "unknown",
        "",
        "ES",
        "es ",
        "../../dev/null",
        "/dev/null",
        "' OR 1=1 --",
        "http://evil.example/keys",
        "file:///etc/passwd",
        "es\u{0}",
        "$(id)",
        "| id",
        "%65%73",
        "es384",
        "rs384",
        "ps256",
        "enc",
        "oct",
        "weak",
    ];
    for id in ids {
        let title = format!("kid {id:?}");
        cases.push(case(
            title,
            world.with_header(json!({ "kid": id })),
            Cause::KeyUnknown,
        ));
    }
    for id in [
        json!(1),
        json!(["es"]),
        json!({ "kid": "es" }),
        json!(true),
        json!("k".repeat(513)),
    ] {
        let title = format!("kid {id}");
        cases.push(case(
            title,
            world.with_header(json!({ "kid": id })),
            Cause::HeaderParameter,
        ));
    }
    let null = HEADER.replace("\"es\"", "null");
    let null = raw(&null, &world.claims.to_string(), &KEYS.es256);
    cases.push(case("kid null", null, Cause::HeaderParameter));
    let off = world.with_header(json!({ "kid": "off" }));
    cases.push(case(
        "a key that is not on its curve",
        off,
        Cause::SignatureInvalid,
    ));
    for (name, signer) in [
        ("rs384", &KEYS.rs384),
        ("ps256", &KEYS.ps256),
        ("es384", &KEYS.es384),
    ] {
        let header = json!({ "alg": name.to_uppercase(), "kid": name });
        let genuine = token(&header, &world.claims, signer);
        cases.push(case(
            format!("{name} is not allowed"),
            genuine,
            Cause::AlgorithmRefused,
        ));
    }
    let oct = token(
        &json!({ "alg": "HS256", "kid": "oct" }),
        &world.claims,
        &KEYS.hs256,
    );
    cases.push(case(
        "symmetric key in the key set",
        oct,
        Cause::AlgorithmRefused,
    ));
    let dev = with(&world.claims, json!({ "iss": "dev", "aud": null }));
    for (alg, kid, signer) in [("ES256", "es", &KEYS.es256), ("RS256", "rs", &KEYS.rs256)] {
        let crossed = token(&json!({ "alg": alg, "kid": kid }), &dev, signer);
        cases.push(case(
            format!("{alg} of another issuer"),
            crossed,
            Cause::AlgorithmRefused,
        ));
    }
    let other = token(
        &json!({ "alg": "HS256" }),
        &dev,
        &Signer::hs256("another secret"),
    );
    cases.push(case("another secret", other, Cause::SignatureInvalid));
    let empty = token(&json!({ "alg": "HS256" }), &dev, &Signer::hs256(""));
    cases.push(case("empty secret", empty, Cause::SignatureInvalid));
    let crossed = token(&json!({ "alg": "HS256" }), &world.claims, &KEYS.hs256);
    cases.push(case(
        "the secret of another issuer",
        crossed,
        Cause::AlgorithmRefused,
    ));
    cases
}

pub(super) fn headers(world: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    let jwk = KEYS.stranger.jwk("es");
    let brought = [
        ("jku", json!(format!("{}/evil", world.site.base))),
        ("x5u", json!("https://evil.example/chain.pem")),
        ("jwk", jwk.clone()),
        ("x5c", json!(["MIIB"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
    ];
    for (name, value) in brought {
        let title = format!("{name} {value}");
        let header = with(&world.header, json!({ name: value }));
        let own = token(&header, &world.claims, &KEYS.es256);
        cases.push(case(title.clone(), own, Cause::HeaderParameter));
        let forged = token(&header, &world.claims, &KEYS.stranger);
        cases.push(case(
            format!("{title}, own key"),
            forged,
            Cause::HeaderParameter,
        ));
    }
    for kind in [
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "JWE",
        "",
        "JWT ",
        "at+jwt;x=1",
    ] {
        let title = format!("typ {kind:?}");
        cases.push(case(
            title,
            world.with_header(json!({ "typ": kind })),
            Cause::TokenType,
        ));
    }
    let kind = world.with_header(json!({ "typ": ["JWT"] }));
    cases.push(case("typ array", kind, Cause::TokenType));
    let claims = world.claims.to_string();
    let unreadable = [
        (
            "duplicate alg",
            r#"{"alg":"none","alg":"ES256","kid":"es"}"#,
        ),
        ("duplicate kid", r#"{"alg":"ES256","kid":"x","kid":"es"}"#),
        (
            "escaped duplicate",
            r#"{"alg":"ES256","\u0061lg":"ES256","kid":"es"}"#,
        ),
        ("array", r#"["ES256"]"#),
        ("string", r#""ES256""#),
        ("two objects", r#"{"alg":"ES256","kid":"es"}{}"#),
        ("comment", r#"{"alg":"ES256"/**/,"kid":"es"}"#),
        ("trailing comma", r#"{"alg":"ES256","kid":"es",}"#),
        (
            "byte order mark",
            "\u{feff}{\"alg\":\"ES256\",\"kid\":\"es\"}",
        ),
        ("truncated", r#"{"alg":"ES256","kid":"es""#),
    ];
    for (title, header) in unreadable {
        let token = raw(header, &claims, &KEYS.es256);
        cases.push(case(
            format!("header: {title}"),
            token,
            Cause::HeaderUnreadable,
        ));
    }
    cases
}

pub(super) fn signatures(world: &World) -> Vec<Case> {
    let genuine = world.genuine();
    let (signed, encoded) = genuine.rsplit_once('.').unwrap();
    let signature = decode(encoded).unwrap();
    let (r, s) = signature.split_at(32);
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let mut flipped = signature.clone();
    flipped[40] ^= 1;
    let der = [&[0x30, 68, 2, 32][..], r, &[2, 32], s].concat();
    let wrong: [(&str, Vec<u8>); 11] = [
        ("a flipped bit", flipped),
        ("63 bytes", signature[..63].to_vec()),
        ("65 bytes", [&signature[..], &[0]].concat()),
        ("DER", der),
        ("zeros", vec![0; 64]),
        ("r = 0", [&[0; 32][..], s].concat()),
        ("s = 0", [r, &[0; 32]].concat()),
        ("r = n", [&order[..], s].concat()),
        ("s = n", [r, &order].concat()),
        ("one byte", vec![1]),
        ("r and s swapped", [s, r].concat()),
    ];
    let mut cases: Vec<Case> = wrong
        .into_iter()
        .map(|(title, bytes)| {
            let forged = format!("{signed}.{}", base64(bytes));
            case(
                format!("signature: {title}"),
                forged,
                Cause::SignatureInvalid,
            )
        })
        .collect();
    for (alg, kid) in [("ES256", "es"), ("RS256", "rs"), ("EdDSA", "ed")] {
        let header = json!({ "alg": alg, "kid": kid });
        for (title, bytes) in [("of zeros", vec![0; 64]), ("of 256 zeros", vec![0; 256])] {
            let forged = token(&header, &world.claims, &Signer::Fixed(bytes));
            cases.push(case(
                format!("{alg} {title}"),
                forged,
                Cause::SignatureInvalid,
            ));
        }
    }
    let stranger = token(&world.header, &world.claims, &KEYS.stranger);
    cases.push(case(
        "another key with the same kid",
        stranger,
        Cause::SignatureInvalid,
    ));
    let forged = with(&world.claims, json!({ "exp": NOW - 3600 }));
    let forged = token(&world.header, &forged, &KEYS.stranger);
    cases.push(case(
        "forged and expired says nothing of expiry",
        forged,
        Cause::SignatureInvalid,
    ));
    cases
}
