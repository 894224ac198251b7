//! What the stores know against what the server says, and what its books say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::model::{self, COINS, COMMON, Household, SoldAs, Ware};
use super::crowd::{AT_ONCE, Crowd};
use super::{Seen, read};
use crate::cli::stack::Stack;
use crate::proto::{Entitlement, EntitlementSnapshot};
use crate::sandbox::{AttemptResult, DeliverySin, DeliveryState, PurchaseState, PurchaseTruth};
use crate::storage::{Db, audit};

/// Broken promises that are told one by one.
const TOLD_MAX: usize = 20;
/// A purchase that its store refused is asked for again within this, by the machine's time.
const SETTLED_WITHIN: Duration = Duration::from_secs(400);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Waits for those that back off from their store: months have passed in seconds meanwhile. What
/// is left after that is told by [`books`].
pub(super) async fn settled(db: &Db) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    while Instant::now() < deadline && !audit::open_work(db).await?.is_empty() {
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Who owns each purchase by its store's name for it.
type Owners = BTreeMap<String, Uuid>;

async fn owners(db: &Db) -> anyhow::Result<Owners> {
    let rows = audit::owners(db).await?.into_iter();
    Ok(rows
        .filter_map(|row| Some((row.alias, row.owner?)))
        .collect())
}

/// All that the stores know and the server says of one household.
struct Home<'a> {
    household: &'a Household,
    purchases: Vec<PurchaseTruth>,
    snapshots: Vec<EntitlementSnapshot>,
}

impl Home<'_> {
    fn ware(one: &PurchaseTruth) -> Option<&'static Ware> {
        model::ware(one.store, &one.product_id, one.base_plan_id.as_deref())
    }

    /// What this account has paid for and not got back.
    fn of<'a>(
        &'a self,
        owners: &'a Owners,
        account: Uuid,
    ) -> impl Iterator<Item = &'a PurchaseTruth> {
        let mine = move |one: &&PurchaseTruth| owners.get(&one.id) == Some(&account);
        self.purchases.iter().filter(mine)
    }

    fn due(&self, owners: &Owners, account: Uuid) -> BTreeSet<String> {
        let mine = self.of(owners, account).filter(|one| one.entitled);
        let own = mine.filter_map(|one| Self::ware(one).and_then(Ware::own));
        own.flat_map(|own| [own, COMMON.to_owned()]).collect()
    }

    fn coins(&self, owners: &Owners, account: Uuid) -> i64 {
        let counted = self.of(owners, account).filter(|one| {
            one.state == PurchaseState::Active
                && Self::ware(one).is_some_and(|ware| ware.sold_as == SoldAs::Counted)
        });
        counted.map(|one| i64::from(one.quantity) * COINS).sum()
    }
}

/// What is on, but for renewals that are late within the leniency.
fn told(snapshot: &EntitlementSnapshot, now: DateTime<Utc>, strict: bool) -> BTreeSet<String> {
    let on = snapshot.entitlements.iter().filter(|one| one.active);
    on.filter(|one| strict || !is_late(one, now))
        .map(|one| one.id.clone())
        .collect()
}

fn is_late(one: &Entitlement, now: DateTime<Utc>) -> bool {
    one.sources
        .iter()
        .all(|source| source.will_renew && ended(source.expires_at, now))
}

fn ended(at: Option<prost_types::Timestamp>, now: DateTime<Utc>) -> bool {
    at.is_some_and(|at| at.seconds <= now.timestamp())
}

async fn homes<'a>(stack: &Stack, crowd: &'a Crowd) -> anyhow::Result<Vec<Home<'a>>> {
    let all = futures::stream::iter(&crowd.households).map(|household| async {
        let mut snapshots = Vec::new();
        for person in &household.people {
            snapshots.push(read(crowd.line.client(&person.name)?).await?);
        }
        anyhow::Ok(Home {
            household,
            purchases: household.purchases(&stack.sandbox),
            snapshots,
        })
    });
    all.buffered(AT_ONCE).try_collect().await
}

/// The schedule alone has ended what is over (I8): no app was opened, nothing was told.
pub(super) async fn outlived(
    stack: &Stack,
    crowd: &Crowd,
    db: &Db,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let (now, owners) = (stack.sandbox.now(), owners(db).await?);
    for home in homes(stack, crowd).await? {
        for (person, snapshot) in home.household.people.iter().zip(&home.snapshots) {
            let due = home.due(&owners, person.account.0);
            let told = told(snapshot, now, false);
            let given: Vec<&String> = told.difference(&due).collect();
            if !given.is_empty() {
                let words = format!("{} still has {given:?}", person.name);
                seen.broke("I8", tell(&home, crowd, &words));
            }
        }
    }
    Ok(())
}

/// Everybody has what the stores say, each line ends and renews as they say, and every unit that
/// is paid for is credited once.
pub(super) async fn compare(
    stack: &Stack,
    crowd: &Crowd,
    db: &Db,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let (now, owners) = (stack.sandbox.now(), owners(db).await?);
    for home in homes(stack, crowd).await? {
        seen.purchases += home.purchases.len();
        ownership(&home, crowd, &owners, seen);
        for (person, snapshot) in home.household.people.iter().zip(&home.snapshots) {
            let account = person.account.0;
            let due = home.due(&owners, account);
            seen.people += 1;
            seen.compared += 2;
            seen.entitled += usize::from(!due.is_empty());
            let on = told(snapshot, now, true);
            let certain = told(snapshot, now, false);
            let missing: Vec<&String> = due.difference(&on).collect();
            let given: Vec<&String> = certain.difference(&due).collect();
            if !missing.is_empty() || !given.is_empty() {
                let words = format!(
                    "{} has not got {missing:?}, and has {given:?} unpaid",
                    person.name
                );
                seen.broke("I3", tell(&home, crowd, &words));
            }
            let coins: i64 = snapshot.credits.iter().map(|credit| credit.balance).sum();
            let paid = home.coins(&owners, account);
            if coins != paid {
                let words = format!("{} has {coins} coins and paid for {paid}", person.name);
                seen.broke("I2", tell(&home, crowd, &words));
            }
            for one in home.of(&owners, account) {
                lines(&home, crowd, snapshot, one, seen);
            }
        }
    }
    ensure!(seen.compared > 0, "nothing was compared");
    ensure!(
        seen.entitled > 0,
        "nobody has access: too simple to prove anything"
    );
    Ok(())
}

/// One owner, of the household; what its apps show is somebody's.
fn ownership(home: &Home<'_>, crowd: &Crowd, owners: &Owners, seen: &mut Seen) {
    for one in &home.purchases {
        let owner = owners.get(&one.id);
        let people = &home.household.people;
        let known = owner.is_some_and(|owner| people.iter().any(|p| p.account.0 == *owner));
        if owner.is_some() && !known {
            let words = format!("{:?} is a stranger's", one.product_id);
            seen.broke("I4", tell(home, crowd, &words));
        }
        if owner.is_none() && one.entitled {
            let words = format!("a purchase of {} was shown and is nobody's", one.product_id);
            seen.broke("I4", tell(home, crowd, &words));
        }
    }
}

/// The end of a running period, and whether another follows.
fn lines(
    home: &Home<'_>,
    crowd: &Crowd,
    snapshot: &EntitlementSnapshot,
    one: &PurchaseTruth,
    seen: &mut Seen,
) {
    let runs = matches!(one.state, PurchaseState::Active | PurchaseState::Canceled);
    let Some(own) = Home::ware(one).and_then(Ware::own) else {
        return;
    };
    if !one.entitled || !runs {
        return;
    }
    let told = snapshot.entitlements.iter().filter(|told| told.id == own);
    let mut sources = told.flat_map(|told| &told.sources);
    seen.compared += 1;
    let agrees = sources.any(|source| {
        source.expires_at.map(|at| at.seconds) == one.expires_at.map(|at| at.timestamp())
            && source.will_renew == one.auto_renew
    });
    if !agrees {
        let words = format!("no source of {own} ends and renews as its store says");
        seen.broke("I3", tell(home, crowd, &words));
    }
}

fn tell(home: &Home<'_>, crowd: &Crowd, words: &str) -> String {
    let purchases = home.purchases.iter();
    let purchases: Vec<String> = purchases.map(|one| format!("\n         {one:?}")).collect();
    format!("{words}{}\n       {}", purchases.concat(), crowd.again())
}

/// Each notification that was answered 2xx is kept, once, and worked in.
pub(super) async fn delivered(stack: &Stack, db: &Db, seen: &mut Seen) -> anyhow::Result<()> {
    let told = stack.sandbox.notifications();
    let mut copies: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for row in audit::notifications(db).await? {
        let copy = copies.entry(row.event_id).or_default();
        *copy = (copy.0 + 1, row.status);
    }
    let mut deliveries = 0;
    for one in &told {
        let sent = one.attempts.iter();
        let taken = sent.filter(|attempt| attempt.result == AttemptResult::Success);
        let taken = taken.count();
        deliveries += taken;
        seen.repeated += taken.saturating_sub(1);
        seen.lost += usize::from(one.state == DeliveryState::Dropped);
        for sin in &one.sins {
            if let DeliverySin::Delay { seconds } = sin {
                seen.late += 1;
                seen.late_days_max = seen.late_days_max.max(seconds / 86_400);
            }
        }
        if taken == 0 {
            continue;
        }
        seen.kept += 1;
        match copies.get(&one.id) {
            Some((1, status)) if status == "processed" || status == "ignored" => {}
            Some((count, status)) => seen.broke(
                "I2",
                format!("acknowledged: {}; kept {count} times, {status}", one.id),
            ),
            None => seen.broke("I2", format!("acknowledged and not kept: {}", one.id)),
        }
    }
    seen.signals = deliveries as u64 + seen.binds + seen.refreshes;
    Ok(())
}

/// What the books say of themselves.
pub(super) async fn books(db: &Db, seen: &mut Seen) -> anyhow::Result<()> {
    for left in audit::open_work(db).await? {
        let words = format!("left undone: {} ({} times)", left.what, left.count);
        seen.broke("I2", words);
    }
    for id in audit::booked_twice(db).await? {
        seen.broke("I2", format!("booked twice: {id}"));
    }
    for row in audit::revisions(db).await? {
        seen.revisions += row.revision;
        if row.told != row.revision || row.last != row.revision {
            let words = format!(
                "account {} is at revision {}; its events tell {}, up to {}",
                row.account, row.revision, row.told, row.last
            );
            seen.broke("I5", words.clone());
            seen.broke("I6", words);
        }
    }
    let more = seen.broken.len().saturating_sub(TOLD_MAX);
    if more > 0 {
        seen.broken.truncate(TOLD_MAX);
        seen.broke("I3", format!("and {more} more"));
    }
    Ok(())
}
