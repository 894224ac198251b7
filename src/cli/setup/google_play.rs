//! Google Play's worksheet: what to enter in the Play Console and to run in Google Cloud for one
//! catalog and one address.

use std::collections::BTreeMap;

use super::Subject;
use super::sheet::{Section, Sheet};
use crate::config::google_play::PushConfig;
use crate::domain::catalog::{Catalog, Product, ProductKind};
use crate::domain::guide::{Guide, Step};

/// Google's own account: it publishes what happens to purchases.
const PUBLISHER: &str = "google-play-developer-notifications@system.gserviceaccount.com";
/// Where a project id is missing.
const UNKNOWN_PROJECT: &str = "YOUR-PROJECT";

/// What everything in Google Cloud is called.
struct Names {
    project: String,
    topic: String,
    /// Without `projects/…`.
    subscription: String,
    /// Asks the Developer API.
    server: String,
    /// Vouches for pushes.
    push: String,
    audience: String,
}

impl Names {
    fn of(subject: &Subject<'_>, project: Option<&str>, topic: &str) -> Self {
        let push = configured_push(subject);
        let (in_project, subscription) = push
            .and_then(|push| push.subscription.strip_prefix("projects/"))
            .and_then(|name| name.split_once("/subscriptions/"))
            .unzip();
        let account = subject.account.as_ref();
        let project = project
            .or(in_project)
            .or(account.map(|account| account.project_id.as_str()))
            .unwrap_or(UNKNOWN_PROJECT)
            .to_owned();
        let address = |name: &str| format!("{name}@{project}.iam.gserviceaccount.com");
        Self {
            topic: topic.to_owned(),
            subscription: subscription.map_or_else(|| format!("{topic}-push"), str::to_owned),
            server: account.map_or_else(
                || address("entitled-server"),
                |account| account.client_email.clone(),
            ),
            push: push.map_or_else(|| address("entitled-push"), |push| push.email.clone()),
            audience: push.map_or_else(
                || subject.webhook("google-play"),
                |push| push.audience.clone(),
            ),
            project,
        }
    }
}

fn configured_push<'a>(subject: &Subject<'a>) -> Option<&'a PushConfig> {
    subject.config?.google_play.as_ref()?.push.as_ref()
}

/// The worksheet of one deployment.
pub(super) fn sheet(subject: &Subject<'_>, project: Option<&str>, topic: &str) -> Sheet {
    let names = Names::of(subject, project, topic);
    let mut head = subject.head();
    head.push(("Cloud project", names.project.clone()));
    Sheet {
        guide: Guide::GooglePlay,
        head,
        sections: vec![
            app(subject.catalog),
            account(subject, &names),
            permissions(&names),
            products(subject.catalog),
            topic_section(&names),
            push(subject, &names),
            code(),
            purchase(subject),
        ],
        check: subject.command("doctor"),
    }
}

fn app(catalog: &Catalog) -> Section {
    let packages: Vec<&str> = catalog
        .apps()
        .iter()
        .filter_map(|app| app.package_name.as_deref())
        .collect();
    let section = Section::new(Step::GOOGLE_APP)
        .done((!packages.is_empty()).then(|| packages.join(", ")))
        .act("Play Console: a developer account, and a payments profile linked to it")
        .act("Create app; upload a build with the Play Billing Library to the internal testing track")
        .note("products cannot be made before such a build is there");
    if packages.is_empty() {
        return section.file("[[apps]]\nid = \"android\"\npackage_name = \"com.example.app\"");
    }
    section.values(packages.into_iter().map(|name| ("Package name", name)))
}

fn account(subject: &Subject<'_>, names: &Names) -> Section {
    let configured = subject.config.and_then(|c| c.google_play.as_ref());
    let file = configured.and_then(|google| google.service_account_file.as_deref());
    let done = subject
        .account
        .as_ref()
        .map(|account| account.client_email.clone());
    let path = file.map_or_else(|| "play.json".to_owned(), |file| file.display().to_string());
    let server = quoted(&names.server);
    let mut commands = vec![
        in_project(names),
        "gcloud services enable androidpublisher.googleapis.com pubsub.googleapis.com --project \"$PROJECT\""
            .to_owned(),
    ];
    // What is configured is in use: its key is not written over.
    match &done {
        None => commands.extend([
            format!(
                "gcloud iam service-accounts create {} --project \"$PROJECT\"",
                quoted(short(&names.server))
            ),
            format!(
                "gcloud iam service-accounts keys create {} --iam-account {server}",
                quoted(&path)
            ),
        ]),
        Some(_) => commands.push(format!(
            "gcloud iam service-accounts keys list --iam-account {server}"
        )),
    }
    let mut section = Section::new(Step::GOOGLE_ACCOUNT)
        .done(done)
        .act("Google Cloud: one project, the two APIs, an account for the server and its key")
        .shell(&commands.join("\n"))
        .note("refused by iam.disableServiceAccountKeyCreation: an organisation's policy; have an exception made for this project");
    if configured.is_none() {
        section = section.file(
            "[google_play]\n\
             service_account_file = \"play.json\"  # readable by the server alone",
        );
    }
    section
}

/// Begins every block of commands: each can be run in a shell of its own.
fn in_project(names: &Names) -> String {
    format!("PROJECT={}", quoted(&names.project))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "@%+=:,./_-".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The part of an account's address that it was created with.
fn short(address: &str) -> &str {
    address.split('@').next().unwrap_or(address)
}

fn permissions(names: &Names) -> Section {
    Section::new(Step::GOOGLE_PERMISSIONS)
        .act("Play Console → Users and permissions → Invite new users")
        .value("E-mail", &names.server)
        .act("App permissions: add your app; then exactly these")
        .value("", "View app information (read-only)")
        .value(
            "",
            "View financial data, orders, and cancellation survey responses",
        )
        .value("", "Manage orders and subscriptions")
        .note("a new grant can take a day or more before the API knows of it")
}

/// What Play sells under one product id.
#[derive(Default)]
struct Sold<'a> {
    plans: Vec<(&'a str, String, &'a str)>,
    once: Option<(ProductKind, &'a str)>,
}

fn products(catalog: &Catalog) -> Section {
    let mut sold: BTreeMap<&str, Sold<'_>> = BTreeMap::new();
    for (id, product) in catalog.products() {
        let Some(google) = &product.google_play else {
            continue;
        };
        let entry = sold.entry(google.product_id.as_str()).or_default();
        match &google.base_plan_id {
            Some(plan) => entry.plans.push((plan, billing(product), id)),
            None => entry.once = Some((product.kind, id)),
        }
    }
    let mut section = Section::new(Step::GOOGLE_PRODUCTS).note(
        "ids are for ever; the catalog must know product and base plan, others grant nothing",
    );
    let empty = sold.is_empty();
    for (product_id, sold) in &sold {
        if !sold.plans.is_empty() {
            section = section
                .act("Monetize with Play → Products → Subscriptions → Create subscription")
                .value("Product ID", *product_id)
                .values(sold.plans.iter().map(|(plan, period, id)| {
                    ("Base plan ID", format!("{plan}   {period}   [{id}]"))
                }));
        }
    }
    for (product_id, sold) in &sold {
        if let Some((kind, id)) = sold.once {
            let what = match kind {
                ProductKind::Consumable | ProductKind::NonRenewing => {
                    "the server consumes it, so that it can be bought again"
                }
                ProductKind::NonConsumable | ProductKind::Subscription => {
                    "the server acknowledges it; it is owned once"
                }
            };
            section = section
                .act("Monetize with Play → Products → One-time products → Create")
                .value("Product ID", *product_id)
                .value("", format!("{what}   [{id}]"));
        }
    }
    if empty {
        return section.note("no product of the catalog names google_play");
    }
    section.act("set prices, and Activate every base plan and purchase option")
}

fn billing(product: &Product) -> String {
    product
        .period
        .map_or_else(String::new, |period| format!("billing period {period}"))
}

fn topic_section(names: &Names) -> Section {
    Section::new(Step::GOOGLE_TOPIC)
        .act("the topic that Google Play tells of purchases, and its right to do so")
        .shell(&format!(
            "{project}\n\
             gcloud pubsub topics create {topic} --project \"$PROJECT\"\n\
             gcloud pubsub topics add-iam-policy-binding {topic} --project \"$PROJECT\" \
             --member serviceAccount:{PUBLISHER} --role roles/pubsub.publisher",
            project = in_project(names),
            topic = quoted(&names.topic),
        ))
        .note("refused by iam.allowedPolicyMemberDomains: an organisation's policy; have an exception made for this project")
        .act("Play Console → Monetize with Play → Monetization setup → Real-time developer notifications: enable")
        .value("Topic name", format!("projects/{}/topics/{}", names.project, names.topic))
        .value("Notify", "subscriptions, voided purchases and all one-time products")
}

fn push(subject: &Subject<'_>, names: &Names) -> Section {
    let configured = configured_push(subject);
    let done = configured.map(|push| push.subscription.clone());
    let url = subject.webhook("google-play");
    let commands = match &done {
        // It is there: what it says is looked at, and compared with the configuration.
        Some(_) => format!(
            "{project}\n\
             gcloud pubsub subscriptions describe {subscription} --project \"$PROJECT\"",
            project = in_project(names),
            subscription = quoted(&names.subscription),
        ),
        None => format!(
            "{project}\n\
             gcloud iam service-accounts create {push_name} --project \"$PROJECT\"\n\
             NUMBER=$(gcloud projects describe \"$PROJECT\" --format 'value(projectNumber)')\n\
             gcloud iam service-accounts add-iam-policy-binding {push} --project \"$PROJECT\" \
             --member \"serviceAccount:service-$NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com\" \
             --role roles/iam.serviceAccountTokenCreator\n\
             gcloud pubsub subscriptions create {subscription} --project \"$PROJECT\" --topic {topic} \
             --push-endpoint {url} \
             --push-auth-service-account {push} \
             --push-auth-token-audience {audience} \
             --ack-deadline 60 --min-retry-delay 10s --max-retry-delay 600s \
             --message-retention-duration 7d --expiration-period never",
            project = in_project(names),
            push_name = quoted(short(&names.push)),
            push = quoted(&names.push),
            subscription = quoted(&names.subscription),
            topic = quoted(&names.topic),
            url = quoted(&url),
            audience = quoted(&names.audience),
        ),
    };
    let mut section = Section::new(Step::GOOGLE_PUSH)
        .done(done)
        .act("who vouches for the pushes, and the subscription that brings them")
        .shell(&commands)
        .note("no payload unwrapping; no dead-letter topic is needed: what cannot be read is kept here and never comes again");
    let expected = format!(
        "projects/{}/subscriptions/{}",
        names.project, names.subscription
    );
    if configured.is_none() {
        section = section.file(&format!(
            "[google_play.push]\n\
             audience = \"{}\"\n\
             email = \"{}\"\n\
             subscription = \"{expected}\"",
            names.audience, names.push
        ));
    }
    if subject.public_url.is_none() {
        section = section.note("give --public-url or webhooks.public_url to see the exact URL");
    }
    section.act("Play Console → Monetization setup → Send test message: `doctor` must see it")
}

fn code() -> Section {
    Section::new(Step::GOOGLE_CODE)
        .act("pass the account's store token to setObfuscatedAccountId when a purchase starts")
        .act("send each purchase of onPurchasesUpdated and, at every start, of queryPurchasesAsync")
        .act("never acknowledge or consume on the device: the server does")
}

fn purchase(subject: &Subject<'_>) -> Section {
    Section::new(Step::GOOGLE_PURCHASE)
        .act("Play Console → Settings → License testing: the tester's Google account")
        .act("add the same account to the internal testing track, and open its opt-in link on the device")
        .act("buy with \"Test card, always approves\" while this follows:")
        .shell(&subject.command("doctor --wait"))
        .note("a test month lasts five minutes, and an unacknowledged test purchase is taken back after about as long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_each_word_as_it_is() {
        for (word, written) in [
            ("play.json", "play.json"),
            ("my keys/play.json", "'my keys/play.json'"),
            ("$(rm -r .)", "'$(rm -r .)'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), written);
        }
    }
}
