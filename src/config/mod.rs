//! Configuration: one TOML file, overridden by environment variables, checked before anything starts.
//!
//! `ENTITLED__DATABASE__URL` overrides `[database] url`. Contradictions fail at start, all at once.

pub mod app_store;
pub mod encryption;
pub mod google_play;
pub mod healing;
pub mod hints;
pub mod issuers;
pub mod limits;
pub mod refund_defence;
pub mod retention;
pub mod superwall;
pub mod support;
pub mod tokens;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

/// How long one read of a purchase at its store may take.
const STORE_ANSWER_SECONDS_MAX: u32 = 10;

/// Everything that a server is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What this deployment is; production refuses virtual clocks, test roots and shared secrets.
    #[serde(default)]
    pub mode: Mode,
    /// Catalog file to apply at start; without it the catalog applied last stays active.
    #[serde(default)]
    pub catalog: Option<PathBuf>,
    /// Postgres.
    pub database: DatabaseConfig,
    /// The gRPC listener.
    #[serde(default)]
    pub grpc: GrpcConfig,
    /// What strangers may take of the gRPC listener.
    #[serde(default)]
    pub limits: limits::LimitsConfig,
    /// The listener for store notifications.
    #[serde(default)]
    pub webhooks: WebhooksConfig,
    /// Metrics and health; bind it where only operators reach it.
    #[serde(default)]
    pub admin: AdminConfig,
    /// How long access outlives what was paid, and how often stores are asked.
    #[serde(default)]
    pub access: AccessConfig,
    /// The reconciler's patience.
    #[serde(default)]
    pub worker: WorkerConfig,
    /// What stores are told about refunds.
    #[serde(default)]
    pub refund_defence: refund_defence::RefundDefenceConfig,
    /// What is looked at without a signal.
    #[serde(default)]
    pub healing: healing::HealingConfig,
    /// How replicas tell each other of changes.
    #[serde(default)]
    pub hints: hints::HintsConfig,
    /// How long what is no longer needed is kept.
    #[serde(default)]
    pub retention: retention::RetentionConfig,
    /// Under which keys what stores send is kept.
    #[serde(default)]
    pub encryption: encryption::EncryptionConfig,
    /// What operators may give away.
    #[serde(default)]
    pub support: support::SupportConfig,
    /// Business time.
    #[serde(default)]
    pub clock: ClockConfig,
    /// Who may sign callers' tokens.
    #[serde(default)]
    pub issuers: issuers::Issuers,
    /// Tokens of our own; absent: none are signed, none accepted.
    #[serde(default)]
    pub tokens: Option<tokens::TokensConfig>,
    /// App Store credentials; absent: App Store purchases are refused.
    #[serde(default)]
    pub app_store: Option<app_store::AppStoreConfig>,
    /// Google Play credentials; absent: Google Play purchases are refused.
    #[serde(default)]
    pub google_play: Option<google_play::GooglePlayConfig>,
    /// Superwall's webhooks; absent: none are accepted.
    #[serde(default)]
    pub superwall: Option<superwall::SuperwallConfig>,
}

/// What a deployment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Real users, real money.
    #[default]
    Production,
    /// A developer's machine or a test.
    Development,
}

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host/database`; one direct URL, not a transaction-mode pooler.
    pub url: SecretString,
    /// Connections of this process; default 16.
    #[serde(default = "connections_max")]
    pub connections_max: u32,
}

fn connections_max() -> u32 {
    16
}

/// `[grpc]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Address to listen on; default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Whether gRPC reflection is served here, too, beside the admin listener; default: only in
    /// development. Production refuses it.
    pub reflection: Option<bool>,
    /// Whether the services of operators are served here, too, beside the admin listener; default
    /// true.
    pub operators: bool,
    /// PEM certificate chain; with `tls_key`, TLS is served.
    pub tls_certificate: Option<PathBuf>,
    /// PEM private key.
    pub tls_key: Option<PathBuf>,
    /// Addresses or networks (`10.0.0.0/8`) of the proxies in front; what they say of where callers
    /// are is believed, and nobody else. Default none.
    pub trusted_proxies: Vec<String>,
    /// The header by which they say it.
    pub forwarded_by: limits::ForwardedBy,
    /// Whether every connection comes from one of them, which names its client by the PROXY
    /// protocol, version 2. Default false.
    pub proxy_protocol: bool,
    /// Threads that serve connections, each with a runtime of its own; default: one for each core
    /// that the process may use. 0: connections share the runtime of everything else.
    pub connection_threads: Option<usize>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            reflection: None,
            operators: true,
            tls_certificate: None,
            tls_key: None,
            trusted_proxies: Vec::new(),
            forwarded_by: limits::ForwardedBy::default(),
            proxy_protocol: false,
            connection_threads: None,
        }
    }
}

/// `[webhooks]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Address to listen on; default `127.0.0.1:8081`. TLS ends in front of it.
    pub listen: SocketAddr,
    /// Where the stores reach it: `https://entitled.example.com`, without `/webhooks/…`. Nothing
    /// is served by it: `setup` and `doctor` need it.
    pub public_url: Option<String>,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            public_url: None,
        }
    }
}

/// `[admin]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Address to listen on; default `127.0.0.1:8082`.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8082)),
        }
    }
}

/// `[access]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    /// How long access outlives a period that should renew (stores renew late); default 60.
    pub renewal_leniency_minutes: u32,
    /// The most that a store which cannot be asked prolongs access; default 24.
    pub outage_leniency_hours: u32,
    /// The longest an owned purchase goes without being read again; default 24.
    pub recheck_max_hours: u32,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            renewal_leniency_minutes: 60,
            outage_leniency_hours: 24,
            recheck_max_hours: 24,
        }
    }
}

/// `[worker]`; machine time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// How long a worker that died keeps its purchases to itself; default 30. Longer than a store
    /// may take to answer (10), or slow answers are dropped.
    pub lease_seconds: u32,
    /// The longest pause before a store that cannot be asked is asked again; default 300.
    pub backoff_max_seconds: u32,
    /// Calls to the App Store per second, over all replicas; default 80: Apple allows 50 of
    /// each kind, and a read is one call of each of two kinds.
    pub app_store_calls_per_second: u32,
    /// Calls to Google Play per second, over all replicas; default 40: Google allows 3,000 a minute.
    pub google_play_calls_per_second: u32,
    /// Accounts per second that a new catalog reaches, over all replicas; default 500. It bounds the
    /// pushes to devices, and what the change costs the database.
    pub catalog_accounts_per_second: u32,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            lease_seconds: 30,
            backoff_max_seconds: 300,
            app_store_calls_per_second: 80,
            google_play_calls_per_second: 40,
            catalog_accounts_per_second: 500,
        }
    }
}

impl AccessConfig {
    fn validate(&self, production: bool) -> Vec<String> {
        // In a simulated year, reading everything every week would be most of the work.
        let recheck_max = if production { 7 * 24 } else { 366 * 24 };
        let ranges = [
            (
                "renewal_leniency_minutes",
                self.renewal_leniency_minutes,
                0..=24 * 60,
            ),
            (
                "outage_leniency_hours",
                self.outage_leniency_hours,
                0..=7 * 24,
            ),
            ("recheck_max_hours", self.recheck_max_hours, 1..=recheck_max),
        ];
        let outside = ranges
            .into_iter()
            .filter(|(_, value, range)| !range.contains(value));
        outside
            .map(|(name, value, range)| {
                format!(
                    "access.{name} is {value}; give {} to {}",
                    range.start(),
                    range.end()
                )
            })
            .collect()
    }
}

/// `[clock]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// URL of a store simulator's clock to follow; refused in production.
    pub follow: Option<String>,
}

/// What is wrong with the address that stores are told, in words that follow its name.
pub(crate) fn check_public_url(url: &str) -> Option<String> {
    let parsed: Option<http::Uri> = url.parse().ok();
    let parts = parsed
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    let problem = match parts {
        None => "is not a URL; write https://HOST",
        Some((_, authority)) if authority.as_str().contains('@') => "must not hold a user name",
        Some(_) if url.contains(['?', '#']) => "must not have a query or fragment",
        Some(_) if url.contains("/webhooks") => "is the base alone, without /webhooks/…",
        Some(("https", _)) => return None,
        Some(("http", authority))
            if matches!(authority.host(), "localhost" | "127.0.0.1" | "[::1]") =>
        {
            return None;
        }
        Some(_) => "must use https: the stores send to nothing else",
    };
    Some(problem.to_owned())
}

impl Config {
    /// Reads the file (if given) and the environment.
    ///
    /// # Errors
    /// A sentence that names the file or variable and what is wrong with it.
    pub fn load(file: Option<&Path>) -> Result<Self, String> {
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            builder = builder.add_source(config::File::from(file).format(config::FileFormat::Toml));
        }
        let environment = config::Environment::with_prefix("ENTITLED")
            .prefix_separator("__")
            .separator("__");
        builder
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| format!("configuration: {error}"))
    }

    /// Everything that contradicts itself or the mode, a sentence each.
    pub fn validate(&self) -> Vec<String> {
        let production = self.mode == Mode::Production;
        let mut problems = self.issuers.validate(production);
        if let Some(tokens) = &self.tokens {
            problems.extend(tokens.validate(production, &self.issuers));
        }
        if let Some(app_store) = &self.app_store {
            problems.extend(app_store.validate(production));
        }
        if let Some(google_play) = &self.google_play {
            problems.extend(google_play.validate(production));
        }
        if let Some(superwall) = &self.superwall {
            problems.extend(superwall.validate());
        }
        if self.worker.lease_seconds == 0 || self.worker.backoff_max_seconds == 0 {
            problems.push("worker: lease_seconds and backoff_max_seconds start at 1".into());
        }
        if production && self.worker.lease_seconds <= STORE_ANSWER_SECONDS_MAX {
            problems.push(format!(
                "worker.lease_seconds: give a store its {STORE_ANSWER_SECONDS_MAX} s and more"
            ));
        }
        if production && self.clock.follow.is_some() {
            problems.push("clock.follow: production time comes from the system".into());
        }
        problems.extend(self.access.validate(production));
        problems.extend(self.refund_defence.validate());
        problems.extend(self.healing.validate());
        problems.extend(self.hints.validate());
        problems.extend(self.retention.validate());
        problems.extend(self.encryption.validate(production));
        problems.extend(self.support.validate());
        if self.worker.app_store_calls_per_second == 0
            || self.worker.google_play_calls_per_second == 0
        {
            problems.push("worker: without calls per second no purchase can be confirmed".into());
        }
        if self.worker.catalog_accounts_per_second == 0 {
            problems.push("worker.catalog_accounts_per_second: at least 1".into());
        }
        let public_url = self.webhooks.public_url.as_deref();
        if let Some(problem) = public_url.and_then(check_public_url) {
            problems.push(format!("webhooks.public_url {problem}"));
        } else if production && public_url.is_some_and(|url| url.starts_with("http://")) {
            problems.push("webhooks.public_url must use https in production".into());
        }
        if self.database.connections_max < 4 {
            problems.push("database.connections_max: at least 4".into());
        }
        if self.grpc.tls_certificate.is_some() != self.grpc.tls_key.is_some() {
            problems.push("grpc: give tls_certificate and tls_key together".into());
        }
        if production && self.grpc.reflection == Some(true) {
            problems.push("grpc.reflection: in production the admin listener has it".into());
        }
        if self.grpc.proxy_protocol && self.grpc.trusted_proxies.is_empty() {
            problems.push("grpc.proxy_protocol: name the proxies in grpc.trusted_proxies".into());
        }
        problems.extend(self.limits.validate());
        problems
    }

    /// Whether gRPC reflection is served.
    pub fn reflection(&self) -> bool {
        self.grpc
            .reflection
            .unwrap_or(self.mode == Mode::Development)
    }
}
