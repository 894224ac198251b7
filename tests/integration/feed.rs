//! Caches of backends: many accounts at once, all accounts page by page, and every change after that.

mod batch;
mod model;
mod people;

use std::collections::BTreeMap;

use entitled::cli::client::Client;
use entitled::proto::account_change::State;
use entitled::proto::{
    AccountChange, ListAccountsRequest, WatchAccountsRequest, WatchAccountsResponse,
};
use tonic::{Status, Streaming};

use crate::history::Told;

/// What a change tells.
pub fn told(change: &AccountChange) -> Told {
    match change.state.as_ref().expect("readable") {
        State::Snapshot(snapshot) => Told::Revision {
            epoch: snapshot.epoch.clone(),
            revision: snapshot.revision,
            content: format!("{:?}", snapshot.credits),
        },
        State::Erased(_) => Told::Ended("erased".into()),
        State::Merged(merged) => Told::Ended(format!("part of {}", merged.account_id)),
    }
}

pub async fn open(
    client: &Client,
    cursor: &str,
) -> Result<Streaming<WatchAccountsResponse>, Status> {
    let request = WatchAccountsRequest {
        cursor: cursor.into(),
    };
    let opened = client.clone().inner.watch_accounts(request).await?;
    Ok(opened.into_inner())
}

/// A page of the list: the accounts, the token of the next page, the cursor behind the last.
pub async fn page(
    client: &Client,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<AccountChange>, String, String), Status> {
    let request = ListAccountsRequest {
        page_size,
        page_token: page_token.into(),
    };
    let listed = client.clone().inner.list_accounts(request).await?;
    let listed = listed.into_inner();
    Ok((listed.accounts, listed.next_page_token, listed.cursor))
}

/// What a cache does: it keeps what it is told, and where that was.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub accounts: BTreeMap<String, AccountChange>,
    pub cursor: String,
}

impl Cache {
    pub async fn list(client: &Client, page_size: i32) -> Self {
        let mut cache = Self::default();
        let mut token = String::new();
        loop {
            let listed = page(client, page_size, &token).await.expect("a page");
            for change in listed.0 {
                let again = cache.accounts.insert(change.account_id.clone(), change);
                assert!(again.is_none(), "listed twice: {again:?}");
            }
            (token, cache.cursor) = (listed.1, listed.2);
            if token.is_empty() {
                return cache;
            }
            assert!(cache.cursor.is_empty(), "a cursor before the last page");
        }
    }

    /// Reads a feed from where the cache is until it has caught up; how many changes it was told.
    pub async fn catch_up(&mut self, client: &Client) -> usize {
        let mut stream = open(client, &self.cursor).await.expect("a feed");
        let mut count = 0;
        loop {
            let message = stream.message().await.expect("a feed").expect("a message");
            count += message.changes.len();
            let caught_up = message.caught_up;
            self.take(message);
            if caught_up {
                return count;
            }
        }
    }

    pub fn take(&mut self, message: WatchAccountsResponse) {
        self.cursor = message.cursor;
        for change in message.changes {
            self.accounts.insert(change.account_id.clone(), change);
        }
    }

    pub fn told(&self, account: &str) -> Option<Told> {
        self.accounts.get(account).map(told)
    }
}
