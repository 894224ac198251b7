//! Households that buy, fail to pay, change plans, share, cancel, come back and are refunded, week
//! by week, while their apps show purchases and ask, and notifications come as they please.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::TimeDelta;
use futures::{StreamExt as _, TryStreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use uuid::Uuid;

use super::super::Voice;
use super::super::model::{Deed, Household, OnDevice, PACKAGE, PEOPLE};
use super::{Line, Load, Seen, reason};
use crate::cli::stack::Stack;
use crate::domain::ids::AccountId;
use crate::proto::watch_entitlements_response::Event;
use crate::sandbox::{CallSins, DeliverySins, Pace, Sandbox, Sins, Store};

/// Callers at the same time.
pub(super) const AT_ONCE: usize = 16;
const WEEKS_PER_MONTH: u32 = 4;
/// Some of a case's operations are not a household's own.
const OPS_PER_ACT: usize = 3;
/// Notifications that are lost, of a hundred.
const LOST: f64 = 0.30;
const LATE_SECONDS_MAX: u32 = 30 * 86_400;
/// Every owned purchase that grants anything is looked at once within this.
const LOOKED_AT_WITHIN: TimeDelta = TimeDelta::hours(26);
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Somebody who is asked to come back later does so, this often.
const TRIES_MAX: u32 = 100;
const TRY_PAUSE: Duration = Duration::from_millis(100);

/// Everybody.
pub(super) struct Crowd {
    pub(super) line: Line,
    pub(super) load: Load,
    pub(super) households: Vec<Household>,
}

/// What an app got.
enum Got {
    Bound(Result<(), Status>),
    Refreshed,
}

impl Crowd {
    /// Everybody has an account, and knows what to pass to the stores for it.
    pub(super) async fn moves_in(stack: &Stack, load: Load) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(stack.address.server.clone())?
            .connect()
            .await?;
        let line = Line {
            channel,
            secret: stack.address.secret.clone(),
        };
        let weeks = usize::try_from(load.months * WEEKS_PER_MONTH)?;
        let ops = weeks * load.acts * OPS_PER_ACT;
        let count = load.customers.div_ceil(PEOPLE) as u64;
        let mut households: Vec<Household> = (0..count)
            .map(|number| Household::of(load.seed.wrapping_mul(1_000_003) + number, ops))
            .collect();
        let people = households.iter_mut().flat_map(|home| &mut home.people);
        let arrive = futures::stream::iter(people).map(|person| async {
            let account = account(&line, &person.name).await?;
            (person.account, person.token) = account;
            anyhow::Ok(())
        });
        arrive
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .context("the people arrive")?;
        Ok(Self {
            line,
            load,
            households,
        })
    }

    /// Months go by.
    pub(super) async fn live(
        &mut self,
        stack: &Stack,
        voice: Voice,
        seen: &mut Seen,
    ) -> anyhow::Result<()> {
        let sandbox = &stack.sandbox;
        sandbox.set_pace(Pace::Window {
            seconds: 6 * 3_600,
            parallel: AT_ONCE,
        });
        sandbox.set_sins(Sins {
            deliveries: DeliverySins {
                duplicate: 0.5,
                reorder: 0.2,
                delay: 0.3,
                delay_seconds_max: LATE_SECONDS_MAX,
                drop: LOST,
                ..DeliverySins::default()
            },
            calls: CallSins {
                unavailable: 0.01,
                stale: 0.02,
                ..CallSins::default()
            },
            ..sandbox.sins()
        })?;
        let mut dice = StdRng::seed_from_u64(self.load.seed);
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        for week in 0..self.load.months * WEEKS_PER_MONTH {
            let mut apps = JoinSet::new();
            for home in &mut self.households {
                for _ in 0..self.load.acts {
                    let deed = home.act(sandbox).await;
                    let deed = deed.with_context(|| format!("household {} acts", home.seed))?;
                    let (by, thing) = match deed {
                        Deed::Bind(by, thing) => (by, Some(thing)),
                        Deed::Refresh(by) => (by, None),
                        Deed::Rest => continue,
                    };
                    let name = home.people[by].name.clone();
                    let (line, gate) = (self.line.clone(), Arc::clone(&gate));
                    let sandbox = sandbox.clone();
                    apps.spawn(async move {
                        let _turn = gate.acquire().await?;
                        ask(&line, &sandbox, &name, thing.as_ref()).await
                    });
                }
            }
            // The apps that still ask race with time.
            let span = TimeDelta::hours(dice.random_range(4 * 24..11 * 24));
            let (asked, advanced) = tokio::join!(gather(apps), sandbox.advance_by(span));
            advanced.context("time passes")?;
            for got in asked? {
                note(got, seen);
            }
            if week % WEEKS_PER_MONTH == WEEKS_PER_MONTH - 1 {
                let attempts = sandbox.progress().borrow().signals;
                let month = week / WEEKS_PER_MONTH + 1;
                voice.say(&format!(
                    "  month {month}: {attempts} deliveries, {} binds, {} refreshes",
                    seen.binds, seen.refreshes
                ));
            }
        }
        self.calm(stack).await
    }

    /// What is late arrives; nothing is lost any more, and the schedule gets its day.
    async fn calm(&self, stack: &Stack) -> anyhow::Result<()> {
        let sandbox = &stack.sandbox;
        sandbox.set_sins(Sins::default())?;
        let flushed = sandbox.flush_deliveries().await;
        flushed.context("what is late arrives")?;
        let passed = sandbox.advance_by(LOOKED_AT_WITHIN).await;
        passed.context("a last day passes")?;
        // From here on the stores' truth stands still.
        sandbox.set_rate(0.0);
        stack.app.idle_probe().idle(SETTLED_WITHIN).await;
        Ok(())
    }

    /// Every app is opened: what is on its device is shown, family shares too, and looked at.
    pub(super) async fn opens_apps(&self, stack: &Stack, seen: &mut Seen) -> anyhow::Result<()> {
        let people = self.households.iter().flat_map(|home| &home.people);
        let opened = futures::stream::iter(people).map(|person| async {
            let mut answers = Vec::new();
            for one in stack.sandbox.purchases(&person.name) {
                if !one.entitled {
                    continue;
                }
                let thing = match one.store {
                    Store::AppStore => OnDevice::Apple(one.latest_transaction),
                    Store::GooglePlay => OnDevice::Google(one.id),
                };
                let got = patiently(&self.line, &stack.sandbox, &person.name, Some(&thing));
                answers.push((person.name.as_str(), got.await?));
            }
            let got = patiently(&self.line, &stack.sandbox, &person.name, None);
            answers.push((person.name.as_str(), got.await?));
            anyhow::Ok(answers)
        });
        let answers: Vec<_> = opened.buffer_unordered(AT_ONCE).try_collect().await?;
        for (name, got) in answers.into_iter().flatten() {
            if let Got::Bound(Err(status)) = &got
                && reason(status) != "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT"
            {
                seen.broke("I3", format!("{name} shows what it has and hears {status}"));
            }
            note(got, seen);
        }
        stack.app.idle_probe().idle(SETTLED_WITHIN).await;
        Ok(())
    }

    /// The command that draws the same world again.
    pub(super) fn again(&self) -> String {
        format!(
            "again: entitled prove --only live --seed {} --customers {} --months {} --acts {}",
            self.load.seed, self.load.customers, self.load.months, self.load.acts
        )
    }
}

async fn account(line: &Line, name: &str) -> anyhow::Result<(AccountId, Uuid)> {
    let mut stream = line.client(name)?.watch().await?;
    while let Some(message) = stream.message().await? {
        if let Some(Event::Snapshot(snapshot)) = message.event {
            let account = snapshot.account.context("a snapshot names its account")?;
            return Ok((AccountId(account.id.parse()?), account.store_token.parse()?));
        }
    }
    anyhow::bail!("the stream of {name} ended")
}

async fn gather(mut apps: JoinSet<anyhow::Result<Got>>) -> anyhow::Result<Vec<Got>> {
    let mut all = Vec::with_capacity(apps.len());
    while let Some(got) = apps.join_next().await {
        all.push(got??);
    }
    Ok(all)
}

/// Shows what is on a device, or asks to look now.
async fn ask(
    line: &Line,
    sandbox: &Sandbox,
    name: &str,
    thing: Option<&OnDevice>,
) -> anyhow::Result<Got> {
    let mut client = line.client(name)?;
    Ok(match thing {
        Some(OnDevice::Apple(id)) => {
            let signed = sandbox.signed_transaction(id)?;
            Got::Bound(client.bind_app_store(&signed).await.map(|_| ()))
        }
        Some(OnDevice::Google(token)) => {
            Got::Bound(client.bind_google_play(PACKAGE, token).await.map(|_| ()))
        }
        None => match client.refresh().await {
            Ok(_) => Got::Refreshed,
            Err(status) => Got::Bound(Err(status)),
        },
    })
}

/// Comes back as often as it is told to.
async fn patiently(
    line: &Line,
    sandbox: &Sandbox,
    name: &str,
    thing: Option<&OnDevice>,
) -> anyhow::Result<Got> {
    let mut tries = 0;
    loop {
        let got = ask(line, sandbox, name, thing).await?;
        tries += 1;
        match &got {
            Got::Bound(Err(status)) if is_later(status) && tries < TRIES_MAX => {
                tokio::time::sleep(TRY_PAUSE).await;
            }
            Got::Bound(_) | Got::Refreshed => return Ok(got),
        }
    }
}

/// Whether the answer was to come back, not an opinion.
fn is_later(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded
    )
}

fn note(got: Got, seen: &mut Seen) {
    match got {
        Got::Bound(Ok(())) => seen.binds += 1,
        Got::Refreshed => seen.refreshes += 1,
        Got::Bound(Err(status)) => {
            let why = reason(&status);
            *seen.refused.entry(why.clone()).or_default() += 1;
            if matches!(status.code(), Code::Internal | Code::Unknown) {
                seen.broke("I3", format!("an app was answered {status}"));
            }
        }
    }
}
