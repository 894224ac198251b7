//! Links: one account becomes part of another, with everything that names it.

use uuid::Uuid;

use super::{StorageError, Tx};
use crate::domain::ids::{AccountId, ChainId};

/// The purchases that an account owns, by id.
pub(crate) async fn owned(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<Vec<ChainId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"select id from purchase_chains
           where owner_account_id = $1 and merged_into is null order by id"#,
        account.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(ChainId).collect())
}

/// Whether a purchase, a gift, credits or the wish for a purchase were ever an account's.
pub(crate) async fn has_anything(
    tx: &mut Tx<'_>,
    account: AccountId,
) -> Result<bool, StorageError> {
    let has = sqlx::query_scalar!(
        r#"select exists (select from purchase_chains where owner_account_id = $1)
               or exists (select from ownership_changes where from_account_id = $1)
               or exists (select from grants where account_id = $1)
               or exists (select from credit_entries where account_id = $1)
               or exists (select from ownership_claims where account_id = $1 and verdict is null)
                  as "has!""#,
        account.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(has)
}

/// Whether both accounts have a signed-in identity of one issuer.
pub(crate) async fn share_an_issuer(
    tx: &mut Tx<'_>,
    one: AccountId,
    other: AccountId,
) -> Result<bool, StorageError> {
    let share = sqlx::query_scalar!(
        r#"select exists (
               select from account_identities a join account_identities b on b.issuer = a.issuer
               where a.account_id = $1 and b.account_id = $2
                 and not a.anonymous and not b.anonymous) as "share!""#,
        one.0,
        other.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(share)
}

/// Whether one of these accounts takes no credential any more.
pub(crate) async fn any_ended(
    tx: &mut Tx<'_>,
    accounts: [AccountId; 2],
) -> Result<bool, StorageError> {
    let ids = accounts.map(|account| account.0);
    let ended = sqlx::query_scalar!(
        r#"select exists (select from accounts where id = any($1) and ended_at is not null)
               as "ended!""#,
        &ids as &[Uuid]
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(ended)
}

/// Makes `from` a part of `into`, both under their locks: its names, its store tokens, its gifts,
/// and the rows of its purchases. Anonymous identities stay as names whose tokens are refused. Its
/// snapshot goes: nobody reads it any more.
pub(crate) async fn absorb(
    tx: &mut Tx<'_>,
    from: AccountId,
    into: AccountId,
) -> Result<(), StorageError> {
    let (from, into) = (from.0, into.0);
    sqlx::query!(
        r#"update account_identities
           set account_id = $2,
               retired_at = case when anonymous then coalesce(retired_at, clock_timestamp()) end
           where account_id = $1"#,
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update store_tokens
           set account_id = $2, kind = case kind when 'issued' then 'linked' else kind end
           where account_id = $1"#,
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update grants set account_id = $2 where account_id = $1",
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update transactions set account_id = $2 where account_id = $1",
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update deliveries set account_id = $2 where account_id = $1",
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    // What was told of a transaction last counts; both may have told something of all theirs.
    sqlx::query!(
        r#"delete from consumption older using consumption newer
           where older.account_id in ($1, $2) and newer.account_id in ($1, $2)
             and older.account_id <> newer.account_id
             and older.transaction_id = newer.transaction_id
             and (older.updated_at, older.account_id = $2) < (newer.updated_at, newer.account_id = $2)"#,
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update consumption set account_id = $2 where account_id = $1",
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from entitlement_snapshots where account_id = $1",
        from
    )
    .execute(&mut **tx)
    .await?;
    // Accounts that had become part of it are part of the other one now.
    sqlx::query!(
        r#"update accounts
           set merged_into = $2, ended_at = coalesce(ended_at, clock_timestamp())
           where id = $1 or merged_into = $1"#,
        from,
        into
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
