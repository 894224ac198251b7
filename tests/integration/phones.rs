//! `dev --lan --tls` as its own process: what a phone reaches by this computer's address, and whom
//! it must trust for it.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use entitled::cli::client::Client;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Version;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error};

use crate::process::{Keeper, free_ports};
use crate::support::{HTTP, PATIENCE, database, is_active};

/// Where the network finds this computer; where it is on none, only itself does.
fn address() -> IpAddr {
    let routed = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    routed.map_or(Ipv4Addr::LOCALHOST.into(), |found| found.ip())
}

/// A running `entitled dev --lan --tls`.
struct Dev {
    child: Child,
    keeper: Keeper,
    dir: PathBuf,
    port: u16,
}

impl Dev {
    async fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("entitled-phones-{}", uuid::Uuid::new_v4()));
        let url = database().await;
        let (port, held) = free_ports(5);
        drop(held);
        let mut child = Self::command(
            &["dev", "--lan", "--tls", "--port", &port.to_string()],
            &dir,
        )
        .env("DATABASE_URL", url)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
        let keeper = Keeper::of(child.id());
        let printed = BufReader::new(child.stdout.take().expect("piped"));
        let (told, ready) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut told = Some(told);
            // Read to its end, so that nobody waits for room to print.
            for line in printed.lines().map_while(Result::ok) {
                if line.starts_with("Here: curl --cacert") {
                    let _ = told.take().map(|told| told.send(()));
                }
            }
        });
        let ready = tokio::time::timeout(PATIENCE, ready).await;
        ready.expect("in time").expect("the stack starts");
        Self {
            child,
            keeper,
            dir,
            port,
        }
    }

    fn command(words: &[&str], dir: &PathBuf) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entitled"));
        command.args(words).arg("--dir").arg(dir);
        command.env_remove("DATABASE_URL").stdin(Stdio::null());
        command
    }

    /// What a command of the same computer prints.
    async fn run(&self, words: &[&str]) -> String {
        let mut command = tokio::process::Command::from(Self::command(words, &self.dir));
        let output = command.output().await.expect("the binary runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.keeper.release();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn connect(server: &str, authority: &str) -> Result<Channel, Error> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    let endpoint = Endpoint::from_shared(server.to_owned()).expect("a URL");
    endpoint.tls_config(tls)?.connect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_trusts_the_directorys_authority_reads_by_this_computers_address() {
    let dev = Dev::start().await;
    let (address, port) = (address(), dev.port);
    let server = format!("https://{address}:{port}");

    // The certificate is had by plain HTTP, and is the one on disk.
    let offer = format!("http://{address}:{}", port + 4);
    let page = HTTP.get(&offer).send().await.expect("a page");
    let page = page.text().await.expect("text");
    let offered = HTTP.get(format!("{offer}/entitled-dev.crt")).send().await;
    let offered = offered.expect("a certificate");
    assert_eq!(
        offered.headers()["content-type"],
        "application/x-x509-ca-cert"
    );
    let authority = offered.text().await.expect("PEM");
    let kept = dev.dir.join("tls/authority.pem");
    assert_eq!(authority, std::fs::read_to_string(kept).expect("kept"));
    assert!(page.contains("href=\"/entitled-dev.crt\""), "{page}");

    // gRPC.
    let token = dev.run(&["token", "alice"]).await;
    let token = token.trim();
    let channel = connect(&server, &authority).await.expect("trusted");
    let mut alice = Client::over(channel, token).expect("a client");
    let snapshot = alice.get().await.expect("answers").snapshot;
    assert!(!is_active(&snapshot.expect("a snapshot"), "pro_access"));

    // JSON, for clients of either HTTP.
    let certificate = reqwest::Certificate::from_pem(authority.as_bytes()).expect("PEM");
    let client = || reqwest::Client::builder().no_proxy();
    let trusting = || client().tls_certs_only([certificate.clone()]);
    let read = async |client: reqwest::ClientBuilder| {
        let url = format!("{server}/v1/entitlement:getEntitlements");
        let client = client.build().expect("a client");
        client.get(url).bearer_auth(token).send().await
    };
    for (client, version) in [
        (trusting(), Version::HTTP_2),
        (trusting().http1_only(), Version::HTTP_11),
    ] {
        let answer = read(client).await.expect("trusted");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }

    // Commands on this computer know whom to trust.
    let bought = dev.run(&["buy", "alice", "pro_yearly"]).await;
    assert!(bought.contains("CLIENT_ACTION_FINISH"), "{bought}");
    let read_back = alice.get().await.expect("answers").snapshot;
    assert!(is_active(&read_back.expect("a snapshot"), "pro_access"));

    // Who trusts somebody else, or the machine's authorities alone, says nothing; and nothing is
    // said in the clear.
    let key = KeyPair::generate().expect("a key");
    let stranger = CertificateParams::new(vec![address.to_string()]).expect("a name");
    let stranger = stranger.self_signed(&key).expect("signs");
    let refused = connect(&server, &stranger.pem())
        .await
        .expect_err("refused");
    assert!(
        format!("{refused:?}").contains("UnknownIssuer"),
        "{refused:?}"
    );
    assert!(read(client()).await.expect_err("refused").is_connect());
    let clear = format!("http://{address}:{port}/v1/openapi.json");
    assert!(
        HTTP.get(clear).send().await.is_err(),
        "answered in the clear"
    );
}
