//! `docs/guarantees.md` names, for each promise, tests that exist and are part of every run, and
//! planted bugs that exist; it names every bug there is, and every bug is planted somewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// All Rust source below a directory, as one text.
fn source(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&source(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether `source` has a test of this name that is part of ordinary runs: a function that is marked
/// as one, or a line of a table that a macro makes tests of.
fn is_a_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    let functions = source.match_indices(&head).map(|(at, _)| {
        let before = source[..at].rsplit("\n\n").next().unwrap_or_default();
        let marked = before.contains("#[test]") || before.contains("#[tokio::test");
        marked && !before.contains("#[ignore")
    });
    let row = format!("{name} = ");
    let mut rows = source.lines().map(str::trim);
    functions.into_iter().any(|found| found)
        || rows.any(|line| line.starts_with(&row) && line.ends_with(';'))
}

/// The words that `ENTITLED_PLANTED` takes.
fn bugs() -> BTreeSet<String> {
    let planted = fs::read_to_string(root().join("src/domain/planted.rs")).unwrap();
    let words = planted.split("fn as_str").nth(1).unwrap();
    let words = words.split("fn parse").next().unwrap();
    words
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The cells of the tables' rows, row by row.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| I") || line.starts_with("| A"));
    rows.map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn the_named_tests_and_bugs_exist() {
    let text = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let source = source(&root().join("tests")) + &source(&root().join("src"));
    let (rows, bugs) = (rows(&text), bugs());
    let mut promises = BTreeSet::new();
    let mut named = BTreeSet::new();
    for row in &rows {
        let [_, promise, _, tests, planted, _] = row[..] else {
            panic!("not a row of promise, words, tests and bugs: {row:?}");
        };
        promises.insert(promise);
        assert!(quoted(tests).count() > 0, "{promise} names no test");
        for test in quoted(tests) {
            let name = test.rsplit("::").next().unwrap();
            assert!(
                is_a_test(&source, name),
                "{promise} names what is no test of an ordinary run: {test}"
            );
        }
        assert!(
            quoted(planted).count() > 0,
            "{promise}: nothing shows that its tests bite"
        );
        for bug in quoted(planted) {
            assert!(bugs.contains(bug), "{promise} names no bug: {bug}");
            named.insert(bug.to_owned());
        }
    }
    assert_eq!(promises.len(), 17, "{promises:?}");
    assert_eq!(named, bugs, "every bug stands beside its promise");
}

/// A bug that no line asks for would never be there to be found.
#[test]
fn every_bug_is_planted_somewhere() {
    let planted = root().join("src/domain/planted.rs");
    let declared = fs::read_to_string(&planted).unwrap();
    let source = source(&root().join("src"));
    for line in declared
        .lines()
        .filter(|line| line.contains("Self::") && line.contains("=>"))
    {
        let name = line.trim().trim_start_matches("Self::");
        let name = name.split(' ').next().unwrap();
        assert!(
            source.contains(&format!("planted::is(Bug::{name})")),
            "{name} is planted nowhere"
        );
    }
}
