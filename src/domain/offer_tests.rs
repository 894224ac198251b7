//! Who is new, who has left, who is here.

use chrono::{DateTime, TimeDelta};

use super::*;
use crate::domain::catalog::tests::{EXAMPLE, example};
use crate::domain::chain::{AppId, StoreProduct};
use crate::domain::ids::CatalogVersion;
use crate::domain::provider::{Environment, Provider};
use crate::domain::subscription::state::{ExpiryReason, Offer, Renewal, RevocationReason};
use crate::domain::subscription::store_state::Item;

fn now() -> Instant {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn holding(product: &str, state: ItemState) -> Holding {
    Holding {
        provider: Provider::AppStore,
        app: AppId("example-ios".into()),
        environment: Environment::Production,
        item: Item {
            key: "subscription".into(),
            product: StoreProduct::new(product),
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

fn judged(holdings: &[Holding]) -> History {
    judged_by(&example(), holdings)
}

fn judged_by(catalog: &Catalog, holdings: &[Holding]) -> History {
    let (_, product) = catalog
        .products()
        .find(|(id, _)| *id == "pro_yearly")
        .expect("in the catalog");
    history(catalog, product, holdings, Leniency::default(), now())
}

#[test]
fn an_account_is_judged_by_all_that_grants_the_same() {
    let monthly = "com.example.premium.monthly";
    let active = || {
        let expires_at = now() + TimeDelta::days(1);
        let renewal = Renewal::Off;
        holding(
            monthly,
            ItemState::Active {
                expires_at,
                renewal,
            },
        )
    };
    let over = |reason| holding(monthly, ItemState::Expired { at: now(), reason });
    let refunded = holding(
        monthly,
        ItemState::Revoked {
            at: now(),
            reason: RevocationReason::Refunded,
        },
    );
    let ended = holding(
        monthly,
        ItemState::Active {
            expires_at: now(),
            renewal: Renewal::Off,
        },
    );
    let text = "sandbox_access = \"nobody\"\n".to_owned() + EXAMPLE;
    let nobody = toml::from_str(&text).expect("parses");
    let nobody = Catalog::build(nobody, CatalogVersion(1)).expect("sound");
    let tried = Holding {
        environment: Environment::Sandbox,
        ..active()
    };
    assert_eq!(
        judged_by(&nobody, std::slice::from_ref(&tried)),
        History::New
    );
    assert_eq!(
        judged(&[tried]),
        History::Active,
        "everyone's sandbox serves"
    );
    let handed_on = Holding {
        away_since: Some(now()),
        ..active()
    };
    let lifetime = Holding {
        item: Item {
            kind: ItemKind::OneTime,
            ..holding("com.example.lifetime", ItemState::Owned { since: now() }).item
        },
        ..active()
    };
    let unmapped = Holding {
        item: Item {
            product: StoreProduct::new("com.example.unknown"),
            ..active().item
        },
        ..active()
    };
    let cases = [
        (vec![], History::New),
        (vec![lifetime, unmapped], History::New),
        (vec![holding(monthly, ItemState::Pending)], History::New),
        (vec![over(ExpiryReason::Canceled)], History::Lapsed),
        (vec![refunded], History::Lapsed),
        (vec![ended], History::Lapsed),
        (vec![handed_on], History::Lapsed),
        (
            vec![holding(monthly, ItemState::OnHold { since: now() })],
            History::Lapsed,
        ),
        (vec![active()], History::Active),
        (vec![over(ExpiryReason::Other), active()], History::Active),
        (vec![active(), over(ExpiryReason::Other)], History::Active),
    ];
    for (holdings, expected) in cases {
        assert_eq!(judged(&holdings), expected, "{holdings:?}");
    }
}

#[test]
fn an_offer_is_for_whom_it_says() {
    use History as H;
    for (eligible, allowed) in [
        (Eligible::New, &[H::New][..]),
        (Eligible::Lapsed, &[H::Lapsed]),
        (Eligible::Active, &[H::Active]),
        (Eligible::Any, &[H::New, H::Lapsed, H::Active]),
    ] {
        for history in [H::New, H::Lapsed, H::Active] {
            assert_eq!(eligible.allows(history), allowed.contains(&history));
        }
    }
}
