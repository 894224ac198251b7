//! ListTransactions: charges and refunds of an account, or of all, page by page.

use super::Core;
use crate::domain::chain::StoreProduct;
use crate::domain::provider::Provider;
pub(crate) use crate::storage::transactions::{Page, Row};
use crate::storage::{StorageError, transactions};

/// A charge or a refund, with the catalog's name of what was sold.
pub(crate) struct Listed {
    pub(crate) row: Row,
    /// Empty while the catalog does not know the product.
    pub(crate) plan: String,
    pub(crate) provider: Provider,
}

/// One page, newest first.
pub(crate) async fn list_transactions(
    core: &Core,
    page: &Page<'_>,
) -> Result<Vec<Listed>, StorageError> {
    let catalog = core.catalog.load_full();
    transactions::list(&core.db, page)
        .await?
        .into_iter()
        .map(|row| {
            let provider = Provider::parse(&row.provider)
                .ok_or_else(|| StorageError::Corrupt(format!("provider {:?}", row.provider)))?;
            let product = StoreProduct {
                product_id: row.product_id.clone(),
                base_plan_id: row.base_plan_id.clone(),
            };
            let plan = catalog
                .plan(provider, &product)
                .map(|(id, _)| id.to_owned())
                .unwrap_or_default();
            Ok(Listed {
                row,
                plan,
                provider,
            })
        })
        .collect()
}
