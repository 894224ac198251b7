//! From the configuration's words to the core's.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use crate::config::app_store::AppStoreEnvironment;
use crate::config::hints::HintsConfig;
use crate::config::refund_defence::{
    RefundDefenceConfig, RefundPreference, RefundProductKind, RefundRule,
};
use crate::config::retention::RetentionConfig;
use crate::config::{AccessConfig, Config, WorkerConfig};
use crate::domain::catalog::ProductKind;
use crate::domain::gift::GiftRules;
use crate::domain::provider::Environment;
use crate::domain::reconcile::Policy;
use crate::domain::refund_defence::{DefencePolicy, DefenceRule, Preference};
use crate::domain::subscription::state::Leniency;
use crate::flows::retain::Retention;
use crate::flows::{Healing, Settings, Tuning};
use crate::storage::Db;
use crate::watch::{HintBus, NatsBus, NatsOptions, PostgresBus};

/// Thousandths of a percent in a percent.
const MILLI: u32 = 1_000;

pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        policy: policy(config.access),
        tuning: tuning(config.worker),
        defence: defence(&config.refund_defence),
        healing: healing(config),
        retention: retention(config.retention),
        gifts: GiftRules {
            must_end: config.support.grants_end,
            longest: config
                .support
                .grant_days_max
                .map(|days| TimeDelta::days(days.into())),
        },
        account_calls_per_minute: config.limits.account_calls_per_minute,
    }
}

/// What carries hints between this replica and the others.
pub(crate) fn hint_bus(config: &HintsConfig, db: &Db) -> Arc<dyn HintBus> {
    match &config.nats {
        None => Arc::new(PostgresBus(db.clone())),
        Some(nats) => Arc::new(NatsBus::new(NatsOptions {
            servers: nats.servers.clone(),
            subject: nats.subject.clone(),
            user: nats.user.clone().zip(nats.password.clone()),
            token: nats.token.clone(),
            authorities: nats.authorities.clone(),
            identity: nats.certificate.clone().zip(nats.key.clone()),
        })),
    }
}

fn policy(access: AccessConfig) -> Policy {
    Policy {
        leniency: Leniency {
            renewal: TimeDelta::minutes(access.renewal_leniency_minutes.into()),
            outage: TimeDelta::hours(access.outage_leniency_hours.into()),
            ..Leniency::default()
        },
        recheck_max: TimeDelta::hours(access.recheck_max_hours.into()),
    }
}

fn tuning(worker: WorkerConfig) -> Tuning {
    Tuning {
        lease: Duration::from_secs(worker.lease_seconds.into()),
        backoff_max: Duration::from_secs(worker.backoff_max_seconds.into()),
        app_store_calls_per_second: worker.app_store_calls_per_second.into(),
        google_play_calls_per_second: worker.google_play_calls_per_second.into(),
        catalog_accounts_per_second: worker.catalog_accounts_per_second.into(),
        ..Tuning::default()
    }
}

/// What Google's list or Apple's history may tell late.
const VOIDED_OVERLAP: TimeDelta = TimeDelta::hours(6);
const HISTORY_OVERLAP: TimeDelta = TimeDelta::hours(24);

fn healing(config: &Config) -> Healing {
    let app_store = config.app_store.as_ref();
    let environments = app_store.map(|store| store.environments.as_slice());
    let environments = environments.unwrap_or_default().iter();
    let google_push = config.google_play.as_ref().and_then(|g| g.push.as_ref());
    let sources = [
        app_store.map(|_| "app_store"),
        google_push.map(|_| "google_play"),
        config.superwall.as_ref().map(|_| "superwall"),
    ];
    let settings = config.healing;
    Healing {
        voided_every: TimeDelta::minutes(settings.voided_every_minutes.into()),
        voided_overlap: VOIDED_OVERLAP,
        history_every: TimeDelta::minutes(settings.history_every_minutes.into()),
        history_overlap: HISTORY_OVERLAP,
        app_store_environments: environments
            .map(|environment| match environment {
                AppStoreEnvironment::Production => Environment::Production,
                AppStoreEnvironment::Sandbox => Environment::Sandbox,
            })
            .collect(),
        outage_after: Duration::from_secs(settings.outage_after_seconds.into()),
        sources: sources.into_iter().flatten().collect(),
        silence_expected_min: settings.silence_expected_min.into(),
    }
}

fn retention(config: RetentionConfig) -> Retention {
    let days = |days: u32| (days > 0).then(|| TimeDelta::days(days.into()));
    Retention {
        notifications: days(config.notifications_days),
        open_notifications: days(config.open_notifications_days),
        ingress_keys: days(config.ingress_keys_days),
        store_answers: days(config.store_answers_days),
        snapshot_history: days(config.snapshot_history_days),
        source_activity: days(config.source_activity_days),
        claims: days(config.claims_days),
        duties: days(config.duties_days),
        anonymous_accounts: days(config.anonymous_accounts_days),
        batch_rows: config.batch_rows.into(),
        pause: Duration::from_millis(config.pause_milliseconds.into()),
    }
}

fn defence(config: &RefundDefenceConfig) -> DefencePolicy {
    DefencePolicy {
        enabled: config.enabled,
        wait_for_consumption: TimeDelta::minutes(config.wait_for_consumption_minutes.into()),
        sample_content_provided: config.sample_content_provided,
        preference: preference(config.preference),
        rules: config.rules.iter().map(rule).collect(),
    }
}

fn rule(rule: &RefundRule) -> DefenceRule {
    DefenceRule {
        products: rule.products.clone(),
        kind: rule.kind.map(|kind| match kind {
            RefundProductKind::Subscription => ProductKind::Subscription,
            RefundProductKind::NonRenewing => ProductKind::NonRenewing,
            RefundProductKind::NonConsumable => ProductKind::NonConsumable,
            RefundProductKind::Consumable => ProductKind::Consumable,
        }),
        used_millipercent_min: rule
            .used_percent_min
            .map(|percent| u32::from(percent) * MILLI),
        preference: preference(rule.preference),
    }
}

fn preference(preference: RefundPreference) -> Preference {
    match preference {
        RefundPreference::Neutral => Preference::Neutral,
        RefundPreference::Decline => Preference::Decline,
        RefundPreference::GrantFull => Preference::GrantFull,
        RefundPreference::GrantProrated => Preference::GrantProrated,
    }
}
