//! Finding accounts and purchases by what a mail holds. Every look is by an index: none reads more
//! rows than it tells, however many there are.

use uuid::Uuid;

use super::{Db, StorageError};
use crate::domain::chain::{AliasKind, base_order_id};
use crate::domain::ids::{AccountId, ChainId};
use crate::domain::provider::Provider;
use crate::domain::time::Instant;

/// Rows that one name may have; stores' ids are unique, so that more are a mistake or an attack.
const FOUND_MAX: i64 = 20;

/// What a name turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    AccountId,
    Identity,
    StoreToken,
    /// The owner of a purchase that was found.
    Purchase,
    PurchaseId,
    OriginalTransactionId,
    TransactionId,
    OrderId,
    PurchaseToken,
}

/// An account, as support knows it again.
#[derive(Clone, Debug)]
pub(crate) struct FoundAccount {
    pub(crate) id: AccountId,
    pub(crate) by: By,
    /// `issuer:subject`, ordered.
    pub(crate) identities: Vec<String>,
    pub(crate) created_at: Instant,
    /// What it owns, the newest first.
    pub(crate) purchases: Vec<ChainId>,
}

/// A purchase, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct FoundPurchase {
    pub(crate) chain: ChainId,
    pub(crate) by: By,
    pub(crate) provider: Provider,
    pub(crate) app: String,
    pub(crate) owner: Option<AccountId>,
    pub(crate) created_at: Instant,
}

/// The account whose store token this is.
pub(crate) async fn by_store_token(
    db: &Db,
    token: &str,
) -> Result<Option<AccountId>, StorageError> {
    let account = sqlx::query_scalar!(
        "select account_id from store_tokens where token = any(array[$1, lower($1)])",
        token
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(account.map(AccountId))
}

/// What is told of an account; `None` if there is none.
pub(crate) async fn account(
    db: &Db,
    id: AccountId,
    by: By,
) -> Result<Option<FoundAccount>, StorageError> {
    let row = sqlx::query!(
        r#"select a.created_at,
                  array(select issuer || ':' || subject from account_identities
                        where account_id = a.id order by 1) as "identities!",
                  array(select id from purchase_chains
                        where owner_account_id = a.id and merged_into is null
                        order by created_at desc, id limit $2) as "purchases!: Vec<Uuid>"
           from accounts a where a.id = $1"#,
        id.0,
        FOUND_MAX
    )
    .fetch_optional(db.pool())
    .await?;
    Ok(row.map(|row| FoundAccount {
        id,
        by,
        identities: row.identities,
        created_at: row.created_at,
        purchases: row.purchases.into_iter().map(ChainId).collect(),
    }))
}

/// The purchases that a store's id, or ours, names; what was merged into another is that one.
pub(crate) async fn purchases(db: &Db, name: &str) -> Result<Vec<FoundPurchase>, StorageError> {
    let rows = sqlx::query!(
        r#"with named as (
               select chain_id, kind from chain_aliases where value = any($1)
               union all
               select chain_id, 'transaction' from transactions where transaction_id = $2
               union all
               select id, 'purchase' from purchase_chains where id = $3
           )
           select distinct on (c.id) c.id, c.provider, c.app, c.owner_account_id, c.created_at,
                  n.kind as "kind!"
           from named n
           join purchase_chains p on p.id = n.chain_id
           join purchase_chains c on c.id = coalesce(p.merged_into, p.id)
           order by c.id, n.kind = 'transaction' limit $4"#,
        &[name.to_owned(), base_order_id(name).to_owned()],
        name,
        Uuid::parse_str(name).ok(),
        FOUND_MAX
    )
    .fetch_all(db.pool())
    .await?;
    rows.into_iter()
        .map(|row| {
            let provider = Provider::parse(&row.provider)
                .ok_or_else(|| StorageError::Corrupt(format!("provider {:?}", row.provider)))?;
            Ok(FoundPurchase {
                chain: row.id.into(),
                by: by(&row.kind, provider)?,
                provider,
                app: row.app,
                owner: row.owner_account_id.map(AccountId),
                created_at: row.created_at,
            })
        })
        .collect()
}

fn by(kind: &str, provider: Provider) -> Result<By, StorageError> {
    match (kind, provider) {
        ("purchase", _) => return Ok(By::PurchaseId),
        ("transaction", Provider::AppStore) => return Ok(By::TransactionId),
        ("transaction", Provider::GooglePlay) => return Ok(By::OrderId),
        _ => {}
    }
    match AliasKind::parse(kind) {
        Some(AliasKind::OriginalTransactionId) => Ok(By::OriginalTransactionId),
        Some(AliasKind::PurchaseToken) => Ok(By::PurchaseToken),
        Some(AliasKind::OrderId) => Ok(By::OrderId),
        None => Err(StorageError::Corrupt(format!("alias kind {kind:?}"))),
    }
}
