//! `PurchaseService`: one file per call.

mod deliveries;
mod list_transactions;
mod set_consumption;

use tonic::{Request, Response, Status};

use super::door::Door;
use super::wire;
use super::wire::purchase_service_server::PurchaseService;

/// The service with what its handlers need.
pub(super) struct Purchases {
    pub(super) door: Door,
}

#[tonic::async_trait]
impl PurchaseService for Purchases {
    async fn list_transactions(
        &self,
        request: Request<wire::ListTransactionsRequest>,
    ) -> Result<Response<wire::ListTransactionsResponse>, Status> {
        let caller = self.door.caller(&request)?;
        list_transactions::list_transactions(&self.door, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn set_consumption(
        &self,
        request: Request<wire::SetConsumptionRequest>,
    ) -> Result<Response<wire::SetConsumptionResponse>, Status> {
        let caller = self.door.caller(&request)?;
        set_consumption::set_consumption(&self.door, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn claim_delivery(
        &self,
        request: Request<wire::ClaimDeliveryRequest>,
    ) -> Result<Response<wire::ClaimDeliveryResponse>, Status> {
        let caller = self.door.caller(&request)?;
        deliveries::claim(&self.door, &caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_deliveries(
        &self,
        request: Request<wire::ListDeliveriesRequest>,
    ) -> Result<Response<wire::ListDeliveriesResponse>, Status> {
        let caller = self.door.caller(&request)?;
        deliveries::list(&self.door, &caller, request.into_inner())
            .await
            .map(Response::new)
    }
}
