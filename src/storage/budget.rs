//! A budget of store calls shared by all replicas: a token bucket in one row per store.

use super::{Db, StorageError};
use crate::domain::provider::Provider;

/// A bucket that is no store's: accounts that a new catalog may reach.
const CATALOG: &str = "catalog";

/// Takes `calls` from the bucket unless fewer than `reserve` would be left.
///
/// `per_second` refills it by the database's clock, up to one second's worth times ten.
pub(crate) async fn take(
    db: &Db,
    provider: Provider,
    calls: f64,
    per_second: f64,
    reserve: f64,
) -> Result<bool, StorageError> {
    take_of(db, provider.as_str(), calls, per_second, reserve).await
}

/// The same of any bucket by its name.
pub(crate) async fn take_of(
    db: &Db,
    bucket: &str,
    calls: f64,
    per_second: f64,
    reserve: f64,
) -> Result<bool, StorageError> {
    let burst = per_second * 10.0;
    take_from(db, bucket, calls, per_second, burst, reserve).await
}

/// Takes the right to derive so many accounts by a new catalog; over all replicas no more than
/// `per_second`, and at most one batch is saved up: no second reaches many more than its share.
pub(crate) async fn take_accounts(
    db: &Db,
    accounts: f64,
    per_second: f64,
) -> Result<bool, StorageError> {
    take_from(db, CATALOG, accounts, per_second, accounts * 2.0, 0.0).await
}

async fn take_from(
    db: &Db,
    bucket: &str,
    calls: f64,
    per_second: f64,
    burst: f64,
    reserve: f64,
) -> Result<bool, StorageError> {
    let taken = sqlx::query_scalar!(
        r#"insert into store_budgets as b (provider, tokens, refilled_at)
           values ($1, $3::float8 - $5, clock_timestamp())
           on conflict (provider) do update
           set tokens = least($3, b.tokens
                   + $2 * extract(epoch from clock_timestamp() - b.refilled_at)::float8) - $5,
               refilled_at = clock_timestamp()
           where least($3, b.tokens
                   + $2 * extract(epoch from clock_timestamp() - b.refilled_at)::float8) - $5 >= $4
           returning true as "taken!""#,
        bucket,
        per_second,
        burst,
        reserve,
        calls
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(taken.is_some())
}
