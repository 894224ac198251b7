//! API keys, by machine time: the database's own clock.

use std::time::SystemTime;

use chrono::{DateTime, Utc};

use super::{Db, StorageError, Tx};
use crate::domain::api_key::{AppScope, KeyKind, Powers};
use crate::domain::chain::AppId;

/// A key that was made, and what became of it. Its secret is nowhere.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) powers: Powers,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) created_by: String,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) revoked_at: Option<DateTime<Utc>>,
    pub(crate) revoked_by: Option<String>,
    /// To the hour.
    pub(crate) last_used_at: Option<DateTime<Utc>>,
    /// Neither revoked nor over.
    pub(crate) live: bool,
}

/// A key about to be written.
pub(crate) struct NewKey<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) powers: &'a Powers,
    /// SHA-256 of the key.
    pub(crate) digest: &'a [u8],
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) by: &'a str,
}

/// A live key, as replicas hold it.
#[derive(Clone, Debug)]
pub(crate) struct LiveKey {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) powers: Powers,
    pub(crate) digest: Vec<u8>,
    pub(crate) expires_at: Option<SystemTime>,
    /// Its last use is not written, or was longer ago than an hour.
    pub(crate) use_is_news: bool,
}

fn powers(kind: &str, role: Option<&str>, apps: Vec<String>) -> Result<Powers, StorageError> {
    let kind = KeyKind::parse(kind, role)
        .ok_or_else(|| StorageError::Corrupt(format!("a key of kind {kind:?}, {role:?}")))?;
    let apps = AppScope::of(apps.into_iter().map(AppId).collect());
    Ok(Powers { kind, apps })
}

/// Holds up whoever else makes a key until this transaction ends; readers go on.
pub(crate) async fn lock(tx: &mut Tx<'_>) -> Result<(), StorageError> {
    sqlx::query!("lock table api_keys in share row exclusive mode")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What the live keys of a name may do, and how many live keys there are.
pub(crate) async fn live_of_name(
    tx: &mut Tx<'_>,
    name: &str,
) -> Result<(Vec<Powers>, usize), StorageError> {
    let rows = sqlx::query!(
        r#"select name, kind, role, apps from api_keys
           where revoked_at is null and (expires_at is null or expires_at > clock_timestamp())"#
    )
    .fetch_all(&mut **tx)
    .await?;
    let live = rows.len();
    let same = rows
        .into_iter()
        .filter(|row| row.name == name)
        .map(|row| powers(&row.kind, row.role.as_deref(), row.apps))
        .collect::<Result<_, _>>()?;
    Ok((same, live))
}

/// Writes a key.
pub(crate) async fn add(tx: &mut Tx<'_>, new: &NewKey<'_>) -> Result<ApiKey, StorageError> {
    let (kind, role) = new.powers.kind.words();
    let apps = new.powers.apps.ids().unwrap_or_default();
    let created_at = sqlx::query_scalar!(
        r#"insert into api_keys (id, name, kind, role, apps, digest, created_by, expires_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8) returning created_at"#,
        new.id,
        new.name,
        kind,
        role,
        &apps,
        new.digest,
        new.by,
        new.expires_at
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(ApiKey {
        id: new.id.to_owned(),
        name: new.name.to_owned(),
        powers: new.powers.clone(),
        created_at,
        created_by: new.by.to_owned(),
        expires_at: new.expires_at,
        revoked_at: None,
        revoked_by: None,
        last_used_at: None,
        live: true,
    })
}

/// Every key there ever was, the newest first; one only, if it is named.
pub(crate) async fn list(db: &Db, id: Option<&str>) -> Result<Vec<ApiKey>, StorageError> {
    let rows = sqlx::query!(
        r#"select id, name, kind, role, apps, created_at, created_by, expires_at, revoked_at,
                  revoked_by, last_used_at,
                  (revoked_at is null and (expires_at is null or expires_at > clock_timestamp()))
                      as "live!"
           from api_keys where $1::text is null or id = $1
           order by created_at desc, id"#,
        id
    )
    .fetch_all(db.pool())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ApiKey {
                powers: powers(&row.kind, row.role.as_deref(), row.apps)?,
                id: row.id,
                name: row.name,
                created_at: row.created_at,
                created_by: row.created_by,
                expires_at: row.expires_at,
                revoked_at: row.revoked_at,
                revoked_by: row.revoked_by,
                last_used_at: row.last_used_at,
                live: row.live,
            })
        })
        .collect()
}

/// Ends a key for good; who did it first, did it. `false`: there is no such key.
pub(crate) async fn revoke(db: &Db, id: &str, by: &str) -> Result<bool, StorageError> {
    let known = sqlx::query!(
        r#"update api_keys
           set revoked_at = coalesce(revoked_at, clock_timestamp()),
               revoked_by = coalesce(revoked_by, $2)
           where id = $1"#,
        id,
        by
    )
    .execute(db.pool())
    .await?
    .rows_affected();
    Ok(known == 1)
}

/// The keys that are good now.
pub(crate) async fn live(db: &Db) -> Result<Vec<LiveKey>, StorageError> {
    let rows = sqlx::query!(
        r#"select id, name, kind, role, apps, digest, expires_at,
                  (last_used_at is null or last_used_at < clock_timestamp() - interval '1 hour')
                      as "use_is_news!"
           from api_keys
           where revoked_at is null and (expires_at is null or expires_at > clock_timestamp())"#
    )
    .fetch_all(db.pool())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(LiveKey {
                powers: powers(&row.kind, row.role.as_deref(), row.apps)?,
                id: row.id,
                name: row.name,
                digest: row.digest,
                expires_at: row.expires_at.map(SystemTime::from),
                use_is_news: row.use_is_news,
            })
        })
        .collect()
}

/// Writes down that keys were used, at most once an hour for each, whichever replica says so.
pub(crate) async fn used(db: &Db, ids: &[String]) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update api_keys set last_used_at = clock_timestamp()
           where id = any($1)
             and (last_used_at is null or last_used_at < clock_timestamp() - interval '1 hour')"#,
        ids
    )
    .execute(db.pool())
    .await?;
    Ok(())
}
