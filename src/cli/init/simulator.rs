//! `init --simulator`: a development configuration for a store simulator that runs by itself.

use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;

use super::{Answers, CATALOG, InitArgs, check, refuse_existing, shown, text, write_new};
use crate::cli::stack::{DEV_ISSUER, IDENTITY_ISSUER, StackAddress, make_dir, operator_scope};
use crate::domain::role::Role;
use crate::encryption::providers::new_key_file;
use crate::sandbox::{Environment, Manifest};

const CONFIG: &str = "simulator.toml";
/// Beside the real configuration's: this one guards nothing.
const KEY: &str = "simulator-encryption.key";
/// What the commands `buy`, `get`, `advance` and the like look for in their `--dir`.
const STACK: &str = "stack.json";

pub(super) fn run(dir: &Path, stores: &Path, args: &InitArgs) -> anyhow::Result<()> {
    let stores = std::path::absolute(stores)?;
    let file = stores.join("manifest.json");
    let manifest = std::fs::read_to_string(&file).with_context(|| {
        format!(
            "no simulator in {}; start one first: entitled sandbox --dir {}",
            stores.display(),
            shown(&stores)
        )
    })?;
    let manifest: Manifest = serde_json::from_str(&manifest)
        .with_context(|| format!("{} is no manifest of a simulator", file.display()))?;
    let (config, stack, catalog) = (dir.join(CONFIG), dir.join(STACK), dir.join(CATALOG));
    let key = dir.join(KEY);
    refuse_existing(&[config.as_path(), stack.as_path(), key.as_path()])?;
    let Some(database_url) = &args.database_url else {
        bail!("give --database-url postgres://…: an empty database for this alone");
    };
    let catalog_text = match std::fs::read_to_string(&catalog) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = text::catalog(&Answers {
                bundle_id: Some(manifest.bundle_id.clone()),
                app_apple_id: Some(manifest.app_apple_id),
                package_name: Some(manifest.package_name.clone()),
                ..Answers::default()
            });
            make_dir(dir)?;
            write_new(&catalog, &text)?;
            text
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", shown(&catalog)));
        }
    };
    let secret =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 48]>());
    let world = World {
        manifest: &manifest,
        stores: &stores,
        catalog: &catalog,
        key: &key,
        database_url,
        secret: &secret,
        port: args.port,
    };
    let config_text = world.config();
    check(&config_text, &catalog_text)?;
    let (_, key_text) = new_key_file()?;
    make_dir(dir)?;
    write_new(&key, &key_text)?;
    write_new(&config, &config_text)?;
    let address = StackAddress {
        server: format!("http://127.0.0.1:{}", args.port),
        authority: None,
        control: manifest.control_url.clone(),
        secret,
        config: config.clone(),
    };
    write_new(&stack, &serde_json::to_string_pretty(&address)?)?;
    let (config, place) = (shown(&config), shown(dir));
    let place = if place.is_empty() { "." } else { &place };
    println!(
        "Written: {config}, for the simulated stores in {}. What next:\n\n\
         \x20 entitled migrate --config {config}\n\
         \x20 entitled start --config {config}          # in another terminal\n\
         \x20 entitled doctor --config {config}\n\
         \x20 entitled doctor --wait --config {config}  # in another terminal, while you buy:\n\
         \x20 entitled buy alice pro_monthly --dir {place}",
        shown(&stores),
    );
    Ok(())
}

/// A simulator, and the server that takes it for the stores.
pub(super) struct World<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) stores: &'a Path,
    pub(super) catalog: &'a Path,
    pub(super) key: &'a Path,
    pub(super) database_url: &'a str,
    pub(super) secret: &'a str,
    pub(super) port: u16,
}

impl World<'_> {
    pub(super) fn config(&self) -> String {
        let manifest = self.manifest;
        let push = &manifest.push;
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let path = |name: &str| quoted(&self.stores.join(name).to_string_lossy());
        let environment = match manifest.environment {
            Environment::Production => "production",
            Environment::Sandbox => "sandbox",
        };
        format!(
            "# For simulated stores: a configuration for development, never for real users.\n\
             mode = \"development\"\n\
             catalog = {catalog}\n\
             \n\
             [database]\n\
             url = {database}\n\
             \n\
             [[encryption.keys]]\n\
             file = {key}\n\
             \n\
             [grpc]\n\
             listen = \"127.0.0.1:{grpc}\"\n\
             \n\
             [webhooks]\n\
             listen = \"127.0.0.1:{webhooks}\"\n\
             public_url = \"http://127.0.0.1:{webhooks}\"   # the simulator sends here\n\
             \n\
             [admin]\n\
             listen = \"127.0.0.1:{admin_port}\"\n\
             \n\
             # Business time is the simulator's: `entitled advance 1mo` moves it.\n\
             [clock]\n\
             follow = \"{control}/clock\"\n\
             \n\
             # Tokens of `entitled token`: signed with a secret of this file.\n\
             [[issuers]]\n\
             name = \"{DEV_ISSUER}\"\n\
             shared_secret = {secret}\n\
             audience = [\"entitled\"]\n\
             service_scope = \"entitled.service\"\n\
             viewer_scope = \"{viewer}\"\n\
             operator_scope = \"{support}\"\n\
             admin_scope = \"{admin}\"\n\
             \n\
             # The simulator's identity provider, as your app's would be.\n\
             [[issuers]]\n\
             name = \"{IDENTITY_ISSUER}\"\n\
             preset = \"oidc\"\n\
             issuer = {identity}\n\
             audience = [{audience}]\n\
             \n\
             [app_store]\n\
             issuer_id = {issuer_id}\n\
             key_id = {key_id}\n\
             private_key_file = {p8}\n\
             root_certificates = [{root}]   # the simulator's own: production trusts Apple's alone\n\
             environments = [\"{environment}\"]\n\
             production_url = {apple}\n\
             sandbox_url = {apple}\n\
             \n\
             [google_play]\n\
             service_account_file = {account}\n\
             base_url = {google}\n\
             \n\
             [google_play.push]\n\
             audience = {push_audience}\n\
             email = {push_email}\n\
             subscription = {push_subscription}\n\
             jwks_url = {push_keys}\n\
             issuer = {push_issuer}\n",
            viewer = operator_scope(Role::Viewer),
            support = operator_scope(Role::Support),
            admin = operator_scope(Role::Admin),
            catalog = quoted(&self.catalog.to_string_lossy()),
            database = quoted(self.database_url),
            key = quoted(&self.key.to_string_lossy()),
            grpc = self.port,
            webhooks = self.port + 1,
            admin_port = self.port + 2,
            control = manifest.control_url,
            secret = quoted(self.secret),
            identity = quoted(&manifest.identity.issuer),
            audience = quoted(&manifest.identity.audience),
            issuer_id = quoted(&manifest.apple_issuer_id),
            key_id = quoted(&manifest.apple_key_id),
            p8 = path("apple-key.p8"),
            root = path("apple-root.der"),
            apple = quoted(&manifest.app_store_api_url),
            account = path("service-account.json"),
            google = quoted(&manifest.google_api_url),
            push_audience = quoted(&push.audience),
            push_email = quoted(&push.email),
            push_subscription = quoted(&push.subscription),
            push_keys = quoted(&push.jwks_url),
            push_issuer = quoted(&push.issuer),
        )
    }
}
