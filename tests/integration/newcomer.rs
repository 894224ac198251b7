//! A newcomer's walk: `docs/first-purchase.md`, played as it stands there. Commands and what they
//! print are taken out of the document, so that document and product cannot part.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::process::{Terminal, eventually, free_ports};
use crate::support::database;

/// A block of the document: commands or what they print.
#[derive(Debug)]
struct Block {
    line: usize,
    printed: bool,
    written: bool,
    /// Commands that keep running, and what those print, by the number of their terminal.
    terminal: Option<u32>,
    ends: bool,
    text: String,
}

/// Commands, and what they print; what is written into files is for eyes.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let words: Vec<&str> = info.split(' ').collect();
                let known = matches!(words[0], "sh" | "text" | "toml");
                assert!(known, "line {number}: {info}");
                let terminal = words.iter().find_map(|word| word.strip_prefix("terminal="));
                open = Some(Block {
                    line: number + 1,
                    printed: words[0] == "text",
                    written: words[0] == "toml",
                    terminal: terminal.map(|number| number.parse().expect("a number")),
                    ends: words.contains(&"ends"),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take().filter(|block| !block.written)),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Whether the expected lines stand in `printed` in their order; `…` stands for anything.
fn contains(printed: &str, expected: &str) -> Result<(), String> {
    let mut lines = printed.lines();
    for wanted in expected.lines() {
        let found = lines.any(|line| {
            let mut rest = line;
            wanted.trim().split('…').all(|part| {
                let at = rest.find(part);
                rest = at.map_or("", |at| &rest[at + part.len()..]);
                at.is_some()
            })
        });
        if !found {
            return Err(wanted.to_owned());
        }
    }
    Ok(())
}

/// The newcomer's machine: a directory, a database, free ports instead of the document's.
struct Walk {
    dir: PathBuf,
    database_url: String,
    ports: BTreeMap<&'static str, u16>,
    terminals: BTreeMap<u32, Terminal>,
}

impl Walk {
    async fn begin() -> Self {
        let database_url = database().await;
        let name = format!("entitled-walk-{}", uuid::Uuid::new_v4());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        // Three in a row for the server, one for the stores; held until all are found.
        let (server, _held) = free_ports(3);
        let stores = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stores = stores.local_addr().expect("an address").port();
        let ports = [
            ("8080", server),
            ("8081", server + 1),
            ("8082", server + 2),
            ("8090", stores),
        ];
        Self {
            dir,
            database_url,
            ports: ports.into(),
            terminals: BTreeMap::new(),
        }
    }

    fn here(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (named, free) in &self.ports {
            text = text.replace(named, &free.to_string());
        }
        text
    }

    fn shell(&self, commands: &str) -> Command {
        let binary = Path::new(env!("CARGO_BIN_EXE_entitled"));
        let folder = binary.parent().expect("a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c", commands])
            .current_dir(&self.dir)
            .env("PATH", format!("{folder}:{path}"))
            .env("DATABASE_URL", &self.database_url)
            .env_remove("ENTITLED_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        shell
    }

    /// Runs commands to their end; gives what they printed.
    async fn run(&self, block: &Block) -> String {
        let commands = self.here(&block.text);
        let output = self.shell(&commands).output().await.expect("bash runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "line {}:\n{commands}\n{printed}\n{complained}\n{}",
            block.line,
            self.others()
        );
        printed
    }

    /// Starts a command in a terminal of its own, and goes on once it has said something.
    async fn open(&mut self, block: &Block, terminal: u32) {
        let commands = format!("exec {}", self.here(&block.text));
        let opened = Terminal::open(self.shell(&commands));
        self.terminals.insert(terminal, opened);
        let said = async || !self.terminals[&terminal].printed().is_empty();
        eventually("the terminal says something", said).await;
    }

    async fn expect_of(&mut self, block: &Block, terminal: u32) {
        let expected = self.here(&block.text);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let printed = self.terminals[&terminal].printed();
            match contains(&printed, &expected) {
                Ok(()) => break,
                Err(missing) => assert!(
                    tokio::time::Instant::now() < deadline,
                    "line {}: terminal {terminal} does not say {missing:?}:\n{}",
                    block.line,
                    self.others()
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if block.ends {
            let terminal = self.terminals.get_mut(&terminal).expect("open");
            let status = tokio::time::timeout(Duration::from_secs(30), terminal.ended());
            let status = status.await.expect("it ends");
            assert!(status.success(), "line {}: {status}", block.line);
        }
    }

    /// What all terminals show, for whoever looks for a mistake.
    fn others(&self) -> String {
        let shown = self
            .terminals
            .iter()
            .map(|(number, terminal)| format!("--- terminal {number}\n{}", terminal.printed()));
        shown.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_directory_to_a_purchase_by_the_document_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/first-purchase.md")).expect("readable");
    let mut walk = Walk::begin().await;
    let mut printed = String::new();
    for block in blocks(&document) {
        match (block.printed, block.terminal) {
            (false, None) => printed = walk.run(&block).await,
            (false, Some(terminal)) => walk.open(&block, terminal).await,
            (true, Some(terminal)) => walk.expect_of(&block, terminal).await,
            (true, None) => {
                let told = contains(&printed, &walk.here(&block.text));
                assert_eq!(told, Ok(()), "line {}:\n{printed}", block.line);
            }
        }
    }
    let again = walk.run_again().await;
    assert!(again.contains("overwrites nothing"), "{again}");
    drop(walk.terminals);
    std::fs::remove_dir_all(&walk.dir).expect("removed");
}

impl Walk {
    /// `init` where its files are: it must leave them alone.
    async fn run_again(&self) -> String {
        let config = self.dir.join("entitled.toml");
        let before = std::fs::read_to_string(&config).expect("written");
        let output = self.shell("entitled init --no-input").output().await;
        let output = output.expect("bash runs");
        assert!(!output.status.success());
        assert_eq!(
            std::fs::read_to_string(&config).expect("still there"),
            before
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The server's steps: where there is no store account yet, each is done but the one that needs to
/// know who signs users in.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_steps_are_done_by_the_commands_of_their_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/stores/README.md")).expect("readable");
    let mut walk = Walk::begin().await;
    let begun = walk.dir.clone();
    for mut block in blocks(&document) {
        // Where others listen already; its own answers are in `init`'s tests.
        let init = "entitled init --dir shop";
        block.text = block
            .text
            .replace(init, &format!("{init} --no-input --port 8080"));
        if block.text.contains("entitled doctor") {
            break;
        }
        match block.terminal {
            None => drop(walk.run(&block).await),
            Some(terminal) => walk.open(&block, terminal).await,
        }
        if let Some(folder) = block.text.lines().find_map(|line| line.strip_prefix("cd ")) {
            walk.dir = walk.dir.join(folder);
        }
    }
    let told = walk.shell("entitled doctor --json --config entitled.toml");
    let told = { told }.output().await.expect("bash runs");
    let told: Vec<Value> = serde_json::from_slice(&told.stdout).expect("JSON");
    let health = |step: &str| {
        let of_step = told.iter().find(|finding| finding["step"] == step);
        of_step.and_then(|finding| finding["health"].as_str())
    };
    for step in 1..=5 {
        let step = format!("server {step}");
        assert_eq!(health(&step), Some("ok"), "{step}: {told:#?}");
    }
    let failed = told.iter().find(|finding| finding["health"] == "fail");
    assert_eq!(failed.expect("one")["step"], "server 6", "{told:#?}");
    drop(walk.terminals);
    std::fs::remove_dir_all(begun).expect("removed");
}

#[test]
fn what_is_printed_is_compared_line_by_line() {
    let printed = "first\n  ON   pro_access     renews 2027\nlast\n";
    assert_eq!(contains(printed, "ON   pro_access … 2027\nlast\n"), Ok(()));
    assert_eq!(contains(printed, "last\nfirst\n"), Err("first".to_owned()));
    assert_eq!(
        contains(printed, "pro_access …  2028\n"),
        Err("pro_access …  2028".to_owned())
    );
}
