//! Customers who buy, bind and are refunded, and stores that tell of it until they are heard.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::history::{History, Line};
use super::victim::Doors;
use crate::cli::client::Client;
use crate::cli::token;
use crate::proto::EntitlementSnapshot;
use crate::sandbox::{AppStoreBuy, AttemptResult, GooglePlayBuy, Sandbox, Source};

const RETRY_PAUSE: Duration = Duration::from_millis(40);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A call that hangs is given up and repeated, as an app would.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Somebody who is not served within this long never is: the run fails.
const PATIENCE: Duration = Duration::from_secs(180);
const SENDERS: usize = 8;
/// One in so many acknowledged notifications is sent once more, as stores do.
const REPEATS_ONE_IN: u32 = 6;
const PACKAGE: &str = "com.example.app";
/// What is counted shows best whether anything happened twice.
const APPLE_PRODUCTS: [&str; 5] = [
    "com.example.premium.monthly",
    "com.example.premium.yearly",
    "com.example.export",
    "com.example.coins.100",
    "com.example.coins.100",
];
/// Product and base plan.
const GOOGLE_PRODUCTS: [(&str, Option<&str>); 4] = [
    ("premium", Some("premium-monthly")),
    ("premium", Some("premium-yearly")),
    ("coins_100", None),
    ("coins_100", None),
];

/// When the last request was begun that was answered well.
#[derive(Clone, Debug)]
pub(super) struct Pulse(watch::Sender<Option<Instant>>);

impl Pulse {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    fn beat(&self, begun: Instant) {
        self.0.send_modify(|last| *last = (*last).max(Some(begun)));
    }

    /// Waits for a request that was begun after `moment` and answered well.
    pub(super) async fn after(&self, moment: Instant) -> anyhow::Result<()> {
        let mut beats = self.0.subscribe();
        let beat = beats.wait_for(|last| last.is_some_and(|last| last > moment));
        tokio::time::timeout(PATIENCE, beat)
            .await
            .context("the system did not come back")??;
        Ok(())
    }
}

/// What the load has done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) purchases: AtomicU64,
    pub(super) webhooks: AtomicU64,
    pub(super) webhook_attempts: AtomicU64,
    pub(super) binds: AtomicU64,
    pub(super) bind_attempts: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What an app asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Get,
    BindApple(String),
    BindGoogle(String),
}

impl Call {
    /// `None` if there is no connection.
    async fn make(
        &self,
        server: &str,
        credential: &str,
    ) -> Option<Result<Option<EntitlementSnapshot>, Status>> {
        let mut client = Client::connect(server, credential).await.ok()?;
        let bound = match self {
            Self::Get => return Some(client.get().await.map(|answer| answer.snapshot)),
            Self::BindApple(signed) => client.bind_app_store(signed).await,
            Self::BindGoogle(token) => client.bind_google_play(PACKAGE, token).await,
        };
        Some(bound.map(|answer| answer.snapshot))
    }
}

/// Everything that a customer or a sender needs.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) sandbox: Sandbox,
    pub(super) doors: watch::Receiver<Doors>,
    pub(super) secret: String,
    pub(super) history: History,
    pub(super) pulse: Pulse,
    pub(super) tally: Arc<Tally>,
    pub(super) customers: Arc<Mutex<Vec<String>>>,
    pub(super) seed: u64,
}

/// Somebody who was served.
#[derive(Clone, Debug)]
struct Account {
    id: String,
    store_token: String,
}

impl Load {
    /// Waits until `more` notifications have been acknowledged since `before`: whoever is killed
    /// has work under way.
    pub(super) async fn worked(&self, before: u64, more: u64) -> anyhow::Result<()> {
        let done = async {
            while self.tally.webhooks.load(Ordering::Relaxed) < before + more {
                sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, done)
            .await
            .context("the system came back and does not work")
    }

    /// Customers come one after another in `lanes` rows until told to stop; each is served to the
    /// end.
    pub(super) async fn shop(self, lanes: u64, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut rows = JoinSet::new();
        for lane in 0..lanes {
            let (load, stop) = (self.clone(), stop.clone());
            rows.spawn(async move {
                let mut number = 0;
                while !*stop.borrow() {
                    load.customer(&format!("customer-{lane}-{number}"), lane << 32 | number)
                        .await?;
                    number += 1;
                }
                anyhow::Ok(())
            });
        }
        while let Some(row) = rows.join_next().await {
            row??;
        }
        Ok(())
    }

    /// One customer's life: buys, perhaps unseen by the app; binds, unless the purchase names the
    /// account and the app died; is refunded or turns renewal off.
    async fn customer(&self, name: &str, number: u64) -> anyhow::Result<()> {
        let mut dice =
            StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        self.customers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(name.to_owned());
        let account = self.account(name).await?;
        let hinted = dice.random_bool(0.6);
        let hint = hinted.then_some(account.store_token.as_str());
        let binds = !hinted || dice.random_bool(0.5);
        add(&self.tally.purchases);
        if dice.random_bool(0.5) {
            let buy = AppStoreBuy {
                customer: name.into(),
                product_id: APPLE_PRODUCTS[dice.random_range(0..APPLE_PRODUCTS.len())].into(),
                app_account_token: hint.map(str::parse).transpose()?,
                ..AppStoreBuy::default()
            };
            let bought = self.sandbox.buy_app_store(&buy).await?;
            let id = &bought.original_transaction_id;
            if binds {
                let proof = Call::BindApple(bought.signed_transaction.clone());
                self.bound(name, &account, id, &proof).await?;
            }
            match dice.random_range(0..4) {
                0 => {
                    self.sandbox
                        .refund_app_store(&bought.transaction_id)
                        .await?
                }
                1 if buy.product_id.contains("premium") => {
                    self.sandbox.set_auto_renew(id, false).await?;
                }
                _ => {}
            }
        } else {
            let (product, plan) = GOOGLE_PRODUCTS[dice.random_range(0..GOOGLE_PRODUCTS.len())];
            let buy = GooglePlayBuy {
                customer: name.into(),
                product_id: product.into(),
                base_plan_id: plan.map(str::to_owned),
                obfuscated_account_id: hint.map(str::to_owned),
                ..Default::default()
            };
            let token = self.sandbox.buy_google_play(&buy).await?.purchase_token;
            if binds {
                let proof = Call::BindGoogle(token.clone());
                self.bound(name, &account, &token, &proof).await?;
            }
            match dice.random_range(0..4) {
                0 => self.sandbox.refund_google_play(&token).await?,
                1 if plan.is_some() => self.sandbox.cancel_google_play(&token).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn account(&self, name: &str) -> anyhow::Result<Account> {
        let snapshot = self.until_served(name, &Call::Get).await?;
        let account = snapshot.account.context("a snapshot names its account")?;
        Ok(Account {
            id: account.id,
            store_token: account.store_token,
        })
    }

    async fn bound(
        &self,
        name: &str,
        account: &Account,
        purchase: &str,
        proof: &Call,
    ) -> anyhow::Result<()> {
        let snapshot = self.until_served(name, proof).await?;
        let line = Line::Bound {
            account: account.id.clone(),
            purchase: purchase.to_owned(),
            epoch: snapshot.epoch,
            revision: snapshot.revision,
        };
        self.history.append(line).await?;
        add(&self.tally.binds);
        Ok(())
    }

    /// Repeats a call until it is answered well; a refusal is an error of the system's.
    async fn until_served(&self, name: &str, call: &Call) -> anyhow::Result<EntitlementSnapshot> {
        let credential = token::mint(&self.secret, name, token::DAY)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let begun = Instant::now();
            let server = self.doors.borrow().grpc.clone();
            if call != &Call::Get {
                add(&self.tally.bind_attempts);
            }
            let served = tokio::time::timeout(CALL_TIMEOUT, call.make(&server, &credential));
            match served.await {
                Ok(Some(Ok(answer))) => {
                    self.pulse.beat(begun);
                    return answer.context("every answer has a snapshot");
                }
                Ok(Some(Err(status))) if !may_be_repeated(&status) => {
                    bail!(
                        "{name} was refused: {:?} {}",
                        status.code(),
                        status.message()
                    );
                }
                Ok(Some(Err(_)) | None) | Err(_) => sleep(RETRY_PAUSE).await,
            }
            if Instant::now() > deadline {
                bail!("{name} was not served in {} s", PATIENCE.as_secs());
            }
        }
    }

    /// Sends what the stores have kept back until each notification is acknowledged; ends once
    /// told to stop and nothing is left.
    pub(super) async fn tell(self, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut told: HashSet<String> = HashSet::new();
        let mut senders = JoinSet::new();
        loop {
            let stopped = *stop.borrow();
            let held = self.sandbox.held_notifications();
            let fresh: Vec<String> = held.into_iter().filter(|id| !told.contains(id)).collect();
            if fresh.is_empty() {
                if stopped {
                    break;
                }
                sleep(LOOK_AGAIN).await;
                continue;
            }
            for id in fresh {
                while senders.len() >= SENDERS
                    && let Some(sent) = senders.join_next().await
                {
                    sent??;
                }
                told.insert(id.clone());
                let load = self.clone();
                let number = told.len() as u64;
                senders.spawn(async move { load.notification(&id, number).await });
            }
        }
        while let Some(sent) = senders.join_next().await {
            sent??;
        }
        Ok(())
    }

    async fn notification(&self, id: &str, number: u64) -> anyhow::Result<()> {
        let mut dice = StdRng::seed_from_u64(self.seed ^ number);
        // Out of order, and not all at once.
        sleep(Duration::from_millis(dice.random_range(0..60))).await;
        let times = if dice.random_ratio(1, REPEATS_ONE_IN) {
            2
        } else {
            1
        };
        for _ in 0..times {
            self.until_acknowledged(id).await?;
        }
        Ok(())
    }

    async fn until_acknowledged(&self, id: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let begun = Instant::now();
            add(&self.tally.webhook_attempts);
            let record = self.sandbox.deliver(id).await?;
            let last = record.attempts.last().map(|attempt| attempt.result);
            if last == Some(AttemptResult::Success) {
                let source = match record.source {
                    Source::AppStore => "app_store",
                    Source::GooglePlay => "google_play",
                    Source::Superwall => "superwall",
                };
                let line = Line::Webhook {
                    source: source.to_owned(),
                    id: id.to_owned(),
                };
                self.history.append(line).await?;
                add(&self.tally.webhooks);
                self.pulse.beat(begun);
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "a notification was not taken in {} s: {last:?}",
                    PATIENCE.as_secs()
                );
            }
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Whether an app would try again: the server was away, not of another opinion.
fn may_be_repeated(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::Internal
    )
}
