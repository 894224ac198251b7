//! Raw ingress: authentic webhook bodies, kept before anything is thought about them.

use uuid::Uuid;

use super::keyring::Keyring;
use super::sealed::{self, Content, RawBody};
use super::{Db, StorageError, Tx};
use crate::domain::chain::Alias;
use crate::domain::ids::ChainId;
use crate::domain::planted::{self, Bug};
use crate::domain::time::Instant;
use crate::encryption::KeyBytes;

/// An authentic body on its way into the table.
#[derive(Clone, Debug)]
pub(crate) struct NewRow {
    pub(crate) source: &'static str,
    pub(crate) event_id: String,
    pub(crate) body: Vec<u8>,
    pub(crate) received_at: Instant,
    /// Found by looking at the store instead of being delivered.
    pub(crate) swept: bool,
}

/// A row that waits to be read.
#[derive(Debug)]
pub(crate) struct Unresolved {
    pub(crate) id: Uuid,
    pub(crate) source: String,
    pub(crate) body: Content,
    pub(crate) received_at: Instant,
    /// The key that it is sealed under, to be handed to its chain.
    pub(crate) row_key: Option<KeyBytes>,
}

/// Inserts rows in one statement and commit, in key order; repeated keys are only counted. Tells
/// how many were new.
pub(crate) async fn insert(db: &Db, rows: &[NewRow]) -> Result<u64, StorageError> {
    let mut rows: Vec<&NewRow> = rows.iter().collect();
    rows.sort_by(|a, b| (a.source, &a.event_id).cmp(&(b.source, &b.event_id)));
    let ids: Vec<Uuid> = rows.iter().map(|_| Uuid::now_v7()).collect();
    let sources: Vec<String> = rows.iter().map(|row| row.source.to_owned()).collect();
    let event_ids: Vec<String> = rows
        .iter()
        .map(|row| match planted::is(Bug::SkipDedupe) {
            true => format!("{} {}", row.event_id, Uuid::now_v7()),
            false => row.event_id.clone(),
        })
        .collect();
    let root = db.keyring().current_now(db).await?;
    let (mut bodies, mut row_keys) = (Vec::new(), Vec::new());
    for (row, id) in rows.iter().zip(&ids) {
        match &root {
            Some(root) => {
                let received = sealed::receive(root, row.source, *id, &row.body)?;
                bodies.push(received.body);
                row_keys.push(Some(received.row_key));
            }
            None => {
                bodies.push(row.body.clone());
                row_keys.push(None);
            }
        }
    }
    let received: Vec<Instant> = rows.iter().map(|row| row.received_at).collect();
    let swept: Vec<bool> = rows.iter().map(|row| row.swept).collect();
    let inserted = sqlx::query!(
        r#"with incoming as (
               select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[],
                       $5::timestamptz[], $6::bool[], $7::bytea[])
                   as t (id, source, event_id, body, received_at, swept, row_key)
               -- A root key that is gone would open nothing.
               where $8::uuid is null or exists (select from root_keys where id = $8)
           ), keys as (
               insert into ingress_keys as k
                   (source, event_id, deliveries, first_received_at, last_received_at)
               select source, event_id, count(*) filter (where not swept), min(received_at),
                      max(received_at)
               from incoming group by source, event_id order by source, event_id
               on conflict (source, event_id) do update
               set deliveries = k.deliveries + excluded.deliveries,
                   last_received_at = excluded.last_received_at
               returning source, event_id, (xmax = 0) as fresh
           ), kept as (
           insert into raw_notifications
               (source, id, event_id, received_at, body, swept, row_key, root_id, status)
           select distinct on (i.source, i.event_id) i.source, i.id, i.event_id, i.received_at,
                  i.body, i.swept, i.row_key, $8::uuid,
                  case when i.row_key is null then 'received' else 'sealed' end
           from incoming i join keys k using (source, event_id) where k.fresh
           order by i.source, i.event_id, i.id
           returning 1
           )
           select (select count(*) from kept) as "kept!",
                  $8::uuid is null or exists (select from root_keys where id = $8) as "rooted!""#,
        &ids,
        &sources,
        &event_ids,
        &bodies,
        &received,
        &swept,
        &row_keys as _,
        root.map(|root| root.id)
    )
    .fetch_one(db.pool())
    .await?;
    if !inserted.rooted {
        return Err(StorageError::Unavailable(
            "the root key that new bodies hang on is gone".into(),
        ));
    }
    Ok(u64::try_from(inserted.kept).unwrap_or_default())
}

/// Takes rows that nobody has read yet, oldest first; they stay locked until the transaction ends.
pub(crate) async fn take_unresolved(
    tx: &mut Tx<'_>,
    keys: &Keyring,
    limit: i64,
) -> Result<Vec<Unresolved>, StorageError> {
    let rows = sqlx::query!(
        r#"select id, source, body, received_at, row_key, root_id, chain_key_id
           from raw_notifications
           where status in ('received', 'sealed') order by id limit $1 for update skip locked"#,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut unresolved = Vec::with_capacity(rows.len());
    for row in rows {
        let raw = RawBody {
            source: &row.source,
            id: row.id,
            body: row.body,
            row_key: row.row_key,
            root_id: row.root_id,
            chain_key_id: row.chain_key_id,
        };
        let (body, row_key) = sealed::open_raw(tx, keys, raw).await?;
        unresolved.push(Unresolved {
            id: row.id,
            source: row.source,
            body,
            received_at: row.received_at,
            row_key,
        });
    }
    Ok(unresolved)
}

/// What reading a row came to.
#[derive(Clone, Debug)]
pub(crate) enum Resolution<'a> {
    Chain {
        chain: ChainId,
        seq: i64,
        detail: &'a str,
    },
    /// No chain has that name yet.
    Pending {
        awaited: &'a Alias,
    },
    Ignored {
        detail: &'a str,
    },
    Unsupported {
        detail: &'a str,
    },
    Failed {
        detail: &'a str,
    },
}

/// Writes what a row came to. The key of one about a chain becomes that chain's to destroy.
pub(crate) async fn resolve(
    tx: &mut Tx<'_>,
    keys: &Keyring,
    row: &Unresolved,
    kind: Option<&str>,
    resolution: Resolution<'_>,
) -> Result<(), StorageError> {
    let awaited = match &resolution {
        Resolution::Pending { awaited } => Some(*awaited),
        Resolution::Chain { .. }
        | Resolution::Ignored { .. }
        | Resolution::Unsupported { .. }
        | Resolution::Failed { .. } => None,
    };
    let handed = match (&row.row_key, &resolution) {
        (Some(key), Resolution::Chain { chain, .. }) => {
            sealed::rewrap(tx, keys, (&row.source, row.id), key, *chain).await?
        }
        (
            _,
            Resolution::Chain { .. }
            | Resolution::Pending { .. }
            | Resolution::Ignored { .. }
            | Resolution::Unsupported { .. }
            | Resolution::Failed { .. },
        ) => None,
    };
    let (row_key, chain_key) = handed.unzip();
    let (status, chain, seq, detail) = match resolution {
        Resolution::Chain { chain, seq, detail } => {
            ("resolved", Some(chain.0), Some(seq), Some(detail))
        }
        Resolution::Pending { .. } => ("pending", None, None, None),
        Resolution::Ignored { detail } => ("ignored", None, None, Some(detail)),
        Resolution::Unsupported { detail } => ("unsupported", None, None, Some(detail)),
        Resolution::Failed { detail } => ("failed", None, None, Some(detail)),
    };
    sqlx::query!(
        r#"update raw_notifications
           set status = $3, kind = $4, chain_id = $5, resolved_seq = $6, detail = $7,
               awaits_provider = $8, awaits_app = $9, awaits_kind = $10, awaits_value = $11,
               row_key = coalesce($12, row_key), chain_key_id = coalesce($13, chain_key_id),
               root_id = case when $13::uuid is null then root_id end
           where source = $1 and id = $2"#,
        row.source,
        row.id,
        status,
        kind,
        chain,
        seq,
        detail,
        awaited.map(|name| name.provider.as_str()),
        awaited.map(|name| name.app.0.as_str()),
        awaited.map(|name| name.kind.as_str()),
        awaited.map(|name| name.value.as_str()),
        row_key,
        chain_key
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Pending rows that one of these names resolves are read again; tells how many.
pub(crate) async fn wake(tx: &mut Tx<'_>, names: &[Alias]) -> Result<u64, StorageError> {
    let values: Vec<String> = names.iter().map(|name| name.value.clone()).collect();
    let rows = sqlx::query!(
        r#"update raw_notifications r
           set status = case when r.row_key is null then 'received' else 'sealed' end
           from chain_aliases a
           where r.status = 'pending' and r.awaits_value = any($1)
             and a.provider = r.awaits_provider and a.app = r.awaits_app
             and a.kind = r.awaits_kind and a.value = r.awaits_value"#,
        &values
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok(rows)
}

/// The same for all names: a name may have become known while its row was being set aside.
pub(crate) async fn wake_all(db: &Db) -> Result<u64, StorageError> {
    let rows = sqlx::query!(
        r#"update raw_notifications r
           set status = case when r.row_key is null then 'received' else 'sealed' end
           from chain_aliases a
           where r.status = 'pending'
             and a.provider = r.awaits_provider and a.app = r.awaits_app
             and a.kind = r.awaits_kind and a.value = r.awaits_value"#
    )
    .execute(db.pool())
    .await?
    .rows_affected();
    Ok(rows)
}

/// Rows whose signal is covered by a settle at `synced_seq` are done.
pub(crate) async fn mark_processed(
    tx: &mut Tx<'_>,
    chain: ChainId,
    synced_seq: i64,
) -> Result<u64, StorageError> {
    let rows = sqlx::query!(
        r#"update raw_notifications set status = 'processed'
           where chain_id = $1 and status = 'resolved' and resolved_seq <= $2"#,
        chain.0,
        synced_seq
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok(rows)
}

/// How many rows wait to be read or settled.
pub(crate) async fn backlog(db: &Db) -> Result<i64, StorageError> {
    let waiting = sqlx::query_scalar!(
        r#"select (select count(*) from raw_notifications where status in ('received', 'sealed'))
                + (select count(*) from raw_notifications where status = 'resolved') as "count!""#
    )
    .fetch_one(db.pool())
    .await?;
    Ok(waiting)
}
