//! Audited gifts of access.

use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::entitlement::Grant;
use crate::domain::ids::{AccountId, GrantId};
use crate::domain::time::Instant;

/// Who gave it and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audit<'a> {
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) at: Instant,
}

pub(crate) async fn add(
    tx: &mut Tx<'_>,
    account: AccountId,
    grant: &Grant,
    audit: Audit<'_>,
) -> Result<GrantId, StorageError> {
    let id = GrantId(Uuid::now_v7());
    sqlx::query!(
        r#"insert into grants (id, account_id, entitlement, expires_at, reason, actor, created_at)
           values ($1, $2, $3, $4, $5, $6, $7)"#,
        id.0,
        account.0,
        grant.entitlement,
        grant.expires_at,
        audit.reason,
        audit.actor,
        audit.at
    )
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

pub(crate) async fn of_account(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Vec<Grant>, StorageError> {
    let rows = sqlx::query!(
        r#"select entitlement, expires_at from grants
           where account_id = $1 and revoked_at is null order by created_at, id"#,
        account.0
    )
    .fetch_all(&mut **tx)
    .await?;
    let grants = rows.into_iter().map(|row| Grant {
        entitlement: row.entitlement,
        expires_at: row.expires_at,
    });
    Ok(grants.collect())
}

/// A gift with its story.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) grant: Grant,
    pub(crate) reason: String,
    pub(crate) actor: String,
    pub(crate) given_at: Instant,
    pub(crate) revoked_at: Option<Instant>,
}

/// Every gift that an account ever got, oldest first.
pub(crate) async fn all_of_account(
    db: &Db,
    account: AccountId,
) -> Result<Vec<Given>, StorageError> {
    let rows = sqlx::query!(
        r#"select entitlement, expires_at, reason, actor, created_at, revoked_at
           from grants where account_id = $1 order by created_at, id"#,
        account.0
    )
    .fetch_all(db.pool())
    .await?;
    let given = rows.into_iter().map(|row| Given {
        grant: Grant {
            entitlement: row.entitlement,
            expires_at: row.expires_at,
        },
        reason: row.reason,
        actor: row.actor,
        given_at: row.created_at,
        revoked_at: row.revoked_at,
    });
    Ok(given.collect())
}

/// Takes back every open gift of an entitlement; tells how many.
pub(crate) async fn revoke(
    tx: &mut Tx<'_>,
    account: AccountId,
    entitlement: &str,
    audit: Audit<'_>,
) -> Result<usize, StorageError> {
    let revoked = sqlx::query!(
        r#"update grants set revoked_at = $3, revoked_by = $4, revoke_reason = $5
           where account_id = $1 and entitlement = $2 and revoked_at is null"#,
        account.0,
        entitlement,
        audit.at,
        audit.actor,
        audit.reason
    )
    .execute(&mut **tx)
    .await?
    .rows_affected();
    Ok(usize::try_from(revoked).unwrap_or(usize::MAX))
}
