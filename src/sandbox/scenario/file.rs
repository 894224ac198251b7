//! Reads a scenario file, and says of every mistake where it is and what to write instead.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, ValueDeserializer};

use super::super::delivery::{Source as Teller, Webhooks};
use super::super::setup::{Environment, StoreSetup};
use super::super::sins::Sins;
use super::super::superwall::SuperwallRules;
use super::check;
use super::error::{ScenarioError, Source};
use super::expect::Gap;
use super::product::{self, Product};
use super::step::{Step, VERBS};
use super::time::Moment;

/// Keys that any step may have beside those of its verb.
const STEP_NAME: &str = "step";
/// When a scenario starts that does not say.
const START: &str = "2027-01-01T09:00:00Z";

/// A scenario, read and found free of contradictions.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it shows, in a few words.
    pub title: String,
    /// The same in a few sentences.
    pub about: String,
    /// Source of every simulated id and of every random sin.
    pub seed: u64,
    /// Where the clock starts.
    pub start: DateTime<Utc>,
    /// Which of the stores' worlds is played.
    pub environment: Environment,
    /// The app.
    pub app: App,
    /// What is sold.
    pub products: BTreeMap<String, Product>,
    /// Who buys.
    pub customers: BTreeMap<String, Customer>,
    /// Every account that takes part, in order.
    pub accounts: Vec<String>,
    /// Those of them that nobody has signed in to.
    pub anonymous: Vec<String>,
    /// Who tells the server what happens.
    pub told_by: Vec<Teller>,
    /// How Superwall relays what the stores say, where it tells.
    pub superwall: SuperwallRules,
    /// What the network does from the start.
    pub sins: Sins,
    /// Where the server is known to differ.
    pub expected_gap: Vec<Gap>,
    /// What happens.
    pub steps: Vec<Placed>,
}

/// A step, and where it stands.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What happens.
    pub step: Step,
    /// What it calls itself.
    pub name: Option<String>,
    /// Line in the file, from 1.
    pub line: usize,
    /// Its text, as it stands in the file.
    pub text: String,
}

/// The app under test, as the stores know it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Bundle id at the App Store.
    pub bundle_id: String,
    /// Apple's numeric app id.
    pub app_apple_id: i64,
    /// Package name at Google Play.
    pub package_name: String,
}

impl Default for App {
    fn default() -> Self {
        Self {
            bundle_id: "com.example.app".to_owned(),
            app_apple_id: 1_234_567_890,
            package_name: "com.example.app".to_owned(),
        }
    }
}

/// A customer of both stores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The account that is signed in on the customer's devices; one of the same name if absent.
    pub account: Option<String>,
    /// How many devices watch the account; they must all be told what it has.
    #[serde(default)]
    pub devices: u8,
}

/// Everything but the steps.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    title: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    seed: u64,
    start: Option<Moment>,
    #[serde(default)]
    environment: World,
    #[serde(default)]
    app: App,
    products: BTreeMap<String, Spanned<Product>>,
    customers: BTreeMap<String, Customer>,
    #[serde(default)]
    accounts: Vec<String>,
    #[serde(default)]
    anonymous: Vec<String>,
    #[serde(default = "the_stores")]
    told_by: Vec<Teller>,
    #[serde(default)]
    superwall: SuperwallRules,
    #[serde(default)]
    sins: Sins,
    #[serde(default)]
    expected_gap: Vec<Spanned<Gap>>,
}

/// Who tells where nothing is said of it.
fn the_stores() -> Vec<Teller> {
    vec![Teller::AppStore, Teller::GooglePlay]
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum World {
    #[default]
    Production,
    Sandbox,
}

/// Spans of what the checks speak about.
pub(super) struct Places {
    pub(super) products: BTreeMap<String, Range<usize>>,
    pub(super) gaps: Vec<Range<usize>>,
    pub(super) steps: Vec<Range<usize>>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(file: &Path) -> Result<Self, Vec<ScenarioError>> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| {
            let source = Source {
                file: &name,
                text: "",
            };
            vec![source.error(0..0, format!("cannot be read: {error}"))]
        })?;
        Self::parse(&name, &text)
    }

    /// Reads the text of a file; `file` names it in errors.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<ScenarioError>> {
        let source = Source { file, text };
        let whole = 0..0;
        let one = |error: &toml::de::Error| vec![source.toml(error, whole.clone())];
        let mut root = DeTable::parse(text).map_err(|error| one(&error))?;
        let steps = root.get_mut().remove("steps");
        let head = Head::deserialize(Deserializer::from(root)).map_err(|error| one(&error))?;
        let missing = "no steps; write steps = [ { buy = … }, { expect = … } ]";
        let steps = steps.ok_or_else(|| vec![source.error(whole, missing)])?;
        let (steps, spans) = read_steps(source, steps)?;
        let places = Places {
            products: spans_of(&head.products),
            gaps: head.expected_gap.iter().map(Spanned::span).collect(),
            steps: spans,
        };
        let scenario = Self::assemble(head, steps);
        let problems = check::problems(&scenario, source, &places);
        match problems.is_empty() {
            true => Ok(scenario),
            false => Err(problems),
        }
    }

    fn assemble(head: Head, steps: Vec<Placed>) -> Self {
        let start = head.start.map(|moment| moment.0);
        let start = start.or_else(|| START.parse().ok()).unwrap_or_default();
        let own = head
            .customers
            .iter()
            .map(|(name, customer)| customer.account.as_ref().unwrap_or(name).clone());
        let others = head.accounts.into_iter().chain(head.anonymous.clone());
        let mut accounts: Vec<String> = own.chain(others).collect();
        accounts.sort();
        accounts.dedup();
        let products = head.products.into_iter();
        Self {
            title: head.title,
            about: head.about.trim().to_owned(),
            seed: head.seed,
            start,
            environment: match head.environment {
                World::Production => Environment::Production,
                World::Sandbox => Environment::Sandbox,
            },
            app: head.app,
            products: products.map(|(id, p)| (id, p.into_inner())).collect(),
            customers: head.customers,
            accounts,
            anonymous: head.anonymous,
            told_by: head.told_by,
            superwall: head.superwall,
            sins: head.sins,
            expected_gap: head
                .expected_gap
                .into_iter()
                .map(Spanned::into_inner)
                .collect(),
            steps,
        }
    }

    /// What the simulated stores sell in it.
    pub fn store_setup(&self) -> StoreSetup {
        StoreSetup {
            bundle_id: self.app.bundle_id.clone(),
            app_apple_id: self.app.app_apple_id,
            package_name: self.app.package_name.clone(),
            environment: self.environment,
            app_store: product::app_store(&self.products),
            google_play: product::google_play(&self.products),
            timing: Default::default(),
            deliveries: Default::default(),
            superwall: self.superwall,
        }
    }

    /// Where those who tell the server anything send it, of all the places where it listens.
    pub fn webhooks(&self, mut places: Webhooks) -> Webhooks {
        for teller in [Teller::AppStore, Teller::GooglePlay, Teller::Superwall] {
            if !self.told_by.contains(&teller) {
                places.shut_off(teller);
            }
        }
        places
    }

    /// The account that is signed in on a customer's devices at first.
    pub fn account_of<'a>(&'a self, customer: &'a str) -> &'a str {
        let named = self
            .customers
            .get(customer)
            .and_then(|c| c.account.as_deref());
        named.unwrap_or(customer)
    }

    /// How many devices watch an account.
    pub fn devices_of(&self, account: &str) -> u8 {
        let signed_in = self.customers.iter();
        let signed_in = signed_in.filter(|(name, _)| self.account_of(name) == account);
        signed_in
            .map(|(_, customer)| customer.devices)
            .fold(0, u8::saturating_add)
    }

    /// Every entitlement that something gives, in order.
    pub fn entitlements(&self) -> Vec<&str> {
        let all = self.products.values().flat_map(|product| &product.gives);
        in_order(all.map(String::as_str))
    }

    /// Everything that is counted, in order.
    pub fn counted(&self) -> Vec<&str> {
        let all = self
            .products
            .values()
            .flat_map(|product| product.credits.keys());
        in_order(all.map(String::as_str))
    }
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn spans_of(products: &BTreeMap<String, Spanned<Product>>) -> BTreeMap<String, Range<usize>> {
    let span = |(id, product): (&String, &Spanned<Product>)| (id.clone(), product.span());
    products.iter().map(span).collect()
}

type Steps = (Vec<Placed>, Vec<Range<usize>>);

fn read_steps(
    source: Source<'_>,
    steps: Spanned<DeValue<'_>>,
) -> Result<Steps, Vec<ScenarioError>> {
    let all = steps.span();
    let DeValue::Array(steps) = steps.into_inner() else {
        return Err(vec![
            source.error(all, "steps is a list of tables, one per step"),
        ]);
    };
    let (mut read, mut spans, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for step in steps {
        spans.push(step.span());
        match read_step(source, step) {
            Ok(step) => read.push(step),
            Err(problem) => problems.push(problem),
        }
    }
    match problems.is_empty() {
        true => Ok((read, spans)),
        false => Err(problems),
    }
}

fn read_step(source: Source<'_>, step: Spanned<DeValue<'_>>) -> Result<Placed, ScenarioError> {
    let span = step.span();
    let DeValue::Table(mut table) = step.into_inner() else {
        return Err(source.error(span, "a step is a table: { buy = … }"));
    };
    let name = match table.remove(STEP_NAME) {
        Some(name) => {
            let name = String::deserialize(ValueDeserializer::from(name));
            Some(name.map_err(|error| source.toml(&error, span.clone()))?)
        }
        None => None,
    };
    let words: Vec<String> = table
        .keys()
        .map(|key| key.get_ref().to_string())
        .filter(|key| VERBS.contains(&key.as_str()))
        .collect();
    let [verb] = words.as_slice() else {
        let message = match words.as_slice() {
            [] => format!("no verb in this step; one of {}", VERBS.join(", ")),
            several => format!("one verb per step, not {}", several.join(" and ")),
        };
        return Err(source.error(span, message));
    };
    let table = ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(table)));
    let step = Step::read(verb, table)
        .unwrap_or_else(|| Err(serde::de::Error::custom("no such verb")))
        .map_err(|error| source.toml(&error, span.clone()))?;
    Ok(Placed {
        step,
        name,
        line: source.position(span.start).0,
        text: source.text.get(span).unwrap_or_default().to_owned(),
    })
}
