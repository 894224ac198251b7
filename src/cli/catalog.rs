//! `catalog`: check a file, see what it would do, make it the active version, take it back.

mod words;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use self::words::print_plan;
use super::ConfigArgs;
use crate::app::{open, settings::settings};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::diff::diff;
use crate::domain::ids::CatalogVersion;
use crate::domain::subscription::state::Leniency;
use crate::flows::Core;
use crate::flows::apply_catalog::{
    self, CatalogError, Counting, Order, Plan, Story, Wanted, doubts_of, history, parse,
};
use crate::flows::count_effect::Ground;
use crate::flows::examine::{Finding, Health};
use crate::storage::Db;

/// Between two looks at how far a version has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub(crate) enum CatalogCommand {
    /// Check a catalog file: what is wrong, and what is probably not meant. Needs no database
    Check {
        /// The catalog, TOML
        file: PathBuf,
        /// Fail on what is probably not meant, too
        #[arg(long)]
        strict: bool,
    },
    /// Say in words what differs: a file from the active version, or one version from another
    Diff(DiffArgs),
    /// Make a file the active version, after counting who gains and who loses by it
    ///
    /// Refused if paying accounts would lose something, until you say how many may: --confirm-loss.
    /// Every account is then derived by the new version, a batch at a time, by any worker; an
    /// interruption loses nothing.
    Apply(ApplyArgs),
    /// Make what an earlier version said the active version again, under a new number
    ///
    /// Counted and refused like `apply`.
    Rollback(RollbackArgs),
    /// List versions: who applied them, why, what they did, how far accounts have come
    History(HistoryArgs),
    /// Print the text of a version
    Show {
        /// Its number; without it, the active one's
        #[arg(id = "number", value_name = "VERSION")]
        version: Option<i64>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// A catalog file, held against the active version (or --from)
    #[arg(conflicts_with = "to", required_unless_present = "to")]
    file: Option<PathBuf>,
    /// Held against this version instead of the active one
    #[arg(long)]
    from: Option<i64>,
    /// This version is held against it, instead of a file
    #[arg(long)]
    to: Option<i64>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ApplyArgs {
    /// The catalog, TOML
    file: PathBuf,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
pub(crate) struct RollbackArgs {
    /// The version whose text becomes active again
    #[arg(id = "number", value_name = "VERSION")]
    version: i64,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
struct HowArgs {
    /// Count and print, change nothing
    #[arg(long)]
    dry_run: bool,
    /// So many paying accounts may lose something
    #[arg(long, value_name = "N")]
    confirm_loss: Option<u64>,
    /// Why; kept with the version
    #[arg(long)]
    reason: Option<String>,
    /// Who does it; kept with the version
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
    /// Follow until every account has come to the new version
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct HistoryArgs {
    /// At most so many, the newest
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1_000))]
    limit: i64,
    /// Follow until every account has come to the active version
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: CatalogCommand) -> anyhow::Result<ExitCode> {
    match command {
        CatalogCommand::Check { file, strict } => return check(&file, strict),
        CatalogCommand::Diff(args) => compare(&args).await?,
        CatalogCommand::Apply(args) => {
            let text = read(&args.file)?;
            change(Wanted::Text(&text), "apply", &args.how).await?;
        }
        CatalogCommand::Rollback(args) => {
            let version = CatalogVersion(args.version);
            change(Wanted::Version(version), "rollback", &args.how).await?;
        }
        CatalogCommand::History(args) => list(&args).await?,
        CatalogCommand::Show { version, config } => {
            let place = Place::of(&config).await?;
            let found = apply_catalog::body(&place.db, version.map(CatalogVersion)).await?;
            print!("{}", found.body);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// The database that commands work on, and its time.
struct Place {
    db: Db,
    clock: Clock,
    leniency: Leniency,
}

impl Place {
    async fn of(config: &ConfigArgs) -> anyhow::Result<Self> {
        Self::at(&config.load()?, None).await
    }

    async fn at(config: &Config, clock: Option<Clock>) -> anyhow::Result<Self> {
        let (db, clock) = open(config, clock).await?;
        let leniency = settings(config).policy.leniency;
        Ok(Self {
            db,
            clock,
            leniency,
        })
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            db: &self.db,
            leniency: self.leniency,
            now: self.clock.now(),
        }
    }
}

fn check(file: &Path, strict: bool) -> anyhow::Result<ExitCode> {
    let text = read(file)?;
    let catalog = parse(&text, CatalogVersion(0))?;
    println!("sound: {}", words::summary(&catalog));
    for (id, product) in catalog.products() {
        let stores: Vec<String> = product
            .store_products()
            .map(|(store, product)| format!("{} {product}", store.label()))
            .collect();
        println!(
            "  {id}: {}; sold as {}",
            words::brings(product),
            stores.join("; ")
        );
    }
    for offering in catalog.offerings() {
        println!("  offering {}: {}", offering.id, words::shows(offering));
    }
    let doubts = doubts_of(&text, &catalog);
    if !doubts.is_empty() {
        println!("\nprobably not meant:\n  - {}", doubts.join("\n  - "));
    }
    Ok(match strict && !doubts.is_empty() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

async fn compare(args: &DiffArgs) -> anyhow::Result<()> {
    let place = Place::of(&args.config).await?;
    let old = catalog_of(&place, args.from).await?;
    let new = match &args.file {
        Some(file) => parse(&read(file)?, CatalogVersion(0))?,
        None => catalog_of(&place, args.to).await?,
    };
    let changes = diff(old.file(), new.file());
    if args.json {
        let json = json!({ "from": old.version(), "changes": changes });
        println!("{}", serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    words::print_changes(&changes, old.version());
    if args.file.is_some() {
        println!("\nWho gains and who loses by it: `entitled catalog apply FILE --dry-run`.");
    }
    Ok(())
}

async fn catalog_of(place: &Place, version: Option<i64>) -> anyhow::Result<Catalog> {
    let found = apply_catalog::body(&place.db, version.map(CatalogVersion)).await?;
    Ok(parse(&found.body, found.version)?)
}

async fn change(wanted: Wanted<'_>, origin: &'static str, how: &HowArgs) -> anyhow::Result<()> {
    let place = Place::of(&how.config).await?;
    let ground = place.ground();
    let mut counting = Progress::new("counted", how.json);
    let plan = apply_catalog::plan(&ground, wanted, Counting::Always, |done, of| {
        counting.tell(done, of);
    })
    .await?;
    counting.end();
    if how.json {
        println!("{}", serde_json::to_string(&plan_json(&plan))?);
    } else {
        print_plan(&plan, ground.now);
    }
    if plan.is_active() {
        return Ok(());
    }
    if how.dry_run {
        if !how.json {
            println!("\nNothing was changed.{}", words::next_step(&plan));
        }
        return Ok(());
    }
    let order = Order {
        origin,
        actor: Some(&how.actor),
        reason: how.reason.as_deref(),
        copy_of: match wanted {
            Wanted::Version(version) => Some(version),
            Wanted::Text(_) => None,
        },
        confirm_loss: how.confirm_loss,
    };
    let version = apply_catalog::apply(&ground, &plan, &order).await?;
    if how.json {
        println!("{}", json!({ "applied": version }));
    } else {
        println!(
            "\nversion {} is active. Workers derive every account by it; `entitled catalog history` \
             tells how far they are.",
            version.0
        );
    }
    if how.wait {
        follow(&place, how.json).await?;
    }
    Ok(())
}

/// What a developer has saved becomes active, whoever loses by it; `None`: it was active.
pub(super) async fn apply_saved(
    config: &Config,
    clock: Clock,
    text: &str,
) -> anyhow::Result<Option<CatalogVersion>> {
    let place = Place::at(config, Some(clock)).await?;
    let ground = place.ground();
    let plan =
        apply_catalog::plan(&ground, Wanted::Text(text), Counting::Always, |_, _| {}).await?;
    if plan.is_active() {
        return Ok(None);
    }
    print_plan(&plan, ground.now);
    let order = Order {
        origin: "dev",
        actor: Some("dev"),
        reason: None,
        copy_of: None,
        confirm_loss: Some(u64::MAX),
    };
    let version = apply_catalog::apply(&ground, &plan, &order).await?;
    place.db.close().await;
    Ok(Some(version))
}

/// Whether the catalog file of the configuration is what is active, for `doctor`.
pub(super) async fn examine_file(config: &Config, core: &Core) -> Option<Finding> {
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

fn plan_json(plan: &Plan) -> serde_json::Value {
    json!({
        "base": plan.base, "changes": plan.changes, "effect": plan.effect,
        "already_active": plan.is_active(),
    })
}

async fn list(args: &HistoryArgs) -> anyhow::Result<()> {
    let place = Place::of(&args.config).await?;
    if args.wait {
        follow(&place, args.json).await?;
    }
    let stories = history(&place.db, None, args.limit).await?;
    if stories.is_empty() {
        bail!(CatalogError::None);
    }
    if args.json {
        let stories: Vec<_> = stories.iter().map(story_json).collect();
        println!("{}", serde_json::to_string_pretty(&stories)?);
        return Ok(());
    }
    println!("{}", words::table(&stories));
    Ok(())
}

fn story_json(story: &Story) -> serde_json::Value {
    let told = &story.told;
    json!({
        "version": told.version, "applied_at": told.applied_at, "origin": told.origin,
        "applied_by": told.actor, "reason": told.reason, "copy_of": told.copy_of,
        "effect": told.effect, "confirmed_loss": told.confirmed_loss, "accounts": told.accounts,
        "behind": story.behind, "looked_again": told.looked_again,
        "finished_at": told.finished_at,
    })
}

/// Tells how far the active version has come until it has reached every account.
async fn follow(place: &Place, quiet: bool) -> anyhow::Result<()> {
    let mut progress = Progress::new("derived", quiet);
    loop {
        let active = history(&place.db, None, 1).await?.pop();
        let Some(story) = active else {
            bail!(CatalogError::None);
        };
        let behind = u64::try_from(story.behind.unwrap_or(0)).unwrap_or(0);
        let all = u64::try_from(story.told.accounts.unwrap_or(0)).unwrap_or(0);
        let all = all.max(behind);
        progress.tell(all - behind, all);
        if story.told.finished_at.is_some() && behind == 0 {
            progress.end();
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far something is, on standard error: one line that changes, or a line for every tenth.
struct Progress {
    what: &'static str,
    quiet: bool,
    terminal: bool,
    tenth: Option<u64>,
}

impl Progress {
    fn new(what: &'static str, quiet: bool) -> Self {
        Self {
            what,
            quiet,
            terminal: std::io::stderr().is_terminal(),
            tenth: None,
        }
    }

    fn tell(&mut self, done: u64, of: u64) {
        if self.quiet {
            return;
        }
        let line = format!("{} {done} of {of} accounts", self.what);
        if self.terminal {
            eprint!("\r{line}  ");
            let _ = std::io::stderr().flush();
            self.tenth = Some(0);
            return;
        }
        let tenth = (done * 10).checked_div(of).unwrap_or(10);
        if self.tenth != Some(tenth) {
            self.tenth = Some(tenth);
            eprintln!("{line}");
        }
    }

    fn end(&self) {
        if self.terminal && self.tenth.is_some() {
            eprintln!();
        }
    }
}
