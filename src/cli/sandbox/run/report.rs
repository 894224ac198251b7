//! What a run prints: a line per scenario, a table of what differs, the totals.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};

use super::play::Played;
use crate::sandbox::scenario::{Comparison, Scenario, Verdict};

/// Columns that every line fits into.
const WIDTH: u16 = 110;

/// How a scenario went.
pub(super) struct Result<'a> {
    pub(super) file: &'a str,
    pub(super) title: &'a str,
    /// With it the run can be repeated.
    pub(super) seed: u64,
    pub(super) played: anyhow::Result<Played>,
}

impl<'a> Result<'a> {
    pub(super) fn new(
        file: &'a str,
        scenario: &'a Scenario,
        played: anyhow::Result<Played>,
    ) -> Self {
        let title = scenario.title.as_str();
        Self {
            file,
            title,
            seed: scenario.seed,
            played,
        }
    }

    pub(super) fn is_ok(&self) -> bool {
        let played = self.played.as_ref();
        played.is_ok_and(|played| played.failures().next().is_none())
    }

    /// One line, and if something differs, what.
    pub(super) fn in_words(&self) -> String {
        let played = match &self.played {
            Ok(played) => played,
            Err(error) => {
                return format!(
                    "FAILED  {}: {} (seed {})\n        {error:#}",
                    self.file, self.title, self.seed
                );
            }
        };
        let failures: Vec<&Comparison> = played.failures().collect();
        let compared = format!(
            "{} compared, {} notifications, {:.1} s",
            played.comparisons.len(),
            played.notifications,
            played.took.as_secs_f64()
        );
        let gaps = match played.gaps() {
            0 => String::new(),
            gaps => format!(", {gaps} expected gaps"),
        };
        match failures.is_empty() {
            true => format!("ok      {}: {} ({compared}{gaps})", self.file, self.title),
            false => format!(
                "DIFFERS {}: {} (seed {}, {compared}{gaps})\n{}",
                self.file,
                self.title,
                self.seed,
                differences(&failures)
            ),
        }
    }

    pub(super) fn as_json(&self) -> Value {
        let (error, played) = match &self.played {
            Ok(played) => (None, Some(played)),
            Err(error) => (Some(format!("{error:#}")), None),
        };
        let comparisons = played.map(|played| played.comparisons.iter().map(comparison));
        json!({
            "file": self.file,
            "title": self.title,
            "seed": self.seed,
            "ok": self.is_ok(),
            "error": error,
            "compared": played.map(|played| played.comparisons.len()),
            "expected_gaps": played.map(Played::gaps),
            "notifications": played.map(|played| played.notifications),
            "seconds": played.map(|played| played.took.as_secs_f64()),
            "comparisons": comparisons.map(Iterator::collect::<Vec<_>>),
        })
    }
}

/// Everything that differs, side by side.
pub(super) fn differences(failures: &[&Comparison]) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header([
            "where", "account", "what", "expected", "truth", "server", "",
        ]);
    for failure in failures {
        let place = match (failure.line, &failure.step) {
            (0, _) => "the end".to_owned(),
            (line, None) => format!("line {line}"),
            (line, Some(step)) => format!("line {line}: {step}"),
        };
        table.add_row([
            place,
            failure.account.clone(),
            failure.entitlement.clone(),
            failure.expected.clone(),
            failure.truth.clone(),
            failure.told.clone(),
            meaning(&failure.verdict),
        ]);
    }
    table.to_string()
}

fn meaning(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Equal => "equal".to_owned(),
        Verdict::ServerDiffers => "the server differs".to_owned(),
        Verdict::ScenarioDiffers => "the stores differ from the scenario".to_owned(),
        Verdict::Gap { needs } => format!("gap: {needs}"),
        Verdict::GapClosed { needs } => {
            format!("no gap any more ({needs}): take it out of expected_gap")
        }
        Verdict::Behind => "not known to the server yet".to_owned(),
        Verdict::NotBehind => "said to be behind, and is not".to_owned(),
    }
}

fn comparison(compared: &Comparison) -> Value {
    json!({
        "line": compared.line,
        "step": compared.step,
        "account": compared.account,
        "what": compared.entitlement,
        "expected": compared.expected,
        "truth": compared.truth,
        "server": compared.told,
        "meaning": meaning(&compared.verdict),
        "failure": compared.verdict.is_failure(),
    })
}
