//! `entitled dev` as a developer runs it: a process that applies the catalog whenever it is saved.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use entitled::cli::client::Client;
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

use crate::process::{Terminal, eventually, free_ports};
use crate::support::{Device, database, is_active};

const EXAMPLE: &str = entitled::cli::stack::EXAMPLE_CATALOG;

/// A developer's folder with a stack that runs.
struct Dev {
    dir: PathBuf,
    catalog: PathBuf,
    database_url: String,
    terminal: Terminal,
}

impl Dev {
    async fn start() -> Self {
        let database_url = database().await;
        let dir = std::env::temp_dir().join(format!("entitled-dev-test-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a folder");
        let catalog = dir.join("my-catalog.toml");
        std::fs::write(&catalog, EXAMPLE).expect("written");
        let (port, held) = free_ports(4);
        let mut command = Command::new(env!("CARGO_BIN_EXE_entitled"));
        command
            .args(["dev", "--port", &port.to_string(), "--catalog"])
            .arg(&catalog)
            .arg("--dir")
            .arg(dir.join("stack"))
            .env("DATABASE_URL", &database_url)
            .env_remove("ENTITLED_CONFIG")
            .stdin(Stdio::null());
        drop(held);
        let dev = Self {
            terminal: Terminal::open(command),
            dir,
            catalog,
            database_url,
        };
        dev.says("is applied when it is saved").await;
        dev
    }

    async fn says(&self, words: &str) {
        let said = async || self.terminal.printed().contains(words);
        eventually(words, said).await;
    }

    /// What it has printed since `before`.
    fn since(&self, before: usize) -> String {
        self.terminal.printed().split_off(before)
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_entitled"))
            .args(arguments)
            .arg("--dir")
            .arg(self.dir.join("stack"))
            .output()
            .await
            .expect("runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// As editors do that keep the old file until the new one is whole.
    fn replace(&self, text: &str) {
        let new = self.dir.join("my-catalog.toml~");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(&new, &self.catalog).expect("in its place");
    }

    fn save(&self, text: &str) {
        std::fs::write(&self.catalog, text).expect("written");
    }

    async fn versions(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.database_url).await;
        let connection = connection.as_mut().expect("connected");
        let count = sqlx::query_scalar("select count(*) from catalog_versions");
        count.fetch_one(connection).await.expect("counted")
    }
}

fn server(stack: &Path) -> String {
    let text = std::fs::read_to_string(stack.join("stack.json")).expect("an address");
    let address: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    address["server"].as_str().expect("a URL").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_catalog_is_active_at_once_and_a_broken_one_leaves_things_as_they_were() {
    let mut dev = Dev::start().await;
    dev.run(&["buy", "alice", "pro_yearly"]).await;
    let token = dev.run(&["token", "alice"]).await;
    let client = Client::connect(&server(&dev.dir.join("stack")), &token).await;
    let mut phone = Device::open(client.expect("a client")).await;
    phone.until_active("export").await;
    assert_eq!(dev.versions().await, 1);

    // Unreadable, then readable and unsound: the old one stays, and the mistake is shown.
    dev.save("[[apps]]\nid = 1\n");
    dev.says("the catalog stays as it was: the catalog cannot be read")
        .await;
    dev.says("line 2, column 6").await;
    dev.save(&EXAMPLE.replace("[\"pro_access\"]", "[\"pro_acces\"]"));
    dev.says("line 18, column 1: products.pro_monthly.grants: grants \"pro_acces\"")
        .await;
    assert_eq!(dev.versions().await, 1);
    assert!(is_active(&phone.latest, "export"));

    // Whoever loses by it: this is the developer's own machine.
    let before = dev.terminal.printed().len();
    let less = EXAMPLE.replace(
        "grants = [\"pro_access\", \"export\"]",
        "grants = [\"pro_access\"]",
    );
    dev.save(&less);
    phone.until_inactive("export").await;
    assert!(is_active(&phone.latest, "pro_access"));
    dev.says("catalog version 2 is active").await;
    let told = dev.since(before);
    for expected in [
        "products.pro_yearly no longer grants export",
        "export: 1 lose it, 1 of these by a purchase",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }

    // Another mistake keeps the second version; the way back is a version of its own.
    let before = dev.terminal.printed().len();
    dev.replace("");
    let complained = async || dev.since(before).contains("the catalog stays as it was");
    eventually("an empty file is refused", complained).await;
    assert_eq!(dev.versions().await, 2);
    dev.replace(EXAMPLE);
    phone.until_active("export").await;
    dev.says("catalog version 3 is active").await;
    assert_eq!(dev.versions().await, 3);

    dev.terminal.signal("TERM");
    assert!(dev.terminal.ended().await.success());
    assert!(dev.terminal.printed().contains("stopping"));
    std::fs::remove_dir_all(&dev.dir).expect("removed");
}
