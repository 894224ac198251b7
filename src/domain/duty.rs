//! Duties: outside effects that a settle decides and a worker carries out, at least once each,
//! before a deadline.

use std::borrow::Cow;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, ProductKind};
use super::ownership::Owner;
use super::provider::{Environment, Provider};
use super::subscription::state::ItemState;
use super::subscription::store_state::{Evidence, Item, StoreState, request_key};
use super::time::Instant;

/// Apple waits this long for an answer to a `CONSUMPTION_REQUEST`.
const CONSUMPTION_ANSWER_WITHIN: TimeDelta = TimeDelta::hours(12);
/// Google waits this long for the review of a refund.
const REFUND_REVIEW_WITHIN: TimeDelta = TimeDelta::hours(24);
/// The App Store takes an account token at any time; by then the owner is settled anyway.
const NAME_OWNER_WITHIN: TimeDelta = TimeDelta::days(30);

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

    /// When a store's question was asked that must be answered by `deadline`; for duties that
    /// answer none, the deadline.
    pub(crate) fn asked_at(&self, deadline: Instant) -> Instant {
        match self {
            Self::AnswerConsumptionRequest => deadline - CONSUMPTION_ANSWER_WITHIN,
            Self::ReviewRefund { .. } => deadline - REFUND_REVIEW_WITHIN,
            Self::Acknowledge { .. }
            | Self::Consume
            | Self::Finish
            | Self::SetAccountToken { .. } => deadline,
        }
    }
}

/// A duty as a settle decides it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewDuty {
    /// The transaction, order or token that it is about.
    pub(crate) transaction_id: String,
    pub(crate) duty: Duty,
    /// When the store stops waiting.
    pub(crate) deadline: Instant,
}

impl NewDuty {
    /// With chain and kind the effect's name: the transaction, and of a store's questions about it,
    /// which one.
    pub(crate) fn key(&self) -> Cow<'_, str> {
        let asked_at = self.duty.asked_at(self.deadline);
        let token = match &self.duty {
            Duty::AnswerConsumptionRequest => None,
            Duty::ReviewRefund {
                pending_refund_token,
            } => Some(pending_refund_token.as_str()),
            Duty::Acknowledge { .. }
            | Duty::Consume
            | Duty::Finish
            | Duty::SetAccountToken { .. } => return Cow::Borrowed(&self.transaction_id),
        };
        Cow::Owned(request_key(&self.transaction_id, asked_at, token))
    }
}

/// Who owns the chain, and what its stores call that account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder<'a> {
    pub(crate) owner: Owner,
    pub(crate) store_token: Option<&'a str>,
}

/// What the store must be told about an owned chain. The same effects are named at every settle:
/// each is written once.
pub(crate) fn due(
    provider: Provider,
    holder: Holder<'_>,
    state: &StoreState,
    facts: &[Evidence],
    catalog: &Catalog,
) -> Vec<NewDuty> {
    if !catalog.accepts(state.environment) {
        return Vec::new();
    }
    let handed_over = acknowledgement(provider, holder, state, catalog);
    let named = name_owner(provider, holder, state, catalog);
    handed_over
        .into_iter()
        .chain(named)
        .chain(
            answers(state.environment, facts, catalog)
                .into_iter()
                // What was over before anybody owned it had nobody to answer.
                .filter(|question| question.deadline > holder.owner.since),
        )
        .collect()
}

/// The stores' questions about a purchase that has an owner. Their clock runs from when they were
/// asked, whether the store can be reached meanwhile or not.
pub(crate) fn answers(
    environment: Environment,
    facts: &[Evidence],
    catalog: &Catalog,
) -> Vec<NewDuty> {
    match catalog.accepts(environment) {
        true => facts.iter().filter_map(answer).collect(),
        false => Vec::new(),
    }
}

/// A running purchase whose record at the App Store names nobody is given its owner's token, which
/// the next read then confirms. A token that an app has set is left alone; family members have none.
fn name_owner(
    provider: Provider,
    holder: Holder<'_>,
    state: &StoreState,
    catalog: &Catalog,
) -> Option<NewDuty> {
    let nameless = match provider {
        Provider::AppStore => state.account_token.is_none(),
        // Named when it is acknowledged.
        Provider::GooglePlay => false,
    };
    // What is used up, or means nothing here, is nobody's to claim later.
    let lasts = |item: &Item| {
        let plan = catalog.plan(provider, &item.product);
        plan.is_some_and(|(_, plan)| plan.kind != ProductKind::Consumable)
    };
    let mut items = state.items.iter();
    let running = items.any(|item| lasts(item) && !item.state.is_ended() && !item.family_shared);
    if !nameless || !running {
        return None;
    }
    Some(NewDuty {
        transaction_id: state.head.value.clone(),
        duty: Duty::SetAccountToken {
            account_token: holder.store_token?.to_owned(),
        },
        // An owner of long ago may only now be found nameless: from what the store says now.
        deadline: holder.owner.since.max(state.stamp) + NAME_OWNER_WITHIN,
    })
}

/// Only what is paid, and means something here, is acknowledged: the rest is left to the store's
/// refund.
fn acknowledgement(
    provider: Provider,
    holder: Holder<'_>,
    state: &StoreState,
    catalog: &Catalog,
) -> Option<NewDuty> {
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
    // What is sold again and again is consumed, once it has been handed over (`goods`).
    let lasting = plans().any(|(_, plan)| match plan.kind {
        ProductKind::Subscription | ProductKind::NonConsumable => true,
        ProductKind::NonRenewing | ProductKind::Consumable => false,
    });
    if !paid || !lasting {
        return None;
    }
    // Google takes it for a resubscription made outside the app, whose record names nobody.
    let token = holder.store_token.filter(|_| state.out_of_app);
    Some(NewDuty {
        // One per token: the head names it.
        transaction_id: state.head.value.clone(),
        duty: Duty::Acknowledge {
            account_token: token.map(str::to_owned),
        },
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

#[cfg(test)]
#[path = "duty_tests.rs"]
mod tests;
