//! Where a command of operators works: in the database of the configuration, by the very handlers
//! that serve the API, or over the API of a running server. One command, one output, two sources.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::Status;
use tonic::body::Body;
use tonic_types::StatusExt as _;
use tower::util::BoxCloneService;
use tower::{BoxError, ServiceExt as _};

use super::ConfigArgs;
use super::client::{Trust, endpoint};
use crate::app::{CatalogFile, build_core, host_api};
use crate::flows::Core;
use crate::grpc::Carrier;
use crate::proto::account_service_client::AccountServiceClient;
use crate::proto::catalog_service_client::CatalogServiceClient;
use crate::proto::entitlement_service_client::EntitlementServiceClient;
use crate::proto::key_service_client::KeyServiceClient;
use crate::proto::purchase_service_client::PurchaseServiceClient;
use crate::proto::support_service_client::SupportServiceClient;

/// Names the key without a file: for secret stores that put it into the environment.
const KEY_VARIABLE: &str = "ENTITLED_KEY";
const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Which deployment, and as whom.
#[derive(Args, Clone)]
pub(crate) struct SourceArgs {
    /// Work over the API of this server (https://…) instead of in the database of --config
    #[arg(long, env = "ENTITLED_SERVER")]
    server: Option<String>,
    /// File with the operator's API key or token for --server; without it, the variable
    /// ENTITLED_KEY holds it
    #[arg(long, env = "ENTITLED_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// PEM certificates to trust for --server besides the machine's
    #[arg(long, env = "ENTITLED_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Who does it; kept with the event. Over the API it is whoever holds the key
    #[arg(long, env = "USER", default_value = "operator")]
    actor: String,
    #[command(flatten)]
    config: ConfigArgs,
}

impl SourceArgs {
    /// Opens the database, or the way to the server.
    pub(crate) async fn open(&self) -> anyhow::Result<Source> {
        self.open_with(CatalogFile::Ignore).await
    }

    /// The same where no catalog need be active yet.
    pub(crate) async fn open_for_catalogs(&self) -> anyhow::Result<Source> {
        self.open_with(CatalogFile::MayBeFirst).await
    }

    async fn open_with(&self, catalog: CatalogFile) -> anyhow::Result<Source> {
        match self.server.as_deref().filter(|server| !server.is_empty()) {
            Some(server) => self.remote(server),
            None => self.host(catalog).await,
        }
    }

    async fn host(&self, catalog: CatalogFile) -> anyhow::Result<Source> {
        let config = self.config.load().context(
            "this command works in a database (--config FILE) or over the API (--server URL)",
        )?;
        let core = build_core(&config, None, catalog).await?;
        Ok(Source {
            carrier: host_api(&config, Arc::clone(&core), &self.actor)?,
            core: Some(core),
        })
    }

    fn remote(&self, server: &str) -> anyhow::Result<Source> {
        check_url(server)?;
        let key = self.key()?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))
            .map_err(|_| anyhow!("the key holds characters that no key has"))?;
        bearer.set_sensitive(true);
        let endpoint = endpoint(server, &Trust::besides(self.ca_file.as_ref()))?;
        let told = server.to_owned();
        let carried = endpoint
            .connect_lazy()
            .map_request(move |mut request: Request<Body>| {
                request.headers_mut().insert(AUTHORIZATION, bearer.clone());
                request
            })
            .map_err(move |error| {
                BoxError::from(format!("no server answers at {told}: {}", chain(&error)))
            });
        Ok(Source {
            carrier: BoxCloneService::new(carried),
            core: None,
        })
    }

    /// The key, from where no list of processes shows it.
    fn key(&self) -> anyhow::Result<SecretString> {
        let text = match &self.key_file {
            Some(file) => std::fs::read_to_string(file)
                .with_context(|| format!("{} cannot be read", file.display()))?,
            None => std::env::var(KEY_VARIABLE).map_err(|_| {
                anyhow!(
                    "--server needs a key: give --key-file FILE or set {KEY_VARIABLE}; an admin \
                     makes one with `entitled key create`"
                )
            })?,
        };
        match text.trim() {
            "" => bail!("the key is empty"),
            key => Ok(key.to_owned().into()),
        }
    }
}

/// A server's URL must carry no secret, and ours in clear to this machine alone.
fn check_url(server: &str) -> anyhow::Result<()> {
    let uri: Uri = server
        .parse()
        .map_err(|_| anyhow!("{server:?} is not a URL; write https://entitled.example.com"))?;
    let authority = uri.authority().map(|authority| authority.as_str());
    if authority.is_none_or(|authority| authority.contains('@')) || uri.query().is_some() {
        bail!("--server is a plain URL: no key, name or password in it");
    }
    let host = uri.host().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if here => Ok(()),
        Some("http") => {
            bail!("http would carry the key in clear; use https, or a tunnel to localhost")
        }
        Some(_) | None => bail!("{server:?} is not a URL; write https://entitled.example.com"),
    }
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

/// A deployment to work on.
pub(crate) struct Source {
    carrier: Carrier,
    /// On the database host.
    core: Option<Arc<Core>>,
}

impl Source {
    pub(crate) fn support(&self) -> SupportServiceClient<Carrier> {
        SupportServiceClient::new(self.carrier.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) fn purchases(&self) -> PurchaseServiceClient<Carrier> {
        PurchaseServiceClient::new(self.carrier.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) fn entitlements(&self) -> EntitlementServiceClient<Carrier> {
        EntitlementServiceClient::new(self.carrier.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) fn accounts(&self) -> AccountServiceClient<Carrier> {
        AccountServiceClient::new(self.carrier.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Carrier> {
        KeyServiceClient::new(self.carrier.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) fn catalogs(&self) -> CatalogServiceClient<Carrier> {
        CatalogServiceClient::new(self.carrier.clone())
            .max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Tells the replicas what was changed, where no server does it.
    pub(crate) async fn finish(self) {
        if let Some(core) = self.core {
            core.flush_hints().await;
            core.db.close().await;
        }
    }
}

/// A refusal in words: what happened, and what to do next.
pub(crate) fn told(status: Status) -> anyhow::Error {
    let reason = status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default();
    let message = status.message();
    match reason.as_str() {
        "" => anyhow!("{message}"),
        "ACCOUNT_NOT_FOUND" => anyhow!(
            "{message}: name it issuer:subject (for example dev:alice) or by its id; `entitled \
             find` looks for it by whatever a mail holds"
        ),
        _ => anyhow!("{message} ({reason}; docs/errors.md explains it)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_travels_in_clear_to_this_machine_alone_and_in_no_url() {
        for sound in [
            "https://entitled.example.com",
            "https://entitled.example.com:8443/",
            "http://localhost:8080",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
        ] {
            assert!(check_url(sound).is_ok(), "{sound}");
        }
        for refused in [
            "http://entitled.example.com",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "https://key@entitled.example.com",
            "https://entitled.example.com/?key=entitled_op_x",
            "entitled.example.com",
            "ftp://entitled.example.com",
            "",
        ] {
            assert!(check_url(refused).is_err(), "{refused}");
        }
    }
}
