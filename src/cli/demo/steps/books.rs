//! The books: what support can read about the account, and that deciding again agrees with it.

use anyhow::Context as _;

use super::super::report::{Miss, Shown, Words};
use super::super::scene::{ACCOUNT, Scene};
use crate::app::{CatalogFile, build_core};
use crate::config::Config;
use crate::flows::read_entitlements::named_account;
use crate::flows::replay::replay;
use crate::flows::tell_timeline::{Part, Subject, tell_timeline};
use crate::storage::timeline::Entry;

pub(crate) const TIMELINE: Words = Words {
    title: "What support sees: the account's whole story",
    about: "Every notification, claim, decision and duty has left a line with its reason: the \
            duplicates, the refused claim, the end by time. `entitled timeline dev:alice` prints it.",
    promises: &[5],
};

pub(crate) async fn timeline(scene: &Scene<'_>) -> Result<Shown, Miss> {
    let entries = entries(&config(scene)?).await?;
    let told = |layer: &str, words: &str| {
        let says = |entry: &&Entry| format!("{} {}", entry.what, entry.detail).contains(words);
        entries
            .iter()
            .filter(|entry| entry.layer == layer)
            .any(|entry| says(&entry))
    };
    for (layer, words) in [
        ("notification", "delivered 3 times"),
        ("claim", "won"),
        ("decision", "owned_by_another"),
        ("decision", "time"),
        ("owner", ""),
        ("duty", "done"),
    ] {
        if !told(layer, words) {
            let expected = format!("the timeline has a {layer} that says \"{words}\"");
            return Err(Miss::new(
                expected,
                format!("{} other entries", entries.len()),
            ));
        }
    }
    let mut shown = Shown::lines([format!("{} entries; the oldest first", entries.len())]);
    shown.timeline = entries;
    Ok(shown)
}

/// The account's whole story.
async fn entries(config: &Config) -> anyhow::Result<Vec<Entry>> {
    let core = build_core(config, None, CatalogFile::Ignore).await?;
    let account = named_account(&core, ACCOUNT).await?;
    let account = account.context("the account is gone")?.id;
    let entries = tell_timeline(&core, &Subject::Account(account), Part::default()).await?;
    core.db.close().await;
    Ok(entries)
}

pub(crate) const REPLAY: Words = Words {
    title: "Deciding everything again gives the same result",
    about: "The store's answers were kept as they came. All decisions about Alice's purchases are \
            made again from them, without asking any store, and compared with what is stored.",
    promises: &[10],
};

pub(crate) async fn replayed(scene: &Scene<'_>) -> Result<Shown, Miss> {
    let core = build_core(
        &config(scene)?,
        Some(scene.stack.clock.clone().into()),
        CatalogFile::Ignore,
    )
    .await?;
    let account = named_account(&core, ACCOUNT).await?;
    let account = account.ok_or_else(|| Miss::new("the account is known", "it is not"))?;
    let chains = replay(&core, account.id).await;
    core.db.close().await;
    let chains = chains?;
    let differences: Vec<String> = chains
        .iter()
        .flat_map(|chain| chain.differences.clone())
        .collect();
    if !differences.is_empty() || chains.is_empty() {
        return Err(Miss::new("no difference", differences.join("; ")));
    }
    let decisions: usize = chains.iter().map(|chain| chain.steps).sum();
    let purchases = chains.len();
    Ok(Shown::lines([format!(
        "{purchases} purchases, {decisions} decisions, no difference"
    )]))
}

fn config(scene: &Scene<'_>) -> Result<Config, Miss> {
    Config::load(Some(&scene.stack.address.config)).map_err(|problem| {
        Miss::new(
            "the server's configuration can be read",
            problem.to_string(),
        )
    })
}
