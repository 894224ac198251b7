//! The whole stack in one process: simulated stores, a database, a server that takes the one for
//! the other. Used by `demo`, `dev` and the tests; configured by a file, as a real one would be.

mod sold;

use std::fmt::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::client::{Client, Trust};
use crate::app::{App, Roles};
use crate::clock::VirtualClock;
use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::ids::CatalogVersion;
use crate::encryption::providers::new_key_file;
use crate::flows::apply_catalog;
use crate::policy::Role;
use crate::sandbox::{Environment, Manifest, Options, Sandbox, StoreSetup, Webhooks};
use crate::storage::Db;

pub use self::sold::setup_of;
pub(super) use self::sold::store_setup;

/// The catalog of the example app.
pub const EXAMPLE_CATALOG: &str = include_str!("example-catalog.toml");
/// Where `dev` keeps its stack unless told otherwise.
pub const DEFAULT_DIR: &str = ".entitled";
/// Short name of the issuer whose tokens are signed with the stack's shared secret.
pub const DEV_ISSUER: &str = "dev";
/// What the token of an operator of a stack carries in `scope`, by role.
pub fn operator_scope(role: Role) -> &'static str {
    match role {
        Role::Viewer => "entitled.viewer",
        Role::Support => "entitled.operator",
        Role::Admin => "entitled.admin",
    }
}
/// What the token of a service of a stack carries in `scope`.
pub const SERVICE_SCOPE: &str = "entitled.service";
/// Short name of the simulated identity provider.
pub const IDENTITY_ISSUER: &str = "app";
/// Calls per second that the simulated stores take.
const SIMULATED_CALLS: i64 = 1_000;
/// How long `advance` waits for the server between two moments.
const IDLE_PATIENCE: Duration = Duration::from_secs(10);

/// A certificate of the stack's own, as PEM files.
#[derive(Clone, Debug)]
pub struct ServedCertificate {
    /// Who issued it: what its callers trust.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How to start a stack.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// Where configuration, keys and the simulator's state are kept.
    pub dir: PathBuf,
    /// An empty or migrated database.
    pub database_url: String,
    /// The catalog, as TOML.
    pub catalog: String,
    /// What the simulated stores sell; the catalog's products if absent.
    pub setup: Option<StoreSetup>,
    /// What the simulated stores say their world is.
    pub environment: Environment,
    /// Business time: where it starts, and whether it runs by itself.
    pub clock: VirtualClock,
    /// Whether the simulator's state outlives the process.
    pub keep: bool,
    /// First of four ports (gRPC, webhooks, admin, simulator); 0 takes free ones.
    pub port: u16,
    /// Source of every simulated id.
    pub seed: u64,
    /// What the server in this process does; other roles may run in other processes.
    pub roles: Roles,
    /// Whether Superwall listens to the stores and tells the server, too.
    pub superwall: bool,
    /// Whether nothing is ever too old to be kept.
    pub keeps_all: bool,
    /// Whether the API listens to the whole network, not to this computer alone.
    pub lan: bool,
    /// What the API is served with; plain HTTP if absent.
    pub tls: Option<ServedCertificate>,
    /// The certificate of StoreKit testing in Xcode whose transactions are accepted.
    pub xcode_certificate: Option<PathBuf>,
}

impl StackOptions {
    /// The example app in production, on free ports, with business time that runs from `start`.
    pub fn new(dir: PathBuf, database_url: String, start: DateTime<Utc>) -> Self {
        Self {
            dir,
            database_url,
            catalog: EXAMPLE_CATALOG.to_owned(),
            setup: None,
            environment: Environment::Production,
            clock: VirtualClock::running(start),
            keep: false,
            port: 0,
            seed: 0,
            roles: Roles::ALL,
            superwall: false,
            keeps_all: false,
            lan: false,
            tls: None,
            xcode_certificate: None,
        }
    }
}

/// How other processes reach a running stack: kept in its directory as `stack.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StackAddress {
    /// The gRPC API.
    pub server: String,
    /// Who issued the server's certificate, where the machine does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
    /// The simulator's control API.
    pub control: String,
    /// The shared secret that development tokens are signed with.
    pub secret: String,
    /// The server's configuration file.
    pub config: PathBuf,
}

impl StackAddress {
    /// Reads the address of the stack that is kept in `dir`.
    ///
    /// # Errors
    /// No stack has been started there.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let file = dir.join("stack.json");
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!(
                "no development stack in {}; start one with `entitled dev`",
                dir.display()
            )
        })?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Whom the server's callers trust.
    pub(super) fn trust(&self) -> Trust {
        self.authority
            .as_ref()
            .map_or(Trust::Machine, |file| Trust::Only(file.clone()))
    }
}

/// Where a server takes what each source sends; nowhere, if it takes nothing.
pub(super) fn webhooks_of(app: &App) -> Webhooks {
    let url = app.webhooks_url();
    let place = |source: &str| url.as_ref().map(|url| format!("{url}/webhooks/{source}"));
    Webhooks {
        app_store: place("app-store"),
        google_play: place("google-play"),
        superwall: place("superwall"),
    }
}

/// A running stack.
pub struct Stack {
    /// The server under test.
    pub app: App,
    /// The stores.
    pub sandbox: Sandbox,
    /// Business time of both.
    pub clock: VirtualClock,
    /// How to reach it.
    pub address: StackAddress,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("app", &self.app)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// Starts stores and server; migrates the database.
    ///
    /// # Errors
    /// The first thing that could not be had, in words.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        // Whoever has built it for trying may try the suite against a mistake.
        #[cfg(debug_assertions)]
        super::plant_from_environment();
        make_dir(&options.dir)?;
        let catalog = apply_catalog::parse(&options.catalog, CatalogVersion(0))?;
        let sandbox = start_sandbox(&options, &catalog).await?;
        let secret = kept_secret(&options.dir)?;
        let config_file = write_config(&options, &sandbox.manifest(), &secret)?;
        let db = Db::open(&options.database_url, 2)?;
        db.migrate()
            .await
            .context("the database cannot be migrated")?;
        db.close().await;
        let config = Config::load(Some(&config_file)).map_err(anyhow::Error::msg)?;
        let app = App::start(config, options.roles, Some(options.clock.clone().into())).await?;
        let mut places = webhooks_of(&app);
        if !options.superwall {
            places.superwall = None;
        }
        sandbox.set_webhooks(places)?;
        let probe = app.idle_probe();
        sandbox.set_idle_hook(move || {
            let probe = probe.clone();
            Box::pin(async move {
                probe.idle(IDLE_PATIENCE).await;
            })
        });
        let address = StackAddress {
            // What listens to the whole network is here on this computer, too.
            server: app
                .grpc_url()
                .unwrap_or_default()
                .replace("0.0.0.0", "127.0.0.1"),
            authority: options.tls.as_ref().map(|tls| tls.authority.clone()),
            control: sandbox.manifest().control_url,
            secret,
            config: config_file,
        };
        write_private(
            &options.dir.join("stack.json"),
            &serde_json::to_string_pretty(&address)?,
        )?;
        Ok(Self {
            app,
            sandbox,
            clock: options.clock,
            address,
        })
    }

    /// A client with a development token of `subject`.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn client(&self, subject: &str) -> anyhow::Result<Client> {
        let token = super::token::mint(&self.address.secret, subject, super::token::DAY)?;
        Client::connect_trusting(&self.address.server, &self.address.trust(), &token).await
    }

    /// Stops server and stores.
    pub async fn stop(self) {
        self.app.stop().await;
        self.sandbox.shutdown().await;
    }
}

async fn start_sandbox(options: &StackOptions, catalog: &Catalog) -> anyhow::Result<Sandbox> {
    let setup = match &options.setup {
        Some(setup) => setup.clone(),
        None => store_setup(catalog, options.environment)?,
    };
    let port = if options.port == 0 {
        0
    } else {
        options.port + 3
    };
    let sandbox = Options {
        seed: options.seed,
        dir: options.keep.then(|| options.dir.join("stores")),
        port,
        ..Options::new(setup, options.clock.clone())
    };
    Sandbox::start(sandbox)
        .await
        .context("the simulated stores cannot start")
}

fn write_config(
    options: &StackOptions,
    manifest: &Manifest,
    secret: &str,
) -> anyhow::Result<PathBuf> {
    let dir = &options.dir;
    let root = base64::engine::general_purpose::STANDARD.decode(&manifest.apple_root_cert_der)?;
    std::fs::write(dir.join("apple-root.der"), root)?;
    std::fs::write(dir.join("catalog.toml"), &options.catalog)?;
    write_private(&dir.join("apple-key.p8"), &manifest.apple_private_key_pem)?;
    write_private(
        &dir.join("service-account.json"),
        &manifest.google_service_account_json,
    )?;
    write_private(
        &dir.join("superwall-webhook-secret"),
        &manifest.superwall.secret,
    )?;
    keep_key(dir)?;
    let text = config_text(options, manifest, secret)?;
    let file = dir.join("entitled.toml");
    write_private(&file, &text)?;
    Ok(file)
}

fn config_text(
    options: &StackOptions,
    manifest: &Manifest,
    secret: &str,
) -> anyhow::Result<String> {
    let path = |name: &str| Value::from(options.dir.join(name).to_string_lossy().into_owned());
    let listen = |offset: u16| {
        let port = if options.port == 0 {
            0
        } else {
            options.port + offset
        };
        let host = match offset {
            0 if options.lan => "0.0.0.0",
            _ => "127.0.0.1",
        };
        table([("listen", Value::from(format!("{host}:{port}")))])
    };
    let text = |text: &str| Value::from(text);
    let push = &manifest.push;
    let played = match options.environment {
        Environment::Production => "production",
        Environment::Sandbox => "sandbox",
    };
    let ages = [
        "notifications_days",
        "open_notifications_days",
        "store_answers_days",
    ];
    let for_ever = ages.map(|age| (age.to_owned(), Value::from(0)));
    let retention = match options.keeps_all {
        true => Table::from_iter(for_ever),
        false => Table::new(),
    };
    let mut config = table([
        ("mode", text("development")),
        ("retention", Value::Table(retention)),
        ("catalog", path("catalog.toml")),
        ("database", table([("url", text(&options.database_url))])),
        ("grpc", listen(0)),
        (
            "worker",
            // The simulated stores have no quota.
            table([
                ("app_store_calls_per_second", Value::from(SIMULATED_CALLS)),
                ("google_play_calls_per_second", Value::from(SIMULATED_CALLS)),
            ]),
        ),
        ("tokens", tokens_table(options)?),
        (
            "encryption",
            table([(
                "keys",
                Value::Array(vec![table([("file", path("encryption.key"))])]),
            )]),
        ),
        ("webhooks", listen(1)),
        ("admin", listen(2)),
        (
            "clock",
            table([(
                "follow",
                Value::from(format!("{}/clock", manifest.control_url)),
            )]),
        ),
        (
            "issuers",
            Value::Array(vec![
                table([
                    ("name", text(DEV_ISSUER)),
                    ("shared_secret", text(secret)),
                    ("audience", Value::Array(vec![text("entitled")])),
                    ("service_scope", text(SERVICE_SCOPE)),
                    ("viewer_scope", text(operator_scope(Role::Viewer))),
                    ("operator_scope", text(operator_scope(Role::Support))),
                    ("admin_scope", text(operator_scope(Role::Admin))),
                ]),
                table([
                    ("name", text(IDENTITY_ISSUER)),
                    ("preset", text("oidc")),
                    ("issuer", text(&manifest.identity.issuer)),
                    (
                        "audience",
                        Value::Array(vec![text(&manifest.identity.audience)]),
                    ),
                    ("service_scope", text(SERVICE_SCOPE)),
                    ("viewer_scope", text(operator_scope(Role::Viewer))),
                    ("operator_scope", text(operator_scope(Role::Support))),
                    ("admin_scope", text(operator_scope(Role::Admin))),
                ]),
            ]),
        ),
        (
            "app_store",
            table([
                ("issuer_id", text(&manifest.apple_issuer_id)),
                ("key_id", text(&manifest.apple_key_id)),
                ("private_key_file", path("apple-key.p8")),
                (
                    "root_certificates",
                    Value::Array(vec![path("apple-root.der")]),
                ),
                // The simulator plays one of Apple's two worlds, at one address.
                ("environments", Value::Array(vec![text(played)])),
                ("production_url", text(&manifest.app_store_api_url)),
                ("sandbox_url", text(&manifest.app_store_api_url)),
            ]),
        ),
        (
            "google_play",
            table([
                ("service_account_file", path("service-account.json")),
                ("base_url", text(&manifest.google_api_url)),
                (
                    "push",
                    table([
                        ("audience", text(&push.audience)),
                        ("email", text(&push.email)),
                        ("subscription", text(&push.subscription)),
                        ("jwks_url", text(&push.jwks_url)),
                        ("issuer", text(&push.issuer)),
                    ]),
                ),
            ]),
        ),
        (
            "superwall",
            table([("signing_secret_file", path("superwall-webhook-secret"))]),
        ),
    ]);
    if let (Some(tls), Some(Value::Table(grpc))) = (&options.tls, config.get_mut("grpc")) {
        let path = |path: &Path| Value::from(path.to_string_lossy().into_owned());
        grpc.insert("tls_certificate".to_owned(), path(&tls.certificate));
        grpc.insert("tls_key".to_owned(), path(&tls.key));
    }
    if let (Some(file), Some(Value::Table(app_store))) =
        (&options.xcode_certificate, config.get_mut("app_store"))
    {
        let certificate = Value::from(file.to_string_lossy().into_owned());
        let xcode = table([("certificate", certificate), ("documents", path("xcode"))]);
        app_store.insert("xcode".to_owned(), xcode);
    }
    let mut text = "# Written by the stack: simulated stores, development only.\n".to_owned();
    write!(text, "{}", toml::to_string(&config)?)?;
    Ok(text)
}

/// Our own tokens, signed with a key that is made once.
fn tokens_table(options: &StackOptions) -> anyhow::Result<Value> {
    let file = options.dir.join("tokens.pem");
    if !file.exists() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        write_private(&file, &key.serialize_pem())?;
    }
    let file = Value::from(file.to_string_lossy().into_owned());
    let mut tokens = Table::from_iter([
        ("issuer".to_owned(), Value::from("https://entitled.invalid")),
        ("key_files".to_owned(), Value::Array(vec![file])),
        ("anonymous_accounts".to_owned(), Value::from("open")),
        (
            "namespaces".to_owned(),
            Value::Array(vec![Value::from("backend")]),
        ),
    ]);
    // A simulated crowd comes from one address; a network's strangers have the usual limits.
    if !options.lan {
        for limit in ["anonymous_per_address_per_minute", "anonymous_per_minute"] {
            tokens.insert(limit.to_owned(), Value::from(1_000_000));
        }
    }
    Ok(Value::Table(tokens))
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(
        entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<Table>(),
    )
}

/// The stack's encryption key, made once.
fn keep_key(dir: &Path) -> anyhow::Result<()> {
    let file = dir.join("encryption.key");
    if file.exists() {
        return Ok(());
    }
    let (_, text) = new_key_file()?;
    write_private(&file, &text)
}

/// A secret of this stack alone, made once.
fn kept_secret(dir: &Path) -> anyhow::Result<String> {
    let file = dir.join("token-secret");
    if let Ok(secret) = std::fs::read_to_string(&file) {
        return Ok(secret);
    }
    let secret =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 48]>());
    write_private(&file, &secret)?;
    Ok(secret)
}

pub(super) fn make_dir(dir: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("{} cannot be made", dir.display()))
}

pub(super) fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
