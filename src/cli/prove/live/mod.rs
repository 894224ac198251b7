//! Through a real Postgres: simulated stores, a database and a server, with random lives of
//! households, lost, late and repeated notifications, forgeries and races. What must hold is read
//! from the outside.

mod crowd;
mod forged;
mod truth;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeZone as _, Utc};
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::Voice;
use super::model;
use crate::cli::client::Client;
use crate::cli::stack::{Stack, StackOptions};
use crate::cli::token;
use crate::proto::consistency::Requirement;
use crate::proto::watch_entitlements_response::Event;
use crate::proto::{Consistency, EntitlementSnapshot, GetEntitlementsRequest};
use crate::sandbox::Environment;
use crate::storage::Db;
use crate::storage::cluster::{Cluster, DataDir};
use crowd::Crowd;

const DATABASE: &str = "prove";
const WATCHERS: usize = 5;
const COME_BACK_AFTER: Duration = Duration::from_millis(200);

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) people: usize,
    pub(super) purchases: usize,
    /// Notifications answered 2xx, repeated ones included, binds and refreshes.
    pub(super) signals: u64,
    pub(super) repeated: usize,
    pub(super) lost: usize,
    pub(super) late: usize,
    pub(super) late_days_max: u32,
    pub(super) compared: usize,
    pub(super) entitled: usize,
    /// Different notifications that were answered 2xx.
    pub(super) kept: usize,
    pub(super) revisions: i64,
    pub(super) watched: usize,
    pub(super) forged: usize,
    pub(super) genuine: usize,
    pub(super) claimants: usize,
    pub(super) binds: u64,
    pub(super) refreshes: u64,
    /// Binds that were not answered with a snapshot, by reason.
    pub(super) refused: BTreeMap<String, u64>,
    /// Promises that were broken: which one, and how.
    pub(super) broken: Vec<(&'static str, String)>,
}

impl Seen {
    fn broke(&mut self, promise: &'static str, words: String) {
        self.broken.push((promise, words));
    }
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) seed: u64,
    pub(super) customers: usize,
    pub(super) months: u32,
    /// Operations of a household in a week.
    pub(super) acts: usize,
}

/// Starts everything, plays, compares, and takes everything down again.
pub(super) async fn run(load: Load, voice: Voice) -> anyhow::Result<Seen> {
    let cluster = Cluster::start(DataDir::Ephemeral).await?;
    let dir =
        std::env::temp_dir().join(format!("entitled-prove-{}", uuid::Uuid::new_v4().simple()));
    let played = on(&cluster, &dir, load, voice).await;
    let _ = std::fs::remove_dir_all(&dir);
    cluster.stop().await?;
    played
}

async fn on(
    cluster: &Cluster,
    dir: &std::path::Path,
    load: Load,
    voice: Voice,
) -> anyhow::Result<Seen> {
    cluster.create_database(DATABASE, None).await?;
    let options = StackOptions {
        seed: load.seed,
        catalog: model::catalog_text(),
        setup: Some(model::setup(Environment::Production)),
        keeps_all: true,
        ..StackOptions::new(dir.to_owned(), cluster.url(DATABASE), begins())
    };
    let stack = Stack::start(options).await?;
    let db = Db::open(&cluster.url(DATABASE), 2)?;
    let mut seen = Seen::default();
    let played = play(&stack, &db, load, voice, &mut seen).await;
    stack.stop().await;
    let books = match played {
        Ok(()) => truth::books(&db, &mut seen).await,
        Err(error) => Err(error),
    };
    db.close().await;
    books.map(|()| seen)
}

fn begins() -> DateTime<Utc> {
    let start = Utc.with_ymd_and_hms(2027, 1, 10, 9, 0, 0);
    start.single().unwrap_or_default()
}

async fn play(
    stack: &Stack,
    db: &Db,
    load: Load,
    voice: Voice,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    voice.say("forged documents, and genuine ones among them …");
    forged::forgeries(stack, load.seed, seen).await?;
    voice.say("fifty accounts show one purchase at once …");
    forged::race(stack, seen).await?;
    voice.say("households, with notifications lost, late and repeated …");
    let mut crowd = Crowd::moves_in(stack, load).await?;
    let watchers = watchers(&crowd).await?;
    crowd.live(stack, voice, seen).await?;
    voice.say("what the stores know against what the server says …");
    truth::settled(db).await?;
    truth::outlived(stack, &crowd, db, seen).await?;
    crowd.opens_apps(stack, seen).await?;
    truth::settled(db).await?;
    watched(&crowd, watchers, seen).await?;
    truth::compare(stack, &crowd, db, seen).await?;
    truth::delivered(stack, db, seen).await
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

/// Everybody over one connection.
#[derive(Clone)]
struct Line {
    channel: Channel,
    secret: String,
}

impl Line {
    fn client(&self, name: &str) -> anyhow::Result<Client> {
        let token = token::mint(&self.secret, name, token::DAY)?;
        Client::over(self.channel.clone(), &token)
    }
}

/// Streams that are read to the end, by the name of their reader.
type Watchers = Vec<(String, tokio::sync::watch::Receiver<Vec<i64>>)>;

async fn watchers(crowd: &Crowd) -> anyhow::Result<Watchers> {
    let mut all = Vec::new();
    for household in crowd.households.iter().take(WATCHERS) {
        let Some(person) = household.people.first() else {
            continue;
        };
        let mut client = crowd.line.client(&person.name)?;
        let mut stream = client.watch().await?;
        let (teller, told) = tokio::sync::watch::channel(Vec::new());
        tokio::spawn(async move {
            // Every stream is sent away after a while, and comes back as a device does.
            while !teller.is_closed() {
                while let Ok(Some(message)) = stream.message().await {
                    if let Some(Event::Snapshot(snapshot)) = message.event {
                        teller.send_modify(|told| told.push(snapshot.revision));
                    }
                }
                tokio::time::sleep(COME_BACK_AFTER).await;
                match client.watch().await {
                    Ok(again) => stream = again,
                    Err(_) => return,
                }
            }
        });
        all.push((person.name.clone(), told));
    }
    Ok(all)
}

/// Each stream ended on the latest revision, and never went back.
async fn watched(crowd: &Crowd, watchers: Watchers, seen: &mut Seen) -> anyhow::Result<()> {
    for (name, mut told) in watchers {
        let latest = read(crowd.line.client(&name)?).await?.revision;
        let arrived = tokio::time::timeout(
            Duration::from_secs(5),
            told.wait_for(|told| told.last().is_some_and(|last| *last >= latest)),
        );
        let on_time = matches!(arrived.await, Ok(Ok(_)));
        // The same revision may be told again: after a return, and where time has changed what it
        // says before the revision that says so.
        let rose = told.borrow().is_sorted();
        seen.watched += told.borrow().len();
        if !on_time || !rose {
            let words = format!("the stream of {name} told {:?}", *told.borrow());
            seen.broke("I7", format!("{words}; the latest is {latest}"));
        }
    }
    Ok(())
}

async fn read(mut client: Client) -> anyhow::Result<EntitlementSnapshot> {
    let request = GetEntitlementsRequest {
        consistency: Some(Consistency {
            requirement: Some(Requirement::FullyConsistent(true)),
        }),
        account: String::new(),
        as_of: None,
    };
    let answer = client.inner.get_entitlements(request).await?.into_inner();
    answer.snapshot.context("an answer without snapshot")
}

fn is_on(snapshot: &EntitlementSnapshot, id: &str) -> bool {
    snapshot
        .entitlements
        .iter()
        .any(|one| one.id == id && one.active)
}
