//! Resolve: read raw rows, find or create their chains, mark them dirty.

use tracing::warn;

use super::Core;
use crate::domain::chain::Alias;
use crate::domain::event::SignalSource;
use crate::domain::provider::Provider;
use crate::domain::time::Instant;
use crate::failpoint;
use crate::providers::contract::{Reading, Signal};
use crate::storage::ingress::{self, Resolution, Unresolved};
use crate::storage::{StorageError, Tx, chains, evidence};

const BATCH: i64 = 64;

/// Resolves one batch; tells how many rows it read.
pub(crate) async fn resolve_batch(core: &Core) -> Result<usize, StorageError> {
    let now = core.clock.now();
    let mut tx = core.db.begin().await?;
    let rows = ingress::take_unresolved(&mut tx, BATCH).await?;
    if rows.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    let mut readings: Vec<(&Unresolved, Reading)> =
        rows.iter().map(|row| (row, read(core, row))).collect();
    // Chains are touched in one order everywhere, so that two batches never wait for each other.
    readings.sort_by(|a, b| alias(&a.1).cmp(&alias(&b.1)));
    for (row, reading) in &readings {
        resolve(&mut tx, row, reading, now).await?;
    }
    failpoint::at("before_resolve_commit");
    tx.commit().await?;
    Ok(rows.len())
}

fn read(core: &Core, row: &Unresolved) -> Reading {
    match Provider::parse(&row.source) {
        Some(provider) => core.stores.read(provider, &row.body, &core.catalog.load()),
        None => Reading::Unreadable {
            reason: "unknown source".into(),
        },
    }
}

fn alias(reading: &Reading) -> Option<&Alias> {
    match reading {
        Reading::Chain(signal) => Some(&signal.alias),
        Reading::Ignored { .. } | Reading::Unreadable { .. } => None,
    }
}

async fn resolve(
    tx: &mut Tx<'_>,
    row: &Unresolved,
    reading: &Reading,
    now: Instant,
) -> Result<(), StorageError> {
    match reading {
        Reading::Chain(signal) => resolve_signal(tx, row, signal, now).await,
        Reading::Ignored { kind, reason } => {
            ingress::resolve(tx, row, Some(kind), Resolution::Ignored { detail: reason }).await
        }
        Reading::Unreadable { reason } => {
            warn!(
                source = row.source,
                reason, "an authentic notification cannot be read; kept"
            );
            metrics::counter!("entitled_notifications_unreadable_total", "provider" => row.source.clone())
                .increment(1);
            ingress::resolve(tx, row, None, Resolution::Failed { detail: reason }).await
        }
    }
}

async fn resolve_signal(
    tx: &mut Tx<'_>,
    row: &Unresolved,
    signal: &Signal,
    now: Instant,
) -> Result<(), StorageError> {
    let chain = chains::find_or_create(tx, &signal.alias, now).await?;
    let seq = chains::mark_dirty(tx, chain, SignalSource::Notification).await?;
    for fact in &signal.evidence {
        evidence::add(
            tx,
            chain,
            fact,
            signal.occurred_at.unwrap_or(row.received_at),
        )
        .await?;
    }
    ingress::resolve(
        tx,
        row,
        Some(&signal.kind),
        Resolution::Chain { chain, seq },
    )
    .await
}
