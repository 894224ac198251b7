//! The trace that every signal leaves: what was decided, by which rule.

use serde::{Deserialize, Serialize};

/// What made us look at a chain or an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SignalSource {
    /// `BindPurchase`: a proof from the account's app.
    Proof,
    /// A webhook.
    Notification,
    /// `RefreshSubscription`.
    Refresh,
    /// A chain that was due.
    Schedule,
    /// A moment that passed.
    Time,
    /// A person with the operator's key.
    Operator,
    /// A new catalog.
    Catalog,
    /// `AccountService`: the account's own user, or the adopter's backend for it.
    Account,
}

impl SignalSource {
    const ALL: [Self; 8] = [
        Self::Proof,
        Self::Notification,
        Self::Refresh,
        Self::Schedule,
        Self::Time,
        Self::Operator,
        Self::Catalog,
        Self::Account,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Proof => "proof",
            Self::Notification => "notification",
            Self::Refresh => "refresh",
            Self::Schedule => "schedule",
            Self::Time => "time",
            Self::Operator => "operator",
            Self::Catalog => "catalog",
            Self::Account => "account",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }
}

/// A decision is a value with a reason; a refusal is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", content = "reason", rename_all = "snake_case")]
pub(crate) enum Decision {
    /// The app-facing state changed.
    Apply(ApplyReason),
    /// The store's answer was kept; nothing that an app sees changed.
    MergeOnly(MergeReason),
    /// The answer was not taken.
    Skip(SkipReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApplyReason {
    Purchased,
    Renewed,
    RenewalTurnedOff,
    RenewalTurnedOn,
    EnteredGracePeriod,
    BillingFailed,
    Recovered,
    Paused,
    Resumed,
    ProductChanged,
    ProductChangeScheduled,
    Pending,
    Expired,
    Refunded,
    Revoked,
    RefundReversed,
    /// Only a signed proof stands for it; the store could not be asked.
    ProofStandsIn,
    /// The same state, now in the store's own words.
    Confirmed,
    Changed,
    OwnerChanged,
    /// The store cannot be asked: access lasts up to the outage leniency.
    StoreAway,
    Transferred,
    /// Two accounts have become one.
    Linked,
    Granted,
    GrantRevoked,
    /// The account was erased: its purchases are nobody's.
    Erased,
    TimePassed,
    CatalogChanged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MergeReason {
    Unchanged,
    UnmappedProduct,
    EnvironmentNotAccepted,
    /// A sandbox purchase of an account that is not among the catalog's `testers`.
    NotATester,
    /// Shared by a family member, and the product is for its purchaser alone.
    FamilySharingRefused,
    /// Verified, but no account owns it yet.
    Unowned,
    /// A linked token showed that two chains are one.
    Joined,
    /// An operator is about to ask the store to act.
    StoreActionAsked,
    /// An operator asked to look again.
    AskedAgain,
    /// The store did what an operator asked; what came of it is read like anything else.
    StoreActionDone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SkipReason {
    /// Older than what is known.
    StaleAnswer,
    /// Contradicts what is known without saying why: asked again before it is believed.
    Contradiction,
    /// The store said another environment before: fail closed.
    EnvironmentChanged,
    /// The store does not know it.
    NotAtStore,
    /// The store's record is gone (60 days after expiry); the last known state stays.
    GoneAtStore,
    /// The store cannot be asked and nothing can stand in.
    StoreUnreachable,
    /// The purchase is another account's, or the store's record names another.
    OwnedByAnother,
    /// A notification of no consequence here: kept.
    Ignored,
    /// An authentic notification of a kind or shape that this version does not know: kept, changes
    /// nothing.
    Unsupported,
    /// An authentic notification that this version cannot read: kept, grants nothing.
    Unreadable,
    /// The store refused what an operator asked of it.
    StoreActionRefused,
}

impl Decision {
    /// Reads what `words` gave; `None` for words of another version.
    pub(crate) fn parse(decision: &str, reason: &str) -> Option<Self> {
        let value = serde_json::json!({ "decision": decision, "reason": reason });
        serde_json::from_value(value).ok()
    }

    /// (`apply` | `merge_only` | `skip`, reason), as kept in the event log.
    pub(crate) fn words(self) -> (String, String) {
        let value = serde_json::to_value(self).unwrap_or_default();
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        (word("decision"), word("reason"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_print_as_the_event_log_keeps_them() {
        let words = Decision::MergeOnly(MergeReason::UnmappedProduct).words();
        assert_eq!(
            words,
            ("merge_only".to_owned(), "unmapped_product".to_owned())
        );
    }
}
