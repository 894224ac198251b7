//! Examine: everything that can be wrong with a deployment, looked at once: the steps of setting up
//! in their order, then what runs. Changes nothing, but for a test notification that Apple is asked
//! for where none has come lately.

mod app_store;
mod google_play;
mod patience;

use std::borrow::Cow;

use chrono::TimeDelta;
use serde::Serialize;

pub(crate) use patience::{STATEMENT_MAX, Sold};
use patience::{look, slow, slow_step};

use super::{Core, sweep, watch_sources};
use crate::domain::chain::StoreProduct;
use crate::domain::guide::Step;
use crate::domain::provider::{Environment, Provider};
use crate::domain::silence::Verdict;
use crate::domain::time::Instant;
use crate::domain::waiver::{ALARM_LEAD_MAX, REFUNDED_SINCE, near_until};
use crate::storage::sealed::Content;
use crate::storage::{StorageError, diagnosis, duties, rekeying};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Health {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// Of setting up, as the documents count.
    pub(crate) step: Option<Step>,
    pub(crate) what: String,
    pub(crate) health: Health,
    pub(crate) found: String,
    /// What to do; empty if nothing.
    pub(crate) next: Cow<'static, str>,
}

impl Finding {
    pub(crate) fn new(
        what: impl Into<String>,
        health: Health,
        found: impl Into<String>,
        next: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            step: None,
            what: what.into(),
            health,
            found: found.into(),
            next: if health == Health::Ok {
                "".into()
            } else {
                next.into()
            },
        }
    }

    /// The same as a step of setting up, called as the documents call it.
    pub(crate) fn of(
        step: Step,
        health: Health,
        found: impl Into<String>,
        next: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            step: Some(step),
            ..Self::new(step.title(), health, found, next)
        }
    }
}

/// Work that has waited for longer is stuck.
const STUCK_AFTER: TimeDelta = TimeDelta::minutes(10);
const SKEW_MAX: TimeDelta = TimeDelta::seconds(5);
/// Plain documents are counted up to here: that there are more is as good a reason to seal them.
const PLAIN_COUNTED: i64 = 10_000;
/// A source that has spoken so lately is not asked to.
const HEARD_LATELY: TimeDelta = TimeDelta::hours(24);

/// The server's own steps that need the database.
pub(crate) async fn examine_server(core: &Core) -> Result<Vec<Finding>, StorageError> {
    let mut findings = look(slow_step(Step::ENCRYPTION), encryption(core)).await?;
    findings.extend(look(slow_step(Step::CLOCKS), clock_skew(core)).await?);
    findings.push(catalog(core));
    Ok(findings)
}

/// The stores' steps, one after the other as their documents have them.
pub(crate) async fn examine_stores(core: &Core, sold: &Sold) -> Result<Vec<Finding>, StorageError> {
    let mut findings = app_store::examine(core, sold).await?;
    findings.extend(google_play::examine(core, sold).await?);
    if findings.is_empty() {
        findings.push(Finding::new(
            "stores",
            Health::Warn,
            "no store is configured for an app of the catalog",
            "add [app_store] or [google_play], and bundle_id or package_name to the catalog's apps",
        ));
    }
    Ok(findings)
}

/// What runs: whether it is well.
pub(crate) async fn examine(core: &Core, sold: &Sold) -> Result<Vec<Finding>, StorageError> {
    let unmapped = unmapped(core, sold);
    let looked = futures::try_join!(
        look(slow("notifications"), silence(core)),
        look(slow(DUTIES), open_duties(core)),
        look(slow(FORSAKEN), forsaken(core)),
        look(slow("rows"), rows(core)),
        look(slow(WAITING), waiting(core)),
        look(slow("backfill"), walks(core)),
    );
    let (silence, duties, forsaken, rows, waiting, walks) = looked?;
    let wants_attention = [silence, duties, forsaken, vec![unmapped]];
    Ok([wants_attention.concat(), rows, waiting, walks].concat())
}

const DUTIES: &str = "duties";
const FORSAKEN: &str = "purchases about to be refunded";
const PRODUCTS: &str = "products";
const WAITING: &str = "purchases to be read";

async fn clock_skew(core: &Core) -> Result<[Finding; 1], StorageError> {
    let before = crate::clock::Clock::System.now();
    let database = diagnosis::database_time(&core.db).await?;
    let skew = database - before;
    let health = if skew.abs() <= SKEW_MAX {
        Health::Ok
    } else {
        Health::Warn
    };
    Ok([Finding::of(
        Step::CLOCKS,
        health,
        format!("the database's is {} ms ahead", skew.num_milliseconds()),
        "synchronise this machine and the database (NTP): deadlines are judged by both",
    )])
}

async fn encryption(core: &Core) -> Result<[Finding; 1], StorageError> {
    let step = Step::ENCRYPTION;
    let keyring = core.db.keyring();
    let Some(newest) = keyring.newest().filter(|_| keyring.seals()) else {
        let next = "`entitled encryption new-key --out FILE`, and name it in [[encryption.keys]]";
        let found = "what stores send is kept as it came";
        return Ok([Finding::of(step, Health::Warn, found, next)]);
    };
    if !keyring.has_root() {
        let found = format!("key {newest}; the first server that starts begins with it");
        return Ok([Finding::of(step, Health::Ok, found, "")]);
    }
    let plain = match rekeying::plain_up_to(&core.db, PLAIN_COUNTED + 1).await? {
        0 => return Ok([Finding::of(step, Health::Ok, format!("key {newest}"), "")]),
        plain if plain > PLAIN_COUNTED => format!("more than {PLAIN_COUNTED}"),
        plain => plain.to_string(),
    };
    Ok([Finding::of(
        step,
        Health::Warn,
        format!("key {newest}; {plain} rows from before it are plain"),
        "run `entitled encryption seal`",
    )])
}

fn catalog(core: &Core) -> Finding {
    let catalog = core.catalog.load();
    let found = format!(
        "version {}: {} apps, {} products",
        catalog.version().0,
        catalog.apps().len(),
        catalog.products().count()
    );
    Finding::of(Step::CATALOG, Health::Ok, found, "")
}

/// What was sent for an app: its name at the store, and the world where the store has two.
type SentFor = (String, Option<Environment>);

/// Newest test messages of a store that are looked at.
const TESTS: i64 = 50;

/// The newest test messages of a store: when each came, and for what.
async fn tests_of(
    core: &Core,
    provider: Provider,
    since: Instant,
    sent_for: impl Fn(&[u8]) -> Option<SentFor>,
) -> Result<Vec<(Instant, SentFor)>, StorageError> {
    let tests = diagnosis::tests(&core.db, provider.as_str(), since, TESTS).await?;
    let read = tests.into_iter().filter_map(|(at, content)| match content {
        Content::Readable(body) => Some((at, sent_for(&body)?)),
        Content::Erased | Content::Broken(_) => None,
    });
    Ok(read.collect())
}

fn ago(past: TimeDelta) -> String {
    if past.num_hours() >= 48 {
        format!("{} days ago", past.num_days())
    } else if past.num_minutes() >= 120 {
        format!("{} h ago", past.num_hours())
    } else if past.num_seconds() >= 120 {
        format!("{} min ago", past.num_minutes())
    } else {
        "just now".to_owned()
    }
}

/// Whether somebody has bought something at a store.
fn first_purchase(sold: &Sold, step: Step, provider: Provider) -> Finding {
    let Some(sold) = sold.products() else {
        return slow_step(step);
    };
    let purchases: i64 = sold
        .iter()
        .filter(|sold| sold.provider == provider.as_str())
        .map(|sold| sold.purchases)
        .sum();
    match purchases {
        0 => Finding::of(
            step,
            Health::Warn,
            "nothing was bought yet",
            format!(
                "buy something without real money, and follow it: `entitled doctor --wait`; {} says how",
                step.guide.document()
            ),
        ),
        known => Finding::of(step, Health::Ok, format!("{known} purchases are known"), ""),
    }
}

async fn silence(core: &Core) -> Result<Vec<Finding>, StorageError> {
    let heard = watch_sources::judge(core).await?;
    let findings = heard.into_iter().map(|heard| {
        let what = format!("notifications {}", heard.source);
        let next = "check the notification URL at the store, what stands in front of the webhook \
                    listener, and entitled_notifications_rejected_total";
        let Some(judged) = heard.judged else {
            let found = "nothing has ever come";
            return Finding::new(what, Health::Warn, found, next);
        };
        let (health, found) = match judged.verdict {
            Verdict::Silent => (Health::Fail, watch_sources::sentence(heard.source, &judged)),
            Verdict::Usual | Verdict::Learning => (
                Health::Ok,
                format!(
                    "last {} min ago, usually {:.1} an hour{}",
                    judged.silent_for.num_minutes(),
                    judged.per_hour,
                    if judged.verdict == Verdict::Learning {
                        " (too new to judge)"
                    } else {
                        ""
                    }
                ),
            ),
        };
        Finding::new(what, health, found, next)
    });
    Ok(findings.collect())
}

async fn open_duties(core: &Core) -> Result<[Finding; 1], StorageError> {
    let now = core.clock.now();
    let (near, first) = duties::near_deadline(&core.db, &near_until(now)).await?;
    let consent = duties::waiting(&core.db).await?;
    let health = match &first {
        Some(first) if first.deadline <= now => Health::Fail,
        Some(_) => Health::Warn,
        None => Health::Ok,
    };
    let mut found = format!("{near} near or past their deadline");
    if let Some(first) = first {
        found = format!(
            "{found}; first {} until {} ({} attempts: {})",
            first.kind,
            first.deadline.format("%F %T"),
            first.attempts,
            first.last_error.as_deref().unwrap_or("not tried yet")
        );
    }
    if consent > 0 {
        found = format!("{found}; {consent} wait for the app's SetConsumption");
    }
    Ok([Finding::new(
        DUTIES,
        health,
        found,
        "run a worker; if the store refuses, check permissions",
    )])
}

async fn forsaken(core: &Core) -> Result<[Finding; 1], StorageError> {
    let now = core.clock.now();
    let forsaken =
        duties::unacknowledged(&core.db, now - REFUNDED_SINCE, now + ALARM_LEAD_MAX).await?;
    let unowned = forsaken.iter().filter(|purchase| !purchase.owned).count();
    let health = if forsaken.is_empty() {
        Health::Ok
    } else {
        Health::Warn
    };
    Ok([Finding::new(
        FORSAKEN,
        health,
        format!("{} within a day, {unowned} of them unowned", forsaken.len()),
        "unowned: does the app bind what it buys? owned: is the product in the catalog?",
    )])
}

fn unmapped(core: &Core, sold: &Sold) -> Finding {
    let Some(sold) = sold.products() else {
        return slow(PRODUCTS);
    };
    let catalog = core.catalog.load();
    let mut unmapped = Vec::new();
    for sold in sold {
        let product = StoreProduct {
            product_id: sold.product_id.clone(),
            base_plan_id: sold.base_plan_id.clone(),
        };
        let known = Provider::parse(&sold.provider)
            .is_some_and(|provider| catalog.plan(provider, &product).is_some());
        if !known {
            unmapped.push(format!("{} {product} ({})", sold.provider, sold.purchases));
        }
    }
    let health = if unmapped.is_empty() {
        Health::Ok
    } else {
        Health::Warn
    };
    let found = if unmapped.is_empty() {
        "every product is in the catalog".to_owned()
    } else {
        let shown: Vec<_> = unmapped.iter().take(5).cloned().collect();
        format!(
            "{} not in the catalog: {}",
            unmapped.len(),
            shown.join(", ")
        )
    };
    Finding::new(
        PRODUCTS,
        health,
        found,
        "add them to the catalog and apply it: they grant from then on",
    )
}

async fn rows(core: &Core) -> Result<Vec<Finding>, StorageError> {
    let now = core.clock.now();
    let rows = diagnosis::rows(&core.db).await?;
    let mut findings = Vec::new();
    for row in rows {
        let stuck = now - row.oldest > STUCK_AFTER;
        let (health, next) = match row.status.as_str() {
            "failed" => (
                Health::Warn,
                "look at their detail; after an update, `entitled replay` reads them again",
            ),
            "pending" => (Health::Ok, ""),
            _ if stuck => (
                Health::Fail,
                "run a worker: notifications are not being read",
            ),
            _ => (Health::Ok, ""),
        };
        findings.push(Finding::new(
            format!("rows {} {}", row.source, row.status),
            health,
            format!("{}, oldest {}", row.count, row.oldest.format("%F %T")),
            next,
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::new(
            "rows",
            Health::Ok,
            "none failed, none waits",
            "",
        ));
    }
    Ok(findings)
}

async fn waiting(core: &Core) -> Result<[Finding; 1], StorageError> {
    let now = core.clock.now();
    let waiting = diagnosis::waiting(&core.db, now).await?;
    let late = waiting.oldest_due.map(|due| now - due);
    let health = match late {
        Some(late) if late > STUCK_AFTER => Health::Warn,
        Some(_) | None if waiting.failures_max >= 8 => Health::Warn,
        Some(_) | None => Health::Ok,
    };
    let oldest = late.map_or(String::new(), |late| {
        format!(", the oldest for {} min", late.num_minutes())
    });
    Ok([Finding::new(
        WAITING,
        health,
        format!(
            "{} by signal, {} by time{oldest}",
            waiting.dirty, waiting.due
        ),
        "run more workers, or ask the store for more calls (worker.*_calls_per_second)",
    )])
}

async fn walks(core: &Core) -> Result<Vec<Finding>, StorageError> {
    let mut findings = Vec::new();
    for target in sweep::targets(core) {
        let stand = sweep::stand(core, &target).await?;
        let covered = stand.cursor.covered_until;
        let found = match (&stand.cursor.run, covered) {
            (Some(run), _) => format!(
                "under way ({}): {} pages, {} of {} new",
                run.why.as_str(),
                run.pages,
                run.recovered,
                run.found
            ),
            (None, Some(covered)) => format!("everything until {}", covered.format("%F %T")),
            (None, None) => "not begun; a worker does it".to_owned(),
        };
        let what = format!("backfill {}", target.subject());
        let health = if covered.is_some() {
            Health::Ok
        } else {
            Health::Warn
        };
        findings.push(Finding::new(what, health, found, "run a worker"));
    }
    Ok(findings)
}
