//! Replay of what is stored, page by page: notifications are read again and purchases decided again.
//! A dry run tells what comes out differently; carried out, unread notifications go back in line and
//! such purchases are asked about at their store. Effects are unique: none is repeated.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::replay::{self, Replayed};
use super::{Core, resolve};
use crate::domain::event::{Decision, MergeReason, SignalSource};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;
use crate::providers::contract::Reading;
use crate::storage::events::{self, NewEvent};
use crate::storage::ingress::Unresolved;
use crate::storage::replays::{self, Kept, Selection};
use crate::storage::sealed::Content;
use crate::storage::{StorageError, chains, timeline};

/// What is replayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) account: Option<AccountId>,
    /// A word of `raw_notifications.source`.
    pub(crate) source: Option<&'a str>,
    /// Inclusive, business time.
    pub(crate) since: Option<Instant>,
    /// Exclusive, business time.
    pub(crate) until: Option<Instant>,
    /// The operator's name: carry it out. `None`: a dry run.
    pub(crate) apply: Option<&'a str>,
}

/// Where a replay goes on: notifications first, then purchases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Notifications(Option<(Instant, Uuid)>),
    Purchases(Option<Uuid>),
}

impl Place {
    pub(crate) const START: Self = Self::Notifications(None);
}

/// Something that comes out differently.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Difference {
    /// The purchase, if one is known.
    pub(crate) purchase: Option<Uuid>,
    pub(crate) what: String,
    /// It was put back in line.
    pub(crate) applied: bool,
}

/// What one page came to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Page {
    pub(crate) notifications: usize,
    /// Of those, how many nobody can read again: their accounts were erased.
    pub(crate) erased: usize,
    pub(crate) purchases: Vec<Replayed>,
    pub(crate) differences: Vec<Difference>,
    /// `None`: that was all.
    pub(crate) next: Option<Place>,
}

/// Replays one page of at most `limit`.
pub(crate) async fn replay_page(
    core: &Core,
    asked: &Asked<'_>,
    place: Place,
    limit: i64,
) -> Result<Page, StorageError> {
    let selection = Selection {
        account: asked.account,
        source: asked.source,
        since: asked.since,
        until: asked.until,
        after: None,
        limit,
    };
    match place {
        Place::Notifications(after) => {
            notifications(core, asked, Selection { after, ..selection }).await
        }
        Place::Purchases(after) => purchases(core, asked, selection, after).await,
    }
}

async fn notifications(
    core: &Core,
    asked: &Asked<'_>,
    selection: Selection<'_>,
) -> Result<Page, StorageError> {
    let rows = replays::select(&core.db, &selection).await?;
    let full = i64::try_from(rows.len()).is_ok_and(|rows| rows == selection.limit);
    let next = match rows.last() {
        Some(last) if full => Place::Notifications(Some((last.received_at, last.id))),
        Some(_) | None => Place::Purchases(None),
    };
    let mut page = Page {
        notifications: rows.len(),
        next: Some(next),
        ..Page::default()
    };
    for row in rows {
        if row.body == Content::Erased {
            page.erased += 1;
            continue;
        }
        page.differences.extend(again(core, asked, row).await?);
    }
    core.received.notify_one();
    Ok(page)
}

/// How a reading would leave its row, and the store's word for it.
fn class(reading: &Reading) -> (&'static str, &str) {
    match reading {
        Reading::Chain(signal) => ("about a purchase", &signal.kind),
        Reading::Hint(hint) => ("a hint", &hint.kind),
        Reading::Ignored { kind, .. } => ("of no consequence", kind),
        Reading::Unsupported { kind, .. } => ("not supported", kind),
        Reading::Unreadable { reason } => ("unreadable", reason),
    }
}

fn class_of_row(row: &Kept) -> &'static str {
    match row.status.as_str() {
        "failed" => "unreadable",
        "ignored" => "of no consequence",
        "unsupported" => "not supported",
        "pending" => "a hint",
        _ => "about a purchase",
    }
}

async fn again(
    core: &Core,
    asked: &Asked<'_>,
    row: Kept,
) -> Result<Option<Difference>, StorageError> {
    let was = class_of_row(&row);
    let source = row.source.clone();
    let unresolved = Unresolved {
        id: row.id,
        source: row.source,
        body: row.body,
        received_at: row.received_at,
        row_key: None,
    };
    let reading = resolve::read(core, &unresolved);
    let (is, kind) = class(&reading);
    // A hint may have become a signal of a known purchase without a new reading: not for replay.
    if matches!(row.status.as_str(), "received" | "sealed")
        || was == is
        || (was == "about a purchase" && is == "a hint")
    {
        return Ok(None);
    }
    let settled = was == "about a purchase";
    let what = format!(
        "{source} notification of {}: was {was} ({}), reads as {is} ({kind}) now",
        row.received_at.format("%F %T"),
        row.detail.or(row.kind).unwrap_or_default(),
    );
    let applied = match asked.apply {
        Some(actor) if !settled => {
            let put = replays::read_again(&core.db, &source, row.id).await?;
            if put {
                told(core, actor, None, &what).await?;
            }
            put
        }
        Some(_) | None => false,
    };
    Ok(Some(Difference {
        purchase: row.chain,
        what,
        applied,
    }))
}

async fn purchases(
    core: &Core,
    asked: &Asked<'_>,
    selection: Selection<'_>,
    after: Option<Uuid>,
) -> Result<Page, StorageError> {
    let (ids, next) = match asked.account {
        Some(account) => (timeline::chains_of(&core.db, account).await?, None),
        None => {
            let ids = replays::chains(&core.db, &selection, after).await?;
            let full = i64::try_from(ids.len()).is_ok_and(|ids| ids == selection.limit);
            let next = ids.last().filter(|_| full);
            let next = next.map(|last| Place::Purchases(Some(last.0)));
            (ids, next)
        }
    };
    let mut page = Page {
        next,
        ..Page::default()
    };
    for id in ids {
        let now = core.clock.now();
        if chains::progress(&core.db, id, now).await?.lives_in != id {
            continue;
        }
        let replayed = match replay::replay_chain(core, id).await {
            Ok(replayed) => replayed,
            Err(error) => Replayed {
                chain: id,
                steps: 0,
                trimmed: 0,
                erased: 0,
                differences: vec![format!("it cannot be decided again: {error:#}")],
            },
        };
        let differences = replayed.differences.clone();
        page.purchases.push(replayed);
        let applied = match asked.apply {
            Some(actor) if !differences.is_empty() => {
                ask_again(core, actor, id, &differences).await?;
                true
            }
            Some(_) | None => false,
        };
        let told = differences.into_iter().map(|what| Difference {
            purchase: Some(id.0),
            what,
            applied,
        });
        page.differences.extend(told);
    }
    Ok(page)
}

/// Only the store's own answer changes a purchase: it is asked for, by the reconciler.
async fn ask_again(
    core: &Core,
    actor: &str,
    chain: ChainId,
    differences: &[String],
) -> Result<(), StorageError> {
    let mut tx = core.db.begin().await?;
    chains::mark_dirty(&mut tx, chain, SignalSource::Operator).await?;
    tx.commit().await?;
    core.work.notify_one();
    let detail = format!("replay: {}", differences.join("; "));
    told(core, actor, Some(chain), &detail).await
}

async fn told(
    core: &Core,
    actor: &str,
    chain: Option<ChainId>,
    detail: &str,
) -> Result<(), StorageError> {
    let mut tx = core.db.begin().await?;
    let decision = Decision::MergeOnly(MergeReason::AskedAgain);
    let event = NewEvent {
        chain,
        actor: Some(actor),
        detail: Some(detail),
        ..NewEvent::new(SignalSource::Operator, decision, core.clock.now())
    };
    events::append(&mut tx, event).await?;
    tx.commit().await?;
    Ok(())
}
