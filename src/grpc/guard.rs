//! Keeps the authorisation table: every call passes here before its handler, whoever carries it.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::debug;

use super::auth::{Authenticator, Caller, CallerKind};
use super::policy::{self, AppKeys, Operators, Role, Row, Ruling, Serves};
use super::status::{self, Reason};
use crate::domain::planted::{self, Bug};

/// A caller whom the table lets through to one RPC; only this file makes one.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    caller: Arc<Caller>,
    to: &'static str,
}

impl Admitted {
    pub(super) fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }
}

/// How the guard knows who calls.
#[derive(Clone)]
enum Callers {
    /// By what each call carries.
    Credentials(Arc<Authenticator>),
    /// Whoever works on the database host: every call is theirs.
    Host(Arc<Caller>),
}

impl Callers {
    async fn admitted(&self, row: &'static Row, headers: &HeaderMap) -> Result<Admitted, Status> {
        let caller = match self {
            Self::Credentials(authenticator) => caller(authenticator, headers).await?,
            Self::Host(caller) => Arc::clone(caller),
        };
        admit(row, &caller)?;
        Ok(Admitted {
            caller,
            to: row.rpc,
        })
    }
}

/// Puts the guard in front of every service of a router.
#[derive(Clone)]
pub(super) struct GuardLayer(Callers);

impl GuardLayer {
    /// Every call shows its credential.
    pub(super) fn credentials(authenticator: Arc<Authenticator>) -> Self {
        Self(Callers::Credentials(authenticator))
    }

    /// Asks the table before a call's message is read; whoever is admitted here passes the guard by
    /// what this puts into the call's extensions. `None`: there is nothing to ask.
    pub(super) async fn admits(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Admitted>, Status> {
        match policy::ruling(path) {
            Ruling::Row(row) if row.serves != Serves::Everyone => {
                self.0.admitted(row, headers).await.map(Some)
            }
            Ruling::Row(_) | Ruling::NotOurs | Ruling::Unknown => Ok(None),
        }
    }

    /// Every call is an admin's, who needs no credential: the database is theirs anyway.
    pub(super) fn host(actor: &str) -> Self {
        Self(Callers::Host(Arc::new(Caller::host(actor))))
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            callers: self.0.clone(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Guard<S> {
    inner: S,
    callers: Callers,
}

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let row = match policy::ruling(request.uri().path()) {
            Ruling::NotOurs => return self.inner.call(request).boxed(),
            Ruling::Unknown => {
                let refused = Status::unimplemented("no such call").into_http();
                return std::future::ready(Ok(refused)).boxed();
            }
            Ruling::Row(row) => row,
        };
        if row.serves == Serves::Everyone {
            return self.inner.call(request).boxed();
        }
        let callers = self.callers.clone();
        // The one that is ready is called; its copy waits for the next request.
        let waiting = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        async move {
            let before = request.extensions().get::<Admitted>();
            let admitted = match before.filter(|admitted| admitted.to == row.rpc) {
                Some(admitted) => Ok(admitted.clone()),
                None => callers.admitted(row, request.headers()).await,
            };
            match admitted {
                Ok(admitted) => {
                    request.extensions_mut().insert(admitted);
                    inner.call(request).await
                }
                Err(refused) => Ok(refused.into_http()),
            }
        }
        .boxed()
    }
}

/// The verified caller of a request.
pub(super) async fn caller(
    authenticator: &Authenticator,
    headers: &HeaderMap,
) -> Result<Arc<Caller>, Status> {
    let mut values = headers.get_all("authorization").iter();
    let header = values.next().and_then(|value| value.to_str().ok());
    if values.next().is_some() {
        return Err(status::bad_request("authorization", "send one credential"));
    }
    authenticator.authenticate(header).await.map_err(|error| {
        debug!(cause = ?error.cause(), "a credential was refused");
        metrics::counter!("entitled_credentials_refused_total", "reason" => error.reason())
            .increment(1);
        status::unauthenticated(error)
    })
}

/// Whether a row serves a caller.
pub(super) fn admit(row: &Row, caller: &Caller) -> Result<(), Status> {
    serves(row, caller)?;
    match row.app_keys {
        AppKeys::Refused => for_all_apps(caller),
        AppKeys::Whole | AppKeys::TheirPurchases => Ok(()),
    }
}

/// Refuses a key that is for some of the apps.
pub(super) fn for_all_apps(caller: &Caller) -> Result<(), Status> {
    match caller.apps.is_all() {
        true => Ok(()),
        false => Err(status::status(
            Reason::AppNotAllowed,
            "this reaches beyond the apps that the key is for",
        )),
    }
}

fn serves(row: &Row, caller: &Caller) -> Result<(), Status> {
    match (row.serves, caller.kind) {
        (Serves::Everyone | Serves::Callers, _)
        | (Serves::Accounts(_), CallerKind::User | CallerKind::Service)
        | (Serves::Services, CallerKind::Service) => Ok(()),
        (
            Serves::Accounts(Operators::From(least)) | Serves::Operators(least),
            CallerKind::Operator(role),
        ) => at_least(least, role),
        (Serves::Accounts(Operators::Never), CallerKind::Operator(_)) => Err(status::status(
            Reason::AccountNotAllowed,
            "apps and services do this, for their own users; operators have SupportService",
        )),
        (Serves::Services, CallerKind::User | CallerKind::Operator(_)) => Err(status::status(
            Reason::ServiceRequired,
            "only services may do this",
        )),
        (Serves::Operators(_), CallerKind::User | CallerKind::Service) => Err(status::status(
            Reason::OperatorRequired,
            "only operators may do this",
        )),
    }
}

fn at_least(least: Role, role: Role) -> Result<(), Status> {
    if role >= least || planted::is(Bug::EveryRoleMay) {
        return Ok(());
    }
    Err(status::status(
        Reason::RoleInsufficient,
        format!("this needs the role {least}; yours is {role}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reaches_as_far_as_it_goes_and_a_guard_that_asks_nobody_is_found() {
        let (viewer, admin) = (Role::Viewer, Role::Admin);
        assert!(at_least(viewer, admin).is_ok());
        assert!(at_least(admin, viewer).is_err());
        let asked = planted::with(Bug::EveryRoleMay, || at_least(admin, viewer));
        assert!(asked.is_ok(), "the bug is seen");
    }
}
