//! Through a real Postgres: simulated stores, a database and a server, with lives of customers,
//! lost and repeated notifications, forgeries and races. What must hold is read from the outside.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Url;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::Voice;
use crate::cli::client::Client;
use crate::cli::stack::{Stack, StackOptions};
use crate::http::HttpClient;
use crate::proto::EntitlementSnapshot;
use crate::proto::consistency::Requirement;
use crate::proto::watch_entitlements_response::Event;
use crate::proto::{Consistency, GetEntitlementsRequest};
use crate::sandbox::{
    AppStoreBuy, Billing, CallSins, DeliverySins, DeliveryState, GooglePlayBuy, Pace,
    PurchaseTruth, SandboxError, Sins, Store, forge,
};
use crate::storage::cluster::{Cluster, DataDir};
use crate::storage::{Db, audit};

const DATABASE: &str = "prove";
/// Callers at the same time.
const AT_ONCE: usize = 16;
const CLAIMANTS: usize = 50;
const WATCHERS: usize = 5;
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// Nobody may ask here for what a forged document points at.
const CANARY: &str = "http://127.0.0.1:9/canary";
/// Notifications that are lost, of a hundred.
const LOST: f64 = 0.30;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) customers: usize,
    pub(super) signals: u64,
    pub(super) repeated: i64,
    pub(super) lost: usize,
    pub(super) compared: usize,
    pub(super) entitled: usize,
    pub(super) kept: usize,
    /// Event ids of notifications that were answered 2xx.
    acknowledged: BTreeSet<String>,
    pub(super) revisions: i64,
    pub(super) watched: usize,
    pub(super) forged: usize,
    pub(super) genuine: usize,
    pub(super) claimants: usize,
    /// Promises that were broken: which one, and how.
    pub(super) broken: Vec<(&'static str, String)>,
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) seed: u64,
    pub(super) customers: usize,
    pub(super) months: u32,
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
        ..StackOptions::new(dir.to_owned(), cluster.url(DATABASE), begins())
    };
    let stack = Stack::start(options).await?;
    let mut seen = Seen::default();
    let played = play(&stack, load, voice, &mut seen).await;
    stack.stop().await;
    let db = Db::open(&cluster.url(DATABASE), 2)?;
    played?;
    let books = books(&db, &mut seen).await;
    db.close().await;
    books.map(|()| seen)
}

fn begins() -> DateTime<Utc> {
    let start = Utc.with_ymd_and_hms(2027, 1, 10, 9, 0, 0);
    start.single().unwrap_or_default()
}

async fn play(stack: &Stack, load: Load, voice: Voice, seen: &mut Seen) -> anyhow::Result<()> {
    voice.say("forged documents, and genuine ones among them …");
    forgeries(stack, load.seed, seen).await?;
    voice.say("fifty accounts show one purchase at once …");
    race(stack, seen).await?;
    voice.say("a crowd of customers, with notifications lost, late and repeated …");
    let watchers = watchers(stack).await?;
    crowd(stack, load, seen).await?;
    watched(stack, watchers, seen).await?;
    compare(stack, load, seen).await
}

/// Every document that is wrong in one way is refused; the genuine ones among them are accepted.
async fn forgeries(stack: &Stack, seed: u64, seen: &mut Seen) -> anyhow::Result<()> {
    let buy = AppStoreBuy {
        customer: "genuine".to_owned(),
        product_id: "com.example.premium.monthly".to_owned(),
        ..Default::default()
    };
    let bought = stack.sandbox.buy_app_store(&buy).await?;
    let payload = bought
        .signed_transaction
        .split('.')
        .nth(1)
        .context("not a JWS")?;
    let payload = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    for (number, specimen) in forge::apple_corpus(&stack.sandbox, &payload, CANARY, seed)?
        .into_iter()
        .enumerate()
    {
        // A caller each: the server limits how often one may try.
        let subject = match specimen.genuine {
            true => "genuine".to_owned(),
            false => format!("forger-{number}"),
        };
        let answer = stack
            .client(&subject)
            .await?
            .bind_app_store(&specimen.jws)
            .await;
        let refused = answer
            .as_ref()
            .err()
            .is_some_and(|status| reason(status) != "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT");
        judge(
            seen,
            specimen.genuine,
            answer.is_ok(),
            refused,
            &specimen.name,
        );
    }
    let url = stack.app.webhooks_url().context("no webhooks")?;
    let url = Url::parse(&format!("{url}/webhooks/google-play"))?;
    let body = push_body(stack).await?;
    let http = HttpClient::new(Duration::from_secs(10))?;
    for specimen in forge::push_corpus(&stack.sandbox, CANARY)? {
        let Ok(bearer) = HeaderValue::try_from(format!("Bearer {}", specimen.jws)) else {
            continue;
        };
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, bearer),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        let sent = http.send(
            Method::POST,
            url.clone(),
            headers,
            Some(body.clone().into()),
        );
        let status = sent.await?.status;
        let (taken, refused) = (
            status.is_success(),
            status == http::StatusCode::UNAUTHORIZED,
        );
        judge(seen, specimen.genuine, taken, refused, &specimen.name);
    }
    Ok(())
}

fn judge(seen: &mut Seen, genuine: bool, taken: bool, refused: bool, name: &str) {
    match (genuine, taken, refused) {
        (true, true, _) => seen.genuine += 1,
        (false, false, true) => seen.forged += 1,
        (true, ..) => seen
            .broken
            .push(("I1", format!("refused, and genuine: {name}"))),
        (false, ..) => seen
            .broken
            .push(("I1", format!("not refused, and forged: {name}"))),
    }
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

/// A push as Google sends it.
async fn push_body(stack: &Stack) -> anyhow::Result<String> {
    stack
        .sandbox
        .send_test_notification(Store::GooglePlay)
        .await?;
    let told = stack.sandbox.notifications();
    let test = told
        .into_iter()
        .rev()
        .find(|one| one.source == Store::GooglePlay);
    Ok(test.context("no test notification")?.body)
}

/// One owner, whoever was first.
async fn race(stack: &Stack, seen: &mut Seen) -> anyhow::Result<()> {
    let bought = stack
        .sandbox
        .buy_app_store(&AppStoreBuy {
            customer: "contested".to_owned(),
            product_id: "com.example.premium.yearly".to_owned(),
            outside_app: true,
            ..Default::default()
        })
        .await?;
    let proof = bought.signed_transaction;
    let claims = (0..CLAIMANTS).map(|number| {
        let proof = proof.clone();
        async move {
            let mut client = stack.client(&format!("claimant-{number}")).await?;
            anyhow::Ok(client.bind_app_store(&proof).await)
        }
    });
    let answers = futures::future::join_all(claims).await;
    let mut winners = 0;
    for answer in answers {
        seen.claimants += 1;
        match answer? {
            Ok(_) => winners += 1,
            Err(status) if reason(&status) == "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT" => {}
            Err(status) => seen
                .broken
                .push(("I4", format!("a claimant was answered {status}"))),
        }
    }
    let mut holders = 0;
    for number in 0..CLAIMANTS {
        let snapshot = read(stack, &format!("claimant-{number}")).await?;
        holders += usize::from(is_on(&snapshot, "pro_access"));
    }
    if (winners, holders) != (1, 1) {
        let words =
            format!("{winners} of {CLAIMANTS} were told that it is theirs, {holders} have it");
        seen.broken.push(("I4", words));
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("customer-{number}")
}

/// Streams that are read to the end.
type Watchers = Vec<tokio::sync::watch::Receiver<Vec<i64>>>;

async fn watchers(stack: &Stack) -> anyhow::Result<Watchers> {
    let mut all = Vec::new();
    for number in 0..WATCHERS {
        let mut client = stack.client(&name(number)).await?;
        let mut stream = client.watch().await?;
        let (teller, told) = tokio::sync::watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                if let Some(Event::Snapshot(snapshot)) = message.event {
                    teller.send_modify(|told| told.push(snapshot.revision));
                }
            }
        });
        all.push(told);
    }
    Ok(all)
}

/// Each stream ended on the latest revision, and never went back.
async fn watched(stack: &Stack, watchers: Watchers, seen: &mut Seen) -> anyhow::Result<()> {
    for (number, mut told) in watchers.into_iter().enumerate() {
        let latest = read(stack, &name(number)).await?.revision;
        let arrived = tokio::time::timeout(
            Duration::from_secs(5),
            told.wait_for(|told| told.last().is_some_and(|last| *last >= latest)),
        );
        let on_time = matches!(arrived.await, Ok(Ok(_)));
        let rose = told.borrow().is_sorted_by(|a, b| a < b);
        seen.watched += told.borrow().len();
        if !on_time || !rose {
            let words = format!("the stream of {} told {:?}", name(number), *told.borrow());
            seen.broken
                .push(("I7", format!("{words}; the latest is {latest}")));
        }
    }
    Ok(())
}

/// Customers buy, fail to pay, cancel, come back and are refunded, month by month.
async fn crowd(stack: &Stack, load: Load, seen: &mut Seen) -> anyhow::Result<()> {
    let mut dice = StdRng::seed_from_u64(load.seed);
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
            delay_seconds_max: 30 * 86_400,
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
    let mut acts = 0;
    for _ in 0..load.months {
        for number in 0..load.customers {
            let name = name(number);
            let done = act(stack, &name, &mut dice).await;
            acts += done.with_context(|| format!("{name} acts"))?;
        }
        // Apps that ask while everything else goes on.
        let asking = (0..load.customers)
            .filter(|_| dice.random_bool(0.1))
            .collect::<Vec<_>>();
        acts += asking.len() as u64;
        let refreshed = futures::stream::iter(asking).map(|number| async move {
            let mut client = stack.client(&name(number)).await?;
            // Refused beyond the limit: that is an answer, too.
            let _ = client.refresh().await;
            anyhow::Ok(())
        });
        let days = TimeDelta::days(dice.random_range(20..40));
        let (refreshed, advanced) = tokio::join!(
            refreshed.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>(),
            sandbox.advance_by(days)
        );
        refreshed.context("asking")?;
        advanced.context("time passes")?;
    }
    // What is late arrives; nothing is lost any more, and every chain gets its daily look.
    sandbox.set_sins(Sins::default())?;
    sandbox
        .flush_deliveries()
        .await
        .context("what is late arrives")?;
    sandbox
        .advance_by(TimeDelta::hours(26))
        .await
        .context("a last day passes")?;
    open_apps(stack, load).await?;
    stack.app.idle_probe().idle(SETTLED_WITHIN).await;
    seen.signals = sandbox.progress().borrow().signals + acts;
    seen.customers = load.customers;
    Ok(())
}

/// Something happens to one customer; mostly the app hands over what was bought.
async fn act(stack: &Stack, name: &str, dice: &mut StdRng) -> anyhow::Result<u64> {
    let sandbox = &stack.sandbox;
    let held = sandbox.purchases(name);
    let Some(one) = held.last().filter(|_| dice.random_bool(0.7)) else {
        return buy(stack, name, dice).await;
    };
    let (id, coin) = (one.id.as_str(), dice.random_bool(0.5));
    let billing = if coin { Billing::Works } else { Billing::Fails };
    let done = match (one.store, dice.random_range(0..10)) {
        (Store::AppStore, 0..4) => sandbox.set_app_store_billing(id, billing).await,
        (Store::AppStore, 4..8) => sandbox.set_auto_renew(id, coin).await,
        (Store::AppStore, _) => sandbox.refund_app_store(&one.latest_transaction).await,
        (Store::GooglePlay, 0..4) => sandbox.set_google_play_billing(id, billing).await,
        (Store::GooglePlay, 4..7) => sandbox.cancel_google_play(id).await,
        (Store::GooglePlay, 7..9) => sandbox.restore_google_play(id).await,
        (Store::GooglePlay, _) => sandbox.refund_google_play(id).await,
    };
    match done {
        Ok(()) | Err(SandboxError::Refused(_) | SandboxError::UnknownPurchase) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

async fn buy(stack: &Stack, name: &str, dice: &mut StdRng) -> anyhow::Result<u64> {
    let plan = dice.random_range(0..10);
    let bought = if dice.random_bool(0.5) {
        let product_id = match plan {
            0..6 => "com.example.premium.monthly",
            6..9 => "com.example.premium.yearly",
            _ => "com.example.export",
        };
        let buy = AppStoreBuy {
            customer: name.to_owned(),
            product_id: product_id.to_owned(),
            ..Default::default()
        };
        stack.sandbox.buy_app_store(&buy).await.map(|_| ())
    } else {
        let (product_id, plan) = match plan {
            0..6 => ("premium", Some("premium-monthly")),
            6..9 => ("premium", Some("premium-yearly")),
            _ => ("export", None),
        };
        let buy = GooglePlayBuy {
            customer: name.to_owned(),
            product_id: product_id.to_owned(),
            base_plan_id: plan.map(str::to_owned),
            ..Default::default()
        };
        stack.sandbox.buy_google_play(&buy).await.map(|_| ())
    };
    match bought {
        Ok(()) if dice.random_bool(0.9) => bind_all(stack, name).await,
        Ok(()) | Err(SandboxError::Refused(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// The app hands over everything that is on the device.
async fn bind_all(stack: &Stack, name: &str) -> anyhow::Result<u64> {
    let mut client = stack.client(name).await?;
    let mut binds = 0;
    for one in stack
        .sandbox
        .purchases(name)
        .iter()
        .filter(|one| one.entitled)
    {
        binds += 1;
        let answer = match one.store {
            Store::AppStore => {
                let signed = stack
                    .sandbox
                    .signed_transaction(&one.latest_transaction)
                    .with_context(|| format!("{name}'s device cannot show {}", one.id))?;
                client.bind_app_store(&signed).await
            }
            Store::GooglePlay => client.bind_google_play("com.example.app", &one.id).await,
        };
        if let Err(status) = answer
            && status.code() != tonic::Code::Unavailable
        {
            anyhow::bail!("{name}'s bind was refused: {status}");
        }
    }
    Ok(binds)
}

async fn open_apps(stack: &Stack, load: Load) -> anyhow::Result<()> {
    let names = futures::stream::iter(0..load.customers);
    let opened = names.map(|number| async move {
        bind_all(stack, &name(number)).await?;
        let mut client = stack.client(&name(number)).await?;
        let _ = client.refresh().await;
        anyhow::Ok(())
    });
    opened
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn read(stack: &Stack, name: &str) -> anyhow::Result<EntitlementSnapshot> {
    let mut client: Client = stack.client(name).await?;
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

/// What the example catalog grants for a purchase.
fn grants(one: &PurchaseTruth) -> &'static [&'static str] {
    let plan = one.base_plan_id.as_deref().unwrap_or_default();
    if matches!(one.product_id.as_str(), "com.example.export" | "export") {
        &["export"]
    } else if one.product_id.ends_with("yearly") || plan.ends_with("yearly") {
        &["pro_access", "export"]
    } else {
        &["pro_access"]
    }
}

/// Everybody has what the stores say.
async fn compare(stack: &Stack, load: Load, seen: &mut Seen) -> anyhow::Result<()> {
    for number in 0..load.customers {
        let name = name(number);
        let snapshot = read(stack, &name).await?;
        let purchases = stack.sandbox.purchases(&name);
        let entitled = purchases.iter().filter(|one| one.entitled);
        let due: BTreeSet<&str> = entitled
            .flat_map(|one| grants(one).iter().copied())
            .collect();
        let told: BTreeSet<&str> = ["pro_access", "export"]
            .into_iter()
            .filter(|id| is_on(&snapshot, id))
            .collect();
        seen.compared += 1;
        seen.entitled += usize::from(!due.is_empty());
        if due != told {
            let words = format!("{name} has {told:?} and paid for {due:?}: {purchases:?}");
            seen.broken.push(("I3", words));
        }
    }
    let told = stack.sandbox.notifications();
    seen.lost = told
        .iter()
        .filter(|one| one.state == DeliveryState::Dropped)
        .count();
    let open = |one: &&crate::sandbox::NotificationRecord| one.state == DeliveryState::Delivered;
    seen.kept = told.iter().filter(open).count();
    ensure!(seen.compared > 0, "nothing was compared");
    ensure!(
        seen.entitled > 0,
        "nobody has access: too simple to prove anything"
    );
    seen.acknowledged = told.iter().filter(open).map(|one| one.id.clone()).collect();
    Ok(())
}

/// What the books say of themselves.
async fn books(db: &Db, seen: &mut Seen) -> anyhow::Result<()> {
    let kept = audit::notifications(db).await?;
    let mut once = BTreeSet::new();
    for row in &kept {
        if !once.insert((&row.source, &row.event_id)) {
            seen.broken
                .push(("I2", format!("kept twice: {}", row.event_id)));
        }
    }
    let ids: BTreeSet<&String> = kept.iter().map(|row| &row.event_id).collect();
    for id in &seen.acknowledged {
        if !ids.contains(id) {
            seen.broken
                .push(("I2", format!("acknowledged and not kept: {id}")));
        }
    }
    seen.repeated = audit::deliveries(db).await? - i64::try_from(kept.len())?;
    for id in audit::booked_twice(db).await? {
        seen.broken.push(("I2", format!("booked twice: {id}")));
    }
    for row in audit::owners(db).await? {
        if row.changes > 1 {
            seen.broken.push((
                "I4",
                format!("a purchase changed hands {} times", row.changes),
            ));
        }
    }
    for row in audit::revisions(db).await? {
        seen.revisions += row.revision;
        if row.told != row.revision || row.last != row.revision {
            let words = format!(
                "account {} is at revision {}; its events tell {}, up to {}",
                row.account, row.revision, row.told, row.last
            );
            seen.broken.push(("I5", words.clone()));
            seen.broken.push(("I6", words));
        }
    }
    Ok(())
}
