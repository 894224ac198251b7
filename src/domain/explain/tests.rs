//! Every answer that support can get, as it reads.

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};

use super::*;
use crate::domain::catalog::CatalogFile;
use crate::domain::chain::{AppId, StoreProduct};
use crate::domain::ids::CatalogVersion;
use crate::domain::subscription::state::{
    ExpiryReason, ItemState, Offer, Renewal, RevocationReason,
};
use crate::domain::subscription::store_state::{Item, ItemKind};

const CATALOG: &str = r#"
    sandbox_access = "nobody"
    [[apps]]
    id = "ios"
    bundle_id = "com.example.app"
    [entitlements.pro]
    [products.pro_yearly]
    kind = "subscription"
    period = "P1Y"
    grants = ["pro"]
    app_store = { product_id = "yearly" }
    family_sharing = "refuse"
    [products.pro_forever]
    kind = "non_consumable"
    grants = ["pro"]
    app_store = { product_id = "forever" }
"#;

fn now() -> Instant {
    Utc.with_ymd_and_hms(2026, 5, 20, 12, 0, 0).unwrap()
}

/// 3 May 10:12 UTC.
fn third_of_may() -> Instant {
    Utc.with_ymd_and_hms(2026, 5, 3, 10, 12, 0).unwrap()
}

/// 1 June 09:00 UTC.
fn first_of_june() -> Instant {
    Utc.with_ymd_and_hms(2026, 6, 1, 9, 0, 0).unwrap()
}

fn holding(product: &str, state: ItemState) -> Holding {
    let kind = if product == "forever" {
        ItemKind::OneTime
    } else {
        ItemKind::Subscription
    };
    Holding {
        provider: Provider::AppStore,
        app: AppId("example-ios".into()),
        environment: Environment::Production,
        item: Item {
            key: product.into(),
            product: StoreProduct::new(product),
            kind,
            state,
            offer: Offer::None,
            started_at: None,
            transaction_id: Some("2000000000000041".into()),
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

fn theirs(holding: Holding) -> Purchase {
    Purchase {
        store: Some(Provider::AppStore),
        holdings: vec![holding],
        standing: Standing::Theirs,
    }
}

fn yearly(state: ItemState) -> Purchase {
    theirs(holding("yearly", state))
}

fn asked(standing: Standing) -> Purchase {
    Purchase {
        store: Some(Provider::AppStore),
        holdings: Vec::new(),
        standing,
    }
}

fn gift(expires_at: Option<Instant>, revoked_at: Option<Instant>) -> Gift {
    Gift {
        grant: Grant {
            entitlement: "pro".into(),
            expires_at,
        },
        actor: "app:sue".into(),
        reason: "a lost week".into(),
        revoked_at,
    }
}

fn told(purchases: &[Purchase], gifts: &[Gift]) -> Explanation {
    let file: CatalogFile = toml::from_str(CATALOG).unwrap();
    let catalog = Catalog::build(file, CatalogVersion(1)).unwrap();
    let facts = Facts {
        catalog: &catalog,
        purchases,
        gifts,
        leniency: Leniency::default(),
        now: now(),
    };
    explain("pro", &facts).unwrap()
}

fn active(renewal: Renewal) -> ItemState {
    ItemState::Active {
        expires_at: first_of_june(),
        renewal,
    }
}

fn expired(reason: ExpiryReason) -> Purchase {
    yearly(ItemState::Expired {
        at: third_of_may(),
        reason,
    })
}

fn revoked(reason: RevocationReason) -> Purchase {
    yearly(ItemState::Revoked {
        at: third_of_may(),
        reason,
    })
}

fn with(purchase: Purchase, change: impl FnOnce(&mut Holding)) -> Purchase {
    let mut purchase = purchase;
    change(&mut purchase.holdings[0]);
    purchase
}

#[test]
fn every_reason_for_access_reads_like_a_sentence() {
    let cases: Vec<(Purchase, &str, &str)> = vec![
        (
            yearly(active(Renewal::On)),
            "subscription",
            "on until 1 Jun 10:00 UTC: App Store subscription pro_yearly is paid until 1 Jun 09:00 \
             UTC; App Store renews it on 1 Jun 09:00 UTC, or it ends",
        ),
        (
            yearly(active(Renewal::Off)),
            "subscription",
            "on until 1 Jun 09:00 UTC: App Store subscription pro_yearly is paid until 1 Jun 09:00 \
             UTC; renewal is off: it ends on 1 Jun 09:00 UTC",
        ),
        (
            with(yearly(active(Renewal::Off)), |holding| {
                holding.item.offer = Offer::FreeTrial;
            }),
            "trial",
            "on until 1 Jun 09:00 UTC: App Store subscription pro_yearly is in its free trial \
             until 1 Jun 09:00 UTC; renewal is off: the trial ends unpaid on 1 Jun 09:00 UTC",
        ),
        (
            yearly(ItemState::GracePeriod {
                expires_at: third_of_may(),
                until: first_of_june(),
            }),
            "grace_period",
            "on until 1 Jun 09:00 UTC: App Store could not charge for pro_yearly on 3 May 10:12 \
             UTC and keeps access while it tries again; on hold from 1 Jun 09:00 UTC if it cannot \
             charge by then",
        ),
        (
            theirs(holding(
                "forever",
                ItemState::Owned {
                    since: third_of_may(),
                },
            )),
            "purchase",
            "on for good: pro_forever was bought at App Store; off only if the store takes it back",
        ),
    ];
    for (purchase, reason, sentence) in cases {
        let told = told(&[purchase], &[]);
        assert_eq!(told.sentence, sentence);
        assert_eq!((told.reason, told.active), (reason, true));
        assert_eq!(told.decider, Decider::Purchase(0));
    }
    let granted = told(&[], &[gift(Some(first_of_june()), None)]);
    assert_eq!(
        granted.sentence,
        "on until 1 Jun 09:00 UTC: a gift by app:sue (a lost week); the gift ends on 1 Jun 09:00 UTC"
    );
    assert_eq!(granted.decider, Decider::Gift(0));
    assert_eq!(granted.next_change_at, Some(first_of_june()));
}

#[test]
fn every_reason_without_access_reads_like_a_sentence() {
    let cases: Vec<(Purchase, &str, &str)> = vec![
        (
            revoked(RevocationReason::Refunded),
            "refunded",
            "off since 3 May 10:12 UTC: App Store refunded transaction …0041; on again if the \
             account resubscribes",
        ),
        (
            revoked(RevocationReason::FamilySharingEnded),
            "revoked",
            "off since 3 May 10:12 UTC: the family no longer shares yearly; on again if the \
             account resubscribes",
        ),
        (
            revoked(RevocationReason::Store),
            "revoked",
            "off since 3 May 10:12 UTC: App Store took yearly back; on again if the account \
             resubscribes",
        ),
        (
            expired(ExpiryReason::Canceled),
            "expired",
            "off since 3 May 10:12 UTC: App Store subscription yearly was canceled by the customer \
             and its paid period is over; on again if the account resubscribes",
        ),
        (
            expired(ExpiryReason::BillingError),
            "expired",
            "off since 3 May 10:12 UTC: App Store subscription yearly could not be charged in time \
             and has ended; on again if the account resubscribes",
        ),
        (
            yearly(ItemState::Active {
                expires_at: third_of_may(),
                renewal: Renewal::On,
            }),
            "expired",
            "off since 3 May 10:12 UTC: the paid period of yearly ended 3 May 10:12 UTC and App \
             Store has not renewed it; on again when the store renews it, or the account \
             resubscribes",
        ),
        (
            yearly(ItemState::OnHold {
                since: third_of_may(),
            }),
            "on_hold",
            "off since 3 May 10:12 UTC: App Store could not charge for yearly; on again by itself \
             when the payment goes through",
        ),
        (
            yearly(ItemState::Paused {
                since: third_of_may(),
                resumes_at: Some(first_of_june()),
            }),
            "paused",
            "off since 3 May 10:12 UTC: the customer paused yearly at App Store; on again 1 Jun \
             09:00 UTC if the store can charge then",
        ),
        (
            yearly(ItemState::Pending),
            "pending",
            "off: yearly was bought at App Store and is not paid yet; on by itself once it is paid \
             or approved",
        ),
        (
            with(yearly(active(Renewal::On)), |holding| {
                holding.away_since = Some(third_of_may());
            }),
            "transferred",
            "off since 3 May 10:12 UTC: the purchase was moved to another account; on again if the \
             account resubscribes",
        ),
        (
            with(yearly(active(Renewal::On)), |holding| {
                holding.environment = Environment::Sandbox;
            }),
            "environment_not_accepted",
            "off: yearly was bought in App Store's sandbox, and sandbox purchases serve nobody \
             here; on with a purchase for real money",
        ),
        (
            with(yearly(active(Renewal::On)), |holding| {
                holding.item.family_shared = true;
            }),
            "family_sharing_refused",
            "off: yearly was bought by somebody of the family, and the catalog keeps it to its \
             buyer; on with a purchase of their own",
        ),
        (
            yearly(ItemState::Unknown {
                said: "status 9".into(),
            }),
            "never",
            "off: App Store says something about yearly that grants nothing here; on once the \
             store says otherwise",
        ),
        (
            expired(ExpiryReason::NeverPaid),
            "never",
            "off since 3 May 10:12 UTC: App Store purchase yearly was never paid; on with a purchase that is \
             paid",
        ),
        (
            theirs(holding("unheard", active(Renewal::On))),
            "unmapped",
            "off: the account has unheard at App Store, and the catalog knows no such product; on \
             by itself once a catalog that names it is applied",
        ),
        (
            asked(Standing::Asked {
                since: third_of_may(),
            }),
            "unanswered",
            "off: the account asked for a purchase at App Store on 3 May 10:12 UTC, and the store \
             has not answered yet; on by itself when it does",
        ),
        (
            asked(Standing::Refused {
                at: third_of_may(),
                verdict: Verdict::OwnedByAnother,
            }),
            "not_theirs",
            "off: the account asked for a purchase at App Store on 3 May 10:12 UTC that belongs to \
             another account; on if it is moved here, or with a purchase of its own",
        ),
        (
            asked(Standing::Refused {
                at: third_of_may(),
                verdict: Verdict::NotFound,
            }),
            "unknown_at_store",
            "off: the account asked for a purchase at App Store on 3 May 10:12 UTC that the store \
             does not know; on with a purchase that the store knows",
        ),
    ];
    for (purchase, reason, sentence) in cases {
        let told = told(&[purchase], &[]);
        assert_eq!(told.sentence, sentence);
        assert_eq!((told.reason, told.active), (reason, false));
        assert_eq!(told.decider, Decider::Purchase(0), "{reason}");
        assert!(!told.advice.is_empty(), "{reason}");
    }
    let nothing = told(&[], &[]);
    assert_eq!(
        nothing.sentence,
        "off: no purchase and no gift that grants pro has arrived here; on once a purchase \
         arrives: by the store's word, or by the app"
    );
    assert_eq!(nothing.decider, Decider::Nothing);
}

#[test]
fn a_gift_that_is_over_says_how() {
    let ran_out = told(&[], &[gift(Some(third_of_may()), None)]);
    assert_eq!(
        ran_out.sentence,
        "off since 3 May 10:12 UTC: the gift by app:sue ran out; on again with a purchase or \
         another gift"
    );
    let taken = told(&[], &[gift(Some(first_of_june()), Some(third_of_may()))]);
    assert_eq!(
        taken.sentence,
        "off since 3 May 10:12 UTC: the gift by app:sue was taken back; on again with a purchase \
         or another gift"
    );
}

#[test]
fn the_best_of_several_speaks_and_the_latest_end_does() {
    let refunded = revoked(RevocationReason::Refunded);
    let older = yearly(ItemState::Expired {
        at: third_of_may() - TimeDelta::days(400),
        reason: ExpiryReason::Canceled,
    });
    let told_off = told(&[older.clone(), refunded.clone()], &[]);
    assert_eq!(told_off.reason, "refunded");
    assert_eq!(told_off.decider, Decider::Purchase(1));

    let again = yearly(active(Renewal::On));
    let told_on = told(
        &[older, refunded, again],
        &[gift(Some(now() + TimeDelta::days(1)), None)],
    );
    assert_eq!(told_on.reason, "subscription");
    assert_eq!(told_on.decider, Decider::Purchase(2));
    assert!(told_on.sentence.contains("1 more stands"));
    assert!(told_on.next_change_at > Some(DateTime::UNIX_EPOCH));
}
