//! A client of any server: what the commands, the demo, the tests and the benches speak through.

use std::path::PathBuf;

use anyhow::Context as _;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

use crate::proto::entitlement_service_client::EntitlementServiceClient;
use crate::proto::{
    AppStoreProof, BindPurchaseRequest, BindPurchaseResponse, GetEntitlementsRequest,
    GetEntitlementsResponse, GooglePlayProof, ListProductsRequest, ListProductsResponse,
    PreflightPurchaseRequest, PreflightPurchaseResponse, PurchaseProof, RefreshSubscriptionRequest,
    RefreshSubscriptionResponse, RestorePurchasesRequest, RestorePurchasesResponse,
    WatchEntitlementsRequest, WatchEntitlementsResponse, app_store_proof,
    preflight_purchase_request, purchase_proof,
};

/// Sends the same credential with every call.
#[derive(Clone, Debug)]
pub struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    /// The credential that a token is.
    ///
    /// # Errors
    /// The token has characters that no token has.
    pub fn of(token: &str) -> anyhow::Result<Self> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
        bearer.set_sensitive(true);
        Ok(Self(bearer))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Whose certificates are believed of an `https://` server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whom this machine trusts.
    Machine,
    /// Those, and the certificates in this PEM file.
    MachineAnd(PathBuf),
    /// The certificates in this PEM file alone.
    Only(PathBuf),
}

impl Trust {
    /// What a command's `--ca-file` means.
    pub(super) fn besides(file: Option<&PathBuf>) -> Self {
        file.map_or(Self::Machine, |file| Self::MachineAnd(file.clone()))
    }
}

/// The way to a server; nothing is sent yet.
///
/// # Errors
/// It is not a URL, or whom to trust cannot be read.
pub(super) fn endpoint(server: &str, trust: &Trust) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::from_shared(server.to_owned())
        .with_context(|| format!("{server} is not a URL"))?;
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint);
    }
    let read = |file: &PathBuf| {
        let pem =
            std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        anyhow::Ok(Certificate::from_pem(pem))
    };
    let tls = ClientTlsConfig::new();
    let tls = match trust {
        Trust::Machine => tls.with_native_roots(),
        Trust::MachineAnd(file) => tls.with_native_roots().ca_certificate(read(file)?),
        Trust::Only(file) => tls.ca_certificate(read(file)?),
    };
    Ok(endpoint.tls_config(tls)?)
}

/// One caller's connection; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    /// The generated client, for calls that have no shorthand here.
    pub inner: EntitlementServiceClient<InterceptedService<Channel, Bearer>>,
}

impl Client {
    /// Connects to `server` (an `http://` or `https://` URL) with a bearer token.
    ///
    /// # Errors
    /// The server cannot be reached, or the token has characters that no token has.
    pub async fn connect(server: &str, token: &str) -> anyhow::Result<Self> {
        Self::connect_trusting(server, &Trust::Machine, token).await
    }

    /// The same, believing the certificates of `trust`.
    ///
    /// # Errors
    /// The same, or whom to trust cannot be read.
    pub async fn connect_trusting(
        server: &str,
        trust: &Trust,
        token: &str,
    ) -> anyhow::Result<Self> {
        let channel = endpoint(server, trust)?
            .connect()
            .await
            .with_context(|| format!("no server answers at {server}; is it running?"))?;
        Self::over(channel, token)
    }

    /// Uses a connection that exists.
    ///
    /// # Errors
    /// The token has characters that no token has.
    pub fn over(channel: Channel, token: &str) -> anyhow::Result<Self> {
        let bearer = Bearer::of(token)?;
        Ok(Self {
            inner: EntitlementServiceClient::with_interceptor(channel, bearer),
        })
    }

    /// What the caller may use now.
    ///
    /// # Errors
    /// The server's status.
    pub async fn get(&mut self) -> Result<GetEntitlementsResponse, Status> {
        let response = self
            .inner
            .get_entitlements(GetEntitlementsRequest::default())
            .await?;
        Ok(response.into_inner())
    }

    /// Binds an App Store purchase by its signed transaction.
    ///
    /// # Errors
    /// The server's status; its details say what to do with the purchase.
    pub async fn bind_app_store(
        &mut self,
        signed_transaction: &str,
    ) -> Result<BindPurchaseResponse, Status> {
        let proof = app_store_proof::Proof::SignedTransaction(signed_transaction.to_owned());
        self.bind(purchase_proof::Proof::AppStore(AppStoreProof {
            proof: Some(proof),
        }))
        .await
    }

    /// Binds a Google Play purchase by its token.
    ///
    /// # Errors
    /// The server's status; its details say what to do with the purchase.
    pub async fn bind_google_play(
        &mut self,
        package_name: &str,
        purchase_token: &str,
    ) -> Result<BindPurchaseResponse, Status> {
        let proof = GooglePlayProof {
            package_name: package_name.to_owned(),
            purchase_token: purchase_token.to_owned(),
        };
        self.bind(purchase_proof::Proof::GooglePlay(proof)).await
    }

    /// Binds any proof.
    ///
    /// # Errors
    /// The server's status; its details say what to do with the purchase.
    pub async fn bind(
        &mut self,
        proof: purchase_proof::Proof,
    ) -> Result<BindPurchaseResponse, Status> {
        let proof = Some(PurchaseProof { proof: Some(proof) });
        let request = BindPurchaseRequest {
            proof,
            account: String::new(),
        };
        Ok(self.inner.bind_purchase(request).await?.into_inner())
    }

    /// Binds everything that a device holds.
    ///
    /// # Errors
    /// The server's status; what became of each proof is in the answer.
    pub async fn restore(
        &mut self,
        proofs: Vec<purchase_proof::Proof>,
    ) -> Result<RestorePurchasesResponse, Status> {
        let proofs = proofs.into_iter();
        let request = RestorePurchasesRequest {
            proofs: proofs
                .map(|proof| PurchaseProof { proof: Some(proof) })
                .collect(),
            account: String::new(),
        };
        Ok(self.inner.restore_purchases(request).await?.into_inner())
    }

    /// Asks what a purchase, or a product that is about to be bought, is to the caller.
    ///
    /// # Errors
    /// The server's status.
    pub async fn preflight(
        &mut self,
        about: preflight_purchase_request::About,
    ) -> Result<PreflightPurchaseResponse, Status> {
        let request = PreflightPurchaseRequest {
            about: Some(about),
            account: String::new(),
        };
        Ok(self.inner.preflight_purchase(request).await?.into_inner())
    }

    /// Follows the caller's entitlements.
    ///
    /// # Errors
    /// The server's status.
    pub async fn watch(&mut self) -> Result<Streaming<WatchEntitlementsResponse>, Status> {
        let response = self
            .inner
            .watch_entitlements(WatchEntitlementsRequest::default())
            .await?;
        Ok(response.into_inner())
    }

    /// Asks the stores now.
    ///
    /// # Errors
    /// The server's status.
    pub async fn refresh(&mut self) -> Result<RefreshSubscriptionResponse, Status> {
        let request = RefreshSubscriptionRequest::default();
        Ok(self.inner.refresh_subscription(request).await?.into_inner())
    }

    /// What the catalog sells.
    ///
    /// # Errors
    /// The server's status.
    pub async fn products(&mut self) -> Result<ListProductsResponse, Status> {
        Ok(self
            .inner
            .list_products(ListProductsRequest::default())
            .await?
            .into_inner())
    }
}
