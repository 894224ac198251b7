//! `SupportService`: for operators only. One file per call, or per family of calls.

mod act_at_store;
mod explain;
mod find;
mod gifts;
mod replay;
mod timeline;
mod transfer;

use tonic::{Request, Response, Status};

use super::door::{Door, Operator};
use super::status::Reason;
use super::wire::support_service_server::SupportService;
use super::{status, wire};
use crate::domain::ids::ChainId;
use crate::flows::resync::resync;
use crate::flows::tell_timeline::named_purchases;

/// The service with what its handlers need.
pub(super) struct Support {
    pub(super) door: Door,
}

/// The one purchase that an operator names by our id or a store's.
async fn purchase(door: &Door, name: &str) -> Result<ChainId, Status> {
    if name.is_empty() {
        return Err(status::bad_request("purchase", "is required"));
    }
    let found = named_purchases(&door.core, name)
        .await
        .map_err(status::from_storage)?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(status::status(
            Reason::PurchaseNotFound,
            "no purchase of that id has arrived here",
        )),
        [_, _, ..] => Err(status::bad_request(
            "purchase",
            "several purchases have that store id; name one by our id (see the timeline)",
        )),
    }
}

/// What an operator does is kept with why.
pub(super) fn reason(reason: &str) -> Result<&str, Status> {
    match reason.trim() {
        "" => Err(status::bad_request("reason", "say why; it is kept")),
        reason if reason.len() > 500 => Err(status::bad_request("reason", "at most 500 bytes")),
        reason => Ok(reason),
    }
}

#[tonic::async_trait]
impl SupportService for Support {
    async fn find_account(
        &self,
        request: Request<wire::FindAccountRequest>,
    ) -> Result<Response<wire::FindAccountResponse>, Status> {
        self.door.operator(&request)?;
        find::find_account(&self.door, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_timeline(
        &self,
        request: Request<wire::GetTimelineRequest>,
    ) -> Result<Response<wire::GetTimelineResponse>, Status> {
        let operator = self.door.operator(&request)?;
        timeline::get_timeline(&self.door, &operator, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn explain_entitlement(
        &self,
        request: Request<wire::ExplainEntitlementRequest>,
    ) -> Result<Response<wire::ExplainEntitlementResponse>, Status> {
        let operator = self.door.operator(&request)?;
        explain::explain_entitlement(&self.door, &operator, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn grant_entitlement(
        &self,
        request: Request<wire::GrantEntitlementRequest>,
    ) -> Result<Response<wire::GrantEntitlementResponse>, Status> {
        let operator = self.door.operator(&request)?;
        gifts::grant_entitlement(&self.door, &operator, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn revoke_grant(
        &self,
        request: Request<wire::RevokeGrantRequest>,
    ) -> Result<Response<wire::RevokeGrantResponse>, Status> {
        let operator = self.door.operator(&request)?;
        gifts::revoke_grant(&self.door, &operator, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn transfer_purchase(
        &self,
        request: Request<wire::TransferPurchaseRequest>,
    ) -> Result<Response<wire::TransferPurchaseResponse>, Status> {
        let operator = self.door.operator(&request)?;
        transfer::transfer_purchase(&self.door, &operator, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn resync(
        &self,
        request: Request<wire::ResyncRequest>,
    ) -> Result<Response<wire::ResyncResponse>, Status> {
        let Operator { caller, actor } = self.door.operator(&request)?;
        let account = self
            .door
            .known_subject(&caller, &request.into_inner().account)
            .await?;
        let purchases = resync(&self.door.core, account.id, &actor)
            .await
            .map_err(status::from_storage)?;
        Ok(Response::new(wire::ResyncResponse {
            purchases: i32::try_from(purchases).unwrap_or(i32::MAX),
        }))
    }

    async fn replay(
        &self,
        request: Request<wire::ReplayRequest>,
    ) -> Result<Response<wire::ReplayResponse>, Status> {
        let operator = self.door.operator(&request)?;
        replay::replay(&self.door, &operator, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn act_at_store(
        &self,
        request: Request<wire::ActAtStoreRequest>,
    ) -> Result<Response<wire::ActAtStoreResponse>, Status> {
        let operator = self.door.operator(&request)?;
        act_at_store::act_at_store(&self.door, &operator, request.into_inner())
            .await
            .map(Response::new)
    }
}
