//! The catalog: applied as a numbered version, active on every replica. What a change would do is
//! counted before it happens; what payers would lose needs somebody's word.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::Core;
use super::count_effect::{Counted, Ground, count_effect, recount};
use crate::domain::catalog::diff::{Change, diff, may_take};
use crate::domain::catalog::doubt::doubts;
use crate::domain::catalog::effect::Effect;
use crate::domain::catalog::{ApplyNote, Catalog, CatalogFile, TEXT_BYTES_MAX, check_new};
use crate::domain::ids::CatalogVersion;
use crate::storage::catalogs::{Adding, Applied, NewVersion, Told, Underived};
use crate::storage::{Db, StorageError, catalogs};

/// How often a start that loses to another apply looks again.
const STARTS_MAX: u32 = 5;
/// After a failure of the database the file of a start is looked at again.
const START_PAUSE: Duration = Duration::from_secs(2);

/// Why a catalog is not active.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    #[error("the catalog cannot be read: {0}")]
    Syntax(String),
    #[error("the catalog has problems:\n  - {}", .0.join("\n  - "))]
    Unsound(Vec<String>),
    #[error("no catalog has been applied; start once with --catalog FILE")]
    None,
    #[error("there is no version {0}; `entitled catalog history` lists them")]
    Unknown(i64),
    /// Payers would lose, or might, and nobody has agreed to so many.
    #[error("{}", unconfirmed(*.base, *.payers, *.unreadable, *.confirmed))]
    Loses {
        /// The version that they have it by.
        base: i64,
        payers: u64,
        /// Accounts that could not be looked at.
        unreadable: u64,
        confirmed: u64,
    },
    /// Somebody else was faster.
    #[error(
        "version {newest} became active meanwhile and nothing was changed; \
         look at `entitled catalog diff` again and repeat"
    )]
    Superseded { newest: i64 },
    /// What is active holds something that this program does not know.
    #[error(
        "version {version} is active and this program cannot read it: a newer one has applied it. \
         Update this one; or replace that version without counting who loses, with `entitled catalog \
         apply FILE --over-unreadable`\n{cause}"
    )]
    ActiveUnreadable { version: i64, cause: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn unconfirmed(base: i64, payers: u64, unreadable: u64, confirmed: u64) -> String {
    let agreed = match confirmed {
        0 => String::new(),
        some => format!(" and only {some} were agreed to"),
    };
    let doubt = match unreadable {
        0 => String::new(),
        some => format!(", {some} more could not be read and may"),
    };
    format!(
        "{payers} paying accounts would lose something{doubt}{agreed}; nothing was changed. If \
         that is meant, repeat with --replaces {base} --confirm-loss {}",
        payers + unreadable
    )
}

/// Reads and checks a catalog file's text.
pub(crate) fn parse(text: &str, version: CatalogVersion) -> Result<Catalog, CatalogError> {
    let file: CatalogFile =
        toml::from_str(text).map_err(|error| CatalogError::Syntax(error.to_string()))?;
    Catalog::build(file, version).map_err(|problems| {
        let located = problems.iter().map(|problem| problem.located(text));
        CatalogError::Unsound(located.collect())
    })
}

/// Reads and checks the text of a catalog that is to be a new version; the bounds hold for it alone:
/// what is a version already stays readable.
pub(crate) fn parse_new(text: &str) -> Result<Catalog, CatalogError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(CatalogError::Unsound(vec![format!(
            "the file has {} bytes, at most {TEXT_BYTES_MAX}: every process keeps it in memory",
            text.len()
        )]));
    }
    let catalog = parse(text, CatalogVersion(0))?;
    match check_new(catalog.file()) {
        problems if problems.is_empty() => Ok(catalog),
        problems => {
            let located = problems.iter().map(|problem| problem.located(text));
            Err(CatalogError::Unsound(located.collect()))
        }
    }
}

/// Reads what is active.
fn parse_active(active: &Applied) -> Result<Catalog, CatalogError> {
    parse(&active.body, active.version).map_err(|cause| CatalogError::ActiveUnreadable {
        version: active.version.0,
        cause: cause.to_string(),
    })
}

/// What is sound in a catalog and probably not meant, each with its place in the text.
pub(crate) fn doubts_of(text: &str, catalog: &Catalog) -> Vec<String> {
    let doubts = doubts(catalog.file());
    doubts.iter().map(|doubt| doubt.located(text)).collect()
}

/// What becomes active.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// A file's text.
    Text(&'a str),
    /// What an earlier version said.
    Version(CatalogVersion),
}

/// What a change would do, found out without changing anything.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The active version that it is held against.
    pub(crate) base: Option<CatalogVersion>,
    /// This program cannot read the active version: what differs and who loses is not known.
    pub(crate) base_unreadable: bool,
    pub(crate) catalog: Catalog,
    pub(crate) body: String,
    pub(crate) changes: Vec<Change>,
    counted: Option<AgainstOld>,
}

/// A counting, with the catalog that it is held against.
#[derive(Debug)]
struct AgainstOld {
    old: Catalog,
    counted: Counted,
}

impl Plan {
    fn uncounted(catalog: Catalog, body: String, base: Option<CatalogVersion>) -> Self {
        Self {
            base,
            base_unreadable: false,
            catalog,
            body,
            changes: Vec::new(),
            counted: None,
        }
    }

    /// What was counted; `None`: there is nothing to lose, and it was not asked for, or there was
    /// nothing to hold it against.
    pub(crate) fn effect(&self) -> Option<&Effect> {
        self.counted.as_ref().map(|of| &of.counted.effect)
    }

    /// Whether the active version says exactly this already.
    pub(crate) fn is_active(&self) -> bool {
        self.base.is_some_and(|base| base == self.catalog.version())
    }

    /// What the file itself says of this change: only what was reviewed over the active version,
    /// and nothing that an earlier version said of itself.
    fn note(&self, order: &Order<'_>) -> Option<&ApplyNote> {
        let note = self.catalog.file().apply.as_ref();
        note.filter(|note| self.base == Some(CatalogVersion(note.replaces)))
            .filter(|_| order.copy_of.is_none())
    }

    /// Looks again at whoever has changed since they were counted.
    async fn recount(&mut self, ground: &Ground<'_>) -> Result<(), StorageError> {
        match &mut self.counted {
            Some(of) => recount(ground, &of.old, &self.catalog, &mut of.counted).await,
            None => Ok(()),
        }
    }
}

/// How much of a plan is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    Always,
    /// Only if somebody may have less by it.
    IfItTakes,
    /// Nothing if this program cannot read the active version, as somebody has said that it may go.
    UnlessUnreadable,
}

/// Finds out what a change would do. `progress` hears how many accounts were counted, of how many.
pub(crate) async fn plan(
    ground: &Ground<'_>,
    wanted: Wanted<'_>,
    counting: Counting,
    progress: impl FnMut(u64, u64),
) -> Result<Plan, CatalogError> {
    let active = catalogs::newest(ground.db).await?;
    let base = active.as_ref().map(|active| active.version);
    let body = match wanted {
        Wanted::Text(text) => text.to_owned(),
        Wanted::Version(version) => {
            let kept = catalogs::get(ground.db, version).await?;
            kept.ok_or(CatalogError::Unknown(version.0))?.body
        }
    };
    if let Some(same) = active.as_ref().filter(|active| active.body == body) {
        return Ok(Plan::uncounted(parse_active(same)?, body, base));
    }
    let catalog = match wanted {
        Wanted::Text(text) => parse_new(text)?,
        Wanted::Version(_) => parse(&body, CatalogVersion(0))?,
    };
    let Some(active) = active else {
        return Ok(Plan::uncounted(catalog, body, base));
    };
    let old = match parse_active(&active) {
        Err(CatalogError::ActiveUnreadable { .. }) if counting == Counting::UnlessUnreadable => {
            return Ok(Plan {
                base_unreadable: true,
                ..Plan::uncounted(catalog, body, base)
            });
        }
        old => old?,
    };
    let counts = match counting {
        Counting::Always | Counting::UnlessUnreadable => true,
        Counting::IfItTakes => may_take(old.file(), catalog.file()),
    };
    let changes = diff(old.file(), catalog.file());
    let counted = match counts {
        true => {
            let counted = count_effect(ground, &old, &catalog, progress).await?;
            Some(AgainstOld { old, counted })
        }
        false => None,
    };
    Ok(Plan {
        changes,
        counted,
        ..Plan::uncounted(catalog, body, base)
    })
}

/// Who applies a plan and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// apply, rollback, dev, start
    pub(crate) origin: &'static str,
    pub(crate) actor: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) copy_of: Option<CatalogVersion>,
    /// So many payers may lose.
    pub(crate) confirm_loss: Option<u64>,
}

/// Makes a plan the active version; its number. Refused if payers lose and nobody agreed, or if
/// another version became active since it was counted: of two at once, one comes second and is told.
/// Whoever has changed since the counting is counted again, at last while nobody else can apply.
pub(crate) async fn apply(
    ground: &Ground<'_>,
    plan: &mut Plan,
    order: &Order<'_>,
) -> Result<CatalogVersion, CatalogError> {
    if plan.is_active() {
        return Ok(plan.catalog.version());
    }
    plan.recount(ground).await?;
    let adding = Adding::begin(ground.db).await?;
    if adding.newest() != plan.base {
        return Err(CatalogError::Superseded {
            newest: adding.newest().map_or(0, |version| version.0),
        });
    }
    plan.recount(ground).await?;
    let (losing, unreadable) = plan
        .effect()
        .map_or((0, 0), |effect| (effect.to_confirm(), effect.unreadable));
    let note = plan.note(order);
    let consent = note.map_or(0, |note| note.confirm_loss);
    let confirmed = order.confirm_loss.unwrap_or(0).max(consent);
    if losing > confirmed {
        return Err(CatalogError::Loses {
            base: plan.base.map_or(0, |version| version.0),
            payers: losing - unreadable,
            unreadable,
            confirmed,
        });
    }
    let new = NewVersion {
        body: &plan.body,
        origin: order.origin,
        actor: order.actor,
        reason: order
            .reason
            .or_else(|| note.and_then(|note| note.reason.as_deref())),
        copy_of: order.copy_of,
        effect: plan.effect(),
        confirmed_loss: (losing > 0).then_some(confirmed),
        at: ground.now,
    };
    Ok(adding.write(&new).await?)
}

/// Applies the file that a server was started with, while it serves by what is active. What keeps it
/// from becoming active keeps no server from its work: the active version stays, and the refusal is
/// an alarm (`entitled_catalog_file_refused`). `text`: or why the file cannot be read.
pub(crate) async fn apply_start_file(core: &Core, text: Result<String, String>) {
    let refuse = |cause: &str| {
        metrics::gauge!("entitled_catalog_file_refused").set(1.0);
        metrics::gauge!("entitled_catalog_file_is_active").set(0.0);
        error!(
            active = core.catalog.load().version().0,
            cause,
            "the catalog file is not applied; the active version stays. Look at `entitled catalog \
             diff FILE`; consent belongs into the file: [apply] replaces and confirm_loss"
        );
    };
    let text = match text {
        Ok(text) => core.catalog_file.get_or_init(|| text),
        Err(cause) => return refuse(&cause),
    };
    loop {
        let ground = Ground {
            db: &core.db,
            leniency: core.policy.leniency,
            now: core.clock.now(),
        };
        let started = start_with(&ground, text).await;
        let done = match &started {
            Ok(_) => match follow(core).await {
                Ok(()) => tell_file(core).await,
                lost => lost,
            },
            Err(CatalogError::Storage(_)) => Ok(()),
            Err(refused) => return refuse(&refused.to_string()),
        };
        match (started, done) {
            (Err(CatalogError::Storage(error)), _) | (_, Err(error)) => {
                warn!(%error, "the catalog file is looked at later");
                tokio::time::sleep(START_PAUSE).await;
            }
            (Ok(_) | Err(_), Ok(())) => return,
        }
    }
}

/// Says in metrics what the configured file is by now: active, a version that was replaced, or none.
async fn tell_file(core: &Core) -> Result<(), StorageError> {
    let Some(file) = core.catalog_file.get() else {
        return Ok(());
    };
    let known = catalogs::with_body(&core.db, file).await?;
    let active = known.is_some() && known == catalogs::newest_version(&core.db).await?;
    metrics::gauge!("entitled_catalog_file_is_active").set(f64::from(u8::from(active)));
    if known.is_some() {
        metrics::gauge!("entitled_catalog_file_refused").set(0.0);
    }
    Ok(())
}

/// Applies the file that a server starts with, unless it has been a version: a replica that restarts
/// with the file of last week does not take this week's catalog back. Refused if it cannot be read,
/// or if payers would lose by it without the consent that it must carry.
pub(crate) async fn start_with(ground: &Ground<'_>, text: &str) -> Result<Catalog, CatalogError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_start_with(ground, text).await {
            Err(CatalogError::Superseded { .. }) if attempt < STARTS_MAX => {}
            done => return done,
        }
    }
}

async fn try_start_with(ground: &Ground<'_>, text: &str) -> Result<Catalog, CatalogError> {
    if let Some(known) = catalogs::with_body(ground.db, text).await? {
        let active = load(ground.db).await?;
        if active.version() != known {
            warn!(
                file = known.0,
                active = active.version().0,
                "the catalog file was replaced by a newer version; that one stays active"
            );
        }
        return Ok(active);
    }
    let mut plan = plan(
        ground,
        Wanted::Text(text),
        Counting::IfItTakes,
        |done, of| {
            info!(accounts = done, of, "what the catalog file does is counted");
        },
    )
    .await?;
    let order = Order {
        origin: "start",
        actor: None,
        reason: None,
        copy_of: None,
        confirm_loss: None,
    };
    let version = apply(ground, &mut plan, &order).await?;
    info!(version = version.0, "catalog applied");
    load(ground.db).await
}

/// The active catalog.
pub(crate) async fn load(db: &Db) -> Result<Catalog, CatalogError> {
    let applied = catalogs::newest(db).await?.ok_or(CatalogError::None)?;
    parse_active(&applied)
}

/// Takes up the newest version, whoever has applied it. One that this program cannot read is told
/// once: the former stays, and what is decided by it is decided again (`settle`).
pub(crate) async fn follow(core: &Core) -> Result<(), StorageError> {
    let newest = catalogs::newest_version(&core.db).await?;
    if newest.is_none_or(|newest| newest == core.newest_catalog()) {
        return Ok(());
    }
    // One at a time: an earlier one is never taken up after a later one.
    let _alone = core.taking_up_catalog.lock().await;
    let seen = match load(&core.db).await {
        Ok(catalog) => {
            let version = catalog.version();
            if version != core.newest_catalog() {
                info!(version = version.0, "catalog taken up");
                core.catalog.store(Arc::new(catalog));
                core.hub.forget_nothings();
                core.catalog_taken_up.notify_one();
            }
            metrics::gauge!("entitled_catalog_unreadable").set(0.0);
            version
        }
        Err(CatalogError::Storage(error)) => return Err(error),
        Err(CatalogError::ActiveUnreadable { version, cause }) => {
            if core.newest_catalog() != CatalogVersion(version) {
                let former = core.catalog.load().version().0;
                error!(
                    version,
                    former,
                    cause,
                    "a newer catalog cannot be read by this program; the former stays, and \
                     purchases that it decides are looked at again. Update this program"
                );
            }
            metrics::gauge!("entitled_catalog_unreadable").set(1.0);
            CatalogVersion(version)
        }
        Err(error) => {
            error!(%error, "the catalog cannot be taken up");
            return Ok(());
        }
    };
    core.newest_catalog.store(seen.0, Ordering::Release);
    tell_file(core).await
}

/// A catalog as it was, for replay.
pub(crate) async fn version(
    db: &Db,
    version: CatalogVersion,
) -> Result<Option<Catalog>, CatalogError> {
    let applied = catalogs::get(db, version).await?;
    applied
        .map(|Applied { version, body }| parse(&body, version))
        .transpose()
}

/// The newest version with exactly this text, if it has ever been one.
pub(crate) async fn known_as(db: &Db, text: &str) -> Result<Option<CatalogVersion>, StorageError> {
    catalogs::with_body(db, text).await
}

/// The text of a version; of the active one, unless told which.
pub(crate) async fn body(
    db: &Db,
    version: Option<CatalogVersion>,
) -> Result<Applied, CatalogError> {
    let found = match version {
        Some(version) => {
            let found = catalogs::get(db, version).await?;
            found.ok_or(CatalogError::Unknown(version.0))?
        }
        None => catalogs::newest(db).await?.ok_or(CatalogError::None)?,
    };
    Ok(found)
}

/// A version's story and how far accounts have come with it.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) told: Told,
    /// Accounts that it, and every newer one, has not reached. Only of the active version.
    pub(crate) behind: Option<i64>,
    /// Of those: the ones that cannot be derived. Only of the active version.
    pub(crate) underived: Underived,
}

/// Stories of versions up to `until` (inclusive), the newest first.
pub(crate) async fn history(
    db: &Db,
    until: Option<CatalogVersion>,
    limit: i64,
) -> Result<Vec<Story>, StorageError> {
    let active = catalogs::newest_version(db).await?;
    let mut stories = Vec::new();
    for told in catalogs::stories(db, until, limit).await? {
        let (behind, underived) = match active == Some(told.version) {
            true => (
                Some(catalogs::behind(db, told.version).await?),
                catalogs::underived(db, told.version).await?,
            ),
            false => (None, Underived::default()),
        };
        stories.push(Story {
            told,
            behind,
            underived,
        });
    }
    Ok(stories)
}

/// The handle that flows and hub share.
pub(crate) fn handle(catalog: Catalog) -> Arc<ArcSwap<Catalog>> {
    Arc::new(ArcSwap::from_pointee(catalog))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::tests::EXAMPLE;

    #[test]
    fn a_new_text_has_bounds_and_a_version_stays_readable() {
        let long = format!("{EXAMPLE}\n# {}", "x".repeat(TEXT_BYTES_MAX));
        let refused = parse_new(&long).expect_err("too long").to_string();
        assert!(refused.contains("at most 1048576"), "{refused}");
        assert!(parse(&long, CatalogVersion(1)).is_ok());
        assert!(parse_new(EXAMPLE).is_ok());
    }
}
