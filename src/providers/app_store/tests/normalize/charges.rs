//! Money: what each signed transaction says of the charge and of what went back.

use serde_json::{Value, json};

use super::super::support::{DAY_MS, NOW_MS, Signer, at, renewal, transaction, with};
use super::{answer, history, row, state, statuses};
use crate::domain::money::{Currency, Money};
use crate::domain::subscription::state::{ItemState, Offer, RevocationReason};
use crate::domain::subscription::store_state::{ChargeReason, Refund, RefundKind, Transaction};

fn usd(milliunits: i64) -> Option<Money> {
    Money::from_milliunits(milliunits, Currency::parse("USD").unwrap())
}

/// A renewable's current period with `changes`, as the only transaction.
fn charged(changes: Value) -> Transaction {
    let signer = Signer::genuine();
    let row = row(&signer, 5, &with(transaction(), changes), &renewal());
    let mut state = state(&signer, &[statuses(&[row])]);
    assert_eq!(state.transactions.len(), 1);
    state.transactions.remove(0)
}

#[test]
fn a_charge_is_told_in_full() {
    let told = charged(json!({
        "transactionReason": "RENEWAL", "storefront": "JPN", "price": 1_500_000, "currency": "JPY",
        "offerType": 1, "offerDiscountType": "PAY_AS_YOU_GO",
    }));
    assert_eq!(told.price.unwrap().micros(), 1_500_000_000);
    assert_eq!(told.price.unwrap().currency().as_str(), "JPY");
    assert_eq!(
        (told.reason, told.offer, told.storefront.as_deref()),
        (ChargeReason::Renewal, Offer::Introductory, Some("JPN"))
    );
    assert_eq!(told.purchased_at, at(NOW_MS - 3_600_000));
    assert_eq!(told.expires_at, Some(at(NOW_MS + 30 * DAY_MS)));
    assert_eq!((told.quantity, told.family_shared), (1, false));
    assert_eq!((told.revoked_at, told.refund, told.tax), (None, None, None));
    let old = charged(json!({"transactionReason": null, "transactionId": "2000000000000002"}));
    assert_eq!(old.reason, ChargeReason::Renewal);
    let first = charged(json!({"transactionReason": null}));
    assert_eq!(first.reason, ChargeReason::Purchase);
}

#[test]
fn what_went_back_is_a_share_of_the_price_and_never_more() {
    let at = at(NOW_MS);
    let refund = |kind, amount: Option<i64>| {
        Some(Refund {
            at,
            kind,
            amount: amount.and_then(usd),
            quantity: None,
        })
    };
    let full = refund(RefundKind::Full, Some(9_990));
    let cases = [
        (json!({"revocationType": "REFUND_FULL"}), full.clone()),
        (
            json!({"revocationType": "REFUND_FULL", "revocationPercentage": 100_000}),
            full.clone(),
        ),
        (
            json!({"revocationType": "REFUND_PRORATED", "revocationPercentage": 33_333}),
            refund(RefundKind::Prorated, None).map(|refund| Refund {
                amount: Money::from_units_and_nanos(
                    3,
                    329_967_000,
                    Currency::parse("USD").unwrap(),
                ),
                ..refund
            }),
        ),
        (
            json!({"revocationType": "REFUND_PRORATED", "revocationPercentage": 9_000_000}),
            refund(RefundKind::Prorated, Some(9_990)),
        ),
        (
            json!({"revocationType": "REFUND_PRORATED"}),
            refund(RefundKind::Prorated, None),
        ),
        (
            json!({"revocationType": "REFUND_FULL", "price": null}),
            refund(RefundKind::Full, None),
        ),
        (json!({"revocationType": "FAMILY_REVOKE"}), None),
        (json!({"revocationType": "ASSIGNMENT_REVOKE"}), None),
        (
            json!({"revocationType": "REFUND_NEW", "revocationPercentage": 50_000}),
            refund(RefundKind::Partial, Some(4_995)),
        ),
        // Older documents say only when.
        (json!({}), full),
        (json!({"inAppOwnershipType": "FAMILY_SHARED"}), None),
        (
            json!({"revocationPercentage": 50_000}),
            refund(RefundKind::Prorated, Some(4_995)),
        ),
    ];
    for (changes, expected) in cases {
        let told = charged(with(changes.clone(), json!({"revocationDate": NOW_MS})));
        assert_eq!(told.refund, expected, "{changes}");
        assert_eq!(told.revoked_at, Some(at), "{changes}");
        assert_eq!(told.units_held(), 0, "{changes}");
    }
}

#[test]
fn a_prorated_refund_of_what_goes_on_is_money_and_nothing_else() {
    let signer = Signer::genuine();
    let refunded = with(
        transaction(),
        json!({
            "revocationDate": NOW_MS, "revocationType": "REFUND_PRORATED",
            "revocationPercentage": 50_000,
        }),
    );
    for (status, goes_on) in [(1, true), (2, false), (5, false)] {
        let row = row(&signer, status, &refunded, &renewal());
        let state = state(&signer, &[statuses(&[row])]);
        assert_eq!(
            matches!(state.items[0].state, ItemState::Active { .. }),
            goes_on
        );
        assert!(state.transactions[0].refund.is_some());
    }
}

#[test]
fn a_refund_of_an_older_period_touches_that_period_alone() {
    let signer = Signer::genuine();
    let older = with(
        transaction(),
        json!({
            "purchaseDate": NOW_MS - 40 * DAY_MS, "expiresDate": NOW_MS - 3_600_000,
            "revocationDate": NOW_MS, "revocationType": "REFUND_FULL",
        }),
    );
    let newest = with(
        transaction(),
        json!({"transactionId": "2000000000000002", "transactionReason": "RENEWAL"}),
    );
    let answers = |older: &Value| {
        [
            statuses(&[row(&signer, 1, &newest, &renewal())]),
            history(&signer, std::slice::from_ref(older)),
        ]
    };
    let state_then = state(&signer, &answers(&older));
    assert!(matches!(
        state_then.items[0].state,
        ItemState::Active { .. }
    ));
    let refunds: Vec<_> = state_then
        .transactions
        .iter()
        .map(|one| one.refund.is_some())
        .collect();
    assert_eq!(refunds, [true, false]);
    // Taken back: the revocation is gone from the same transaction.
    let reversed = with(
        older,
        json!({"revocationDate": null, "revocationType": null, "signedDate": NOW_MS + 1}),
    );
    let state_now = state(&signer, &answers(&reversed));
    assert!(
        state_now
            .transactions
            .iter()
            .all(|one| one.refund.is_none() && one.revoked_at.is_none())
    );
}

#[test]
fn pieces_are_counted_and_gone_when_refunded() {
    let signer = Signer::genuine();
    let told = |changes: Value| {
        let coins = with(
            transaction(),
            json!({"type": "Consumable", "expiresDate": null, "quantity": 3}),
        );
        let signed = signer.sign(&with(coins, changes));
        let body = json!({"signedTransactionInfo": signed});
        state(&signer, &[answer("production/transaction", 200, &body)])
    };
    let held = told(json!({}));
    assert_eq!(held.items[0].quantity, 3);
    assert_eq!(held.transactions[0].units_held(), 3);
    let refunded = told(json!({"revocationDate": NOW_MS, "revocationType": "REFUND_FULL"}));
    assert_eq!(
        refunded.items[0].state,
        ItemState::Revoked {
            at: at(NOW_MS),
            reason: RevocationReason::Refunded
        }
    );
    assert_eq!(refunded.transactions[0].units_held(), 0);
    for odd in [json!(0), json!(-1), json!("x"), json!(null)] {
        assert_eq!(told(json!({"quantity": odd})).items[0].quantity, 1);
    }
}

#[test]
fn a_purchase_that_apple_moved_names_what_it_carries_on() {
    let signer = Signer::genuine();
    let moved = |previous: &str| {
        let one = with(
            transaction(),
            json!({"previousOriginalTransactionId": previous}),
        );
        state(&signer, &[statuses(&[row(&signer, 1, &one, &renewal())])]).predecessors
    };
    let linked = moved("1000000000000007");
    assert_eq!(linked.len(), 1);
    assert_eq!(linked[0].value, "1000000000000007");
    assert!(moved(super::ID).is_empty());
    assert!(moved("../7").is_empty());
}
