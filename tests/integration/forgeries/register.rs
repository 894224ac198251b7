//! `docs/forgeries.md` names for each class of attack the tests that show it refused: they exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every class of the threat model about proofs, ownership and webhooks.
fn classes() -> BTreeSet<String> {
    let numbered =
        |letter: &'static str, last: u32| (1..=last).map(move |n| format!("{letter}{n}"));
    let mut all: BTreeSet<String> = numbered("A", 18).chain(numbered("B", 8)).collect();
    all.extend(numbered("C", 6));
    all.extend(["C9", "C10", "C11"].map(str::to_owned));
    all
}

#[test]
fn every_class_of_attack_has_tests_and_they_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/forgeries.md")).expect("readable");
    let mut code = String::new();
    for folder in ["src", "tests", "benches"] {
        read_all(&root.join(folder), &mut code);
    }
    let mut named = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let class = cells[0].to_owned();
        if !classes().contains(&class) {
            continue;
        }
        let tests: Vec<&str> = cells[cells.len() - 1]
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        assert!(!tests.is_empty(), "{class} names no test");
        for test in tests {
            assert!(
                [
                    format!("fn {test}("),
                    format!("    {test}\n"),
                    format!("    {test} =>")
                ]
                .iter()
                .any(|found| code.contains(found)),
                "{class}: there is no test `{test}`"
            );
        }
        named.insert(class);
    }
    assert_eq!(named, classes(), "every class has a row");
}

fn read_all(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("node_modules") && !path.ends_with("target") {
                read_all(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(&path).expect("readable"));
        }
    }
}

/// A9: whatever the environment or a configuration says, signatures are verified.
#[test]
fn no_setting_turns_verification_off() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    read_all(&root.join("src"), &mut code);
    let code = code.to_lowercase();
    for word in [
        "verification_bypass",
        "bypass_",
        "skip_verif",
        "skip_signature",
        "skip_check",
        "no_verify",
        "insecure_",
        "allow_unsigned",
        "disable_verif",
        "danger_accept",
        "dangerous()",
        "trust_all",
    ] {
        assert!(!code.contains(word), "what is `{word}` for?");
    }
    // The environment variables that the program itself looks for.
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let known = [
        "entitled_bearer",
        "entitled_config",
        "entitled_crash_at",
        "entitled_pg_bin",
        "entitled_seed",
        "entitled_stop_at",
    ];
    for (at, _) in code.match_indices("\"entitled_") {
        let rest = &code[at + 1..];
        let end = rest.find('"').unwrap_or_default();
        named.insert(&rest[..end]);
    }
    for name in named
        .iter()
        .filter(|name| name.contains("verif") || name.contains("trust"))
    {
        assert!(known.contains(name), "what is {name} for?");
    }
}
