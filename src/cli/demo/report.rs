//! What the demo found out: each step's outcome, the measured moments, the promises it showed.

use std::time::SystemTime;

use serde::Serialize;

use super::device::Told;
use crate::storage::timeline::Entry;

/// The bar for the median from a notification's 200 to both devices told.
pub(super) const GOAL_MS: f64 = 50.0;

/// What the system promises, in short; the numbers are those of the documents and the tests.
const PROMISES: [(&str, &str); 10] = [
    (
        "I1",
        "proof first: nothing opens without a purchase that its store confirms",
    ),
    (
        "I2",
        "an acknowledged notification counts, once, however often it comes",
    ),
    (
        "I3",
        "the end is the store's truth, whatever the order, delay or loss",
    ),
    ("I4", "a purchase has one owner"),
    ("I5", "everything leaves a trace, with its reason"),
    ("I6", "revisions only rise: nobody is shown an older state"),
    (
        "I7",
        "whoever watches, or comes back, ends on the latest state",
    ),
    ("I8", "access ends at its time, even if nobody says a word"),
    ("I9", "what is unknown opens nothing"),
    (
        "I10",
        "deciding again from what was stored gives the same state",
    ),
];

/// What a step is called, and what it is about, for people.
pub(super) struct Words {
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    /// Numbers of the promises that it shows.
    pub(super) promises: &'static [usize],
}

/// What a step showed.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) seen: Vec<String>,
    pub(super) measured: Option<Measured>,
    pub(super) timeline: Vec<Entry>,
}

impl Shown {
    pub(super) fn lines<const N: usize>(seen: [String; N]) -> Self {
        Self {
            seen: seen.into(),
            ..Self::default()
        }
    }
}

/// A step that did not do what it should.
#[derive(Debug, Serialize)]
pub(super) struct Miss {
    pub(super) expected: String,
    pub(super) seen: String,
    pub(super) next: String,
}

impl Miss {
    pub(super) fn new(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        let next = "look at the server's own words: RUST_LOG=info entitled demo".to_owned();
        Self {
            expected: expected.into(),
            seen: seen.into(),
            next,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Miss {
    fn from(error: E) -> Self {
        Self::new("an answer", format!("{:#}", error.into()))
    }
}

/// From where the way to the devices is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    Notification,
    Bind,
    Clock,
}

/// How long it took until each device knew.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) event: String,
    pub(super) from: Origin,
    pub(super) phone_ms: f64,
    pub(super) tablet_ms: f64,
}

impl Measured {
    pub(super) fn new(
        event: impl Into<String>,
        from: Origin,
        began: SystemTime,
        told: &[Told; 2],
    ) -> Self {
        let [phone_ms, tablet_ms] = [&told[0], &told[1]].map(|told| millis(began, told.at));
        Self {
            event: event.into(),
            from,
            phone_ms,
            tablet_ms,
        }
    }

    /// Until the slower of the two knew.
    pub(super) fn both_ms(&self) -> f64 {
        self.phone_ms.max(self.tablet_ms)
    }
}

/// 0 where the device knew before the sender had read its answer.
fn millis(began: SystemTime, at: SystemTime) -> f64 {
    let micros = at.duration_since(began).unwrap_or_default().as_micros();
    u32::try_from(micros).map_or(f64::INFINITY, f64::from) / 1_000.0
}

/// Everything that the steps came to.
#[derive(Default)]
pub(super) struct Report {
    pub(super) steps_passed: usize,
    pub(super) failed: bool,
    pub(super) measured: Vec<Measured>,
    /// By promise, the steps that showed it.
    shown: [Vec<usize>; PROMISES.len()],
}

/// A promise and where it was shown.
#[derive(Serialize)]
pub(super) struct Promise<'a> {
    pub(super) number: &'static str,
    pub(super) promise: &'static str,
    pub(super) steps: &'a [usize],
}

impl Report {
    pub(super) fn pass(&mut self, step: usize, words: &Words, shown: &Shown) {
        self.steps_passed += 1;
        self.measured.extend(shown.measured.clone());
        for number in words.promises {
            if let Some(steps) = self.shown.get_mut(number.wrapping_sub(1)) {
                steps.push(step);
            }
        }
    }

    /// Milliseconds from a notification's 200 to both devices; `None` before any was measured.
    pub(super) fn median_ms(&self) -> Option<f64> {
        let mut all: Vec<f64> = self
            .measured
            .iter()
            .filter(|measured| measured.from == Origin::Notification)
            .map(Measured::both_ms)
            .collect();
        all.sort_by(f64::total_cmp);
        let upper = all.len() / 2;
        let lower = all.len().checked_sub(1)? / 2;
        Some((all.get(lower)? + all.get(upper)?) / 2.0)
    }

    /// The promises that were shown, in their order.
    pub(super) fn promises(&self) -> Vec<Promise<'_>> {
        let all = PROMISES.iter().zip(&self.shown);
        all.filter(|(_, steps)| !steps.is_empty())
            .map(|((number, promise), steps)| Promise {
                number,
                promise,
                steps,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts_notifications_and_the_slower_device() {
        let measured = |from, phone_ms, tablet_ms| Measured {
            event: String::new(),
            from,
            phone_ms,
            tablet_ms,
        };
        let mut report = Report::default();
        assert_eq!(report.median_ms(), None);
        report.measured = vec![
            measured(Origin::Notification, 9.0, 1.0),
            measured(Origin::Bind, 500.0, 500.0),
            measured(Origin::Notification, 2.0, 3.0),
        ];
        assert_eq!(report.median_ms(), Some(6.0));
    }
}
