//! `EntitlementService`.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::debug;

use super::auth::{self, Authenticator, Caller, CallerKind};
use super::status::{self, Reason};
use super::streams::{self, StreamLimits};
use super::{convert, wire};
use crate::domain::ids::{AccountId, Revision};
use crate::flows::Account;
use crate::flows::Core;
use crate::flows::bind_purchase::bind_purchase;
use crate::flows::read_entitlements::{Read, account_of, named_account, read_entitlements};
use crate::flows::refresh::refresh;
use crate::watch::{Freshness, Seen};
use tokio_util::sync::CancellationToken;

/// The service with what its handlers need.
pub(super) struct Service {
    pub(super) core: Arc<Core>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) streams: StreamLimits,
    pub(super) drain: CancellationToken,
}

/// Whose entitlements a call is about.
enum Subject {
    Known(Account),
    /// Named by a service, never seen here.
    Unknown,
}

impl Service {
    async fn caller(&self, metadata: &MetadataMap) -> Result<Arc<Caller>, Status> {
        let mut values = metadata.get_all("authorization").iter();
        let header = values.next().and_then(|value| value.to_str().ok());
        if values.next().is_some() {
            return Err(status::bad_request("authorization", "send one credential"));
        }
        self.authenticator
            .authenticate(header)
            .await
            .map_err(|error| {
                debug!(cause = ?error.cause(), "a credential was refused");
                metrics::counter!("entitled_credentials_refused_total", "reason" => error.reason())
                    .increment(1);
                status::unauthenticated(error)
            })
    }

    /// The caller's own account, or the one that a service names.
    async fn subject(&self, caller: &Caller, named: &str) -> Result<Subject, Status> {
        match (caller.kind, named) {
            (CallerKind::User, "") => self.own(caller).await.map(Subject::Known),
            (CallerKind::User, _) => Err(status::status(
                Reason::AccountNotAllowed,
                "only services may name an account; leave it empty",
            )),
            (CallerKind::Service, "") => Err(status::bad_request(
                "account",
                "a service names the account: issuer:subject or id",
            )),
            (CallerKind::Service, named) => {
                let found = named_account(&self.core, named)
                    .await
                    .map_err(status::from_read)?;
                Ok(found.map_or(Subject::Unknown, Subject::Known))
            }
        }
    }

    async fn own(&self, caller: &Caller) -> Result<Account, Status> {
        if let Some(id) = caller.account.get() {
            let known = self
                .core
                .hub
                .account(AccountId(*id))
                .await
                .map_err(status::from_read)?;
            if let Some(account) = known {
                return Ok(account);
            }
        }
        let account = account_of(&self.core, &caller.issuer, &caller.subject)
            .await
            .map_err(status::from_storage)?;
        let _ = caller.account.set(account.id.0);
        Ok(account)
    }

    /// The account that a bind is for; a service's user is made known by it.
    async fn bind_subject(&self, caller: &Caller, named: &str) -> Result<Account, Status> {
        match self.subject(caller, named).await? {
            Subject::Known(account) => Ok(account),
            Subject::Unknown => match named.split_once(':') {
                Some((issuer, subject))
                    if self.authenticator.knows_issuer(issuer) && auth::is_subject(subject) =>
                {
                    account_of(&self.core, issuer, subject)
                        .await
                        .map_err(status::from_storage)
                }
                Some(_) | None => Err(status::status(Reason::AccountNotFound, "no such account")),
            },
        }
    }

    async fn read(&self, account: &Account, freshness: &Freshness) -> Result<Read, Status> {
        read_entitlements(&self.core, account, freshness)
            .await
            .map_err(status::from_read)
    }

    /// The warm path: no allocation but the response, nothing asked of Postgres.
    fn read_warm(&self, caller: &Caller, request: &wire::GetEntitlementsRequest) -> Option<Read> {
        if caller.kind != CallerKind::User || !request.account.is_empty() {
            return None;
        }
        let freshness = freshness(request.consistency.as_ref());
        let id = AccountId(*caller.account.get()?);
        let view = self.core.hub.cached(id, &freshness)?;
        let as_of = self.core.clock.now();
        Some(Read {
            view: view.at(as_of, self.core.hub.encoder()),
            as_of,
            degraded: false,
        })
    }
}

fn freshness(consistency: Option<&wire::Consistency>) -> Freshness {
    use wire::consistency::Requirement;
    match consistency.and_then(|consistency| consistency.requirement.as_ref()) {
        Some(Requirement::AtLeast(token)) => Freshness::AtLeast {
            epoch: token.epoch.clone(),
            revision: Revision(token.revision),
        },
        Some(Requirement::FullyConsistent(true)) => Freshness::Full,
        Some(Requirement::FullyConsistent(false)) | None => Freshness::MinimizeLatency,
    }
}

fn respond(read: &Read) -> Response<wire::GetEntitlementsResponse> {
    Response::new(wire::GetEntitlementsResponse {
        snapshot: Some(streams::shared(&read.view)),
        as_of: Some(convert::timestamp(read.as_of)),
        degraded: read.degraded,
    })
}

#[tonic::async_trait]
impl wire::entitlement_service_server::EntitlementService for Service {
    async fn bind_purchase(
        &self,
        request: Request<wire::BindPurchaseRequest>,
    ) -> Result<Response<wire::BindPurchaseResponse>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let patience = convert::patience(request.metadata());
        let request = request.into_inner();
        let proof = convert::proof(request.proof)
            .map_err(|field| status::bad_request(field, "is required"))?;
        let account = self.bind_subject(&caller, &request.account).await?;
        let outcome = bind_purchase(&self.core, &account, &proof, patience)
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

    async fn get_entitlements(
        &self,
        request: Request<wire::GetEntitlementsRequest>,
    ) -> Result<Response<wire::GetEntitlementsResponse>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let request = request.into_inner();
        if let Some(read) = self.read_warm(&caller, &request) {
            return Ok(respond(&read));
        }
        match self.subject(&caller, &request.account).await? {
            Subject::Known(account) => {
                let read = self
                    .read(&account, &freshness(request.consistency.as_ref()))
                    .await?;
                Ok(respond(&read))
            }
            Subject::Unknown => Ok(Response::new(streams::nothing(&self.core))),
        }
    }

    async fn refresh_subscription(
        &self,
        request: Request<wire::RefreshSubscriptionRequest>,
    ) -> Result<Response<wire::RefreshSubscriptionResponse>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let account = match self.subject(&caller, &request.into_inner().account).await? {
            Subject::Known(account) => account,
            Subject::Unknown => {
                return Err(status::status(Reason::AccountNotFound, "no such account"));
            }
        };
        let pending = refresh(&self.core, account.id)
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
        let caller = self.caller(request.metadata()).await?;
        let request = request.into_inner();
        let account = match self.subject(&caller, &request.account).await? {
            Subject::Known(account) => account,
            Subject::Unknown => {
                return Err(status::status(Reason::AccountNotFound, "no such account"));
            }
        };
        let slot = self.streams.take(account.id)?;
        let subscription = self
            .core
            .hub
            .subscribe(&account)
            .await
            .map_err(status::from_read)?;
        let seen = request.known.map(|token| Seen {
            epoch: token.epoch,
            revision: Revision(token.revision),
            as_of: request.known_as_of.as_ref().and_then(convert::instant),
        });
        let events = crate::watch::watch(subscription, seen, self.core.clock.clone());
        let ends = streams::Ends {
            credential: caller.expires_at,
            drain: self.drain.clone(),
        };
        let stream = streams::stream(Arc::clone(&self.core), events, ends, slot);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_products(
        &self,
        request: Request<wire::ListProductsRequest>,
    ) -> Result<Response<wire::ListProductsResponse>, Status> {
        self.caller(request.metadata()).await?;
        let store = request.into_inner().store;
        let catalog = self.core.catalog.load();
        let sold_by = |product: &crate::domain::catalog::Product| {
            store == i32::from(wire::Store::Unspecified)
                || product
                    .store_products()
                    .any(|(p, _)| i32::from(convert::wire_store(p)) == store)
        };
        let products = catalog.products().filter(|(_, product)| sold_by(product));
        Ok(Response::new(wire::ListProductsResponse {
            products: products
                .map(|(id, product)| convert::product(id, product))
                .collect(),
            catalog_version: catalog.version().0,
        }))
    }
}
