//! Each bug that can be planted in one process, and the short story that finds it for the right
//! reason. The same story ends well without the bug.

#![allow(clippy::unwrap_used, clippy::panic)]

use chrono::TimeDelta;
use serde_json::Value;

use super::case::{Case, Place, Weather};
use super::oracle::{self, Watch};
use super::orders::{self, Effort, Ids};
use super::run;
use super::stage::Stage;
use super::stories::STORIES;
use crate::domain::planted::{self, Bug};
use crate::sandbox::{CallSin, Store};

/// How a bug is found.
struct Find {
    bug: Bug,
    by: By,
    /// What the promise that it breaks is heard to say.
    says: &'static str,
}

enum By {
    /// The orders of one of the hand-written stories.
    Orders(&'static str),
    /// A life of a few steps, as it happens.
    Life(Place, &'static str),
}

const ACCOUNT: &str = "acc00000-0000-4000-8000-000000000001";

const FINDS: &[Find] = &[
    // Arriving last, the answer that it was refunded hides that the refund was taken back.
    Find {
        bug: Bug::CompareArrivalNotEventTime,
        by: By::Orders("App Store: bought for good, refunded, the refund taken back"),
        says: "has paid for",
    },
    // An answer of a minute ago takes the renewal back.
    Find {
        bug: Bug::DropPeriodEndComparison,
        by: By::Orders("Google Play: a renewal, then an answer of a minute ago"),
        says: "\"a stale answer\"]: chain 0 says Active { expires_at: 2026-01-16T12:00:00Z",
    },
    Find {
        bug: Bug::LateExpiredOfReplacedTokenRevokesNew,
        by: By::Orders("Google Play: another plan at once, whose predecessor's end comes late"),
        says: "has paid for",
    },
    // The order of a plan that another has replaced is paid back.
    Find {
        bug: Bug::RefundOfOldTransactionRevokesActive,
        by: By::Life(
            Place::Production,
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.basic",
                 "base_plan_id": "monthly", "obfuscated_account_id": "ACCOUNT"}}, {"bind": 1},
                {"days": 3},
                {"google": {"do": "buy", "customer": "person-1", "product_id": "g.pro",
                 "base_plan_id": "monthly", "obfuscated_account_id": "ACCOUNT",
                 "replaces": "$first", "replacement_mode": "charge_full_price"}}, {"bind": 1},
                {"google": {"do": "refund", "purchase_token": "$first",
                 "order_id": "$transaction"}}, {"compare": "all"}]"#,
        ),
        says: "has paid for",
    },
    Find {
        bug: Bug::GraceIsOver,
        by: By::Orders("App Store: in grace at the end"),
        says: "has paid for",
    },
    Find {
        bug: Bug::PendingGrants,
        by: By::Orders("Google Play: not paid yet"),
        says: "and has not paid for it",
    },
    // Bought in the sandbox, where the catalog lets nobody use it.
    Find {
        bug: Bug::IgnoreEnvironment,
        by: By::Life(
            Place::SandboxRefused,
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.forever",
                 "app_account_token": "ACCOUNT"}}, {"bind": 1}, {"compare": "all"}]"#,
        ),
        says: "and has not paid for it",
    },
    // A friend shows a purchase that is somebody's; the store's record names nobody here.
    Find {
        bug: Bug::NoOwnerCheckOnRestore,
        by: By::Life(
            Place::Production,
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.forever",
                 "app_account_token": "acc00000-0000-4000-8000-0000000000ff"}},
                {"bind": 1}, {"bind": 2}, {"compare": "all"}]"#,
        ),
        says: "is not account",
    },
    // Cancelled; when it ends its store cannot be asked, and nothing is derived anew for days.
    Find {
        bug: Bug::CachePastExpiry,
        by: By::Life(
            Place::Production,
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                 "base_plan_id": "weekly", "obfuscated_account_id": "ACCOUNT"}}, {"bind": 1},
                {"days": 3}, {"google": {"do": "cancel", "purchase_token": "$purchase"}},
                {"days": 3}, {"away": 120}, {"days": 1}, {"days": 1}, {"days": 1}, {"days": 1}]"#,
        ),
        says: "without having paid for it",
    },
    // Coins are looked at again.
    Find {
        bug: Bug::CreditTwice,
        by: By::Life(
            Place::Production,
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.coins",
                 "app_account_token": "ACCOUNT"}}, {"bind": 1}, {"refresh": 1}, {"compare": "all"}]"#,
        ),
        says: "has paid for 10 coins and is credited",
    },
    Find {
        bug: Bug::EveryClaimWins,
        by: By::Life(
            Place::Production,
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.forever",
                 "app_account_token": "ACCOUNT"}}, {"bind": 1}, {"bind": 2}]"#,
        ),
        says: "was told Won",
    },
    // Shown first by somebody else; the store's record names the buyer.
    Find {
        bug: Bug::HintIgnored,
        by: By::Life(
            Place::Production,
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.forever",
                 "app_account_token": "ACCOUNT"}}, {"bind": 2}, {"compare": "all"}]"#,
        ),
        says: "is not account",
    },
    // Three packs in one order, one of them paid back.
    Find {
        bug: Bug::PartialRefundRevokesAll,
        by: By::Life(
            Place::Production,
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.coins",
                 "quantity": 3, "obfuscated_account_id": "ACCOUNT"}}, {"bind": 1},
                {"google": {"do": "refund", "purchase_token": "$purchase", "quantity": 1,
                 "revoke": false}}, {"compare": "all"}]"#,
        ),
        says: "has paid for 20 coins and is credited 0",
    },
    // A claim that waits while its store is away, and a period that ends meanwhile.
    Find {
        bug: Bug::OutageRefusesClaims,
        by: By::Life(
            Place::Production,
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                 "base_plan_id": "weekly"}}, {"bind": 1},
                {"days": 6}, {"away": 36}, {"bind": 2}, {"days": 1}, {"days": 1}]"#,
        ),
        says: "was told NotFound",
    },
    // Every message is lost.
    Find {
        bug: Bug::NeverLooksAgain,
        by: By::Life(
            Place::Production,
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                 "base_plan_id": "weekly", "obfuscated_account_id": "ACCOUNT"}}, {"bind": 1},
                {"lost": 100}, {"days": 8}]"#,
        ),
        says: "has paid for",
    },
    Find {
        bug: Bug::AnyBasePlanGrants,
        by: By::Life(
            Place::Production,
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.basic",
                 "base_plan_id": "weekly", "obfuscated_account_id": "ACCOUNT"}}, {"bind": 1},
                {"compare": "all"}]"#,
        ),
        says: "and has not paid for it",
    },
    // A renewal that the store's answers do not show yet, seconds after the period has ended.
    Find {
        bug: Bug::NoLeniency,
        by: By::Life(
            Place::Production,
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                 "base_plan_id": "weekly", "obfuscated_account_id": "ACCOUNT"}}, {"bind": 1},
                {"lost": 100}, {"hours": 167}, {"stale": 4}, {"hours": 1}, {"seconds": 5},
                {"compare": "access"}]"#,
        ),
        says: "has paid for",
    },
];

/// What takes a database or a network to be seen is found by the integration tests, and what is no
/// decision about purchases where it is planted.
pub(super) fn of_the_core() -> impl Iterator<Item = Bug> {
    let of_the_shell = |bug: &Bug| {
        matches!(
            bug,
            Bug::SkipDedupe
                | Bug::AcknowledgeBeforeCommit
                | Bug::LostSignals
                | Bug::SkippedLeavesNoTrace
                | Bug::RevisionIsReused
                | Bug::LostHintsAreNotMissed
                | Bug::UnchangedOverAnEnd
                | Bug::ReplayIgnoresEvidence
                | Bug::ReplacedTokenIsGood
                | Bug::LinkTakesFromSomebody
                | Bug::MintedForYears
                | Bug::EveryRoleMay
                | Bug::KeyReachesEveryApp
                | Bug::PlaceStandsStill
                | Bug::AnyXcode
                | Bug::FeedByNumber
                | Bug::CursorAhead
        )
    };
    Bug::ALL.into_iter().filter(move |bug| !of_the_shell(bug))
}

/// What the bug, or its absence, makes of the story.
fn told(by: &By, bug: Option<Bug>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    planted::plant(bug);
    let told = match by {
        By::Orders(name) => {
            let mut all = STORIES.iter();
            let story = all.find(|story| story.name == *name).unwrap();
            let tried = runtime.block_on(orders::one(story, Effort::Quick)).unwrap();
            tried.2.map_or(Ok(()), Err)
        }
        By::Life(place, steps) => runtime.block_on(live(*place, steps)),
    };
    planted::plant(None);
    told
}

async fn live(place: Place, steps: &str) -> Result<(), String> {
    let case = Case {
        seed: 7,
        weather: Weather::CALM,
        place,
        ops: Vec::new(),
    };
    let mut stage = Stage::new(&case, false).await.unwrap();
    let mut watch = Watch::default();
    let mut ids = Ids::default();
    let steps = steps.replace("ACCOUNT", ACCOUNT);
    let steps: Vec<Value> = serde_json::from_str(&steps).unwrap();
    for step in &steps {
        let (verb, said) = step.as_object().unwrap().iter().next().unwrap();
        let number = said.as_i64().unwrap_or_default();
        let person = usize::try_from(number - 1).unwrap_or_default();
        match verb.as_str() {
            "apple" | "google" => {
                ids.act(&stage.sandbox, verb, said).await.unwrap();
                stage.listen().await?;
            }
            "bind" => {
                let thing = ids.purchases.last().cloned().unwrap();
                stage.bind(person, &thing).await?;
                stage.listen().await?;
            }
            "refresh" => stage.refresh(person).await?,
            "days" => stage.advance(TimeDelta::days(number)).await?,
            "hours" => stage.advance(TimeDelta::hours(number)).await?,
            "seconds" => stage.advance(TimeDelta::seconds(number)).await?,
            "lost" => stage.weather.drop_percent = number.unsigned_abs(),
            "away" => stage.go_away(Store::GooglePlay, TimeDelta::hours(number)),
            "stale" => {
                let answers = u32::try_from(number).unwrap();
                stage.sandbox.sin_next_calls(None, CallSin::Stale, answers);
            }
            "compare" => {
                oracle::compare(&stage, said == "all")?;
            }
            other => panic!("no step is called {other}"),
        }
        watch.look(&stage)?;
        stage.books.broken()?;
    }
    run::end(&mut stage, &mut watch).await.map(|_| ())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[test]
fn every_planted_bug_of_the_core_is_found() {
    let mut missed = Vec::new();
    for bug in of_the_core() {
        let finds: Vec<&Find> = FINDS.iter().filter(|find| find.bug == bug).collect();
        assert!(!finds.is_empty(), "nothing looks for {bug:?}");
        for find in finds {
            match told(&find.by, Some(bug)) {
                Err(what) if first_line(&what).contains(find.says) => {
                    println!("{bug:?}: {}", first_line(&what));
                }
                Err(what) => missed.push(format!("{bug:?} is found for another reason: {what}")),
                Ok(()) => missed.push(format!("{bug:?} is not found")),
            }
            // Every order of the stories is told without any bug by a test of its own.
            if let By::Life(..) = find.by
                && let Err(what) = told(&find.by, None)
            {
                missed.push(format!("without {bug:?}: {what}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
