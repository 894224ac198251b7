//! The stage of one case: a simulator in the process, the server's books over it, and the way
//! between them, on one virtual clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use chrono::{DateTime, TimeDelta};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::books::{After, Books, Fetched};
use super::case::{Case, Place, Weather};
use super::draw::Draw;
use super::shop;
use crate::clock::VirtualClock;
use crate::config::app_store::AppStoreConfig;
use crate::config::google_play::GooglePlayConfig;
use crate::domain::duty::NewDuty;
use crate::domain::event::SignalSource;
use crate::domain::ids::AccountId;
use crate::domain::provider::{self, Provider};
use crate::domain::time::Instant;
use crate::http::{Answer, HttpClient, HttpError, InProcess};
use crate::providers::app_store::AppStore;
use crate::providers::contract::{Delivery, Proof, Reading};
use crate::providers::google_play::GooglePlay;
use crate::providers::registry::Stores;
use crate::sandbox::{
    Environment, Line, Manifest, NotificationRecord, Options, PushToken, Sandbox, Source, Store,
};

/// Every case begins here.
const START_SECONDS: i64 = 1_767_960_000;
/// Of so many notifications the sender is authenticated once; the documents in the stores'
/// answers are verified always.
const AUTHENTICATED_EVERY: u64 = 8;
/// An answer is worked in late by at most this.
const LATE_SECONDS_MAX: u64 = 60;

/// Who has an account, and the name that the stores know it by.
#[derive(Clone, Debug)]
pub(in crate::cli::prove) struct Person {
    pub(in crate::cli::prove) account: AccountId,
    /// The name at the stores.
    pub(in crate::cli::prove) name: String,
    /// What the app passes to the stores for the account.
    pub(in crate::cli::prove) token: Uuid,
    /// What is on the person's device.
    pub(in crate::cli::prove) device: Vec<OnDevice>,
}

/// Something that an app can hand over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli::prove) enum OnDevice {
    /// A transaction id: signed by StoreKit when asked.
    Apple(String),
    /// A purchase token.
    Google(String),
}

/// Something that comes to the server by itself.
#[derive(Debug)]
enum Due {
    Notification(Box<NotificationRecord>),
    Late(Box<Fetched>),
    Duty(usize, NewDuty),
    Back(Store),
}

/// Everything of one case.
pub(super) struct Stage {
    pub(super) sandbox: Sandbox,
    pub(super) books: Books,
    clock: VirtualClock,
    pub(super) people: Vec<Person>,
    pub(super) weather: Weather,
    draw: Draw,
    heard: usize,
    due: BTreeMap<(Instant, u64), Due>,
    number: u64,
    /// Duties that are under way or done: one each, ever.
    owed: BTreeSet<(String, &'static str)>,
    away: BTreeMap<Store, Arc<AtomicBool>>,
    /// Until when a store was away last.
    pub(super) back_at: Option<Instant>,
    /// Whether purchases of this world may grant anything.
    pub(super) is_accepted: bool,
    pub(super) trace: bool,
    /// Every App Store transaction that ever was the latest of its chain.
    pub(super) transactions: BTreeSet<String>,
    /// Every order that ever was the latest of its purchase, by token.
    pub(super) orders: BTreeMap<String, Vec<String>>,
}

/// How many people there are; the last one buys nothing and uses other people's devices.
const PEOPLE: u128 = 4;

impl Stage {
    pub(super) async fn new(case: &Case, trace: bool) -> anyhow::Result<Self> {
        let (seed, weather) = (case.seed, case.weather);
        let environment = match case.place {
            Place::Production => Environment::Production,
            Place::Sandbox | Place::SandboxRefused => Environment::Sandbox,
        };
        let is_accepted = case.place != Place::SandboxRefused;
        let start = DateTime::from_timestamp(START_SECONDS, 0).unwrap_or_default();
        let clock = VirtualClock::stopped(start);
        let options = Options {
            seed,
            ..Options::new(shop::setup(environment), clock.clone())
        };
        let sandbox = Sandbox::in_process(options).await?;
        let away: BTreeMap<Store, Arc<AtomicBool>> = [Store::AppStore, Store::GooglePlay]
            .into_iter()
            .map(|store| (store, Arc::default()))
            .collect();
        let stores = stores(&sandbox, &away)?;
        let people: Vec<Person> = (1..=PEOPLE).map(person).collect();
        let tokens = people.iter().map(|p| (p.token.to_string(), p.account));
        let books = Books::new(stores, shop::catalog(is_accepted)?, tokens);
        Ok(Self {
            sandbox,
            books,
            clock,
            people,
            weather,
            draw: Draw::of(seed, u64::MAX - 1),
            heard: 0,
            due: BTreeMap::new(),
            number: 0,
            owed: BTreeSet::new(),
            away,
            back_at: None,
            is_accepted,
            trace,
            transactions: BTreeSet::new(),
            orders: BTreeMap::new(),
        })
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn say(&self, words: impl FnOnce() -> String) {
        if self.trace {
            println!("  {} {}", self.now().format("%F %T"), words());
        }
    }

    fn plan(&mut self, at: Instant, due: Due) {
        self.number += 1;
        self.due.insert((at, self.number), due);
    }

    fn seconds(&mut self, most: u64) -> TimeDelta {
        let seconds = self.draw.below(most.saturating_add(1));
        TimeDelta::seconds(i64::try_from(seconds).unwrap_or_default())
    }

    /// What the stores have said since goes on its way, with whatever becomes of it there.
    pub(super) async fn listen(&mut self) -> Result<(), String> {
        let told = self.sandbox.told_since(self.heard);
        self.heard += told.len();
        for record in told {
            if self.draw.percent(self.weather.drop_percent) {
                self.say(|| format!("lost: {}", title(&record)));
                continue;
            }
            let copies = 1 + self.draw.below(self.weather.copies_max + 1);
            for _ in 0..copies {
                let at = self.now() + self.seconds(self.weather.delay_seconds_max);
                self.plan(at, Due::Notification(Box::new(record.clone())));
            }
        }
        self.catch_up().await
    }

    /// Lets time pass: each event at the stores, each delivery and each check at its own time.
    pub(super) async fn advance(&mut self, by: TimeDelta) -> Result<(), String> {
        let target = self.now() + by;
        loop {
            let due = self.due.keys().next().map(|(at, _)| *at);
            let check = self.next_check();
            let event = self.sandbox.next_event();
            let next = [due, check, event].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= target) else {
                break;
            };
            self.move_to(next.max(self.now())).await?;
            self.listen().await?;
        }
        self.move_to(target).await?;
        self.listen().await
    }

    async fn move_to(&mut self, at: Instant) -> Result<(), String> {
        let moved = self.sandbox.advance_to(at).await;
        moved.map_err(|error| format!("the simulator: {error}"))
    }

    fn next_check(&self) -> Option<Instant> {
        self.books.living().filter_map(|(_, c)| c.next_check).min()
    }

    /// Everything that is due by now.
    async fn catch_up(&mut self) -> Result<(), String> {
        // A chain that asks to be looked at again at once would never let time pass.
        for _ in 0..1_000 {
            let now = self.now();
            if let Some((key, _)) = self.due.first_key_value()
                && key.0 <= now
            {
                if let Some((_, due)) = self.due.pop_first() {
                    self.happen(due).await?;
                }
                continue;
            }
            let due = self.books.living();
            let due = due.filter(|(_, c)| c.next_check.is_some_and(|at| at <= now));
            let Some(chain) = due.map(|(index, _)| index).next() else {
                return Ok(());
            };
            self.books.chains[chain].next_check = None;
            self.look(chain, SignalSource::Schedule).await?;
        }
        Err("there is no end of work at one moment".to_owned())
    }

    async fn happen(&mut self, due: Due) -> Result<(), String> {
        match due {
            Due::Notification(record) => self.deliver(&record).await,
            Due::Late(fetched) => {
                self.books.tally.signals += 1;
                let (chain, source) = (fetched.chain, fetched.source);
                let after = self.books.settle(*fetched, self.now());
                self.say(|| format!("late answer of chain {chain}"));
                self.after(chain, source, after).await
            }
            // What it makes a store say is heard at the next event.
            Due::Duty(chain, duty) => {
                let now = self.now();
                if !self.books.fulfil(chain, &duty, now).await {
                    let at = now + TimeDelta::minutes(30);
                    self.plan(at, Due::Duty(chain, duty));
                }
                Ok(())
            }
            Due::Back(store) => {
                self.set_away(store, false);
                Ok(())
            }
        }
    }

    /// A notification reaches the server: authenticated, kept, read, its chain looked at.
    async fn deliver(&mut self, record: &NotificationRecord) -> Result<(), String> {
        self.say(|| format!("told: {}", title(record)));
        let of = match record.source {
            Source::AppStore => Provider::AppStore,
            Source::GooglePlay => Provider::GooglePlay,
            Source::Superwall => return Ok(()),
        };
        if self.draw.below(AUTHENTICATED_EVERY) == 0 {
            self.authenticate(of, record).await?;
        }
        self.books.tally.signals += 1;
        let reading = self.books.stores.read(
            provider::Source::Store(of),
            record.body.as_bytes(),
            &self.books.catalog,
        );
        match reading {
            Reading::Chain(signal) => {
                let chain = self.books.find_or_create(&signal.alias);
                self.books.add_evidence(chain, signal.evidence);
                self.look(chain, SignalSource::Notification).await
            }
            Reading::Ignored { .. } | Reading::Hint(_) | Reading::Unsupported { .. } => Ok(()),
            Reading::Unreadable { reason } => Err(format!("{}: {reason}", title(record))),
        }
    }

    async fn authenticate(&self, of: Provider, record: &NotificationRecord) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        if of == Provider::GooglePlay {
            let token = self.sandbox.push_token(&PushToken::default());
            let token = token.map_err(|error| error.to_string())?;
            let bearer = HeaderValue::try_from(format!("Bearer {token}"));
            headers.insert(
                http::header::AUTHORIZATION,
                bearer.map_err(|error| error.to_string())?,
            );
        }
        let delivery = Delivery {
            headers: &headers,
            body: record.body.as_bytes(),
            now: self.now(),
        };
        let authentic = self
            .books
            .stores
            .authenticate(provider::Source::Store(of), delivery)
            .await;
        authentic
            .map(|_| ())
            .map_err(|error| format!("{}: refused: {error}", title(record)))
    }

    /// One look at a chain; sometimes its answer is worked in after others'.
    pub(super) async fn look(&mut self, chain: usize, source: SignalSource) -> Result<(), String> {
        if source != SignalSource::Notification {
            self.books.tally.signals += 1;
        }
        let now = self.now();
        let Some(fetched) = self.books.fetch(chain, source, now).await? else {
            self.say(|| format!("chain {chain}: its store is away"));
            return Ok(());
        };
        if self.draw.percent(self.weather.late_percent) {
            let at = now + self.seconds(LATE_SECONDS_MAX);
            self.plan(at, Due::Late(Box::new(fetched)));
            return Ok(());
        }
        let after = self.books.settle(fetched, now);
        let chain = self.books.whole(chain);
        self.say(|| self.describe(chain));
        self.after(chain, source, after).await
    }

    /// Duties are planned once each; a chain with a new head is looked at again.
    async fn after(
        &mut self,
        chain: usize,
        source: SignalSource,
        after: After,
    ) -> Result<(), String> {
        for duty in after.duties {
            let effect = (duty.key().into_owned(), duty.duty.kind());
            if self.owed.insert(effect) {
                let at = self.now() + self.seconds(self.weather.duty_seconds_max);
                self.plan(at, Due::Duty(after.chain, duty));
            }
        }
        if after.again {
            return Box::pin(self.look(chain, source)).await;
        }
        Ok(())
    }

    /// An app hands a purchase over as `account`.
    pub(super) async fn bind(&mut self, person: usize, thing: &OnDevice) -> Result<(), String> {
        let account = self.people[person].account;
        let proof = match thing {
            OnDevice::Apple(id) => {
                let signed = self.sandbox.signed_transaction(id);
                Proof::AppStoreTransaction(signed.map_err(|error| error.to_string())?)
            }
            OnDevice::Google(token) => Proof::GooglePlayToken {
                package_name: shop::PACKAGE.to_owned(),
                token: token.clone(),
            },
        };
        let now = self.now();
        let proven = self
            .books
            .stores
            .verify_proof(&proof, &self.books.catalog, now);
        let proven = proven
            .await
            .map_err(|error| format!("{thing:?}: {error}"))?;
        let chain = self.books.open_claim(account, &proven);
        self.say(|| format!("person {person} binds {thing:?}, chain {chain}"));
        self.look(chain, SignalSource::Proof).await
    }

    /// Everything that an account owns is looked at now.
    pub(super) async fn refresh(&mut self, person: usize) -> Result<(), String> {
        let account = self.people[person].account;
        let owned = |chain: &super::books::Chain| {
            chain
                .book
                .owner
                .is_some_and(|owner| owner.account == account)
        };
        let chains: Vec<usize> = self
            .books
            .living()
            .filter(|(_, chain)| owned(chain))
            .map(|(index, _)| index)
            .collect();
        for chain in chains {
            self.look(chain, SignalSource::Refresh).await?;
        }
        Ok(())
    }

    /// Remembers what can be refunded later.
    pub(super) fn note_transactions(&mut self) {
        for one in self.sandbox.all_purchases() {
            match one.store {
                Store::AppStore => {
                    self.transactions.insert(one.latest_transaction);
                }
                Store::GooglePlay => {
                    let orders = self.orders.entry(one.id).or_default();
                    if !orders.contains(&one.latest_transaction) {
                        orders.push(one.latest_transaction);
                    }
                }
            }
        }
    }

    /// A store cannot be asked for so long.
    pub(super) fn go_away(&mut self, store: Store, time: TimeDelta) {
        let back = self.now() + time;
        self.set_away(store, true);
        self.back_at = self.back_at.max(Some(back));
        self.plan(back, Due::Back(store));
    }

    fn set_away(&mut self, store: Store, away: bool) {
        if let Some(flag) = self.away.get(&store) {
            flag.store(away, Ordering::Relaxed);
        }
    }

    /// No more of it: what is under way arrives now, in any order, and nothing is lost any more.
    pub(super) async fn calm_down(&mut self) -> Result<(), String> {
        self.weather = Weather::CALM;
        for store in [Store::AppStore, Store::GooglePlay] {
            self.set_away(store, false);
        }
        let now = self.now();
        let mut late: Vec<Due> = std::mem::take(&mut self.due).into_values().collect();
        for place in (1..late.len()).rev() {
            late.swap(place, self.draw.index(place + 1));
        }
        for due in late {
            self.plan(now, due);
        }
        self.listen().await
    }

    fn describe(&self, chain: usize) -> String {
        let chain_is = &self.books.chains[chain];
        let items = chain_is.book.known.as_ref().map(|known| {
            let items = known.state.items.iter();
            items
                .map(|item| format!("{}={:?}", item.product, item.state))
                .collect::<Vec<_>>()
                .join(", ")
        });
        let owner = chain_is.book.owner.map(|o| o.account.0.as_u128());
        format!(
            "chain {chain} of {owner:?}: {}",
            items.unwrap_or_else(|| "unknown".to_owned())
        )
    }
}

fn title(record: &NotificationRecord) -> String {
    format!(
        "{:?} {} {} of {}",
        record.source,
        record.notification_type,
        record.subtype.as_deref().unwrap_or_default(),
        record.created_at.format("%F %T")
    )
}

fn person(number: u128) -> Person {
    Person {
        account: AccountId(Uuid::from_u128(number)),
        name: format!("person-{number}"),
        token: Uuid::from_u128(0xACC0_0000_0000_4000_8000_0000_0000_0000 + number),
        device: Vec::new(),
    }
}

/// The server's own providers, with their calls answered by the simulator in the process.
pub(super) fn stores(
    sandbox: &Sandbox,
    away: &BTreeMap<Store, Arc<AtomicBool>>,
) -> anyhow::Result<Stores> {
    let manifest = sandbox.manifest();
    let http = HttpClient::in_process(answers(sandbox.line(), away));
    let root = tempfile(&manifest)?;
    let played = match manifest.environment {
        Environment::Production => "production",
        Environment::Sandbox => "sandbox",
    };
    let app_store: AppStoreConfig = serde_json::from_value(json!({
        "issuer_id": manifest.apple_issuer_id,
        "key_id": manifest.apple_key_id,
        "private_key": manifest.apple_private_key_pem,
        "root_certificates": [root.to_string_lossy()],
        "environments": [played],
        "production_url": manifest.app_store_api_url,
        "sandbox_url": manifest.app_store_api_url,
    }))?;
    let push = &manifest.push;
    let google_play: GooglePlayConfig = serde_json::from_value(json!({
        "service_account": manifest.google_service_account_json,
        "base_url": manifest.google_api_url,
        "push": {
            "audience": push.audience,
            "email": push.email,
            "subscription": push.subscription,
            "jwks_url": push.jwks_url,
            "issuer": push.issuer,
        },
    }))?;
    let made = (
        AppStore::new(&app_store, http.clone()),
        GooglePlay::new(&google_play, &http),
    );
    std::fs::remove_file(root)?;
    Ok(Stores {
        app_store: Some(made.0?),
        google_play: Some(made.1?),
        superwall: None,
    })
}

fn tempfile(manifest: &Manifest) -> anyhow::Result<std::path::PathBuf> {
    let der = base64::engine::general_purpose::STANDARD.decode(&manifest.apple_root_cert_der)?;
    let file = std::env::temp_dir().join(format!("entitled-root-{}.der", Uuid::new_v4()));
    std::fs::write(&file, der)?;
    Ok(file)
}

/// A store that is away refuses and asks for patience, so that nobody sleeps in machine time.
fn answers(line: Line, away: &BTreeMap<Store, Arc<AtomicBool>>) -> InProcess {
    let away = away.clone();
    Arc::new(move |request| {
        let line = line.clone();
        let path = request.uri().path();
        let store = match path.starts_with("/apple") {
            true => Store::AppStore,
            false => Store::GooglePlay,
        };
        // Key sets stay up in an outage of the API.
        let is_away = !path.ends_with("certs")
            && away
                .get(&store)
                .is_some_and(|flag| flag.load(Ordering::Relaxed));
        Box::pin(async move {
            if is_away {
                let patience =
                    HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("600"))]);
                return Ok(Answer {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    headers: patience,
                    body: Default::default(),
                });
            }
            let answer = line.call(request).await;
            let answer = answer.map_err(|error| HttpError::Connection(error.to_string()))?;
            let (parts, body) = answer.into_parts();
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        })
    })
}
