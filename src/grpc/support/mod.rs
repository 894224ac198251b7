//! `SupportService`: for operators only. One file per call, or per family of calls.

use tonic::{Request, Response, Status};

use super::door::Door;
use super::wire::support_service_server::SupportService;
use super::{status, wire};
use crate::flows::resync::resync;

/// The service with what its handlers need.
pub(super) struct Support {
    pub(super) door: Door,
}

#[tonic::async_trait]
impl SupportService for Support {
    async fn resync(
        &self,
        request: Request<wire::ResyncRequest>,
    ) -> Result<Response<wire::ResyncResponse>, Status> {
        let operator = self.door.operator(request.metadata()).await?;
        let account = self
            .door
            .known_subject(&operator.caller, &request.into_inner().account)
            .await?;
        let purchases = resync(&self.door.core, account.id)
            .await
            .map_err(status::from_storage)?;
        Ok(Response::new(wire::ResyncResponse {
            purchases: i32::try_from(purchases).unwrap_or(i32::MAX),
        }))
    }
}
