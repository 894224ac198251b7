//! The App Store's answers in our words. Pure: every JWS is verified again, as of its signedDate.

use super::binding::{self, Accepted, BindingError};
use super::charge;
use super::client::{HISTORY, REFUNDS, SUBSCRIPTIONS, TRANSACTION};
use super::item;
use super::verify::{Verified, Verifier, VerifyError};
use super::wire::{
    self, HistoryResponse, LastTransaction, RenewalInfo, StatusResponse, TransactionInfoResponse,
};
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::provider::Environment;
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::{StoreState, Transaction};
use crate::domain::time::Instant;
use crate::providers::contract::{FetchError, StoreAnswer};

/// Why an answer is not taken.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("the answer is not a {0} response")]
    Shape(&'static str),
    #[error("no answer says whether the purchase exists")]
    Incomplete,
    #[error("a signed document in it: {0}")]
    Document(#[from] VerifyError),
    #[error("a signed document in it: {0}")]
    Binding(#[from] BindingError),
    #[error("it is about another purchase than was asked for")]
    AnotherPurchase,
}

/// What everything in an answer is checked against.
pub(super) struct Reader<'a> {
    pub(super) verifier: &'a Verifier,
    pub(super) accepted: &'a Accepted,
    pub(super) head: &'a Alias,
    pub(super) catalog: &'a Catalog,
    pub(super) fetched_at: Instant,
}

/// One environment's part of the answers.
#[derive(Default)]
struct Answers<'a> {
    statuses: Option<&'a StoreAnswer>,
    history: Vec<&'a StoreAnswer>,
    refunds: Vec<&'a StoreAnswer>,
    transaction: Option<&'a StoreAnswer>,
}

impl<'a> Answers<'a> {
    fn of(environment: Environment, all: &'a [StoreAnswer]) -> Self {
        let mut answers = Self::default();
        for answer in all {
            let Some((place, call)) = answer.call.split_once('/') else {
                continue;
            };
            if place != environment.as_str() {
                continue;
            }
            match call.split('/').next() {
                Some(SUBSCRIPTIONS) => answers.statuses = Some(answer),
                Some(HISTORY) => answers.history.push(answer),
                Some(REFUNDS) => answers.refunds.push(answer),
                Some(TRANSACTION) => answers.transaction = Some(answer),
                Some(_) | None => {}
            }
        }
        answers
    }
}

impl Reader<'_> {
    /// The whole state of the head's chain.
    pub(super) fn read(&self, answers: &[StoreAnswer]) -> Result<Answer, FetchError> {
        self.answer(answers)
            .map_err(|error| FetchError::Unreadable(error.to_string()))
    }

    fn answer(&self, all: &[StoreAnswer]) -> Result<Answer, Unreadable> {
        let mut asked = false;
        for environment in self.accepted.in_order() {
            let answers = Answers::of(environment, all);
            if let Some(state) = self.renewable(environment, &answers)? {
                return Ok(Answer::Store(state));
            }
            let Some(transaction) = answers.transaction else {
                continue;
            };
            if transaction.status == 200 {
                return self.single(environment, transaction).map(Answer::Store);
            }
            asked = true;
        }
        if asked {
            Ok(Answer::NotFound)
        } else {
            Err(Unreadable::Incomplete)
        }
    }

    fn renewable(
        &self,
        environment: Environment,
        answers: &Answers<'_>,
    ) -> Result<Option<StoreState>, Unreadable> {
        let Some(statuses) = answers.statuses.filter(|answer| answer.status == 200) else {
            return Ok(None);
        };
        let response: StatusResponse = parse(statuses, "status")?;
        self.check_envelope(environment, &response)?;
        let Some(row) = response.row(&self.head.value) else {
            return Ok(None);
        };
        let (transaction, renewal) = self.row(environment, row)?;
        let (mut documents, bookmark) = self.history(environment, &answers.history)?;
        // The same documents by another way: what is in both is believed as it was signed last.
        documents.extend(self.history(environment, &answers.refunds)?.0);
        let now = item::Renewable {
            status: row.status,
            transaction: transaction.payload(),
            renewal: renewal.as_ref().map(Verified::payload),
            signed_at: transaction.signed_at(),
        };
        let items = vec![now.item()];
        // The statuses decide, so theirs is the stamp: the history was asked for later.
        let signed = renewal.as_ref().map(Verified::signed_at);
        let stamp = signed.map_or(transaction.signed_at(), |at| {
            at.max(transaction.signed_at())
        });
        let renewal = renewal.as_ref().map(Verified::payload);
        let payload = transaction.payload();
        let account_token = payload
            .app_account_token
            .clone()
            .or_else(|| renewal?.app_account_token.clone());
        let predecessors = predecessors(self.head, payload);
        documents.push(transaction);
        Ok(Some(StoreState {
            environment,
            stamp,
            head: self.head.clone(),
            aliases: Vec::new(),
            predecessors,
            account_token,
            purchased_at: purchased_at(&documents, renewal),
            items,
            transactions: transactions(&documents),
            acknowledge_by: None,
            bookmark,
            out_of_app: false,
            money_untold: false,
        }))
    }

    /// The statuses' unsigned frame must be of what was asked for, too.
    fn check_envelope(
        &self,
        environment: Environment,
        response: &StatusResponse,
    ) -> Result<(), Unreadable> {
        if self.accepted.check(&response.environment)? != environment {
            return Err(BindingError::Mismatch("the environment").into());
        }
        let app = binding::app(self.catalog, &response.bundle_id, environment)?;
        binding::check_app_apple_id(app, environment, response.app_apple_id)?;
        if app.id != self.head.app {
            return Err(Unreadable::AnotherPurchase);
        }
        Ok(())
    }

    fn row(
        &self,
        environment: Environment,
        row: &LastTransaction,
    ) -> Result<(Verified<wire::Transaction>, Option<Verified<RenewalInfo>>), Unreadable> {
        let transaction = self.transaction(environment, &row.signed_transaction_info)?;
        if transaction.payload().original_transaction_id != self.head.value {
            return Err(Unreadable::AnotherPurchase);
        }
        let renewal = match &row.signed_renewal_info {
            Some(jws) => Some(self.verifier.verify::<RenewalInfo>(jws, self.fetched_at)?),
            None => None,
        };
        if let Some(renewal) = &renewal {
            binding::check_renewal(transaction.payload(), renewal.payload())?;
        }
        Ok((transaction, renewal))
    }

    /// A history is the customer's; only this chain's part of it counts. With how far it goes.
    fn history(
        &self,
        environment: Environment,
        pages: &[&StoreAnswer],
    ) -> Result<(Vec<Verified<wire::Transaction>>, Option<String>), Unreadable> {
        let mut documents = Vec::new();
        let mut bookmark = None;
        for page in pages.iter().filter(|page| page.status == 200) {
            let response: HistoryResponse = parse(page, "history")?;
            for jws in &response.signed_transactions {
                let transaction = self.transaction(environment, jws)?;
                if transaction.payload().original_transaction_id == self.head.value {
                    documents.push(transaction);
                }
            }
            bookmark = response.revision;
        }
        Ok((documents, bookmark))
    }

    fn single(
        &self,
        environment: Environment,
        answer: &StoreAnswer,
    ) -> Result<StoreState, Unreadable> {
        let response: TransactionInfoResponse = parse(answer, "transaction")?;
        let transaction = self.transaction(environment, &response.signed_transaction_info)?;
        let payload = transaction.payload();
        if payload.original_transaction_id != self.head.value {
            return Err(Unreadable::AnotherPurchase);
        }
        let head = self.head.clone();
        Ok(alone(head, environment, transaction, self.fetched_at))
    }

    /// Verified, and of the head's app and the environment that was asked.
    fn transaction(
        &self,
        environment: Environment,
        jws: &str,
    ) -> Result<Verified<wire::Transaction>, Unreadable> {
        let transaction = self
            .verifier
            .verify::<wire::Transaction>(jws, self.fetched_at)?;
        let payload = transaction.payload();
        if self.accepted.check(&payload.environment)? != environment {
            return Err(BindingError::Mismatch("the environment").into());
        }
        if binding::app(self.catalog, &payload.bundle_id, environment)?.id != self.head.app {
            return Err(Unreadable::AnotherPurchase);
        }
        Ok(transaction)
    }
}

/// The state that a signed transaction shows by itself.
pub(super) fn alone(
    head: Alias,
    environment: Environment,
    document: Verified<wire::Transaction>,
    now: Instant,
) -> StoreState {
    together(head, environment, document, Vec::new(), now)
}

/// The same of the newest transaction of a purchase, with those before it.
pub(super) fn together(
    head: Alias,
    environment: Environment,
    document: Verified<wire::Transaction>,
    earlier: Vec<Verified<wire::Transaction>>,
    now: Instant,
) -> StoreState {
    let payload = document.payload();
    StoreState {
        environment,
        stamp: document.signed_at(),
        aliases: Vec::new(),
        predecessors: predecessors(&head, payload),
        head,
        account_token: payload.app_account_token.clone(),
        items: vec![item::of_transaction(payload, document.signed_at(), now)],
        purchased_at: purchased_at(std::slice::from_ref(&document), None),
        transactions: {
            let mut documents = earlier;
            documents.push(document);
            transactions(&documents)
        },
        acknowledge_by: None,
        bookmark: None,
        out_of_app: false,
        money_untold: false,
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(
    answer: &'a StoreAnswer,
    name: &'static str,
) -> Result<T, Unreadable> {
    serde_json::from_slice(&answer.body).map_err(|_| Unreadable::Shape(name))
}

/// When the newest purchase that is not a renewal was made, as far as the documents tell.
fn purchased_at(
    documents: &[Verified<wire::Transaction>],
    renewal: Option<&RenewalInfo>,
) -> Option<Instant> {
    let bought = documents.iter().map(Verified::payload).flat_map(|payload| {
        let now = (payload.transaction_reason == Some(wire::Reason::Purchase))
            .then_some(payload.purchase_date);
        [now, payload.original_purchase_date].into_iter().flatten()
    });
    let again = renewal.and_then(|renewal| renewal.recent_subscription_start_date);
    bought.chain(again).max().map(|date| date.0)
}

/// Each transaction once, as its newest document says.
fn transactions(documents: &[Verified<wire::Transaction>]) -> Vec<Transaction> {
    let mut ordered: Vec<_> = documents.iter().collect();
    ordered.sort_by_key(|document| std::cmp::Reverse(document.signed_at()));
    let mut transactions: Vec<Transaction> = Vec::new();
    for payload in ordered.into_iter().map(Verified::payload) {
        if transactions
            .iter()
            .all(|known| known.transaction_id != payload.transaction_id)
        {
            transactions.push(charge::of(payload));
        }
    }
    transactions.sort_by(|a, b| {
        (a.purchased_at, &a.transaction_id).cmp(&(b.purchased_at, &b.transaction_id))
    });
    transactions
}

/// What a purchase carries on that Apple moved to another original transaction id.
fn predecessors(head: &Alias, payload: &wire::Transaction) -> Vec<Alias> {
    let previous = payload.previous_original_transaction_id.iter();
    previous
        .filter(|id| **id != head.value && binding::is_transaction_id(id))
        .map(|id| binding::alias(head.app.clone(), id.clone()))
        .collect()
}
