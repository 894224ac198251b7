//! Every order of the signals of a hand-written story, each signal with the answer that its store
//! gave when it was sent: the books must end with the newest, whatever came last.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::books::{Books, Recorded};
use super::case::{Case, Place, Weather};
use super::oracle;
use super::scenarios;
use super::stage::{OnDevice, Stage};
use super::stories::{STORIES, Story};
use crate::domain::chain::Alias;
use crate::domain::event::SignalSource;
use crate::domain::provider::{self, Provider};
use crate::domain::time::Instant;
use crate::providers::contract::Reading;
use crate::sandbox::{CallSin, Outcome, Sandbox, Source};

/// How many orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Effort {
    /// Of stories every order, with each signal twice where there are few; of scenarios some orders.
    Quick,
    /// Every order, with each signal once and with each of them twice; where there are more than
    /// six signals, every order of each six that follow one another.
    All,
}

/// Signals of a story at most: their orders are counted in thousands.
pub(super) const SIGNALS_MAX: usize = 6;
/// With more than these, a quick run doubles none.
const QUICK_DOUBLED_MAX: usize = 4;
/// A doubtful chain is asked about again so often at most.
const DOUBTS_MAX: usize = 4;
const DOUBT: TimeDelta = TimeDelta::seconds(15);
const FAILURES_MAX: usize = 5;

/// What was tried.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Told {
    pub(in crate::cli) stories: u64,
    /// Shipped scenarios, and the purchases in them.
    pub(in crate::cli) scenarios: u64,
    pub(in crate::cli) purchases: u64,
    /// Purchases of the scenarios of which every order was tried.
    pub(in crate::cli) whole: u64,
    pub(in crate::cli) orders: u64,
    pub(in crate::cli) signals: u64,
    pub(in crate::cli) failures: Vec<String>,
}

impl Told {
    pub(super) fn add(&mut self, other: Self) {
        self.stories += other.stories;
        self.scenarios += other.scenarios;
        self.purchases += other.purchases;
        self.whole += other.whole;
        self.orders += other.orders;
        self.signals += other.signals;
        self.failures.extend(other.failures);
    }
}

/// Plays every story in every order, and the shipped scenarios.
pub(in crate::cli) fn all(effort: Effort) -> anyhow::Result<Told> {
    let mut told = stories(effort)?;
    told.add(scenarios::all(match effort {
        Effort::Quick => scenarios::QUICK_ORDERS_MAX,
        Effort::All => usize::MAX,
    })?);
    Ok(told)
}

/// Plays every story in every order.
pub(super) fn stories(effort: Effort) -> anyhow::Result<Told> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let mut told = Told::default();
    for story in STORIES {
        let one = runtime.block_on(one(story, effort));
        let (orders, signals, failure) = match one {
            Ok(counts) => counts,
            Err(error) => (0, 0, Some(error)),
        };
        told.stories += 1;
        told.orders += orders;
        told.signals += signals;
        told.failures
            .extend(failure.map(|what| format!("{}: {what}", story.name)));
        if told.failures.len() >= FAILURES_MAX {
            break;
        }
    }
    Ok(told)
}

type Counts = (u64, u64, Option<String>);

/// One story in every order: how many, of how many signals, and what went wrong.
pub(super) async fn one(story: &Story, effort: Effort) -> Result<Counts, String> {
    let case = Case {
        seed: 7,
        weather: Weather::CALM,
        place: Place::Production,
        ops: Vec::new(),
    };
    let stage = Stage::new(&case, false).await;
    let mut stage = stage.map_err(|error| error.to_string())?;
    let signals = record(&mut stage, story).await?;
    if signals.is_empty() || signals.len() > SIGNALS_MAX {
        return Err(format!(
            "{} signals are not 1 to {SIGNALS_MAX}",
            signals.len()
        ));
    }
    let doubled = effort == Effort::All || signals.len() <= QUICK_DOUBLED_MAX;
    let (mut orders, mut fed) = (0, 0);
    let mut failure = None;
    let twice = (0..signals.len()).filter(|_| doubled).map(Some);
    for extra in std::iter::once(None).chain(twice) {
        let mut order: Vec<usize> = (0..signals.len()).chain(extra).collect();
        order.sort_unstable();
        loop {
            orders += 1;
            fed += order.len() as u64;
            if let Err(what) = feed(&mut stage, &signals, &order).await {
                let names: Vec<&str> = order.iter().map(|at| signals[*at].name.as_str()).collect();
                failure = Some(format!("in the order {names:?}: {what}"));
                break;
            }
            if !next_order(&mut order) {
                break;
            }
        }
        if failure.is_some() {
            break;
        }
    }
    Ok((orders, fed, failure))
}

/// The next arrangement in lexical order; equal signals are not exchanged.
pub(super) fn next_order(order: &mut [usize]) -> bool {
    let Some(at) = (1..order.len()).rev().find(|at| order[at - 1] < order[*at]) else {
        return false;
    };
    let pivot = order[at - 1];
    let Some(with) = (at..order.len()).rev().find(|with| order[*with] > pivot) else {
        return false;
    };
    order.swap(at - 1, with);
    order[at..].reverse();
    true
}

/// A signal with what its store said then.
struct Signal {
    name: String,
    recorded: Recorded,
}

async fn feed(stage: &mut Stage, signals: &[Signal], order: &[usize]) -> Result<(), String> {
    let now = stage.now();
    stage.books.forget();
    for at in order {
        arrive(&mut stage.books, &signals[*at].recorded, now).await?;
    }
    stage.books.broken()?;
    oracle::compare(stage, true).map(|_| ())
}

/// A recorded signal arrives now; a chain that it leaves in doubt is asked about again.
pub(super) async fn arrive(
    books: &mut Books,
    recorded: &Recorded,
    now: Instant,
) -> Result<(), String> {
    let mut doubtful = books.work_in(recorded, now);
    for _ in 0..DOUBTS_MAX {
        let Some(chain) = doubtful.take() else { break };
        let fetched = books.fetch(chain, SignalSource::Schedule, now);
        if let Some(fetched) = fetched.await? {
            let after = books.settle(fetched, now);
            let again = books.chains[after.chain]
                .next_check
                .is_some_and(|at| at <= now + DOUBT);
            doubtful = again.then_some(after.chain);
        }
    }
    Ok(())
}

/// Plays the story once; each notification, bind and stale look becomes a signal.
async fn record(stage: &mut Stage, story: &Story) -> Result<Vec<Signal>, String> {
    let steps: Vec<Value> = serde_json::from_str(story.steps)
        .map_err(|error| format!("the story cannot be read: {error}"))?;
    let mut signals = Vec::new();
    let mut ids = Ids::default();
    let mut heard = 0;
    for step in &steps {
        let said = step.as_object().and_then(|fields| fields.iter().next());
        let Some((verb, said)) = said else {
            return Err(format!("not a step: {step}"));
        };
        match verb.as_str() {
            "apple" | "google" => ids.act(&stage.sandbox, verb, said).await?,
            "days" => {
                let by = TimeDelta::days(said.as_i64().unwrap_or_default());
                pass(stage, by, &mut heard, &mut signals).await?;
            }
            "minutes" => {
                let by = TimeDelta::minutes(said.as_i64().unwrap_or_default());
                pass(stage, by, &mut heard, &mut signals).await?;
            }
            // The app hands over its latest purchase.
            "bind" => signals.push(bind(stage, &ids).await?),
            // A look whose answer is of a minute ago.
            "stale" => {
                let alias = ids.alias()?;
                stage.books.has_been_stale = true;
                stage.sandbox.sin_next_calls(None, CallSin::Stale, 2);
                let recorded = stage.books.record(&alias, Vec::new(), None, stage.now());
                let name = "a stale answer".to_owned();
                let recorded = recorded.await?;
                signals.push(Signal { name, recorded });
            }
            // What was told since is lost.
            "lost" => heard += stage.sandbox.told_since(heard).len(),
            other => return Err(format!("no step is called {other}")),
        }
        hear(stage, &mut heard, &mut signals).await?;
    }
    Ok(signals)
}

/// Lets time pass, and hears what the stores say at the time when they say it.
async fn pass(
    stage: &mut Stage,
    by: TimeDelta,
    heard: &mut usize,
    signals: &mut Vec<Signal>,
) -> Result<(), String> {
    let target = stage.now() + by;
    loop {
        let next = stage.sandbox.next_event().filter(|next| *next <= target);
        let moved = stage.sandbox.advance_to(next.unwrap_or(target)).await;
        moved.map_err(|error| error.to_string())?;
        hear(stage, heard, signals).await?;
        if next.is_none() {
            return Ok(());
        }
    }
}

async fn hear(
    stage: &mut Stage,
    heard: &mut usize,
    signals: &mut Vec<Signal>,
) -> Result<(), String> {
    for told in stage.sandbox.told_since(*heard) {
        *heard += 1;
        let provider = match told.source {
            Source::AppStore => Provider::AppStore,
            Source::GooglePlay => Provider::GooglePlay,
            Source::Superwall => continue,
        };
        let books = &stage.books;
        let reading = books.stores.read(
            provider::Source::Store(provider),
            told.body.as_bytes(),
            &books.catalog,
        );
        let Reading::Chain(signal) = reading else {
            continue;
        };
        let recorded = books.record(&signal.alias, signal.evidence, None, stage.now());
        signals.push(Signal {
            name: told.notification_type.clone(),
            recorded: recorded.await?,
        });
    }
    Ok(())
}

async fn bind(stage: &mut Stage, ids: &Ids) -> Result<Signal, String> {
    let account = stage.people[0].account;
    let alias = ids.alias()?;
    let recorded = stage
        .books
        .record(&alias, Vec::new(), Some(account), stage.now());
    let recorded = recorded.await?;
    // Otherwise the story ends with Google's refund after three days.
    stage.books.acknowledge(&recorded).await?;
    Ok(Signal {
        name: "bind".to_owned(),
        recorded,
    })
}

/// Ids of what was bought, for the steps after it: `$purchase` (the latest), `$first` (the first
/// purchase), `$transaction` (the first transaction or order).
#[derive(Default)]
pub(super) struct Ids {
    pub(super) purchases: Vec<OnDevice>,
    transactions: Vec<String>,
    originals: Vec<String>,
}

impl Ids {
    /// An action at a store, in the simulator's own words.
    pub(super) async fn act(
        &mut self,
        sandbox: &Sandbox,
        store: &str,
        said: &Value,
    ) -> Result<(), String> {
        let said = self.resolved(said);
        let done = match store {
            "apple" => match serde_json::from_value(said.clone()) {
                Ok(action) => sandbox.app_store(action).await,
                Err(error) => return Err(format!("{said}: {error}")),
            },
            _ => match serde_json::from_value(said.clone()) {
                Ok(action) => sandbox.google_play(action).await,
                Err(error) => return Err(format!("{said}: {error}")),
            },
        };
        self.note(done.map_err(|error| format!("{said}: {error}"))?);
        Ok(())
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::AppStore(bought) => {
                self.purchases
                    .push(OnDevice::Apple(bought.transaction_id.clone()));
                self.transactions.push(bought.transaction_id);
                self.originals.push(bought.original_transaction_id);
            }
            Outcome::GooglePlay(bought) => {
                self.purchases
                    .push(OnDevice::Google(bought.purchase_token.clone()));
                self.transactions.push(bought.order_id);
                self.originals.push(bought.purchase_token);
            }
            Outcome::RefundReview { .. }
            | Outcome::Extended { .. }
            | Outcome::ExternalPurchase { .. }
            | Outcome::Done {} => {}
        }
    }

    fn alias(&self) -> Result<Alias, String> {
        let provider = match self.purchases.last() {
            Some(OnDevice::Apple(_)) => Provider::AppStore,
            Some(OnDevice::Google(_)) => Provider::GooglePlay,
            None => return Err("nothing was bought yet".to_owned()),
        };
        let id = self.originals.last().cloned().unwrap_or_default();
        Ok(oracle::named(provider, id))
    }

    fn resolved(&self, step: &Value) -> Value {
        if let Some(name) = step.as_str().and_then(|text| text.strip_prefix('$')) {
            let found = match name {
                "purchase" => self.originals.last(),
                "first" => self.originals.first(),
                "transaction" => self.transactions.first(),
                _ => None,
            };
            return json!(found);
        }
        match step.as_object() {
            Some(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), self.resolved(value)))
                .collect(),
            None => step.clone(),
        }
    }
}
