//! How times, stores and decisions read to the people who answer tickets.

use chrono::Datelike as _;

use super::event::{ApplyReason, Decision, MergeReason, SignalSource, SkipReason};
use super::provider::Provider;
use super::time::Instant;

/// `3 May 10:12 UTC`, with the year where it is not the reader's.
pub(crate) fn moment(at: Instant, now: Instant) -> String {
    let format = if at.year() == now.year() {
        "%-d %b %H:%M UTC"
    } else {
        "%-d %b %Y %H:%M UTC"
    };
    at.format(format).to_string()
}

/// The end of a store's id: enough to find it on a receipt.
pub(crate) fn tail(id: &str) -> String {
    let skipped = id.chars().count().saturating_sub(4);
    if skipped == 0 {
        return id.to_owned();
    }
    format!("…{}", id.chars().skip(skipped).collect::<String>())
}

/// What made us look, as the start of a sentence.
pub(crate) fn source(source: SignalSource, store: Option<Provider>) -> String {
    let store = store.map_or("the store", Provider::label);
    match source {
        SignalSource::Proof => "the app showed the purchase".to_owned(),
        SignalSource::Notification => format!("a notification by {store}"),
        SignalSource::Refresh => format!("the app asked us to look at {store}"),
        SignalSource::Schedule => format!("our regular look at {store}"),
        SignalSource::Time => "time passed".to_owned(),
        SignalSource::Operator => "an operator".to_owned(),
        SignalSource::Catalog => "a new catalog".to_owned(),
        SignalSource::Account => "a change of the account".to_owned(),
    }
}

/// What was decided and by which rule, in words.
pub(crate) fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Apply(reason) => applied(reason),
        Decision::MergeOnly(reason) => merged(reason),
        Decision::Skip(reason) => skipped(reason),
    }
}

fn applied(reason: ApplyReason) -> &'static str {
    match reason {
        ApplyReason::Purchased => "it was bought",
        ApplyReason::Renewed => "it was renewed",
        ApplyReason::RenewalTurnedOff => "the customer turned renewal off: it ends with its period",
        ApplyReason::RenewalTurnedOn => "the customer turned renewal on again",
        ApplyReason::EnteredGracePeriod => {
            "the renewal could not be charged; the store keeps access while it tries again"
        }
        ApplyReason::BillingFailed => {
            "the renewal could not be charged; no access while the store tries again"
        }
        ApplyReason::Recovered => "the store could charge after all",
        ApplyReason::Paused => "the customer paused it",
        ApplyReason::Resumed => "it goes on after a pause",
        ApplyReason::ProductChanged => "the customer changed to another product",
        ApplyReason::ProductChangeScheduled => {
            "the next renewal brings another product, or no longer does"
        }
        ApplyReason::Pending => "it is bought but not paid yet",
        ApplyReason::Expired => "it is over",
        ApplyReason::Refunded => "the store gave the money back",
        ApplyReason::Revoked => "the store took it back",
        ApplyReason::RefundReversed => "the store took the refund back",
        ApplyReason::ProofStandsIn => {
            "the store cannot be asked; what it signed earlier stands in for a while"
        }
        ApplyReason::Confirmed => "the store has confirmed what its signed document said",
        ApplyReason::Changed => "a detail of it has changed",
        ApplyReason::OwnerChanged => "it has another owner",
        ApplyReason::StoreAway => {
            "the store cannot be asked whether it was renewed; access is prolonged for a while"
        }
        ApplyReason::Transferred => "an operator moved it to another account",
        ApplyReason::Linked => "the account became one with another when its user signed in",
        ApplyReason::Granted => "an operator gave access",
        ApplyReason::GrantRevoked => "an operator took a gift back",
        ApplyReason::Erased => "the account was erased; the purchase is nobody's",
        ApplyReason::TimePassed => "access ended: nobody said anything more by then",
        ApplyReason::CatalogChanged => "the catalog says something else about it",
    }
}

fn merged(reason: MergeReason) -> &'static str {
    match reason {
        MergeReason::Unchanged => "nothing had changed",
        MergeReason::UnmappedProduct => "the catalog has no such product: it grants nothing",
        MergeReason::EnvironmentNotAccepted => "a sandbox purchase, which grants nothing here",
        MergeReason::NotATester => "a sandbox purchase, which serves the catalog's testers alone",
        MergeReason::FamilySharingRefused => "shared by the family, which grants nothing here",
        MergeReason::Unowned => "no account has asked for it yet",
        MergeReason::Joined => "two purchases turned out to be one",
        MergeReason::StoreActionAsked => "an operator asks the store to act",
        MergeReason::AskedAgain => "an operator asked to look again",
        MergeReason::StoreActionDone => "the store did what an operator asked",
    }
}

fn skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::StaleAnswer => "the answer was older than what is known",
        SkipReason::Contradiction => {
            "the answer took back paid time without a reason: the store is asked again"
        }
        SkipReason::EnvironmentChanged => "the store named another environment than before",
        SkipReason::NotAtStore => "the store does not know it",
        SkipReason::GoneAtStore => "the store has forgotten it; what was known stays",
        SkipReason::StoreUnreachable => "the store could not be asked",
        SkipReason::OwnedByAnother => "it belongs to another account",
        SkipReason::Ignored => "of no consequence here",
        SkipReason::Unreadable => "it could not be read",
        SkipReason::Unsupported => "of a kind that is not supported here: kept",
        SkipReason::StoreActionRefused => "the store refused what an operator asked",
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone as _, Utc};

    use super::*;

    #[test]
    fn times_read_like_a_sentence_and_name_another_year() {
        let at = Utc.with_ymd_and_hms(2026, 5, 3, 10, 12, 59).unwrap();
        let later = Utc.with_ymd_and_hms(2027, 1, 1, 0, 0, 0).unwrap();
        assert_eq!(moment(at, at), "3 May 10:12 UTC");
        assert_eq!(moment(at, later), "3 May 2026 10:12 UTC");
        assert_eq!(tail("2000000000000041"), "…0041");
        assert_eq!(tail("41"), "41");
    }
}
