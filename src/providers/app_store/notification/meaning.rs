//! What each of Apple's notifications means: one row for each type and subtype.
//!
//! No row decides anything. A notification that names a purchase makes the server ask the store,
//! whatever its type; the meaning is for people, and for telling what is new apart.

use crate::providers::contract::Meaning;
use Meaning::{
    Asks, Elsewhere, Ends, Extends, Grants, Informs, Reinstates, Revokes, Schedules,
    SwitchesProduct, Unknown,
};

/// One type and subtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::providers::app_store) struct Row {
    pub(in crate::providers::app_store) kind: &'static str,
    pub(in crate::providers::app_store) subtype: Option<&'static str>,
    pub(in crate::providers::app_store) meaning: Meaning,
    /// In a sentence, for the timeline.
    pub(in crate::providers::app_store) told: &'static str,
}

const fn row(
    kind: &'static str,
    subtype: Option<&'static str>,
    meaning: Meaning,
    told: &'static str,
) -> Row {
    Row {
        kind,
        subtype,
        meaning,
        told,
    }
}

/// Types and subtypes of App Store Server Notifications V2, as of November 2026.
#[rustfmt::skip]
pub(in crate::providers::app_store) const ROWS: &[Row] = &[
    row("SUBSCRIBED", Some("INITIAL_BUY"), Grants, "first purchase in the group, or shared with the family"),
    row("SUBSCRIBED", Some("RESUBSCRIBE"), Grants, "bought again, this or another product of the group"),
    row("ONE_TIME_CHARGE", None, Grants, "a consumable, a non-consumable or a non-renewing subscription"),
    row("DID_RENEW", None, Extends, "renewed"),
    row("DID_RENEW", Some("BILLING_RECOVERY"), Extends, "renewed after a failed charge"),
    row("RENEWAL_EXTENDED", None, Extends, "the developer extended the period"),
    row("DID_CHANGE_RENEWAL_PREF", Some("UPGRADE"), SwitchesProduct, "upgraded, at once"),
    row("DID_CHANGE_RENEWAL_PREF", Some("DOWNGRADE"), Schedules, "another product from the next renewal on"),
    row("DID_CHANGE_RENEWAL_PREF", None, Schedules, "stays with the product after all"),
    row("DID_CHANGE_RENEWAL_STATUS", Some("AUTO_RENEW_ENABLED"), Schedules, "renewal turned on"),
    row("DID_CHANGE_RENEWAL_STATUS", Some("AUTO_RENEW_DISABLED"), Schedules, "renewal turned off"),
    row("OFFER_REDEEMED", None, Schedules, "an offer for the next renewal"),
    row("OFFER_REDEEMED", Some("UPGRADE"), SwitchesProduct, "upgraded with an offer, at once"),
    row("OFFER_REDEEMED", Some("DOWNGRADE"), Schedules, "another product, with an offer, from the next renewal on"),
    row("DID_FAIL_TO_RENEW", Some("GRACE_PERIOD"), Informs, "the charge failed; access goes on for the grace period"),
    row("DID_FAIL_TO_RENEW", None, Ends, "the charge failed; it is retried without access"),
    row("GRACE_PERIOD_EXPIRED", None, Ends, "the grace period is over; the charge is still retried"),
    row("EXPIRED", Some("VOLUNTARY"), Ends, "ended: renewal was off"),
    row("EXPIRED", Some("BILLING_RETRY"), Ends, "ended: no payment could be had"),
    row("EXPIRED", Some("PRICE_INCREASE"), Ends, "ended: a higher price was not agreed to"),
    row("EXPIRED", Some("PRODUCT_NOT_FOR_SALE"), Ends, "ended: the product is no longer sold"),
    row("EXPIRED", None, Ends, "ended"),
    row("PRICE_INCREASE", Some("PENDING"), Informs, "a higher price waits for the customer's consent"),
    row("PRICE_INCREASE", Some("ACCEPTED"), Informs, "a higher price is agreed to, or needs no consent"),
    row("CONSUMPTION_REQUEST", None, Asks, "a refund was asked for; Apple wants to know what was used"),
    row("REFUND", None, Revokes, "one transaction was refunded"),
    row("REFUND_DECLINED", None, Informs, "a refund was declined"),
    row("REFUND_REVERSED", None, Reinstates, "a refund was taken back"),
    row("REVOKE", None, Revokes, "family sharing ended for this member"),
    row("RENEWAL_EXTENSION", Some("FAILURE"), Informs, "an extension for many subscribers failed for this one"),
    row("RENEWAL_EXTENSION", Some("SUMMARY"), Informs, "the summary of an extension for many subscribers"),
    row("EXTERNAL_PURCHASE_TOKEN", Some("CREATED"), Elsewhere, "a token of a purchase outside the App Store, to be reported to Apple"),
    row("EXTERNAL_PURCHASE_TOKEN", Some("ACTIVE_TOKEN_REMINDER"), Elsewhere, "a token of a purchase outside the App Store, still to be reported to Apple"),
    row("EXTERNAL_PURCHASE_TOKEN", Some("UNREPORTED"), Elsewhere, "a token of a purchase outside the App Store that Apple has no report of"),
    row("RESCIND_CONSENT", None, Elsewhere, "a parent withdrew the consent to a minor's use of the app: for the app to act on"),
    row("METADATA_UPDATE", None, Elsewhere, "of the Advanced Commerce API: its metadata changed"),
    row("MIGRATION", None, Elsewhere, "of the Advanced Commerce API: a subscription moved there"),
    row("PRICE_CHANGE", None, Elsewhere, "of the Advanced Commerce API: its price changed"),
    row("TEST", None, Informs, "a test"),
];

/// The row of a type and subtype; what is not listed is of tomorrow.
pub(in crate::providers::app_store) fn of(kind: &str, subtype: Option<&str>) -> Option<Row> {
    let fits = |row: &&Row| row.kind == kind && row.subtype == subtype;
    ROWS.iter().find(fits).copied()
}

/// What a type and subtype mean.
pub(super) fn meaning(kind: &str, subtype: Option<&str>) -> Meaning {
    of(kind, subtype).map_or(Unknown, |row| row.meaning)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The simulator's list, which was written from Apple's documentation on its own.
    const SIMULATED: &str = include_str!("../../../sandbox/app_store/api/vocabulary.rs");

    fn simulated() -> BTreeSet<(String, Option<String>)> {
        let mut pairs = BTreeSet::new();
        let table = SIMULATED
            .split("= &[")
            .nth(1)
            .and_then(|rest| rest.split("];").next());
        let mut kind = String::new();
        let mut words = table.unwrap_or_default().split('"').skip(1);
        while let Some(word) = words.next() {
            let after = words.next().unwrap_or_default();
            let begins = after.trim_start().starts_with(",")
                && after.replace(char::is_whitespace, "").starts_with(",&[");
            if begins {
                kind = word.to_owned();
                pairs.insert((kind.clone(), None));
            } else {
                pairs.insert((kind.clone(), Some(word.to_owned())));
            }
        }
        pairs
    }

    #[test]
    fn every_pair_has_one_row_and_the_simulator_knows_no_other() {
        let rows: BTreeSet<_> = ROWS
            .iter()
            .map(|row| (row.kind.to_owned(), row.subtype.map(str::to_owned)))
            .collect();
        assert_eq!(rows.len(), ROWS.len(), "a pair is listed twice");
        let simulated = simulated();
        assert!(simulated.len() > 40, "{simulated:?}");
        for row in &rows {
            assert!(
                simulated.contains(row),
                "the simulator does not know {row:?}"
            );
        }
        // These types never come without a subtype.
        let bare = ["SUBSCRIBED", "PRICE_INCREASE", "RENEWAL_EXTENSION"];
        let bare = [
            &bare[..],
            &["DID_CHANGE_RENEWAL_STATUS", "EXTERNAL_PURCHASE_TOKEN"],
        ]
        .concat();
        for (kind, subtype) in simulated.difference(&rows) {
            assert!(
                subtype.is_none() && bare.contains(&kind.as_str()),
                "{kind}/{subtype:?} has no row"
            );
        }
    }

    #[test]
    fn what_is_not_listed_is_of_tomorrow() {
        for (kind, subtype) in [
            ("DID_RENEW", Some("EARLY")),
            ("SUBSCRIBED", None),
            ("did_renew", None),
            ("SUITE_ASSIGNED", None),
            ("", Some("")),
        ] {
            assert_eq!(meaning(kind, subtype), Unknown, "{kind}/{subtype:?}");
        }
    }
}
