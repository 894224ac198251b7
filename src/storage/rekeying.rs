//! Puts keys under other keys, and under a key what was kept plain: in batches, each in its own
//! transaction, any of which may be the last one.

use sqlx::PgConnection;
use uuid::Uuid;

use super::keyring::{Keyring, Root};
use super::sealed::{receive, row_key_place};
use super::store_answers;
use super::{Db, StorageError, Tx, chain_keys};
use crate::domain::ids::ChainId;
use crate::domain::time::Instant;

/// A root key as operators see it.
#[derive(Clone, Debug)]
pub(crate) struct RootKey {
    pub(crate) id: Uuid,
    /// The key outside that wraps it.
    pub(crate) kek: String,
    pub(crate) created_at: Instant,
    pub(crate) retired_at: Option<Instant>,
    /// Chains' and rows' keys that it wraps.
    pub(crate) wraps: i64,
}

/// Every root key, newest first.
pub(crate) async fn roots(db: &Db) -> Result<Vec<RootKey>, StorageError> {
    let rows = sqlx::query_as!(
        RootKey,
        r#"select id, kek, created_at, retired_at,
                  (select count(*) from chain_keys c where c.root_id = k.id and wrapped is not null)
                  + (select count(*) from raw_notifications r where r.root_id = k.id) as "wraps!"
           from root_keys k order by created_at desc, id desc"#
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}

/// Documents that were kept plain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain {
    pub(crate) notifications: i64,
    pub(crate) answers: i64,
}

impl Plain {
    pub(crate) fn all(self) -> i64 {
        self.notifications + self.answers
    }
}

/// All of them, one by one: for operators who seal them.
pub(crate) async fn plain(db: &Db) -> Result<Plain, StorageError> {
    let plain = sqlx::query_as!(
        Plain,
        r#"select (select count(*) from raw_notifications where row_key is null and body <> '')
                      as "notifications!",
                  (select count(*) from store_answers
                   where chain_key_id is null and bodies <> '{}') as "answers!""#
    )
    .fetch_one(db.pool())
    .await?;
    Ok(plain)
}

/// The advisory lock of the one rotation that is under way.
const ROTATING: i64 = 0x656e_7469_6b65_7932;

/// A transaction that nobody else can have until it ends: it writes nothing, so that it holds back
/// neither clean-up nor readers. `None`: somebody has it.
pub(crate) async fn alone(db: &Db) -> Result<Option<Tx<'static>>, StorageError> {
    let mut tx = db.begin().await?;
    let alone = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock($1) as "alone!""#,
        ROTATING
    )
    .fetch_one(&mut *tx)
    .await?;
    Ok(alone.then_some(tx))
}

/// Whether a rotation to the key outside of that name made this root key and was not finished.
pub(crate) async fn is_unfinished(db: &Db, root: Uuid, kek: &str) -> Result<bool, StorageError> {
    let unfinished = sqlx::query_scalar!(
        r#"select exists (select from root_keys where id = $1 and rotation_to = $2) as "unfinished!""#,
        root,
        kek
    )
    .fetch_one(db.pool())
    .await?;
    Ok(unfinished)
}

/// Everything hangs on this root key.
pub(crate) async fn finish(db: &Db, root: Uuid) -> Result<(), StorageError> {
    sqlx::query!(
        "update root_keys set rotation_to = null where id = $1 and rotation_to is not null",
        root
    )
    .execute(db.pool())
    .await?;
    Ok(())
}

/// How many documents are plain, at most `limit`: costs no more where all of them are.
pub(crate) async fn plain_up_to(db: &Db, limit: i64) -> Result<i64, StorageError> {
    let plain = sqlx::query_scalar!(
        r#"select count(*) as "plain!" from (
               select 1 from raw_notifications where row_key is null and body <> ''
               union all
               select 1 from store_answers where chain_key_id is null and bodies <> '{}'
               limit $1) plain"#,
        limit
    )
    .fetch_one(db.pool())
    .await?;
    Ok(plain)
}

/// How many keys another root key wraps than this one.
pub(crate) async fn left(db: &Db, root: Uuid) -> Result<i64, StorageError> {
    let left = sqlx::query_scalar!(
        r#"select (select count(*) from chain_keys where wrapped is not null and root_id <> $1)
                + (select count(*) from raw_notifications
                   where root_id is not null and root_id <> $1) as "left!""#,
        root
    )
    .fetch_one(db.pool())
    .await?;
    Ok(left)
}

/// Where a walk over raw rows stands: the last one's source and id.
pub(crate) type RowMark = (String, Uuid);

/// The walk begins.
pub(crate) fn first_row() -> RowMark {
    (String::new(), Uuid::nil())
}

/// What became of a batch of a walk from one end of a table to the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walked<M> {
    /// Rows that were changed.
    pub(crate) moved: usize,
    /// Keys that do not open under the root key that they name.
    pub(crate) broken: usize,
    /// Where to go on; `None`: the table has no more.
    pub(crate) last: Option<M>,
}

/// Puts up to `limit` chains' keys under `root`, those after `after` by id. What somebody else holds
/// is left for the next walk.
pub(crate) async fn rewrap_chain_keys(
    db: &Db,
    root: &Root,
    after: Uuid,
    limit: i64,
) -> Result<Walked<Uuid>, StorageError> {
    let mut tx = db.begin().await?;
    let rows = sqlx::query!(
        r#"select id, chain_id, root_id, wrapped as "wrapped!" from chain_keys
           where wrapped is not null and root_id <> $1 and id > $2 order by id limit $3
           for update skip locked"#,
        root.id,
        after,
        limit
    )
    .fetch_all(&mut *tx)
    .await?;
    let last = rows.last().map(|row| row.id);
    let (mut ids, mut wrapped, mut broken) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let place = chain_keys::place(row.id, row.chain_id);
        let opened = match db.keyring().root(&mut tx, row.root_id).await? {
            Some(old) => old.unwrap_key(&place, &row.wrapped).ok(),
            None => None,
        };
        match opened {
            Some(bytes) => {
                wrapped.push(root.key.wrap(&place, &bytes)?);
                ids.push(row.id);
            }
            None => broken += 1,
        }
    }
    sqlx::query!(
        r#"update chain_keys k set wrapped = n.wrapped, root_id = $3
           from unnest($1::uuid[], $2::bytea[]) as n (id, wrapped) where k.id = n.id"#,
        &ids,
        &wrapped,
        root.id
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Walked {
        moved: ids.len(),
        broken,
        last,
    })
}

/// The same for keys of raw rows that no chain is known for.
pub(crate) async fn rewrap_row_keys(
    db: &Db,
    root: &Root,
    after: &RowMark,
    limit: i64,
) -> Result<Walked<RowMark>, StorageError> {
    let mut tx = db.begin().await?;
    let rows = sqlx::query!(
        r#"select source, id, root_id as "root_id!", row_key as "row_key!" from raw_notifications
           where root_id is not null and root_id <> $1 and row_key is not null
             and (source, id) > ($2, $3)
           order by source, id limit $4 for update skip locked"#,
        root.id,
        after.0,
        after.1,
        limit
    )
    .fetch_all(&mut *tx)
    .await?;
    let last = rows.last().map(|row| (row.source.clone(), row.id));
    let (mut sources, mut ids, mut wrapped) = (Vec::new(), Vec::new(), Vec::new());
    let mut broken = 0;
    for row in rows {
        let place = row_key_place(&row.source, row.id);
        let opened = match db.keyring().root(&mut tx, row.root_id).await? {
            Some(old) => old.unwrap_key(&place, &row.row_key).ok(),
            None => None,
        };
        match opened {
            Some(bytes) => {
                wrapped.push(root.key.wrap(&place, &bytes)?);
                sources.push(row.source);
                ids.push(row.id);
            }
            None => broken += 1,
        }
    }
    sqlx::query!(
        r#"update raw_notifications r set row_key = n.row_key, root_id = $4
           from unnest($1::text[], $2::uuid[], $3::bytea[]) as n (source, id, row_key)
           where r.source = n.source and r.id = n.id"#,
        &sources,
        &ids,
        &wrapped,
        root.id
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Walked {
        moved: ids.len(),
        broken,
        last,
    })
}

/// Forgets root keys that wrap nothing and that no process can have in use any more.
pub(crate) async fn forget_roots(db: &Db) -> Result<u64, StorageError> {
    let gone = sqlx::query!(
        r#"delete from root_keys k
           where retired_at < clock_timestamp() - interval '1 day'
             and not exists (select from chain_keys c
                             where c.root_id = k.id and c.wrapped is not null)
             and not exists (select from raw_notifications r where r.root_id = k.id)"#
    )
    .execute(db.pool())
    .await?
    .rows_affected();
    Ok(gone)
}

/// Seals plain raw rows, those after `after` by source and id.
pub(crate) async fn seal_rows(
    tx: &mut Tx<'_>,
    keys: &Keyring,
    root: &Root,
    after: &RowMark,
    limit: i64,
) -> Result<Walked<RowMark>, StorageError> {
    let rows = sqlx::query!(
        r#"select source, id, body, chain_id from raw_notifications
           where row_key is null and body <> '' and (source, id) > ($1, $2)
           order by source, id limit $3 for update skip locked"#,
        after.0,
        after.1,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let last = rows.last().map(|row| (row.source.clone(), row.id));
    for row in &rows {
        let received = receive(root, &row.source, row.id, &row.body)?;
        let handed = match row.chain_id {
            Some(chain) => {
                let place = row_key_place(&row.source, row.id);
                let bytes = root.key.unwrap_key(&place, &received.row_key)?;
                let key = key_of(tx, keys, ChainId(chain)).await?;
                Some((key.key.wrap(&place, &bytes)?, key.id))
            }
            None => None,
        };
        let (row_key, root_id, chain_key) = match handed {
            Some((row_key, id)) => (row_key, None, Some(id)),
            None => (received.row_key, Some(received.root_id), None),
        };
        sqlx::query!(
            r#"update raw_notifications
               set body = $3, row_key = $4, root_id = $5, chain_key_id = $6,
                   status = case status when 'received' then 'sealed' else status end
               where source = $1 and id = $2"#,
            row.source,
            row.id,
            received.body,
            row_key,
            root_id,
            chain_key
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(Walked {
        moved: rows.len(),
        broken: 0,
        last,
    })
}

/// The same for plain answers of stores.
pub(crate) async fn seal_answers(
    tx: &mut Tx<'_>,
    keys: &Keyring,
    after: i64,
    limit: i64,
) -> Result<Walked<i64>, StorageError> {
    // An append-only table lets nobody else.
    sqlx::query_scalar!("select set_config('entitled.sealing', 'on', true)")
        .fetch_one(&mut **tx)
        .await?;
    let rows = sqlx::query!(
        r#"select id, chain_id, fetched_at, calls, bodies from store_answers
           where chain_key_id is null and bodies <> '{}' and id > $1
           order by id limit $2 for update skip locked"#,
        after,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let last = rows.last().map(|row| row.id);
    for row in &rows {
        let key = key_of(tx, keys, ChainId(row.chain_id)).await?;
        let mut bodies = Vec::with_capacity(row.bodies.len());
        for (n, (call, body)) in row.calls.iter().zip(&row.bodies).enumerate() {
            let place = store_answers::place(row.chain_id, row.fetched_at, n, call);
            bodies.push(key.key.seal(&place, body)?);
        }
        sqlx::query!(
            "update store_answers set bodies = $2, chain_key_id = $3 where id = $1",
            row.id,
            &bodies,
            key.id
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(Walked {
        moved: rows.len(),
        broken: 0,
        last,
    })
}

async fn key_of(
    connection: &mut PgConnection,
    keys: &Keyring,
    chain: ChainId,
) -> Result<chain_keys::ChainKey, StorageError> {
    chain_keys::of_chain(connection, keys, chain)
        .await?
        .ok_or_else(|| StorageError::Other("encryption is off".into()))
}
