//! Audited gifts of access.

use uuid::Uuid;

use super::{StorageError, Tx};
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
        "select entitlement, expires_at from grants where account_id = $1 order by created_at, id",
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
