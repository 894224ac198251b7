//! Short stories, told in every order: those that have gone wrong elsewhere first.

/// A story of a few signals. The buyer's app names its account to the store where it says so.
pub(super) struct Story {
    pub(super) name: &'static str,
    /// Steps as JSON: an action at a store in the simulator's own words, `days` or `minutes` that
    /// pass, `bind`, `stale`, `lost`.
    pub(super) steps: &'static str,
}

/// The account token of the first person.
macro_rules! named {
    () => {
        "acc00000-0000-4000-8000-000000000001"
    };
}

pub(super) const STORIES: &[Story] = &[
    Story {
        name: "an App Store renewal, and the refund of the period before it",
        steps: concat!(
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.basic.monthly",
                "app_account_token": ""#,
            named!(),
            r#""}}, {"bind": 1}, {"days": 35},
               {"apple": {"do": "refund", "transaction_id": "$transaction"}}]"#
        ),
    },
    Story {
        name: "an App Store renewal, then an answer of a minute ago",
        steps: concat!(
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.basic.monthly",
                "app_account_token": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"days": 30}, {"minutes": 1438}, {"minutes": 2}, {"stale": 1}]"#
        ),
    },
    Story {
        name: "App Store: the payment fails, grace, paid, cancelled",
        steps: concat!(
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.basic.monthly",
                "app_account_token": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"apple": {"do": "set_billing", "original_transaction_id": "$purchase", "billing": "fails"}},
               {"days": 33},
               {"apple": {"do": "set_billing", "original_transaction_id": "$purchase", "billing": "works"}},
               {"apple": {"do": "set_auto_renew", "original_transaction_id": "$purchase", "enabled": false}}]"#
        ),
    },
    Story {
        name: "App Store: in grace at the end",
        steps: concat!(
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.basic.monthly",
                "app_account_token": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"apple": {"do": "set_billing", "original_transaction_id": "$purchase", "billing": "fails"}},
               {"days": 33}]"#
        ),
    },
    Story {
        name: "App Store: an upgrade, and the refund of what it replaced",
        steps: concat!(
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.basic.monthly",
                "app_account_token": ""#,
            named!(),
            r#""}}, {"bind": 1}, {"days": 3},
               {"apple": {"do": "buy", "customer": "person-1", "product_id": "a.premium.monthly",
                "app_account_token": ""#,
            named!(),
            r#""}},
               {"apple": {"do": "refund", "transaction_id": "$transaction"}}]"#
        ),
    },
    Story {
        name: "App Store: bought for good, refunded, the refund taken back",
        steps: concat!(
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.forever",
                "app_account_token": ""#,
            named!(),
            r#""}}, {"bind": 1}, {"days": 3},
               {"apple": {"do": "refund", "transaction_id": "$transaction"}}, {"days": 3},
               {"apple": {"do": "reverse_refund", "transaction_id": "$transaction"}}]"#
        ),
    },
    Story {
        name: "App Store: cancelled, expired, bought again",
        steps: concat!(
            r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.news.weekly",
                "app_account_token": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"apple": {"do": "set_auto_renew", "original_transaction_id": "$purchase", "enabled": false}},
               {"days": 9}, {"minutes": 1},
               {"apple": {"do": "buy", "customer": "person-1", "product_id": "a.news.weekly",
                "app_account_token": ""#,
            named!(),
            r#""}}]"#
        ),
    },
    Story {
        name: "App Store: shown by an account that the store does not name",
        steps: r#"[{"apple": {"do": "buy", "customer": "person-1", "product_id": "a.news.weekly"}},
               {"bind": 1}, {"days": 8}]"#,
    },
    Story {
        name: "Google Play: renewed, cancelled, ended",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                "base_plan_id": "weekly", "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"days": 8}, {"google": {"do": "cancel", "purchase_token": "$purchase"}}, {"days": 8}]"#
        ),
    },
    Story {
        name: "Google Play: another plan at once, whose predecessor's end comes late",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.basic",
                "base_plan_id": "monthly", "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"days": 3},
               {"google": {"do": "buy", "customer": "person-1", "product_id": "g.pro",
                "base_plan_id": "monthly", "obfuscated_account_id": ""#,
            named!(),
            r#"",
                "replaces": "$first", "replacement_mode": "without_proration"}}, {"bind": 1},
               {"minutes": 5}]"#
        ),
    },
    Story {
        name: "Google Play: an older order refunded while a newer one is paid for",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                "base_plan_id": "weekly", "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"days": 8}, {"google": {"do": "refund", "purchase_token": "$purchase",
                "order_id": "$transaction", "revoke": false}}]"#
        ),
    },
    Story {
        name: "Google Play: refunded and revoked",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.basic",
                "base_plan_id": "monthly", "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"days": 2}, {"google": {"do": "refund", "purchase_token": "$purchase"}}]"#
        ),
    },
    Story {
        name: "Google Play: a renewal, then an answer of a minute ago",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                "base_plan_id": "weekly", "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"days": 7}, {"stale": 1}]"#
        ),
    },
    Story {
        name: "Google Play: grace, hold, paid",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.basic",
                "base_plan_id": "monthly", "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"google": {"do": "set_billing", "purchase_token": "$purchase", "billing": "fails"}},
               {"days": 45},
               {"google": {"do": "set_billing", "purchase_token": "$purchase", "billing": "works"}}]"#
        ),
    },
    Story {
        name: "Google Play: paid in cash a day later",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.forever",
                "pending": true, "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1}, {"days": 1}, {"minutes": 1},
               {"google": {"do": "settle_pending", "purchase_token": "$purchase", "paid": true}}]"#
        ),
    },
    Story {
        name: "Google Play: not paid yet",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.forever",
                "pending": true, "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1}]"#
        ),
    },
    Story {
        name: "Google Play: paused and resumed",
        steps: concat!(
            r#"[{"google": {"do": "buy", "customer": "person-1", "product_id": "g.strict",
                "base_plan_id": "weekly", "obfuscated_account_id": ""#,
            named!(),
            r#""}}, {"bind": 1},
               {"google": {"do": "pause", "purchase_token": "$purchase", "period": "P2W"}},
               {"days": 8}, {"google": {"do": "resume", "purchase_token": "$purchase"}}]"#
        ),
    },
];
