//! ExportAccount: everything that is kept about an account, in one JSON document.

use serde_json::json;

use super::Core;
use crate::domain::ids::AccountId;
use crate::storage::{StorageError, export};

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error("no such account")]
    Unknown,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The document, as of one moment.
pub(crate) async fn export_account(
    core: &Core,
    account: AccountId,
) -> Result<Vec<u8>, ExportError> {
    let tables = export::account(&core.db, account)
        .await?
        .ok_or(ExportError::Unknown)?;
    let document = json!({
        "format": "entitled.account.v1",
        "account": account,
        "exported_at": core.clock.now(),
        "tables": tables,
    });
    serde_json::to_vec_pretty(&document)
        .map_err(|error| StorageError::Corrupt(error.to_string()).into())
}
