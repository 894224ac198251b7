//! Sessions that this server gives: lines of refresh tokens, each replaced by the next.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::accounts::{Account, Named};
use super::{Db, StorageError, Tx};
use crate::domain::ids::AccountId;
use crate::domain::session::{Kept, Why};

/// SHA-256 of what a client holds.
pub(crate) type Hash = [u8; 32];

/// Why a session or an account takes no credential any more, as it is told apart by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// An account's or a session's.
    pub(crate) id: Uuid,
    pub(crate) account: AccountId,
}

/// Opens a session of a new line of tokens; its id.
pub(crate) async fn open(
    tx: &mut Tx<'_>,
    account: AccountId,
    family: &Hash,
    current: &Hash,
    lifetime: Duration,
) -> Result<Uuid, StorageError> {
    let id = Uuid::now_v7();
    sqlx::query!(
        r#"insert into token_sessions (id, account_id, family, current_hash, expires_at)
           values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))"#,
        id,
        account.0,
        family.as_slice(),
        current.as_slice(),
        lifetime.as_secs_f64()
    )
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

/// A session under its lock.
#[derive(Clone, Debug)]
pub(crate) struct Locked {
    pub(crate) id: Uuid,
    pub(crate) account: AccountId,
    pub(crate) kept: Kept,
    /// With the token before it gives the current one.
    pub(crate) salt: Option<Vec<u8>>,
}

/// Locks the session that a refresh token is of.
pub(crate) async fn lock(tx: &mut Tx<'_>, family: &Hash) -> Result<Option<Locked>, StorageError> {
    let row = sqlx::query!(
        r#"select id, account_id, current_hash, previous_hash, salt, revoked_why,
                  expires_at <= clock_timestamp() as "expired!",
                  extract(epoch from clock_timestamp() - rotated_at)::float8 as "rotated_for!"
           from token_sessions where family = $1 for update"#,
        family.as_slice()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let revoked = match row.revoked_why.as_deref().map(Why::parse) {
        None => None,
        Some(Some(why)) => Some(why),
        Some(None) => return Err(StorageError::Corrupt("why a session was revoked".into())),
    };
    Ok(Some(Locked {
        id: row.id,
        account: row.account_id.into(),
        kept: Kept {
            current: row.current_hash,
            previous: row.previous_hash,
            // The database's clock may have been set back.
            rotated_for: Duration::try_from_secs_f64(row.rotated_for).unwrap_or_default(),
            expired: row.expired,
            revoked,
        },
        salt: row.salt,
    }))
}

/// Puts another token in the place of the current one. `previous` may be presented once more.
pub(crate) async fn rotate(
    tx: &mut Tx<'_>,
    id: Uuid,
    previous: &Hash,
    salt: &[u8],
    current: &Hash,
    lifetime: Duration,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update token_sessions
           set previous_hash = $2, salt = $3, current_hash = $4, rotated_at = clock_timestamp(),
               expires_at = clock_timestamp() + make_interval(secs => $5)
           where id = $1"#,
        id,
        previous.as_slice(),
        salt,
        current.as_slice(),
        lifetime.as_secs_f64()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends one session.
pub(crate) async fn revoke(tx: &mut Tx<'_>, id: Uuid, why: Why) -> Result<(), StorageError> {
    sqlx::query!(
        r#"update token_sessions set revoked_at = clock_timestamp(), revoked_why = $2
           where id = $1 and revoked_at is null"#,
        id,
        why.as_str()
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends all sessions of an account; their ids.
pub(crate) async fn revoke_all(
    tx: &mut Tx<'_>,
    account: AccountId,
    why: Why,
) -> Result<Vec<Uuid>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"update token_sessions set revoked_at = clock_timestamp(), revoked_why = $2
           where account_id = $1 and revoked_at is null returning id"#,
        account.0,
        why.as_str()
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids)
}

/// Whose an access token is.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    Good(Account),
    Revoked(Why),
    /// No such session, or its account has ended.
    Gone,
}

/// Whose the session is, and whether it stands.
pub(crate) async fn standing(db: &Db, id: Uuid) -> Result<Standing, StorageError> {
    let row = sqlx::query!(
        "select account_id, revoked_why from token_sessions where id = $1",
        id
    )
    .fetch_optional(db.pool())
    .await?;
    let Some(row) = row else {
        return Ok(Standing::Gone);
    };
    if let Some(why) = row.revoked_why.as_deref().map(Why::parse) {
        let why = why.ok_or_else(|| StorageError::Corrupt("why a session was revoked".into()))?;
        return Ok(Standing::Revoked(why));
    }
    Ok(
        match super::accounts::named(db, row.account_id.into()).await? {
            Named::Living(account) => Standing::Good(account),
            Named::Merged => Standing::Revoked(Why::Linked),
            Named::Gone => Standing::Gone,
        },
    )
}

/// The account that a session was opened for, whatever became of either.
pub(crate) async fn account_of(db: &Db, id: Uuid) -> Result<Option<AccountId>, StorageError> {
    let account = sqlx::query_scalar!("select account_id from token_sessions where id = $1", id)
        .fetch_optional(db.pool())
        .await?;
    Ok(account.map(AccountId))
}

/// The database's own clock.
pub(crate) async fn clock(db: &Db) -> Result<DateTime<Utc>, StorageError> {
    let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(db.pool())
        .await?;
    Ok(now)
}

/// Accounts and sessions that ended at or after a moment of the database's clock.
pub(crate) async fn ended_since(db: &Db, since: DateTime<Utc>) -> Result<Vec<Ended>, StorageError> {
    let rows = sqlx::query!(
        r#"select id as "id!", id as "account!" from accounts where ended_at >= $1
           union all
           select id, account_id from token_sessions where revoked_at >= $1"#,
        since
    )
    .fetch_all(db.pool())
    .await?;
    let ended = rows.into_iter().map(|row| Ended {
        id: row.id,
        account: row.account.into(),
    });
    Ok(ended.collect())
}

/// Deletes sessions that nobody can use any more, 400 days after their end: until then support can
/// see them, and unused accounts are found by them. At most `limit` rows.
pub(crate) async fn trim(db: &Db, limit: i64) -> Result<u64, StorageError> {
    let done = sqlx::query!(
        r#"delete from token_sessions where id in (
               select id from token_sessions
               where expires_at < clock_timestamp() - interval '400 days'
               order by expires_at limit $1 for update skip locked)"#,
        limit
    )
    .execute(db.pool())
    .await?;
    Ok(done.rows_affected())
}
