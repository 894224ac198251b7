//! Who owns a chain: the table of precedence, policies and moves.

use chrono::{DateTime, TimeDelta};
use uuid::Uuid;

use super::*;
use crate::domain::chain::{AliasKind, AppId};

fn now() -> Instant {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn account(n: u128) -> AccountId {
    AccountId(Uuid::from_u128(n))
}

/// A claim with a transaction that was signed so many hours ago.
fn signed(n: u128, hours_ago: i64) -> OpenClaim {
    OpenClaim {
        id: ClaimId(Uuid::from_u128(n)),
        account: account(n),
        possession: Possession::Signed {
            at: now() - TimeDelta::hours(hours_ago),
            shown_at: now(),
        },
        misnamed: false,
    }
}

fn claim(n: u128) -> OpenClaim {
    signed(n, 48)
}

fn owned_by(n: u128, provisional: bool) -> Owner {
    if provisional {
        Owner::provisional(account(n), now())
    } else {
        Owner::confirmed(account(n), now())
    }
}

const KEEP: Rules = Rules {
    owner_is_anonymous: false,
    policy: TransferPolicy::Keep,
    auto_bind: true,
};

fn case(owner: Option<Owner>, claims: &[OpenClaim]) -> Case<'_> {
    Case {
        owner,
        detached_at: None,
        hint: None,
        purchased_at: None,
        head: None,
        claims,
        rules: KEEP,
        active: true,
        moves: 0,
        now: now(),
    }
}

fn verdicts(ruling: &Ruling) -> Vec<Verdict> {
    ruling.verdicts.iter().map(|v| v.2).collect()
}

fn owner_of(ruling: &Ruling) -> Option<AccountId> {
    ruling.owner.map(|owner| owner.account)
}

#[test]
fn the_first_of_many_claims_wins_and_is_provisional() {
    let claims: Vec<_> = (1..=50).map(|n| signed(n, 0)).collect();
    for policy in [
        TransferPolicy::Keep,
        TransferPolicy::TransferIfInactive,
        TransferPolicy::Transfer,
    ] {
        let rules = Rules { policy, ..KEEP };
        let ruling = rule(&Case {
            rules,
            ..case(None, &claims)
        });
        assert_eq!(owner_of(&ruling), Some(account(1)));
        assert!(ruling.owner.is_some_and(|o| o.yields_to_a_hint_at(now())));
        assert_eq!(ruling.reason, Some(OwnershipReason::Claimed));
        assert_eq!(verdicts(&ruling)[0], Verdict::Won);
        let others = &verdicts(&ruling)[1..];
        assert!(
            others.iter().all(|v| *v == Verdict::OwnedByAnother),
            "whoever is told that they won has it"
        );
    }
}

#[test]
fn the_stores_record_beats_a_provisional_owner_but_not_a_settled_one() {
    let claims = [claim(2)];
    let hinted = |owner, now| {
        rule(&Case {
            hint: Some(account(2)),
            now,
            ..case(Some(owner), &claims)
        })
    };
    let over_provisional = hinted(owned_by(1, true), now());
    assert_eq!(owner_of(&over_provisional), Some(account(2)));
    assert_eq!(over_provisional.reason, Some(OwnershipReason::StoreHint));
    assert_eq!(verdicts(&over_provisional), [Verdict::Won]);

    let over_settled = hinted(owned_by(1, false), now());
    assert_eq!(owner_of(&over_settled), Some(account(1)));
    assert_eq!(verdicts(&over_settled), [Verdict::OwnedByAnother]);

    let after_thirty_days = now() + TimeDelta::days(PROVISIONAL_DAYS);
    let too_late = hinted(owned_by(1, true), after_thirty_days);
    assert_eq!(owner_of(&too_late), Some(account(1)));
    let just_in_time = hinted(owned_by(1, true), after_thirty_days - TimeDelta::seconds(1));
    assert_eq!(owner_of(&just_in_time), Some(account(2)));
}

#[test]
fn what_a_hint_has_moved_no_claim_moves_again_at_once() {
    let rules = Rules {
        policy: TransferPolicy::Transfer,
        owner_is_anonymous: true,
        ..KEEP
    };
    for claims in [[claim(2), signed(3, 0)], [signed(3, 0), claim(2)]] {
        let ruling = rule(&Case {
            hint: Some(account(2)),
            rules,
            ..case(Some(owned_by(1, true)), &claims)
        });
        assert_eq!(owner_of(&ruling), Some(account(2)));
        assert_eq!(ruling.reason, Some(OwnershipReason::StoreHint));
        for (_, of, verdict) in &ruling.verdicts {
            let won = *verdict == Verdict::Won;
            assert_eq!(won, *of == account(2), "{verdict:?}: one of them has it");
        }
    }
}

#[test]
fn a_claim_against_the_stores_record_is_refused() {
    let claims = [claim(1)];
    let ruling = rule(&Case {
        hint: Some(account(9)),
        ..case(None, &claims)
    });
    assert_eq!(owner_of(&ruling), Some(account(9)));
    assert_eq!(ruling.reason, Some(OwnershipReason::StoreHint));
    assert_eq!(verdicts(&ruling), [Verdict::OwnedByAnother]);
}

#[test]
fn a_hint_confirms_its_owner_for_good() {
    let claims = [claim(1)];
    let ruling = rule(&Case {
        hint: Some(account(1)),
        ..case(Some(owned_by(1, true)), &claims)
    });
    assert_eq!(ruling.owner.and_then(|o| o.provisional_until), None);
    assert_eq!(verdicts(&ruling), [Verdict::Confirmed]);
    assert_eq!(ruling.reason, None);
}

#[test]
fn without_auto_bind_a_hint_waits_for_the_app() {
    let rules = Rules {
        auto_bind: false,
        ..KEEP
    };
    let decide = |owner, claims: &[OpenClaim]| {
        rule(&Case {
            hint: Some(account(2)),
            rules,
            ..case(owner, claims)
        })
    };
    assert_eq!(decide(None, &[]).owner, None);
    let stranger = decide(None, &[claim(1)]);
    assert_eq!(stranger.owner, None, "the record names another");
    assert_eq!(verdicts(&stranger), [Verdict::OwnedByAnother]);
    let named = decide(None, &[claim(1), claim(2)]);
    assert_eq!(
        verdicts(&named),
        [Verdict::OwnedByAnother, Verdict::Won],
        "the app of the named account has come"
    );
    assert_eq!(named.owner, Some(owned_by(2, false)));
    // Over a provisional owner, too, only with a claim.
    let provisional = owned_by(1, true);
    assert_eq!(decide(Some(provisional), &[]).owner, Some(provisional));
    let came = decide(Some(provisional), &[claim(2)]);
    assert_eq!(owner_of(&came), Some(account(2)));
    // What it names it confirms.
    let confirmed = decide(Some(owned_by(2, true)), &[]);
    assert_eq!(confirmed.owner.and_then(|o| o.provisional_until), None);
}

#[test]
fn after_a_transfer_an_older_purchase_carries_no_hint() {
    let transferred = Owner::transferred(account(1), now());
    let hinted = |purchased_at| {
        let claims = [claim(2)];
        rule(&Case {
            hint: Some(account(2)),
            purchased_at,
            ..case(Some(transferred), &claims)
        })
    };
    for purchased_at in [None, Some(now() - TimeDelta::days(1)), Some(now())] {
        let ruling = hinted(purchased_at);
        assert_eq!(ruling.owner, Some(transferred), "{purchased_at:?}");
        assert_eq!(verdicts(&ruling), [Verdict::OwnedByAnother]);
    }
    let bought_again = hinted(Some(now() + TimeDelta::days(1)));
    assert_eq!(
        bought_again.owner,
        Some(Owner::confirmed(account(2), now())),
        "who pays has it"
    );
    assert_eq!(verdicts(&bought_again), [Verdict::Won]);
}

#[test]
fn a_policy_moves_what_fresh_possession_is_shown_of() {
    use TransferPolicy::{Keep, Transfer, TransferIfInactive};
    let token = |value: &str| Alias {
        provider: Provider::GooglePlay,
        app: AppId("example-android".into()),
        kind: AliasKind::PurchaseToken,
        value: value.into(),
    };
    let by_token = |value: &str| OpenClaim {
        possession: Possession::Token {
            token: token(value),
        },
        ..claim(2)
    };
    let named = OpenClaim {
        possession: Possession::Named,
        ..claim(2)
    };
    let (live, replaced) = (by_token("live"), by_token("replaced"));
    let head = token("live");
    for (policy, active, claim, moves, moved) in [
        (Keep, true, signed(2, 0), 0, false),
        (Keep, false, signed(2, 0), 0, false),
        (TransferIfInactive, true, signed(2, 0), 0, false),
        (TransferIfInactive, false, signed(2, 0), 0, true),
        (TransferIfInactive, false, signed(2, 25), 0, false),
        (Transfer, true, signed(2, 0), 0, true),
        (Transfer, true, signed(2, 24), 0, true),
        (Transfer, true, signed(2, 25), 0, false),
        (Transfer, true, signed(2, 0), MOVES_MAX - 1, true),
        (Transfer, true, signed(2, 0), MOVES_MAX, false),
        (Transfer, true, live, 0, true),
        (Transfer, true, replaced, 0, false),
        (Transfer, true, named, 0, false),
    ] {
        for owner in [owned_by(1, false), owned_by(1, true)] {
            let claims = [claim.clone()];
            let ruling = rule(&Case {
                // Whom the store's record names makes no difference to a transfer.
                hint: Some(account(1)),
                head: Some(&head),
                rules: Rules { policy, ..KEEP },
                active,
                moves,
                ..case(Some(owner), &claims)
            });
            let what = format!("{policy:?} active {active} {claim:?} after {moves}");
            if moved {
                let expected = Owner::transferred(account(2), now());
                assert_eq!(ruling.owner, Some(expected), "{what}");
                assert_eq!(ruling.reason, Some(OwnershipReason::Policy), "{what}");
                assert_eq!(verdicts(&ruling), [Verdict::Won], "{what}");
            } else {
                assert_eq!(owner_of(&ruling), Some(account(1)), "{what}");
                assert_eq!(verdicts(&ruling), [Verdict::OwnedByAnother], "{what}");
            }
        }
    }
}

#[test]
fn a_claim_by_a_wrong_name_wins_nothing() {
    let misnamed = OpenClaim {
        misnamed: true,
        ..signed(1, 0)
    };
    let free = rule(&case(None, std::slice::from_ref(&misnamed)));
    assert_eq!(
        (free.owner, verdicts(&free)),
        (None, vec![Verdict::Misnamed])
    );
    let owner = owned_by(1, false);
    let own = rule(&case(Some(owner), std::slice::from_ref(&misnamed)));
    assert_eq!(own.owner, Some(owner));
    assert_eq!(verdicts(&own), [Verdict::Misnamed]);
}

#[test]
fn of_two_things_shown_the_one_that_shows_the_live_purchase_counts() {
    let token = |value: &str| Alias {
        provider: Provider::GooglePlay,
        app: AppId("example-android".into()),
        kind: AliasKind::PurchaseToken,
        value: value.into(),
    };
    let shown = |value| Possession::Token {
        token: token(value),
    };
    let head = token("new");
    for (old, new, counts) in [
        (shown("old"), shown("new"), true),
        (shown("new"), shown("old"), false),
        (shown("new"), Possession::Named, false),
        (signed(1, 1).possession, shown("old"), false),
        // What shows nothing either way is the newer purchase's.
        (shown("old"), Possession::Named, true),
        (shown("new"), shown("new"), true),
    ] {
        assert_eq!(
            shows_more(&old, &new, Some(&head)),
            counts,
            "{old:?} {new:?}"
        );
    }
}

#[test]
fn a_join_of_two_owned_chains_is_a_transfer_request() {
    let (ours, theirs) = (owned_by(1, false), owned_by(2, false));
    let joined = |policy, active, moves| {
        let rules = Rules { policy, ..KEEP };
        join(ours, theirs, rules, active, moves, now()).account
    };
    assert_eq!(joined(TransferPolicy::Keep, false, 0), account(1));
    assert_eq!(
        joined(TransferPolicy::TransferIfInactive, true, 0),
        account(1)
    );
    assert_eq!(
        joined(TransferPolicy::TransferIfInactive, false, 0),
        account(2)
    );
    assert_eq!(joined(TransferPolicy::Transfer, true, 0), account(2));
    assert_eq!(
        joined(TransferPolicy::Transfer, true, MOVES_MAX),
        account(1)
    );
}

#[test]
fn verdicts_are_read_as_they_are_written() {
    for verdict in Verdict::ALL {
        assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
    }
}

#[test]
fn whoever_shows_fresh_possession_takes_over_from_somebody_who_never_signed_in() {
    let owner = Some(owned_by(1, false));
    for (anonymous, shown_hours_ago, moves, moved) in [
        (true, 0, 0, true),
        (true, 0, MOVES_MAX - 1, true),
        (true, 0, MOVES_MAX, false),
        (true, 25, 0, false),
        (false, 0, 0, false),
    ] {
        let claims = [signed(2, shown_hours_ago)];
        let ruling = rule(&Case {
            rules: Rules {
                owner_is_anonymous: anonymous,
                ..KEEP
            },
            moves,
            ..case(owner, &claims)
        });
        let expected = if moved { account(2) } else { account(1) };
        assert_eq!(
            owner_of(&ruling),
            Some(expected),
            "{anonymous} {shown_hours_ago} {moves}"
        );
    }
}

#[test]
fn of_what_is_shown_together_the_last_signature_speaks() {
    let (old, new) = (signed(1, 48).possession, signed(1, 0).possession);
    assert_eq!(stronger(old.clone(), new.clone()), new);
    assert_eq!(stronger(new.clone(), old.clone()), new);
    assert_eq!(stronger(Possession::Named, old.clone()), old);
    assert_eq!(stronger(old.clone(), Possession::Named), old);
}

#[test]
fn what_an_erased_account_left_goes_to_whoever_shows_it_anew() {
    let erased = now() - TimeDelta::hours(2);
    let token = Alias {
        provider: Provider::GooglePlay,
        app: AppId("com.example".into()),
        kind: AliasKind::PurchaseToken,
        value: "living".into(),
    };
    let older = Alias {
        value: "older".into(),
        ..token.clone()
    };
    let showing = |possession| {
        [OpenClaim {
            possession,
            ..claim(2)
        }]
    };
    let signed = |hours: i64| Possession::Signed {
        at: now() - TimeDelta::hours(hours),
        shown_at: now(),
    };
    let table = [
        (signed(1), Verdict::Won),
        (signed(2), Verdict::NotFresh),
        (signed(3), Verdict::NotFresh),
        (
            Possession::Token {
                token: token.clone(),
            },
            Verdict::Won,
        ),
        (Possession::Token { token: older }, Verdict::NotFresh),
        (Possession::Named, Verdict::NotFresh),
    ];
    for (possession, expected) in table {
        let claims = showing(possession);
        let ruling = rule(&Case {
            detached_at: Some(erased),
            head: Some(&token),
            ..case(None, &claims)
        });
        assert_eq!(verdicts(&ruling), [expected], "{claims:?}");
        assert_eq!(ruling.owner.is_some(), expected == Verdict::Won);
    }
    // What the store's record said before says nothing; what was bought since does.
    for (bought, expected) in [(3, None), (2, None), (1, Some(account(7)))] {
        let ruling = rule(&Case {
            detached_at: Some(erased),
            hint: Some(account(7)),
            purchased_at: Some(now() - TimeDelta::hours(bought)),
            ..case(None, &[])
        });
        assert_eq!(owner_of(&ruling), expected, "{bought}");
    }
    // Nor does it once somebody has claimed it anew.
    let ruling = rule(&Case {
        detached_at: Some(erased),
        hint: Some(account(7)),
        purchased_at: Some(now() - TimeDelta::hours(3)),
        ..case(Some(owned_by(2, true)), &[])
    });
    assert_eq!(owner_of(&ruling), Some(account(2)));
}
