//! `erase`, `export`, `erasures`: what a person may ask for, and what a restored backup must be told.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::ConfigArgs;
use super::operator::core_of;
use crate::domain::ids::AccountId;
use crate::flows::Core;
use crate::flows::erase_account::{Outcome, erase_account};
use crate::flows::export_account::export_account;
use crate::flows::read_entitlements::named_account;
use crate::storage::erasure::{self, LedgerLine};

#[derive(Args)]
pub(crate) struct EraseArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// Your own reference of the request, such as a ticket's number; kept, so it must not name the
    /// person
    #[arg(long)]
    reference: String,
    /// Who does it; kept with the erasure
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
    /// Do not ask again
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// The file to write, readable by you alone; without it the document is printed
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Which accounts were erased: the list that a restored backup is to forget again.
#[derive(Subcommand)]
pub(crate) enum ErasuresCommand {
    /// Print every erasure as a line of JSON, oldest first: keep it apart from the backups
    List {
        /// Only those at or after this (RFC 3339)
        #[arg(long)]
        since: Option<DateTime<Utc>>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// After a restore: erase every account of a list again
    ///
    /// May be interrupted and run again; what is erased already is passed over.
    Repeat {
        /// What `erasures list` printed; `-` reads standard input
        file: PathBuf,
        /// Who does it; kept with each erasure
        #[arg(long, env = "USER", default_value = "operator")]
        actor: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) async fn erase(args: &EraseArgs) -> anyhow::Result<()> {
    let core = core_of(&args.config.load()?).await?;
    let account = account(&core, &args.account).await?;
    if !args.yes {
        confirm(&args.account)?;
    }
    let outcome = erase_account(&core, account, &args.actor, &args.reference).await?;
    core.flush_hints().await;
    let (word, at, purchases) = match outcome {
        Outcome::Erased { at, purchases } => ("erased", Some(at), purchases),
        Outcome::AlreadyErased { at } => ("already_erased", Some(at), 0),
        Outcome::Unknown => ("unknown", None, 0),
    };
    if args.json {
        let told = serde_json::json!({
            "outcome": word, "account": account, "erased_at": at, "purchases": purchases,
        });
        println!("{told}");
    } else {
        match outcome {
            Outcome::Erased { .. } => println!(
                "{account} is erased: {purchases} purchases are nobody's, what stores sent about \
                 them is unreadable, its devices are signed out"
            ),
            Outcome::AlreadyErased { at } => {
                println!("{account} was erased on {}", at.format("%F %T UTC"));
            }
            Outcome::Unknown => bail!("no account {account} was ever here"),
        }
    }
    core.db.close().await;
    Ok(())
}

/// The account that a name or an id means; an erased one still has its id.
async fn account(core: &Core, name: &str) -> anyhow::Result<AccountId> {
    if let Ok(id) = uuid::Uuid::parse_str(name) {
        return Ok(AccountId(id));
    }
    let found = named_account(core, name).await?.with_context(|| {
        format!(
            "no account {name:?}; name it issuer:subject (for example dev:alice) or by its id. An \
             account that was erased has no name any more"
        )
    })?;
    Ok(found.id)
}

fn confirm(name: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("an erasure cannot be undone: say --yes where nobody can be asked");
    }
    eprint!("This cannot be undone. Type {name} to erase it: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    if line.trim() != name {
        bail!("nothing was erased");
    }
    Ok(())
}

pub(super) async fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let core = core_of(&args.config.load()?).await?;
    let account = account(&core, &args.account).await?;
    let document = export_account(&core, account).await?;
    core.db.close().await;
    match &args.out {
        Some(file) => {
            let mut open = std::fs::OpenOptions::new();
            open.write(true)
                .create_new(true)
                .mode(0o600)
                .open(file)
                .and_then(|mut file| file.write_all(&document))
                .with_context(|| {
                    format!(
                        "{} cannot be written; an existing file is never replaced",
                        file.display()
                    )
                })?;
            eprintln!("{} bytes in {}", document.len(), file.display());
        }
        None => {
            let mut out = std::io::stdout().lock();
            out.write_all(&document)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

pub(super) async fn erasures(command: &ErasuresCommand) -> anyhow::Result<()> {
    match command {
        ErasuresCommand::List { since, config } => {
            let core = core_of(&config.load()?).await?;
            for line in erasure::ledger(&core.db, *since).await? {
                println!("{}", serde_json::to_string(&line)?);
            }
            core.db.close().await;
            Ok(())
        }
        ErasuresCommand::Repeat {
            file,
            actor,
            config,
        } => repeat(file, actor, config).await,
    }
}

async fn repeat(file: &PathBuf, actor: &str, config: &ConfigArgs) -> anyhow::Result<()> {
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin())?,
        Some(_) | None => std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<LedgerLine> = lines
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .context("not a list that `entitled erasures list` printed")?;
    let core = core_of(&config.load()?).await?;
    let (mut erased, mut before, mut unknown) = (0, 0, 0);
    for (n, line) in (1..).zip(&lines) {
        let account = AccountId(line.account);
        match erase_account(&core, account, actor, "repeated-after-a-restore").await? {
            Outcome::Erased { .. } => erased += 1,
            Outcome::AlreadyErased { .. } => before += 1,
            // Made after the backup was taken: it is not there to be erased.
            Outcome::Unknown => unknown += 1,
        }
        if n % 100 == 0 {
            eprintln!("{n} of {}", lines.len());
        }
    }
    core.flush_hints().await;
    core.db.close().await;
    println!(
        "{erased} erased again, {before} were erased already, {unknown} are not in the backup"
    );
    Ok(())
}
