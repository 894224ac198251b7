//! FindAccount: whose mail this is, by whatever it holds.

use super::Core;
use super::read_entitlements::named_account;
use crate::domain::ids::AccountId;
pub(crate) use crate::storage::finding::{By, FoundAccount, FoundPurchase};
use crate::storage::{StorageError, finding};
use crate::watch::ReadError;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) accounts: Vec<FoundAccount>,
    pub(crate) purchases: Vec<FoundPurchase>,
}

/// What is looked for, without what mails put around it; `None` if nothing is left.
pub(crate) fn query(text: &str) -> Option<&str> {
    let around = |letter: char| {
        letter.is_whitespace() || matches!(letter, '"' | '\'' | '<' | '>' | '`' | ',' | ';' | '#')
    };
    Some(text.trim_matches(around)).filter(|query| !query.is_empty())
}

/// Looks for accounts and purchases under that name; the owner of a purchase is found with it.
pub(crate) async fn find_account(core: &Core, query: &str) -> Result<Found, StorageError> {
    let mut found = Found {
        purchases: finding::purchases(&core.db, query).await?,
        ..Found::default()
    };
    let mut named: Vec<(AccountId, By)> = Vec::new();
    let account = named_account(core, query)
        .await
        .map_err(|error| match error {
            ReadError::Unavailable => StorageError::Unavailable("it is away".into()),
            ReadError::Storage(error) => error,
        })?;
    let by = match uuid::Uuid::parse_str(query) {
        Ok(_) => By::AccountId,
        Err(_) => By::Identity,
    };
    named.extend(account.map(|account| (account.id, by)));
    let token = finding::by_store_token(&core.db, query).await?;
    named.extend(token.map(|id| (id, By::StoreToken)));
    let owners = found.purchases.iter().filter_map(|purchase| purchase.owner);
    named.extend(owners.map(|id| (id, By::Purchase)));
    for (id, by) in named {
        if found.accounts.iter().any(|known| known.id == id) {
            continue;
        }
        found
            .accounts
            .extend(finding::account(&core.db, id, by).await?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn what_mails_put_around_an_id_is_no_part_of_it() {
        for text in [
            "GPA.3345-1234-5678-90123..2",
            "  GPA.3345-1234-5678-90123..2\r\n",
            "\"GPA.3345-1234-5678-90123..2\"",
            "<GPA.3345-1234-5678-90123..2>,",
            "#GPA.3345-1234-5678-90123..2",
        ] {
            assert_eq!(query(text), Some("GPA.3345-1234-5678-90123..2"), "{text}");
        }
        assert_eq!(query(" \" \" "), None);
    }
}
