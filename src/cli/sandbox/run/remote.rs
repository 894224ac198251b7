//! A server that runs already: somewhere, configured from the manifest of a simulator's directory.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::play::{Play, Played};
use super::server::Server;
use crate::cli::sandbox::files;
use crate::clock::VirtualClock;
use crate::sandbox::scenario::{Placed, Scenario};
use crate::sandbox::{Options, Sandbox, Webhooks};

#[derive(Args)]
pub(super) struct RemoteArgs {
    /// A running server's gRPC API, instead of one started for each scenario
    #[arg(long, value_name = "URL", requires = "dir")]
    server: Option<String>,
    /// The simulator's directory that this server is configured from; what was bought in it before
    /// is forgotten
    #[arg(long, requires = "server")]
    dir: Option<PathBuf>,
    /// The simulator's port that this server is configured with
    #[arg(long, default_value_t = 8090, requires = "server")]
    port: u16,
    /// Where this server takes App Store Server Notifications
    #[arg(long, value_name = "URL", requires = "server")]
    app_store_webhook: Option<String>,
    /// Where this server takes Google's pushes
    #[arg(long, value_name = "URL", requires = "server")]
    google_play_webhook: Option<String>,
    /// Where this server takes Superwall's webhooks
    #[arg(long, value_name = "URL", requires = "server")]
    superwall_webhook: Option<String>,
    /// Where this server answers 200 once it has nothing left to do
    #[arg(long, value_name = "URL", requires = "server")]
    idle_url: Option<String>,
    /// Without it: milliseconds that this server is given after each event to come to rest
    #[arg(long, default_value_t = 200, requires = "server")]
    rest: u64,
    /// Seconds that this server may take to be as expected
    #[arg(long, default_value_t = 10, requires = "server")]
    patience: u64,
}

impl RemoteArgs {
    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Plays a scenario against the named server.
    pub(super) async fn play(
        &self,
        scenario: &Scenario,
        narrate: &(dyn Fn(&Placed, &Sandbox) + Sync),
    ) -> anyhow::Result<Played> {
        let sandbox = self.open_stores(scenario).await?;
        let played = self.play_at(&sandbox, scenario, narrate).await;
        sandbox.shutdown().await;
        played
    }

    async fn open_stores(&self, scenario: &Scenario) -> anyhow::Result<Sandbox> {
        let dir = self.dir.clone().context("give --dir")?;
        let dir = std::path::absolute(dir)?;
        let options = Options {
            seed: scenario.seed,
            dir: Some(dir.clone()),
            // The keys stay, for the server knows them; what was bought in other runs does not.
            fresh: true,
            port: self.port,
            ..Options::new(
                scenario.store_setup(),
                VirtualClock::stopped(scenario.start),
            )
        };
        let sandbox = Sandbox::start(options)
            .await
            .with_context(|| format!("the stores cannot open on port {}", self.port))?;
        files::write(&dir, &sandbox.manifest())?;
        sandbox.set_webhooks(scenario.webhooks(Webhooks {
            app_store: self.app_store_webhook.clone(),
            google_play: self.google_play_webhook.clone(),
            superwall: self.superwall_webhook.clone(),
        }))?;
        sandbox.set_idle_url(self.idle_url.clone());
        if self.idle_url.is_none() {
            let rest = Duration::from_millis(self.rest);
            sandbox.set_idle_hook(move || Box::pin(tokio::time::sleep(rest)));
        }
        Ok(sandbox)
    }

    async fn play_at(
        &self,
        sandbox: &Sandbox,
        scenario: &Scenario,
        narrate: &(dyn Fn(&Placed, &Sandbox) + Sync),
    ) -> anyhow::Result<Played> {
        let address = self.server().context("give --server")?;
        // Accounts of earlier runs own what they bought: each run has its own.
        let suffix = format!(".{}", uuid::Uuid::new_v4().simple());
        let server = Server::sign_in(address, sandbox, scenario, &suffix).await?;
        let play = Play {
            scenario,
            sandbox: sandbox.clone(),
            server,
            patience: Duration::from_secs(self.patience),
            narrate,
        };
        play.run().await
    }
}
