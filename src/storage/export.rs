//! Export: everything that is kept about an account, table by table, as of one moment.
//!
//! Row by row, no faster than it is taken: an account may have more than fits into memory.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::TryStreamExt as _;
use serde_json::{Value, json};
use sqlx::types::Json;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::chain_keys::Remembered;
use super::sealed::{self, Content, RawBody};
use super::store_answers::{self, Kept};
use super::{Db, StorageError, Tx, erasure};
use crate::domain::ids::AccountId;
use crate::domain::time::Instant;

/// Whoever takes nothing for so long has gone: the transaction is not kept open for them.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Documents that are opened at once.
const PAGE_ROWS: i64 = 50;

/// What an export is made of, in order.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The rows that follow are this table's.
    Table(&'static str),
    /// In the words of its columns.
    Row(Value),
}

/// Where the pieces go.
pub(crate) struct Out(pub(crate) mpsc::Sender<Piece>);

impl Out {
    async fn send(&self, piece: Piece) -> Result<(), StorageError> {
        match tokio::time::timeout(TAKEN_WITHIN, self.0.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StorageError::Unavailable(
                "whoever asked for an export does not take it".into(),
            )),
        }
    }
}

/// An account's rows of a moment, in a transaction that sees nothing later.
pub(crate) struct Export {
    tx: Tx<'static>,
    db: Db,
    /// The account and those that became part of it: they are the same person's.
    ids: Vec<Uuid>,
    /// What stores call them, in lower case.
    pub(crate) tokens: HashSet<String>,
}

/// Rows of one table: what of them (`t`), which, in which order.
macro_rules! rows {
    ($export:expr, $out:expr, $table:literal, $row:literal, $of:literal, $order:literal) => {{
        $out.send(Piece::Table($table)).await?;
        let query = sqlx::query_scalar!(
            "select "
                + $row
                + " as \"row!: Json<Value>\" from "
                + $table
                + " t where "
                + $of
                + " order by "
                + $order,
            &$export.ids
        );
        let mut rows = query.fetch(&mut *$export.tx);
        while let Some(Json(row)) = rows.try_next().await? {
            $out.send(Piece::Row(row)).await?;
        }
    }};
}

/// Whole rows that name the account.
macro_rules! of_account {
    ($export:expr, $out:expr, $($table:literal by $order:literal),+ $(,)?) => {
        $(rows!($export, $out, $table, "to_jsonb(t)", "account_id = any($1)", $order);)+
    };
}

/// Whole rows about purchases that it owns.
macro_rules! of_purchases {
    ($export:expr, $out:expr, $($table:literal by $order:literal),+ $(,)?) => {
        $(rows!($export, $out, $table, "to_jsonb(t)",
            "chain_id in (select id from purchase_chains where owner_account_id = any($1))",
            $order);)+
    };
}

/// Begins an export; `None`: there never was such an account.
pub(crate) async fn begin(db: &Db, id: AccountId) -> Result<Option<Export>, StorageError> {
    let mut tx = db.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await?;
    let ids = erasure::with_merged(&mut tx, id).await?;
    if ids.is_empty() {
        return Ok(None);
    }
    let tokens = erasure::tokens(&mut tx, &ids).await?;
    Ok(Some(Export {
        tx,
        db: db.clone(),
        ids,
        tokens: tokens.into_iter().collect(),
    }))
}

impl Export {
    /// Sends everything; returns when the last piece is taken.
    pub(crate) async fn send(mut self, out: &Out) -> Result<(), StorageError> {
        self.accounts(out).await?;
        self.purchases(out).await?;
        let mine = mine(&mut self.tx, &self.ids).await?;
        let mut remembered = Remembered::default();
        self.notifications(out, &mine, &mut remembered).await?;
        self.answers(out, &mine, &mut remembered).await?;
        self.tx.rollback().await?;
        Ok(())
    }

    /// What is kept by account.
    async fn accounts(&mut self, out: &Out) -> Result<(), StorageError> {
        rows!(
            self,
            out,
            "accounts",
            "to_jsonb(t) - 'ended_xid'",
            "id = any($1)",
            "created_at"
        );
        // Of sessions what they are; the hashes of what clients hold are credentials.
        rows!(
            self,
            out,
            "token_sessions",
            "jsonb_build_object('id', id, 'account_id', account_id, 'created_at', created_at,
                'expires_at', expires_at, 'revoked_at', revoked_at)",
            "account_id = any($1)",
            "created_at"
        );
        rows!(
            self,
            out,
            "entitlement_snapshots",
            "to_jsonb(t) - 'changed_xid'",
            "account_id = any($1)",
            "account_id"
        );
        // Of the other side of a move nothing is said.
        rows!(
            self,
            out,
            "ownership_changes",
            "jsonb_build_object('chain_id', chain_id, 'at', at, 'reason', reason,
                'what', case when to_account_id = any($1) then 'came' else 'went' end)",
            "from_account_id = any($1) or to_account_id = any($1)",
            "id"
        );
        // Inputs name every party of a decision; what came of it for this account is the rest.
        rows!(
            self,
            out,
            "subscription_events",
            "to_jsonb(t) - 'inputs'",
            "account_id = any($1)",
            "id"
        );
        of_account!(
            self,
            out,
            "account_identities" by "created_at",
            "store_tokens" by "created_at",
            "grants" by "created_at",
            "snapshot_history" by "revision",
            "consumption" by "transaction_id",
            "credit_entries" by "id",
            "deliveries" by "created_at",
            "ownership_claims" by "opened_at",
            "operator_actions" by "started_at",
            "transactions" by "id",
        );
        Ok(())
    }

    /// What is kept by purchase: of those that the account owns, and of what became part of them.
    async fn purchases(&mut self, out: &Out) -> Result<(), StorageError> {
        rows!(
            self,
            out,
            "purchase_chains",
            "to_jsonb(t)",
            "owner_account_id = any($1) or merged_into in
                (select id from purchase_chains where owner_account_id = any($1))",
            "created_at"
        );
        of_purchases!(
            self,
            out,
            "chain_aliases" by "kind, value",
            "chain_evidence" by "observed_at",
            "store_subscription_state" by "chain_id",
            "duties" by "id",
        );
        Ok(())
    }

    async fn notifications(
        &mut self,
        out: &Out,
        mine: &Mine,
        remembered: &mut Remembered,
    ) -> Result<(), StorageError> {
        out.send(Piece::Table("raw_notifications")).await?;
        let chains = mine.ids();
        let mut after: Option<(Instant, Uuid)> = None;
        loop {
            let rows = sqlx::query!(
                r#"select source, id, event_id, received_at, status, kind, detail,
                          chain_id as "chain_id!", body, row_key, root_id, chain_key_id
                   from raw_notifications
                   where chain_id = any($1) and (received_at, id) > (coalesce($2, '-infinity'::timestamptz), $3)
                   order by received_at, id limit $4"#,
                &chains,
                after.map(|(at, _)| at),
                after.map_or(Uuid::nil(), |(_, id)| id),
                PAGE_ROWS
            )
            .fetch_all(&mut *self.tx)
            .await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = Some((last.received_at, last.id));
            for row in rows {
                if !mine.concerns(row.chain_id, row.received_at) {
                    continue;
                }
                let raw = RawBody {
                    source: &row.source,
                    id: row.id,
                    body: row.body,
                    row_key: row.row_key,
                    root_id: row.root_id,
                    chain_key_id: row.chain_key_id,
                };
                let keys = self.db.keyring();
                let (content, _) =
                    sealed::open_raw_with(&mut self.tx, keys, remembered, raw).await?;
                let told = json!({
                    "source": row.source, "id": row.id, "event_id": row.event_id,
                    "received_at": row.received_at, "status": row.status, "kind": row.kind,
                    "detail": row.detail, "chain_id": row.chain_id, "body": readable(content),
                });
                out.send(Piece::Row(told)).await?;
            }
        }
    }

    async fn answers(
        &mut self,
        out: &Out,
        mine: &Mine,
        remembered: &mut Remembered,
    ) -> Result<(), StorageError> {
        out.send(Piece::Table("store_answers")).await?;
        let chains = mine.ids();
        let mut after = i64::MIN;
        loop {
            let rows = store_answers::page(&mut self.tx, &chains, after, PAGE_ROWS).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = last.id;
            for row in rows {
                let (id, chain) = (row.id, row.chain_id);
                if !mine.concerns(chain, row.fetched_at) {
                    continue;
                }
                let keys = self.db.keyring();
                let kept = store_answers::open(&mut self.tx, keys, remembered, row).await?;
                let Kept::Readable(answers, fetched_at) = kept else {
                    continue;
                };
                let answers: Vec<Value> = answers
                    .into_iter()
                    .map(|(call, status, body)| {
                        let body = readable(Content::Readable(body.to_vec()));
                        json!({"call": call, "status": status, "body": body})
                    })
                    .collect();
                let told = json!({
                    "id": id, "chain_id": chain, "fetched_at": fetched_at, "answers": answers,
                });
                out.send(Piece::Row(told)).await?;
            }
        }
    }
}

/// The purchases that the accounts own, and what became part of them, each with the moment since when
/// nobody else has owned it: what stores said before is the one's before.
async fn mine(tx: &mut Tx<'_>, ids: &[Uuid]) -> Result<Mine, StorageError> {
    let rows = sqlx::query!(
        r#"with mine as (
               select c.id, w.id as whole, w.detached_at
               from purchase_chains c join purchase_chains w on w.id = coalesce(c.merged_into, c.id)
               where w.owner_account_id = any($1)
           )
           select id as "id!", greatest(detached_at,
                      (select max(o.at) from ownership_changes o
                       where o.chain_id in (select i.id from mine i where i.whole = m.whole)
                         and o.from_account_id is not null
                         and o.from_account_id <> all($1))) as since
           from mine m"#,
        ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let since = rows.iter().map(|row| (row.id, row.since)).collect();
    Ok(Mine(since))
}

struct Mine(HashMap<Uuid, Option<Instant>>);

impl Mine {
    fn ids(&self) -> Vec<Uuid> {
        self.0.keys().copied().collect()
    }

    /// Whether what was said of a purchase at that moment was said of them.
    fn concerns(&self, chain: Uuid, at: Instant) -> bool {
        match self.0.get(&chain) {
            Some(Some(since)) => at >= *since,
            Some(None) => true,
            None => false,
        }
    }
}

/// A document as JSON where it is JSON, else as text.
fn readable(content: Content) -> Value {
    match content {
        Content::Readable(bytes) => serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())),
        Content::Erased => json!({"erased": true}),
        Content::Broken(_) => json!({"unreadable": true}),
    }
}
