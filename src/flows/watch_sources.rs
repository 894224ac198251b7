//! Watch the sources: are we there to be told, and is anybody telling us?

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::{Core, sweep};
use crate::domain::provider::Provider;
use crate::domain::silence::{self, Judged, LEARNED_FROM, Verdict};
use crate::domain::sweep::{Ask, Why, reach};
use crate::domain::time::Instant;
use crate::storage::{StorageError, activity, job_cursors, snapshots};

const HEARTBEAT: &str = "heartbeat";
const SILENCE: &str = "silence";
/// What stores were telling when we went away may have been told a little before.
const BEFORE_OUTAGE: TimeDelta = TimeDelta::hours(1);

/// The last sign of life of whatever takes notifications here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Heartbeat {
    #[serde(default)]
    beat: Option<Beat>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Beat {
    /// Machine time, by the database's clock.
    machine: Instant,
    /// Business time.
    business: Instant,
    /// Changes when the database has gone back in time.
    epoch: String,
}

/// What a heartbeat brought to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noticed {
    Nothing,
    /// Nobody took notifications for a while.
    Outage,
    /// The database is not the one it was.
    Restore,
}

/// Says that notifications are taken here, and has the stores asked for what they could not tell
/// while they were not, or what the database has forgotten.
pub(crate) async fn beat(core: &Core) -> Result<Noticed, StorageError> {
    let epoch = snapshots::epoch(&core.db).await?.to_string();
    let business = core.clock.now();
    let mut tx = core.db.begin().await?;
    let last: Heartbeat = job_cursors::lock(&mut tx, HEARTBEAT, "", business).await?;
    let machine = job_cursors::machine_now(&mut tx).await?;
    let outage_after =
        TimeDelta::from_std(core.healing.outage_after).unwrap_or(TimeDelta::minutes(5));
    let noticed = match &last.beat {
        None => Noticed::Nothing,
        Some(last) if last.epoch != epoch => Noticed::Restore,
        Some(last) if machine - last.machine > outage_after => Noticed::Outage,
        Some(_) => Noticed::Nothing,
    };
    if let (Some(last), Noticed::Outage | Noticed::Restore) = (&last.beat, noticed) {
        for target in sweep::targets(core) {
            let wish = wish(&target, last.business, noticed, business);
            let subject = target.subject();
            job_cursors::ask(&mut tx, sweep::JOB, &subject, wish, Ask::join, business).await?;
        }
    }
    let beat = Heartbeat {
        beat: Some(Beat {
            machine,
            business,
            epoch,
        }),
    };
    job_cursors::put(&mut tx, HEARTBEAT, "", &beat, business).await?;
    tx.commit().await.map_err(StorageError::from)?;
    if let Some(last) = last.beat {
        match noticed {
            Noticed::Nothing => {}
            Noticed::Outage => warn!(since = %last.business,
                "nobody took notifications for a while; the stores are asked what they told"),
            Noticed::Restore => warn!(since = %last.business,
                "the database has gone back in time; the stores are asked for all since then"),
        }
    }
    Ok(noticed)
}

fn wish(target: &sweep::Target, last: Instant, noticed: Noticed, now: Instant) -> Ask {
    match target.provider {
        Provider::AppStore => Ask {
            since: last - BEFORE_OUTAGE,
            // What had reached us is forgotten by a restored database, and not by Apple.
            only_failures: noticed == Noticed::Outage,
            why: if noticed == Noticed::Outage {
                Why::Outage
            } else {
                Why::Restore
            },
        },
        // One list, short: all that the store tells.
        Provider::GooglePlay => Ask {
            since: now - reach(target.provider, target.environment),
            only_failures: true,
            why: if noticed == Noticed::Outage {
                Why::Outage
            } else {
                Why::Restore
            },
        },
    }
}

/// A source as the watchdog sees it.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) source: &'static str,
    /// `None`: it has never said anything.
    pub(crate) judged: Option<Judged>,
}

/// Whether the silence of a source has been said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Said {
    #[serde(default)]
    silent_since: Option<Instant>,
}

/// Every source that is configured, judged.
pub(crate) async fn judge(core: &Core) -> Result<Vec<Heard>, StorageError> {
    let now = core.clock.now();
    let mut heard = Vec::new();
    for source in core
        .healing
        .sources
        .iter()
        .copied()
        .collect::<BTreeSet<_>>()
    {
        let last = activity::last_heard(&core.db, source).await?;
        let from = last.unwrap_or(now) - LEARNED_FROM;
        let hours = activity::since(&core.db, source, from).await?;
        let judged = silence::judge(&hours, last, core.healing.silence_expected_min, now);
        heard.push(Heard { source, judged });
    }
    Ok(heard)
}

/// Counts what came, and says once when a source has fallen silent and when it speaks again.
pub(crate) async fn listen(core: &Core) -> Result<(), StorageError> {
    let now = core.clock.now();
    activity::count(&core.db, now - LEARNED_FROM).await?;
    for heard in judge(core).await? {
        let Some(judged) = heard.judged else {
            continue;
        };
        let source = heard.source;
        metrics::gauge!("entitled_source_silence_seconds", "source" => source)
            .set(judged.silent_for.num_seconds() as f64);
        metrics::gauge!("entitled_source_missed", "source" => source).set(judged.expected);
        let silent = judged.verdict == Verdict::Silent;
        metrics::gauge!("entitled_source_silent", "source" => source).set(if silent {
            1.0
        } else {
            0.0
        });
        note(core, source, &judged, now).await?;
    }
    Ok(())
}

async fn note(
    core: &Core,
    source: &'static str,
    judged: &Judged,
    now: Instant,
) -> Result<(), StorageError> {
    let mut tx = core.db.begin().await?;
    let said: Said = job_cursors::lock(&mut tx, SILENCE, source, now).await?;
    let since = now - judged.silent_for;
    let silent_since = (judged.verdict == Verdict::Silent).then_some(since);
    if said.silent_since == silent_since {
        tx.rollback().await.map_err(StorageError::from)?;
        return Ok(());
    }
    if silent_since.is_some() {
        for target in sweep::targets(core) {
            if target.provider.as_str() == source {
                let ask = Ask {
                    since: since - BEFORE_OUTAGE,
                    only_failures: true,
                    why: Why::Outage,
                };
                let subject = target.subject();
                job_cursors::ask(&mut tx, sweep::JOB, &subject, ask, Ask::join, now).await?;
            }
        }
    }
    job_cursors::put(&mut tx, SILENCE, source, &Said { silent_since }, now).await?;
    tx.commit().await.map_err(StorageError::from)?;
    if silent_since.is_some() {
        error!(source, "{}", sentence(source, judged));
    } else {
        info!(source, "the source speaks again");
    }
    Ok(())
}

/// `nothing from google_play for 3 h (usually 40 an hour)`
pub(crate) fn sentence(source: &str, judged: &Judged) -> String {
    let silent = judged.silent_for;
    let how_long = if silent.num_hours() >= 48 {
        format!("{} days", silent.num_days())
    } else if silent.num_minutes() >= 60 {
        format!("{} h", silent.num_hours())
    } else {
        format!("{} min", silent.num_minutes())
    };
    let usual = if judged.per_hour >= 1.0 {
        format!("{:.0} an hour", judged.per_hour)
    } else {
        format!("{:.1} a day", judged.per_hour * 24.0)
    };
    format!("nothing from {source} for {how_long} (usually {usual})")
}
