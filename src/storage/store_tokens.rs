//! Tokens that the stores' records carry for an account: ours, and those that a service registered.

use super::{StorageError, Tx};
use crate::domain::event::SignalSource;
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// Registers a token, in lower case, for an account. The account that it names afterwards: another
/// one, if that one was first.
pub(crate) async fn register(
    tx: &mut Tx<'_>,
    token: &str,
    account: AccountId,
    now: Instant,
) -> Result<AccountId, StorageError> {
    sqlx::query!(
        r#"insert into store_tokens (token, account_id, created_at, kind)
           values (lower($1), $2, $3, 'registered') on conflict (token) do nothing"#,
        token,
        account.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    let named = sqlx::query_scalar!(
        "select account_id from store_tokens where token = lower($1)",
        token
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(named.into())
}

/// How many tokens services have registered for an account.
pub(crate) async fn registered(tx: &mut Tx<'_>, account: AccountId) -> Result<i64, StorageError> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from store_tokens
           where account_id = $1 and kind = 'registered'"#,
        account.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(count)
}

/// Marks the purchases dirty whose store's record carries a token: they are decided again now that
/// it names somebody.
pub(crate) async fn mark_named_dirty(
    tx: &mut Tx<'_>,
    token: &str,
    source: SignalSource,
) -> Result<Vec<ChainId>, StorageError> {
    let ids = sqlx::query_scalar!(
        r#"update purchase_chains set dirty_seq = dirty_seq + 1, dirty_source = $2
           where id in (select c.id from purchase_chains c
                        where c.merged_into is null and c.id in (
                            select chain_id from store_subscription_state
                            where lower(known->'state'->>'account_token') = lower($1)
                              and known->'state'->>'account_token' is not null)
                        order by c.id for update)
           returning id"#,
        token,
        source.as_str()
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(ChainId).collect())
}
