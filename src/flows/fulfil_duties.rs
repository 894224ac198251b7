//! Duties: what the stores must be told, at least once, after the commit that made it true.

use chrono::TimeDelta;
use tracing::{error, info, warn};

use super::Core;
use crate::domain::duty::Duty;
use crate::failpoint;
use crate::providers::contract::Effect;
use crate::storage::duties::{self, Due};
use crate::storage::{StorageError, ledger};

const BATCH: i64 = 4;
/// Past its deadline by this, a duty is moot.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(24);
/// Late enough to be worth waking somebody.
const ALARM_BEFORE: TimeDelta = TimeDelta::hours(24);

/// Executes open duties; tells how many were taken.
pub(crate) async fn fulfil_duties(core: &Core) -> Result<usize, StorageError> {
    // A duty that failed, or whose worker died, is tried again after this, then after twice this…
    let lease = core.tuning.lease + core.tuning.fetch_timeout;
    let due = duties::take(&core.db, BATCH, lease).await?;
    for duty in &due {
        fulfil(core, duty).await?;
    }
    Ok(due.len())
}

async fn fulfil(core: &Core, duty: &Due) -> Result<(), StorageError> {
    let now = core.clock.now();
    let Some(known) = ledger::peek(&core.db, duty.chain).await? else {
        return duties::failed(&core.db, duty.id, "the chain has no known state").await;
    };
    let moot = match duty.duty {
        Duty::Acknowledge { .. } | Duty::Consume => {
            known.state.head.value != duty.transaction_id || known.state.acknowledge_by.is_none()
        }
        // Named by the app meanwhile.
        Duty::SetAccountToken { .. } => known.state.account_token.is_some(),
        Duty::Finish | Duty::AnswerConsumptionRequest | Duty::ReviewRefund { .. } => false,
    };
    if moot || now - duty.deadline > GIVE_UP_AFTER {
        // Replaced, refunded or acknowledged elsewhere; or the store has long refunded it.
        return duties::done(&core.db, duty.id, now).await;
    }
    failpoint::at("before_acknowledge");
    let effect = Effect {
        state: &known.state,
        transaction_id: &duty.transaction_id,
        duty: &duty.duty,
        answer: None,
    };
    let told = core.stores.perform(effect, &core.catalog.load()).await;
    failpoint::at("after_acknowledge");
    match told {
        Ok(()) => {
            info!(chain = %duty.chain, "purchase acknowledged at the store");
            duties::done(&core.db, duty.id, now).await
        }
        Err(cause) => {
            if duty.deadline - now < ALARM_BEFORE {
                error!(chain = %duty.chain, deadline = %duty.deadline, attempts = duty.attempts, %cause,
                    "a purchase is about to be refunded: it is not acknowledged");
            } else {
                warn!(chain = %duty.chain, attempts = duty.attempts, %cause, "acknowledgement failed");
            }
            duties::failed(&core.db, duty.id, &cause.to_string()).await
        }
    }
}

/// Alarms a day before the store refunds purchases that nobody owns or no product maps.
pub(crate) async fn alarm_unacknowledged(core: &Core) -> Result<(), StorageError> {
    let horizon = core.clock.now() + ALARM_BEFORE;
    let count = duties::unacknowledged(&core.db, horizon).await?;
    metrics::gauge!("entitled_purchases_about_to_be_refunded").set(count as f64);
    if count > 0 {
        warn!(
            count,
            "purchases without owner or product will be refunded by their store"
        );
    }
    Ok(())
}
