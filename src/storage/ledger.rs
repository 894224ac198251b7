//! The provider ledger: the last answer taken, every transaction.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::chain::{StoreProduct, base_order_id};
use crate::domain::goods;
use crate::domain::holding::{Chain, Holding};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::money::Money;
use crate::domain::provider::{Environment, Provider};
use crate::domain::subscription::guard::Known;
use crate::domain::subscription::store_state::Transaction;
use crate::domain::time::Instant;

pub(crate) async fn known(tx: &mut Tx<'_>, chain: ChainId) -> Result<Option<Known>, StorageError> {
    let known = sqlx::query_scalar!(
        r#"select known as "known: Json<Known>" from store_subscription_state where chain_id = $1"#,
        chain.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(known.map(|json| json.0))
}

/// What is known of a chain, outside any lock: for callers that only want to know whether to ask.
pub(crate) async fn peek(db: &Db, chain: ChainId) -> Result<Option<Known>, StorageError> {
    let mut tx = db.begin().await?;
    let known = known(&mut tx, chain).await?;
    tx.commit().await?;
    Ok(known)
}

pub(crate) async fn write_known(
    tx: &mut Tx<'_>,
    chain: ChainId,
    known: &Known,
    acknowledge_by: Option<Instant>,
    now: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        r#"insert into store_subscription_state
               (chain_id, known, acknowledge_by, updated_at, bought_once)
           values ($1, $2, $3, $4, $5)
           on conflict (chain_id) do update
           set known = $2, acknowledge_by = $3, updated_at = $4, bought_once = $5"#,
        chain.0,
        Json(known) as _,
        acknowledge_by,
        now,
        goods::bought_once(&known.state) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whose chain a ledger row is of, and when it is written (business time).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) chain: ChainId,
    pub(crate) environment: Environment,
    /// The owner now; kept with a charge for ever.
    pub(crate) owner: Option<AccountId>,
    pub(crate) now: Instant,
}

/// Writes charges and their refunds; what earlier answers told is never lost.
///
/// A charge that is told without the refund it once had was given back to us: its refund is
/// reversed. A row without money (`complete` unset) never replaces one that says more.
pub(crate) async fn write_transactions(
    tx: &mut Tx<'_>,
    page: Page,
    transactions: &[Transaction],
    complete: bool,
) -> Result<(), StorageError> {
    if transactions.is_empty() {
        return Ok(());
    }
    let refunds = transactions.iter().filter_map(Row::refund);
    let rows: Vec<Row> = transactions
        .iter()
        .map(Row::charge)
        .chain(refunds)
        .collect();
    write_rows(tx, page, &rows, complete).await?;
    let whole: Vec<String> = transactions
        .iter()
        .filter(|transaction| transaction.refund.is_none())
        .map(|transaction| transaction.transaction_id.clone())
        .collect();
    if complete && !whole.is_empty() {
        sqlx::query!(
            r#"update transactions set reversed_at = $3
               where chain_id = $1 and of_transaction_id = any($2) and reversed_at is null"#,
            page.chain.0,
            &whole,
            page.now
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Gives charges that nobody owned when they were told to the chain's first owner.
pub(crate) async fn own_transactions(
    tx: &mut Tx<'_>,
    chain: ChainId,
    owner: AccountId,
) -> Result<(), StorageError> {
    sqlx::query!(
        "update transactions set account_id = $2 where chain_id = $1 and account_id is null",
        chain.0,
        owner.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What the books have of a transaction that went back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenBack {
    /// Its money, but for a part, and nothing was given again since.
    pub(crate) refunded: bool,
    /// What it paid for.
    pub(crate) revoked: bool,
}

/// Whether an order, by its own name or by the one that its renewals share, is of the chain.
pub(crate) async fn has_order(
    db: &Db,
    chain: ChainId,
    order_id: &str,
) -> Result<bool, StorageError> {
    let found = sqlx::query_scalar!(
        r#"select exists (select 1 from transactions where chain_id = $1
                   and split_part(transaction_id, '/', 1) = $2)
               or exists (select 1 from chain_aliases where chain_id = $1 and kind = 'order_id'
                   and value = $3) as "found!""#,
        chain.0,
        order_id,
        base_order_id(order_id)
    )
    .fetch_one(db.pool())
    .await?;
    Ok(found)
}

/// What a transaction of the chain paid for; of a Google order with several lines, its first.
pub(crate) async fn product_of(
    db: &Db,
    chain: ChainId,
    transaction_id: &str,
) -> Result<Option<StoreProduct>, StorageError> {
    let row = sqlx::query!(
        r#"select product_id, base_plan_id from transactions
           where chain_id = $1 and split_part(transaction_id, '/', 1) = $2 and kind <> 'refund'
           order by transaction_id limit 1"#,
        chain.0,
        transaction_id
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| StoreProduct {
        product_id: row.product_id,
        base_plan_id: row.base_plan_id,
    }))
}

/// Of any transaction of the chain, however long ago: a state has only what its read found new.
pub(crate) async fn taken_back(
    db: &Db,
    chain: ChainId,
    transaction_id: &str,
) -> Result<TakenBack, StorageError> {
    let back = sqlx::query_as!(
        TakenBack,
        r#"select exists (select 1 from transactions where chain_id = $1
                   and of_transaction_id = $2 and reversed_at is null
                   and refund_kind <> 'partial') as "refunded!",
               exists (select 1 from transactions where chain_id = $1
                   and transaction_id = $2 and revoked_at is not null) as "revoked!""#,
        chain.0,
        transaction_id
    )
    .fetch_one(db.pool())
    .await?;
    Ok(back)
}

/// A movement of money as the table has it.
struct Row {
    transaction_id: String,
    kind: &'static str,
    of_transaction_id: Option<String>,
    product: StoreProduct,
    at: Instant,
    expires_at: Option<Instant>,
    quantity: i32,
    amount: Option<Money>,
    tax: Option<Money>,
    storefront: Option<String>,
    offer: Option<&'static str>,
    family_shared: bool,
    revoked_at: Option<Instant>,
    refund_kind: Option<&'static str>,
}

impl Row {
    fn charge(of: &Transaction) -> Self {
        Self {
            transaction_id: of.transaction_id.clone(),
            kind: of.reason.as_str(),
            of_transaction_id: None,
            product: of.product.clone(),
            at: of.purchased_at,
            expires_at: of.expires_at,
            quantity: i32::try_from(of.quantity).unwrap_or(i32::MAX),
            amount: of.price,
            tax: of.tax,
            storefront: of.storefront.clone(),
            offer: of.offer.as_str(),
            family_shared: of.family_shared,
            revoked_at: of.revoked_at,
            refund_kind: None,
        }
    }

    fn refund(of: &Transaction) -> Option<Self> {
        let refund = of.refund.as_ref()?;
        let quantity = refund.quantity.unwrap_or(of.quantity);
        Some(Self {
            transaction_id: format!("refund:{}", of.transaction_id),
            kind: "refund",
            of_transaction_id: Some(of.transaction_id.clone()),
            at: refund.at,
            expires_at: None,
            quantity: i32::try_from(quantity).unwrap_or(i32::MAX),
            amount: refund.amount_of(of.price),
            tax: None,
            revoked_at: None,
            refund_kind: Some(refund.kind.as_str()),
            ..Self::charge(of)
        })
    }
}

async fn write_rows(
    tx: &mut Tx<'_>,
    page: Page,
    rows: &[Row],
    complete: bool,
) -> Result<(), StorageError> {
    let each = |of: fn(&Row) -> Option<String>| rows.iter().map(of).collect::<Vec<_>>();
    let ids = each(|row| Some(row.transaction_id.clone()));
    let kinds = each(|row| Some(row.kind.to_owned()));
    let of = each(|row| row.of_transaction_id.clone());
    let products = each(|row| Some(row.product.product_id.clone()));
    let plans = each(|row| row.product.base_plan_id.clone());
    let currencies = each(|row| {
        row.amount
            .map(|amount| amount.currency().as_str().to_owned())
    });
    let storefronts = each(|row| row.storefront.clone());
    let offers = each(|row| row.offer.map(str::to_owned));
    let refund_kinds = each(|row| row.refund_kind.map(str::to_owned));
    let at: Vec<Instant> = rows.iter().map(|row| row.at).collect();
    let expires: Vec<Option<Instant>> = rows.iter().map(|row| row.expires_at).collect();
    let revoked: Vec<Option<Instant>> = rows.iter().map(|row| row.revoked_at).collect();
    let quantities: Vec<i32> = rows.iter().map(|row| row.quantity).collect();
    let shared: Vec<bool> = rows.iter().map(|row| row.family_shared).collect();
    let micros = |money: Option<Money>| money.map(Money::micros);
    let amounts: Vec<Option<i64>> = rows.iter().map(|row| micros(row.amount)).collect();
    let taxes: Vec<Option<i64>> = rows.iter().map(|row| micros(row.tax)).collect();
    sqlx::query!(
        r#"insert into transactions as t (chain_id, environment, account_id, transaction_id, kind,
               of_transaction_id, product_id, base_plan_id, purchased_at, expires_at, quantity,
               amount_micros, currency, tax_micros, storefront, offer, family_shared, revoked_at,
               refund_kind)
           select $1, $2, $3, r.* from unnest($5::text[], $6::text[], $7::text[], $8::text[],
               $9::text[], $10::timestamptz[], $11::timestamptz[], $12::integer[], $13::bigint[],
               $14::text[], $15::bigint[], $16::text[], $17::text[], $18::boolean[],
               $19::timestamptz[], $20::text[]) as r
           on conflict (chain_id, transaction_id) do update
           set kind = excluded.kind, product_id = excluded.product_id,
               base_plan_id = coalesce(excluded.base_plan_id, t.base_plan_id),
               purchased_at = excluded.purchased_at,
               expires_at = coalesce(excluded.expires_at, t.expires_at),
               quantity = excluded.quantity,
               amount_micros = coalesce(excluded.amount_micros, t.amount_micros),
               currency = case when excluded.amount_micros is null then t.currency
                               else excluded.currency end,
               tax_micros = coalesce(excluded.tax_micros, t.tax_micros),
               storefront = coalesce(excluded.storefront, t.storefront),
               offer = coalesce(excluded.offer, t.offer),
               family_shared = excluded.family_shared, revoked_at = excluded.revoked_at,
               refund_kind = excluded.refund_kind, reversed_at = null,
               account_id = coalesce(t.account_id, excluded.account_id)
           where $4"#,
        page.chain.0,
        page.environment.as_str(),
        page.owner.map(|owner| owner.0),
        complete,
        &ids as _,
        &kinds as _,
        &of as _,
        &products as _,
        &plans as _,
        &at,
        &expires as _,
        &quantities,
        &amounts as _,
        &currencies as _,
        &taxes as _,
        &storefronts as _,
        &offers as _,
        &shared,
        &revoked as _,
        &refund_kinds as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A plan that a chain's customer had before the present one, as the ledger tells.
#[derive(Debug, Deserialize)]
struct Former {
    product: StoreProduct,
    ended_at: Instant,
}

/// Every product that was paid for on a chain by `at`, with the end of the last such period.
pub(crate) async fn charged(
    db: &Db,
    chain: ChainId,
    at: Instant,
) -> Result<Vec<(StoreProduct, Instant)>, StorageError> {
    let rows = sqlx::query!(
        r#"select product_id, base_plan_id, max(expires_at) as "ended_at!" from transactions
           where chain_id = $1 and kind <> 'refund' and expires_at is not null
             and purchased_at <= $2
           group by product_id, base_plan_id"#,
        chain.0,
        at
    )
    .fetch_all(db.pool())
    .await?;
    let rows = rows.into_iter().map(|row| {
        let product = StoreProduct {
            product_id: row.product_id,
            base_plan_id: row.base_plan_id,
        };
        (product, row.ended_at)
    });
    Ok(rows.collect())
}

/// Whether an account has, or had, any purchase at all.
pub(crate) async fn has_held(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, StorageError> {
    let held = sqlx::query_scalar!(
        r#"select exists (select from purchase_chains where owner_account_id = $1)
               or exists (select from ownership_changes where from_account_id = $1) as "held!""#,
        account.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(held)
}

/// Everything an account holds, or held until a transfer took it away; without purchases of
/// nothing but `used_up` (`goods::used_up`).
pub(crate) async fn holdings(
    tx: &mut Tx<'_>,
    account: AccountId,
    used_up: &[String],
) -> Result<Vec<Holding>, StorageError> {
    let mut held = holdings_of(tx, &[account.0], used_up).await?;
    Ok(held.remove(&account).unwrap_or_default())
}

/// The same of many accounts; one that holds nothing has no entry.
pub(super) async fn holdings_of(
    tx: &mut Tx<'_>,
    accounts: &[Uuid],
    used_up: &[String],
) -> Result<BTreeMap<AccountId, Vec<Holding>>, StorageError> {
    let rows = sqlx::query!(
        r#"with mine as (
               select owner_account_id as account_id, id, null::timestamptz as away_since
               from purchase_chains where owner_account_id = any($1)
               union all
               -- what has become part of another is that one's
               select o.from_account_id, whole.id, max(o.at) from ownership_changes o
               join purchase_chains c on c.id = o.chain_id
               join purchase_chains whole on whole.id = coalesce(c.merged_into, c.id)
               where o.from_account_id = any($1)
                 and whole.owner_account_id is distinct from o.from_account_id
               group by o.from_account_id, whole.id
           )
           select mine.account_id as "account_id!", c.provider, c.store_away,
                  s.known as "known: Json<Known>", mine.away_since,
                  (select jsonb_agg(jsonb_build_object('product', f.product, 'ended_at', f.ended_at))
                   from (select jsonb_build_object('product_id', product_id,
                                                   'base_plan_id', base_plan_id) as product,
                                max(expires_at) as ended_at
                         from transactions t
                         where t.chain_id = c.id and kind <> 'refund' and expires_at is not null
                         group by 1) f) as "former: Json<Vec<Former>>"
           from mine join purchase_chains c on c.id = mine.id
                join store_subscription_state s on s.chain_id = c.id
           where s.bought_once is null or not s.bought_once <@ $2
           order by c.created_at, c.id"#,
        accounts,
        used_up
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut holdings: BTreeMap<AccountId, Vec<Holding>> = BTreeMap::new();
    for row in rows {
        let provider = Provider::parse(&row.provider)
            .ok_or_else(|| StorageError::Corrupt(format!("provider {:?}", row.provider)))?;
        let chain = Chain {
            provider,
            store_away: row.store_away,
            away_since: row.away_since,
            known: row.known.0,
        };
        let former = row.former.map(|json| json.0).unwrap_or_default();
        let former = former.into_iter().map(|was| (was.product, was.ended_at));
        let held = holdings.entry(row.account_id.into()).or_default();
        held.extend(chain.holdings(former));
    }
    Ok(holdings)
}
