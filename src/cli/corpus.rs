//! `inspect corpus`: genuine and forged documents with this server's verdict on each, for other
//! verifiers to judge as well. Used by `tests/interop`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::Args;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};

use super::stack::{EXAMPLE_CATALOG, store_setup};
use crate::clock::{Clock, VirtualClock};
use crate::config::google_play::PushConfig;
use crate::config::superwall::SuperwallConfig;
use crate::domain::catalog::Catalog;
use crate::domain::ids::CatalogVersion;
use crate::flows::apply_catalog;
use crate::http::HttpClient;
use crate::providers::superwall::Superwall;
use crate::providers::{app_store, contract, google_play};
use crate::sandbox::{
    AppStoreBuy, Environment, GooglePlayBuy, NotificationRecord, Options, Sandbox, Store, Webhooks,
    forge,
};

/// Nobody listens there: a document that leads there must not be followed.
const NOWHERE: &str = "http://127.0.0.1:9/keys";
const CUSTOMER: &str = "customer";

#[derive(Args)]
pub(crate) struct CorpusArgs {
    /// Draws what is generated
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// A document and what is thought of it.
#[derive(Serialize)]
struct Case {
    kind: &'static str,
    class: &'static str,
    name: String,
    document: String,
    /// Whether its maker says that it must be accepted.
    genuine: bool,
    /// Whether this server accepts it.
    accepted: bool,
    /// What it says to that.
    why: String,
}

/// A delivery of Superwall's, in the form that Svix' libraries take.
#[derive(Serialize)]
struct Delivery {
    class: &'static str,
    name: String,
    headers: BTreeMap<&'static str, String>,
    /// Base64: not all are text.
    body: String,
    genuine: bool,
    accepted: bool,
}

/// Makes, judges and prints everything; whether every verdict was as expected.
pub(super) async fn run(args: &CorpusArgs) -> anyhow::Result<bool> {
    let catalog = apply_catalog::parse(EXAMPLE_CATALOG, CatalogVersion(0))?;
    let setup = store_setup(&catalog, Environment::Production)?;
    let clock = VirtualClock::running(Clock::System.now());
    let sandbox = Sandbox::start(Options::new(setup, clock)).await?;
    let made = make(args, &sandbox, &catalog).await;
    sandbox.shutdown().await;
    let (printed, as_expected) = made?;
    println!("{printed}");
    Ok(as_expected)
}

async fn make(
    args: &CorpusArgs,
    sandbox: &Sandbox,
    catalog: &Catalog,
) -> anyhow::Result<(Value, bool)> {
    let manifest = sandbox.manifest();
    sandbox.hold_deliveries(true).await?;
    sandbox.set_webhooks(Webhooks {
        app_store: Some(NOWHERE.to_owned()),
        google_play: Some(NOWHERE.to_owned()),
        superwall: Some(NOWHERE.to_owned()),
    })?;
    let buy = AppStoreBuy {
        customer: CUSTOMER.to_owned(),
        product_id: "com.example.premium.yearly".to_owned(),
        ..AppStoreBuy::default()
    };
    let bought = sandbox.buy_app_store(&buy).await?;
    let buy = GooglePlayBuy {
        customer: CUSTOMER.to_owned(),
        product_id: "premium".to_owned(),
        base_plan_id: Some("premium-yearly".to_owned()),
        ..GooglePlayBuy::default()
    };
    sandbox.buy_google_play(&buy).await?;
    let said = sandbox.notifications();
    let apple = apple(args, sandbox, catalog, &bought.signed_transaction, &said)?;
    let push = push(sandbox, &said).await?;
    let superwall = deliveries(sandbox, &said)?;
    let as_expected = apple
        .iter()
        .chain(&push)
        .all(|case| case.accepted == case.genuine)
        && superwall.iter().all(|case| case.accepted == case.genuine);
    let http = HttpClient::new(Duration::from_secs(5))?;
    let keys = http.get(manifest.push.jwks_url.parse()?).await?;
    let keys: Value = serde_json::from_slice(&keys.body)?;
    let printed = json!({
        "apple": {
            "root": manifest.apple_root_cert_der,
            "bundle_id": manifest.bundle_id,
            "app_apple_id": manifest.app_apple_id,
            "environment": "Production",
            "cases": apple,
        },
        "push": {
            "keys": keys,
            "audience": manifest.push.audience,
            "email": manifest.push.email,
            "cases": push,
        },
        "superwall": { "secret": manifest.superwall.secret, "cases": superwall },
    });
    Ok((printed, as_expected))
}

fn apple(
    args: &CorpusArgs,
    sandbox: &Sandbox,
    catalog: &Catalog,
    transaction: &str,
    said: &[NotificationRecord],
) -> anyhow::Result<Vec<Case>> {
    let root = STANDARD.decode(sandbox.manifest().apple_root_cert_der)?;
    let roots = app_store::Roots::pinned(vec![root])?;
    let body: Value = serde_json::from_str(&body_of(said, Store::AppStore)?)?;
    let notification = body["signedPayload"].as_str().context("no document")?;
    let now = Clock::System.now();
    let mut cases = Vec::new();
    for (kind, genuine) in [("transaction", transaction), ("notification", notification)] {
        let payload = payload_of(genuine).context("no payload")?;
        let mut specimens = forge::apple_corpus(sandbox, &payload, NOWHERE, args.seed)?;
        specimens.extend(forge::apple_misplaced(sandbox, &payload)?);
        for specimen in specimens {
            let report = app_store::inspect(&specimen.jws, &roots, Some(catalog), now);
            let failed = report.lines.iter().find(|line| !line.ok);
            // A transaction without its app could be read as renewal info.
            let said = format!("a {kind}");
            let as_such = report
                .lines
                .iter()
                .any(|line| line.step == "contents" && line.explanation == said);
            cases.push(Case {
                kind,
                class: specimen.class,
                name: specimen.name,
                genuine: specimen.genuine,
                accepted: as_such && report.is_genuine(),
                why: failed.map_or_else(String::new, |line| line.explanation.clone()),
                document: specimen.jws,
            });
        }
    }
    Ok(cases)
}

async fn push(sandbox: &Sandbox, said: &[NotificationRecord]) -> anyhow::Result<Vec<Case>> {
    let manifest = sandbox.manifest().push;
    let config = PushConfig {
        audience: manifest.audience,
        email: manifest.email,
        subscription: manifest.subscription,
        jwks_url: manifest.jwks_url,
        issuer: Some(manifest.issuer),
    };
    let http = HttpClient::new(Duration::from_secs(5))?;
    let body = body_of(said, Store::GooglePlay)?;
    let mut cases = Vec::new();
    for specimen in forge::push_corpus(sandbox, NOWHERE)? {
        let bearer = Some(specimen.jws.as_str());
        let report =
            google_play::inspect::rtdn(Some(&config), &http, None, body.as_bytes(), bearer).await?;
        cases.push(Case {
            kind: "push",
            class: specimen.class,
            name: specimen.name,
            genuine: specimen.genuine,
            accepted: report.is_ok(),
            why: report.to_string(),
            document: specimen.jws,
        });
    }
    Ok(cases)
}

fn deliveries(sandbox: &Sandbox, said: &[NotificationRecord]) -> anyhow::Result<Vec<Delivery>> {
    let server = Superwall::new(&SuperwallConfig {
        signing_secret_file: None,
        signing_secret: Some(sandbox.manifest().superwall.secret.into()),
    })?;
    let body = said
        .iter()
        .rfind(|record| record.source == crate::sandbox::Source::Superwall)
        .map_or_else(
            || r#"{"type":"initial_purchase"}"#.to_owned(),
            |record| record.body.clone(),
        );
    let corpus = forge::svix_corpus(sandbox, "msg", &body).into_iter();
    let judged = corpus.map(|delivery| {
        let mut headers = HeaderMap::new();
        for (name, value) in &delivery.headers {
            headers.insert(*name, HeaderValue::from_str(value)?);
        }
        // Its door lets nothing in that is compressed.
        let accepted = !headers.contains_key(CONTENT_ENCODING)
            && server
                .authenticate(&contract::Delivery {
                    headers: &headers,
                    body: &delivery.body,
                    now: Clock::System.now(),
                })
                .is_ok();
        Ok(Delivery {
            accepted,
            class: delivery.class,
            name: delivery.name,
            headers: delivery.headers.into_iter().collect(),
            body: STANDARD.encode(delivery.body),
            genuine: delivery.genuine,
        })
    });
    judged.collect()
}

/// The body of a store's latest notification.
fn body_of(said: &[NotificationRecord], store: Store) -> anyhow::Result<String> {
    let latest = said.iter().rfind(|record| record.source == store);
    Ok(latest.context("the store has said nothing")?.body.clone())
}

fn payload_of(jws: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
