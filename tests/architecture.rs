//! Who may import whom, and other rules that a compiler does not know.
//!
//! Each rule is in a table below; changing one is a decision record in `docs/decisions`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "architecture/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{imports, mentions, tokens, without_tests};

/// Every module of the library and the modules it may name.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // A map of bounded size, for `watch` and `grpc`.
    ("bounded", &[]),
    ("config", &[]),
    ("clock", &[]),
    ("telemetry", &[]),
    // What the build generates from `proto/`.
    ("proto", &[]),
    // Where tests end the process; nothing at all in a release build.
    ("failpoint", &[]),
    ("http", &["clock"]),
    // Connections, whatever is served over them.
    ("edge", &["config"]),
    ("sandbox", &["clock", "proto"]),
    ("providers", &["clock", "config", "http", "domain"]),
    ("encryption", &["config"]),
    ("storage", &["clock", "domain", "encryption"]),
    ("watch", &["bounded", "clock", "storage", "domain"]),
    (
        "flows",
        &[
            "clock",
            "failpoint",
            "providers",
            "storage",
            "watch",
            "domain",
        ],
    ),
    (
        "grpc",
        &[
            "bounded", "clock", "config", "edge", "flows", "watch", "http", "domain", "proto",
        ],
    ),
    ("webhooks", &["clock", "flows", "domain"]),
    ("console", &["clock", "flows", "domain"]),
    ("jobs", &["clock", "flows", "storage", "domain"]),
    ("cli", EVERYTHING),
    ("app", EVERYTHING),
];

/// The command line and the place that builds the world may name any module.
const EVERYTHING: &[&str] = &["*"];

/// Words that may be used in some modules only, with why.
const CONFINED: &[(&[&str], &[&str], &str)] = &[
    (&["sqlx"], &["storage"], "SQL lives in one folder"),
    (
        &["async_nats"],
        &["watch"],
        "replicas talk to each other in one folder",
    ),
    (
        &["axum"],
        &["webhooks", "sandbox", "telemetry", "console"],
        "HTTP servers live at the doors",
    ),
    (
        &["Utc", "now"],
        &["clock.rs"],
        "business time comes from `clock::Clock`",
    ),
    (
        &["Local", "now"],
        &["clock.rs"],
        "business time comes from `clock::Clock`",
    ),
];

/// What the domain must not know: it decides, and the shell does.
const NOT_IN_DOMAIN: &[&str] = &[
    "tokio",
    "tonic",
    "rand",
    "tracing",
    "SystemTime",
    "Instant::now",
    "futures",
    "reqwest",
    "async",
];

const FILE_LINES_MAX: usize = 600;

#[test]
fn the_source_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let broken: Vec<String> = files(&root.join("src"), "rs")
        .iter()
        .flat_map(|file| {
            let name = file.strip_prefix(root.join("src")).unwrap();
            violations(&name.to_string_lossy(), &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn documents_link_only_to_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents: Vec<PathBuf> = children(root)
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    documents.extend(files(&root.join("docs"), "md"));
    let broken: Vec<String> = documents
        .iter()
        .flat_map(|document| {
            let folder = document.parent().unwrap();
            local_links(&fs::read_to_string(document).unwrap())
                .into_iter()
                .filter(|link| !folder.join(link).exists())
                .map(|link| format!("{}: no such file: {link}", document.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The rules that the file `name`, relative to `src/`, breaks.
fn violations(name: &str, source: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = source.lines().count();
    if lines > FILE_LINES_MAX {
        broken.push(format!(
            "{name}: {lines} lines, at most {FILE_LINES_MAX}: split it by noun"
        ));
    }
    let path: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
    let is_test = path
        .iter()
        .any(|part| *part == "tests" || part.ends_with("_tests"));
    if is_test {
        return broken;
    }
    let tokens = without_tests(&tokens(source));
    let module = path[0];
    if !matches!(name, "lib.rs" | "main.rs") {
        broken.extend(forbidden_imports(name, &path, &tokens));
    }
    for (word, homes, why) in CONFINED {
        if !homes.contains(&module) && !homes.contains(&name) && mentions(&tokens, word) {
            broken.push(format!(
                "{name}: `{}` belongs to {}: {why}",
                word.join("::"),
                homes.join(", ")
            ));
        }
    }
    if module == "domain" {
        for word in NOT_IN_DOMAIN {
            let parts: Vec<&str> = word.split("::").collect();
            if mentions(&tokens, &parts) {
                broken.push(format!("{name}: the domain knows nothing of `{word}`"));
            }
        }
    }
    broken
}

fn forbidden_imports(name: &str, path: &[&str], tokens: &[String]) -> Vec<String> {
    let module = path[0];
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(known, _)| *known == module) else {
        return vec![format!(
            "{name}: the module `{module}` has no rule: add it to the table"
        )];
    };
    let modules: Vec<&str> = MAY_IMPORT.iter().map(|(known, _)| *known).collect();
    let mut broken: Vec<String> = imports(path, tokens, &modules)
        .into_iter()
        .filter(|target| {
            target != module && *allowed != EVERYTHING && !allowed.contains(&target.as_str())
        })
        .map(|target| format!("{name}: `{module}` may not import `{target}`"))
        .collect();
    broken.sort();
    broken.dedup();
    broken
}

/// The targets of `[text](target)` that are files, without their fragments.
fn local_links(markdown: &str) -> Vec<String> {
    markdown
        .split("](")
        .skip(1)
        .filter_map(|after| after.split([')', ' ']).next())
        .filter(|target| {
            !target.contains("://")
                && !target.starts_with(['#', '<'])
                && !target.starts_with("mailto:")
        })
        .filter_map(|target| target.split('#').next().map(str::to_owned))
        .collect()
}

fn children(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path())
}

/// All files below `directory` with this extension.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    children(directory)
        .flat_map(|path| {
            if path.is_dir() {
                files(&path, extension)
            } else if path.extension().is_some_and(|found| found == extension) {
                vec![path]
            } else {
                vec![]
            }
        })
        .collect()
}

#[test]
fn a_planted_violation_is_found_and_nothing_else_is() {
    let table = [
        (
            "domain/money.rs",
            "use crate::storage::Db;",
            "may not import `storage`",
        ),
        (
            "domain/money.rs",
            "use crate::clock::Clock;",
            "may not import `clock`",
        ),
        (
            "domain/money.rs",
            "use super::super::http::get;",
            "may not import `http`",
        ),
        (
            "domain/mod.rs",
            "use super::http::get;",
            "may not import `http`",
        ),
        (
            "domain/mod.rs",
            "use super::{http::get};",
            "may not import `http`",
        ),
        (
            "domain/guard.rs",
            "use super::money; use super::storage::x;",
            "",
        ),
        (
            "domain/a/b.rs",
            "fn f() { crate::flows::settle() }",
            "may not import `flows`",
        ),
        (
            "domain/a.rs",
            "use crate::{domain::b, jobs::{c, flows}};",
            "may not import `jobs`",
        ),
        ("domain/a.rs", "use crate::domain::{flows, jobs};", ""),
        (
            "domain/a.rs",
            "// crate::flows\nconst A: &str = \"crate::flows\";",
            "",
        ),
        (
            "domain/a.rs",
            "/* crate::flows */ const A: &str = r#\"\"crate::flows\"#;",
            "",
        ),
        (
            "domain/a.rs",
            "fn f<'a>(x: &'a str) -> char { '\"' } use crate::jobs;",
            "`jobs`",
        ),
        (
            "domain/a.rs",
            "fn f() { tokio::spawn(x) }",
            "knows nothing of `tokio`",
        ),
        (
            "domain/a.rs",
            "use std::time::SystemTime;",
            "knows nothing of `SystemTime`",
        ),
        (
            "domain/a.rs",
            "pub async fn f() {}",
            "knows nothing of `async`",
        ),
        ("domain/a.rs", "fn f(rand: u8) -> u8 { rand }", ""),
        (
            "domain/a.rs",
            "#[derive(sqlx::Type)] struct A;",
            "`sqlx` belongs to storage",
        ),
        (
            "domain/a.rs",
            "#[sqlx(transparent)] struct A;",
            "`sqlx` belongs to storage",
        ),
        ("flows/a.rs", "use sqlx;", "`sqlx` belongs to storage"),
        (
            "flows/a.rs",
            "use crate::grpc::convert;",
            "may not import `grpc`",
        ),
        (
            "flows/a.rs",
            "use crate::{storage::Db, domain::Money, clock::Clock};",
            "",
        ),
        (
            "flows/a.rs",
            "let now = chrono::Utc::now();",
            "`Utc::now` belongs to clock.rs",
        ),
        ("flows/a.rs", "let at: DateTime<Utc> = clock.now();", ""),
        (
            "flows/a.rs",
            "#[cfg(test)] mod tests { use sqlx::x; use crate::app::y; }",
            "",
        ),
        (
            "flows/a.rs",
            "#[cfg(test)] mod tests; use crate::app::y;",
            "may not import `app`",
        ),
        (
            "flows/a.rs",
            "#[cfg(test)] #[allow(x)] use crate::app::y; use sqlx::A;",
            "`sqlx`",
        ),
        (
            "flows/a/tests.rs",
            "use crate::app::build; use sqlx::query;",
            "",
        ),
        ("clock.rs", "fn now() -> DateTime<Utc> { Utc::now() }", ""),
        (
            "grpc/a.rs",
            "use axum::Router;",
            "`axum` belongs to webhooks",
        ),
        (
            "webhooks/a.rs",
            "use axum::Router; use crate::storage::Db;",
            "import `storage`",
        ),
        (
            "sandbox/a.rs",
            "use crate::providers::app_store::wire;",
            "import `providers`",
        ),
        (
            "cli/dev.rs",
            "use crate::{app, sandbox, storage::cluster};",
            "",
        ),
        ("utils.rs", "fn f() {}", "`utils` has no rule"),
        ("lib.rs", "pub mod domain;", ""),
        ("domain/long.rs", &"\n".repeat(601), "601 lines"),
        ("domain/short.rs", &"\n".repeat(600), ""),
    ];
    for (name, source, expected) in table {
        let found = violations(name, source);
        if expected.is_empty() {
            assert!(found.is_empty(), "{name}: {source}\n{found:?}");
        } else {
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{name}: {source}\n{found:?}"
            );
        }
    }
}

#[test]
fn links_to_files_are_told_from_others() {
    let markdown =
        "[a](docs/a.md#part) [b](https://x.y/z) [c](#here) ![d](d.png \"title\") [e](mailto:a@b)";
    assert_eq!(local_links(markdown), ["docs/a.md", "d.png"]);
}
