//! The App Store's steps: app, products, key, notifications, the first purchase.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::{Finding, HEARD_LATELY, Health, Sold, ago, first_purchase, look, slow_step, tests_of};
use crate::domain::guide::Step;
use crate::domain::provider::{Environment, Provider};
use crate::flows::Core;
use crate::flows::sweep::{self, Target};
use crate::providers::app_store::{AppStore, TestOutcome, TestRequest};
use crate::providers::contract::{FetchError, SweepRequest};
use crate::storage::{StorageError, diagnosis};

/// The newest stretch of time is asked for: enough to see whether the store lets us ask.
const PROBE: TimeDelta = TimeDelta::minutes(10);
/// A test notification takes seconds.
const TEST_PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often Apple is asked what became of it: once a second is allowed.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Every step, as far as the App Store is wanted at all.
pub(super) async fn examine(core: &Core, sold: &Sold) -> Result<Vec<Finding>, StorageError> {
    let Some(app) = app(core) else {
        return Ok(Vec::new());
    };
    let mut findings = vec![app, products(core)];
    let Some(store) = &core.stores.app_store else {
        findings.push(Finding::of(
            Step::APPLE_KEY,
            Health::Warn,
            "no [app_store]: App Store purchases are refused",
            "make an In-App Purchase key and name it in [app_store]; `entitled setup apple` says where",
        ));
        return Ok(findings);
    };
    let targets = targets(core);
    let answers = futures::future::join_all(targets.iter().map(|target| ask(core, target))).await;
    let accepted: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    for (target, answer) in targets.iter().zip(answers) {
        let in_sandbox = targets.iter().zip(&accepted).any(|(other, accepted)| {
            *accepted && other.app.id == target.app.id && other.environment == Environment::Sandbox
        });
        findings.push(key(target, answer, in_sandbox));
    }
    let reached: Vec<&Target> = targets
        .iter()
        .zip(&accepted)
        .filter_map(|(target, accepted)| accepted.then_some(target))
        .collect();
    let heard = notifications(core, store, &reached);
    findings.extend(look(slow_step(Step::APPLE_NOTIFICATIONS), heard).await?);
    findings.push(first_purchase(
        sold,
        Step::APPLE_PURCHASE,
        Provider::AppStore,
    ));
    Ok(findings)
}

fn targets(core: &Core) -> Vec<Target> {
    let mut targets = sweep::targets(core);
    targets.retain(|target| target.provider == Provider::AppStore);
    targets
}

/// `None`: neither catalog nor configuration has anything to do with the App Store.
fn app(core: &Core) -> Option<Finding> {
    let catalog = core.catalog.load();
    let apps: Vec<_> = catalog
        .apps()
        .iter()
        .filter_map(|app| Some((app.bundle_id.as_deref()?, app.app_apple_id)))
        .collect();
    if apps.is_empty() {
        return core.stores.app_store.as_ref().map(|_| {
            Finding::of(
                Step::APPLE_APP,
                Health::Fail,
                "no app of the catalog has a bundle_id, so every App Store purchase is refused",
                "add bundle_id and app_apple_id to [[apps]] of the catalog, and apply it",
            )
        });
    }
    let told: Vec<String> = apps
        .iter()
        .map(|(bundle, id)| match id {
            Some(id) => format!("{bundle} ({id})"),
            None => format!("{bundle} (no app_apple_id)"),
        })
        .collect();
    let complete = apps.iter().all(|(_, id)| id.is_some());
    let health = if complete { Health::Ok } else { Health::Warn };
    Some(Finding::of(
        Step::APPLE_APP,
        health,
        told.join(", "),
        "add app_apple_id (App Information → Apple ID): production purchases need it",
    ))
}

fn products(core: &Core) -> Finding {
    let catalog = core.catalog.load();
    let count = catalog
        .products()
        .filter(|(_, product)| product.app_store.is_some())
        .count();
    match count {
        0 => Finding::of(
            Step::APPLE_PRODUCTS,
            Health::Warn,
            "no product of the catalog names app_store",
            "name the App Store's products in the catalog",
        ),
        count => Finding::of(
            Step::APPLE_PRODUCTS,
            Health::Ok,
            format!("{count} in the catalog; Apple's server API has no list to compare with"),
            "",
        ),
    }
}

/// Asks Apple something harmless with our key.
async fn ask(core: &Core, target: &Target) -> Result<(), FetchError> {
    let now = core.clock.now();
    let request = SweepRequest {
        app: &target.app,
        environment: target.environment,
        since: now - PROBE,
        until: now,
        only_failures: true,
        cursor: None,
    };
    let call = core.stores.sweep(target.provider, request);
    match tokio::time::timeout(core.tuning.fetch_timeout, call).await {
        Ok(answered) => answered.map(drop),
        Err(_) => Err(FetchError::away("no answer in time")),
    }
}

fn key(target: &Target, answer: Result<(), FetchError>, in_sandbox: bool) -> Finding {
    let bundle = target.app.bundle_id.as_deref().unwrap_or_default();
    let whose = format!("{bundle}, {}", target.environment.as_str());
    let production = target.environment == Environment::Production;
    match answer {
        Ok(()) => {
            let found = format!("{whose}: Apple accepts the key");
            Finding::of(Step::APPLE_KEY, Health::Ok, found, "")
        }
        Err(error @ FetchError::Away { .. }) => Finding::of(
            Step::APPLE_KEY,
            Health::Warn,
            format!("{whose}: {error}"),
            "nothing, if it comes back: what waits is done then; else check the way out of this machine",
        ),
        // Apple's word for an app that was never released.
        Err(error @ FetchError::Refused(_)) if production && in_sandbox => Finding::of(
            Step::APPLE_KEY,
            Health::Warn,
            format!("{whose}: {error}"),
            "the sandbox accepts the key: before an app's first release production accepts none. \
             After it, check issuer_id, key_id and the bundle id",
        ),
        Err(error) => Finding::of(
            Step::APPLE_KEY,
            Health::Fail,
            format!("{whose}: {error}"),
            "check issuer_id, key_id, the .p8 and the bundle id: it must be an In-App Purchase key, \
             not one of the App Store Connect API",
        ),
    }
}

/// Whether Apple reaches us, for every app and in every world whose key holds: App Store Connect has
/// a URL of its own for each.
async fn notifications(
    core: &Core,
    store: &AppStore,
    reached: &[&Target],
) -> Result<Vec<Finding>, StorageError> {
    let now = core.clock.now();
    let since = now - HEARD_LATELY;
    let tests = tests_of(core, Provider::AppStore, since, |body| {
        let (bundle, environment) = store.sent_for(body)?;
        Some((bundle, Some(environment)))
    });
    let tests = tests.await?;
    let mut findings = Vec::new();
    for target in reached {
        let bundle = target.app.bundle_id.as_deref().unwrap_or_default();
        let world = Some(target.environment);
        let tested = tests
            .iter()
            .find(|(_, (of, sent))| of == bundle && *sent == world);
        let tested = tested.map(|(at, _)| *at);
        let source = Provider::AppStore.as_str();
        let told = diagnosis::heard_of_app(&core.db, source, &target.app.id, world, since).await?;
        findings.push(match told.max(tested) {
            Some(last) => {
                let world = target.environment.as_str();
                let past = ago(now - last);
                let found = format!("{bundle}, {world}: the last one came {past}");
                Finding::of(Step::APPLE_NOTIFICATIONS, Health::Ok, found, "")
            }
            None => test(core, store, target).await?,
        });
    }
    Ok(findings)
}

/// Has Apple send one, and waits until it is here.
async fn test(core: &Core, store: &AppStore, target: &Target) -> Result<Finding, StorageError> {
    let bundle = target.app.bundle_id.as_deref().unwrap_or_default();
    let whose = format!("{bundle}, {}", target.environment.as_str());
    let told = |health, found: String, next: String| {
        Finding::of(
            Step::APPLE_NOTIFICATIONS,
            health,
            format!("{whose}: {found}"),
            next,
        )
    };
    let token = match store.request_test(target.environment, bundle).await {
        Ok(TestRequest::Sent(token)) => token,
        Ok(TestRequest::NoUrl) => {
            return Ok(told(
                Health::Fail,
                "Apple knows no URL to send to".into(),
                "enter it in App Store Connect → App Information, Version 2; \
                 `entitled setup apple` prints it"
                    .into(),
            ));
        }
        Err(error) => {
            return Ok(told(
                Health::Warn,
                format!("no test notification: {error}"),
                "run it again in a minute".into(),
            ));
        }
    };
    let asked = Instant::now();
    let deadline = asked + TEST_PATIENCE;
    let mut ask_at = asked + ASK_AGAIN;
    let mut outcome = TestOutcome::NotTried;
    loop {
        if diagnosis::was_received(&core.db, "app_store", token.event_id()).await? {
            let seconds = asked.elapsed().as_secs_f64();
            let found = format!("a test notification came after {seconds:.1} s");
            return Ok(told(Health::Ok, found, String::new()));
        }
        if Instant::now() >= deadline
            || matches!(&outcome, TestOutcome::Tried(word) if word != "SUCCESS")
        {
            break;
        }
        if Instant::now() >= ask_at {
            ask_at = Instant::now() + ASK_AGAIN;
            let status = store.test_outcome(target.environment, bundle, &token).await;
            outcome = status.unwrap_or(TestOutcome::NotTried);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let (found, next) = match outcome {
        TestOutcome::NotTried => (
            format!(
                "a test notification was asked for and has not come in {} s",
                TEST_PATIENCE.as_secs()
            ),
            "does the webhook role run? Apple says no more yet: run it again in a minute"
                .to_owned(),
        ),
        TestOutcome::Tried(word) if word == "SUCCESS" => (
            "Apple delivered a test notification, and it is not here".to_owned(),
            "something else answers at the URL in App Store Connect, or another server of yours \
             with another database"
                .to_owned(),
        ),
        TestOutcome::Tried(word) => {
            let next = remedy(&word).to_owned();
            (
                format!("Apple could not deliver a test notification: {word}"),
                next,
            )
        }
    };
    Ok(told(Health::Fail, found, next))
}

/// What Apple's word for a failed delivery asks for.
fn remedy(word: &str) -> &'static str {
    match word {
        "TLS_ISSUE" => {
            "the certificate must be of a public authority, complete with its chain; TLS 1.2 or newer"
        }
        "TIMED_OUT" | "NO_RESPONSE" | "SOCKET_ISSUE" | "PREMATURE_CLOSE" => {
            "Apple reaches nobody at that URL: check name, firewall, and what stands in front of the webhook listener"
        }
        "UNSUCCESSFUL_HTTP_RESPONSE_CODE" | "INVALID_RESPONSE" | "CIRCULAR_REDIRECT" => {
            "something answers that is not this server: pass /webhooks/… on to webhooks.listen, unchanged and without redirects"
        }
        _ => "check the URL in App Store Connect and what stands in front of the webhook listener",
    }
}
