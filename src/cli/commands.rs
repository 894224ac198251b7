//! What an app, its user and a simulated store would do, as commands against a running stack.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::client::{Client, Trust};
use super::stack::{DEFAULT_DIR, SERVICE_SCOPE, StackAddress, operator_scope};
use super::token::{self, DAY};
use crate::http::HttpClient;
use crate::policy::Role;
use crate::proto::watch_entitlements_response::Event;
use crate::proto::{
    AccessReason, Entitlement, EntitlementSnapshot, Environment, InactiveReason, Store,
};

/// Which stack, and as whom.
#[derive(Args)]
pub(crate) struct StackArgs {
    /// Directory of the `dev` stack
    #[arg(long, default_value = DEFAULT_DIR)]
    dir: PathBuf,
}

/// Which server, and as whom.
#[derive(Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    stack: StackArgs,
    /// Any server's URL; default: the `dev` stack's
    #[arg(long)]
    server: Option<String>,
    /// PEM certificates to trust for --server besides the machine's
    #[arg(long, env = "ENTITLED_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// A bearer token for it; default: a development token for the user
    #[arg(long, env = "ENTITLED_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Args)]
pub(crate) struct TokenArgs {
    /// The user
    subject: String,
    /// For one of the people who answer tickets: may call SupportService
    #[arg(long)]
    operator: bool,
    /// The same with another role: viewer, support (as --operator), admin
    #[arg(long, value_parser = role, conflicts_with_all = ["operator", "anonymous"])]
    role: Option<Role>,
    /// For a backend: may name any account
    #[arg(long, conflicts_with_all = ["operator", "role", "anonymous"])]
    service: bool,
    /// For somebody who has not signed in
    #[arg(long, conflicts_with = "operator")]
    anonymous: bool,
    #[command(flatten)]
    stack: StackArgs,
}

#[derive(Args)]
pub(crate) struct UserArgs {
    /// The user
    subject: String,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Args)]
pub(crate) struct BuyArgs {
    /// The user
    subject: String,
    /// The product, as the catalog names it
    product: String,
    /// Where
    #[arg(long, value_enum, default_value_t = At::AppStore)]
    store: At,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum At {
    AppStore,
    GooglePlay,
}

#[derive(Args)]
pub(crate) struct AdvanceArgs {
    /// How far: 1mo, 2w, 3d, 12h, 30m, 1y, or ISO 8601 (P1M)
    by: String,
    #[command(flatten)]
    stack: StackArgs,
}

#[derive(Args)]
pub(crate) struct RefundArgs {
    /// The user
    subject: String,
    #[command(flatten)]
    stack: StackArgs,
}

impl StackArgs {
    fn address(&self) -> anyhow::Result<StackAddress> {
        StackAddress::read(&self.dir)
    }
}

impl ServerArgs {
    /// The `dev` stack's addresses.
    pub(super) fn stack_address(&self) -> anyhow::Result<StackAddress> {
        self.stack.address()
    }

    pub(super) async fn connect(&self, subject: &str) -> anyhow::Result<Client> {
        let (server, trust) = match &self.server {
            Some(server) => (server.clone(), Trust::besides(self.ca_file.as_ref())),
            None => {
                let stack = self.stack.address()?;
                (stack.server.clone(), stack.trust())
            }
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => token::mint(&self.stack.address()?.secret, subject, DAY)?,
        };
        Client::connect_trusting(&server, &trust, &token).await
    }
}

/// A role by its word, for arguments.
pub(super) fn role(word: &str) -> Result<Role, String> {
    Role::parse(word).ok_or_else(|| "viewer, support or admin".to_owned())
}

pub(super) fn token(args: &TokenArgs) -> anyhow::Result<()> {
    let secret = args.stack.address()?.secret;
    let role = args.role.or(args.operator.then_some(Role::Support));
    let of = token::As {
        scope: match role {
            Some(role) => operator_scope(role),
            None if args.service => SERVICE_SCOPE,
            None => "",
        },
        anonymous: args.anonymous,
    };
    println!("{}", token::mint_as(&secret, &args.subject, of, DAY)?);
    Ok(())
}

pub(super) async fn get(args: &UserArgs) -> anyhow::Result<()> {
    let mut client = args.server.connect(&args.subject).await?;
    let answer = client.get().await.map_err(explain)?;
    if let Some(snapshot) = &answer.snapshot {
        print_snapshot(snapshot, answer.degraded);
    }
    Ok(())
}

/// Follows until interrupted; comes back by itself when the server says so.
pub(super) async fn watch(args: &UserArgs) -> anyhow::Result<()> {
    let mut client = args.server.connect(&args.subject).await?;
    let mut stream = client.watch().await.map_err(explain)?;
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match message {
            Ok(Some(message)) => {
                if let Some(Event::Snapshot(snapshot)) = &message.event {
                    print_snapshot(snapshot, message.degraded);
                }
            }
            Ok(None) => bail!("the server ended the stream; run the command again"),
            Err(status) => match status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay)
            {
                Some(delay) => {
                    tokio::time::sleep(delay).await;
                    stream = client.watch().await.map_err(explain)?;
                }
                None => return Err(explain(status)),
            },
        }
    }
}

pub(super) async fn buy(args: &BuyArgs) -> anyhow::Result<()> {
    let address = args.server.stack.address()?;
    let mut client = args.server.connect(&args.subject).await?;
    let snapshot = client
        .get()
        .await
        .map_err(explain)?
        .snapshot
        .unwrap_or_default();
    let store_token = snapshot.account.unwrap_or_default().store_token;
    let products = client.products().await.map_err(explain)?.products;
    let names: Vec<&str> = products.iter().map(|product| product.id.as_str()).collect();
    let product = products
        .iter()
        .find(|product| product.id == args.product)
        .ok_or_else(|| {
            anyhow!(
                "the catalog has no product {:?}; it has {}",
                args.product,
                names.join(", ")
            )
        })?;
    let store = match args.store {
        At::AppStore => Store::AppStore,
        At::GooglePlay => Store::GooglePlay,
    };
    let sold = product
        .store_products
        .iter()
        .find(|sold| sold.store() == store)
        .ok_or_else(|| anyhow!("{} is not sold at that store", args.product))?;
    let stores = Stores::of(&address)?;
    let answer = match args.store {
        At::AppStore => {
            let bought = stores
                .post(
                    "app-store/buy",
                    json!({
                        "customer": args.subject, "product_id": sold.product_id,
                        "app_account_token": store_token,
                    }),
                )
                .await?;
            client
                .bind_app_store(bought["signed_transaction"].as_str().unwrap_or_default())
                .await
        }
        At::GooglePlay => {
            let base_plan = (!sold.base_plan_id.is_empty()).then_some(&sold.base_plan_id);
            let bought = stores
                .post(
                    "google-play/buy",
                    json!({
                        "customer": args.subject, "product_id": sold.product_id,
                        "base_plan_id": base_plan, "obfuscated_account_id": store_token,
                    }),
                )
                .await?;
            let token = bought["purchase_token"].as_str().unwrap_or_default();
            let package = stores.get("manifest").await?;
            client
                .bind_google_play(package["package_name"].as_str().unwrap_or_default(), token)
                .await
        }
    };
    let answer = answer.map_err(explain)?;
    println!(
        "{} → {}",
        answer.outcome().as_str_name(),
        answer.client_action().as_str_name()
    );
    print_snapshot(&answer.snapshot.unwrap_or_default(), false);
    Ok(())
}

pub(super) async fn advance(args: &AdvanceArgs) -> anyhow::Result<()> {
    let stores = Stores::of(&args.stack.address()?)?;
    let step = match parse_step(&args.by)? {
        Step::Period(period) => json!({ "by": period }),
        Step::Exact(delta) => {
            let now: DateTime<Utc> =
                serde_json::from_value(stores.get("clock").await?["now"].clone())?;
            json!({ "to": now + delta })
        }
    };
    stores.post("advance", step).await?;
    let now = stores.get("clock").await?;
    println!(
        "the stores' time is {}",
        now["now"].as_str().unwrap_or_default()
    );
    Ok(())
}

pub(super) async fn refund(args: &RefundArgs) -> anyhow::Result<()> {
    let stores = Stores::of(&args.stack.address()?)?;
    let purchases = stores
        .get(&format!("purchases?customer={}", args.subject))
        .await?;
    let mut newest_first = purchases.as_array().into_iter().flatten().rev();
    let Some(purchase) = newest_first.find(|purchase| purchase["entitled"] == json!(true)) else {
        bail!(
            "{} has nothing to refund; buy something first: entitled buy {} pro_yearly",
            args.subject,
            args.subject
        );
    };
    match purchase["store"].as_str() {
        Some("app_store") => {
            stores
                .post(
                    "app-store/refund",
                    json!({ "transaction_id": purchase["latest_transaction"] }),
                )
                .await?;
        }
        _ => {
            stores
                .post(
                    "google-play/refund",
                    json!({ "purchase_token": purchase["id"] }),
                )
                .await?;
        }
    }
    println!(
        "refunded {}",
        purchase["product_id"].as_str().unwrap_or_default()
    );
    Ok(())
}

/// The simulated stores' control API.
pub(super) struct Stores {
    http: HttpClient,
    control: String,
}

impl Stores {
    pub(super) fn of(address: &StackAddress) -> anyhow::Result<Self> {
        // A year of renewals takes its time.
        let http = HttpClient::new(std::time::Duration::from_secs(120))?;
        Ok(Self {
            http,
            control: address.control.clone(),
        })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}/{path}", self.control).parse()?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let body = body.map(|body| Bytes::from(body.to_string()));
        let answer = self
            .http
            .send(method, url, headers, body)
            .await
            .context("the simulated stores do not answer; is `entitled dev` running?")?;
        let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if !answer.status.is_success() {
            bail!(
                "the store refused: {}",
                value["detail"].as_str().unwrap_or("no reason given")
            );
        }
        Ok(value)
    }
}

#[derive(Debug, PartialEq)]
enum Step {
    /// By the calendar.
    Period(String),
    /// By the clock.
    Exact(TimeDelta),
}

fn parse_step(text: &str) -> anyhow::Result<Step> {
    if text.starts_with('P') {
        return Ok(Step::Period(text.to_owned()));
    }
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (count, unit) = text.split_at(split);
    let count: u32 = count.parse().map_err(|_| unknown_step(text))?;
    match unit {
        "y" => Ok(Step::Period(format!("P{count}Y"))),
        "mo" => Ok(Step::Period(format!("P{count}M"))),
        "w" => Ok(Step::Exact(TimeDelta::weeks(count.into()))),
        "d" => Ok(Step::Exact(TimeDelta::days(count.into()))),
        "h" => Ok(Step::Exact(TimeDelta::hours(count.into()))),
        "m" => Ok(Step::Exact(TimeDelta::minutes(count.into()))),
        "s" => Ok(Step::Exact(TimeDelta::seconds(count.into()))),
        _ => Err(unknown_step(text)),
    }
}

fn unknown_step(text: &str) -> anyhow::Error {
    anyhow!("{text:?} is not a length of time; write 1mo, 2w, 3d, 12h, 30m, 1y or P1M")
}

/// A status in words: what happened, and what to do next.
pub(super) fn explain(status: Status) -> anyhow::Error {
    let reason = status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default();
    if reason.is_empty() {
        anyhow!("{}: {}", status.code(), status.message())
    } else {
        anyhow!(
            "{reason}: {} (docs/errors.md explains it)",
            status.message()
        )
    }
}

pub(super) fn print_snapshot(snapshot: &EntitlementSnapshot, degraded: bool) {
    let note = if degraded {
        "  (degraded: the database cannot be reached)"
    } else {
        ""
    };
    println!("revision {}{note}", snapshot.revision);
    for entitlement in &snapshot.entitlements {
        println!("  {}", line(entitlement));
    }
    for credit in &snapshot.credits {
        let note = match Environment::try_from(credit.environment).unwrap_or_default() {
            Environment::Sandbox => ", sandbox",
            Environment::Production | Environment::Unspecified => "",
        };
        println!("  {:>4} {}{note}", credit.balance, credit.id);
    }
    for pending in &snapshot.pending_purchases {
        println!("  {} awaits its payment", pending.product_id);
    }
}

fn line(entitlement: &Entitlement) -> String {
    let time = |at: Option<prost_types::Timestamp>| {
        at.and_then(|at| DateTime::<Utc>::from_timestamp(at.seconds, 0))
            .map(|at| at.format("%F %T").to_string())
    };
    if !entitlement.active {
        let why = InactiveReason::try_from(entitlement.inactive_reason).unwrap_or_default();
        let why = why
            .as_str_name()
            .trim_start_matches("INACTIVE_REASON_")
            .to_lowercase();
        return format!("off  {:<14} {why}", entitlement.id);
    }
    let why = AccessReason::try_from(entitlement.reason).unwrap_or_default();
    let why = why
        .as_str_name()
        .trim_start_matches("ACCESS_REASON_")
        .to_lowercase();
    let plan = entitlement
        .sources
        .first()
        .map(|source| source.plan.as_str())
        .unwrap_or_default();
    let until = match time(entitlement.expires_at) {
        Some(until) if entitlement.will_renew => format!("renews {until}"),
        Some(until) => format!("until {until}"),
        None => "for ever".to_owned(),
    };
    format!("ON   {:<14} {why} {plan}, {until}", entitlement.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_people_write_them() {
        assert_eq!(parse_step("1mo").ok(), Some(Step::Period("P1M".into())));
        assert_eq!(parse_step("2y").ok(), Some(Step::Period("P2Y".into())));
        assert_eq!(parse_step("P3M").ok(), Some(Step::Period("P3M".into())));
        assert_eq!(
            parse_step("12h").ok(),
            Some(Step::Exact(TimeDelta::hours(12)))
        );
        for nonsense in ["", "mo", "1", "1x", "-1d", "1 mo"] {
            assert!(parse_step(nonsense).is_err(), "{nonsense}");
        }
    }
}
