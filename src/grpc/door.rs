//! What all services share: who is calling, and about whom.

use std::sync::Arc;

use tonic::{Request, Status};

use super::auth::{self, Authenticator, Caller, CallerKind, Own};
use super::guard::Admitted;
use super::status::{self, Reason};
use crate::domain::ids::AccountId;
use crate::flows::own_account::{Names, account_of, own_account};
use crate::flows::read_entitlements::{named_account, present_account};
use crate::flows::register_store_token::own_store_token;
use crate::flows::{Account, Core};
use crate::watch::ReadError;

/// What every handler needs.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) core: Arc<Core>,
    pub(super) authenticator: Arc<Authenticator>,
}

/// Whose entitlements a call is about.
pub(super) enum Subject {
    Known(Account),
    /// Named by a service or an operator, never seen here.
    Unknown,
}

/// A caller who may act on any account.
pub(super) struct Operator {
    pub(super) caller: Arc<Caller>,
    /// The name that events carry.
    pub(super) actor: String,
}

impl Door {
    /// The caller of a request, whom the authorisation table lets through.
    pub(super) fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Caller>, Status> {
        match request.extensions().get::<Admitted>() {
            Some(admitted) => Ok(Arc::clone(admitted.caller())),
            // A call that went around the guard is a mistake of ours; it gets nothing.
            None => Err(status::status(Reason::Internal, "nobody is admitted")),
        }
    }

    /// The caller's own account, or the one that a service or an operator names.
    pub(super) async fn subject(&self, caller: &Caller, named: &str) -> Result<Subject, Status> {
        match (caller.kind, named) {
            (CallerKind::User, "") => self.own(caller).await.map(Subject::Known),
            (CallerKind::User, _) => Err(status::status(
                Reason::AccountNotAllowed,
                "only services may name an account; leave it empty",
            )),
            (CallerKind::Service | CallerKind::Operator(_), "") => Err(status::bad_request(
                "account",
                "name the account: issuer:subject or id",
            )),
            (CallerKind::Service, named) => known(present_account(&self.core, named).await),
            (CallerKind::Operator(_), named) => known(named_account(&self.core, named).await),
        }
    }

    /// As `subject`, where an account that was never seen is refused.
    pub(super) async fn known_subject(
        &self,
        caller: &Caller,
        named: &str,
    ) -> Result<Account, Status> {
        match self.subject(caller, named).await? {
            Subject::Known(account) => Ok(account),
            Subject::Unknown => Err(status::status(Reason::AccountNotFound, "no such account")),
        }
    }

    /// The operator behind a request; anybody else is refused.
    pub(super) fn operator<T>(&self, request: &Request<T>) -> Result<Operator, Status> {
        let caller = self.caller(request)?;
        match caller.kind {
            CallerKind::Operator(_) => Ok(Operator {
                actor: caller.actor(),
                caller,
            }),
            CallerKind::User | CallerKind::Service => Err(status::status(
                Reason::OperatorRequired,
                "only operators may do this",
            )),
        }
    }

    /// Whether the caller's account or session has ended since they were recognised.
    pub(super) fn has_ended(&self, caller: &Caller) -> bool {
        let ended = |id| self.core.hub.has_ended(id);
        let account = caller.account.get().copied();
        account.is_some_and(ended) || caller.session().is_some_and(ended)
    }

    /// The caller's own account; made by their first call.
    pub(super) async fn own(&self, caller: &Caller) -> Result<Account, Status> {
        if let Some(id) = caller.account.get()
            && !self.has_ended(caller)
        {
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
        let account = own_account(&self.core, names(caller))
            .await
            .map_err(status::from_own_account)?;
        if let Some(token) = &caller.store_token {
            // Once for each of the user's tokens: from then on the caller is known.
            own_store_token(&self.core, account.id, token)
                .await
                .map_err(status::from_storage)?;
        }
        let _ = caller.account.set(account.id.0);
        Ok(account)
    }

    /// The account that a bind is for; a service's user is made known by it.
    pub(super) async fn bind_subject(
        &self,
        caller: &Caller,
        named: &str,
    ) -> Result<Account, Status> {
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
}

fn known(found: Result<Option<Account>, ReadError>) -> Result<Subject, Status> {
    let found = found.map_err(status::from_read)?;
    Ok(found.map_or(Subject::Unknown, Subject::Known))
}

/// What the caller's credential names.
pub(super) fn names(caller: &Caller) -> Names<'_> {
    match caller.own {
        Some(Own {
            session: Some(id), ..
        }) => Names::Session(id),
        Some(Own {
            account,
            session: None,
        }) => Names::Account(AccountId(account)),
        None => Names::Identity {
            issuer: &caller.issuer,
            subject: &caller.subject,
            anonymous: caller.anonymous,
        },
    }
}
