//! Which calls make a complete read of a chain.

use super::binding::{self, Accepted};
use super::client::{Call, Client};
use super::wire::{HistoryResponse, StatusResponse};
use crate::domain::provider::Environment;
use crate::domain::subscription::store_state::ItemKind;
use crate::providers::contract::{FetchError, FetchRequest, StoreAnswer};

/// 20 transactions each: more than any one customer has.
const HISTORY_PAGES_MAX: usize = 100;

/// Where and for what is asked.
struct Question<'a> {
    client: &'a Client,
    environment: Environment,
    bundle_id: &'a str,
    id: &'a str,
    /// It is known to be something that does not renew.
    one_time: bool,
    /// How far its history has been read.
    bookmark: Option<&'a str>,
    /// The refunds are asked for by themselves, too.
    refunds: bool,
}

/// Renewables: statuses, and what changed in the history since the last read. Others: the
/// transaction. Where the purchase is known to be comes first; else production, and sandbox for
/// what production does not know.
pub(super) async fn chain(
    client: &Client,
    accepted: &Accepted,
    request: &FetchRequest<'_>,
) -> Result<Vec<StoreAnswer>, FetchError> {
    let id = &request.head.value;
    if !binding::is_transaction_id(id) {
        return Err(FetchError::Unreadable(
            "not an App Store transaction id".to_owned(),
        ));
    }
    let bundle_id = request
        .catalog
        .app(&request.head.app)
        .and_then(|app| app.bundle_id.as_deref())
        .ok_or_else(|| {
            FetchError::Refused("the catalog has no bundle id for the app".to_owned())
        })?;
    let mut environments: Vec<_> = accepted.in_order().collect();
    if let Some(last) = request.last {
        environments.sort_by_key(|environment| *environment != last.environment);
    }
    let mut answers = Vec::new();
    for environment in environments {
        let last = request
            .last
            .filter(|last| last.environment == environment && last.head == *request.head);
        let question = Question {
            client,
            environment,
            bundle_id,
            id,
            one_time: last.is_some_and(|last| {
                !last.items.is_empty()
                    && last.items.iter().all(|item| item.kind == ItemKind::OneTime)
            }),
            bookmark: last
                .filter(|_| !request.thorough)
                .and_then(|last| last.bookmark.as_deref()),
            refunds: request.thorough,
        };
        if question.ask(&mut answers).await? {
            break;
        }
    }
    Ok(answers)
}

impl Question<'_> {
    /// Whether the chain is known there.
    async fn ask(&self, answers: &mut Vec<StoreAnswer>) -> Result<bool, FetchError> {
        if !self.one_time {
            let statuses = self.call(Call::Subscriptions).await?;
            let renewable = statuses.status == 200 && has_row(&statuses, self.id)?;
            answers.push(statuses);
            if renewable {
                answers.extend(self.history().await?);
                if self.refunds {
                    // A fifth of the history's rate: for when somebody doubts the books.
                    let refunds = self.pages(None, Call::refunds).await?;
                    answers.extend(refunds.unwrap_or_default());
                }
                return Ok(true);
            }
        }
        // A customer without subscriptions may be unknown to the statuses; the transaction decides.
        let transaction = self.call(Call::Transaction).await?;
        let found = transaction.status == 200;
        answers.push(transaction);
        Ok(found)
    }

    async fn call(&self, call: Call<'_>) -> Result<StoreAnswer, FetchError> {
        let answer = self
            .client
            .read(self.environment, self.bundle_id, call, self.id);
        answer.await
    }

    /// Every transaction that changed since the bookmark; all of them if Apple has forgotten it.
    async fn history(&self) -> Result<Vec<StoreAnswer>, FetchError> {
        match self.pages(self.bookmark, Call::history).await? {
            Some(pages) => Ok(pages),
            None => Ok(self.pages(None, Call::history).await?.unwrap_or_default()),
        }
    }

    /// Every page after a bookmark. `None`: there is nothing after that one.
    async fn pages(
        &self,
        bookmark: Option<&str>,
        call: fn(usize, Option<&str>) -> Call<'_>,
    ) -> Result<Option<Vec<StoreAnswer>>, FetchError> {
        let mut pages = Vec::new();
        let mut revision = bookmark.map(str::to_owned);
        for page in 1..=HISTORY_PAGES_MAX {
            let answer = self.call(call(page, revision.as_deref())).await?;
            if answer.status != 200 {
                return Ok(None);
            }
            let response: HistoryResponse = serde_json::from_slice(&answer.body)
                .map_err(|_| FetchError::Unreadable("not a transaction history".to_owned()))?;
            pages.push(answer);
            match response.revision.filter(|_| response.has_more) {
                None => return Ok(Some(pages)),
                same if same == revision => break,
                newer => revision = newer,
            }
        }
        Err(FetchError::Unreadable(
            "the transaction history does not end".to_owned(),
        ))
    }
}

/// The statuses are those of the customer: another subscription of theirs is no answer.
fn has_row(statuses: &StoreAnswer, id: &str) -> Result<bool, FetchError> {
    let response: StatusResponse = serde_json::from_slice(&statuses.body)
        .map_err(|_| FetchError::Unreadable("not a status response".to_owned()))?;
    Ok(response.row(id).is_some())
}
