//! Each answer of the store and the state that it makes.

use serde_json::json;

use super::super::support::{DAY_MS, NOW_MS, Signer, at, now, renewal, transaction, with};
use super::{ID, answer, head, history, row, state, statuses};
use crate::domain::chain::StoreProduct;
use crate::domain::money::Money;
use crate::domain::provider::Environment;
use crate::domain::subscription::state::{
    ExpiryReason, ItemState, Offer, Renewal, RevocationReason,
};
use crate::domain::subscription::store_state::ItemKind;

#[test]
fn every_status_becomes_its_state() {
    let signer = Signer::genuine();
    let end = at(NOW_MS + 30 * DAY_MS);
    let hour_ago = NOW_MS - 3_600_000;
    let active = |renewal| ItemState::Active {
        expires_at: end,
        renewal,
    };
    let expired = |reason| ItemState::Expired { at: end, reason };
    let revoked = |reason| ItemState::Revoked {
        at: at(hour_ago),
        reason,
    };
    let unknown = |said: &str| ItemState::Unknown { said: said.into() };
    let none = || json!({});
    let cases = [
        (1, none(), none(), active(Renewal::On)),
        (
            1,
            none(),
            json!({"autoRenewStatus": 0}),
            active(Renewal::Off),
        ),
        (
            1,
            none(),
            json!({"autoRenewStatus": null}),
            active(Renewal::Off),
        ),
        (
            1,
            none(),
            json!({"autoRenewStatus": 7}),
            active(Renewal::Off),
        ),
        (
            2,
            none(),
            json!({"expirationIntent": 1}),
            expired(ExpiryReason::Canceled),
        ),
        (
            2,
            none(),
            json!({"expirationIntent": 2}),
            expired(ExpiryReason::BillingError),
        ),
        (
            2,
            none(),
            json!({"expirationIntent": 3}),
            expired(ExpiryReason::PriceIncreaseDeclined),
        ),
        (
            2,
            none(),
            json!({"expirationIntent": 4}),
            expired(ExpiryReason::ProductUnavailable),
        ),
        (
            2,
            none(),
            json!({"expirationIntent": 5}),
            expired(ExpiryReason::Other),
        ),
        (2, none(), none(), expired(ExpiryReason::Other)),
        (3, none(), none(), ItemState::OnHold { since: end }),
        (
            4,
            none(),
            json!({"gracePeriodExpiresDate": NOW_MS + 46 * DAY_MS}),
            ItemState::GracePeriod {
                expires_at: end,
                until: at(NOW_MS + 46 * DAY_MS),
            },
        ),
        (
            4,
            none(),
            none(),
            unknown("a grace period without gracePeriodExpiresDate"),
        ),
        (
            5,
            json!({"revocationDate": hour_ago}),
            none(),
            revoked(RevocationReason::Refunded),
        ),
        (
            5,
            json!({"revocationDate": hour_ago, "revocationType": "REFUND_PRORATED"}),
            none(),
            revoked(RevocationReason::Refunded),
        ),
        (
            5,
            json!({"revocationDate": hour_ago, "revocationType": "FAMILY_REVOKE"}),
            none(),
            revoked(RevocationReason::FamilySharingEnded),
        ),
        (
            5,
            json!({"revocationDate": hour_ago, "inAppOwnershipType": "FAMILY_SHARED"}),
            none(),
            revoked(RevocationReason::FamilySharingEnded),
        ),
        (
            5,
            json!({"revocationDate": hour_ago, "revocationType": "ASSIGNMENT"}),
            none(),
            revoked(RevocationReason::Store),
        ),
        (
            5,
            none(),
            none(),
            ItemState::Revoked {
                at: now(),
                reason: RevocationReason::Refunded,
            },
        ),
        (
            1,
            json!({"revocationDate": hour_ago}),
            none(),
            revoked(RevocationReason::Refunded),
        ),
        (
            1,
            json!({"isUpgraded": true}),
            none(),
            ItemState::Expired {
                at: now(),
                reason: ExpiryReason::Replaced,
            },
        ),
        (
            1,
            json!({"expiresDate": null}),
            none(),
            unknown("a subscription without expiresDate"),
        ),
        (6, none(), none(), unknown("status 6")),
        (0, none(), none(), unknown("status 0")),
    ];
    for (status, transaction_changes, renewal_changes, expected) in cases {
        let transaction = with(transaction(), transaction_changes);
        let row = row(
            &signer,
            status,
            &transaction,
            &with(renewal(), renewal_changes),
        );
        let state = state(&signer, &[statuses(&[row]), history(&signer, &[])]);
        assert_eq!(state.items[0].state, expected, "status {status}");
    }
}

#[test]
fn a_subscription_is_told_in_full() {
    let signer = Signer::genuine();
    let refunded = with(
        transaction(),
        json!({
            "transactionId": "2000000000000000", "purchaseDate": NOW_MS - 40 * DAY_MS,
            "revocationDate": NOW_MS - 35 * DAY_MS, "signedDate": NOW_MS + 1000,
            "transactionReason": "RENEWAL",
        }),
    );
    let another = with(
        transaction(),
        json!({"transactionId": "3", "originalTransactionId": "3", "revocationDate": NOW_MS}),
    );
    let renewal = with(renewal(), json!({"autoRenewProductId": "yearly"}));
    let answers = [
        statuses(&[
            row(
                &signer,
                2,
                &another,
                &with(renewal.clone(), json!({"originalTransactionId": "3"})),
            ),
            row(&signer, 1, &transaction(), &renewal),
        ]),
        history(&signer, &[refunded, another]),
    ];
    let state = state(&signer, &answers);
    assert_eq!(state.environment, Environment::Production);
    // The statuses' stamp, not that of the history, which was asked for later.
    assert_eq!(state.stamp, at(NOW_MS));
    assert_eq!(state.bookmark.as_deref(), Some("1"));
    assert_eq!(state.head, head());
    assert_eq!(
        state.account_token.as_deref(),
        Some("0f0e0d0c-0b0a-4908-8706-050403020100")
    );
    assert_eq!(state.purchased_at, Some(at(NOW_MS - 3_600_000)));
    let [item] = &state.items[..] else {
        panic!("one item")
    };
    assert_eq!(
        (item.key.as_str(), item.kind),
        ("subscription", ItemKind::Subscription)
    );
    assert_eq!(item.product, StoreProduct::new("monthly"));
    assert_eq!(item.pending_product, Some(StoreProduct::new("yearly")));
    assert_eq!(item.transaction_id.as_deref(), Some(ID));
    assert_eq!((item.offer, item.family_shared), (Offer::None, false));
    let told: Vec<_> = state
        .transactions
        .iter()
        .map(|one| {
            (
                one.transaction_id.as_str(),
                one.price.map(Money::micros),
                one.revoked_at,
            )
        })
        .collect();
    let price = Some(9_990_000);
    assert_eq!(
        told,
        [
            ("2000000000000000", price, Some(at(NOW_MS - 35 * DAY_MS))),
            (ID, price, None)
        ]
    );
}

#[test]
fn nothing_pends_where_nothing_renews() {
    let signer = Signer::genuine();
    let next = json!({"autoRenewProductId": "yearly", "autoRenewStatus": 0});
    let row = row(&signer, 1, &transaction(), &with(renewal(), next));
    assert_eq!(
        state(&signer, &[statuses(&[row])]).items[0].pending_product,
        None
    );
}

#[test]
fn a_commitment_goes_on_charging_until_its_end() {
    let signer = Signer::genuine();
    let in_commitment = json!({"commitmentExpiresDate": NOW_MS + 200 * DAY_MS});
    let last_month = json!({"commitmentExpiresDate": NOW_MS + 30 * DAY_MS});
    let canceled = json!({
        "autoRenewStatus": 1, "commitmentInfo": {"commitmentAutoRenewStatus": 0},
    });
    let cases = [
        (in_commitment.clone(), canceled.clone(), Renewal::On),
        (in_commitment, json!({"autoRenewStatus": 0}), Renewal::On),
        (last_month.clone(), canceled, Renewal::Off),
        (last_month, json!({}), Renewal::On),
    ];
    for (commitment, changes, expected) in cases {
        let transaction = with(transaction(), json!({"commitmentInfo": commitment}));
        let row = row(&signer, 1, &transaction, &with(renewal(), changes));
        let state = state(&signer, &[statuses(&[row])]);
        assert!(
            matches!(state.items[0].state, ItemState::Active { renewal, .. } if renewal == expected)
        );
    }
}

#[test]
fn offers_are_told_apart() {
    let signer = Signer::genuine();
    let cases = [
        (
            json!({"offerType": 1, "offerDiscountType": "FREE_TRIAL"}),
            Offer::FreeTrial,
        ),
        (
            json!({"offerType": 3, "offerDiscountType": "FREE_TRIAL"}),
            Offer::FreeTrial,
        ),
        (
            json!({"offerType": 1, "offerDiscountType": "PAY_UP_FRONT"}),
            Offer::Introductory,
        ),
        (json!({"offerType": 1}), Offer::Introductory),
        (json!({"offerType": 2}), Offer::Promotional),
        (
            json!({"offerType": 4, "offerDiscountType": "ONE_TIME"}),
            Offer::Promotional,
        ),
        (json!({"offerType": 9}), Offer::None),
    ];
    for (changes, expected) in cases {
        let row = row(&signer, 1, &with(transaction(), changes), &renewal());
        assert_eq!(state(&signer, &[statuses(&[row])]).items[0].offer, expected);
    }
}

#[test]
fn purchases_that_do_not_renew_are_owned_revoked_or_unknown() {
    let signer = Signer::genuine();
    let bought = at(NOW_MS - 3_600_000);
    let cases = [
        (
            json!({"type": "Non-Consumable"}),
            ItemState::Owned { since: bought },
        ),
        (
            json!({"type": "Non-Consumable", "revocationDate": NOW_MS}),
            ItemState::Revoked {
                at: now(),
                reason: RevocationReason::Refunded,
            },
        ),
        (
            json!({"type": "Consumable"}),
            ItemState::Owned { since: bought },
        ),
        (
            json!({"type": "Non-Renewing Subscription"}),
            ItemState::Owned { since: bought },
        ),
        (
            json!({"type": "Suite"}),
            ItemState::Unknown {
                said: "Suite".into(),
            },
        ),
        (
            json!({"type": "Non-Consumable", "inAppOwnershipType": "ASSIGNED"}),
            ItemState::Unknown {
                said: "ownership ASSIGNED".into(),
            },
        ),
    ];
    for (changes, expected) in cases {
        let one = with(with(transaction(), json!({"expiresDate": null})), changes);
        let answers = [
            statuses(&[]),
            answer(
                "production/transaction",
                200,
                &json!({"signedTransactionInfo": signer.sign(&one)}),
            ),
        ];
        let state = state(&signer, &answers);
        let item = &state.items[0];
        assert_eq!((&item.state, item.key.as_str()), (&expected, "purchase"));
        assert_eq!(item.kind, ItemKind::OneTime);
    }
}
