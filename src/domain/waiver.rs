//! When a duty is alarmed, and when it is let go without being carried out.

use chrono::TimeDelta;

use super::duty::Duty;
use super::subscription::store_state::StoreState;
use super::time::Instant;

/// Why a duty was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiver {
    /// Another purchase has taken its place.
    Replaced,
    /// The store waits for it no more: done elsewhere, refunded or revoked.
    NoLongerAwaited,
    /// The store has given the money back: there is nothing left to answer.
    AlreadyRefunded,
    /// The customer did not agree that the store is told.
    NoConsent,
    /// `[refund_defence] enabled = false`.
    DefenceOff,
    /// The store has stopped waiting.
    TooLate,
}

impl Waiver {
    /// As the timeline says it, and as the metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::NoLongerAwaited => "no longer awaited",
            Self::AlreadyRefunded => "already refunded",
            Self::NoConsent => "no consent",
            Self::DefenceOff => "refund defence is off",
            Self::TooLate => "too late",
        }
    }

    /// Whether something went wrong.
    pub(crate) fn is_failure(self) -> bool {
        match self {
            Self::TooLate => true,
            Self::Replaced
            | Self::NoLongerAwaited
            | Self::AlreadyRefunded
            | Self::NoConsent
            | Self::DefenceOff => false,
        }
    }
}

/// The longest lead of any alarm.
pub(crate) const ALARM_LEAD_MAX: TimeDelta = TimeDelta::hours(24);

impl Duty {
    /// How long before its deadline somebody is woken for it: money goes back after an
    /// acknowledgement's, and half of the time for an answer is left.
    fn alarm_lead(&self) -> TimeDelta {
        match self {
            Self::Acknowledge { .. } | Self::Consume => ALARM_LEAD_MAX,
            Self::AnswerConsumptionRequest => TimeDelta::hours(6),
            Self::ReviewRefund { .. } => TimeDelta::hours(12),
            Self::Finish | Self::SetAccountToken { .. } => TimeDelta::hours(1),
        }
    }

    /// How long after its deadline it is still tried: a store may be late, too.
    fn grace(&self) -> TimeDelta {
        match self {
            Self::Acknowledge { .. } | Self::Consume => TimeDelta::hours(24),
            Self::AnswerConsumptionRequest | Self::ReviewRefund { .. } => TimeDelta::zero(),
            // The store waits for these as long as it takes.
            Self::Finish | Self::SetAccountToken { .. } => TimeDelta::days(60),
        }
    }
}

/// For each kind of duty, until when a deadline is near at `now`.
pub(crate) fn near_until(now: Instant) -> [(&'static str, Instant); 6] {
    [
        Duty::Acknowledge {
            account_token: None,
        },
        Duty::Consume,
        Duty::Finish,
        Duty::SetAccountToken {
            account_token: String::new(),
        },
        Duty::AnswerConsumptionRequest,
        Duty::ReviewRefund {
            pending_refund_token: String::new(),
        },
    ]
    .map(|duty| (duty.kind(), now + duty.alarm_lead()))
}

/// How long after the moment of the refund a purchase that nobody acknowledged is still an alarm:
/// by then the store's void has come, or a schedule has seen it.
pub(crate) const REFUNDED_SINCE: TimeDelta = TimeDelta::days(2);

/// Whether the duty about `transaction_id` has become pointless by what is known of its chain.
/// `gone_back`: the books have that the store took that transaction back. The state does not tell: it
/// has only what the last read found new.
pub(crate) fn moot(
    duty: &Duty,
    transaction_id: &str,
    deadline: Instant,
    state: &StoreState,
    gone_back: bool,
    now: Instant,
) -> Option<Waiver> {
    let moot = match duty {
        Duty::Acknowledge { .. } if state.head.value != transaction_id => Some(Waiver::Replaced),
        Duty::Acknowledge { .. } if state.acknowledge_by.is_none() => Some(Waiver::NoLongerAwaited),
        // Acknowledged or not: it is not for sale again before. What was taken back is.
        Duty::Consume if used_up(state) => Some(Waiver::NoLongerAwaited),
        Duty::Consume if state.head.value != transaction_id => Some(Waiver::Replaced),
        // Named by the app meanwhile.
        Duty::SetAccountToken { .. } => state
            .account_token
            .is_some()
            .then_some(Waiver::NoLongerAwaited),
        Duty::AnswerConsumptionRequest | Duty::ReviewRefund { .. } => {
            gone_back.then_some(Waiver::AlreadyRefunded)
        }
        Duty::Acknowledge { .. } | Duty::Consume | Duty::Finish => None,
    };
    moot.or_else(|| (now > deadline + duty.grace()).then_some(Waiver::TooLate))
}

/// Every unit was consumed or taken back.
fn used_up(state: &StoreState) -> bool {
    let mut charges = state.transactions.iter();
    !state.transactions.is_empty()
        && charges.all(|charge| charge.consumed || charge.units_held() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chain::{Alias, AliasKind, AppId, StoreProduct};
    use crate::domain::provider::{Environment, Provider};
    use crate::domain::subscription::store_state::Transaction;

    fn at(hours: i64) -> Instant {
        "2027-01-10T09:00:00Z".parse::<Instant>().unwrap() + TimeDelta::hours(hours)
    }

    fn state(acknowledge_by: Option<Instant>) -> StoreState {
        let product = StoreProduct {
            product_id: "coins".into(),
            base_plan_id: None,
        };
        let charge = Transaction::new("order", product, at(0));
        StoreState {
            environment: Environment::Production,
            stamp: at(0),
            head: Alias {
                provider: Provider::GooglePlay,
                app: AppId("app".into()),
                kind: AliasKind::PurchaseToken,
                value: "token".into(),
            },
            aliases: Vec::new(),
            predecessors: Vec::new(),
            account_token: Some("account".into()),
            purchased_at: None,
            items: Vec::new(),
            transactions: vec![charge],
            acknowledge_by,
            bookmark: None,
            out_of_app: false,
            money_untold: false,
        }
    }

    #[test]
    fn a_duty_is_let_go_when_it_has_become_pointless_and_not_before() {
        let acknowledge = Duty::Acknowledge {
            account_token: None,
        };
        let review = Duty::ReviewRefund {
            pending_refund_token: "t".into(),
        };
        let set = |token: &str| Duty::SetAccountToken {
            account_token: token.into(),
        };
        let waits = Some(at(72));
        let table = [
            (&acknowledge, "token", (false, waits), 71, None),
            (&acknowledge, "token", (false, waits), 95, None),
            (
                &acknowledge,
                "token",
                (false, waits),
                97,
                Some(Waiver::TooLate),
            ),
            (
                &acknowledge,
                "old",
                (false, waits),
                1,
                Some(Waiver::Replaced),
            ),
            (
                &acknowledge,
                "token",
                (false, None),
                1,
                Some(Waiver::NoLongerAwaited),
            ),
            (&Duty::Consume, "token", (false, waits), 1, None),
            (
                &Duty::Consume,
                "old",
                (false, waits),
                1,
                Some(Waiver::Replaced),
            ),
            (&review, "order", (false, None), 72, None),
            (
                &review,
                "order",
                (true, None),
                1,
                Some(Waiver::AlreadyRefunded),
            ),
            (&review, "order", (false, None), 73, Some(Waiver::TooLate)),
            (
                &set("account"),
                "tx",
                (false, None),
                1,
                Some(Waiver::NoLongerAwaited),
            ),
            (&Duty::Finish, "order", (true, None), 1, None),
        ];
        for (duty, about, (gone_back, waits), now, expected) in table {
            let state = state(waits);
            assert_eq!(
                moot(duty, about, at(72), &state, gone_back, at(now)),
                expected,
                "{duty:?} about {about} at {now} h"
            );
        }
    }
}
