//! Tokens that are not what the specification says, or not for us: shapes, times, claims.

use serde_json::json;

use super::super::Cause;
use super::support::{KEYS, raw, with};
use super::world::{Case, HEADER, NOW, World, case};

pub(super) fn shapes(world: &World) -> Vec<Case> {
    let genuine = world.genuine();
    let parts: Vec<&str> = genuine.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("three parts")
    };
    let nested = raw(HEADER, &format!("\"{genuine}\""), &KEYS.es256);
    // The last of 43 characters has two unused bits, here set.
    let stray = format!(
        "{}{}",
        &signature[..85],
        if signature.ends_with('B') { 'C' } else { 'B' }
    );
    let mut cases = vec![
        case("one part", header.to_owned(), Cause::Malformed),
        case("two parts", format!("{header}.{claims}"), Cause::Malformed),
        case(
            "no signature",
            format!("{header}.{claims}."),
            Cause::Malformed,
        ),
        case(
            "four parts",
            format!("{genuine}.{signature}"),
            Cause::Malformed,
        ),
        case(
            "five parts",
            format!("{genuine}.{signature}.{signature}"),
            Cause::Malformed,
        ),
        case("leading dot", format!(".{genuine}"), Cause::Malformed),
        case(
            "no header",
            format!(".{claims}.{signature}"),
            Cause::Malformed,
        ),
        case(
            "no claims",
            format!("{header}..{signature}"),
            Cause::Malformed,
        ),
        case("dots", "..".to_owned(), Cause::Malformed),
        case("opaque", "ya29.opaque-token".to_owned(), Cause::Malformed),
        case("padding", format!("{genuine}=="), Cause::Malformed),
        case(
            "padded header",
            format!("{header}=.{claims}.{signature}"),
            Cause::Malformed,
        ),
        case(
            "stray bits",
            format!("{header}.{claims}.{stray}"),
            Cause::Malformed,
        ),
        case(
            "plain base64",
            format!("{header}.{claims}.{}+/", &signature[..84]),
            Cause::Malformed,
        ),
        case("percent", genuine.replacen('.', "%2e", 1), Cause::Malformed),
        case(
            "unicode",
            format!("{header}.{claims}.{}é", &signature[..84]),
            Cause::Malformed,
        ),
        case("nested token", nested, Cause::ClaimsUnreadable),
        case(
            "8 KiB and a byte",
            "a".repeat(8 * 1024 + 1),
            Cause::TooLarge,
        ),
        case("a megabyte", "a".repeat(1 << 20), Cause::TooLarge),
        case(
            "too long, though genuine",
            world.with_claims(json!({ "pad": "p".repeat(8 * 1024) })),
            Cause::TooLarge,
        ),
        case(
            "deep",
            world.with_extra(&format!("\"d\":{}{}", "[".repeat(200), "]".repeat(200))),
            Cause::ClaimsUnreadable,
        ),
    ];
    let swapped = world.with_claims(json!({ "sub": "user-2" }));
    let swapped: Vec<&str> = swapped.split('.').collect();
    cases.push(case(
        "claims of another token",
        format!("{header}.{}.{signature}", swapped[1]),
        Cause::SignatureInvalid,
    ));
    cases
}

pub(super) fn times(world: &World) -> Vec<Case> {
    let exp = format!("\"exp\":{}", NOW + 600);
    let mut cases = vec![
        case(
            "no exp",
            world.with_claims(json!({ "exp": null })),
            Cause::ExpiryMissing,
        ),
        case(
            "expired",
            world.with_claims(json!({ "exp": NOW - 3600, "iat": 1 })),
            Cause::Expired,
        ),
        case(
            "exp at the tolerance",
            world.with_claims(json!({ "exp": NOW - 60, "iat": null })),
            Cause::Expired,
        ),
        case(
            "exp 0",
            world.with_claims(json!({ "exp": 0, "iat": null })),
            Cause::Expired,
        ),
        case(
            "nbf ahead",
            world.with_claims(json!({ "nbf": NOW + 61 })),
            Cause::NotYetValid,
        ),
        case(
            "iat ahead",
            world.with_claims(json!({ "iat": NOW + 61 })),
            Cause::NotYetValid,
        ),
        case(
            "iat after exp",
            world.with_claims(json!({ "iat": NOW + 601 })),
            Cause::TimeMalformed,
        ),
        case(
            "nbf after exp",
            world.with_claims(json!({ "nbf": NOW + 601 })),
            Cause::TimeMalformed,
        ),
    ];
    let later = NOW + 600;
    let wrong = [
        format!("\"{later}\""),
        format!("{later}.0"),
        format!("{later}.5"),
        "1e12".to_owned(),
        "1.79e9".to_owned(),
        format!("[{later}]"),
        format!("{{\"t\":{later}}}"),
        "null".to_owned(),
        "true".to_owned(),
        "\"never\"".to_owned(),
        "\"\"".to_owned(),
        "-1".to_owned(),
        format!("-{later}"),
        "253402300800".to_owned(),
        "9223372036854775808".to_owned(),
        "18446744073709551615".to_owned(),
        "18446744073709551616".to_owned(),
        "1e308".to_owned(),
        format!("{later}000"),
    ];
    for value in &wrong {
        let bad = world.edited(&exp, &format!("\"exp\":{value}"));
        cases.push(case(format!("exp {value}"), bad, Cause::TimeMalformed));
        for claim in ["nbf", "iat"] {
            let claims = with(&world.claims, json!({ "iat": null })).to_string();
            let claims = claims.replacen('{', &format!("{{\"{claim}\":{value},"), 1);
            let bad = raw(HEADER, &claims, &KEYS.es256);
            cases.push(case(format!("{claim} {value}"), bad, Cause::TimeMalformed));
        }
    }
    for value in ["NaN", "Infinity", "0x6ab", "01", "+1", "1e999"] {
        let bad = world.edited(&exp, &format!("\"exp\":{value}"));
        cases.push(case(format!("exp {value}"), bad, Cause::ClaimsUnreadable));
    }
    cases
}

pub(super) fn claims(world: &World) -> Vec<Case> {
    let base = &world.site.base;
    let mut cases = vec![
        case(
            "no iss",
            world.with_claims(json!({ "iss": null })),
            Cause::IssuerMissing,
        ),
        case(
            "iss array",
            world.with_claims(json!({ "iss": [base] })),
            Cause::IssuerMissing,
        ),
        case(
            "iss slash",
            world.with_claims(json!({ "iss": format!("{base}/") })),
            Cause::IssuerUnknown,
        ),
        case(
            "iss case",
            world.with_claims(json!({ "iss": base.to_uppercase() })),
            Cause::IssuerUnknown,
        ),
        case(
            "iss short",
            world.with_claims(json!({ "iss": "app" })),
            Cause::IssuerUnknown,
        ),
        case(
            "iss empty",
            world.with_claims(json!({ "iss": "" })),
            Cause::IssuerUnknown,
        ),
        case(
            "iss suffix",
            world.with_claims(json!({ "iss": format!("{base}.evil") })),
            Cause::IssuerUnknown,
        ),
        case(
            "no aud",
            world.with_claims(json!({ "aud": null })),
            Cause::Audience,
        ),
        case(
            "logout token",
            world.with_claims(json!({ "events": {} })),
            Cause::TokenUse,
        ),
        case(
            "bound token",
            world.with_claims(json!({ "cnf": { "jkt": "x" } })),
            Cause::SenderConstrained,
        ),
        case(
            "no sub",
            world.with_claims(json!({ "sub": null })),
            Cause::Subject,
        ),
        case(
            "sub of 256 bytes",
            world.with_claims(json!({ "sub": "s".repeat(256) })),
            Cause::Subject,
        ),
        case(
            "duplicate sub",
            world.with_extra("\"sub\":\"admin\""),
            Cause::ClaimsUnreadable,
        ),
        case(
            "duplicate exp",
            world.with_extra("\"exp\":1"),
            Cause::ClaimsUnreadable,
        ),
        case(
            "duplicate aud",
            world.with_extra("\"aud\":\"other\""),
            Cause::ClaimsUnreadable,
        ),
        case(
            "escaped duplicate",
            world.with_extra("\"\\u0073ub\":\"admin\""),
            Cause::ClaimsUnreadable,
        ),
        case(
            "duplicate below",
            world.with_extra("\"a\":{\"b\":1,\"b\":2}"),
            Cause::ClaimsUnreadable,
        ),
        case(
            "duplicate in an array",
            world.with_extra("\"a\":[{\"b\":1,\"b\":2}]"),
            Cause::ClaimsUnreadable,
        ),
        case(
            "lone surrogate",
            world.edited("user-1", "\\ud800"),
            Cause::ClaimsUnreadable,
        ),
        case(
            "claims array",
            raw(HEADER, "[]", &KEYS.es256),
            Cause::ClaimsUnreadable,
        ),
        case(
            "claims null",
            raw(HEADER, "null", &KEYS.es256),
            Cause::ClaimsUnreadable,
        ),
    ];
    let audiences = [
        json!("API"),
        json!("api "),
        json!("ap"),
        json!("api2"),
        json!(""),
        json!([]),
        json!(["other"]),
        json!([["api"]]),
        json!(["api", 1]),
        json!(["api", null]),
        json!({ "api": true }),
        json!(true),
        json!(1),
        json!("other api"),
    ];
    for audience in audiences {
        let bad = world.with_claims(json!({ "aud": audience }));
        cases.push(case(format!("aud {audience}"), bad, Cause::Audience));
    }
    let subjects = [
        json!(""),
        json!(1),
        json!(["user-1"]),
        json!({ "id": 1 }),
        json!(true),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("\u{1b}[31m"),
        json!("\u{7f}"),
        json!("\u{85}"),
        json!("ü".repeat(128)),
    ];
    for subject in subjects {
        let bad = world.with_claims(json!({ "sub": subject }));
        cases.push(case(format!("sub {subject}"), bad, Cause::Subject));
    }
    let invalid = raw(HEADER, "{}", &KEYS.es256);
    cases.push(case("no claims", invalid, Cause::IssuerMissing));
    cases
}
