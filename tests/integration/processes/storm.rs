//! `kill -9` of the server and of Postgres, again and again, under webhooks and binds.

use std::path::PathBuf;

use entitled::cli::storm::{Options, Report, run};

/// A few kills are part of every run; the many take minutes:
///
/// `cargo test --release --test integration -- --ignored --nocapture fifty_kills`
async fn storm(name: &str, server_kills: u32, postgres_kills: u32) -> Report {
    let seed = std::env::var("ENTITLED_SEED").map_or_else(
        |_| rand::random(),
        |seed| seed.parse().expect("ENTITLED_SEED is a number"),
    );
    let dir = std::env::temp_dir().join(format!("entitled-storm-{name}-{}", std::process::id()));
    let report = run(Options {
        program: PathBuf::from(env!("CARGO_BIN_EXE_entitled")),
        dir: dir.clone(),
        server_kills,
        postgres_kills,
        seed,
    })
    .await
    .unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    println!("{report}");
    assert_eq!(report.findings, Vec::<String>::new(), "seed {seed}");
    assert_eq!(report.server_recoveries.len(), server_kills as usize);
    assert_eq!(report.postgres_recoveries.len(), postgres_kills as usize);
    assert!(report.binds.0 > 0 && report.webhooks.0 > 0, "{report}");
    std::fs::remove_dir_all(dir).expect("the run's directory");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_server_and_postgres_lose_nothing_and_repeat_nothing() {
    storm("few", 4, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: the figures of docs/reliability.md"]
async fn fifty_kills_of_the_server_and_ten_of_postgres() {
    let report = storm("many", 50, 10).await;
    assert!(report.webhooks.0 > 500, "too little load: {report}");
}
