//! Catalog files on this host: the one that `dev` applies when it is saved, and the one that a
//! server starts with.

use super::told::Planned;
use super::{read, words};
use crate::app::{open, settings::settings};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::CatalogVersion;
use crate::flows::Core;
use crate::flows::apply_catalog::{self, Counting, Order, Wanted};
use crate::flows::count_effect::Ground;
use crate::flows::examine::{Finding, Health};
use crate::storage::Db;

/// What a developer has saved becomes active, whoever loses by it; `None`: it was active.
pub(in crate::cli) async fn apply_saved(
    config: &Config,
    clock: Clock,
    text: &str,
) -> anyhow::Result<Option<CatalogVersion>> {
    let (db, clock) = open(config, Some(clock)).await?;
    let applied = apply(config, &db, &clock, text).await;
    db.close().await;
    applied
}

async fn apply(
    config: &Config,
    db: &Db,
    clock: &Clock,
    text: &str,
) -> anyhow::Result<Option<CatalogVersion>> {
    let ground = Ground {
        db,
        leniency: settings(config).policy.leniency,
        now: clock.now(),
    };
    // Whoever develops goes back to an older program, too.
    let counting = Counting::UnlessUnreadable;
    let mut plan = apply_catalog::plan(&ground, Wanted::Text(text), counting, |_, _| {}).await?;
    if plan.is_active() {
        return Ok(None);
    }
    let summary = words::summary(&plan.catalog);
    words::print_plan(&Planned::here(&plan, ground.now), &summary);
    let order = Order {
        origin: "dev",
        actor: Some("dev"),
        reason: None,
        copy_of: None,
        confirm_loss: Some(u64::MAX),
    };
    Ok(Some(
        apply_catalog::apply(&ground, &mut plan, &order).await?,
    ))
}

/// Whether the catalog file of the configuration is what is active, for `doctor`.
pub(in crate::cli) async fn examine_file(config: &Config, core: &Core) -> Option<Finding> {
    let file = config.catalog.as_ref()?;
    let finding = |health, found: String, next| Finding::new("catalog file", health, found, next);
    let active = core.catalog.load().version();
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => {
            let next = "check `catalog` in the configuration";
            return Some(finding(Health::Fail, format!("{error:#}"), next));
        }
    };
    Some(match apply_catalog::known_as(&core.db, &text).await {
        Ok(Some(version)) if version == active => {
            finding(Health::Ok, format!("is version {}, active", active.0), "")
        }
        Ok(Some(version)) => finding(
            Health::Warn,
            format!("is version {}; version {} is active", version.0, active.0),
            "nothing, if that is meant; else `entitled catalog rollback` or a newer file",
        ),
        Ok(None) => finding(
            Health::Warn,
            format!("is not applied; version {} is active", active.0),
            "look at `entitled catalog apply FILE --dry-run`, then apply it",
        ),
        Err(error) => finding(Health::Fail, error.to_string(), "check the database"),
    })
}
