//! The event log: append-only, one row per decision, with what is needed to decide again.

use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use super::{StorageError, Tx};
use crate::domain::event::{Decision, SignalSource};
use crate::domain::ids::{AccountId, CatalogVersion, ChainId, Revision};
use crate::domain::planted::{self, Bug};
use crate::domain::reconcile::{Book, Step};
use crate::domain::subscription::store_state::Evidence;
use crate::domain::time::Instant;

/// What decided an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Inputs {
    /// A step of the reconciler: answer, claims, time; evidence as it was then.
    Step { step: Step, evidence: Vec<Evidence> },
    /// A join of chains or an operator's transfer: from here on the chain's book is this one.
    Rebased(Book),
}

/// An event to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent<'a> {
    pub(crate) chain: Option<ChainId>,
    pub(crate) account: Option<AccountId>,
    pub(crate) at: Instant,
    pub(crate) source: SignalSource,
    pub(crate) decision: Decision,
    pub(crate) actor: Option<&'a str>,
    pub(crate) detail: Option<&'a str>,
    pub(crate) revision: Option<Revision>,
    pub(crate) catalog: Option<CatalogVersion>,
    pub(crate) answer_id: Option<i64>,
    pub(crate) inputs: Option<&'a Inputs>,
}

impl NewEvent<'_> {
    /// An event with nothing but its decision; fill in what applies.
    pub(crate) fn new(source: SignalSource, decision: Decision, at: Instant) -> Self {
        Self {
            chain: None,
            account: None,
            at,
            source,
            decision,
            actor: None,
            detail: None,
            revision: None,
            catalog: None,
            answer_id: None,
            inputs: None,
        }
    }
}

pub(crate) async fn append(tx: &mut Tx<'_>, event: NewEvent<'_>) -> Result<(), StorageError> {
    if matches!(event.decision, Decision::Skip(_)) && planted::is(Bug::SkippedLeavesNoTrace) {
        return Ok(());
    }
    let (decision, reason) = event.decision.words();
    sqlx::query!(
        r#"insert into subscription_events (chain_id, account_id, at, source, decision, reason,
               actor, detail, revision, catalog_version, answer_id, inputs)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"#,
        event.chain.map(|id| id.0),
        event.account.map(|id| id.0),
        event.at,
        event.source.as_str(),
        decision,
        reason,
        event.actor,
        event.detail,
        event.revision.map(|revision| revision.0),
        event.catalog.map(|version| version.0),
        event.answer_id,
        event.inputs.map(Json) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A stored decision about a chain, in order, for replay.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) id: i64,
    /// Business time.
    pub(crate) at: Instant,
    pub(crate) decision: String,
    pub(crate) reason: String,
    pub(crate) catalog: Option<CatalogVersion>,
    pub(crate) answer_id: Option<i64>,
    pub(crate) inputs: Inputs,
}

pub(crate) async fn of_chain(
    tx: &mut Tx<'_>,
    chain: ChainId,
) -> Result<Vec<Recorded>, StorageError> {
    let rows = sqlx::query!(
        r#"select id, at, decision, reason, catalog_version, answer_id,
                  inputs as "inputs!: Json<Inputs>"
           from subscription_events where chain_id = $1 and inputs is not null order by id"#,
        chain.0
    )
    .fetch_all(&mut **tx)
    .await?;
    let recorded = rows.into_iter().map(|row| Recorded {
        id: row.id,
        at: row.at,
        decision: row.decision,
        reason: row.reason,
        catalog: row.catalog_version.map(CatalogVersion),
        answer_id: row.answer_id,
        inputs: row.inputs.0,
    });
    Ok(recorded.collect())
}
