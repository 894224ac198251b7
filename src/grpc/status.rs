//! Errors as callers see them: a gRPC status with `google.rpc` details and a stable reason.
//! `docs/errors.md` explains each reason; a test keeps it complete.

use std::collections::HashMap;
use std::time::Duration;

use rand::Rng as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::error;

use super::auth::AuthError;
use super::wire;
use crate::flows::ProofError;
use crate::flows::StorageError;
use crate::flows::bind_purchase::BindError;
use crate::flows::own_account::OwnAccountError;
use crate::flows::past::PastError;
use crate::flows::refresh::RefreshError;
use crate::watch::ReadError;

const DOMAIN: &str = "entitled.v1";
const DATABASE_RETRY: Duration = Duration::from_secs(2);
const INTERNAL_RETRY: Duration = Duration::from_secs(60);

/// Every reason of ours but the credentials' own (`auth`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    AccountGone,
    AccountNotAllowed,
    AccountNotFound,
    AnonymousAccountsOff,
    ApiKeyLimit,
    ApiKeyNotFound,
    AppNotAllowed,
    AppUnknown,
    AsOfUnavailable,
    CatalogActiveUnreadable,
    CatalogBusy,
    CatalogInvalid,
    CatalogLossUnconfirmed,
    CatalogSuperseded,
    CatalogVersionNotFound,
    ClaimKeyReused,
    CursorExpired,
    CursorInvalid,
    DatabaseUnavailable,
    DeliveryClaimed,
    DeliveryNotFound,
    DeliveryRevoked,
    EnvironmentNotAccepted,
    IdentityLinked,
    Internal,
    LinkRefused,
    OtherTokenInvalid,
    OperationIdReused,
    OperatorRequired,
    OfferNotEligible,
    OfferUnknown,
    Overloaded,
    ProductUnknown,
    ProofInsufficient,
    ProofInvalid,
    PurchaseNotFound,
    PurchaseOwnedByAnotherAccount,
    RateLimited,
    ReceiptUnsupported,
    RefreshTokenInvalid,
    RequestInvalid,
    RoleInsufficient,
    SessionRevoked,
    StoreTokenTaken,
    StoreActionRefused,
    StoreActionUndecided,
    ServiceRequired,
    StoreUnavailable,
    StreamRenew,
    StreamTooSlow,
    TokensOff,
    TooManyStreams,
    TransferStale,
}

impl Reason {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 53] = [
        Self::AccountGone,
        Self::AccountNotAllowed,
        Self::AccountNotFound,
        Self::AnonymousAccountsOff,
        Self::ApiKeyLimit,
        Self::ApiKeyNotFound,
        Self::AppNotAllowed,
        Self::AppUnknown,
        Self::AsOfUnavailable,
        Self::CatalogActiveUnreadable,
        Self::CatalogBusy,
        Self::CatalogInvalid,
        Self::CatalogLossUnconfirmed,
        Self::CatalogSuperseded,
        Self::CatalogVersionNotFound,
        Self::ClaimKeyReused,
        Self::CursorExpired,
        Self::CursorInvalid,
        Self::DatabaseUnavailable,
        Self::DeliveryClaimed,
        Self::DeliveryNotFound,
        Self::DeliveryRevoked,
        Self::EnvironmentNotAccepted,
        Self::IdentityLinked,
        Self::Internal,
        Self::LinkRefused,
        Self::OtherTokenInvalid,
        Self::OperationIdReused,
        Self::OperatorRequired,
        Self::OfferNotEligible,
        Self::OfferUnknown,
        Self::Overloaded,
        Self::ProductUnknown,
        Self::ProofInsufficient,
        Self::ProofInvalid,
        Self::PurchaseNotFound,
        Self::PurchaseOwnedByAnotherAccount,
        Self::RateLimited,
        Self::ReceiptUnsupported,
        Self::RefreshTokenInvalid,
        Self::RequestInvalid,
        Self::RoleInsufficient,
        Self::SessionRevoked,
        Self::StoreTokenTaken,
        Self::StoreActionRefused,
        Self::StoreActionUndecided,
        Self::ServiceRequired,
        Self::StoreUnavailable,
        Self::StreamRenew,
        Self::StreamTooSlow,
        Self::TokensOff,
        Self::TooManyStreams,
        Self::TransferStale,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AccountGone => "ACCOUNT_GONE",
            Self::AnonymousAccountsOff => "ANONYMOUS_ACCOUNTS_OFF",
            Self::IdentityLinked => "IDENTITY_LINKED",
            Self::LinkRefused => "LINK_REFUSED",
            Self::OtherTokenInvalid => "OTHER_TOKEN_INVALID",
            Self::RefreshTokenInvalid => "REFRESH_TOKEN_INVALID",
            Self::SessionRevoked => "SESSION_REVOKED",
            Self::StoreTokenTaken => "STORE_TOKEN_TAKEN",
            Self::TokensOff => "TOKENS_OFF",
            Self::AccountNotAllowed => "ACCOUNT_NOT_ALLOWED",
            Self::AccountNotFound => "ACCOUNT_NOT_FOUND",
            Self::ApiKeyLimit => "API_KEY_LIMIT",
            Self::ApiKeyNotFound => "API_KEY_NOT_FOUND",
            Self::AppNotAllowed => "APP_NOT_ALLOWED",
            Self::AppUnknown => "APP_UNKNOWN",
            Self::CatalogActiveUnreadable => "CATALOG_ACTIVE_UNREADABLE",
            Self::CatalogBusy => "CATALOG_BUSY",
            Self::CatalogInvalid => "CATALOG_INVALID",
            Self::CatalogLossUnconfirmed => "CATALOG_LOSS_UNCONFIRMED",
            Self::CatalogSuperseded => "CATALOG_SUPERSEDED",
            Self::CatalogVersionNotFound => "CATALOG_VERSION_NOT_FOUND",
            Self::ClaimKeyReused => "CLAIM_KEY_REUSED",
            Self::CursorExpired => "CURSOR_EXPIRED",
            Self::CursorInvalid => "CURSOR_INVALID",
            Self::DatabaseUnavailable => "DATABASE_UNAVAILABLE",
            Self::DeliveryClaimed => "DELIVERY_CLAIMED",
            Self::DeliveryNotFound => "DELIVERY_NOT_FOUND",
            Self::DeliveryRevoked => "DELIVERY_REVOKED",
            Self::EnvironmentNotAccepted => "ENVIRONMENT_NOT_ACCEPTED",
            Self::Internal => "INTERNAL",
            Self::AsOfUnavailable => "AS_OF_UNAVAILABLE",
            Self::OperationIdReused => "OPERATION_ID_REUSED",
            Self::StoreActionRefused => "STORE_ACTION_REFUSED",
            Self::StoreActionUndecided => "STORE_ACTION_UNDECIDED",
            Self::TransferStale => "TRANSFER_STALE",
            Self::OperatorRequired => "OPERATOR_REQUIRED",
            Self::OfferNotEligible => "OFFER_NOT_ELIGIBLE",
            Self::OfferUnknown => "OFFER_UNKNOWN",
            Self::Overloaded => "OVERLOADED",
            Self::ProductUnknown => "PRODUCT_UNKNOWN",
            Self::ProofInsufficient => "PROOF_INSUFFICIENT",
            Self::ProofInvalid => "PROOF_INVALID",
            Self::PurchaseNotFound => "PURCHASE_NOT_FOUND",
            Self::PurchaseOwnedByAnotherAccount => "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT",
            Self::RateLimited => "RATE_LIMITED",
            Self::ReceiptUnsupported => "RECEIPT_UNSUPPORTED",
            Self::RequestInvalid => "REQUEST_INVALID",
            Self::RoleInsufficient => "ROLE_INSUFFICIENT",
            Self::ServiceRequired => "SERVICE_REQUIRED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::StreamRenew => "STREAM_RENEW",
            Self::StreamTooSlow => "STREAM_TOO_SLOW",
            Self::TooManyStreams => "TOO_MANY_STREAMS",
        }
    }

    fn code(self) -> Code {
        match self {
            Self::AccountGone
            | Self::IdentityLinked
            | Self::RefreshTokenInvalid
            | Self::SessionRevoked => Code::Unauthenticated,
            Self::AnonymousAccountsOff
            | Self::LinkRefused
            | Self::OtherTokenInvalid
            | Self::TokensOff => Code::FailedPrecondition,
            Self::StoreTokenTaken => Code::AlreadyExists,
            Self::AccountNotAllowed
            | Self::AppNotAllowed
            | Self::OperatorRequired
            | Self::RoleInsufficient
            | Self::ServiceRequired => Code::PermissionDenied,
            Self::AccountNotFound
            | Self::ApiKeyNotFound
            | Self::CatalogVersionNotFound
            | Self::DeliveryNotFound
            | Self::OfferUnknown
            | Self::ProductUnknown
            | Self::PurchaseNotFound => Code::NotFound,
            Self::ApiKeyLimit
            | Self::AppUnknown
            | Self::CatalogActiveUnreadable
            | Self::CatalogLossUnconfirmed
            | Self::ClaimKeyReused
            | Self::DeliveryClaimed
            | Self::DeliveryRevoked
            | Self::EnvironmentNotAccepted
            | Self::OfferNotEligible
            | Self::ProofInsufficient
            | Self::PurchaseOwnedByAnotherAccount => Code::FailedPrecondition,
            Self::DatabaseUnavailable
            | Self::Overloaded
            | Self::StoreUnavailable
            | Self::StreamRenew
            | Self::StreamTooSlow => Code::Unavailable,
            Self::AsOfUnavailable | Self::CursorExpired => Code::OutOfRange,
            Self::CatalogSuperseded => Code::Aborted,
            Self::OperationIdReused => Code::AlreadyExists,
            Self::StoreActionRefused | Self::StoreActionUndecided | Self::TransferStale => {
                Code::FailedPrecondition
            }
            Self::Internal => Code::Internal,
            Self::CatalogInvalid
            | Self::CursorInvalid
            | Self::ProofInvalid
            | Self::ReceiptUnsupported
            | Self::RequestInvalid => Code::InvalidArgument,
            Self::CatalogBusy | Self::RateLimited | Self::TooManyStreams => Code::ResourceExhausted,
        }
    }
}

/// What an app should do with the purchase that it tried to bind.
#[derive(Clone, Copy, Debug)]
enum ClientAction {
    KeepAndRetry,
    SignIn,
    ContactSupport,
}

impl ClientAction {
    fn as_str(self) -> &'static str {
        match self {
            Self::KeepAndRetry => "KEEP_AND_RETRY",
            Self::SignIn => "SIGN_IN",
            Self::ContactSupport => "CONTACT_SUPPORT",
        }
    }

    fn on_the_wire(self) -> wire::ClientAction {
        match self {
            Self::KeepAndRetry => wire::ClientAction::KeepAndRetry,
            Self::SignIn => wire::ClientAction::SignIn,
            Self::ContactSupport => wire::ClientAction::ContactSupport,
        }
    }
}

fn details(reason: &str, action: Option<ClientAction>, retry: Option<Duration>) -> ErrorDetails {
    let metadata: HashMap<String, String> = action
        .map(|action| ("client_action".to_owned(), action.as_str().to_owned()))
        .into_iter()
        .collect();
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    if let Some(retry) = retry {
        details.set_retry_info(Some(spread(retry)));
    }
    details
}

/// Half as long again at most, so that those who were refused together do not return together.
fn spread(retry: Duration) -> Duration {
    retry.mul_f64(rand::rng().random_range(1.0..1.5))
}

pub(super) fn status(reason: Reason, message: impl Into<String>) -> Status {
    let details = details(reason.as_str(), Some(ClientAction::ContactSupport), None);
    Status::with_error_details(reason.code(), message, details)
}

pub(super) fn retryable(reason: Reason, message: impl Into<String>, retry: Duration) -> Status {
    let details = details(
        reason.as_str(),
        Some(ClientAction::KeepAndRetry),
        Some(retry),
    );
    Status::with_error_details(reason.code(), message, details)
}

/// A field of the request is missing or wrong.
pub(super) fn bad_request(field: &str, description: &str) -> Status {
    let mut details = details(
        Reason::RequestInvalid.as_str(),
        Some(ClientAction::ContactSupport),
        None,
    );
    details.add_bad_request_violation(field, description);
    Status::with_error_details(
        Code::InvalidArgument,
        format!("{field}: {description}"),
        details,
    )
}

pub(super) fn unauthenticated(error: AuthError) -> Status {
    let retry = (error.code() == Code::Unavailable).then_some(DATABASE_RETRY);
    let action = if retry.is_some() {
        ClientAction::KeepAndRetry
    } else {
        ClientAction::SignIn
    };
    let details = details(error.reason(), Some(action), retry);
    Status::with_error_details(error.code(), error.to_string(), details)
}

/// A credential that verifies and is over.
pub(super) fn sign_in(reason: Reason, message: &str) -> Status {
    let details = details(reason.as_str(), Some(ClientAction::SignIn), None);
    Status::with_error_details(reason.code(), message, details)
}

pub(super) fn from_own_account(cause: OwnAccountError) -> Status {
    match cause {
        OwnAccountError::Linked => sign_in(
            Reason::IdentityLinked,
            "the user has signed in: use the signed-in credential",
        ),
        OwnAccountError::Revoked => sign_in(Reason::SessionRevoked, "the session has ended"),
        OwnAccountError::Gone => sign_in(Reason::AccountGone, "the account does not exist"),
        OwnAccountError::Storage(cause) => from_storage(cause),
    }
}

/// There is nothing to sign with.
pub(super) fn tokens_off() -> Status {
    status(Reason::TokensOff, "this server has no keys to sign with")
}

/// What nobody can take back is not said while the database cannot confirm it.
pub(super) fn unconfirmed() -> Status {
    retryable(
        Reason::DatabaseUnavailable,
        "the database cannot be reached, and nothing is signed meanwhile; try again",
        DATABASE_RETRY,
    )
}

pub(super) fn from_storage(cause: StorageError) -> Status {
    match cause {
        StorageError::Unstorable(_) => bad_request("text", "holds a character that no text has"),
        cause @ (StorageError::Unavailable(_)
        | StorageError::Slow(_)
        | StorageError::Conflict(_)
        | StorageError::Corrupt(_)
        | StorageError::Other(_)) => storage_refusal(&cause).into_status(),
    }
}

/// A purchase that is not the caller's, or not yet: why, and what the app does with it.
#[derive(Debug)]
pub(super) struct Refusal {
    reason: Reason,
    action: ClientAction,
    retry: Option<Duration>,
    message: String,
}

impl Refusal {
    fn new(reason: Reason, action: ClientAction, message: impl Into<String>) -> Self {
        Self {
            reason,
            action,
            retry: None,
            message: message.into(),
        }
    }

    fn keep_and_retry(reason: Reason, retry: Duration, message: &str) -> Self {
        Self {
            retry: Some(retry),
            ..Self::new(reason, ClientAction::KeepAndRetry, message)
        }
    }

    /// The caller's own mistake in one of several things that were sent.
    pub(super) fn mistake(message: impl Into<String>) -> Self {
        Self::new(
            Reason::RequestInvalid,
            ClientAction::ContactSupport,
            message,
        )
    }

    fn into_status(self) -> Status {
        let details = details(self.reason.as_str(), Some(self.action), self.retry);
        Status::with_error_details(self.reason.code(), self.message, details)
    }

    /// The same among the answers of a batch.
    pub(super) fn into_batched(self, account: String) -> wire::BatchedEntitlements {
        wire::BatchedEntitlements {
            account,
            reason: self.reason.as_str().to_owned(),
            retry_after: self.retry.map(retry_after),
            message: self.message,
            ..wire::BatchedEntitlements::default()
        }
    }

    /// The same among the answers of a call that was not refused.
    pub(super) fn into_answer(self) -> wire::RestoredPurchase {
        wire::RestoredPurchase {
            outcome: wire::BindOutcome::Unspecified.into(),
            client_action: self.action.on_the_wire().into(),
            reason: self.reason.as_str().to_owned(),
            message: self.message,
            retry_after: self.retry.map(retry_after),
        }
    }
}

fn retry_after(retry: Duration) -> prost_types::Duration {
    let retry = spread(retry);
    prost_types::Duration {
        seconds: i64::try_from(retry.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(retry.subsec_nanos()).unwrap_or(0),
    }
}

/// A mistake of ours, which whoever found it has logged.
pub(super) fn internal() -> Status {
    ours().into_status()
}

fn ours() -> Refusal {
    Refusal::keep_and_retry(
        Reason::Internal,
        INTERNAL_RETRY,
        "an error on our side; it has been logged",
    )
}

fn storage_refusal(cause: &StorageError) -> Refusal {
    match cause {
        StorageError::Unavailable(_) | StorageError::Slow(_) => Refusal::keep_and_retry(
            Reason::DatabaseUnavailable,
            DATABASE_RETRY,
            "the database cannot be reached; try again",
        ),
        StorageError::Conflict(_) => Refusal::keep_and_retry(
            Reason::DatabaseUnavailable,
            Duration::from_millis(200),
            "too much at once; try again",
        ),
        StorageError::Unstorable(_) => Refusal::mistake("holds a character that no text has"),
        StorageError::Corrupt(_) | StorageError::Other(_) => {
            error!(%cause, "a call failed");
            ours()
        }
    }
}

pub(super) fn from_read(cause: ReadError) -> Status {
    match cause {
        ReadError::Unavailable => from_storage(StorageError::Unavailable(String::new())),
        ReadError::Storage(cause) => from_storage(cause),
    }
}

/// The same among the answers of a batch.
pub(super) fn read_refusal(cause: &ReadError) -> Refusal {
    match cause {
        ReadError::Unavailable => storage_refusal(&StorageError::Unavailable(String::new())),
        ReadError::Storage(cause) => storage_refusal(cause),
    }
}

pub(super) fn from_past(cause: PastError) -> Status {
    match cause {
        PastError::Future => bad_request("as_of", "that moment has not come yet"),
        cause @ PastError::Forgotten => status(Reason::AsOfUnavailable, cause.to_string()),
        PastError::Storage(cause) => from_storage(cause),
    }
}

pub(super) fn from_refresh(cause: RefreshError) -> Status {
    match cause {
        RefreshError::TooMany(retry) => retryable(
            Reason::RateLimited,
            "too many refreshes of this account",
            retry,
        ),
        RefreshError::Storage(cause) => from_storage(cause),
    }
}

/// Every refusal of a bind says what the app does with the purchase.
pub(super) fn from_bind(cause: BindError) -> Status {
    match cause {
        BindError::Storage(cause) => from_storage(cause),
        cause @ (BindError::Proof(_)
        | BindError::OtherApp
        | BindError::OwnedByAnother
        | BindError::NotFound
        | BindError::TooMany(_)
        | BindError::StoreAway(_)) => refusal(&cause).into_status(),
    }
}

/// The same in the words of an answer.
pub(super) fn refusal(cause: &BindError) -> Refusal {
    use ClientAction::{ContactSupport, KeepAndRetry};
    match cause {
        BindError::Storage(cause) => storage_refusal(cause),
        BindError::Proof(ProofError::Unavailable) => Refusal::keep_and_retry(
            Reason::StoreUnavailable,
            DATABASE_RETRY,
            "the store cannot be asked now",
        ),
        BindError::StoreAway(retry) => Refusal::keep_and_retry(
            Reason::StoreUnavailable,
            *retry,
            "the store cannot be asked now; access comes on the stream once it answers",
        ),
        BindError::TooMany(retry) => Refusal::keep_and_retry(
            Reason::RateLimited,
            *retry,
            "too many attempts of this account",
        ),
        BindError::Proof(ProofError::Invalid(why)) => Refusal::new(
            Reason::ProofInvalid,
            ContactSupport,
            format!("the proof does not verify: {why}"),
        ),
        BindError::Proof(cause @ ProofError::ReceiptUnsupported) => {
            Refusal::new(Reason::ReceiptUnsupported, KeepAndRetry, cause.to_string())
        }
        BindError::Proof(cause @ ProofError::UnknownApp) => {
            Refusal::new(Reason::AppUnknown, ContactSupport, cause.to_string())
        }
        BindError::Proof(cause @ ProofError::EnvironmentNotAccepted) => Refusal::new(
            Reason::EnvironmentNotAccepted,
            ContactSupport,
            cause.to_string(),
        ),
        BindError::Proof(ProofError::Insufficient) => Refusal::new(
            Reason::ProofInsufficient,
            ContactSupport,
            "send the signed transaction: an id alone does not show possession",
        ),
        BindError::OwnedByAnother => Refusal::new(
            Reason::PurchaseOwnedByAnotherAccount,
            ContactSupport,
            "this purchase belongs to another account",
        ),
        BindError::OtherApp => Refusal::new(
            Reason::AppNotAllowed,
            ContactSupport,
            "this purchase is of an app that the key is not for",
        ),
        BindError::NotFound => Refusal::new(
            Reason::PurchaseNotFound,
            ContactSupport,
            "the store does not know this purchase",
        ),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
