//! What goes on while a catalog changes: a backend reads, new customers bind. Each call is timed
//! under the phase in which it was sent.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use entitled::cli::client::Client;
use entitled::proto::GetEntitlementsRequest;
use entitled::sandbox::{AppStoreBuy, IdentityToken};
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{CatalogArgs, token};
use crate::stats::{Samples, micros};
use crate::world::World;

/// What happens to the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Quiet,
    /// What the change does to each account is counted.
    Counting,
    /// Accounts are derived by the new version.
    Spreading,
    /// Nothing more is sent.
    Over,
}

/// The phases that are compared, as tables name them.
const COMPARED: [(Phase, &str, &str); 3] = [
    (Phase::Quiet, "without", "without a change"),
    (Phase::Counting, "counting", "while it is counted"),
    (Phase::Spreading, "spreading", "while accounts come to it"),
];

/// Calls that were answered: when sent, and microseconds.
type Timed = Arc<Mutex<Vec<(Phase, i64)>>>;

/// Reads and binds at a steady rate, until stopped.
pub(super) struct Load {
    phase: watch::Sender<Phase>,
    running: Vec<(JoinHandle<()>, Timed)>,
    failures: Arc<Mutex<Vec<String>>>,
}

/// What was timed.
pub(super) struct Loads {
    pub(super) reads: Vec<(Phase, i64)>,
    pub(super) binds: Vec<(Phase, i64)>,
    pub(super) failed: usize,
    pub(super) first_failure: Option<String>,
}

impl Load {
    pub(super) async fn start(
        world: &World,
        database: &mut PgConnection,
        channel: &Channel,
        args: &CatalogArgs,
    ) -> anyhow::Result<Self> {
        let mut load = Self {
            phase: watch::Sender::new(Phase::Quiet),
            running: Vec::new(),
            failures: Arc::default(),
        };
        let reads = reads(world, database, channel).await?;
        load.send(args.reads, reads);
        load.send(args.binds, binds(world, channel));
        Ok(load)
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(super) async fn stop(self) -> anyhow::Result<Loads> {
        self.phase(Phase::Over);
        let mut timed = Vec::new();
        for (task, times) in self.running {
            task.await?;
            let mut times = times.lock().ok().context("nobody timed to the end")?;
            timed.push(std::mem::take(&mut *times));
        }
        let binds = timed.pop().context("binds")?;
        let failures = self
            .failures
            .lock()
            .ok()
            .context("nobody told to the end")?;
        Ok(Loads {
            reads: timed.pop().context("reads")?,
            binds,
            failed: failures.len(),
            first_failure: failures.first().cloned(),
        })
    }

    /// Sends a call so many times a second, whether or not the last was answered.
    fn send(
        &mut self,
        per_second: u32,
        mut next: impl FnMut() -> BoxFuture<'static, anyhow::Result<Duration>> + Send + 'static,
    ) {
        let times = Timed::default();
        let (phase, kept) = (self.phase.subscribe(), Arc::clone(&times));
        let failures = Arc::clone(&self.failures);
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
            loop {
                pace.tick().await;
                let sent_in = *phase.borrow();
                if sent_in == Phase::Over || per_second == 0 {
                    return;
                }
                let (call, kept, failures) = (next(), Arc::clone(&kept), Arc::clone(&failures));
                tokio::spawn(async move {
                    match call.await {
                        Ok(took) => {
                            if let Ok(mut kept) = kept.lock() {
                                kept.push((sent_in, micros(took)));
                            }
                        }
                        Err(error) => {
                            if let Ok(mut failures) = failures.lock() {
                                failures.push(format!("{error:#}"));
                            }
                        }
                    }
                });
            }
        });
        self.running.push((task, times));
    }
}

/// A backend reads accounts drawn from all of them: most are not in any cache.
async fn reads(
    world: &World,
    database: &mut PgConnection,
    channel: &Channel,
) -> anyhow::Result<impl FnMut() -> BoxFuture<'static, anyhow::Result<Duration>> + Send + 'static> {
    let accounts: Vec<Uuid> =
        sqlx::query_scalar("select account_id from entitlement_snapshots order by random()")
            .fetch_all(database)
            .await?;
    let backend = token(world, "backend", "entitled.service")?;
    let client = Client::over(channel.clone(), &backend)?;
    let mut accounts = accounts.into_iter().cycle();
    Ok(move || -> BoxFuture<'static, anyhow::Result<Duration>> {
        let (mut client, account) = (client.clone(), accounts.next());
        Box::pin(async move {
            let request = GetEntitlementsRequest {
                account: account.context("an account")?.to_string(),
                ..Default::default()
            };
            let sent = Instant::now();
            client.inner.get_entitlements(request).await?;
            Ok(sent.elapsed())
        })
    })
}

/// New customers bind what they have just bought; only the bind is timed.
fn binds(
    world: &World,
    channel: &Channel,
) -> impl FnMut() -> BoxFuture<'static, anyhow::Result<Duration>> + Send + 'static {
    let (stores, channel) = (world.stack.sandbox.clone(), channel.clone());
    let mut number = 0_u64;
    move || {
        number += 1;
        let (stores, channel) = (stores.clone(), channel.clone());
        let customer = format!("buyer-{number}");
        Box::pin(async move {
            let token = stores.identity_token(&IdentityToken::of(&customer))?;
            let buy = AppStoreBuy {
                customer,
                product_id: "com.example.premium.yearly".into(),
                ..AppStoreBuy::default()
            };
            let bought = stores.buy_app_store(&buy).await?;
            let mut client = Client::over(channel, &token)?;
            let sent = Instant::now();
            client.bind_app_store(&bought.signed_transaction).await?;
            Ok(sent.elapsed())
        })
    }
}

/// Prints the phases beside each other.
pub(super) fn compared(what: &str, times: &[(Phase, i64)]) -> Value {
    let samples = COMPARED.map(|(phase, _, _)| {
        let of = times.iter().filter(|(sent_in, _)| *sent_in == phase);
        Samples::new(of.map(|(_, took)| *took))
    });
    let mut table = Table::new();
    let mut header = vec![format!("{what}, ms")];
    for ((_, _, words), samples) in COMPARED.iter().zip(&samples) {
        header.push(format!("{words} ({})", samples.len()));
    }
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
        let cells = samples
            .iter()
            .map(|of| format!("{:.1}", of.percentile_ms(share)));
        table.add_row([name.to_owned()].into_iter().chain(cells));
    }
    println!("{table}");
    let figures = COMPARED.iter().zip(&samples);
    let figures: Map<String, Value> = figures
        .map(|((_, key, _), samples)| ((*key).to_owned(), samples.json()))
        .collect();
    figures.into()
}
