//! Every state of the store in our words.

#![allow(clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::domain::chain::{AppId, StoreProduct};
use crate::domain::provider::Environment;
use crate::domain::subscription::guard::with_evidence;
use crate::domain::subscription::state::{
    Access, ExpiryReason, ItemState, Leniency, Offer, Renewal, RevocationReason,
};
use crate::domain::subscription::store_state::{Evidence, ItemKind, StoreState, VoidCause};

pub(super) const START: &str = "2026-01-10T10:00:00Z";
pub(super) const END: &str = "2026-02-10T10:00:00.123456789Z";
pub(super) const NOW: &str = "2026-01-20T00:00:00Z";

pub(super) fn at(text: &str) -> Instant {
    text.parse().unwrap()
}

pub(super) fn token(text: &str) -> Alias {
    token_alias(AppId("example-android".into()), text.into())
}

pub(super) fn answer(call: &str, status: u16, body: &Value) -> StoreAnswer {
    StoreAnswer {
        call: call.into(),
        status,
        body: Bytes::from(body.to_string()),
    }
}

fn line() -> Value {
    json!({
        "productId": "premium", "expiryTime": END, "latestSuccessfulOrderId": "GPA.1111-2222..4",
        "autoRenewingPlan": {"autoRenewEnabled": true, "recurringPrice": {"currencyCode": "EUR"}},
        "offerDetails": {"basePlanId": "premium-yearly", "offerTags": ["a"]},
        "offerPhase": {"basePrice": {}},
    })
}

pub(super) fn subscription(state: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut purchase = json!({
        "kind": "androidpublisher#subscriptionPurchaseV2", "startTime": START, "regionCode": "DE",
        "subscriptionState": format!("SUBSCRIPTION_STATE_{state}"), "etag": "e",
        "acknowledgementState": "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED",
        "latestOrderId": "GPA.1111-2222..5", "lineItems": [line()],
        "externalAccountIdentifiers": {"obfuscatedExternalAccountId": "account-1"},
    });
    change(&mut purchase);
    purchase
}

pub(super) fn state_of(answers: &[StoreAnswer]) -> StoreState {
    let read = normalize(&token("head"), answers, at(NOW)).unwrap();
    let Answer::Store(state) = read else {
        panic!("{read:?}")
    };
    state
}

fn subscribed(state: &str, change: impl FnOnce(&mut Value)) -> StoreState {
    state_of(&[answer(SUBSCRIPTIONS, 200, &subscription(state, change))])
}

fn expired(reason: ExpiryReason) -> ItemState {
    ItemState::Expired {
        at: at(END),
        reason,
    }
}

#[test]
fn every_subscription_state_has_its_item_state() {
    let canceled = |context: Value| move |p: &mut Value| p["canceledStateContext"] = context;
    let nothing = |_: &mut Value| {};
    let end = at(END);
    let active = |renewal| ItemState::Active {
        expires_at: end,
        renewal,
    };
    let unknown = |said: &str| ItemState::Unknown { said: said.into() };
    let cases: Vec<(StoreState, ItemState)> = vec![
        (subscribed("ACTIVE", nothing), active(Renewal::On)),
        (
            subscribed("ACTIVE", |p| {
                p["lineItems"][0]["autoRenewingPlan"] = json!({})
            }),
            active(Renewal::Off),
        ),
        (
            subscribed("ACTIVE", |p| {
                let line = p["lineItems"][0].as_object_mut().unwrap();
                line.remove("autoRenewingPlan");
                line.insert("prepaidPlan".into(), json!({"allowExtendAfterTime": END}));
            }),
            active(Renewal::Off),
        ),
        (
            subscribed("ACTIVE", |p| {
                p["lineItems"][0]["deferredItemRemoval"] = json!({})
            }),
            active(Renewal::Off),
        ),
        (
            subscribed("ACTIVE", |p| p["lineItems"][0]["expiryTime"] = Value::Null),
            unknown("SUBSCRIPTION_STATE_ACTIVE without expiryTime"),
        ),
        (subscribed("CANCELED", nothing), active(Renewal::Off)),
        (
            subscribed("IN_GRACE_PERIOD", nothing),
            ItemState::GracePeriod {
                expires_at: end,
                until: end,
            },
        ),
        (
            subscribed("ON_HOLD", nothing),
            ItemState::OnHold { since: end },
        ),
        (
            subscribed("PAUSED", |p| {
                p["pausedStateContext"] = json!({"autoResumeTime": NOW})
            }),
            ItemState::Paused {
                since: end,
                resumes_at: Some(at(NOW)),
            },
        ),
        (
            subscribed("PAUSED", nothing),
            ItemState::Paused {
                since: end,
                resumes_at: None,
            },
        ),
        (
            subscribed("PENDING", |p| {
                p["startTime"] = Value::Null;
                p["lineItems"][0]["expiryTime"] = Value::Null;
            }),
            ItemState::Pending,
        ),
        (subscribed("EXPIRED", nothing), expired(ExpiryReason::Other)),
        (
            subscribed("EXPIRED", canceled(json!({"replacementCancellation": {}}))),
            expired(ExpiryReason::Replaced),
        ),
        (
            subscribed(
                "EXPIRED",
                canceled(json!({"systemInitiatedCancellation": {}})),
            ),
            expired(ExpiryReason::BillingError),
        ),
        (
            subscribed(
                "EXPIRED",
                canceled(json!({"userInitiatedCancellation": {"cancelTime": NOW}})),
            ),
            expired(ExpiryReason::Canceled),
        ),
        (
            subscribed(
                "EXPIRED",
                canceled(json!({"developerInitiatedCancellation": {}})),
            ),
            expired(ExpiryReason::Other),
        ),
        (
            subscribed("PENDING_PURCHASE_CANCELED", |p| {
                p["canceledStateContext"] =
                    json!({"userInitiatedCancellation": {"cancelTime": NOW}});
                p["startTime"] = Value::Null;
            }),
            ItemState::Expired {
                at: at(NOW),
                reason: ExpiryReason::NeverPaid,
            },
        ),
        (
            subscribed("UNSPECIFIED", nothing),
            unknown("SUBSCRIPTION_STATE_UNSPECIFIED"),
        ),
        (
            subscribed("GIFTED", nothing),
            unknown("SUBSCRIPTION_STATE_GIFTED"),
        ),
        (
            subscribed("ACTIVE", |p| p["subscriptionState"] = json!("ACTIVE")),
            unknown("ACTIVE"),
        ),
    ];
    for (state, expected) in cases {
        assert_eq!(state.items.len(), 1);
        assert_eq!(state.items[0].state, expected);
    }
}

#[test]
fn only_the_three_states_of_googles_rule_give_access() {
    let entitled = ["ACTIVE", "IN_GRACE_PERIOD", "CANCELED"];
    let not = [
        "PENDING",
        "ON_HOLD",
        "PAUSED",
        "EXPIRED",
        "PENDING_PURCHASE_CANCELED",
        "NEW",
        "",
    ];
    let access = |word: &str| {
        subscribed(word, |_| {}).items[0]
            .state
            .access(Leniency::default(), false)
    };
    for word in entitled {
        assert!(access(word).is_open_at(at(NOW)), "{word}");
    }
    for word in not {
        assert_eq!(access(word), Access::None, "{word}");
    }
}

#[test]
fn a_subscription_keeps_its_facts() {
    let state = subscribed("ACTIVE", |_| {});
    assert_eq!(state.environment, Environment::Production);
    assert_eq!(state.stamp, at(NOW));
    assert_eq!(state.head, token("head"));
    let order = Alias {
        kind: AliasKind::OrderId,
        value: "GPA.1111-2222".into(),
        ..token("")
    };
    assert_eq!(
        state.aliases,
        vec![order],
        "renewals share their base order id"
    );
    assert_eq!(state.predecessors, vec![]);
    assert_eq!(state.account_token.as_deref(), Some("account-1"));
    assert_eq!(state.purchased_at, Some(at(START)));
    assert_eq!(state.acknowledge_by, None);
    let item = &state.items[0];
    assert_eq!(item.key, "premium");
    assert_eq!(item.product.base_plan_id.as_deref(), Some("premium-yearly"));
    assert_eq!(item.kind, ItemKind::Subscription);
    assert_eq!(
        item.transaction_id.as_deref(),
        Some("GPA.1111-2222..4"),
        "the paid order"
    );
    let promo = subscribed("ACTIVE", |p| {
        p["latestOrderId"] = Value::Null;
        p["lineItems"][0]["latestSuccessfulOrderId"] = Value::Null;
        p["testPurchase"] = json!({});
    });
    assert_eq!(
        (promo.aliases, promo.items[0].transaction_id.clone()),
        (vec![], None)
    );
    assert_eq!(promo.environment, Environment::Sandbox);
}

#[test]
fn offers_are_told_by_their_phase() {
    let cases = [
        (json!({"freeTrial": {}}), Offer::FreeTrial),
        (json!({"introductoryPrice": {}}), Offer::Introductory),
        (json!({"basePrice": {}}), Offer::None),
        (
            json!({"prorationPeriod": {"originalOfferPhaseType": "FREE_TRIAL"}}),
            Offer::FreeTrial,
        ),
        (
            json!({"prorationPeriod": {"originalOfferPhaseType": "BASE"}}),
            Offer::None,
        ),
        (json!({"somethingNew": {}}), Offer::None),
    ];
    for (phase, expected) in cases {
        let state = subscribed("ACTIVE", |p| p["lineItems"][0]["offerPhase"] = phase);
        assert_eq!(state.items[0].offer, expected);
    }
}

#[test]
fn add_ons_live_by_their_own_expiry_time() {
    let state = subscribed("ACTIVE", |p| {
        let mut addon = line();
        addon["productId"] = json!("addon");
        addon["expiryTime"] = json!("2026-01-15T00:00:00Z");
        addon["autoRenewingPlan"]["autoRenewEnabled"] = json!(false);
        p["lineItems"].as_array_mut().unwrap().push(addon);
    });
    let open: Vec<(&str, bool)> = state
        .items
        .iter()
        .map(|i| {
            (
                i.key.as_str(),
                i.state
                    .access(Leniency::default(), false)
                    .is_open_at(at(NOW)),
            )
        })
        .collect();
    assert_eq!(open, [("premium", true), ("addon", false)]);
}

#[test]
fn a_deferred_replacement_is_pending_and_grants_nothing_yet() {
    let state = subscribed("ACTIVE", |p| {
        p["lineItems"][0]["deferredItemReplacement"] = json!({"productId": "basic"});
        let mut waiting = line();
        waiting["productId"] = json!("basic");
        waiting["offerDetails"]["basePlanId"] = json!("basic-monthly");
        waiting["expiryTime"] = Value::Null;
        p["lineItems"].as_array_mut().unwrap().push(waiting);
    });
    assert_eq!(state.items.len(), 1);
    let pending = StoreProduct {
        product_id: "basic".into(),
        base_plan_id: Some("basic-monthly".into()),
    };
    assert_eq!(state.items[0].pending_product, Some(pending));
}

#[test]
fn predecessors_name_every_link_once() {
    let linked =
        |to: Option<&str>| subscription("EXPIRED", |p| p["linkedPurchaseToken"] = json!(to));
    let state = state_of(&[
        answer(SUBSCRIPTIONS, 200, &linked(Some("t1"))),
        answer("linked/1", 200, &linked(Some("t2"))),
        answer("linked/2", 200, &linked(Some("head"))),
        answer("linked/3", 410, &json!({})),
    ]);
    assert_eq!(state.predecessors, vec![token("t1"), token("t2")]);
}

#[test]
fn a_resubscription_in_the_store_continues_the_expired_purchase() {
    let state = subscribed("ACTIVE", |p| {
        p["externalAccountIdentifiers"] = Value::Null;
        p["outOfAppPurchaseContext"] = json!({
            "expiredPurchaseToken": "old",
            "expiredExternalAccountIdentifiers": {"obfuscatedExternalAccountId": "account-2"},
        });
    });
    assert_eq!(state.predecessors, vec![token("old")]);
    assert_eq!(state.account_token.as_deref(), Some("account-2"));
}

#[test]
fn acknowledgement_has_googles_deadlines() {
    let waiting = |p: &mut Value| {
        p["acknowledgementState"] = json!("ACKNOWLEDGEMENT_STATE_PENDING");
    };
    let prepaid = |end: &'static str| {
        move |p: &mut Value| {
            waiting(p);
            p["lineItems"][0]["prepaidPlan"] = json!({});
            p["lineItems"][0]["expiryTime"] = json!(end);
        }
    };
    let cases = [
        (subscribed("ACTIVE", waiting), Some("2026-01-13T10:00:00Z")),
        (
            subscribed("CANCELED", waiting),
            Some("2026-01-13T10:00:00Z"),
        ),
        (
            subscribed("ACTIVE", |p| {
                waiting(p);
                p["testPurchase"] = json!({});
            }),
            Some("2026-01-10T10:05:00Z"),
        ),
        (
            subscribed("ACTIVE", prepaid("2026-01-12T10:00:00Z")),
            Some("2026-01-11T10:00:00Z"),
        ),
        (
            subscribed("ACTIVE", prepaid("2026-01-17T10:00:00Z")),
            Some("2026-01-13T10:00:00Z"),
        ),
        (subscribed("ACTIVE", |_| {}), None),
        (subscribed("PENDING", waiting), None),
        (subscribed("EXPIRED", waiting), None),
        (subscribed("SOMETHING_NEW", waiting), None),
    ];
    for (state, expected) in cases {
        assert_eq!(state.acknowledge_by, expected.map(at));
    }
}

#[test]
fn a_void_revokes_what_the_store_still_calls_active() {
    let state = subscribed("ACTIVE", |_| {});
    let void = Evidence::Void {
        order_id: "GPA.1111-2222..4".into(),
        at: at(NOW),
        partial: false,
        cause: VoidCause::Other,
    };
    let state = with_evidence(state, &[void]);
    let revoked = ItemState::Revoked {
        at: at(NOW),
        reason: RevocationReason::Refunded,
    };
    assert_eq!(state.items[0].state, revoked);
}

#[test]
fn refusals_and_nonsense_grant_nothing() {
    let head = token("head");
    let read = |answers: &[StoreAnswer]| normalize(&head, answers, at(NOW));
    let none = json!({});
    let missing = |s, p| [answer(SUBSCRIPTIONS, s, &none), answer(PRODUCTS, p, &none)];
    for (subscription, product) in [(404, 404), (400, 404), (404, 400)] {
        assert_eq!(
            read(&missing(subscription, product)).unwrap(),
            Answer::NotFound
        );
    }
    assert_eq!(read(&missing(404, 410)).unwrap(), Answer::Gone);
    assert_eq!(
        read(&[answer(SUBSCRIPTIONS, 410, &none)]).unwrap(),
        Answer::Gone
    );
    assert!(read(&[]).is_err());
    for body in [
        json!([]),
        json!("x"),
        json!({"lineItems": 3}),
        json!({"startTime": "secret"}),
    ] {
        let error = read(&[answer(SUBSCRIPTIONS, 200, &body)]).unwrap_err();
        assert!(matches!(error, FetchError::Unreadable(_)));
        assert!(!error.to_string().contains("secret"));
    }
    let Answer::Store(empty) = read(&[answer(SUBSCRIPTIONS, 200, &none)]).unwrap() else {
        panic!("an empty purchase is an answer");
    };
    assert_eq!((empty.items, empty.acknowledge_by), (vec![], None));
}
