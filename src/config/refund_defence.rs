//! Refund defence: what a store is told when a customer asks it for money back.

use serde::Deserialize;

/// The `[refund_defence]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefundDefenceConfig {
    /// Whether stores are answered at all; default `true`. Apple is answered only with the
    /// customer's recorded consent.
    pub enabled: bool,
    /// How long an answer waits for what the app knows about use (`SetConsumption`); default 60,
    /// at most half the time that the store gives.
    pub wait_for_consumption_minutes: u32,
    /// Whether customers can try before they buy; default `false`.
    pub sample_content_provided: bool,
    /// What the store is asked to do where no rule says otherwise; default `neutral`.
    pub preference: RefundPreference,
    /// Other preferences, the first that fits: `[[refund_defence.rules]]`.
    pub rules: Vec<RefundRule>,
}

impl Default for RefundDefenceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            wait_for_consumption_minutes: 60,
            sample_content_provided: false,
            preference: RefundPreference::Neutral,
            rules: Vec::new(),
        }
    }
}

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundPreference {
    /// It decides.
    Neutral,
    /// Refuse.
    Decline,
    /// Give everything back.
    GrantFull,
    /// Give the unused rest back; Apple only, Google is told `NEUTRAL`.
    GrantProrated,
}

/// What is asked for some purchases. What is not given fits all.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundRule {
    /// Ids of the catalog.
    #[serde(default)]
    pub products: Vec<String>,
    /// Kind of product.
    #[serde(default)]
    pub kind: Option<RefundProductKind>,
    /// Fits only if the app has told that at least so much was used.
    #[serde(default)]
    pub used_percent_min: Option<u8>,
    /// What is asked.
    pub preference: RefundPreference,
}

/// Kinds of products, as the catalog names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundProductKind {
    /// Renews by itself.
    Subscription,
    /// Bought once, lasts for its period.
    NonRenewing,
    /// Bought once, lasts.
    NonConsumable,
    /// Bought by the piece, used up.
    Consumable,
}

impl RefundDefenceConfig {
    /// What is wrong with the section, a sentence each.
    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.wait_for_consumption_minutes > 12 * 60 {
            problems.push(
                "refund_defence.wait_for_consumption_minutes: at most 720; the stores wait no \
                 longer"
                    .to_owned(),
            );
        }
        for (number, rule) in self.rules.iter().enumerate() {
            if rule.used_percent_min.is_some_and(|percent| percent > 100) {
                problems.push(format!(
                    "refund_defence.rules[{number}].used_percent_min: at most 100"
                ));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_reads_and_contradictions_are_named() {
        let text = r#"
            preference = "decline"
            wait_for_consumption_minutes = 721
            [[rules]]
            kind = "consumable"
            used_percent_min = 101
            preference = "grant_prorated"
        "#;
        let config: RefundDefenceConfig = toml::from_str(text).unwrap();
        assert_eq!(config.rules[0].preference, RefundPreference::GrantProrated);
        let problems = config.validate();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(toml::from_str::<RefundDefenceConfig>("prefer = \"decline\"").is_err());
        assert_eq!(
            RefundDefenceConfig::default().validate(),
            Vec::<String>::new()
        );
    }
}
