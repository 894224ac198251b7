//! Questions about refunds, ruled on.

use chrono::TimeDelta;

use super::*;

fn at(hours: i64) -> Instant {
    "2027-01-10T09:00:00Z".parse::<Instant>().unwrap() + TimeDelta::hours(hours)
}

fn question(provider: Provider, product: Option<(&'static str, ProductKind)>) -> Question<'static> {
    let within = match provider {
        Provider::AppStore => 12,
        Provider::GooglePlay => 24,
    };
    Question {
        provider,
        asked_at: at(0),
        deadline: at(within),
        product,
    }
}

fn told(consented: bool, delivery: Option<Delivery>, used: Option<u32>) -> Option<Consumption> {
    Some(Consumption {
        consented,
        delivery,
        used_millipercent: used,
    })
}

const COINS: Option<(&str, ProductKind)> = Some(("coins", ProductKind::Consumable));
const YEARLY: Option<(&str, ProductKind)> = Some(("pro_yearly", ProductKind::Subscription));

fn wait(until: i64, waits_for: Lack) -> Ruling {
    Ruling::Wait {
        until: at(until),
        waits_for,
    }
}

fn plain(used: Option<u32>) -> Ruling {
    Ruling::Answer(RefundAnswer {
        sample_content_provided: false,
        delivery: Delivery::Delivered,
        consumption_millipercent: used,
        preference: Preference::Neutral,
    })
}

#[test]
fn apple_is_answered_with_consent_alone_and_google_after_a_while_without() {
    use Provider::{AppStore, GooglePlay};
    let policy = DefencePolicy::default();
    let full = Some(Delivery::Delivered);
    let table = [
        // (store, bought, told, now, becomes)
        (AppStore, COINS, None, 0, wait(12, Lack::Consent)),
        (
            AppStore,
            COINS,
            told(false, full, Some(9)),
            1,
            wait(12, Lack::Consent),
        ),
        (AppStore, COINS, None, 12, Ruling::Waive(Waiver::NoConsent)),
        (
            AppStore,
            COINS,
            told(true, full, Some(40_000)),
            11,
            plain(Some(40_000)),
        ),
        (
            AppStore,
            YEARLY,
            told(true, full, Some(40_000)),
            0,
            plain(None),
        ),
        (GooglePlay, COINS, None, 0, wait(1, Lack::Consumption)),
        (GooglePlay, COINS, None, 1, plain(None)),
        (
            GooglePlay,
            COINS,
            told(true, full, Some(7)),
            0,
            plain(Some(7)),
        ),
        (
            GooglePlay,
            YEARLY,
            told(true, None, Some(7)),
            0,
            plain(Some(7)),
        ),
        // Told without consent: answered, and nothing of the customer's use is in it.
        (
            GooglePlay,
            COINS,
            told(false, full, Some(7)),
            0,
            plain(None),
        ),
    ];
    for (provider, bought, told, now, becomes) in table {
        let ruled = rule(&question(provider, bought), told.as_ref(), &policy, at(now));
        assert_eq!(ruled, becomes, "{provider} {bought:?} {told:?} {now} h");
    }
}

#[test]
fn what_did_not_arrive_was_not_used() {
    for delivery in Delivery::ALL {
        for provider in [Provider::AppStore, Provider::GooglePlay] {
            let told = told(true, Some(delivery), Some(60_000));
            let ruled = rule(
                &question(provider, COINS),
                told.as_ref(),
                &DefencePolicy::default(),
                at(0),
            );
            let Ruling::Answer(answer) = ruled else {
                panic!("{ruled:?}");
            };
            let expected = if delivery == Delivery::Delivered {
                60_000
            } else {
                0
            };
            assert_eq!(
                (answer.delivery, answer.consumption_millipercent),
                (delivery, Some(expected))
            );
            assert_eq!(Delivery::parse(delivery.as_str()), Some(delivery));
        }
    }
}

#[test]
fn the_first_rule_that_fits_decides() {
    let rule_of = |products: &[&str], kind, used: Option<u32>, preference| DefenceRule {
        products: products.iter().map(|id| (*id).to_owned()).collect(),
        kind,
        used_millipercent_min: used,
        preference,
    };
    let policy = DefencePolicy {
        preference: Preference::GrantProrated,
        rules: vec![
            rule_of(&["gems"], None, None, Preference::GrantFull),
            rule_of(
                &[],
                Some(ProductKind::Consumable),
                Some(50_000),
                Preference::Decline,
            ),
            rule_of(&["pro_yearly", "pro"], None, None, Preference::Neutral),
        ],
        ..DefencePolicy::default()
    };
    let gems = Some(("gems", ProductKind::Consumable));
    let table = [
        (gems, Some(90_000), Preference::GrantFull),
        (COINS, Some(50_000), Preference::Decline),
        (COINS, Some(49_999), Preference::GrantProrated),
        (COINS, None, Preference::GrantProrated),
        (YEARLY, None, Preference::Neutral),
        (None, Some(90_000), Preference::GrantProrated),
    ];
    for (bought, used, preference) in table {
        let told = told(true, None, used);
        let ruled = rule(
            &question(Provider::AppStore, bought),
            told.as_ref(),
            &policy,
            at(0),
        );
        let Ruling::Answer(answer) = ruled else {
            panic!("{ruled:?}");
        };
        assert_eq!(answer.preference, preference, "{bought:?} {used:?}");
    }
}

#[test]
fn switched_off_nothing_is_said_and_patience_leaves_half_the_time() {
    let off = DefencePolicy {
        enabled: false,
        ..DefencePolicy::default()
    };
    let ruled = rule(&question(Provider::GooglePlay, COINS), None, &off, at(0));
    assert_eq!(ruled, Ruling::Waive(Waiver::DefenceOff));
    let patient = DefencePolicy {
        wait_for_consumption: TimeDelta::hours(100),
        ..DefencePolicy::default()
    };
    let ruled = rule(
        &question(Provider::GooglePlay, COINS),
        None,
        &patient,
        at(0),
    );
    assert_eq!(ruled, wait(12, Lack::Consumption));
}
