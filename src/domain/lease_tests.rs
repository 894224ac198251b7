//! Every end, of every kind of access, for both kinds of holder.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::domain::entitlement::{AccessReason, InactiveReason, Source};
use crate::domain::provider::Provider;
use crate::domain::subscription::state::{Access, Offer};
use crate::domain::time::earliest;

fn at(seconds: i64) -> Instant {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

fn source(environment: Environment, access: Access) -> Source {
    Source {
        reason: AccessReason::Subscription,
        store: Some(Provider::AppStore),
        product_id: "yearly".into(),
        plan: "pro_yearly".into(),
        environment,
        expires_at: access.until(),
        access,
        will_renew: true,
        unconfirmed: false,
        offer: Offer::None,
        family_shared: false,
    }
}

fn entitlement(id: &str, sources: Vec<Source>) -> Entitlement {
    Entitlement {
        id: id.into(),
        sources,
        inactive_reason: InactiveReason::Never,
        ended_at: None,
    }
}

fn snapshot(entitlements: Vec<Entitlement>) -> Snapshot {
    let sources = entitlements.iter().flat_map(|it| &it.sources);
    let next_transition_at = sources.fold(None, |next, it| earliest(next, it.access.until()));
    Snapshot {
        entitlements,
        next_transition_at,
        ..Snapshot::default()
    }
}

fn production(access: Access) -> Vec<Source> {
    vec![source(Environment::Production, access)]
}

fn usual(_: &str) -> LeaseSpec {
    LeaseSpec::default()
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

#[test]
fn each_entitlement_has_its_own_end_and_none_outlives_its_access() {
    let snapshot = snapshot(vec![
        entitlement("ends_soon", production(Access::Until(at(HOUR)))),
        entitlement("for_ever", production(Access::Lifetime)),
        entitlement("kept_short", production(Access::Lifetime)),
        entitlement("never_leased", production(Access::Lifetime)),
        entitlement("off", vec![]),
        entitlement("over", production(Access::Until(at(0)))),
        entitlement("year", production(Access::Until(at(365 * DAY)))),
    ]);
    let spec = |id: &str| match id {
        "kept_short" => LeaseSpec {
            device_minutes: 10,
            service_minutes: 1,
        },
        "never_leased" => LeaseSpec {
            device_minutes: 0,
            service_minutes: 0,
        },
        _ => LeaseSpec::default(),
    };
    let ends = |holder| -> Vec<(String, i64)> {
        let lease = Lease::of(&snapshot, spec, holder, at(0));
        let ends = lease.entitlements.into_iter();
        ends.map(|(id, leased)| (id, (leased.until - at(0)).num_seconds()))
            .collect()
    };
    let expected = |ends: [(&str, i64); 4]| ends.map(|(id, end)| (id.to_owned(), end)).to_vec();
    assert_eq!(
        ends(Holder::Device),
        expected([
            ("ends_soon", HOUR),
            ("for_ever", 3 * DAY),
            ("kept_short", 600),
            ("year", 3 * DAY),
        ])
    );
    assert_eq!(
        ends(Holder::Service),
        expected([
            ("ends_soon", 300),
            ("for_ever", 300),
            ("kept_short", 60),
            ("year", 300),
        ])
    );
}

#[test]
fn a_lease_is_renewed_while_more_can_be_had() {
    let lease = |access| {
        let snapshot = snapshot(vec![entitlement("pro", production(access))]);
        Lease::of(&snapshot, usual, Holder::Device, at(0))
    };
    let year = lease(Access::Until(at(365 * DAY)));
    assert_eq!(year.expires_at, at(3 * DAY));
    assert_eq!(year.renew_at, at(3 * DAY / 2));
    // What ends with its access reaches no further by another signature.
    let hour = lease(Access::Until(at(HOUR)));
    assert_eq!((hour.expires_at, hour.renew_at), (at(HOUR), at(HOUR)));
    // Nothing is something to say, too.
    let nothing = Lease::of(&snapshot(vec![]), usual, Holder::Service, at(0));
    assert_eq!(nothing.entitlements, BTreeMap::new());
    assert_eq!(nothing.expires_at, at(300));
}

#[test]
fn sandbox_is_told_and_prolongs_nothing_of_productions() {
    let mixed = snapshot(vec![entitlement(
        "pro",
        vec![
            source(Environment::Production, Access::Until(at(HOUR))),
            source(Environment::Sandbox, Access::Until(at(365 * DAY))),
        ],
    )]);
    let lease = Lease::of(&mixed, usual, Holder::Device, at(0));
    assert_eq!(lease.environment, Environment::Production);
    assert_eq!(lease.entitlements["pro"].until, at(HOUR));
    let later = Lease::of(&mixed, usual, Holder::Device, at(2 * HOUR));
    assert_eq!(later.environment, Environment::Sandbox);
    let leased = later.entitlements["pro"];
    assert_eq!(leased.environment, Environment::Sandbox);
    assert_eq!(leased.until, at(2 * HOUR + 3 * DAY));
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        1 => Just(Access::Lifetime),
        4 => (-10_000_i64..10_000_000).prop_map(|millis| {
            Access::Until(at(0) + TimeDelta::milliseconds(millis))
        }),
    ]
}

fn sources() -> impl Strategy<Value = Vec<Source>> {
    let environment = prop_oneof![Just(Environment::Production), Just(Environment::Sandbox)];
    let one = (environment, access()).prop_map(|(world, access)| source(world, access));
    proptest::collection::vec(one, 0..4)
}

proptest! {
    /// Whatever is held, whenever it is asked: a lease says nothing that the snapshot does not say at
    /// that moment, and nothing beyond it.
    #[test]
    fn a_lease_never_reaches_beyond_its_snapshot(
        held in proptest::collection::vec(sources(), 0..5),
        device_minutes in 0_u32..=LeaseSpec::DEVICE_MINUTES_MAX,
        service_minutes in 0_u32..=LeaseSpec::SERVICE_MINUTES_MAX,
        service: bool,
        after_millis in 0_i64..10_000_000,
    ) {
        let held = held.into_iter().enumerate();
        let snapshot = snapshot(held.map(|(n, it)| entitlement(&n.to_string(), it)).collect());
        let spec = LeaseSpec { device_minutes, service_minutes };
        let holder = if service { Holder::Service } else { Holder::Device };
        let minutes = if service { service_minutes } else { device_minutes };
        let now = at(0) + TimeDelta::milliseconds(after_millis);
        let lease = Lease::of(&snapshot, |_| spec, holder, now);
        prop_assert!(lease.issued_at <= now && now - lease.issued_at < TimeDelta::seconds(1));
        prop_assert!(lease.issued_at < lease.expires_at);
        prop_assert!(lease.renew_at <= lease.expires_at);
        let now_read = snapshot.at(now);
        for (id, leased) in &lease.entitlements {
            let read = now_read.entitlements.iter().find(|it| it.id == *id);
            let read = read.filter(|it| it.is_active());
            let read = read.ok_or_else(|| TestCaseError::fail("leased and off"))?;
            prop_assert!(read.access_until().is_none_or(|end| leased.until <= end));
            prop_assert!(leased.until <= now + TimeDelta::minutes(minutes.into()));
            prop_assert!(lease.issued_at < leased.until && leased.until <= lease.expires_at);
            prop_assert_eq!(leased.until.timestamp_subsec_nanos(), 0);
            prop_assert!(leased.environment <= lease.environment);
            let of_it = read.sources.iter().filter(|it| it.environment == leased.environment);
            let mut of_it = of_it.map(|it| it.access.until());
            prop_assert!(of_it.any(|end| end.is_none_or(|end| leased.until <= end)));
        }
    }
}
