//! What `entitled init` writes and prints, started as it is and with what it offers switched on.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use entitled::proto::CreateAnonymousRequest;
use entitled::proto::account_service_client::AccountServiceClient;
use serde_json::Value;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::api_keys::{Keys, service};
use crate::process::Keeper;
use crate::support::{assert_refused, database};

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server of the written configuration, on ports of its own.
struct Server {
    child: Child,
    keeper: Keeper,
    grpc: String,
}

impl Server {
    async fn start(dir: &Path) -> Self {
        let mut child = program(dir)
            .args(["start", "--config", "entitled.toml"])
            .env("ENTITLED__GRPC__LISTEN", "127.0.0.1:0")
            .env("ENTITLED__WEBHOOKS__LISTEN", "127.0.0.1:0")
            .env("ENTITLED__ADMIN__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program runs");
        let keeper = Keeper::of(child.id());
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let line = tokio::task::spawn_blocking(move || output.lines().next());
        let line = line
            .await
            .expect("read")
            .expect("it says where")
            .expect("text");
        let told: Value = serde_json::from_str(&line).expect("JSON");
        let grpc = told["grpc"].as_str().expect("an address").to_owned();
        Self {
            child,
            keeper,
            grpc,
        }
    }

    async fn create_anonymous(&self) -> Result<String, tonic::Status> {
        let endpoint = Endpoint::from_shared(self.grpc.clone()).expect("a URL");
        let channel = endpoint.connect().await.expect("a server");
        let mut accounts = AccountServiceClient::new(channel);
        let made = accounts.create_anonymous(CreateAnonymousRequest {}).await?;
        Ok(made.into_inner().account.expect("an account").id)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.keeper.release();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entitled"));
    command.current_dir(dir).env_remove("ENTITLED_CONFIG");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_written_files_start_as_they_are_and_with_what_they_offer() {
    let url = database().await;
    let name = format!("entitled-first-files-{}", std::process::id());
    let dir = Dir(std::env::temp_dir().join(name));
    std::fs::create_dir_all(&dir.0).expect("a directory");
    let init = ["init", "--no-input", "--bundle-id", "com.example.app"];
    let output = program(&dir.0)
        .args(init)
        .args(["--public-url", "https://entitled.example.com/"])
        .args(["--database-url", &url])
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");

    let server = Server::start(&dir.0).await;
    let refused = server
        .create_anonymous()
        .await
        .expect_err("not switched on");
    assert_refused(&refused, Code::FailedPrecondition, "ANONYMOUS_ACCOUNTS_OFF");
    // The first key, by the line that was printed.
    let line = printed
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("entitled key create"))
        .unwrap_or_else(|| panic!("no first key in:\n{printed}"));
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let made = program(&dir.0).args(&words).output().expect("runs");
    assert!(made.status.success(), "{made:?}");
    let key = std::fs::read_to_string(dir.0.join("ops.key")).expect("a key");
    let mut keys = Keys::with(&server.grpc, key.trim()).await;
    keys.create(service("backend", &[])).await.expect("made");
    drop(server);

    // What stands there as a comment, with a key of one's own.
    let file = dir.0.join("entitled.toml");
    let text = std::fs::read_to_string(&file).expect("written");
    let (before, offered) = text.split_once("# [tokens]\n").expect("an offer");
    let (offered, after) = offered.split_once("\n\n").expect("its end");
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    std::fs::write(dir.0.join("tokens.pem"), pem.serialize_pem()).expect("written");
    let offered: Vec<String> = offered
        .lines()
        .map(|line| line.strip_prefix("# ").expect("a comment"))
        .map(|line| line.replace("/run/secrets/tokens.pem", "tokens.pem"))
        .collect();
    let on = format!("{before}[tokens]\n{}\n\n{after}", offered.join("\n"));
    std::fs::write(&file, on).expect("written");
    let server = Server::start(&dir.0).await;
    let (one, other) = (
        server.create_anonymous().await.expect("made"),
        server.create_anonymous().await.expect("made"),
    );
    assert_ne!(one, other);
    let mut keys = Keys::with(&server.grpc, key.trim()).await;
    keys.create(service("backend", &[]))
        .await
        .expect("the second");
}
