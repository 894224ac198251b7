//! The guard: whether a store's answer is taken. Decided by the store's own stamps, never arrival.

use super::state::{ExpiryReason, ItemState, Renewal, RevocationReason};
use super::store_state::{Evidence, Item, Refund, RefundKind, StoreState, Transaction, VoidCause};
use crate::domain::chain::is_of_order;
use crate::domain::event::{ApplyReason, Decision, MergeReason, SkipReason};
use crate::domain::planted::{self, Bug};
use crate::domain::time::Instant;

/// How often a contradicting answer is asked for again before it is believed.
const CONTRADICTIONS_MAX: u32 = 2;

/// What is known of a chain: the last answer taken, and how often it was contradicted since.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Known {
    pub(crate) state: StoreState,
    pub(crate) contradictions: u32,
    /// Only a signed proof stands for it since then.
    pub(crate) unconfirmed_since: Option<Instant>,
    /// Since when the store tells what was bought and not what was paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) money_untold_since: Option<Instant>,
}

/// Takes or refuses `incoming`; `standing_in` marks a signed proof used while the store is away.
pub(crate) fn decide(known: Option<&Known>, incoming: &StoreState, standing_in: bool) -> Decision {
    let Some(known) = known else {
        return Decision::Apply(if standing_in {
            ApplyReason::ProofStandsIn
        } else {
            first_reason(incoming)
        });
    };
    if known.state.environment != incoming.environment {
        return Decision::Skip(SkipReason::EnvironmentChanged);
    }
    // A successor names what it replaces; their stamps are of two documents and order nothing.
    let succeeds = incoming.predecessors.contains(&known.state.head);
    let superseded = known.state.predecessors.contains(&incoming.head);
    let superseded = superseded && !planted::is(Bug::LateExpiredOfReplacedTokenRevokesNew);
    let older = incoming.stamp < known.state.stamp && !planted::is(Bug::CompareArrivalNotEventTime);
    if superseded || (!succeeds && older) {
        return Decision::Skip(SkipReason::StaleAnswer);
    }
    if standing_in && known.unconfirmed_since.is_none() && covers(&known.state, incoming) {
        return Decision::MergeOnly(MergeReason::Unchanged);
    }
    if !succeeds && contradicts(&known.state, incoming) && known.contradictions < CONTRADICTIONS_MAX
    {
        return Decision::Skip(SkipReason::Contradiction);
    }
    match change(&known.state, incoming) {
        Some(_) if standing_in => Decision::Apply(ApplyReason::ProofStandsIn),
        Some(reason) => Decision::Apply(reason),
        None if known.unconfirmed_since.is_some() && !standing_in => {
            Decision::Apply(ApplyReason::Confirmed)
        }
        None => Decision::MergeOnly(MergeReason::Unchanged),
    }
}

/// The state that facts carried only by signals make of an answer: a voided order is revoked even
/// while the store's purchase record still says active. A void names an order, and reaches all its
/// lines.
pub(crate) fn with_evidence(mut state: StoreState, evidence: &[Evidence]) -> StoreState {
    for fact in evidence {
        match fact {
            Evidence::Void {
                order_id,
                at,
                partial,
                cause,
            } if !partial || planted::is(Bug::PartialRefundRevokesAll) => {
                for item in &mut state.items {
                    let paid_by = item.transaction_id.as_deref();
                    if paid_by.is_some_and(|name| is_of_order(name, order_id))
                        || planted::is(Bug::RefundOfOldTransactionRevokesActive)
                    {
                        revoke(item, *at);
                    }
                }
                for transaction in &mut state.transactions {
                    if is_of_order(&transaction.transaction_id, order_id) {
                        transaction.revoked_at.get_or_insert(*at);
                        refund_of(transaction, *at, *cause);
                    }
                }
            }
            Evidence::Void { order_id, at, .. } => {
                for transaction in &mut state.transactions {
                    if is_of_order(&transaction.transaction_id, order_id)
                        && let Some(refund) = &mut transaction.refund
                        && refund.amount.is_none()
                    {
                        // Without the order, only the signal says when.
                        refund.at = *at;
                    }
                }
            }
            Evidence::RefundRequest { .. } => {}
        }
    }
    state
}

/// What a void adds to what the order says: that money went back at all, and why.
fn refund_of(transaction: &mut Transaction, at: Instant, cause: VoidCause) {
    let refund = transaction.refund.get_or_insert(Refund {
        at,
        kind: RefundKind::Full,
        amount: None,
        quantity: None,
    });
    match cause {
        VoidCause::Other => {}
        VoidCause::Chargeback | VoidCause::Unacknowledged => refund.kind = cause.refund(),
    }
}

/// The order that paid the current period was voided. Google may say `expired` for it: the reason
/// is the refund all the same.
fn revoke(item: &mut Item, at: Instant) {
    let ended = item
        .state
        .is_ended()
        .then(|| item.state.expires_at())
        .flatten();
    if !matches!(item.state, ItemState::Revoked { .. }) {
        item.state = ItemState::Revoked {
            at: ended.map_or(at, |ended| ended.min(at)),
            reason: RevocationReason::Refunded,
        };
    }
}

/// An answer that takes back paid time without a refund, a cancellation or another product is
/// more likely a stale read than the truth.
fn contradicts(known: &StoreState, incoming: &StoreState) -> bool {
    if planted::is(Bug::DropPeriodEndComparison) {
        return false;
    }
    pairs(known, incoming).any(|(old, new)| {
        let (Some(old), Some(new)) = (old, new) else {
            return false;
        };
        let ends = |item: &Item| match item.state {
            ItemState::Active { expires_at, .. } | ItemState::GracePeriod { expires_at, .. } => {
                Some(expires_at)
            }
            ItemState::OnHold { .. }
            | ItemState::Paused { .. }
            | ItemState::Pending
            | ItemState::Expired { .. }
            | ItemState::Revoked { .. }
            | ItemState::Owned { .. }
            | ItemState::Unknown { .. } => None,
        };
        old.product == new.product && matches!((ends(old), ends(new)), (Some(a), Some(b)) if b < a)
    })
}

/// What the store itself has confirmed already says all that a signed proof says.
fn covers(known: &StoreState, proof: &StoreState) -> bool {
    pairs(known, proof).all(|(old, new)| match (old, new) {
        (Some(old), Some(new)) => {
            old.transaction_id == new.transaction_id
                || old.state.expires_at() >= new.state.expires_at()
        }
        (Some(_), None) => true,
        (None, _) => false,
    })
}

fn pairs<'a>(
    known: &'a StoreState,
    incoming: &'a StoreState,
) -> impl Iterator<Item = (Option<&'a Item>, Option<&'a Item>)> {
    let gone = known
        .items
        .iter()
        .filter(|old| incoming.items.iter().all(|new| new.key != old.key))
        .map(|old| (Some(old), None));
    incoming
        .items
        .iter()
        .map(|new| (known.items.iter().find(|old| old.key == new.key), Some(new)))
        .chain(gone)
}

fn first_reason(incoming: &StoreState) -> ApplyReason {
    let mut reasons = incoming.items.iter().map(|item| match item.state {
        ItemState::Active { .. } | ItemState::Owned { .. } | ItemState::Unknown { .. } => {
            ApplyReason::Purchased
        }
        ItemState::GracePeriod { .. } => ApplyReason::EnteredGracePeriod,
        ItemState::OnHold { .. } => ApplyReason::BillingFailed,
        ItemState::Paused { .. } => ApplyReason::Paused,
        ItemState::Pending => ApplyReason::Pending,
        ItemState::Expired { .. } => ApplyReason::Expired,
        ItemState::Revoked { .. } => ApplyReason::Revoked,
    });
    reasons.next().unwrap_or(ApplyReason::Purchased)
}

/// The most telling difference between what is known and what came, if an app could see any.
fn change(known: &StoreState, incoming: &StoreState) -> Option<ApplyReason> {
    pairs(known, incoming).find_map(|(old, new)| match (old, new) {
        (None, _) => Some(ApplyReason::Purchased),
        (Some(_), None) => Some(ApplyReason::Changed),
        (Some(old), Some(new)) => item_change(old, new),
    })
}

fn item_change(old: &Item, new: &Item) -> Option<ApplyReason> {
    if old == new {
        return None;
    }
    if old.product != new.product {
        return Some(ApplyReason::ProductChanged);
    }
    if old.state == new.state {
        let scheduled = old.pending_product != new.pending_product;
        return Some(if scheduled {
            ApplyReason::ProductChangeScheduled
        } else {
            ApplyReason::Changed
        });
    }
    Some(transition(&old.state, &new.state))
}

fn transition(old: &ItemState, new: &ItemState) -> ApplyReason {
    use ApplyReason as R;
    match (old, new) {
        (
            ItemState::Active {
                expires_at: before,
                renewal: was,
            },
            ItemState::Active {
                expires_at: after,
                renewal: is,
            },
        ) => match (after > before, was, is) {
            (true, _, _) => R::Renewed,
            (false, Renewal::On, Renewal::Off) => R::RenewalTurnedOff,
            (false, Renewal::Off, Renewal::On) => R::RenewalTurnedOn,
            (false, Renewal::On, Renewal::On) | (false, Renewal::Off, Renewal::Off) => R::Changed,
        },
        (ItemState::OnHold { .. } | ItemState::GracePeriod { .. }, ItemState::Active { .. }) => {
            R::Recovered
        }
        (ItemState::Paused { .. }, ItemState::Active { .. }) => R::Resumed,
        (ItemState::Revoked { .. }, ItemState::Active { .. } | ItemState::Owned { .. }) => {
            R::RefundReversed
        }
        (_, ItemState::Active { .. } | ItemState::Owned { .. }) => R::Purchased,
        (_, ItemState::GracePeriod { .. }) => R::EnteredGracePeriod,
        (_, ItemState::OnHold { .. }) => R::BillingFailed,
        (_, ItemState::Paused { .. }) => R::Paused,
        (_, ItemState::Pending) => R::Pending,
        (
            _,
            ItemState::Expired {
                reason: ExpiryReason::Replaced,
                ..
            },
        ) => R::ProductChanged,
        (_, ItemState::Expired { .. }) => R::Expired,
        (
            _,
            ItemState::Revoked {
                reason: RevocationReason::Refunded,
                ..
            },
        ) => R::Refunded,
        (_, ItemState::Revoked { .. }) => R::Revoked,
        (_, ItemState::Unknown { .. }) => R::Changed,
    }
}
