//! The catalog: applied as a numbered version, active on every replica. What a change would do is
//! counted before it happens; what payers would lose needs somebody's word.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::Core;
use super::count_effect::{Ground, count_effect};
use crate::domain::catalog::diff::{Change, diff, may_take};
use crate::domain::catalog::doubt::doubts;
use crate::domain::catalog::effect::Effect;
use crate::domain::catalog::{ApplyNote, Catalog, CatalogFile};
use crate::domain::ids::CatalogVersion;
use crate::storage::catalogs::{Applied, NewVersion, Told};
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
    #[error("{}", unconfirmed(*.payers, *.unreadable, *.confirmed))]
    Loses {
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
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn unconfirmed(payers: u64, unreadable: u64, confirmed: u64) -> String {
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
         that is meant, repeat with --confirm-loss {}",
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
    pub(crate) catalog: Catalog,
    pub(crate) body: String,
    pub(crate) changes: Vec<Change>,
    /// `None`: there is nothing to lose, and it was not asked for.
    pub(crate) effect: Option<Effect>,
}

impl Plan {
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
}

/// How much of a plan is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    Always,
    /// Only if somebody may have less by it.
    IfItTakes,
}

/// Finds out what a change would do. `progress` hears how many accounts were counted, of how many.
pub(crate) async fn plan(
    ground: &Ground<'_>,
    wanted: Wanted<'_>,
    counting: Counting,
    progress: impl FnMut(u64, u64),
) -> Result<Plan, CatalogError> {
    let body = match wanted {
        Wanted::Text(text) => text.to_owned(),
        Wanted::Version(version) => {
            let kept = catalogs::get(ground.db, version).await?;
            kept.ok_or(CatalogError::Unknown(version.0))?.body
        }
    };
    let active = catalogs::newest(ground.db).await?;
    let same = active.as_ref().filter(|active| active.body == body);
    let version = same.map_or(CatalogVersion(0), |active| active.version);
    let catalog = parse(&body, version)?;
    let base = active.as_ref().map(|active| active.version);
    let Some(active) = active.filter(|active| active.body != body) else {
        return Ok(Plan {
            base,
            catalog,
            body,
            changes: Vec::new(),
            effect: None,
        });
    };
    let old = parse(&active.body, active.version)?;
    let counted = match counting {
        Counting::Always => true,
        Counting::IfItTakes => may_take(old.file(), catalog.file()),
    };
    let effect = match counted {
        true => Some(count_effect(ground, &old, &catalog, progress).await?),
        false => None,
    };
    Ok(Plan {
        base,
        changes: diff(old.file(), catalog.file()),
        catalog,
        body,
        effect,
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
pub(crate) async fn apply(
    ground: &Ground<'_>,
    plan: &Plan,
    order: &Order<'_>,
) -> Result<CatalogVersion, CatalogError> {
    if plan.is_active() {
        return Ok(plan.catalog.version());
    }
    let (losing, unreadable) = plan
        .effect
        .as_ref()
        .map_or((0, 0), |effect| (effect.to_confirm(), effect.unreadable));
    let note = plan.note(order);
    let consent = note.map_or(0, |note| note.confirm_loss);
    let confirmed = order.confirm_loss.unwrap_or(0).max(consent);
    if losing > confirmed {
        return Err(CatalogError::Loses {
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
        effect: plan.effect.as_ref(),
        confirmed_loss: (losing > 0).then_some(confirmed),
        at: ground.now,
    };
    match catalogs::add(ground.db, plan.base, &new).await? {
        Ok(version) => Ok(version),
        Err(newest) => Err(CatalogError::Superseded {
            newest: newest.map_or(0, |version| version.0),
        }),
    }
}

/// Applies the file that a server was started with, while it serves by what is active. What keeps it
/// from becoming active keeps no server from its work: the active version stays, and the refusal is
/// an alarm (`entitled_catalog_file_refused`). `text`: or why the file cannot be read.
pub(crate) async fn apply_start_file(core: &Core, text: Result<String, String>) {
    let refuse = |cause: &str| {
        metrics::gauge!("entitled_catalog_file_refused").set(1.0);
        error!(
            active = core.catalog.load().version().0,
            cause,
            "the catalog file is not applied; the active version stays. Look at `entitled catalog \
             diff FILE`; consent belongs into the file: [apply] replaces and confirm_loss"
        );
    };
    let text = match text {
        Ok(text) => text,
        Err(cause) => return refuse(&cause),
    };
    loop {
        let ground = Ground {
            db: &core.db,
            leniency: core.policy.leniency,
            now: core.clock.now(),
        };
        match start_with(&ground, &text).await {
            Ok(_) => {
                metrics::gauge!("entitled_catalog_file_refused").set(0.0);
                if let Err(error) = follow(core).await {
                    warn!(%error, "the catalog is taken up later");
                }
                return;
            }
            Err(CatalogError::Storage(error)) => {
                warn!(%error, "the catalog file is looked at later");
                tokio::time::sleep(START_PAUSE).await;
            }
            Err(refused) => {
                refuse(&refused.to_string());
                let _ = core.refused_catalog.set(text);
                return;
            }
        }
    }
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
    let plan = plan(
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
    let version = apply(ground, &plan, &order).await?;
    info!(version = version.0, "catalog applied");
    load(ground.db).await
}

/// The active catalog.
pub(crate) async fn load(db: &Db) -> Result<Catalog, CatalogError> {
    let applied = catalogs::newest(db).await?.ok_or(CatalogError::None)?;
    parse(&applied.body, applied.version)
}

/// Takes up a version that another replica has applied.
pub(crate) async fn follow(core: &Core) -> Result<(), StorageError> {
    let newest = catalogs::newest_version(&core.db).await?;
    if newest == Some(core.catalog.load().version()) {
        return Ok(());
    }
    match load(&core.db).await {
        Ok(catalog) => {
            info!(version = catalog.version().0, "catalog taken up");
            core.catalog.store(Arc::new(catalog));
            core.hub.forget_nothings();
            core.catalog_taken_up.notify_one();
        }
        Err(CatalogError::Storage(error)) => return Err(error),
        Err(error) => error!(%error, "a newer catalog cannot be read; the former stays"),
    }
    if let Some(file) = core.refused_catalog.get()
        && catalogs::with_body(&core.db, file).await?.is_some()
    {
        metrics::gauge!("entitled_catalog_file_refused").set(0.0);
    }
    Ok(())
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
        let behind = match active == Some(told.version) {
            true => Some(catalogs::behind(db, told.version).await?),
            false => None,
        };
        stories.push(Story { told, behind });
    }
    Ok(stories)
}

/// The handle that flows and hub share.
pub(crate) fn handle(catalog: Catalog) -> Arc<ArcSwap<Catalog>> {
    Arc::new(ArcSwap::from_pointee(catalog))
}
