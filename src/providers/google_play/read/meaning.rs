//! What each notification type of Google's means. It decides nothing: the store is asked.

use crate::providers::contract::Meaning;

/// `subscriptionNotification.notificationType`. 14, 15, 16 and 21 are not in use.
const SUBSCRIPTION: [(i64, &str, Meaning); 18] = [
    // Back from hold, or resumed from pause; the renewal date may have moved.
    (1, "RECOVERED", Meaning::Reinstates),
    // Every installment, too.
    (2, "RENEWED", Meaning::Extends),
    // Access stays until the period ends; comes as well at the end of a hold.
    (3, "CANCELED", Meaning::Schedules),
    // A new token: also after a change of plan and a prepaid top-up.
    (4, "PURCHASED", Meaning::Grants),
    (5, "ON_HOLD", Meaning::Ends),
    // The end of access moves while the store tries again.
    (6, "IN_GRACE_PERIOD", Meaning::Extends),
    // A cancellation is taken back before the period ends.
    (7, "RESTARTED", Meaning::Schedules),
    // No longer sent; 19 is.
    (8, "PRICE_CHANGE_CONFIRMED", Meaning::Informs),
    // The developer moved the renewal.
    (9, "DEFERRED", Meaning::Extends),
    (10, "PAUSED", Meaning::Ends),
    (11, "PAUSE_SCHEDULE_CHANGED", Meaning::Schedules),
    (12, "REVOKED", Meaning::Revokes),
    (13, "EXPIRED", Meaning::Ends),
    // Add-ons came or went.
    (17, "ITEMS_CHANGED", Meaning::SwitchesProduct),
    // An installment plan ends with its commitment.
    (18, "CANCELLATION_SCHEDULED", Meaning::Schedules),
    (19, "PRICE_CHANGE_UPDATED", Meaning::Informs),
    // The subscription that it should have replaced goes on.
    (20, "PENDING_PURCHASE_CANCELED", Meaning::Ends),
    // Korea: whether the customer agrees to the full price after a trial.
    (22, "PRICE_STEP_UP_CONSENT_UPDATED", Meaning::Informs),
];

/// `oneTimeProductNotification.notificationType`.
const ONE_TIME: [(i64, &str, Meaning); 2] = [
    (1, "PURCHASED", Meaning::Grants),
    // A pending purchase that was never paid.
    (2, "CANCELED", Meaning::Ends),
];

pub(super) fn of_subscription(number: i64) -> (String, Meaning) {
    look_up(&SUBSCRIPTION, "SUBSCRIPTION", number)
}

pub(super) fn of_one_time_product(number: i64) -> (String, Meaning) {
    look_up(&ONE_TIME, "ONE_TIME_PRODUCT", number)
}

/// Of refunds and charge-backs, whole or by the piece.
pub(super) fn of_void() -> (String, Meaning) {
    ("VOIDED_PURCHASE".to_owned(), Meaning::Revokes)
}

/// A bank wants money back, and Google the developer's word on it within a day.
pub(super) fn of_refund_review() -> (String, Meaning) {
    ("PENDING_REFUND_REVIEW".to_owned(), Meaning::Asks)
}

/// Numbers that Google may add later get names of their own: kept, counted, granting nothing.
fn look_up(table: &[(i64, &str, Meaning)], family: &str, number: i64) -> (String, Meaning) {
    match table.iter().find(|(known, ..)| *known == number) {
        Some((_, word, meaning)) => (format!("{family}_{word}"), *meaning),
        None => (format!("{family}_TYPE_{number}"), Meaning::Unknown),
    }
}
