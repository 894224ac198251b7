//! Looking at a store for what was not delivered: which stretch of time is looked at next.
//!
//! Pure: where a walk stands, what somebody asked for, and the rule of its store give the next run.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::provider::{Environment, Provider};
use super::time::Instant;

/// A little less than a store's reach: its clock and ours differ.
const REACH_MARGIN: TimeDelta = TimeDelta::hours(1);

/// Why a stretch is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// It is time.
    Routine,
    /// We could not be reached, or heard nothing for too long.
    Outage,
    /// The database has gone back in time.
    Restore,
    /// Somebody asked for it.
    Operator,
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Routine => "routine",
            Self::Outage => "outage",
            Self::Restore => "restore",
            Self::Operator => "operator",
        }
    }
}

/// A stretch that somebody wants looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) since: Instant,
    /// Apple: only what never reached us by its own account; not enough after a restore, which
    /// forgets what did.
    pub(crate) only_failures: bool,
    pub(crate) why: Why,
}

impl Ask {
    /// One ask for both: the longer stretch, the wider filter.
    pub(crate) fn join(self, other: Self) -> Self {
        Self {
            since: self.since.min(other.since),
            only_failures: self.only_failures && other.only_failures,
            why: if self.only_failures {
                other.why
            } else {
                self.why
            },
        }
    }
}

/// A walk over one stretch, page by page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) since: Instant,
    pub(crate) until: Instant,
    pub(crate) only_failures: bool,
    pub(crate) why: Why,
    /// Where the store said to go on.
    #[serde(default)]
    pub(crate) page: Option<String>,
    pub(crate) pages: u64,
    /// What the store told, and how much of it was new to us.
    pub(crate) found: u64,
    pub(crate) recovered: u64,
}

/// Where the walk of one subject stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Routine has looked at everything before.
    #[serde(default)]
    pub(crate) covered_until: Option<Instant>,
    #[serde(default)]
    pub(crate) run: Option<Run>,
    #[serde(default)]
    pub(crate) last: Option<Run>,
}

/// How a store is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) every: TimeDelta,
    /// What the last run may have come too early for.
    pub(crate) overlap: TimeDelta,
    /// How far back the store tells.
    pub(crate) reach: TimeDelta,
}

/// Apple keeps 180 days of notifications in production and 30 in sandbox; Google 30 days of voided
/// purchases.
pub(crate) fn reach(provider: Provider, environment: Environment) -> TimeDelta {
    match (provider, environment) {
        (Provider::AppStore, Environment::Production) => TimeDelta::days(180),
        (Provider::AppStore, Environment::Sandbox) | (Provider::GooglePlay, _) => {
            TimeDelta::days(30)
        }
    }
}

impl Progress {
    /// The run to go on with: the one under way, else what was asked for, else routine.
    pub(crate) fn next(&self, asked: Option<Ask>, rule: Rule, now: Instant) -> Option<Run> {
        let earliest = now - rule.reach + REACH_MARGIN;
        if let Some(run) = &self.run {
            let mut run = run.clone();
            // Begun anew after a long stop: what the store does not tell any more is not asked for.
            if run.page.is_none() && run.since < earliest {
                run.since = earliest;
                run.until = now;
            }
            return Some(run);
        }
        let begin = |since: Instant, only_failures, why| Run {
            since: since.max(earliest),
            until: now,
            only_failures,
            why,
            page: None,
            pages: 0,
            found: 0,
            recovered: 0,
        };
        if let Some(ask) = asked {
            return Some(begin(ask.since, ask.only_failures, ask.why));
        }
        match self.covered_until {
            None => Some(begin(earliest, true, Why::Routine)),
            Some(covered) if now - covered >= rule.every => {
                Some(begin(covered - rule.overlap, true, Why::Routine))
            }
            Some(_) => None,
        }
    }

    /// Takes a page into account.
    pub(crate) fn advance(
        &mut self,
        mut run: Run,
        found: u64,
        recovered: u64,
        next: Option<String>,
    ) {
        run.pages += 1;
        run.found += found;
        run.recovered += recovered;
        run.page = next;
        if run.page.is_some() {
            self.run = Some(run);
            return;
        }
        // Whatever began before the end of what is covered covers up to its own end. Routine begins
        // there, or as far back as the store tells: what is older is not to be had any more.
        let joins = self
            .covered_until
            .is_none_or(|covered| run.since <= covered);
        if joins || run.why == Why::Routine {
            self.covered_until = self.covered_until.max(Some(run.until));
        }
        self.run = None;
        self.last = Some(run);
    }

    /// The store refuses the page: the stretch is begun anew.
    pub(crate) fn begin_anew(&mut self, mut run: Run) {
        run.page = None;
        self.run = Some(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        every: TimeDelta::hours(6),
        overlap: TimeDelta::hours(24),
        reach: TimeDelta::days(180),
    };

    fn at(hours: i64) -> Instant {
        "2027-01-10T09:00:00Z".parse::<Instant>().unwrap() + TimeDelta::hours(hours)
    }

    fn stretch(run: &Run) -> (Instant, Instant, bool, Why) {
        (run.since, run.until, run.only_failures, run.why)
    }

    #[test]
    fn routine_covers_time_without_gaps_and_an_ask_comes_first() {
        let mut walk = Progress::default();
        let first = walk.next(None, RULE, at(0)).unwrap();
        assert_eq!(first.since, at(1) - RULE.reach, "as far as the store tells");
        walk.advance(first, 0, 0, None);
        assert_eq!(walk.next(None, RULE, at(5)), None, "not yet");
        let second = walk.next(None, RULE, at(6)).unwrap();
        assert_eq!(stretch(&second), (at(-24), at(6), true, Why::Routine));

        let ask = Ask {
            since: at(-2_000),
            only_failures: false,
            why: Why::Restore,
        };
        let asked = walk.next(Some(ask), RULE, at(6)).unwrap();
        assert_eq!(stretch(&asked), (at(-2_000), at(6), false, Why::Restore));
        walk.advance(asked, 20, 3, Some("page 2".into()));
        let resumed = walk.next(None, RULE, at(40)).unwrap();
        assert_eq!(resumed.page.as_deref(), Some("page 2"));
        assert_eq!(resumed.until, at(6), "a page belongs to its stretch");
        walk.advance(resumed, 5, 0, None);
        assert_eq!(walk.covered_until, Some(at(6)));
        let last = walk.last.clone().unwrap();
        assert_eq!((last.pages, last.found, last.recovered), (2, 25, 3));
    }

    #[test]
    fn a_stretch_that_leaves_a_gap_covers_nothing() {
        let mut walk = Progress {
            covered_until: Some(at(0)),
            ..Progress::default()
        };
        let ask = Ask {
            since: at(50),
            only_failures: true,
            why: Why::Operator,
        };
        let run = walk.next(Some(ask), RULE, at(60)).unwrap();
        walk.advance(run, 0, 0, None);
        assert_eq!(walk.covered_until, Some(at(0)));
        assert!(
            walk.next(None, RULE, at(60)).is_some(),
            "routine goes on from there"
        );
    }

    #[test]
    fn what_a_store_does_not_tell_any_more_is_not_asked_for_for_ever() {
        let mut walk = Progress {
            covered_until: Some(at(0)),
            ..Progress::default()
        };
        let now = at(24 * 200);
        let late = walk.next(None, RULE, now).unwrap();
        assert!(late.since > at(0), "the store tells 180 days");
        walk.advance(late, 0, 0, None);
        assert_eq!(walk.covered_until, Some(now));
        assert_eq!(walk.next(None, RULE, now), None);
    }

    #[test]
    fn asks_join_to_the_wider_one() {
        let outage = Ask {
            since: at(5),
            only_failures: true,
            why: Why::Outage,
        };
        let restore = Ask {
            since: at(7),
            only_failures: false,
            why: Why::Restore,
        };
        for joined in [outage.join(restore), restore.join(outage)] {
            assert_eq!(
                joined,
                Ask {
                    since: at(5),
                    only_failures: false,
                    why: Why::Restore
                }
            );
        }
    }

    #[test]
    fn a_run_begun_anew_after_a_long_stop_asks_for_what_the_store_still_tells() {
        let mut walk = Progress::default();
        let mut run = walk.next(None, RULE, at(0)).unwrap();
        run.page = Some("page 2".to_owned());
        walk.begin_anew(run.clone());
        let soon = walk.next(None, RULE, at(0)).unwrap();
        assert_eq!((soon.since, soon.until), (run.since, run.until));
        let later = at(24 * 30);
        let again = walk.next(None, RULE, later).unwrap();
        assert_eq!(again.since, later - RULE.reach + REACH_MARGIN);
        assert_eq!(again.until, later);
        // A page in the middle is asked for as it was begun.
        walk.run = Some(run.clone());
        assert_eq!(walk.next(None, RULE, later).unwrap().since, run.since);
    }
}
