//! How long a look at the database may take, and what is said of one that takes longer.

use std::time::Duration;

use super::{Finding, Health};
use crate::domain::guide::Step;
use crate::flows::Core;
use crate::storage::{StorageError, diagnosis};

/// How long the database may take for a statement of a look.
pub(crate) const STATEMENT_MAX: Duration = Duration::from_secs(5);

/// What is found where the database takes too long.
pub(super) fn slow(what: &str) -> Finding {
    let found = format!(
        "not looked at: the database took longer than {} s for it",
        STATEMENT_MAX.as_secs()
    );
    let next = "run it again at a quieter hour; if it stays so, look for what everything waits for \
                (pg_stat_activity, wait_event_type Lock)";
    Finding::new(what, Health::Warn, found, next)
}

/// The same of a step.
pub(super) fn slow_step(step: Step) -> Finding {
    Finding {
        step: Some(step),
        ..slow(step.title())
    }
}

/// What a look finds; `slow` where the database took too long for it.
pub(super) async fn look<F: IntoIterator<Item = Finding>>(
    slow: Finding,
    looking: impl Future<Output = Result<F, StorageError>>,
) -> Result<Vec<Finding>, StorageError> {
    let found = in_time(looking.await)?;
    Ok(found.map_or_else(|| vec![slow], |found| found.into_iter().collect()))
}

fn in_time<T>(read: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(StorageError::Slow(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What purchases are of; read once for all who tell something of it.
pub(crate) struct Sold(Option<Vec<diagnosis::Sold>>);

impl Sold {
    pub(crate) async fn read(core: &Core) -> Result<Self, StorageError> {
        Ok(Self(in_time(diagnosis::products(&core.db).await)?))
    }

    /// `None`: the database took too long for it.
    pub(super) fn products(&self) -> Option<&[diagnosis::Sold]> {
        self.0.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::provider::Provider;
    use crate::flows::examine::first_purchase;

    #[test]
    fn what_took_too_long_is_told_and_nothing_is_made_up() {
        let nothing = first_purchase(
            &Sold(Some(vec![])),
            Step::APPLE_PURCHASE,
            Provider::AppStore,
        );
        assert_eq!(nothing.found, "nothing was bought yet");
        let unknown = first_purchase(&Sold(None), Step::APPLE_PURCHASE, Provider::AppStore);
        assert_eq!(unknown.step, Some(Step::APPLE_PURCHASE));
        assert_eq!(unknown.health, Health::Warn);
        assert!(unknown.found.contains("longer than 5 s"), "{unknown:?}");
        let other = in_time::<()>(Err(StorageError::Unavailable("gone".into())));
        assert!(other.is_err(), "what is no matter of time ends the run");
    }
}
