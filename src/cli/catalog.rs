//! `catalog`: check a file, see what it would do, make it the active version, take it back. In the
//! database of a configuration or over the API of a server, by the same calls.

mod followed;
mod saved;
mod told;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use self::followed::{Progress, follow, versions};
pub(super) use self::saved::{apply_saved, examine_file};
use self::told::{Planned, missing, story_json};
use super::source::{Source, SourceArgs, told as refusal};
use crate::domain::catalog::Catalog;
use crate::domain::catalog::diff::diff;
use crate::domain::ids::CatalogVersion;
use crate::flows::apply_catalog::{CatalogError, doubts_of, parse, parse_new};
use crate::proto;
use crate::proto::wanted_catalog::Wanted;
use proto::apply_catalog_response::Event as Applying;
use proto::plan_catalog_response::Event as Planning;

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
    /// Refused if paying accounts would lose something, until you say how many may, and over which
    /// version: --replaces and --confirm-loss, as --dry-run prints them.
    /// Every account is then derived by the new version, a batch at a time, by any worker; an
    /// interruption loses nothing. Over the API, --dry-run needs the role viewer, the rest admin.
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
        source: SourceArgs,
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
    source: SourceArgs,
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
    /// The active version that was planned over, as --dry-run told; if another one is active by now,
    /// nothing is changed
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(1..))]
    replaces: Option<i64>,
    /// So many paying accounts may lose something
    #[arg(long, value_name = "N", requires = "replaces")]
    confirm_loss: Option<u64>,
    /// Replace an active version that cannot be read, because a newer program has applied it: nobody
    /// is counted then
    #[arg(long)]
    over_unreadable: bool,
    /// Why; kept with the version
    #[arg(long)]
    reason: Option<String>,
    /// Follow until every account has come to the new version
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    #[command(flatten)]
    source: SourceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct HistoryArgs {
    /// At most so many, the newest
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Follow until every account has come to the active version
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    source: SourceArgs,
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
            change(Wanted::Text(text), &args.how).await?;
        }
        CatalogCommand::Rollback(args) => change(Wanted::Version(args.version), &args.how).await?,
        CatalogCommand::History(args) => list(&args).await?,
        CatalogCommand::Show { version, source } => {
            let source = source.open_for_catalogs().await?;
            print!("{}", text(&source, version).await?.1);
            source.finish().await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn check(file: &Path, strict: bool) -> anyhow::Result<ExitCode> {
    let text = read(file)?;
    let catalog = parse_new(&text)?;
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
    let source = args.source.open_for_catalogs().await?;
    let old = catalog_of(&source, args.from).await?;
    let new = match &args.file {
        Some(file) => parse_new(&read(file)?)?,
        None => catalog_of(&source, args.to).await?,
    };
    source.finish().await;
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

async fn catalog_of(source: &Source, version: Option<i64>) -> anyhow::Result<Catalog> {
    let (version, text) = text(source, version).await?;
    parse(&text, version).with_context(|| format!("version {}", version.0))
}

/// A version's number and text; the active one's, unless told which.
async fn text(source: &Source, version: Option<i64>) -> anyhow::Result<(CatalogVersion, String)> {
    if version == Some(0) {
        // The API calls the active one so.
        bail!(CatalogError::Unknown(0));
    }
    let request = proto::GetCatalogRequest {
        version: version.unwrap_or_default(),
    };
    let found = source.catalogs().get_catalog(request).await;
    let found = found.map_err(refusal)?.into_inner();
    let story = found.version.ok_or_else(missing)?;
    Ok((CatalogVersion(story.version), found.text))
}

async fn change(wanted: Wanted, how: &HowArgs) -> anyhow::Result<()> {
    let source = how.source.open_for_catalogs().await?;
    let changed = match how.dry_run {
        true => plan(&source, wanted, how).await,
        false => apply(&source, wanted, how).await,
    };
    // A version that was applied is told also if following it failed.
    source.finish().await;
    changed
}

async fn plan(source: &Source, wanted: Wanted, how: &HowArgs) -> anyhow::Result<()> {
    let summary = words::first(&wanted);
    let request = proto::PlanCatalogRequest {
        catalog: Some(proto::WantedCatalog {
            wanted: Some(wanted),
        }),
        over_unreadable: how.over_unreadable,
    };
    let mut answers = source
        .catalogs()
        .plan_catalog(request)
        .await
        .map_err(refusal)?
        .into_inner();
    let mut counting = Progress::new("counted", how.json);
    while let Some(answer) = answers.message().await.map_err(refusal)? {
        match answer.event {
            Some(Planning::Progress(far)) => counting.tell(far.counted, far.accounts),
            Some(Planning::Plan(plan)) => {
                counting.end();
                let plan = Planned::of(plan)?;
                held_against(&plan, how)?;
                print_plan(&plan, &summary, how.json);
                if !how.json && !plan.already_active {
                    println!("\nNothing was changed.{}", words::next_step(&plan));
                }
                return Ok(());
            }
            None => {}
        }
    }
    Err(anyhow!(
        "the server went away before the plan was made; nothing was changed"
    ))
}

async fn apply(source: &Source, wanted: Wanted, how: &HowArgs) -> anyhow::Result<()> {
    let summary = words::first(&wanted);
    let confirm_loss = how.confirm_loss.unwrap_or_default();
    let request = proto::ApplyCatalogRequest {
        catalog: Some(proto::WantedCatalog {
            wanted: Some(wanted),
        }),
        confirm_loss: i64::try_from(confirm_loss).unwrap_or(i64::MAX),
        reason: how.reason.clone().unwrap_or_default(),
        base_version: how.replaces.unwrap_or_default(),
        over_unreadable: how.over_unreadable,
    };
    let mut answers = source
        .catalogs()
        .apply_catalog(request)
        .await
        .map_err(refusal)?
        .into_inner();
    let mut counting = Progress::new("counted", how.json);
    let mut idle = false;
    while let Some(answer) = answers.message().await.map_err(refusal)? {
        match answer.event {
            Some(Applying::Progress(far)) => counting.tell(far.counted, far.accounts),
            Some(Applying::Plan(plan)) => {
                counting.end();
                let plan = Planned::of(plan)?;
                idle = plan.already_active;
                print_plan(&plan, &summary, how.json);
            }
            Some(Applying::AppliedVersion(_)) if idle => return Ok(()),
            Some(Applying::AppliedVersion(version)) => {
                if how.json {
                    println!("{}", json!({ "applied": version }));
                } else {
                    println!(
                        "\nversion {version} is active. Workers derive every account by it; \
                         `entitled catalog history` tells how far they are."
                    );
                }
                return match how.wait {
                    true => follow(source, how.json).await,
                    false => Ok(()),
                };
            }
            None => {}
        }
    }
    Err(anyhow!(
        "the server went away before it said whether the version became active; `entitled catalog \
         history` tells, and applying the same again changes nothing"
    ))
}

/// A plan over another version than the caller means is none; the server says the same of an apply.
fn held_against(plan: &Planned, how: &HowArgs) -> anyhow::Result<()> {
    let active = plan.base.map_or(0, |version| version.0);
    match how.replaces {
        Some(meant) if meant != active && !plan.already_active => {
            bail!(CatalogError::Superseded { newest: active })
        }
        Some(_) | None => Ok(()),
    }
}

fn print_plan(plan: &Planned, summary: &str, json: bool) {
    match json {
        true => println!("{}", plan.json()),
        false => words::print_plan(plan, summary),
    }
}

async fn list(args: &HistoryArgs) -> anyhow::Result<()> {
    let source = args.source.open_for_catalogs().await?;
    if args.wait {
        follow(&source, args.json).await?;
    }
    let stories = versions(&source, args.limit.into()).await?;
    source.finish().await;
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
