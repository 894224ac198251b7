//! `start`, `serve`, `webhooks`, `worker`, `migrate`.

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use super::ConfigArgs;
use super::stack::{DEFAULT_DIR, StackAddress};
use crate::app::{App, Roles};
use crate::config::Config;
use crate::storage::Db;

pub(super) const SERVE: Roles = Roles {
    serve: true,
    webhooks: false,
    worker: false,
};
pub(super) const WEBHOOKS: Roles = Roles {
    serve: false,
    webhooks: true,
    worker: false,
};
pub(super) const WORKER: Roles = Roles {
    serve: false,
    webhooks: false,
    worker: true,
};

impl ConfigArgs {
    /// A server's configuration: the named file and the environment, never a guess.
    pub(super) fn load_named(&self) -> anyhow::Result<Config> {
        Config::load(self.config.as_deref())
            .map_err(anyhow::Error::msg)
            .context("give --config FILE")
    }

    /// The named configuration, if one is named.
    pub(super) fn load_if_named(&self) -> anyhow::Result<Option<Config>> {
        self.is_named().then(|| self.load_named()).transpose()
    }

    /// The file as it was named.
    pub(super) fn file(&self) -> Option<&std::path::Path> {
        self.config.as_deref()
    }

    pub(super) fn is_named(&self) -> bool {
        self.config.is_some()
    }

    /// A command's configuration: the named file, or else the `dev` stack's, and says so.
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        if self.config.is_some() {
            return self.load_named();
        }
        let Ok(stack) = StackAddress::read(DEFAULT_DIR.as_ref()) else {
            return self
                .load_named()
                .context("or start the development stack with `entitled dev`");
        };
        eprintln!("using the development stack's {}", stack.config.display());
        Config::load(Some(&stack.config)).map_err(anyhow::Error::msg)
    }
}

/// Runs roles until told to stop. One JSON line on standard output says where they listen.
pub(super) async fn run(args: ConfigArgs, roles: Roles) -> anyhow::Result<()> {
    let mut app = App::start(args.load_named()?, roles, None).await?;
    let addresses = serde_json::json!({
        "grpc": app.grpc_url(), "webhooks": app.webhooks_url(), "admin": app.admin_url(),
    });
    println!("{addresses}");
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = app.failed() => anyhow::bail!("a role ended by itself; see the log"),
    }
    app.stop().await;
    Ok(())
}

pub(super) async fn migrate(args: ConfigArgs) -> anyhow::Result<()> {
    let config = args.load_named()?;
    let db = Db::open(config.database.url.expose_secret(), 1)?;
    db.migrate().await?;
    println!("the database is at this version's schema");
    Ok(())
}
