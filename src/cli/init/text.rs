//! What `init` writes: pure text from answers.

use std::fmt::Write as _;
use std::path::Path;

use toml::Value;

use super::{Answers, Identity};

/// As TOML writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The catalog: the app with a subscription by the month and by the year, as an example to change.
pub(super) fn catalog(answers: &Answers) -> String {
    let mut text = "\
# What is sold and what it grants: the allow-list. A product that is not here grants nothing.
# Check it with `entitled catalog check FILE`; docs/operations.md explains every setting.
# Ids at the stores are for ever, and so are the names of entitlements once an app asks for them.

"
    .to_owned();
    let none = answers.bundle_id.is_none() && answers.package_name.is_none();
    let example = "com.example.app".to_owned();
    let bundle = answers.bundle_id.as_ref().or(none.then_some(&example));
    let package = answers.package_name.as_ref().or(none.then_some(&example));
    if let Some(bundle) = bundle {
        let _ = writeln!(
            text,
            "[[apps]]\nid = \"ios\"\nbundle_id = {}",
            quoted(bundle)
        );
        let _ = match answers.app_apple_id {
            Some(id) => writeln!(text, "app_apple_id = {id}\n"),
            None => writeln!(
                text,
                "# app_apple_id = 1234567890   # App Information → Apple ID: production purchases need it\n"
            ),
        };
    }
    if let Some(package) = package {
        let package = quoted(package);
        let _ = writeln!(
            text,
            "[[apps]]\nid = \"android\"\npackage_name = {package}\n"
        );
    }
    text.push_str(
        "# What an account can use. Apps ask for these names; products come and go.\n\
         [entitlements.pro_access]\n\n",
    );
    for (plan, period) in [("monthly", "P1M"), ("yearly", "P1Y")] {
        let _ = writeln!(
            text,
            "[products.pro_{plan}]\nkind = \"subscription\"\nperiod = \"{period}\"\ngrants = [\"pro_access\"]"
        );
        if let Some(bundle) = bundle {
            let id = quoted(&format!("{bundle}.pro.{plan}"));
            let _ = writeln!(text, "app_store = {{ product_id = {id} }}");
        }
        if package.is_some() {
            let _ = writeln!(
                text,
                "google_play = {{ product_id = \"pro\", base_plan_id = \"pro-{plan}\" }}"
            );
        }
        text.push('\n');
    }
    text.push_str(
        "# Further kinds: non_consumable, consumable (credits), non_renewing.\n\
         # [products.export_forever]\n\
         # kind = \"non_consumable\"\n\
         # grants = [\"export\"]\n\
         # app_store = { product_id = \"com.example.export\" }\n\
         # google_play = { product_id = \"export\" }\n\
         \n\
         # Whom sandbox purchases serve: everyone (App Review buys in sandbox), testers, nobody.\n\
         # sandbox_access stands before the first table:  sandbox_access = \"everyone\"\n",
    );
    text
}

/// The configuration for real stores.
pub(super) fn config(answers: &Answers, catalog: &Path, key: &Path) -> String {
    let mut text = "\
# The server's configuration. Single values can come from the environment instead:
# ENTITLED__DATABASE__URL is url in [database]. docs/operations.md explains every setting;
# `entitled doctor --config FILE` checks them against the real services.

# Real users, real money: simulators, virtual clocks and shared secrets are refused.
mode = \"production\"
"
    .to_owned();
    let _ = writeln!(text, "catalog = {}\n", quoted(&catalog.to_string_lossy()));
    let url = answers.database_url.as_deref();
    let _ = writeln!(
        text,
        "[database]\n\
         # One direct URL: not a transaction-mode pooler.\n\
         url = {}{}\n",
        quoted(url.unwrap_or("postgres://entitled@localhost/entitled")),
        url.map_or("   # put your own here", |_| ""),
    );
    let _ = writeln!(
        text,
        "# What stores send is kept encrypted under this key. Keep a copy apart from the database's\n\
         # backups: without it they cannot be read. Move it to where your secrets are.\n\
         [[encryption.keys]]\n\
         file = {}\n",
        quoted(&key.to_string_lossy())
    );
    text.push_str(&listeners(answers));
    text.push_str(&issuers(answers.identity.as_ref()));
    text.push_str(&tokens(answers));
    text.push_str(&stores(answers));
    text
}

fn listeners(answers: &Answers) -> String {
    let port = answers.port;
    let public = match &answers.public_url {
        Some(url) => format!("public_url = {}", quoted(url)),
        None => {
            "# public_url = \"https://entitled.example.com\"   # where the stores reach it".into()
        }
    };
    format!(
        "[grpc]\n\
         listen = \"127.0.0.1:{port}\"\n\
         # tls_certificate = \"/etc/entitled/tls.pem\"      # or let TLS end in front of it\n\
         # tls_key = \"/run/secrets/tls.key\"\n\
         \n\
         # The stores' notifications; TLS ends in front of it. Pass /webhooks/… on to it.\n\
         [webhooks]\n\
         listen = \"127.0.0.1:{}\"\n\
         {public}\n\
         \n\
         # Metrics and health, without authentication: keep it private.\n\
         [admin]\n\
         listen = \"127.0.0.1:{}\"\n\
         \n",
        port + 1,
        port + 2,
    )
}

fn issuers(identity: Option<&Identity>) -> String {
    let mut text = "\
# Whose tokens the apps send. The name is part of every account's key: never rename it.
"
    .to_owned();
    match identity {
        Some(identity) => {
            let preset = identity.preset;
            let _ = writeln!(
                text,
                "[[issuers]]\nname = \"app\"\npreset = \"{}\"",
                preset.as_str()
            );
            if let Some(issuer) = &identity.issuer {
                let _ = writeln!(text, "issuer = {}", quoted(issuer));
            }
            if !identity.audience.is_empty() {
                let audience: Vec<String> =
                    identity.audience.iter().map(|one| quoted(one)).collect();
                let _ = writeln!(text, "audience = [{}]", audience.join(", "));
            }
            text.push_str("# service_scope = \"entitled.service\"    # makes a caller a service\n");
            text.push_str("# operator_scope = \"entitled.operator\"  # makes a caller one who answers tickets\n\n");
        }
        None => text.push_str(
            "# [[issuers]]\n\
             # name = \"app\"\n\
             # preset = \"firebase\"   # auth0, cognito, supabase, clerk, keycloak, apple, oidc\n\
             # issuer = \"https://securetoken.google.com/YOUR-PROJECT\"\n\n",
        ),
    }
    text.push_str(
        "# Backends and the people who answer tickets need nothing in this file: they have API keys,\n\
         # `entitled key create` makes them.\n\n",
    );
    text
}

/// Comments that start as they are once the marks are taken away and the key is made.
fn tokens(answers: &Answers) -> String {
    let base = answers.public_url.as_deref();
    let base = base.unwrap_or("https://entitled.example.com");
    format!(
        "# Accounts without a sign-in, and tokens for apps that know only your backend\n\
         # (docs/identity.md, 2 and 3). The key, once:\n\
         #   openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out tokens.pem\n\
         # [tokens]\n\
         # issuer = {}   # the public address of the API\n\
         # key_files = [\"/run/secrets/tokens.pem\"]\n\
         # anonymous_accounts = \"open\"    # or \"services\": made by a backend that has checked the device\n\
         # anonymous_per_address_per_minute = 30\n\
         # anonymous_per_minute = 600        # over all replicas\n\
         # namespaces = [\"backend\"]        # so that services may name users `backend:42`\n\n",
        quoted(origin(base)),
    )
}

/// A URL without its path.
fn origin(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[authority..]
        .find('/')
        .map_or(url.len(), |at| authority + at);
    &url[..end]
}

/// Sections of stores are comments until their steps are done: half a section would not start.
fn stores(answers: &Answers) -> String {
    let base = answers
        .public_url
        .as_deref()
        .unwrap_or("https://entitled.example.com");
    let base = base.trim_end_matches('/');
    format!(
        "# `entitled setup apple` says where each value is: docs/stores/app-store.md, step 3.\n\
         # [app_store]\n\
         # issuer_id = \"57246542-96fe-1a63-e053-0824d011072a\"   # above the list of In-App Purchase keys\n\
         # key_id = \"2X9R4HXF34\"\n\
         # private_key_file = \"/run/secrets/apple.p8\"\n\
         \n\
         # `entitled setup google` prints these with your names: docs/stores/google-play.md, 2 and 6.\n\
         # [google_play]\n\
         # service_account_file = \"/run/secrets/play.json\"\n\
         #\n\
         # [google_play.push]\n\
         # audience = \"{base}/webhooks/google-play\"\n\
         # email = \"entitled-push@YOUR-PROJECT.iam.gserviceaccount.com\"\n\
         # subscription = \"projects/YOUR-PROJECT/subscriptions/entitled-play-push\"\n"
    )
}

/// What to do with the files.
pub(super) fn next(answers: &Answers, config: &str, catalog: &str) -> String {
    let mut steps = vec![format!(
        "entitled catalog check {catalog}      # once it says what you sell"
    )];
    if answers.database_url.is_none() {
        steps.push(format!("# put the database's URL into {config}"));
    }
    steps.push(format!("entitled migrate --config {config}"));
    steps.push(format!(
        "entitled catalog apply {catalog} --config {config}"
    ));
    steps.push(format!(
        "entitled key create ops --kind operator --role admin --out ops.key --config {config}"
    ));
    steps.push(format!(
        "entitled start --config {config}             # in another terminal, and anew after each change"
    ));
    if answers.bundle_id.is_some() || answers.package_name.is_none() {
        steps.push(format!(
            "entitled setup apple --config {config}       # what to click, copy and run"
        ));
    }
    if answers.package_name.is_some() || answers.bundle_id.is_none() {
        steps.push(format!("entitled setup google --config {config}"));
    }
    steps.push(format!(
        "entitled doctor --config {config}            # names the first step that is not done"
    ));
    let mut text = format!("Written: {config}, {catalog}. What next:\n\n");
    for step in steps {
        let _ = writeln!(text, "  {step}");
    }
    text.push_str(
        "\nNo store account yet? docs/first-purchase.md plays it all on simulated stores.\n",
    );
    text
}
