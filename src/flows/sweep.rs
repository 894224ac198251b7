//! Sweep: look at the stores for what was not delivered, and put it in front of ingress.

use std::time::Duration;

use tracing::{info, warn};

use super::Core;
use crate::domain::catalog::App;
use crate::domain::provider::{Environment, Provider};
use crate::domain::sweep::{Ask, Progress, Rule, Run, Why, reach};
use crate::domain::time::Instant;
use crate::providers::contract::{FetchError, SweepPage, SweepRequest};
use crate::storage::ingress::{self, NewRow};
use crate::storage::{StorageError, budget, job_cursors};

/// The job's name in `job_cursors`.
pub(crate) const JOB: &str = "sweep";
/// The longest that one page may take; a replica that dies with a subject keeps it for so long.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
const LEASE: Duration = Duration::from_secs(60);

/// What is looked at by itself: one app of one store in one of its worlds.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) provider: Provider,
    pub(crate) environment: Environment,
    pub(crate) app: App,
}

impl Target {
    /// Its name in `job_cursors`, in the log and for operators.
    pub(crate) fn subject(&self) -> String {
        format!(
            "{}/{}/{}",
            self.provider,
            self.app.id,
            self.environment.as_str()
        )
    }

    fn rule(&self, core: &Core) -> Rule {
        let healing = &core.healing;
        let (every, overlap) = match self.provider {
            Provider::AppStore => (healing.history_every, healing.history_overlap),
            Provider::GooglePlay => (healing.voided_every, healing.voided_overlap),
        };
        Rule {
            every,
            overlap,
            reach: reach(self.provider, self.environment),
        }
    }
}

/// Everything that the catalog and the configuration give reason to look at.
pub(crate) fn targets(core: &Core) -> Vec<Target> {
    let catalog = core.catalog.load();
    let mut targets = Vec::new();
    for app in catalog.apps() {
        if core.stores.app_store.is_some() && app.bundle_id.is_some() {
            for environment in &core.healing.app_store_environments {
                targets.push(Target {
                    provider: Provider::AppStore,
                    environment: *environment,
                    app: app.clone(),
                });
            }
        }
        if core.stores.google_play.is_some() && app.package_name.is_some() {
            // One list for real and for testers' purchases.
            targets.push(Target {
                provider: Provider::GooglePlay,
                environment: Environment::Production,
                app: app.clone(),
            });
        }
    }
    targets
}

/// Where one target stands.
pub(crate) async fn stand(
    core: &Core,
    target: &Target,
) -> Result<job_cursors::Stand<Progress, Ask>, StorageError> {
    job_cursors::read(&core.db, JOB, &target.subject()).await
}

/// Has `targets` looked at from `ask.since` on.
pub(crate) async fn ask(core: &Core, targets: &[Target], ask: Ask) -> Result<(), StorageError> {
    let mut tx = core.db.begin().await?;
    let now = core.clock.now();
    for target in targets {
        job_cursors::ask(&mut tx, JOB, &target.subject(), ask, Ask::join, now).await?;
    }
    tx.commit().await.map_err(StorageError::from)?;
    Ok(())
}

/// How a step of a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stepped {
    /// There is nothing to look at now.
    Rests,
    /// Another replica is at it, or the store's budget is needed elsewhere.
    Busy,
    /// A page was taken; the run as it stands, and whether it is over.
    Page { run: Run, done: bool },
    /// The store did not answer; tried again later.
    Failed(String),
}

/// Takes one page of one target, if there is one to take.
pub(crate) async fn step(core: &Core, target: &Target) -> Result<Stepped, StorageError> {
    let rule = target.rule(core);
    let subject = target.subject();
    let seen = stand(core, target).await?;
    if seen.held {
        return Ok(Stepped::Busy);
    }
    if seen
        .cursor
        .next(seen.asked, rule, core.clock.now())
        .is_none()
    {
        return Ok(Stepped::Rests);
    }
    if !may_call(core, target.provider).await? {
        return Ok(Stepped::Busy);
    }
    if !job_cursors::hold(&core.db, JOB, &subject, LEASE, core.clock.now()).await? {
        return Ok(Stepped::Busy);
    }
    let stepped = take_page(core, target, &subject, rule).await;
    if !matches!(stepped, Ok(Stepped::Page { .. })) {
        job_cursors::release(&core.db, JOB, &subject).await?;
    }
    stepped
}

/// Sweeps come after everything else that needs the store.
async fn may_call(core: &Core, provider: Provider) -> Result<bool, StorageError> {
    let per_second = core.tuning.calls_per_second(provider);
    budget::take(&core.db, provider, 1.0, per_second, per_second * 4.0).await
}

async fn take_page(
    core: &Core,
    target: &Target,
    subject: &str,
    rule: Rule,
) -> Result<Stepped, StorageError> {
    let now = core.clock.now();
    // What was seen before may have been done by another replica meanwhile.
    let mut stand = stand(core, target).await?;
    let begun_before = stand.cursor.run.is_some();
    let Some(run) = stand.cursor.next(stand.asked, rule, now) else {
        return Ok(Stepped::Rests);
    };
    // A run that was under way is not the work of an ask that came since.
    let taken_up = stand.asked.filter(|_| !begun_before);
    let page = match look(core, target, &run).await {
        Ok(page) => page,
        Err(error) => {
            let provider = target.provider.as_str();
            metrics::counter!("entitled_backfill_failures_total", "source" => provider)
                .increment(1);
            warn!(subject, %error, "a store could not be looked at for what was not delivered");
            if run.page.is_some() && !matches!(error, FetchError::Away { .. }) {
                // A page's token does not live for ever.
                stand.cursor.begin_anew(run);
            } else if begun_before {
                stand.cursor.run = Some(run);
            } else {
                // Nothing was begun: an ask stays open, and the next look measures its stretch anew.
                return Ok(Stepped::Failed(error.to_string()));
            }
            let saved = (&stand.cursor, taken_up.as_ref());
            job_cursors::save(&core.db, JOB, subject, saved.0, saved.1, now).await?;
            return Ok(Stepped::Failed(error.to_string()));
        }
    };
    let found = page.found.len() as u64;
    let recovered = keep(core, target.provider, page.found.into_iter().map(row), now).await?;
    stand
        .cursor
        .advance(run.clone(), found, recovered, page.next);
    job_cursors::save(
        &core.db,
        JOB,
        subject,
        &stand.cursor,
        taken_up.as_ref(),
        now,
    )
    .await?;
    let done = stand.cursor.run.is_none();
    let run = stand
        .cursor
        .run
        .clone()
        .or_else(|| stand.cursor.last.clone())
        .unwrap_or(run);
    note(target, &run, found, recovered, done);
    Ok(Stepped::Page { run, done })
}

fn row(found: crate::providers::contract::Found) -> (String, Vec<u8>) {
    (found.event_id, found.body.to_vec())
}

async fn look(core: &Core, target: &Target, run: &Run) -> Result<SweepPage, FetchError> {
    let request = SweepRequest {
        app: &target.app,
        environment: target.environment,
        since: run.since,
        until: run.until,
        only_failures: run.only_failures,
        cursor: run.page.as_deref(),
    };
    let call = core.stores.sweep(target.provider, request);
    tokio::time::timeout(PAGE_TIMEOUT, call)
        .await
        .unwrap_or_else(|_| Err(FetchError::away("no page in time")))
}

/// Puts what was found where deliveries go; tells how much of it was new.
async fn keep(
    core: &Core,
    provider: Provider,
    found: impl Iterator<Item = (String, Vec<u8>)>,
    now: Instant,
) -> Result<u64, StorageError> {
    let rows: Vec<NewRow> = found
        .map(|(event_id, body)| NewRow {
            source: provider.as_str(),
            event_id,
            body,
            received_at: now,
            swept: true,
        })
        .collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let recovered = ingress::insert(&core.db, &rows).await?;
    if recovered > 0 {
        core.received.notify_one();
    }
    Ok(recovered)
}

fn note(target: &Target, run: &Run, found: u64, recovered: u64, done: bool) {
    let provider = target.provider.as_str();
    metrics::counter!("entitled_backfill_pages_total", "source" => provider).increment(1);
    metrics::counter!("entitled_backfill_found_total", "source" => provider).increment(found);
    metrics::counter!("entitled_backfill_recovered_total", "source" => provider)
        .increment(recovered);
    let worth_telling = run.why != Why::Routine || run.recovered > 0;
    if done && worth_telling {
        info!(subject = target.subject(), why = run.why.as_str(), since = %run.since,
            until = %run.until, pages = run.pages, found = run.found, recovered = run.recovered,
            "the store was looked at for what was not delivered");
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swept {
    Nothing,
    Pages,
    /// A store did not answer.
    Away,
}

/// One page of everything that has one to take.
pub(crate) async fn sweep_round(core: &Core) -> Result<Swept, StorageError> {
    let mut swept = Swept::Nothing;
    for target in targets(core) {
        match step(core, &target).await? {
            Stepped::Page { .. } if swept == Swept::Nothing => swept = Swept::Pages,
            Stepped::Failed(_) => swept = Swept::Away,
            Stepped::Page { .. } | Stepped::Rests | Stepped::Busy => {}
        }
    }
    Ok(swept)
}
