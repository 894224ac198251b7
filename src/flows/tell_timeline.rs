//! Timeline: the story of an account or of a purchase across the layers, in time order.

use super::Core;
use crate::domain::event::{Decision, SignalSource};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;
use crate::domain::wording;
pub(crate) use crate::storage::timeline::Entry;
use crate::storage::timeline::{self, Page};
use crate::storage::{StorageError, holdings};

/// Whose story.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Account(AccountId),
    Purchases(Vec<ChainId>),
}

/// Which part of it, and from where on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Words of [`Entry::layer`]; empty: all.
    pub(crate) layers: Vec<String>,
    /// Inclusive, business time.
    pub(crate) since: Option<Instant>,
    /// Exclusive, business time.
    pub(crate) until: Option<Instant>,
    /// The last entry of the page before.
    pub(crate) after: Option<(Instant, i32, String)>,
    /// `None`: everything.
    pub(crate) limit: Option<i64>,
}

/// What happened to an account and to the purchases it owns, owned or asked for; or to purchases.
pub(crate) async fn tell_timeline(
    core: &Core,
    subject: &Subject,
    part: Part,
) -> Result<Vec<Entry>, StorageError> {
    let (account, chains) = match subject {
        Subject::Account(account) => (
            Some(*account),
            timeline::chains_of(&core.db, *account).await?,
        ),
        Subject::Purchases(chains) => (None, chains.clone()),
    };
    let page = Page {
        account,
        chains: &chains,
        layers: &part.layers,
        since: part.since,
        until: part.until,
        after: part.after,
        limit: part.limit,
    };
    timeline::entries(&core.db, &page).await
}

/// The purchases that an operator names by our id or a store's.
pub(crate) async fn named_purchases(core: &Core, name: &str) -> Result<Vec<ChainId>, StorageError> {
    holdings::by_store_id(&core.db, name).await
}

/// A decision as a sentence for people; empty for the other layers.
pub(crate) fn story(entry: &Entry) -> String {
    let (Some(source), Some(decision), Some(reason)) =
        (&entry.source, &entry.decision, &entry.reason)
    else {
        return String::new();
    };
    let source = SignalSource::parse(source)
        .map_or_else(|| source.clone(), |source| wording::source(source, None));
    let decision = Decision::parse(decision, reason)
        .map_or_else(|| reason.clone(), |it| wording::decision(it).to_owned());
    format!("{source}: {decision}")
}
