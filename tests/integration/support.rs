//! One cluster per run, one database per test, one stack per test.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use entitled::cli::client::Client;
use entitled::cli::stack::{Stack, StackOptions};
use entitled::proto::watch_entitlements_response::Event;
use entitled::proto::{EntitlementSnapshot, WatchEntitlementsResponse};
use entitled::storage::cluster::{Cluster, DataDir};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use tokio::sync::OnceCell;
use tonic::{Code, Status, Streaming};

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static TEMPLATE: OnceCell<()> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// How long a test waits for what will happen: on a crowded machine, too. Nothing is expected to be
/// slow, so nothing is gained by less.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One client for all: each reads the machine's certificates, which takes longer than a request. A
/// connection is never kept, because it would die with the test that opened it.
pub static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0);
    client.build().expect("a client")
});

const MIGRATED: &str = "migrated";

/// When every test begins, by business time.
pub fn start() -> DateTime<Utc> {
    "2027-01-10T09:00:00Z".parse().expect("a date")
}

/// The run's Postgres: found or started once, gone with the process.
pub async fn cluster() -> &'static Cluster {
    CLUSTER
        .get_or_init(|| async { Cluster::start(DataDir::Ephemeral).await.expect("Postgres") })
        .await
}

/// A database of the test's own, migrated: a copy of one that was migrated once.
pub async fn database() -> String {
    let cluster = cluster().await;
    TEMPLATE
        .get_or_init(|| async {
            let made = cluster.create_database(MIGRATED, None).await;
            made.expect("a template");
            migrate(&cluster.url(MIGRATED)).await;
        })
        .await;
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    cluster
        .create_database(&name, Some(MIGRATED))
        .await
        .expect("database");
    let url = cluster.url(&name);
    // What a migration makes up for a database is made up for each.
    let mut connection = PgConnection::connect(&url).await.expect("connected");
    sqlx::query("update deployment set epoch = gen_random_uuid()")
        .execute(&mut connection)
        .await
        .expect("a deployment of its own");
    connection.close().await.expect("closed");
    url
}

/// As an operator does; no connection is left.
async fn migrate(url: &str) {
    let migrated = tokio::process::Command::new(env!("CARGO_BIN_EXE_entitled"))
        .arg("migrate")
        .env("ENTITLED__DATABASE__URL", url)
        .output()
        .await
        .expect("the program runs");
    assert!(migrated.status.success(), "{migrated:?}");
}

/// A running stack with a directory of its own.
pub struct World {
    pub stack: Stack,
    pub database_url: String,
    /// One connection for whatever is looked at again and again.
    pub(crate) looks: PgPool,
    _dir: TempDir,
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut StackOptions)) -> Self {
        let database_url = database().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("entitled-test-{}-{number}", std::process::id()));
        let mut options = StackOptions::new(dir.clone(), database_url.clone(), start());
        change(&mut options);
        let stack = Stack::start(options).await.expect("the stack starts");
        let looks = PgPoolOptions::new()
            .max_connections(1)
            .connect_lazy(&database_url)
            .expect("the test's database");
        let world = Self {
            stack,
            database_url,
            looks,
            _dir: TempDir(dir),
        };
        world.time_waits_for_the_server();
        world
    }

    /// From one event of the simulated stores to the next the server finishes what the first began.
    pub fn time_waits_for_the_server(&self) {
        let probe = self.stack.app.idle_probe();
        self.stack.sandbox.set_idle_hook(move || {
            let probe = probe.clone();
            Box::pin(async move {
                assert!(probe.idle(PATIENCE).await, "work was left over");
            })
        });
    }

    pub async fn client(&self, subject: &str) -> Client {
        self.stack.client(subject).await.expect("a client")
    }

    /// A development token of `subject`.
    pub fn token(&self, subject: &str) -> String {
        mint(&self.stack.address.secret, subject, false)
    }

    /// The same of somebody who has not signed in.
    pub fn anonymous_token(&self, subject: &str) -> String {
        mint(&self.stack.address.secret, subject, true)
    }

    /// The same from somebody who does not know the secret.
    pub fn token_signed_with(&self, secret: &str) -> String {
        mint(secret, "mallory", false)
    }

    pub async fn client_with_token(&self, token: &str) -> Client {
        Client::connect(&self.stack.address.server, token)
            .await
            .expect("a client")
    }

    /// A stream of `subject`, past its first message.
    pub async fn device(&self, subject: &str) -> Device {
        Device::open(self.client(subject).await).await
    }

    pub async fn settled(&self) {
        assert!(self.stack.app.idle(PATIENCE).await, "work was left over");
    }

    /// Ends the story; whatever it told, each revision of an account is told by an event (I5, I6).
    pub async fn stop(self) {
        self.stack.stop().await;
        let untold = sqlx::query_as::<_, (uuid::Uuid, i64, i64, i64)>(
            "select s.account_id, s.revision, count(distinct e.revision),
                    coalesce(max(e.revision), 0)
             from entitlement_snapshots s
             left join subscription_events e using (account_id)
             group by s.account_id, s.revision
             having (s.revision, s.revision)
                 <> (count(distinct e.revision), coalesce(max(e.revision), 0))",
        );
        let untold = untold.fetch_all(&self.looks).await.expect("the books");
        assert_eq!(
            untold,
            [],
            "account, revision, told by events, the last told"
        );
    }
}

fn mint(secret: &str, subject: &str, anonymous: bool) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let claims = serde_json::json!({
        "iss": "dev", "aud": "entitled", "sub": subject, "exp": now.as_secs() + 3_600,
        "is_anonymous": anonymous,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signs")
}

struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A device that watches its account.
pub struct Device {
    pub stream: Streaming<WatchEntitlementsResponse>,
    pub latest: EntitlementSnapshot,
}

impl Device {
    pub async fn open(mut client: Client) -> Self {
        let mut stream = client.watch().await.expect("a stream");
        let latest = next_snapshot(&mut stream, PATIENCE)
            .await
            .expect("the first snapshot");
        Self { stream, latest }
    }

    /// Reads on until the snapshot is as wanted; panics if it never is.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&EntitlementSnapshot) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !wanted(&self.latest) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            match next_snapshot(&mut self.stream, left).await {
                Some(next) => {
                    assert!(
                        next.revision >= self.latest.revision,
                        "revisions never go back"
                    );
                    self.latest = next;
                }
                None => panic!("not told in time: {what}; has {:#?}", self.latest),
            }
        }
    }

    pub async fn until_active(&mut self, id: &str) {
        self.until(&format!("{id} on"), |s| is_active(s, id)).await;
    }

    pub async fn until_inactive(&mut self, id: &str) {
        self.until(&format!("{id} off"), |s| !is_active(s, id))
            .await;
    }

    /// Whether nothing new comes within `quiet`.
    pub async fn is_quiet(&mut self, quiet: Duration) -> bool {
        next_snapshot(&mut self.stream, quiet).await.is_none()
    }
}

async fn next_snapshot(
    stream: &mut Streaming<WatchEntitlementsResponse>,
    patience: Duration,
) -> Option<EntitlementSnapshot> {
    let next = async {
        loop {
            match stream.message().await {
                Ok(Some(WatchEntitlementsResponse {
                    event: Some(Event::Snapshot(snapshot)),
                    ..
                })) => {
                    return Some(snapshot);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    };
    tokio::time::timeout(patience, next).await.ok().flatten()
}

pub fn is_active(snapshot: &EntitlementSnapshot, id: &str) -> bool {
    entitlement(snapshot, id).active
}

pub fn entitlement<'a>(
    snapshot: &'a EntitlementSnapshot,
    id: &str,
) -> &'a entitled::proto::Entitlement {
    snapshot
        .entitlements
        .iter()
        .find(|e| e.id == id)
        .expect("an entitlement of the catalog")
}

/// Seconds at which what was paid ends; 0 if it never was.
pub fn expires(snapshot: &EntitlementSnapshot, id: &str) -> i64 {
    entitlement(snapshot, id)
        .expires_at
        .map_or(0, |at| at.seconds)
}

/// The stable reason in a status's details.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    let Some(info) = status.get_details_error_info() else {
        panic!("without a reason: {status:?}");
    };
    assert_eq!(info.domain, "entitled.v1");
    info.reason
}

pub fn client_action(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    let info = status.get_details_error_info().expect("ErrorInfo");
    info.metadata
        .get("client_action")
        .cloned()
        .unwrap_or_default()
}

#[track_caller]
pub fn assert_refused(status: &Status, code: Code, expected: &str) {
    assert_eq!(
        (status.code(), reason(status).as_str()),
        (code, expected),
        "{status:?}"
    );
}
