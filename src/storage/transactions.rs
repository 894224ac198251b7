//! Reads of the money: charges and refunds, newest first, by keyset.

use uuid::Uuid;

use super::{Db, StorageError};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::time::Instant;

/// Which rows, and from where on.
#[derive(Clone, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) account: Option<AccountId>,
    /// Only purchases of these apps, by the catalog's ids; `None`: of all. With an account or a
    /// store's id.
    pub(crate) apps: Option<Vec<String>>,
    /// A store's id of the charge, or of the purchase it belongs to.
    pub(crate) store_id: Option<&'a str>,
    /// Inclusive, business time.
    pub(crate) since: Option<Instant>,
    /// Exclusive, business time.
    pub(crate) until: Option<Instant>,
    /// The last row of the page before.
    pub(crate) after: Option<(Instant, i64)>,
    pub(crate) limit: i64,
}

/// A charge or a refund.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Ours; orders rows of one moment.
    pub(crate) id: i64,
    pub(crate) chain: ChainId,
    pub(crate) provider: String,
    pub(crate) transaction_id: String,
    /// For refunds: the charge.
    pub(crate) of_transaction_id: Option<String>,
    pub(crate) kind: String,
    pub(crate) product_id: String,
    pub(crate) base_plan_id: Option<String>,
    pub(crate) environment: String,
    /// Business time of the charge or of the refund.
    pub(crate) at: Instant,
    pub(crate) expires_at: Option<Instant>,
    pub(crate) quantity: i32,
    pub(crate) amount_micros: Option<i64>,
    pub(crate) tax_micros: Option<i64>,
    pub(crate) currency: Option<String>,
    pub(crate) storefront: Option<String>,
    pub(crate) offer: Option<String>,
    pub(crate) family_shared: bool,
    pub(crate) revoked_at: Option<Instant>,
    pub(crate) refund_kind: Option<String>,
    pub(crate) reversed_at: Option<Instant>,
    /// Who owned the purchase when the row was written; else who owns it now.
    pub(crate) account: Option<Uuid>,
}

pub(crate) async fn list(db: &Db, page: &Page<'_>) -> Result<Vec<Row>, StorageError> {
    let ids = match (page.account, page.store_id) {
        (account, Some(store_id)) => named(db, page, account, store_id).await?,
        (Some(account), None) => of_account(db, page, account).await?,
        (None, None) => newest(db, page).await?,
    };
    let rows = sqlx::query_as!(
        Row,
        r#"select t.id, t.chain_id as chain, c.provider, t.transaction_id,
                  t.of_transaction_id, t.kind, t.product_id, t.base_plan_id, t.environment,
                  t.purchased_at as at, t.expires_at, t.quantity, t.amount_micros, t.tax_micros,
                  t.currency, t.storefront, t.offer, t.family_shared, t.revoked_at, t.refund_kind,
                  t.reversed_at,
                  coalesce(t.account_id, c.owner_account_id) as account
           from transactions t join purchase_chains c on c.id = t.chain_id
           where t.id = any($1)
           order by t.purchased_at desc, t.id desc"#,
        &ids
    )
    .fetch_all(db.pool())
    .await?;
    Ok(rows)
}

/// What was charged to an account, and what was charged while nobody owned the purchases that it
/// owns now: each half by an index of its own.
async fn of_account(
    db: &Db,
    page: &Page<'_>,
    account: AccountId,
) -> Result<Vec<i64>, StorageError> {
    let (after_at, after_id) = page.after.unzip();
    let ids = sqlx::query_scalar!(
        r#"with charged as (
               select id, purchased_at from transactions
               where account_id = $1
                 and ($2::timestamptz is null or purchased_at >= $2)
                 and ($3::timestamptz is null or purchased_at < $3)
                 and ($4::timestamptz is null or (purchased_at, id) < ($4, $5))
                 and ($7::text[] is null or exists (
                     select 1 from purchase_chains c where c.id = chain_id and c.app = any($7)))
               order by purchased_at desc, id desc limit $6
           ), inherited as (
               select t.id, t.purchased_at
               from purchase_chains c join transactions t on t.chain_id = c.id
               where c.owner_account_id = $1 and t.account_id is null
                 and ($2::timestamptz is null or t.purchased_at >= $2)
                 and ($3::timestamptz is null or t.purchased_at < $3)
                 and ($4::timestamptz is null or (t.purchased_at, t.id) < ($4, $5))
                 and ($7::text[] is null or c.app = any($7))
               order by t.purchased_at desc, t.id desc limit $6
           )
           select id as "id!" from (select * from charged union all select * from inherited) as charges
           order by purchased_at desc, id desc limit $6"#,
        account.0,
        page.since,
        page.until,
        after_at,
        after_id,
        page.limit,
        page.apps.as_deref()
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids)
}

/// What a ticket's id names: a charge, a refund, or all of a purchase.
async fn named(
    db: &Db,
    page: &Page<'_>,
    account: Option<AccountId>,
    store_id: &str,
) -> Result<Vec<i64>, StorageError> {
    let (after_at, after_id) = page.after.unzip();
    let ids = sqlx::query_scalar!(
        r#"with named as (
               select id from transactions where transaction_id = $2
               union select id from transactions where of_transaction_id = $2
               union select t.id from chain_aliases a join transactions t using (chain_id)
                     where a.value = $2
           )
           select t.id from named join transactions t using (id)
           join purchase_chains c on c.id = t.chain_id
           where ($1::uuid is null or coalesce(t.account_id, c.owner_account_id) = $1)
             and ($3::timestamptz is null or t.purchased_at >= $3)
             and ($4::timestamptz is null or t.purchased_at < $4)
             and ($5::timestamptz is null or (t.purchased_at, t.id) < ($5, $6))
             and ($8::text[] is null or c.app = any($8))
           order by t.purchased_at desc, t.id desc limit $7"#,
        account.map(|id| id.0),
        store_id,
        page.since,
        page.until,
        after_at,
        after_id,
        page.limit,
        page.apps.as_deref()
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids)
}

/// Everybody's, for operators.
async fn newest(db: &Db, page: &Page<'_>) -> Result<Vec<i64>, StorageError> {
    let (after_at, after_id) = page.after.unzip();
    let ids = sqlx::query_scalar!(
        r#"select id from transactions
           where ($1::timestamptz is null or purchased_at >= $1)
             and ($2::timestamptz is null or purchased_at < $2)
             and ($3::timestamptz is null or (purchased_at, id) < ($3, $4))
           order by purchased_at desc, id desc limit $5"#,
        page.since,
        page.until,
        after_at,
        after_id,
        page.limit
    )
    .fetch_all(db.pool())
    .await?;
    Ok(ids)
}
