//! Giving up a key outside that is lost: what hangs on it is destroyed in batches, so that everything
//! else can go on. Done again it goes on where it was.

use uuid::Uuid;

use super::{Db, StorageError};

/// The root keys under a key outside.
pub(crate) async fn roots_under(db: &Db, kek: &str) -> Result<Vec<Uuid>, StorageError> {
    let ids = sqlx::query_scalar!("select id from root_keys where kek = $1 order by id", kek)
        .fetch_all(db.pool())
        .await?;
    Ok(ids)
}

/// The keys outside that are needed.
pub(crate) async fn needed(db: &Db) -> Result<Vec<String>, StorageError> {
    let names = sqlx::query_scalar!("select distinct kek from root_keys order by kek")
        .fetch_all(db.pool())
        .await?;
    Ok(names)
}

/// Destroys up to `limit` chains' keys that hang on one of these root keys, or on one that is gone.
pub(crate) async fn destroy_chain_keys(
    db: &Db,
    roots: &[Uuid],
    limit: i64,
) -> Result<u64, StorageError> {
    let destroyed = sqlx::query!(
        r#"update chain_keys set wrapped = null, destroyed_at = clock_timestamp()
           where id in (
               select c.id from chain_keys c
               where c.wrapped is not null and (c.root_id = any($1)
                     or not exists (select from root_keys k where k.id = c.root_id))
               order by c.id limit $2 for update)"#,
        roots,
        limit
    )
    .execute(db.pool())
    .await?
    .rows_affected();
    Ok(destroyed)
}

/// Empties up to `limit` notifications that hang on one of these root keys, or on one that is gone.
/// One that waited to be read is as if it had never come: found at its store again, it is taken.
pub(crate) async fn empty_rows(db: &Db, roots: &[Uuid], limit: i64) -> Result<u64, StorageError> {
    let emptied = sqlx::query_scalar!(
        r#"with lost as (
               select r.source, r.id, r.event_id, r.status in ('sealed', 'pending') as waited
               from raw_notifications r
               where r.root_id is not null and (r.root_id = any($1)
                     or not exists (select from root_keys k where k.id = r.root_id))
               limit $2 for update
           ), unknown as (
               delete from ingress_keys k using lost
               where lost.waited and k.source = lost.source and k.event_id = lost.event_id
           ), emptied as (
               update raw_notifications r
               set body = '', row_key = null, root_id = null,
                   status = case when lost.waited then 'failed' else r.status end,
                   detail = case when lost.waited then 'the key that it was sealed under is lost'
                                 else r.detail end
               from lost where r.source = lost.source and r.id = lost.id
               returning 1
           )
           select count(*) as "count!" from emptied"#,
        roots,
        limit
    )
    .fetch_one(db.pool())
    .await?;
    Ok(u64::try_from(emptied).unwrap_or_default())
}

/// Deletes the root keys themselves.
pub(crate) async fn delete_roots(db: &Db, roots: &[Uuid]) -> Result<u64, StorageError> {
    let gone = sqlx::query!("delete from root_keys where id = any($1)", roots)
        .execute(db.pool())
        .await?
        .rows_affected();
    Ok(gone)
}
