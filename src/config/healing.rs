//! Self-healing: how often stores are looked at for what was not delivered, and when a source
//! counts as silent.

use serde::Deserialize;

/// The `[healing]` table.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealingConfig {
    /// How often Google's voided purchases are looked at; default 60. Google allows 6,000 calls a
    /// day.
    pub voided_every_minutes: u32,
    /// How often Apple's notification history is looked at for what never reached us; default 360.
    pub history_every_minutes: u32,
    /// Without a sign of life of the webhook listener for so long, the stores are asked what they
    /// told meanwhile; default 300. Machine time.
    pub outage_after_seconds: u32,
    /// A source is silent once so many notifications should have come since the last one, as a rule
    /// of the last 14 days; default 20.
    pub silence_expected_min: u32,
}

impl Default for HealingConfig {
    fn default() -> Self {
        Self {
            voided_every_minutes: 60,
            history_every_minutes: 360,
            outage_after_seconds: 300,
            silence_expected_min: 20,
        }
    }
}

impl HealingConfig {
    /// What is wrong with the section, a sentence each.
    pub(super) fn validate(&self) -> Vec<String> {
        let ranges = [
            (
                "voided_every_minutes",
                self.voided_every_minutes,
                5..=7 * 24 * 60,
            ),
            (
                "history_every_minutes",
                self.history_every_minutes,
                5..=7 * 24 * 60,
            ),
            (
                "outage_after_seconds",
                self.outage_after_seconds,
                1..=86_400,
            ),
            (
                "silence_expected_min",
                self.silence_expected_min,
                5..=1_000_000,
            ),
        ];
        let outside = ranges
            .into_iter()
            .filter(|(_, value, range)| !range.contains(value));
        outside
            .map(|(name, value, range)| {
                let (least, most) = (range.start(), range.end());
                format!("healing.{name} is {value}; give {least} to {most}")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(HealingConfig::default().validate(), Vec::<String>::new());
        let hasty = HealingConfig {
            voided_every_minutes: 1,
            silence_expected_min: 0,
            ..HealingConfig::default()
        };
        let problems = hasty.validate();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("voided_every_minutes is 1; give 5"));
    }
}
