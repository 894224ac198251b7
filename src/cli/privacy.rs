//! `erase`, `export`, `erasures`: what a person may ask for, and what a restored backup must be told.

use std::io::{BufRead as _, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use tonic::Streaming;
use uuid::Uuid;

use super::source::{Source, SourceArgs, told};
use super::support::{PAGE, timestamp};
use crate::proto::{
    EraseAccountRequest, EraseAccountResponse, Erasure, ErasureOutcome, ExportAccountRequest,
    ExportAccountResponse, ListErasuresRequest,
};

#[derive(Args)]
pub(crate) struct EraseArgs {
    /// `issuer:subject` (dev:alice) or the account's id
    account: String,
    /// Your own reference of the request: at most 64 letters, digits and - _ . / # :, such as a
    /// ticket's number; kept, so it must not name the person
    #[arg(long)]
    reference: String,
    /// Do not ask again
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    source: SourceArgs,
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
    source: SourceArgs,
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
        source: SourceArgs,
    },
    /// After a restore: erase every account of a list again
    ///
    /// May be interrupted and run again; what is erased already is passed over. On the database host
    /// it works before the server starts.
    Repeat {
        /// What `erasures list` printed; `-` reads standard input
        file: PathBuf,
        #[command(flatten)]
        source: SourceArgs,
    },
}

/// A line of the list.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Our id of the account.
    account: Uuid,
    erased_at: DateTime<Utc>,
}

impl Line {
    fn of(erasure: &Erasure) -> anyhow::Result<Self> {
        Ok(Self {
            account: erasure.account_id.parse()?,
            erased_at: moment(erasure.erased_at).context("an erasure at no time")?,
        })
    }
}

fn moment(at: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let at = at?;
    DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
}

pub(super) async fn erase(args: &EraseArgs) -> anyhow::Result<()> {
    let source = args.source.open().await?;
    if !args.yes {
        confirm(&args.account)?;
    }
    let erased = erase_one(&source, &args.account, &args.reference).await?;
    source.finish().await;
    let (account, at) = (&erased.account_id, moment(erased.erased_at));
    if args.json {
        let known = Some(account).filter(|account| !account.is_empty());
        let told = serde_json::json!({
            "outcome": word(erased.outcome()), "account": known, "erased_at": at,
            "purchases": erased.purchases,
        });
        println!("{told}");
        return Ok(());
    }
    match erased.outcome() {
        ErasureOutcome::Erased => println!(
            "{account} is erased: {} purchases are nobody's, what stores sent about them is \
             unreadable, its devices are signed out",
            erased.purchases
        ),
        ErasureOutcome::AlreadyErased => {
            let at = at.map(|at| at.format("%F %T UTC").to_string());
            println!("{account} was erased on {}", at.unwrap_or_default());
        }
        ErasureOutcome::Unknown | ErasureOutcome::Unspecified => bail!(
            "no account {:?} was ever here; name it issuer:subject (for example dev:alice) or by \
             its id. An account that was erased has no name any more",
            args.account
        ),
    }
    Ok(())
}

fn word(outcome: ErasureOutcome) -> &'static str {
    match outcome {
        ErasureOutcome::Erased => "erased",
        ErasureOutcome::AlreadyErased => "already_erased",
        ErasureOutcome::Unknown | ErasureOutcome::Unspecified => "unknown",
    }
}

async fn erase_one(
    source: &Source,
    account: &str,
    reference: &str,
) -> anyhow::Result<EraseAccountResponse> {
    let request = EraseAccountRequest {
        account: account.to_owned(),
        reference: reference.to_owned(),
    };
    let erased = source.accounts().erase_account(request).await;
    Ok(erased.map_err(told)?.into_inner())
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
    let source = args.source.open().await?;
    let request = ExportAccountRequest {
        account: args.account.clone(),
    };
    let answer = source.accounts().export_account(request).await;
    let pieces = answer.map_err(told)?.into_inner();
    match &args.out {
        Some(file) => {
            let mut open = std::fs::OpenOptions::new();
            let open = open.write(true).create_new(true).mode(0o600).open(file);
            let mut out = open.with_context(|| {
                format!(
                    "{} cannot be written; an existing file is never replaced",
                    file.display()
                )
            })?;
            match write(pieces, &mut out).await {
                Ok(bytes) => eprintln!("{bytes} bytes in {}", file.display()),
                Err(error) => {
                    // Half a document is none.
                    std::fs::remove_file(file)?;
                    return Err(error);
                }
            }
        }
        None => {
            write(pieces, &mut std::io::stdout()).await?;
        }
    }
    source.finish().await;
    Ok(())
}

/// Writes the pieces as they come; how many bytes they were.
async fn write(
    mut pieces: Streaming<ExportAccountResponse>,
    out: &mut impl Write,
) -> anyhow::Result<usize> {
    let mut bytes = 0;
    while let Some(piece) = pieces.message().await.map_err(told)? {
        out.write_all(&piece.piece)?;
        bytes += piece.piece.len();
    }
    out.flush()?;
    Ok(bytes)
}

pub(super) async fn erasures(command: &ErasuresCommand) -> anyhow::Result<()> {
    match command {
        ErasuresCommand::List { since, source } => {
            let source = source.open().await?;
            list(*since, &source).await?;
            source.finish().await;
        }
        ErasuresCommand::Repeat { file, source } => {
            let lines = read(file)?;
            let source = source.open().await?;
            repeat(&lines, &source).await?;
            source.finish().await;
        }
    }
    Ok(())
}

async fn list(since: Option<DateTime<Utc>>, source: &Source) -> anyhow::Result<()> {
    let mut request = ListErasuresRequest {
        since: since.map(timestamp),
        page_size: PAGE,
        page_token: String::new(),
    };
    loop {
        let page = source.accounts().list_erasures(request.clone()).await;
        let page = page.map_err(told)?.into_inner();
        for erasure in &page.erasures {
            println!("{}", serde_json::to_string(&Line::of(erasure)?)?);
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

fn read(file: &PathBuf) -> anyhow::Result<Vec<Line>> {
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin())?,
        Some(_) | None => std::fs::read_to_string(file)
            .with_context(|| format!("{} cannot be read", file.display()))?,
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).map_err(|error| anyhow!(error)))
        .collect::<anyhow::Result<_>>()
        .context("not a list that `entitled erasures list` printed")
}

async fn repeat(lines: &[Line], source: &Source) -> anyhow::Result<()> {
    let (mut erased, mut before, mut unknown) = (0, 0, 0);
    for (n, line) in (1..).zip(lines) {
        let account = line.account.to_string();
        let one = erase_one(source, &account, "repeated-after-a-restore").await?;
        match one.outcome() {
            ErasureOutcome::Erased => erased += 1,
            ErasureOutcome::AlreadyErased => before += 1,
            // Made after the backup was taken: it is not there to be erased.
            ErasureOutcome::Unknown | ErasureOutcome::Unspecified => unknown += 1,
        }
        if n % 100 == 0 {
            eprintln!("{n} of {}", lines.len());
        }
    }
    println!(
        "{erased} erased again, {before} were erased already, {unknown} are not in the backup"
    );
    Ok(())
}
