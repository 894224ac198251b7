//! Timeline: one account's story across the layers, in time order.

use super::Core;
use crate::domain::ids::AccountId;
use crate::storage::StorageError;
use crate::storage::timeline::{self, Entry, Page};

/// Everything that happened to the account and to the purchases it owns, owned or asked for.
pub(crate) async fn tell_timeline(
    core: &Core,
    account: AccountId,
) -> Result<Vec<Entry>, StorageError> {
    let chains = timeline::chains_of(&core.db, account).await?;
    let page = Page {
        account: Some(account),
        chains: &chains,
        ..Page::default()
    };
    timeline::entries(&core.db, &page).await
}
