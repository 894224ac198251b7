//! Accounts that were made without a sign-in and have come to nothing: found by their dead sessions,
//! deleted with everything that is theirs.
//!
//! Such an account has its id, one name, one store token and its sessions. Whatever else names it,
//! in any table, keeps it: so nothing is left that leads nowhere.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{StorageError, Tx};

/// Where a look ended: a session's end and its id.
pub(super) type Last = (DateTime<Utc>, Uuid);

/// What one look came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looked {
    pub(super) gone: usize,
    /// Dead sessions looked at.
    pub(super) seen: usize,
    pub(super) last: Option<Last>,
}

/// Deletes accounts whose session ended `age` ago and that have nothing: of the next `limit` dead
/// sessions. Machine time, as sessions have it.
///
/// Whoever comes to an account in this moment has a lock on it or on its session. On an account it is
/// not waited for: the account is in use. On a session (a refresh) it is, and then looked again.
pub(super) async fn delete(
    tx: &mut Tx<'_>,
    age: TimeDelta,
    limit: i64,
    after: Option<Last>,
    dry: bool,
) -> Result<Looked, StorageError> {
    let age = age.as_seconds_f64();
    let dead = dead_sessions(tx, age, limit, after).await?;
    let looked = Looked {
        gone: 0,
        seen: dead.len(),
        last: dead.last().map(|dead| dead.0),
    };
    let named: Vec<Uuid> = dead.iter().map(|dead| dead.1).collect();
    let mut unused = only_unused(tx, &named, age).await?;
    if !dry {
        let locked = lock(tx, &unused).await?;
        // What was committed before the locks were had is seen by a statement of its own.
        unused = only_unused(tx, &locked, age).await?;
        forget(tx, &unused).await?;
    }
    Ok(Looked {
        gone: unused.len(),
        ..looked
    })
}

/// Sessions that ended `age` ago, oldest first, with their accounts.
async fn dead_sessions(
    tx: &mut Tx<'_>,
    age: f64,
    limit: i64,
    after: Option<Last>,
) -> Result<Vec<(Last, Uuid)>, StorageError> {
    let rows = sqlx::query!(
        r#"select id, account_id, expires_at from token_sessions
           where expires_at < clock_timestamp() - make_interval(secs => $1)
             and (expires_at, id) > (coalesce($2, '-infinity'::timestamptz), $3)
           order by expires_at, id limit $4"#,
        age,
        after.map(|(at, _)| at),
        after.map_or(Uuid::nil(), |(_, id)| id),
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let dead = rows
        .into_iter()
        .map(|row| ((row.expires_at, row.id), row.account_id));
    Ok(dead.collect())
}

/// Those of the accounts that nobody has signed in to, whose every session ended `age` ago, and that
/// no other row names.
async fn only_unused(
    tx: &mut Tx<'_>,
    accounts: &[Uuid],
    age: f64,
) -> Result<Vec<Uuid>, StorageError> {
    let unused = sqlx::query_scalar!(
        r#"select a.id from accounts a
           where a.id = any($1)
             and a.merged_into is null and a.ended_at is null and a.erased_at is null
             and exists (select from account_identities i where i.account_id = a.id)
             and not exists (select from account_identities i where i.account_id = a.id
                             and not (i.issuer = 'entitled' and i.anonymous and i.retired_at is null))
             and not exists (select from token_sessions s where s.account_id = a.id
                             and s.expires_at >= clock_timestamp() - make_interval(secs => $2))
             and not exists (select from store_tokens t where t.account_id = a.id
                             and t.kind <> 'issued')
             -- a purchase that was made with its token and is nobody's so far
             and not exists (select from store_tokens t join store_subscription_state s
                             on lower(s.known->'state'->>'account_token') = t.token
                                and s.known->'state'->>'account_token' is not null
                             where t.account_id = a.id)
             and not exists (select from accounts p where p.merged_into = a.id)
             and not exists (select from purchase_chains c where c.owner_account_id = a.id)
             and not exists (select from ownership_claims c where c.account_id = a.id)
             and not exists (select from ownership_changes c where c.from_account_id = a.id)
             and not exists (select from ownership_changes c where c.to_account_id = a.id)
             and not exists (select from grants g where g.account_id = a.id)
             and not exists (select from entitlement_snapshots s where s.account_id = a.id)
             and not exists (select from snapshot_history h where h.account_id = a.id)
             and not exists (select from transactions t where t.account_id = a.id)
             and not exists (select from credit_entries c where c.account_id = a.id)
             and not exists (select from deliveries d where d.account_id = a.id)
             and not exists (select from consumption c where c.account_id = a.id)
             and not exists (select from subscription_events e where e.account_id = a.id)
             and not exists (select from operator_actions o where o.account_id = a.id)
           order by a.id"#,
        accounts,
        age
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(unused)
}

/// Locks the accounts that nobody else has, and their sessions, in the order of an erasure.
async fn lock(tx: &mut Tx<'_>, accounts: &[Uuid]) -> Result<Vec<Uuid>, StorageError> {
    let locked = sqlx::query_scalar!(
        "select id from accounts where id = any($1) order by id for update skip locked",
        accounts
    )
    .fetch_all(&mut **tx)
    .await?;
    sqlx::query_scalar!(
        "select id from token_sessions where account_id = any($1) order by id for update",
        &locked
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(locked)
}

async fn forget(tx: &mut Tx<'_>, accounts: &[Uuid]) -> Result<(), StorageError> {
    sqlx::query!(
        "delete from token_sessions where account_id = any($1)",
        accounts
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from store_tokens where account_id = any($1)",
        accounts
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from account_identities where account_id = any($1)",
        accounts
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("delete from accounts where id = any($1)", accounts)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
