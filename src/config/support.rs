//! What operators may give away.

use serde::Deserialize;

/// Longer is for ever by another name.
const GRANT_DAYS_MAX: u32 = 3_660;

/// `[support]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupportConfig {
    /// Whether every gift needs an end; default false.
    pub grants_end: bool,
    /// Days that a gift lasts at most; then every gift needs an end. Default: no limit.
    pub grant_days_max: Option<u32>,
}

impl SupportConfig {
    /// What is wrong with the section, a sentence each; empty if nothing is.
    pub fn validate(&self) -> Vec<String> {
        let wrong = |days: u32| !(1..=GRANT_DAYS_MAX).contains(&days);
        let problem = self.grant_days_max.filter(|days| wrong(*days)).map(|days| {
            format!("support.grant_days_max is {days}; give 1 to {GRANT_DAYS_MAX}, or leave it out")
        });
        problem.into_iter().collect()
    }
}
