//! `AccountService`: one file per concern.

mod admission;
mod erase;
mod erasures;
mod export;
mod link_identity;
mod sessions;
mod store_tokens;
mod tokens;

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use futures::Stream;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use self::admission::Admission;
pub(crate) use self::tokens::Tokens;
use super::door::Door;
use super::status;
use super::wire;
use super::wire::account_service_server::AccountService;
use crate::edge::TrustedProxies;
use crate::flows::Account;

/// The service with what its handlers need.
pub(super) struct Accounts {
    door: Door,
    /// None: this server signs no tokens.
    tokens: Option<Arc<Tokens>>,
    admission: Admission,
}

impl Accounts {
    pub(super) fn new(door: Door, tokens: Option<Arc<Tokens>>, proxies: TrustedProxies) -> Self {
        let admission = Admission::new(tokens.as_deref(), proxies);
        Self {
            door,
            tokens,
            admission,
        }
    }

    fn tokens(&self) -> Result<&Tokens, Status> {
        self.tokens.as_deref().ok_or_else(status::tokens_off)
    }
}

#[tonic::async_trait]
impl AccountService for Accounts {
    type ExportAccountStream =
        Pin<Box<dyn Stream<Item = Result<wire::ExportAccountResponse, Status>> + Send>>;

    async fn create_anonymous(
        &self,
        request: Request<wire::CreateAnonymousRequest>,
    ) -> Result<Response<wire::CreateAnonymousResponse>, Status> {
        sessions::create(self, &request).await.map(Response::new)
    }

    async fn refresh_token(
        &self,
        request: Request<wire::RefreshTokenRequest>,
    ) -> Result<Response<wire::RefreshTokenResponse>, Status> {
        sessions::refresh(self, &request).await.map(Response::new)
    }

    async fn mint_token(
        &self,
        request: Request<wire::MintTokenRequest>,
    ) -> Result<Response<wire::MintTokenResponse>, Status> {
        let caller = self.door.caller(&request)?;
        sessions::mint(self, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn link_identity(
        &self,
        request: Request<wire::LinkIdentityRequest>,
    ) -> Result<Response<wire::LinkIdentityResponse>, Status> {
        let caller = self.door.caller(&request)?;
        link_identity::link_identity(&self.door, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn register_store_token(
        &self,
        request: Request<wire::RegisterStoreTokenRequest>,
    ) -> Result<Response<wire::RegisterStoreTokenResponse>, Status> {
        let caller = self.door.caller(&request)?;
        store_tokens::register(&self.door, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn erase_account(
        &self,
        request: Request<wire::EraseAccountRequest>,
    ) -> Result<Response<wire::EraseAccountResponse>, Status> {
        let caller = self.door.caller(&request)?;
        erase::erase(&self.door, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn export_account(
        &self,
        request: Request<wire::ExportAccountRequest>,
    ) -> Result<Response<Self::ExportAccountStream>, Status> {
        let caller = self.door.caller(&request)?;
        let pieces = export::export(&self.door, &caller, &request.into_inner().account).await?;
        Ok(Response::new(Box::pin(pieces)))
    }

    async fn list_erasures(
        &self,
        request: Request<wire::ListErasuresRequest>,
    ) -> Result<Response<wire::ListErasuresResponse>, Status> {
        self.door.operator(&request)?;
        erasures::list(&self.door, &request.into_inner())
            .await
            .map(Response::new)
    }
}

fn wire_account(account: Account) -> wire::Account {
    wire::Account {
        id: account.id.to_string(),
        store_token: account.store_token,
    }
}

/// A moment of the machine's clock, by which credentials are judged.
fn machine_timestamp(at: SystemTime) -> Timestamp {
    Timestamp::from(at)
}
