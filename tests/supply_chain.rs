//! What the lock file may contain: fixed versions of what has had advisories, and known licences.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

/// The oldest version of each crate without a known vulnerability.
const FLOORS: &[(&str, &str, &str)] = &[
    ("aws-lc-sys", "0.39.0", "RUSTSEC-2026-0044 to 0048"),
    ("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    ("h2", "0.4.16", "RUSTSEC-2026-0258"),
    ("idna", "1.0.0", "RUSTSEC-2024-0421"),
    ("jsonwebtoken", "10.3.0", "CVE-2026-25537"),
    ("quick-xml", "0.41.0", "RUSTSEC-2026-0194, 0195"),
    ("ring", "0.17.12", "RUSTSEC-2025-0009"),
    ("rustls", "0.23.18", "RUSTSEC-2024-0399"),
    (
        "rustls-webpki",
        "0.103.13",
        "RUSTSEC-2026-0049, 0098, 0099, 0104",
    ),
    ("slab", "0.4.11", "RUSTSEC-2025-0047"),
    ("sqlx", "0.8.1", "RUSTSEC-2024-0363"),
    ("svix", "1.17.0", "RUSTSEC-2024-0010"),
    ("time", "0.3.47", "RUSTSEC-2026-0009"),
    ("tokio", "1.44.2", "RUSTSEC-2025-0023"),
    ("tonic", "0.12.3", "RUSTSEC-2024-0376"),
    ("tracing-subscriber", "0.3.20", "RUSTSEC-2025-0055"),
];

/// Crates that must not be locked at all.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "one TLS library: rustls"),
    ("native-tls", "one TLS library: rustls"),
    ("rsa", "RUSTSEC-2023-0071: timing of private keys, no fix"),
    ("rustls-pemfile", "RUSTSEC-2025-0134: unmaintained"),
];

/// Crates that must not be compiled in. Optional features that nobody turns on may still lock them.
const NOT_BUILT: &[(&str, &str)] = &[("ring", "one crypto library: aws-lc")];

/// Licences that the binary may be distributed under, beside Apache-2.0.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Name and version of each locked package.
fn locked() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
    let lock: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
    lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(package, "name"), text(package, "version")))
        .collect()
}

/// Name and licence of each crate that is compiled into the server on this platform.
fn built() -> Vec<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--package",
            env!("CARGO_PKG_NAME"),
        ])
        .args([
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}|{l}|",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: Vec<_> = tree
        .lines()
        .map(|line| {
            let (package, rest) = line.split_once('|').unwrap();
            let name = package.split(' ').next().unwrap();
            (name.to_owned(), rest.split('|').next().unwrap().to_owned())
        })
        .collect();
    assert!(
        crates.len() > 100,
        "the tree has {} crates only",
        crates.len()
    );
    crates
}

#[test]
fn no_locked_version_is_below_its_floor() {
    let locked = locked();
    for (name, floor, why) in FLOORS {
        for (_, version) in locked.iter().filter(|(found, _)| found == name) {
            assert!(
                !is_below(version, floor),
                "{name} {version} is below {floor}: {why}"
            );
        }
    }
}

#[test]
fn nothing_banned_is_locked_or_built() {
    for (name, _) in locked() {
        let reason = BANNED.iter().find(|(banned, _)| *banned == name);
        assert!(reason.is_none(), "banned: {reason:?}");
    }
    for (name, _) in built() {
        let reason = NOT_BUILT.iter().find(|(banned, _)| *banned == name);
        assert!(reason.is_none(), "banned: {reason:?}");
    }
}

#[test]
fn every_licence_is_one_we_accept() {
    for (name, licence) in built() {
        assert!(accepted(&licence), "{name}: {licence:?}");
    }
}

/// Compares `major.minor.patch`; a pre-release is below its release.
fn is_below(version: &str, floor: &str) -> bool {
    let key = |version: &str| {
        let without_build = version.split('+').next().unwrap();
        let (numbers, pre) = without_build
            .split_once('-')
            .map_or((without_build, false), |(n, _)| (n, true));
        let numbers: Vec<u64> = numbers
            .split('.')
            .map(|number| number.parse().unwrap())
            .collect();
        (numbers, !pre)
    };
    key(version) < key(floor)
}

/// Whether an SPDX expression can be met with the accepted licences alone. `AND` binds tighter than
/// `OR`; the old `MIT/Apache-2.0` means `OR`.
fn accepted(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words);
    assert!(
        words.next().is_none(),
        "not an SPDX expression: {expression}"
    );
    met
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> bool {
    let mut met = all(words);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words);
    }
    met
}

fn all(words: &mut Words<'_>) -> bool {
    let mut met = one(words);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words);
    }
    met
}

fn one(words: &mut Words<'_>) -> bool {
    let Some(word) = words.next() else {
        return false;
    };
    if word == "(" {
        let met = any(words);
        let closed = words.next() == Some(")");
        return met && closed;
    }
    // An exception only ever adds permissions.
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    LICENCES.contains(&word)
}

#[test]
fn versions_and_licences_are_compared_as_meant() {
    for (version, floor, below) in [
        ("0.4.16", "0.4.16", false),
        ("0.4.15", "0.4.16", true),
        ("0.4.100", "0.4.16", false),
        ("1.0.0-rc.1", "1.0.0", true),
        ("0.47.0+build.1", "0.39.0", false),
    ] {
        assert_eq!(is_below(version, floor), below, "{version} {floor}");
    }
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
        ("MIT AND GPL-3.0-only", false),
        ("GPL-3.0-only AND MIT OR ISC", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true),
        ("(GPL-3.0-only) OR MIT", true),
        ("", false),
    ] {
        assert_eq!(accepted(expression), expected, "{expression}");
    }
}
