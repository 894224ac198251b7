//! What all services share: who is calling, and about whom.

use std::sync::Arc;

use tonic::Status;
use tonic::metadata::MetadataMap;
use tracing::debug;

use super::auth::{self, Authenticator, Caller, CallerKind};
use super::status::{self, Reason};
use crate::domain::ids::AccountId;
use crate::flows::read_entitlements::{account_of, named_account};
use crate::flows::{Account, Core};

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
    /// The verified caller of a request.
    pub(super) async fn caller(&self, metadata: &MetadataMap) -> Result<Arc<Caller>, Status> {
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

    /// The caller's own account, or the one that a service or an operator names.
    pub(super) async fn subject(&self, caller: &Caller, named: &str) -> Result<Subject, Status> {
        match (caller.kind, named) {
            (CallerKind::User, "") => self.own(caller).await.map(Subject::Known),
            (CallerKind::User, _) => Err(status::status(
                Reason::AccountNotAllowed,
                "only services may name an account; leave it empty",
            )),
            (CallerKind::Service | CallerKind::Operator, "") => Err(status::bad_request(
                "account",
                "name the account: issuer:subject or id",
            )),
            (CallerKind::Service | CallerKind::Operator, named) => {
                let found = named_account(&self.core, named)
                    .await
                    .map_err(status::from_read)?;
                Ok(found.map_or(Subject::Unknown, Subject::Known))
            }
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
    pub(super) async fn operator(&self, metadata: &MetadataMap) -> Result<Operator, Status> {
        let caller = self.caller(metadata).await?;
        match caller.kind {
            CallerKind::Operator => Ok(Operator {
                actor: format!("{}:{}", caller.issuer, caller.subject),
                caller,
            }),
            CallerKind::User | CallerKind::Service => Err(status::status(
                Reason::OperatorRequired,
                "only operators may do this",
            )),
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
        let account = account_of(
            &self.core,
            &caller.issuer,
            &caller.subject,
            caller.anonymous,
        )
        .await
        .map_err(status::from_storage)?;
        let _ = caller.account.set(account.id.0);
        Ok(account)
    }

    /// The account that a bind is for; a service's user is made known by it.
    pub(super) async fn bind_subject(
        &self,
        caller: &Caller,
        named: &str,
    ) -> Result<Account, Status> {
        if caller.kind == CallerKind::Operator {
            return Err(status::status(
                Reason::AccountNotAllowed,
                "an operator moves purchases with SupportService, and binds none",
            ));
        }
        match self.subject(caller, named).await? {
            Subject::Known(account) => Ok(account),
            Subject::Unknown => match named.split_once(':') {
                Some((issuer, subject))
                    if self.authenticator.knows_issuer(issuer) && auth::is_subject(subject) =>
                {
                    account_of(&self.core, issuer, subject, false)
                        .await
                        .map_err(status::from_storage)
                }
                Some(_) | None => Err(status::status(Reason::AccountNotFound, "no such account")),
            },
        }
    }
}
