//! `entitled key`: API keys of services and operators.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::commands::role;
use super::source::{Source, SourceArgs, told};
use crate::policy::Role;
use crate::proto::{
    ApiKey, ApiKeyKind, CreateApiKeyRequest, ListApiKeysRequest, OperatorRole, RevokeApiKeyRequest,
};

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it, this once
    ///
    /// The first key of a deployment is made on the database host: `entitled key create ops --kind
    /// operator --role admin --config FILE`. With it, everything else works over the API.
    /// A name may have two live keys: to rotate, create a second one, give it to whoever uses the
    /// first, and revoke the first.
    Create(CreateArgs),
    /// List the keys, the newest first, with their last use
    List(ListArgs),
    /// End a key for good: refused, and its streams ended, within three seconds
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    /// What events call whoever holds it: 1 to 64 of a-z, 0-9, `_` and `-`
    name: String,
    /// Whom it is for: a backend, or one of the people who operate the deployment
    #[arg(long)]
    kind: Kind,
    /// What an operator may do: viewer reads, support answers tickets, admin runs the deployment
    #[arg(long, value_parser = role, required_if_eq("kind", "operator"))]
    role: Option<Role>,
    /// Only for purchases of this app of the catalog; may be given several times (services)
    #[arg(long = "app")]
    apps: Vec<String>,
    /// When it ends by itself (RFC 3339); without it, when it is revoked
    #[arg(long)]
    expires_at: Option<DateTime<Utc>>,
    /// Write the key into this new file, for its owner alone, instead of printing it
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Service,
    Operator,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    /// Revoked and ended ones, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    /// The key's id: the ten characters after `entitled_svc_` or `entitled_op_`, as `list` prints it
    id: String,
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) async fn run(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(args) => {
            let source = args.source.open().await?;
            create(&args, &source).await?;
            source.finish().await;
        }
        KeyCommand::List(args) => {
            let source = args.source.open().await?;
            list(args.all, &source).await?;
            source.finish().await;
        }
        KeyCommand::Revoke(args) => {
            let source = args.source.open().await?;
            revoke(&args.id, &source).await?;
            source.finish().await;
        }
    }
    Ok(())
}

async fn create(args: &CreateArgs, source: &Source) -> anyhow::Result<()> {
    // Before the key exists: one that could not be written would be live and lost.
    let file = args.out.as_ref().map(new_file).transpose()?;
    let request = CreateApiKeyRequest {
        name: args.name.clone(),
        kind: match args.kind {
            Kind::Service => ApiKeyKind::Service,
            Kind::Operator => ApiKeyKind::Operator,
        }
        .into(),
        role: match args.role {
            None => OperatorRole::Unspecified,
            Some(Role::Viewer) => OperatorRole::Viewer,
            Some(Role::Support) => OperatorRole::Support,
            Some(Role::Admin) => OperatorRole::Admin,
        }
        .into(),
        apps: args.apps.clone(),
        expires_at: args.expires_at.map(|at| prost_types::Timestamp {
            seconds: at.timestamp(),
            nanos: 0,
        }),
    };
    let created = match source.keys().create_api_key(request).await {
        Ok(created) => created.into_inner(),
        Err(status) => {
            if let Some((path, _)) = &file {
                let _ = std::fs::remove_file(path);
            }
            return Err(told(status));
        }
    };
    let Some(key) = created.api_key else {
        bail!("the server told no key");
    };
    match file {
        Some((path, mut file)) => {
            writeln!(file, "{}", created.secret).with_context(|| {
                format!(
                    "{} cannot be written: the key {id} is live and nobody has it; end it with \
                     `entitled key revoke {id}`",
                    path.display(),
                    id = key.id
                )
            })?;
            println!("{}", path.display());
        }
        None => println!("{}", created.secret),
    }
    eprintln!(
        "key {} of {} ({}). It is told this once; send it as `authorization: Bearer KEY`.",
        key.id,
        key.name,
        kind(&key)
    );
    Ok(())
}

/// A file that was not there, for its owner alone.
fn new_file(path: &PathBuf) -> anyhow::Result<(PathBuf, std::fs::File)> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options
        .open(path)
        .with_context(|| format!("{} cannot be made; it must not exist yet", path.display()))?;
    Ok((path.clone(), file))
}

async fn list(all: bool, source: &Source) -> anyhow::Result<()> {
    let request = ListApiKeysRequest { show_ended: all };
    let listed = source.keys().list_api_keys(request).await.map_err(told)?;
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "id",
        "name",
        "kind",
        "apps",
        "made (UTC)",
        "last used (UTC)",
        "ends (UTC)",
    ]);
    for key in listed.into_inner().api_keys {
        let ends = match (&key.revoked_at, &key.expires_at) {
            (Some(_), _) => format!("revoked {} by {}", day(key.revoked_at), key.revoked_by),
            (None, Some(_)) => day(key.expires_at),
            (None, None) => "when revoked".to_owned(),
        };
        let apps = match key.apps.as_slice() {
            [] => "all".to_owned(),
            apps => apps.join(", "),
        };
        table.add_row([
            key.id.clone(),
            key.name.clone(),
            kind(&key),
            apps,
            format!("{} by {}", day(key.created_at), key.created_by),
            key.last_used_at
                .map_or("never".to_owned(), |at| day(Some(at))),
            ends,
        ]);
    }
    println!("{table}");
    Ok(())
}

async fn revoke(id: &str, source: &Source) -> anyhow::Result<()> {
    let request = RevokeApiKeyRequest { id: id.to_owned() };
    let revoked = source.keys().revoke_api_key(request).await.map_err(told)?;
    if let Some(key) = revoked.into_inner().api_key {
        println!(
            "{} of {} is revoked ({} by {}); every replica refuses it within three seconds",
            key.id,
            key.name,
            day(key.revoked_at),
            key.revoked_by
        );
    }
    Ok(())
}

fn kind(key: &ApiKey) -> String {
    match (key.kind(), key.role()) {
        (ApiKeyKind::Operator, OperatorRole::Viewer) => "operator, viewer",
        (ApiKeyKind::Operator, OperatorRole::Support) => "operator, support",
        (ApiKeyKind::Operator, OperatorRole::Admin) => "operator, admin",
        (ApiKeyKind::Operator, OperatorRole::Unspecified) => "operator",
        (ApiKeyKind::Service | ApiKeyKind::Unspecified, _) => "service",
    }
    .to_owned()
}

fn day(at: Option<prost_types::Timestamp>) -> String {
    at.and_then(|at| DateTime::<Utc>::from_timestamp(at.seconds, 0))
        .map(|at| at.format("%F %H:%M").to_string())
        .unwrap_or_default()
}
