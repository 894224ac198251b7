//! Retention: how long what is no longer needed is kept. Events, transactions and credits stay.

use serde::Deserialize;

/// Apple's notification history reaches back 180 days: what it tells again must still be known.
const REDELIVERED_DAYS_MAX: u32 = 190;
/// Dead sessions, by which unused accounts are found, are kept a month longer.
const ANONYMOUS_ACCOUNTS_DAYS_MAX: u32 = 365;

/// The `[retention]` table. Days; 0 keeps for ever.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Raw notifications that were processed or ignored; default 90.
    pub notifications_days: u32,
    /// Raw notifications that failed or still wait for their purchase; default 400.
    pub open_notifications_days: u32,
    /// The stores' event ids, by which repetitions are known; default 400, at least 190.
    pub ingress_keys_days: u32,
    /// The stores' answers as they came, but for the newest of each purchase; default 400.
    pub store_answers_days: u32,
    /// Past revisions of accounts, but for the one that held at that time; default 400.
    pub snapshot_history_days: u32,
    /// Counts of notifications by the hour; default 90.
    pub source_activity_days: u32,
    /// Claims that have been decided; default 400.
    pub claims_days: u32,
    /// Acknowledgements that have been made; default 400.
    pub duties_days: u32,
    /// Accounts without a sign-in that have come to nothing, counted from the end of their session;
    /// default 90, at most 365.
    pub anonymous_accounts_days: u32,
    /// Rows deleted in one transaction; default 1000.
    pub batch_rows: u32,
    /// Pause between two of them; default 200.
    pub pause_milliseconds: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            notifications_days: 90,
            open_notifications_days: 400,
            ingress_keys_days: 400,
            store_answers_days: 400,
            snapshot_history_days: 400,
            source_activity_days: 90,
            claims_days: 400,
            duties_days: 400,
            anonymous_accounts_days: 90,
            batch_rows: 1_000,
            pause_milliseconds: 200,
        }
    }
}

impl RetentionConfig {
    /// What is wrong with the section, a sentence each.
    pub(super) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.ingress_keys_days != 0 && self.ingress_keys_days < REDELIVERED_DAYS_MAX {
            problems.push(format!(
                "retention.ingress_keys_days: at least {REDELIVERED_DAYS_MAX}; stores repeat what \
                 is younger"
            ));
        }
        if self.source_activity_days != 0 && self.source_activity_days < 15 {
            problems.push(
                "retention.source_activity_days: at least 15; what is usual is learned from 14"
                    .to_owned(),
            );
        }
        if self.anonymous_accounts_days > ANONYMOUS_ACCOUNTS_DAYS_MAX {
            problems.push(format!(
                "retention.anonymous_accounts_days: at most {ANONYMOUS_ACCOUNTS_DAYS_MAX}; sessions \
                 are not kept longer"
            ));
        }
        if self.batch_rows == 0 {
            problems.push("retention.batch_rows starts at 1".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_outlive_every_repetition() {
        assert_eq!(RetentionConfig::default().validate(), Vec::<String>::new());
        let short = RetentionConfig {
            ingress_keys_days: 30,
            source_activity_days: 3,
            anonymous_accounts_days: 366,
            batch_rows: 0,
            ..RetentionConfig::default()
        };
        assert_eq!(short.validate().len(), 4);
        let for_ever = RetentionConfig {
            ingress_keys_days: 0,
            ..RetentionConfig::default()
        };
        assert_eq!(for_ever.validate(), Vec::<String>::new());
    }
}
