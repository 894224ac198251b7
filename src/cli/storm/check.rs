//! The history and the stores' truth against the books. A truth that cannot be read is an error,
//! never an empty one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use super::history::{History, Line};
use crate::cli::client::Client;
use crate::cli::token;
use crate::proto::consistency::Requirement;
use crate::proto::{Consistency, EntitlementSnapshot, GetEntitlementsRequest};
use crate::sandbox::{PurchaseTruth, Sandbox};
use crate::storage::{Db, audit};

/// How long work that is left may take once nobody kills anybody any more.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Broken promises that are told one by one; beyond, they are only counted.
const FINDINGS_MAX: usize = 20;

/// All that is compared.
pub(super) struct Evidence<'a> {
    pub(super) history: &'a History,
    pub(super) db: &'a Db,
    pub(super) sandbox: &'a Sandbox,
    pub(super) server: &'a str,
    pub(super) secret: &'a str,
    pub(super) customers: &'a [String],
}

/// What the comparison came to.
pub(super) struct Checked {
    pub(super) kept_unacknowledged: i64,
    pub(super) findings: Vec<String>,
}

pub(super) async fn check(evidence: &Evidence<'_>) -> anyhow::Result<Checked> {
    let mut findings = settled(evidence.db).await?;
    let history = evidence.history.read()?;
    ensure!(!evidence.customers.is_empty(), "nobody came");
    let acknowledged = webhooks(evidence.db, &history, &mut findings).await?;
    binds(evidence.db, &history, &mut findings).await?;
    once(evidence.db, &mut findings).await?;
    truth(evidence, &history, &mut findings).await?;
    let deliveries = audit::deliveries(evidence.db).await?;
    let told = findings.len();
    if told > FINDINGS_MAX {
        findings.truncate(FINDINGS_MAX);
        findings.push(format!("and {} more", told - FINDINGS_MAX));
    }
    Ok(Checked {
        kept_unacknowledged: deliveries - acknowledged,
        findings,
    })
}

/// Waits until nothing is left to do.
async fn settled(db: &Db) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let open = audit::open_work(db).await?;
        if open.is_empty() {
            return Ok(Vec::new());
        }
        if Instant::now() > deadline {
            let seconds = SETTLED_WITHIN.as_secs();
            let told = open.iter().map(|open| {
                let (what, count) = (&open.what, open.count);
                format!("not done within {seconds} s: {what} ({count} times)")
            });
            return Ok(told.collect());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Each acknowledged notification is kept, once, and worked in. How many acknowledgements there were.
async fn webhooks(db: &Db, history: &[Line], findings: &mut Vec<String>) -> anyhow::Result<i64> {
    let kept = audit::notifications(db).await?;
    let mut copies: HashMap<(&str, &str), (u32, &str)> = HashMap::new();
    for row in &kept {
        let copy = copies.entry((&row.source, &row.event_id)).or_default();
        *copy = (copy.0 + 1, &row.status);
    }
    let mut acknowledged = 0;
    let mut ids = BTreeSet::new();
    for line in history {
        if let Line::Webhook { source, id } = line {
            acknowledged += 1;
            ids.insert((source.as_str(), id.as_str()));
        }
    }
    ensure!(acknowledged > 0, "no webhook was acknowledged");
    for (source, id) in ids {
        match copies.get(&(source, id)) {
            None => findings.push(format!("lost: the {source} notification {id}")),
            Some((1, "processed" | "ignored")) => {}
            Some((copies, status)) => findings.push(format!(
                "the {source} notification {id}: {copies} copies, {status}"
            )),
        }
    }
    Ok(acknowledged)
}

/// Each acknowledged bind holds: the purchase belongs to that account, and changed hands once.
async fn binds(db: &Db, history: &[Line], findings: &mut Vec<String>) -> anyhow::Result<()> {
    let owned = audit::owners(db).await?;
    let by_alias: HashMap<&str, &audit::Owned> =
        owned.iter().map(|row| (row.alias.as_str(), row)).collect();
    for row in &owned {
        if row.changes > 1 {
            findings.push(format!(
                "owned {} times: {}",
                row.changes,
                redacted(&row.alias)
            ));
        }
    }
    for line in history {
        let Line::Bound {
            account, purchase, ..
        } = line
        else {
            continue;
        };
        let owner = by_alias.get(purchase.as_str()).and_then(|row| row.owner);
        if owner.map(|owner| owner.to_string()).as_deref() != Some(account) {
            findings.push(format!(
                "lost: the bind of {} to {account}; it is {owner:?}'s",
                redacted(purchase)
            ));
        }
    }
    Ok(())
}

/// No transaction is booked twice, and no revision is skipped or told by nobody.
async fn once(db: &Db, findings: &mut Vec<String>) -> anyhow::Result<()> {
    for id in audit::booked_twice(db).await? {
        findings.push(format!("booked twice: the transaction {}", redacted(&id)));
    }
    let accounts = audit::revisions(db).await?;
    ensure!(!accounts.is_empty(), "no account has a snapshot");
    for row in accounts {
        if row.told != row.revision || row.last != row.revision {
            findings.push(format!(
                "the account {} is at revision {}; its events tell {}, up to {}",
                row.account, row.revision, row.told, row.last
            ));
        }
    }
    Ok(())
}

/// Everybody has exactly what the stores say, at no older a revision than an app has seen.
async fn truth(
    evidence: &Evidence<'_>,
    history: &[Line],
    findings: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mut seen: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
    for line in history {
        if let Line::Bound {
            account,
            epoch,
            revision,
            ..
        } = line
        {
            let latest = seen.entry(account).or_insert((epoch, *revision));
            latest.1 = latest.1.max(*revision);
        }
    }
    let names: HashSet<&String> = evidence.customers.iter().collect();
    for name in names {
        let snapshot = read(evidence, name).await.with_context(|| name.clone())?;
        let purchases = evidence.sandbox.purchases(name);
        for (entitlement, expected) in expected(&purchases) {
            let told = snapshot
                .entitlements
                .iter()
                .find(|told| told.id == entitlement)
                .with_context(|| format!("no {entitlement} in the snapshot"))?;
            if told.active != expected {
                findings.push(format!(
                    "{name}: {entitlement} is {}, the store says {expected}",
                    told.active
                ));
            }
        }
        let coins: i64 = snapshot.credits.iter().map(|credit| credit.balance).sum();
        let bought = coins_of(&purchases);
        if coins != bought {
            findings.push(format!("{name}: {coins} coins, the store says {bought}"));
        }
        let account = snapshot
            .account
            .map(|account| account.id)
            .unwrap_or_default();
        if let Some((epoch, revision)) = seen.get(account.as_str())
            && (*epoch != snapshot.epoch || *revision > snapshot.revision)
        {
            findings.push(format!(
                "{name}: an app has seen revision {revision}, it is {} now",
                snapshot.revision
            ));
        }
    }
    Ok(())
}

/// What the example catalog grants for these purchases.
fn expected(purchases: &[PurchaseTruth]) -> [(&'static str, bool); 2] {
    let mut pro = false;
    let mut export = false;
    let lasting = |purchase: &&PurchaseTruth| purchase.entitled && !is_coins(purchase);
    for purchase in purchases.iter().filter(lasting) {
        let plan = purchase.base_plan_id.as_deref().unwrap_or_default();
        let forever = purchase.product_id == "com.example.export";
        pro |= !forever;
        export |= forever || purchase.product_id.ends_with("yearly") || plan.ends_with("yearly");
    }
    [("pro_access", pro), ("export", export)]
}

fn is_coins(purchase: &PurchaseTruth) -> bool {
    purchase.product_id.contains("coins")
}

/// A hundred for each piece that was not given back.
fn coins_of(purchases: &[PurchaseTruth]) -> i64 {
    let coins = purchases
        .iter()
        .filter(|purchase| purchase.entitled && is_coins(purchase));
    coins
        .map(|purchase| i64::from(purchase.quantity) * 100)
        .sum()
}

async fn read(evidence: &Evidence<'_>, name: &str) -> anyhow::Result<EntitlementSnapshot> {
    let credential = token::mint(evidence.secret, name, token::DAY)?;
    let mut client = Client::connect(evidence.server, &credential).await?;
    let request = GetEntitlementsRequest {
        as_of: None,
        consistency: Some(Consistency {
            requirement: Some(Requirement::FullyConsistent(true)),
        }),
        account: String::new(),
    };
    let answer = client.inner.get_entitlements(request).await?.into_inner();
    answer.snapshot.context("no snapshot")
}

/// Enough to find it by: a purchase token is a secret.
fn redacted(id: &str) -> String {
    let head: String = id.chars().take(8).collect();
    format!("{head}…")
}
