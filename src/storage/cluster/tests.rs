//! Starts, stops and kills real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::*;

/// Set for the copy of this test binary that is to hold a cluster until it is killed.
const HOLD: &str = "ENTITLED_TEST_HOLD_CLUSTER";

async fn one(url: &str, statement: &'static str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar(statement)
        .fetch_one(&mut connection)
        .await
}

async fn run(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(statement)
        .execute(&mut connection)
        .await
        .unwrap();
}

/// Whether the process exists and is not merely waiting to be reaped.
fn runs(pid: u32) -> bool {
    let output = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A directory of this test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("entitled-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[tokio::test]
async fn an_ephemeral_cluster_serves_databases_survives_a_pause_and_leaves_nothing() {
    let cluster = Cluster::start(DataDir::Ephemeral).await.unwrap();
    let (pid, root) = (cluster.pid().unwrap(), cluster.directory().to_owned());

    cluster.create_database("template_a", None).await.unwrap();
    run(
        &cluster.url("template_a"),
        "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('here')",
    )
    .await;
    cluster
        .create_database("copy_a", Some("template_a"))
        .await
        .unwrap();
    let copy = cluster.url("copy_a");
    assert_eq!(one(&copy, "SELECT word FROM kept").await.unwrap(), "here");
    assert_eq!(one(&copy, "SHOW server_encoding").await.unwrap(), "UTF8");
    assert_eq!(one(&copy, "SHOW synchronous_commit").await.unwrap(), "on");

    cluster.clone().pause().await.unwrap();
    assert_eq!(cluster.pid(), None);
    assert!(!runs(pid));
    assert!(one(&copy, "SELECT word FROM kept").await.is_err());
    cluster.resume().await.unwrap();
    assert_eq!(one(&copy, "SELECT word FROM kept").await.unwrap(), "here");

    // Killed with all its processes, it recovers what was committed.
    for word in ["once", "twice"] {
        let killed = cluster.pid().unwrap();
        cluster.crash().await.unwrap();
        assert!(cluster.pid().is_none() && !runs(killed), "{word}");
        cluster.resume().await.unwrap();
        assert_eq!(one(&copy, "SELECT word FROM kept").await.unwrap(), "here");
    }

    cluster.drop_database("copy_a").await.unwrap();
    cluster.drop_database("copy_a").await.unwrap();
    assert!(one(&copy, "SELECT word FROM kept").await.is_err());

    let (again, handle) = (cluster.pid().unwrap(), cluster.clone());
    cluster.stop().await.unwrap();
    assert!(!runs(again) && !root.exists());
    assert!(matches!(handle.pause().await, Err(ClusterError::Stopped)));
    assert!(matches!(handle.resume().await, Err(ClusterError::Stopped)));
}

#[tokio::test]
async fn a_persistent_cluster_keeps_its_data_and_admits_one_run_at_a_time() {
    let scratch = Scratch::new("persistent");
    let data = DataDir::Persistent(scratch.0.clone());
    let first = Cluster::start(data.clone()).await.unwrap();
    run(
        &first.url("postgres"),
        "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('still')",
    )
    .await;
    assert_eq!(
        one(&first.url("postgres"), "SHOW fsync").await.unwrap(),
        "on"
    );

    let second = Cluster::start(data.clone()).await;
    assert!(matches!(second, Err(ClusterError::InUse(_))), "{second:?}");
    let root = first.directory().to_owned();
    first.stop().await.unwrap();

    // As a killed server leaves it when its process id was given out again: to this very process.
    let stale = root.join("data/postmaster.pid");
    fs::write(&stale, format!("{}\n", std::process::id())).unwrap();
    let third = Cluster::start(data).await.unwrap();
    assert_eq!(
        one(&third.url("postgres"), "SELECT word FROM kept")
            .await
            .unwrap(),
        "still"
    );
    third.stop().await.unwrap();
    fs::remove_dir_all(root).unwrap();
}

#[tokio::test]
async fn a_server_that_gives_up_is_reported_with_its_log() {
    let scratch = Scratch::new("broken");
    let data = DataDir::Persistent(scratch.0.clone());
    let cluster = Cluster::start(data.clone()).await.unwrap();
    let root = cluster.directory().to_owned();
    cluster.stop().await.unwrap();
    fs::write(root.join("data/PG_VERSION"), "7\n").unwrap();
    let error = Cluster::start(data).await.unwrap_err().to_string();
    assert!(error.contains("incompatible"), "{error}");
    fs::remove_dir_all(root).unwrap();
}

#[tokio::test]
async fn a_killed_holder_leaves_no_server_and_no_directory() {
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            &format!("{module}::holds_a_cluster"),
        ])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("holding ").map(|(_, held)| held.to_owned()))
        .unwrap();
    let (pid, root) = line.split_once(' ').unwrap();
    let (pid, root) = (pid.parse().unwrap(), PathBuf::from(root));
    assert!(runs(pid) && root.exists());

    // SIGKILL: nothing of the holder's own runs any more.
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("the server is gone", || !runs(pid)).await;
    until("its directory is gone", || !root.exists()).await;
}

/// Does nothing but for the test above.
#[tokio::test]
async fn holds_a_cluster() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let cluster = Cluster::start(DataDir::Ephemeral).await.unwrap();
    let said = format!(
        "holding {} {}\n",
        cluster.pid().unwrap(),
        cluster.directory().display()
    );
    std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes()).unwrap();
    sleep(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_sweep_removes_what_nobody_holds_and_nothing_else() {
    let scratch = Scratch::new("sweep");
    let make = |name: &str| {
        let root = scratch.0.join(name);
        fs::create_dir(&root).unwrap();
        fs::write(root.join("server.log"), "").unwrap();
        root
    };
    let (dead, live, foreign) = (
        make("entitled-pg-dead"),
        make("entitled-pg-live"),
        make("other"),
    );
    let held = fs::File::open(live.join("server.log")).unwrap();
    held.lock().unwrap();

    place::sweep(&scratch.0, None);
    assert!(!dead.exists() && live.exists() && foreign.exists());
    held.unlock().unwrap();
    place::sweep(&scratch.0, None);
    assert!(!live.exists());
}

#[test]
fn a_name_that_would_need_quoting_is_refused() {
    for name in ["a", "_b", "test_1", &"x".repeat(63)] {
        assert!(checked(name).is_ok(), "{name}");
    }
    for name in ["", "1a", "A", "a-b", "a\"b", "a b", "ä", &"x".repeat(64)] {
        assert!(
            matches!(checked(name), Err(ClusterError::Name(_))),
            "{name}"
        );
    }
}
