//! From every state to access: how long, why, why not.

use chrono::{DateTime, TimeDelta};

use super::*;
use crate::domain::catalog::tests::{EXAMPLE, example};
use crate::domain::chain::AppId;
use crate::domain::ids::CatalogVersion;
use crate::domain::subscription::state::Renewal;

fn now() -> Instant {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn holding(state: ItemState) -> Holding {
    Holding {
        provider: Provider::AppStore,
        app: AppId("example-ios".into()),
        environment: Environment::Production,
        item: Item {
            key: "subscription".into(),
            product: StoreProduct::new("com.example.premium.yearly"),
            kind: ItemKind::Subscription,
            state,
            offer: Offer::None,
            started_at: None,
            transaction_id: None,
            pending_product: None,
            family_shared: false,
            quantity: 1,
        },
        units: 1,
        former: false,
        store_away: false,
        unconfirmed_since: None,
        away_since: None,
        tester: false,
    }
}

fn pro(holdings: &[Holding], at: Instant) -> Entitlement {
    let snapshot = derive(&example(), holdings, &[], Leniency::default(), at);
    snapshot
        .entitlements
        .into_iter()
        .find(|e| e.id == "pro_access")
        .expect("in the catalog")
}

fn active(ends: Instant, renewal: Renewal) -> Holding {
    holding(ItemState::Active {
        expires_at: ends,
        renewal,
    })
}

#[test]
fn access_ends_by_the_leniency_that_applies() {
    let ends = now() + TimeDelta::days(1);
    let off = active(ends, Renewal::Off);
    let on = active(ends, Renewal::On);
    let away = Holding {
        store_away: true,
        ..on.clone()
    };
    let unconfirmed = Holding {
        unconfirmed_since: Some(now()),
        ..on.clone()
    };
    for (holding, until) in [
        (off, ends),
        (on, ends + TimeDelta::hours(1)),
        (away, ends + TimeDelta::hours(24)),
        (unconfirmed, now() + TimeDelta::hours(6)),
    ] {
        let last_moment = pro(
            std::slice::from_ref(&holding),
            until - TimeDelta::seconds(1),
        );
        assert_eq!(last_moment.access_until(), Some(until));
        let after = pro(&[holding], until);
        assert!(!after.is_active());
        assert_eq!(after.inactive_reason, InactiveReason::Expired);
    }
}

#[test]
fn evaluating_in_place_agrees_with_deriving_again() {
    let ends = now() + TimeDelta::days(1);
    let holdings = [active(ends, Renewal::Off)];
    let grants = [Grant {
        entitlement: "export".into(),
        expires_at: Some(ends + TimeDelta::days(1)),
    }];
    let snapshot = derive(&example(), &holdings, &grants, Leniency::default(), now());
    for later in [ends, ends + TimeDelta::days(1), ends + TimeDelta::days(9)] {
        let again = derive(&example(), &holdings, &grants, Leniency::default(), later);
        let in_place = snapshot.at(later);
        for (a, b) in in_place.entitlements.iter().zip(&again.entitlements) {
            assert_eq!(
                (a.is_active(), a.access_until()),
                (b.is_active(), b.access_until())
            );
        }
        assert_eq!(in_place.next_transition_at, again.next_transition_at);
    }
}

#[test]
fn states_without_access_say_why() {
    let at = now() - TimeDelta::days(1);
    for (state, reason) in [
        (ItemState::OnHold { since: at }, InactiveReason::OnHold),
        (
            ItemState::Paused {
                since: at,
                resumes_at: None,
            },
            InactiveReason::Paused,
        ),
        (ItemState::Pending, InactiveReason::Pending),
        (
            ItemState::Expired {
                at,
                reason: ExpiryReason::Canceled,
            },
            InactiveReason::Expired,
        ),
        (
            ItemState::Revoked {
                at,
                reason: RevocationReason::Refunded,
            },
            InactiveReason::Refunded,
        ),
        (
            ItemState::Unknown {
                said: "status 9".into(),
            },
            InactiveReason::Never,
        ),
    ] {
        let entitlement = pro(&[holding(state)], now());
        assert!(!entitlement.is_active());
        assert_eq!(entitlement.inactive_reason, reason);
    }
}

#[test]
fn an_unmapped_product_or_a_refused_environment_grants_nothing() {
    let mut unmapped = active(now() + TimeDelta::days(1), Renewal::On);
    unmapped.item.product = StoreProduct::new("com.example.unknown");
    assert!(!pro(&[unmapped], now()).is_active());

    let mut one_time_sold_as_subscription = active(now() + TimeDelta::days(1), Renewal::On);
    one_time_sold_as_subscription.item.kind = ItemKind::OneTime;
    assert!(!pro(&[one_time_sold_as_subscription], now()).is_active());
}

#[test]
fn production_comes_before_sandbox() {
    let sandbox = Holding {
        environment: Environment::Sandbox,
        ..active(now() + TimeDelta::days(300), Renewal::On)
    };
    let production = active(now() + TimeDelta::days(3), Renewal::On);
    let entitlement = pro(&[sandbox, production], now());
    assert_eq!(entitlement.sources[0].environment, Environment::Production);
    assert_eq!(entitlement.sources.len(), 2);
}

#[test]
fn a_pass_stacks_ends_and_is_as_if_never_bought_once_refunded() {
    let text = format!(
        r#"{EXAMPLE}
        [products.pass]
        kind = "non_renewing"
        period = "P1M"
        grants = ["pro_access"]
        app_store = {{ product_id = "pass" }}
        google_play = {{ product_id = "pass" }}
        "#
    );
    let file = toml::from_str(&text).expect("parses");
    let catalog = Catalog::build(file, CatalogVersion(1)).expect("sound");
    let at = |text: &str| -> Instant { text.parse().expect("a date") };
    let pass = |provider, since: &str, units| {
        let mut pass = holding(ItemState::Owned { since: at(since) });
        pass.provider = provider;
        pass.item.kind = ItemKind::OneTime;
        pass.item.product = StoreProduct::new("pass");
        pass.units = units;
        pass
    };
    let first = pass(Provider::AppStore, "2027-01-31T09:00:00Z", 1);
    let second = pass(Provider::GooglePlay, "2027-02-10T09:00:00Z", 2);
    let sandbox = Holding {
        environment: Environment::Sandbox,
        ..pass(Provider::AppStore, "2027-02-01T09:00:00Z", 9)
    };
    let mut refunded = first.clone();
    refunded.item.state = ItemState::Revoked {
        at: at("2027-02-11T09:00:00Z"),
        reason: RevocationReason::Refunded,
    };
    let until = |holdings: &[Holding]| {
        let now = at("2027-02-12T09:00:00Z");
        let snapshot = derive(&catalog, holdings, &[], Leniency::default(), now);
        let pro = snapshot
            .entitlements
            .into_iter()
            .find(|e| e.id == "pro_access");
        pro.and_then(|pro| pro.access_until())
    };
    let end = |text: &str| Some(at(text));
    assert_eq!(
        until(std::slice::from_ref(&first)),
        end("2027-02-28T09:00:00Z")
    );
    let both = [second.clone(), first.clone()];
    assert_eq!(until(&both), end("2027-04-28T09:00:00Z"));
    assert_eq!(
        until(&[refunded, second.clone()]),
        end("2027-04-10T09:00:00Z")
    );
    // The sandbox's months are its own.
    assert_eq!(until(&[sandbox]), end("2027-11-01T09:00:00Z"));
    let away = Holding {
        away_since: Some(at("2027-02-11T09:00:00Z")),
        ..first
    };
    assert_eq!(until(&[away, second]), end("2027-04-10T09:00:00Z"));
}
