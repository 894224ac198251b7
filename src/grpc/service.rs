//! `EntitlementService`.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::{Request, Response, Status};

use super::auth::{Caller, CallerKind};
use super::batch;
use super::door::{Door, Subject};
use super::feed;
use super::leases::{Leases, StreamLeases, Terms};
use super::offers;
use super::preflight;
use super::products;
use super::restore;
use super::shared_snapshot::SharedSnapshot;
use super::status;
use super::streams::{self, StreamLimits};
use super::warm;
use super::wire::LeaseTerms;
use super::{convert, wire};
use crate::domain::ids::Revision;
use crate::domain::time::Instant;
use crate::flows::Account;
use crate::flows::bind_purchase::bind_purchase;
use crate::flows::past::stored_at;
use crate::flows::read_entitlements::{Read, read_entitlements};
use crate::flows::refresh::refresh;
use crate::watch::{Feeds, Freshness, Seen};
use tokio_util::sync::CancellationToken;

/// The service with what its handlers need.
pub(super) struct Service {
    pub(super) door: Door,
    pub(super) streams: StreamLimits,
    pub(super) feeds: Feeds,
    pub(super) drain: CancellationToken,
    /// None: no keys to sign leases with.
    pub(super) leases: Option<Leases>,
}

impl Service {
    async fn read(&self, account: &Account, freshness: &Freshness) -> Result<Read, Status> {
        read_entitlements(&self.door.core, account, freshness)
            .await
            .map_err(status::from_read)
    }

    /// What the account's devices read at a past moment.
    async fn get_past(
        &self,
        caller: &Caller,
        account: &str,
        at: Instant,
    ) -> Result<Response<wire::GetEntitlementsResponse>, Status> {
        if caller.kind == CallerKind::User {
            return Err(status::bad_request(
                "as_of",
                "is for services and operators",
            ));
        }
        let core = &self.door.core;
        let Subject::Known(account) = self.door.subject(caller, account).await? else {
            return Ok(Response::new(streams::nothing(core)));
        };
        let stored = stored_at(core, &account, at)
            .await
            .map_err(status::from_past)?;
        let encode = core.hub.encoder();
        let encoded = encode(
            &account,
            &core.hub.epoch(),
            stored.revision,
            &stored.snapshot,
        );
        Ok(Response::new(wire::GetEntitlementsResponse {
            snapshot: Some(SharedSnapshot(encoded)),
            as_of: Some(convert::timestamp(at)),
            degraded: false,
        }))
    }

    fn leases(&self) -> Result<&Leases, Status> {
        self.leases.as_ref().ok_or_else(status::tokens_off)
    }

    /// What a caller asks leases for.
    fn terms(&self, caller: &Caller, asked: LeaseTerms, field: &str) -> Result<Terms, Status> {
        Terms::of(asked, field, caller, &self.door.core.catalog.load())
    }
}

#[tonic::async_trait]
impl wire::entitlement_service_server::EntitlementService for Service {
    async fn bind_purchase(
        &self,
        request: Request<wire::BindPurchaseRequest>,
    ) -> Result<Response<wire::BindPurchaseResponse>, Status> {
        let caller = self.door.caller(&request)?;
        let patience = convert::patience(request.metadata());
        let request = request.into_inner();
        let binding = convert::binding(request.proof, &caller)
            .map_err(|field| status::bad_request(field, "is required"))?;
        let account = self.door.bind_subject(&caller, &request.account).await?;
        let outcome = bind_purchase(&self.door.core, &account, &binding, patience)
            .await
            .map_err(status::from_bind)?;
        let read = self.read(&account, &Freshness::Full).await?;
        Ok(Response::new(wire::BindPurchaseResponse {
            outcome: convert::outcome(outcome).into(),
            client_action: wire::ClientAction::Finish.into(),
            snapshot: Some(streams::shared(&read.view)),
            as_of: Some(convert::timestamp(read.as_of)),
        }))
    }

    async fn restore_purchases(
        &self,
        request: Request<wire::RestorePurchasesRequest>,
    ) -> Result<Response<wire::RestorePurchasesResponse>, Status> {
        let caller = self.door.caller(&request)?;
        let patience = convert::patience(request.metadata());
        restore::restore(&self.door, &caller, patience, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn preflight_purchase(
        &self,
        request: Request<wire::PreflightPurchaseRequest>,
    ) -> Result<Response<wire::PreflightPurchaseResponse>, Status> {
        let caller = self.door.caller(&request)?;
        preflight::answer(&self.door, &caller, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_entitlements(
        &self,
        request: Request<wire::GetEntitlementsRequest>,
    ) -> Result<Response<wire::GetEntitlementsResponse>, Status> {
        let caller = self.door.caller(&request)?;
        let request = request.into_inner();
        if let Some(at) = convert::moment("as_of", request.as_of.as_ref())? {
            return self.get_past(&caller, &request.account, at).await;
        }
        if let Some(read) = warm::read(&self.door, &caller, &request) {
            return Ok(Response::new(warm::message(&read)));
        }
        match self.door.subject(&caller, &request.account).await? {
            Subject::Known(account) => {
                let read = self
                    .read(&account, &warm::freshness(request.consistency.as_ref()))
                    .await?;
                Ok(Response::new(warm::message(&read)))
            }
            Subject::Unknown => Ok(Response::new(streams::nothing(&self.door.core))),
        }
    }

    async fn issue_lease(
        &self,
        request: Request<wire::IssueLeaseRequest>,
    ) -> Result<Response<wire::IssueLeaseResponse>, Status> {
        let caller = self.door.caller(&request)?;
        let request = request.into_inner();
        let account = self.door.known_subject(&caller, &request.account).await?;
        let leases = self.leases()?;
        let terms = self.terms(&caller, request.terms.unwrap_or_default(), "terms")?;
        let read = self
            .read(&account, &warm::freshness(request.consistency.as_ref()))
            .await?;
        if read.degraded {
            return Err(status::unconfirmed());
        }
        let signed = leases.sign(&terms, &read.view, read.as_of)?;
        Ok(Response::new(signed.answer()))
    }

    async fn batch_get_entitlements(
        &self,
        request: Request<wire::BatchGetEntitlementsRequest>,
    ) -> Result<Response<wire::BatchGetEntitlementsResponse>, Status> {
        self.door.caller(&request)?;
        batch::get(&self.door, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_accounts(
        &self,
        request: Request<wire::ListAccountsRequest>,
    ) -> Result<Response<wire::ListAccountsResponse>, Status> {
        let caller = self.door.caller(&request)?;
        feed::list(&self.door, &self.feeds, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }

    type WatchAccountsStream = feed::Messages;

    async fn watch_accounts(
        &self,
        request: Request<wire::WatchAccountsRequest>,
    ) -> Result<Response<Self::WatchAccountsStream>, Status> {
        let caller = self.door.caller(&request)?;
        let follower = feed::follow(&self.feeds, &caller, &request.into_inner().cursor).await?;
        let ends = streams::Ends {
            credential: caller.expires_at,
            ended: caller.ended.clone(),
            drain: self.drain.clone(),
        };
        let scope = caller.apps.clone();
        let messages = feed::messages(Arc::clone(&self.door.core), follower, scope, ends);
        Ok(Response::new(messages))
    }

    async fn refresh_subscription(
        &self,
        request: Request<wire::RefreshSubscriptionRequest>,
    ) -> Result<Response<wire::RefreshSubscriptionResponse>, Status> {
        let caller = self.door.caller(&request)?;
        let account = self
            .door
            .known_subject(&caller, &request.into_inner().account)
            .await?;
        let pending = refresh(&self.door.core, account.id)
            .await
            .map_err(status::from_refresh)?;
        let read = self.read(&account, &Freshness::Full).await?;
        Ok(Response::new(wire::RefreshSubscriptionResponse {
            snapshot: Some(streams::shared(&read.view)),
            as_of: Some(convert::timestamp(read.as_of)),
            pending: i32::try_from(pending).unwrap_or(i32::MAX),
        }))
    }

    type WatchEntitlementsStream =
        Pin<Box<dyn Stream<Item = Result<wire::WatchEntitlementsResponse, Status>> + Send>>;

    async fn watch_entitlements(
        &self,
        request: Request<wire::WatchEntitlementsRequest>,
    ) -> Result<Response<Self::WatchEntitlementsStream>, Status> {
        let caller = self.door.caller(&request)?;
        let request = request.into_inner();
        let account = self.door.known_subject(&caller, &request.account).await?;
        let leases = match request.lease_terms {
            Some(asked) => {
                let terms = self.terms(&caller, asked, "lease_terms")?;
                Some(StreamLeases::new(self.leases()?.clone(), terms))
            }
            None => None,
        };
        let slot = self.streams.take(account.id)?;
        let subscription = self
            .door
            .core
            .hub
            .subscribe(&account)
            .await
            .map_err(status::from_read)?
            .of_session(caller.session());
        let seen = request.known.map(|token| Seen {
            epoch: token.epoch,
            revision: Revision(token.revision),
            as_of: request.known_as_of.as_ref().and_then(convert::instant),
        });
        let events = crate::watch::watch(subscription, seen, self.door.core.clock.clone());
        let ends = streams::Ends {
            credential: caller.expires_at,
            ended: caller.ended.clone(),
            drain: self.drain.clone(),
        };
        let stream = streams::stream(Arc::clone(&self.door.core), events, ends, slot, leases);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_products(
        &self,
        request: Request<wire::ListProductsRequest>,
    ) -> Result<Response<wire::ListProductsResponse>, Status> {
        self.door.caller(&request)?;
        let catalog = self.door.core.catalog.load();
        let list = products::list_products(&catalog, &request.into_inner());
        Ok(Response::new(list))
    }

    async fn sign_offer(
        &self,
        request: Request<wire::SignOfferRequest>,
    ) -> Result<Response<wire::SignOfferResponse>, Status> {
        let caller = self.door.caller(&request)?;
        offers::sign_offer(&self.door, &caller, &request.into_inner())
            .await
            .map(Response::new)
    }
}
