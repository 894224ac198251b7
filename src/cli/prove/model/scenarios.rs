//! The shipped scenarios, each purchase's signals in many orders: every signal keeps the answer that
//! its store gave when it was sent, and the books must end as they end when all come in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::TimeDelta;
use uuid::Uuid;

use super::books::{Books, Recorded};
use super::oracle;
use super::orders::{SIGNALS_MAX, Told, arrive, next_order};
use super::run::cores;
use super::stage::stores;
use crate::cli::sandbox::run::catalog;
use crate::clock::VirtualClock;
use crate::domain::entitlement::Snapshot;
use crate::domain::ids::{AccountId, CatalogVersion};
use crate::domain::provider::{self, Provider};
use crate::domain::time::Instant;
use crate::flows::apply_catalog;
use crate::providers::contract::Reading;
use crate::sandbox::scenario::{Access, At, Player, Scenario, Status, Step, Told as Seen, compare};
use crate::sandbox::{Options, Sandbox, Source, Store};

macro_rules! shipped {
    ($($name:literal,)+) => {
        /// The scenarios' directory, but for what others than the stores tell and for accounts that a
        /// server makes.
        pub(super) const SHIPPED: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../../scenarios/", $name, ".toml"))),)+
        ];
    };
}

shipped! {
    "add-ons",
    "cash-payment",
    "charge-back",
    "consumable-coins",
    "deferred-plan-change",
    "extended-for-an-outage",
    "family-member-removed",
    "family-member-restores",
    "grace-and-recovery",
    "happy-year",
    "hold-and-pause",
    "installments",
    "lost-messages",
    "non-renewing-season",
    "offers-and-win-back",
    "one-account-two-stores",
    "out-of-app-resubscribe",
    "plan-changes",
    "prepaid-top-up",
    "price-increase-refused",
    "product-withdrawn",
    "refund-reversed",
    "sandbox-without-identity",
    "second-device",
    "shared-device-restore",
    "shared-phone",
    "store-outage",
    "storm",
    "testers",
    "trial-converts",
    "trial-does-not-convert",
    "upgrade-then-refund",
    "year-paid-monthly",
}

/// Orders of one purchase at most in a quick run, spread over all.
pub(super) const QUICK_ORDERS_MAX: usize = 24;
/// Between two steps of a scenario.
const STEP_TAKES: TimeDelta = TimeDelta::seconds(1);
/// The reason for which a claim is refused that was opened; for others it never is.
const ANOTHERS: &str = "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT";

/// Plays every scenario; at most so many orders of each purchase, spread over all that there are.
pub(super) fn all(orders_max: usize) -> anyhow::Result<Told> {
    let told = Mutex::new(Told::default());
    let next = AtomicUsize::new(0);
    let trouble = Mutex::new(None);
    let worker = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        while let Some((name, text)) = SHIPPED.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut one = Told {
                scenarios: 1,
                ..Told::default()
            };
            if let Err(what) = runtime.block_on(play(name, text, orders_max, &mut one)) {
                one.failures.push(format!("scenarios/{name}.toml: {what}"));
            }
            told.lock().unwrap_or_else(PoisonError::into_inner).add(one);
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..cores() {
            scope.spawn(|| {
                if let Err(error) = worker() {
                    let mut first = trouble.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(error);
                }
            });
        }
    });
    match trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(told.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// A signal with what its store said then.
struct Signal {
    name: String,
    recorded: Recorded,
}

/// A scenario as it is told once, with a server that does what it owes.
struct Telling<'a> {
    scenario: &'a Scenario,
    sandbox: Sandbox,
    books: Books,
    accounts: BTreeMap<&'a str, AccountId>,
    signals: Vec<Signal>,
    heard: usize,
}

async fn play(name: &str, text: &str, orders_max: usize, told: &mut Told) -> Result<(), String> {
    let scenario = Scenario::parse(name, text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let mut telling = Telling::new(&scenario).await?;
    let mut player = Player::new(&scenario, telling.sandbox.clone()).map_err(words)?;
    for (account, id) in &telling.accounts {
        player.set_store_token(account, &token(*id).to_string());
    }
    for placed in &scenario.steps {
        let done = telling.step(&mut player, &placed.step).await;
        done.map_err(|what| format!("line {}: {what}", placed.line))?;
        // Nothing happens in no time: a store's answers are ordered by when they were given.
        let soon = telling.sandbox.now() + STEP_TAKES;
        telling.pass(soon).await?;
    }
    let now = telling.sandbox.now();
    let all: Vec<usize> = (0..telling.signals.len()).collect();
    telling.feed(&all, now).await?;
    telling.compare(&player, now)?;
    for purchase in telling.purchases() {
        told.purchases += 1;
        telling.feed(&purchase, now).await?;
        let right = telling.books_now(now);
        let all = telling.orders(&purchase);
        let step = all.len().div_ceil(orders_max).max(1);
        told.whole += u64::from(step == 1 && purchase.len() <= SIGNALS_MAX);
        // The last ones are the strangest.
        for order in all.into_iter().rev().step_by(step) {
            told.orders += 1;
            told.signals += order.len() as u64;
            let fed = telling.feed(&order, now).await;
            let end = telling.books_now(now);
            if fed.is_err() || end != right {
                let names: Vec<&str> = order
                    .iter()
                    .map(|at| telling.signals[*at].name.as_str())
                    .collect();
                let why = fed.err().unwrap_or_default();
                return Err(format!(
                    "in the order {names:?}: {why}\nit ends with {end:#?}\nand not with {right:#?}"
                ));
            }
        }
    }
    Ok(())
}

/// What is compared: what each account is told, what it was credited, and whose each purchase is.
type End = (
    BTreeMap<AccountId, (Snapshot, i64)>,
    BTreeSet<(String, Option<AccountId>)>,
);

fn token(account: AccountId) -> Uuid {
    Uuid::from_u128(0xACC0_0000_0000_4000_8000_0000_0000_0000 | account.0.as_u128())
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl<'a> Telling<'a> {
    async fn new(scenario: &'a Scenario) -> Result<Self, String> {
        let clock = VirtualClock::stopped(scenario.start);
        let options = Options {
            seed: scenario.seed,
            ..Options::new(scenario.store_setup(), clock)
        };
        let sandbox = Sandbox::in_process(options).await.map_err(words)?;
        let numbers = 1_u128..;
        let accounts: BTreeMap<&str, AccountId> = scenario
            .accounts
            .iter()
            .zip(numbers)
            .map(|(name, number)| (name.as_str(), AccountId(Uuid::from_u128(number))))
            .collect();
        let catalog = catalog::of(scenario).map_err(words)?;
        let catalog = apply_catalog::parse(&catalog, CatalogVersion(1)).map_err(words)?;
        let providers = stores(&sandbox, &BTreeMap::new()).map_err(words)?;
        let tokens = accounts.values().map(|id| (token(*id).to_string(), *id));
        let books = Books::new(providers, catalog, tokens);
        Ok(Self {
            scenario,
            sandbox,
            books,
            accounts,
            signals: Vec::new(),
            heard: 0,
        })
    }

    async fn step(&mut self, player: &mut Player<'_>, step: &Step) -> Result<(), String> {
        // What the line does to signals is what the orders are for.
        let of_the_line = matches!(
            step,
            Step::Hold(_)
                | Step::Deliver(_)
                | Step::Drop(_)
                | Step::OutageFromNowOn(_)
                | Step::SinsFromNowOn(_)
        );
        let asks = matches!(
            step,
            Step::Expect(_) | Step::Preflight(_) | Step::Paywall(_)
        );
        if of_the_line || asks {
            return Ok(());
        }
        if let Step::Advance(step) = step {
            return self.pass(step.advance.after(self.sandbox.now())).await;
        }
        if let Step::At(step) = step {
            return self.pass(step.at.0).await;
        }
        if let Step::Bind(bind) = step {
            let (store, id, _) = player.proof(bind).map_err(words)?;
            let own = player.account_of_purchase(&bind.bind).map_err(words)?;
            let account = bind.account.clone().unwrap_or(own);
            let refused = bind.refused.as_deref();
            return self.claim(player, store, &id, &account, refused).await;
        }
        if let Step::Restore(restore) = step {
            let own = player.account_of(&restore.restore).to_owned();
            let account = restore.account.clone().unwrap_or(own);
            let refused = restore.refused.as_deref();
            for (store, id, _) in player.proofs_of(&restore.restore).map_err(words)? {
                self.claim(player, store, &id, &account, refused).await?;
            }
            return Ok(());
        }
        player.play(step).await.map_err(words)?;
        self.hear().await
    }

    /// Lets time pass, and hears what the stores say at the time when they say it.
    async fn pass(&mut self, target: Instant) -> Result<(), String> {
        loop {
            let next = self.sandbox.next_event().filter(|next| *next <= target);
            let moved = self.sandbox.advance_to(next.unwrap_or(target)).await;
            moved.map_err(words)?;
            self.hear().await?;
            if next.is_none() {
                return Ok(());
            }
        }
    }

    async fn hear(&mut self) -> Result<(), String> {
        loop {
            let told = self.sandbox.told_since(self.heard);
            if told.is_empty() {
                return Ok(());
            }
            for told in told {
                self.heard += 1;
                let provider = match told.source {
                    Source::AppStore => Provider::AppStore,
                    Source::GooglePlay => Provider::GooglePlay,
                    Source::Superwall => continue,
                };
                let reading = self.books.stores.read(
                    provider::Source::Store(provider),
                    told.body.as_bytes(),
                    &self.books.catalog,
                );
                if let Reading::Chain(signal) = reading {
                    let now = self.sandbox.now();
                    let recorded = self
                        .books
                        .record(&signal.alias, signal.evidence, None, now)
                        .await?;
                    self.take(told.notification_type.clone(), recorded).await;
                }
            }
        }
    }

    /// An app hands a purchase over.
    async fn claim(
        &mut self,
        player: &mut Player<'_>,
        store: Store,
        id: &str,
        account: &str,
        refused: Option<&str>,
    ) -> Result<(), String> {
        if refused.is_some_and(|reason| reason != ANOTHERS) {
            return Ok(());
        }
        let provider = match store {
            Store::AppStore => Provider::AppStore,
            Store::GooglePlay => Provider::GooglePlay,
        };
        let alias = oracle::named(provider, id.to_owned());
        let claimant = self.accounts.get(account).copied();
        let now = self.sandbox.now();
        let recorded = self.books.record(&alias, Vec::new(), claimant, now).await?;
        if refused.is_none() {
            player.set_owner(store, id, account);
        }
        self.take(format!("bind by {account}"), recorded).await;
        self.hear().await
    }

    /// A signal reaches the server, which tells the store what it owes.
    async fn take(&mut self, name: String, recorded: Recorded) {
        let now = self.sandbox.now();
        let after = self.books.take_in(&recorded, now);
        for duty in &after.duties {
            self.books.fulfil(after.chain, duty, now).await;
        }
        self.signals.push(Signal { name, recorded });
    }

    /// The signals of each purchase: what shares a name with another is of the same.
    fn purchases(&self) -> Vec<Vec<usize>> {
        let mut all: Vec<(BTreeSet<_>, Vec<usize>)> = Vec::new();
        for (at, signal) in self.signals.iter().enumerate() {
            let (mut names, mut of) = (signal.recorded.names(), vec![at]);
            let (same, others) = std::mem::take(&mut all)
                .into_iter()
                .partition::<Vec<_>, _>(|(known, _)| !known.is_disjoint(&names));
            all = others;
            for (known, signals) in same {
                names.extend(known);
                of.extend(signals);
            }
            of.sort_unstable();
            all.push((names, of));
        }
        all.into_iter().map(|(_, of)| of).collect()
    }

    /// Up to six signals: every order, and every order with each of them twice. More: every order
    /// of each six that follow one another; all of them backwards; all of them twice.
    fn orders(&self, purchase: &[usize]) -> Vec<Vec<usize>> {
        let mut orders = Vec::new();
        if purchase.len() <= SIGNALS_MAX {
            let twice = purchase.iter().map(|at| Some(*at));
            for extra in std::iter::once(None).chain(twice) {
                let mut order: Vec<usize> = purchase.iter().copied().chain(extra).collect();
                order.sort_unstable();
                permute(&order, 0, order.len(), &mut orders);
            }
        } else {
            for start in 0..=purchase.len() - SIGNALS_MAX {
                permute(purchase, start, start + SIGNALS_MAX, &mut orders);
            }
            orders.push(purchase.iter().rev().copied().collect());
            orders.push(purchase.iter().chain(purchase).copied().collect());
        }
        orders.retain(|order| self.is_fair(order));
        orders
    }

    /// Where several accounts show one purchase, who shows it first may own it by right: their
    /// claims stay in order among themselves.
    fn is_fair(&self, order: &[usize]) -> bool {
        let mut claims: Vec<(usize, AccountId)> = Vec::new();
        for at in order {
            if let Some(account) = self.signals[*at].recorded.claim()
                && claims.iter().all(|(known, _)| known != at)
            {
                claims.push((*at, account));
            }
        }
        let accounts: BTreeSet<AccountId> = claims.iter().map(|(_, account)| *account).collect();
        accounts.len() < 2 || claims.is_sorted()
    }

    async fn feed(&mut self, order: &[usize], now: Instant) -> Result<(), String> {
        self.books.forget();
        for at in order {
            arrive(&mut self.books, &self.signals[*at].recorded, now).await?;
        }
        self.books.broken()
    }

    fn books_now(&self, now: Instant) -> End {
        let accounts = self.accounts.values().map(|account| {
            let snapshot = self.books.snapshot(*account, now);
            (*account, (snapshot, self.books.credited(*account)))
        });
        let owners = self.books.living().map(|(_, chain)| {
            let owner = chain.book.owner.map(|owner| owner.account);
            (chain.head.value.clone(), owner)
        });
        (accounts.collect(), owners.collect())
    }

    /// In order, the books end with the stores' truth.
    fn compare(&self, player: &Player<'_>, now: Instant) -> Result<(), String> {
        let truth = player.truth().map_err(words)?;
        let mut differing = Vec::new();
        for (name, account) in &self.accounts {
            let snapshot = self.books.snapshot(*account, now);
            let entitlements = snapshot.entitlements.iter().map(|one| {
                let is = match one.is_active() {
                    true => Status::On,
                    false => Status::Off,
                };
                (one.id.clone(), Access::only(is))
            });
            let chains = self.books.living();
            let entries = chains.flat_map(|(_, chain)| &chain.entries);
            let mut counted: BTreeMap<String, i64> = BTreeMap::new();
            for entry in entries.filter(|entry| entry.account == *account) {
                *counted.entry(entry.credit.clone()).or_default() += entry.amount();
            }
            let seen = Seen {
                entitlements: entitlements.collect(),
                counted: counted
                    .into_iter()
                    .map(|(credit, sum)| (credit, u64::try_from(sum).unwrap_or_default()))
                    .collect(),
            };
            let compared = compare(self.scenario, At::end(), &truth, name, &seen);
            differing.extend(compared.into_iter().filter(|one| one.verdict.is_failure()));
        }
        match differing.is_empty() {
            true => Ok(()),
            false => Err(format!("in order it ends wrongly: {differing:#?}")),
        }
    }
}

/// Every order of what is between `from` and `to`, between what is before and after.
fn permute(signals: &[usize], from: usize, to: usize, orders: &mut Vec<Vec<usize>>) {
    let mut part: Vec<usize> = signals[from..to].to_vec();
    loop {
        let order = signals[..from].iter().chain(&part).chain(&signals[to..]);
        orders.push(order.copied().collect());
        if !next_order(&mut part) {
            return;
        }
    }
}
