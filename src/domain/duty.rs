//! Duties: outside effects that a settle decides and a worker carries out, at least once each,
//! before a deadline.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, ProductKind};
use super::provider::Provider;
use super::subscription::state::ItemState;
use super::subscription::store_state::{Evidence, StoreState};
use super::time::Instant;

/// Apple waits this long for an answer to a `CONSUMPTION_REQUEST`.
const CONSUMPTION_ANSWER_WITHIN: TimeDelta = TimeDelta::hours(12);
/// Google waits this long for the review of a refund.
const REFUND_REVIEW_WITHIN: TimeDelta = TimeDelta::hours(24);

/// What a store must be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "duty", rename_all = "snake_case")]
pub(crate) enum Duty {
    /// Google: the purchase reached its owner; otherwise the store refunds it after three days.
    Acknowledge {
        /// Names the owner on a resubscription made outside the app.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account_token: Option<String>,
    },
    /// Google: the units were credited, the product may be bought again; acknowledges, too.
    Consume,
    /// App Store: the units were credited, the transaction is finished.
    Finish,
    /// App Store: put the owner's account token into the store's record.
    SetAccountToken { account_token: String },
    /// App Store: a `CONSUMPTION_REQUEST` waits for its answer (12 h).
    AnswerConsumptionRequest,
    /// Google: a refund waits for its review (24 h).
    ReviewRefund { pending_refund_token: String },
}

impl Duty {
    /// The word for SQL, metrics and the timeline; with chain and transaction the effect's name.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Acknowledge { .. } => "acknowledge",
            Self::Consume => "consume",
            Self::Finish => "finish",
            Self::SetAccountToken { .. } => "set_account_token",
            Self::AnswerConsumptionRequest => "answer_consumption_request",
            Self::ReviewRefund { .. } => "review_refund",
        }
    }
}

/// A duty as a settle decides it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewDuty {
    /// The transaction, order or token that it is about: unique with chain and kind.
    pub(crate) transaction_id: String,
    pub(crate) duty: Duty,
    /// When the store stops waiting.
    pub(crate) deadline: Instant,
}

/// What the store must be told about an owned chain. The same effects are named at every settle:
/// each is written once.
pub(crate) fn due(
    provider: Provider,
    state: &StoreState,
    facts: &[Evidence],
    catalog: &Catalog,
) -> Vec<NewDuty> {
    if !catalog.accepts(state.environment) {
        return Vec::new();
    }
    let handed_over = acknowledgement(provider, state, catalog);
    handed_over
        .into_iter()
        .chain(facts.iter().filter_map(answer))
        .collect()
}

/// Only what is paid, and means something here, is acknowledged: the rest is left to the store's
/// refund.
fn acknowledgement(provider: Provider, state: &StoreState, catalog: &Catalog) -> Option<NewDuty> {
    let deadline = state.acknowledge_by?;
    let paid = state
        .items
        .iter()
        .any(|item| item.state != ItemState::Pending);
    let plans = || {
        state
            .items
            .iter()
            .filter_map(|item| catalog.plan(provider, &item.product))
    };
    if !paid || plans().next().is_none() {
        return None;
    }
    let consumable = plans().all(|(_, plan)| plan.kind == ProductKind::Consumable);
    let duty = if consumable {
        Duty::Consume
    } else {
        Duty::Acknowledge {
            account_token: None,
        }
    };
    Some(NewDuty {
        // One per token: the head names it.
        transaction_id: state.head.value.clone(),
        duty,
        deadline,
    })
}

fn answer(fact: &Evidence) -> Option<NewDuty> {
    let Evidence::RefundRequest {
        transaction_id,
        at,
        token,
        ..
    } = fact
    else {
        return None;
    };
    let (duty, within) = match token {
        Some(token) => (
            Duty::ReviewRefund {
                pending_refund_token: token.clone(),
            },
            REFUND_REVIEW_WITHIN,
        ),
        None => (Duty::AnswerConsumptionRequest, CONSUMPTION_ANSWER_WITHIN),
    };
    Some(NewDuty {
        transaction_id: transaction_id.clone(),
        duty,
        deadline: *at + within,
    })
}
