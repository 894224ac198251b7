//! `encryption`: the keys that everything a store has sent hangs on.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use secrecy::ExposeSecret as _;

use super::ConfigArgs;
use super::operator::core_of;
use crate::encryption::providers::{self, new_key_file};
use crate::flows::abandon_key::abandon_key;
use crate::flows::rotate_keys::{self, Progress};
use crate::storage::{Db, lost_keys, rekeying};

/// What stores send is kept encrypted. The keys in the database are wrapped by a key outside of it: a
/// file, or a KMS behind two commands ([[encryption.keys]] in the configuration).
#[derive(Subcommand)]
pub(crate) enum EncryptionCommand {
    /// Make a key file
    ///
    /// Keep a copy apart from the database's backups: without the key nobody can read what it has
    /// wrapped.
    NewKey {
        /// The file to write, readable by you alone; never an existing one. Without it the key is
        /// printed
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Say which keys are in use, which may go, and what is still plain
    Status(ConfigArgs),
    /// Encrypt what was kept plain before there was a key
    ///
    /// May be interrupted and run again, beside running servers.
    Seal(ConfigArgs),
    /// Put every key in the database under the first of [[encryption.keys]]
    ///
    /// First give every server the new key as the first one and keep the old one below it; then run
    /// this; then take the old one out. May be interrupted and run again, beside running servers.
    Rotate(ConfigArgs),
    /// Give up a key outside that is lost, so that servers can start without it
    ///
    /// What stores sent until now, as far as it hangs on that key, can never be read again: not by
    /// `replay`, not by an export. Accounts, purchases, access and money stay, and stores are asked
    /// anew. Nothing is done to a key that is configured.
    Abandon {
        /// As the server that does not start names it, or `encryption status`: file:0123456789abcdef
        key: String,
        /// It cannot be undone: without this it is only said what would be lost
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) async fn run(command: EncryptionCommand) -> anyhow::Result<()> {
    match command {
        EncryptionCommand::NewKey { out } => new_key(out),
        EncryptionCommand::Status(config) => status(&config).await,
        EncryptionCommand::Seal(config) => seal(&config).await,
        EncryptionCommand::Rotate(config) => rotate(&config).await,
        EncryptionCommand::Abandon { key, yes, config } => abandon(&key, yes, &config).await,
    }
}

fn new_key(out: Option<PathBuf>) -> anyhow::Result<()> {
    use std::io::Write as _;
    let (name, text) = new_key_file()?;
    let Some(file) = out else {
        print!("{text}");
        return Ok(());
    };
    let mut open = std::fs::OpenOptions::new();
    open.write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| {
            format!(
                "{} cannot be written; an existing file is never replaced",
                file.display()
            )
        })?;
    println!("the key {name} is in {}", file.display());
    println!("1. keep a copy apart from the database's backups: without it they cannot be read");
    println!("2. put it first in every server's configuration:");
    println!(
        "     [[encryption.keys]]\n     file = \"{}\"",
        file.display()
    );
    println!("3. `entitled encryption seal` encrypts what was kept plain before the first key;");
    println!("   `entitled encryption rotate` puts everything under this key after an older one");
    Ok(())
}

async fn status(config: &ConfigArgs) -> anyhow::Result<()> {
    let core = core_of(&config.load()?).await?;
    let keyring = core.db.keyring();
    let newest = keyring.newest();
    match (newest, keyring.seals(), keyring.has_root()) {
        (Some(name), true, true) => println!("what stores send is encrypted; newest key: {name}"),
        (Some(name), true, false) => println!("the first server that starts begins with {name}"),
        (Some(name), false, _) => {
            println!("what is new is kept plain; {name} opens what is encrypted");
        }
        (None, ..) => println!("what stores send is kept plain: no key is configured"),
    }
    let roots = rekeying::roots(&core.db).await?;
    for root in &roots {
        let place = match root.retired_at {
            None => "in use".to_owned(),
            Some(at) => format!("retired {}", at.format("%F %T")),
        };
        println!(
            "  root key {} of {}, under {}: {place}, wraps {} keys",
            root.id,
            root.created_at.format("%F %T"),
            root.kek,
            root.wraps
        );
    }
    let needed = |name: &str| roots.iter().any(|root| root.kek == name);
    if let Some(newest) = newest
        && roots.iter().any(|root| root.kek != newest)
    {
        println!("run `entitled encryption rotate`: until then older keys are needed, too");
    } else if newest.is_some_and(needed) {
        println!("only the newest key is needed: others may be taken out of the configuration");
    }
    let plain = rekeying::plain(&core.db).await?;
    if plain.all() > 0 {
        println!(
            "{} notifications and {} answers of stores are plain; `entitled encryption seal` \
             encrypts them",
            plain.notifications, plain.answers
        );
    }
    core.db.close().await;
    Ok(())
}

fn show(what: &str) -> impl FnMut(Progress) {
    let what = what.to_owned();
    let mut told = 0;
    move |progress: Progress| {
        if progress.done > told {
            told = progress.done;
            eprintln!("{} of {} {what}", progress.done, progress.of);
        }
    }
}

async fn seal(config: &ConfigArgs) -> anyhow::Result<()> {
    let core = core_of(&config.load()?).await?;
    let sealed = rotate_keys::seal(&core, show("documents encrypted")).await?;
    println!("{sealed} documents were plain and are encrypted now");
    core.db.close().await;
    Ok(())
}

async fn rotate(config: &ConfigArgs) -> anyhow::Result<()> {
    let core = core_of(&config.load()?).await?;
    let rotated = rotate_keys::rotate(&core, show("keys put under the new one")).await?;
    if rotated.resumed {
        println!("a rotation before this one was interrupted; it is finished");
    }
    println!(
        "{} root keys came under {}; {} keys of purchases and notifications are under the newest \
         root key",
        rotated.roots,
        core.db.keyring().newest().unwrap_or_default(),
        rotated.keys
    );
    println!("older keys may be taken out of the configuration (`entitled encryption status`)");
    core.db.close().await;
    Ok(())
}

async fn abandon(key: &str, yes: bool, config: &ConfigArgs) -> anyhow::Result<()> {
    let config = config.load()?;
    let configured = providers::of(&config.encryption)?;
    if configured.iter().any(|provider| provider.name() == key) {
        bail!(
            "{key} is configured, so it is not lost; if it must go, make a new one, put it first and \
             run `entitled encryption rotate`"
        );
    }
    // Without its keys: one of them is what is missing.
    let db = Db::open(
        config.database.url.expose_secret(),
        config.database.connections_max,
    )?;
    let roots = lost_keys::roots_under(&db, key).await?;
    if roots.is_empty() {
        let needed = lost_keys::needed(&db).await?;
        bail!("nothing hangs on {key:?}; this database needs {needed:?}");
    }
    if !yes {
        bail!(
            "nothing was done. What stores sent under {key} ({} root keys) could never be read again: \
             say --yes if the key is lost for good, and stop the servers before",
            roots.len()
        );
    }
    let mut told = 0;
    let abandoned = abandon_key(&db, key, |so_far| {
        let all = so_far.purchases + so_far.notifications;
        if all > told {
            told = all;
            eprintln!("{all} keys destroyed");
        }
    })
    .await?;
    println!(
        "{key} is given up: {} root keys, what was kept of {} purchases and {} notifications cannot \
         be read any more",
        abandoned.roots, abandoned.purchases, abandoned.notifications
    );
    println!("start the servers with a new key (`entitled encryption new-key --out FILE`)");
    db.close().await;
    Ok(())
}
