//! `dev`: the demo's stack, kept running for app developers; data survives restarts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::catalog;
use super::lan::{self, Offer};
use super::stack::{DEFAULT_DIR, EXAMPLE_CATALOG, Stack, StackOptions, make_dir};
use crate::clock::Clock;
use crate::config::Config;
use crate::storage::cluster::{Cluster, DataDir};

#[derive(Args)]
pub(crate) struct DevArgs {
    /// Where data, keys and the simulated stores are kept
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
    /// Keep nothing after the end
    #[arg(long, conflicts_with = "reset")]
    ephemeral: bool,
    /// Forget everything that was kept before starting, but not whom devices were told to trust
    #[arg(long)]
    reset: bool,
    /// First of four ports: gRPC, webhooks, admin, simulated stores; with --tls a fifth, where
    /// devices get the certificate
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1024..=65531))]
    port: u16,
    /// Let phones and emulators on this network reach the API; prints how
    #[arg(long)]
    lan: bool,
    /// Serve the API by TLS, with a certificate of this directory's own that devices can trust
    ///
    /// Then your app needs no exception for plain HTTP. The certificate is made once and again when
    /// this computer's address changes; its authority, which devices are told to trust, stays.
    #[arg(long, requires = "lan")]
    tls: bool,
    /// Another name or address of this computer for the certificate: studio.local; repeatable
    #[arg(long, value_name = "NAME", requires = "tls", value_parser = lan::sound_name)]
    tls_name: Vec<String>,
    /// Accept what StoreKit testing in Xcode signs with this certificate
    ///
    /// In Xcode open the StoreKit configuration and choose Editor → Save Public Certificate. The
    /// catalog must list your app's bundle id and the configuration's product ids: --catalog.
    #[arg(long, value_name = "FILE")]
    xcode_cert: Option<PathBuf>,
    /// Catalog to use instead of the example's; applied again whenever it is saved
    #[arg(long)]
    catalog: Option<PathBuf>,
}

/// How soon a saved catalog is noticed.
const SAVED_POLL: Duration = Duration::from_millis(300);
/// The stack's database in its private cluster.
const DATABASE: &str = "entitled";
/// What `--reset` removes besides the cluster: whom devices were told to trust stays.
const KEPT: [&str; 10] = [
    "stack.json",
    "stores",
    "entitled.toml",
    "catalog.toml",
    "token-secret",
    "tokens.pem",
    "apple-root.der",
    "apple-key.p8",
    "superwall-webhook-secret",
    "xcode",
];

/// Postgres as found: the named database, or a private cluster.
struct Database {
    url: String,
    cluster: Option<Cluster>,
}

pub(super) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let dir = std::path::absolute(&args.dir)?;
    let dir = if args.ephemeral {
        std::env::temp_dir().join(format!("entitled-dev-{}", uuid::Uuid::new_v4()))
    } else {
        dir
    };
    let catalog = match &args.catalog {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
        None => EXAMPLE_CATALOG.to_owned(),
    };
    let xcode_certificate = args.xcode_cert.as_deref().map(certificate).transpose()?;
    check_ports(args.port)?;
    if args.reset {
        reset(&dir).await?;
    }
    let address = lan::address();
    let tls = match args.tls {
        true => {
            let names = lan::names(address, &args.tls_name);
            make_dir(&dir)?;
            let kept = lan::keep(&dir, &names, Clock::System.now())?;
            let offer = Offer::open(args.port + lan::OFFER_AFTER, &kept).await?;
            Some((kept, offer))
        }
        false => None,
    };
    println!("starting Postgres, simulated stores and the server…");
    let database = open_database(&dir, args.ephemeral).await?;
    let options = StackOptions {
        catalog,
        keep: !args.ephemeral,
        port: args.port,
        superwall: true,
        lan: args.lan,
        tls: tls.as_ref().map(|(kept, _)| kept.files.clone()),
        xcode_certificate: xcode_certificate.clone(),
        ..StackOptions::new(dir.clone(), database.url.clone(), Clock::System.now())
    };
    let stack = Stack::start(options).await?;
    introduce(&stack, &dir, args.ephemeral);
    if args.lan {
        let kept = tls.as_ref().map(|(kept, _)| kept);
        println!("{}", lan::introduction(address, args.port, kept));
    }
    if let Some(file) = &xcode_certificate {
        println!(
            "\nTransactions of StoreKit testing in Xcode are accepted if {} signed them.\n\
             Bind each, renewals and refunds too: no store tells the server of them.",
            file.display()
        );
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = keep_applied(args.catalog.as_deref(), &stack) => {}
        () = offered(tls.map(|(_, offer)| offer)) => {}
    }
    println!("stopping…");
    stack.stop().await;
    if let Some(cluster) = database.cluster {
        cluster.stop().await?;
    }
    if args.ephemeral {
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

/// Hands the authority's certificate out, if there is one; never returns.
async fn offered(offer: Option<Offer>) {
    match offer {
        Some(offer) => offer.serve().await,
        None => std::future::pending().await,
    }
}

/// Applies the catalog file now and whenever it is saved; never returns.
async fn keep_applied(file: Option<&Path>, stack: &Stack) {
    let (Some(file), Ok(config)) = (file, Config::load(Some(&stack.address.config))) else {
        return std::future::pending().await;
    };
    println!("{} is applied when it is saved.", file.display());
    let (mut seen, mut before) = (None, None);
    loop {
        // An editor may be about to put another file in its place, or have written half of it: what
        // counts is what two looks find.
        let found = std::fs::read_to_string(file).ok();
        let settled = found.is_some() && found == before;
        before.clone_from(&found);
        if let Some(text) = found.filter(|text| settled && seen.as_ref() != Some(text)) {
            match catalog::apply_saved(&config, stack.clock.clone().into(), &text).await {
                Ok(Some(version)) => println!(
                    "catalog version {} is active. The simulated stores sell what they sold when \
                     they started.",
                    version.0
                ),
                Ok(None) => {}
                Err(error) => println!("the catalog stays as it was: {error:#}"),
            }
            seen = Some(text);
        }
        tokio::time::sleep(SAVED_POLL).await;
    }
}

/// A certificate that is there, under a name that holds from any folder.
fn certificate(file: &Path) -> anyhow::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    std::fs::metadata(&file).with_context(|| {
        format!(
            "{} cannot be read; in Xcode open the StoreKit configuration and choose Editor → \
             Save Public Certificate",
            file.display()
        )
    })?;
    Ok(file)
}

/// Forgets everything: the database, and of the directory only what `dev` keeps there.
async fn reset(dir: &Path) -> anyhow::Result<()> {
    if std::env::var_os("DATABASE_URL").is_none() && dir.join("postgres").exists() {
        // Starting it takes its lock: a stack that runs is not pulled from under its users.
        let cluster = Cluster::start(DataDir::Persistent(dir.to_owned())).await?;
        cluster.drop_database(DATABASE).await?;
        cluster.stop().await?;
    }
    for name in KEPT {
        let path = dir.join(name);
        let removed = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} cannot be removed", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn check_ports(first: u16) -> anyhow::Result<()> {
    for port in first..first + 4 {
        std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).with_context(
            || {
                format!(
                    "port {port} is taken; stop what uses it or give --port with four free ones"
                )
            },
        )?;
    }
    Ok(())
}

async fn open_database(dir: &Path, ephemeral: bool) -> anyhow::Result<Database> {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return Ok(Database { url, cluster: None });
    }
    let data = if ephemeral {
        DataDir::Ephemeral
    } else {
        DataDir::Persistent(dir.to_owned())
    };
    let cluster = Cluster::start(data).await?;
    if !cluster.has_database(DATABASE).await? {
        cluster.create_database(DATABASE, None).await?;
    }
    Ok(Database {
        url: cluster.url(DATABASE),
        cluster: Some(cluster),
    })
}

fn introduce(stack: &Stack, dir: &Path, ephemeral: bool) {
    let found_without_a_word =
        !ephemeral && std::path::absolute(DEFAULT_DIR).is_ok_and(|default| default == dir);
    let place = if found_without_a_word {
        String::new()
    } else {
        format!(" --dir {}", dir.display())
    };
    let server = &stack.address.server;
    let stores = &stack.address.control;
    println!(
        "\nentitled is running.\n\
         \n  gRPC      {server}   (reflection on; gRPC-Web on the same port)\
         \n  webhooks  {}\
         \n  admin     {}/metrics\
         \n  stores    {stores}\
         \n  config    {}\
         \n\nIn another terminal:\n\
         \n  cargo run -- watch alice{place}\
         \n  cargo run -- buy alice pro_yearly{place}\
         \n  cargo run -- advance 1mo{place}\
         \n  cargo run -- refund alice{place}\
         \n  cargo run -- get alice{place}\
         \n  cargo run -- token alice{place}\
         \n\nCtrl-C stops it.",
        stack.app.webhooks_url().unwrap_or_default(),
        stack.app.admin_url(),
        stack.address.config.display(),
    );
}
