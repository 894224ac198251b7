//! Export: everything that is kept about an account, table by table, as of one moment.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use super::sealed::{self, Content, RawBody};
use super::store_answers::{self, Kept};
use super::{Db, StorageError, Tx, erasure};
use crate::domain::ids::AccountId;
use crate::domain::time::Instant;

type Rows = Json<Box<RawValue>>;

/// A table's rows of an account as JSON objects, in the words of its columns.
macro_rules! rows {
    ($tx:expr, $account:expr, $query:literal) => {{
        let rows: Option<Rows> = sqlx::query_scalar!($query, $account)
            .fetch_one(&mut **$tx)
            .await?;
        match rows {
            Some(Json(rows)) => serde_json::from_str(rows.get())
                .map_err(|error| StorageError::Corrupt(error.to_string()))?,
            None => Value::Array(Vec::new()),
        }
    }};
}

/// Everything of an account by table; `None`: there never was one.
pub(crate) async fn account(db: &Db, id: AccountId) -> Result<Option<Value>, StorageError> {
    let mut tx = db.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await?;
    // Accounts that became part of it are the same person's.
    let ids = erasure::with_merged(&mut tx, id).await?;
    if ids.is_empty() {
        return Ok(None);
    }
    let mut tables = of_account(&mut tx, &ids).await?;
    tables.extend(of_purchases(&mut tx, &ids).await?);
    let mine = mine(&mut tx, &ids).await?;
    tables.insert(
        "raw_notifications".into(),
        notifications(&mut tx, db, &mine).await?,
    );
    tables.insert("store_answers".into(), answers(&mut tx, db, &mine).await?);
    tx.rollback().await?;
    Ok(Some(Value::Object(tables)))
}

/// What is kept by account.
async fn of_account(tx: &mut Tx<'_>, ids: &[Uuid]) -> Result<Map<String, Value>, StorageError> {
    let mut tables = Map::new();
    let mut keep = |name: &str, rows: Value| tables.insert(name.to_owned(), rows);
    keep(
        "accounts",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t)) as "rows: Rows"
        from accounts t where id = any($1)"#
        ),
    );
    keep(
        "account_identities",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by created_at)
        as "rows: Rows" from account_identities t where account_id = any($1)"#
        ),
    );
    keep(
        "store_tokens",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by created_at)
        as "rows: Rows" from store_tokens t where account_id = any($1)"#
        ),
    );
    // Of sessions what they are; the hashes of what clients hold are credentials.
    keep(
        "token_sessions",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(jsonb_build_object('id', id,
            'account_id', account_id, 'created_at', created_at, 'expires_at', expires_at,
            'revoked_at', revoked_at) order by created_at)
        as "rows: Rows" from token_sessions t where account_id = any($1)"#
        ),
    );
    keep(
        "grants",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by created_at)
        as "rows: Rows" from grants t where account_id = any($1)"#
        ),
    );
    keep(
        "entitlement_snapshots",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) - 'changed_xid')
        as "rows: Rows" from entitlement_snapshots t where account_id = any($1)"#
        ),
    );
    keep(
        "snapshot_history",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by revision)
        as "rows: Rows" from snapshot_history t where account_id = any($1)"#
        ),
    );
    keep(
        "consumption",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by transaction_id)
        as "rows: Rows" from consumption t where account_id = any($1)"#
        ),
    );
    keep(
        "credit_entries",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by id)
        as "rows: Rows" from credit_entries t where account_id = any($1)"#
        ),
    );
    keep(
        "deliveries",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by created_at)
        as "rows: Rows" from deliveries t where account_id = any($1)"#
        ),
    );
    keep(
        "ownership_claims",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by opened_at)
        as "rows: Rows" from ownership_claims t where account_id = any($1)"#
        ),
    );
    // Of the other side of a move nothing is said.
    keep(
        "ownership_changes",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(jsonb_build_object(
            'chain_id', chain_id, 'at', at, 'reason', reason,
            'what', case when to_account_id = any($1) then 'came' else 'went' end) order by id)
        as "rows: Rows" from ownership_changes t where from_account_id = any($1) or to_account_id = any($1)"#
        ),
    );
    // Inputs name every party of a decision; what came of it for this account is the rest.
    keep(
        "subscription_events",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) - 'inputs' order by id)
        as "rows: Rows" from subscription_events t where account_id = any($1)"#
        ),
    );
    keep(
        "operator_actions",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by started_at)
        as "rows: Rows" from operator_actions t where account_id = any($1)"#
        ),
    );
    keep(
        "transactions",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by id)
        as "rows: Rows" from transactions t where account_id = any($1)"#
        ),
    );
    Ok(tables)
}

/// What is kept by purchase: of those that the account owns, and of what became part of them.
async fn of_purchases(tx: &mut Tx<'_>, ids: &[Uuid]) -> Result<Map<String, Value>, StorageError> {
    let mut tables = Map::new();
    let mut keep = |name: &str, rows: Value| tables.insert(name.to_owned(), rows);
    keep(
        "purchase_chains",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by created_at)
        as "rows: Rows" from purchase_chains t where owner_account_id = any($1)
        or merged_into in (select id from purchase_chains where owner_account_id = any($1))"#
        ),
    );
    keep(
        "chain_aliases",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by kind, value)
        as "rows: Rows" from chain_aliases t where chain_id in
        (select id from purchase_chains where owner_account_id = any($1))"#
        ),
    );
    keep(
        "chain_evidence",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by observed_at)
        as "rows: Rows" from chain_evidence t where chain_id in
        (select id from purchase_chains where owner_account_id = any($1))"#
        ),
    );
    keep(
        "store_subscription_state",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by chain_id)
        as "rows: Rows" from store_subscription_state t where chain_id in
        (select id from purchase_chains where owner_account_id = any($1))"#
        ),
    );
    keep(
        "duties",
        rows!(
            tx,
            ids,
            r#"select jsonb_agg(to_jsonb(t) order by id)
        as "rows: Rows" from duties t where chain_id in
        (select id from purchase_chains where owner_account_id = any($1))"#
        ),
    );
    Ok(tables)
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

async fn notifications(tx: &mut Tx<'_>, db: &Db, mine: &Mine) -> Result<Value, StorageError> {
    let ids = mine.ids();
    let rows = sqlx::query!(
        r#"select source, id, event_id, received_at, status, kind, detail, chain_id as "chain_id!",
                  body, row_key, root_id, chain_key_id
           from raw_notifications where chain_id = any($1) order by received_at, id"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut told = Vec::new();
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
        let (content, _) = sealed::open_raw(tx, db.keyring(), raw).await?;
        told.push(json!({
            "source": row.source, "id": row.id, "event_id": row.event_id,
            "received_at": row.received_at, "status": row.status, "kind": row.kind,
            "detail": row.detail, "chain_id": row.chain_id, "body": readable(content),
        }));
    }
    Ok(Value::Array(told))
}

async fn answers(tx: &mut Tx<'_>, db: &Db, mine: &Mine) -> Result<Value, StorageError> {
    let ids = mine.ids();
    let rows = sqlx::query!(
        r#"select id, chain_id, fetched_at from store_answers where chain_id = any($1) order by id"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut told = Vec::new();
    for row in rows {
        if !mine.concerns(row.chain_id, row.fetched_at) {
            continue;
        }
        let Some(Kept::Readable(answers, fetched_at)) =
            store_answers::read_in(tx, db.keyring(), row.id).await?
        else {
            continue;
        };
        let answers: Vec<Value> = answers
            .into_iter()
            .map(|(call, status, body)| {
                let body = readable(Content::Readable(body.to_vec()));
                json!({"call": call, "status": status, "body": body})
            })
            .collect();
        told.push(json!({
            "id": row.id, "chain_id": row.chain_id, "fetched_at": fetched_at, "answers": answers,
        }));
    }
    Ok(Value::Array(told))
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
