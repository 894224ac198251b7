//! What every store looks like from inside: authenticate, read, verify, fetch, normalise, acknowledge.
//!
//! A provider is a folder of `wire` (their JSON), `verify` (signature → proof), `client` (their
//! API) and `normalize` (theirs → ours, pure), and one line in the registry.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::domain::catalog::{App, Catalog};
use crate::domain::chain::Alias;
use crate::domain::duty::Duty;
use crate::domain::ownership::Possession;
use crate::domain::provider::{Environment, Provider};
use crate::domain::reconcile::Answer;
use crate::domain::refund_defence::RefundAnswer;
use crate::domain::subscription::store_state::{Evidence, StoreState};
use crate::domain::time::Instant;
use crate::http::HttpError;

/// One webhook request, untouched.
pub(crate) struct Delivery<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// Business time of arrival, for tolerances on what the store signed.
    pub(crate) now: Instant,
}

/// A request that its sender really sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authentic {
    /// The sender's id of the event: equal on every redelivery.
    pub(crate) event_id: String,
}

/// Why a webhook request was turned away. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    /// Not from the store: answered 401.
    #[error("not authentic: {0}")]
    Forged(String),
    /// Ours to mend (key set unreachable…): answered 503, the store sends it again.
    #[error("cannot be checked now: {0}")]
    Unavailable(String),
}

/// What an authentic notification is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It says that a chain may have changed.
    Chain(Signal),
    /// It says the same, of a chain that may not be known here yet, and is not enough to make it
    /// known: a source that is no store.
    Hint(Hint),
    /// Understood, and of no consequence here (a test, a report): kept and marked.
    Ignored { kind: String, reason: &'static str },
    /// Authentic, and of a kind or shape that this version does not know: kept, counted, changes
    /// nothing.
    Unsupported { kind: String, reason: &'static str },
    /// Authentic but not understood: kept, counted, grants nothing.
    Unreadable { reason: String },
}

/// A notification's pointer to a chain, and the facts that only it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    /// The store's own word, for people: `DID_RENEW`, `SUBSCRIPTION_RENEWED`.
    pub(crate) kind: String,
    pub(crate) alias: Alias,
    pub(crate) evidence: Vec<Evidence>,
    /// When the store says that it happened.
    pub(crate) occurred_at: Option<Instant>,
    /// What such a notification means, for people. It decides nothing: the store is asked.
    pub(crate) meaning: Meaning,
}

/// What a store's notification means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something was bought.
    Grants,
    /// What is had lasts longer.
    Extends,
    /// Another product takes its place now.
    SwitchesProduct,
    /// Something changes at the next renewal.
    Schedules,
    /// Nothing changes.
    Informs,
    /// Access ends, for now or for good.
    Ends,
    /// Money or access was taken back.
    Revokes,
    /// What was taken back is given again.
    Reinstates,
    /// The store asks for something, within a deadline.
    Asks,
    /// Of a part of the store that decides no access here.
    Elsewhere,
    /// A word that this version does not know: the store is asked all the same.
    Unknown,
}

impl Meaning {
    /// The word for SQL, metrics and the timeline.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Grants => "grants",
            Self::Extends => "extends",
            Self::SwitchesProduct => "switches product",
            Self::Schedules => "schedules",
            Self::Informs => "informs",
            Self::Ends => "ends",
            Self::Revokes => "revokes",
            Self::Reinstates => "reinstates",
            Self::Asks => "asks",
            Self::Elsewhere => "elsewhere",
            Self::Unknown => "unknown",
        }
    }
}

/// A pointer to a chain by names that prove nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    /// The sender's own word, for people: `renewal`.
    pub(crate) kind: String,
    /// Names of one chain, the one to wait for first; at least one.
    pub(crate) names: Vec<Alias>,
    /// When the sender says that it happened.
    pub(crate) occurred_at: Option<Instant>,
    /// What such a message means, for people.
    pub(crate) meaning: Meaning,
}

/// What a caller hands over as proof of purchase.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Proof {
    /// A transaction signed by the App Store (StoreKit 2 `jwsRepresentation`).
    AppStoreTransaction(String),
    /// A bare App Store transaction id: binds only if the store's record names the caller.
    AppStoreTransactionId {
        app: Option<String>,
        transaction_id: String,
    },
    /// A Google Play purchase token.
    GooglePlayToken { package_name: String, token: String },
}

impl Proof {
    /// Whose proof it is.
    pub(crate) fn provider(&self) -> Provider {
        match self {
            Self::AppStoreTransaction(_) | Self::AppStoreTransactionId { .. } => Provider::AppStore,
            Self::GooglePlayToken { .. } => Provider::GooglePlay,
        }
    }

    /// Ids can be guessed; documents and tokens cannot.
    pub(crate) fn shows_possession(&self) -> bool {
        match self {
            Self::AppStoreTransaction(_) | Self::GooglePlayToken { .. } => true,
            Self::AppStoreTransactionId { .. } => false,
        }
    }
}

/// A proof that holds as far as can be told without asking the store.
#[derive(Clone, Debug)]
pub(crate) struct Proven {
    pub(crate) alias: Alias,
    /// What a signed proof says by itself: stands in while the store cannot be asked.
    pub(crate) stand_in: Option<StoreState>,
    /// The account token inside the proof, if it is signed.
    pub(crate) account_token: Option<String>,
    /// What it shows of its holder.
    pub(crate) possession: Possession,
}

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProofError {
    /// Not a document of that store: malformed, forged, tampered.
    #[error("the proof does not verify: {0}")]
    Invalid(String),
    /// The bundle of receipts of the original StoreKit: it names no transaction that can be bound.
    #[error(
        "an app receipt is no proof of one purchase: send the signed transaction instead \
         (StoreKit 2: `jwsRepresentation` of the `VerificationResult` of `Transaction.currentEntitlements` \
         or `Transaction.latest(for:)`)"
    )]
    ReceiptUnsupported,
    /// Genuine, but of an app that the catalog does not list.
    #[error("the purchase belongs to an app that is not in the catalog")]
    UnknownApp,
    /// Genuine, but of an environment that this deployment does not accept.
    #[error("the purchase was made in an environment that is not accepted here")]
    EnvironmentNotAccepted,
    /// Possession is not shown: a bare id whose record does not name the caller.
    #[error("the proof is not sufficient")]
    Insufficient,
    /// It cannot be checked now.
    #[error("the store cannot be asked now")]
    Unavailable,
}

/// One answer of a store, as it came: kept for replay.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreAnswer {
    /// Which call it answers: `subscriptions`, `orders/GPA.…`; never a URL with a token.
    pub(crate) call: String,
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// Why the store's truth could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Time-outs, 5xx, rate limits, retryable codes.
    #[error("the store cannot be asked now: {cause}")]
    Away {
        cause: String,
        retry_after: Option<Duration>,
        /// The store has surely done nothing of what was asked: it was not reached, or turned the
        /// call away as one too many.
        untouched: bool,
    },
    /// Credentials or permissions: alarmed, tried again slowly.
    #[error("the store refuses our credentials: {0}")]
    Refused(String),
    /// It answered something we cannot read: kept, alarmed, grants nothing.
    #[error("the store's answer cannot be read: {0}")]
    Unreadable(String),
}

impl FetchError {
    pub(crate) fn away(cause: impl Into<String>) -> Self {
        Self::Away {
            cause: cause.into(),
            retry_after: None,
            untouched: false,
        }
    }

    /// What a call without an answer means.
    pub(crate) fn unanswered(call: &str, error: &HttpError) -> Self {
        match error {
            HttpError::TimedOut | HttpError::Connection(_) => Self::away(format!("{call}{error}")),
            HttpError::NotConnected(_) => Self::Away {
                cause: format!("{call}{error}"),
                retry_after: None,
                untouched: true,
            },
            HttpError::Refused { .. } => Self::Refused(format!("{call}{error}")),
            HttpError::TooLarge => Self::Unreadable(format!("{call}{error}")),
        }
    }

    /// The same, of the last of several tries: an earlier one may have arrived.
    pub(crate) fn after_others(self) -> Self {
        self.with_untouched(false)
    }

    /// The same, of something that comes before a call and was not to be had.
    pub(crate) fn before_any_call(self) -> Self {
        self.with_untouched(true)
    }

    fn with_untouched(self, untouched: bool) -> Self {
        match self {
            Self::Away {
                cause, retry_after, ..
            } => Self::Away {
                cause,
                retry_after,
                untouched,
            },
            other @ (Self::Refused(_) | Self::Unreadable(_)) => other,
        }
    }
}

/// What a fetch needs to know of the chain.
pub(crate) struct FetchRequest<'a> {
    /// The id to ask for.
    pub(crate) head: &'a Alias,
    /// Evidence that needs calls of its own (orders of known voids).
    pub(crate) evidence: &'a [Evidence],
    /// Aliases already known as this chain's: a walk over linked tokens stops there.
    pub(crate) known: &'a [Alias],
    /// The last answer that was taken: where the purchase is, how far its history was read.
    pub(crate) last: Option<&'a StoreState>,
    /// An operator asked: everything is read again from its beginning, by every way that the store
    /// has, whatever was read before.
    pub(crate) thorough: bool,
    /// Where the app's own names are: the bundle id, the package name.
    pub(crate) catalog: &'a Catalog,
}

/// One duty, with what carrying it out needs.
pub(crate) struct Effect<'a> {
    pub(crate) state: &'a StoreState,
    /// The transaction, order or token that the duty is about.
    pub(crate) transaction_id: &'a str,
    pub(crate) duty: &'a Duty,
    /// What to say; only for duties that answer a question.
    pub(crate) answer: Option<&'a RefundAnswer>,
}

/// What an operator asks a store to do with a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Give the money of one order back; `revoke` ends what it paid for, too (Google).
    Refund { order_id: String, revoke: bool },
    /// End a subscription now and give money back: all, or the unused rest (Google).
    Revoke { prorated: bool },
    /// Stop renewals; `by_developer` cannot be undone by the customer (Google).
    Cancel { by_developer: bool },
    /// Move the next renewal (Apple: 1 to 90 days; Google: 1 to 365).
    Extend { days: u32, request_id: String },
}

/// Why a store did not do what an operator asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// That store has no such call; the sentence says where it is done instead.
    #[error("{0}")]
    NotOffered(&'static str),
    /// It has, and said no: its own word.
    #[error("the store refused: {0}")]
    Declined(String),
    #[error(transparent)]
    Store(#[from] FetchError),
}

/// What to look for at a store, without any signal.
pub(crate) struct SweepRequest<'a> {
    /// The catalog's app.
    pub(crate) app: &'a App,
    pub(crate) environment: Environment,
    /// Half-open, business time.
    pub(crate) since: Instant,
    pub(crate) until: Instant,
    /// Apple: only notifications that never reached us.
    pub(crate) only_failures: bool,
    /// From the page before.
    pub(crate) cursor: Option<&'a str>,
}

/// What a sweep found: raw rows for ingress, as if they had been delivered, and where to go on.
#[derive(Debug, Default)]
pub(crate) struct SweepPage {
    pub(crate) found: Vec<Found>,
    pub(crate) next: Option<String>,
}

/// One thing that should have been delivered. `read` understands its body.
#[derive(Debug)]
pub(crate) struct Found {
    /// The id that its delivery would have had, where there is one.
    pub(crate) event_id: String,
    pub(crate) body: Bytes,
}

/// A store. Two real ones stand behind it; one contract suite runs over both.
pub(crate) trait Store: Send + Sync {
    /// Authenticates the sender of a webhook from its raw bytes.
    fn authenticate(
        &self,
        delivery: Delivery<'_>,
    ) -> impl Future<Output = Result<Authentic, Rejection>> + Send;

    /// Reads an authentic body; never trusts it for state, only for where to look.
    fn read(&self, body: &[u8], catalog: &Catalog) -> Reading;

    /// Verifies a proof; a bare id costs a call to the store.
    fn verify_proof(
        &self,
        proof: &Proof,
        catalog: &Catalog,
        now: Instant,
    ) -> impl Future<Output = Result<Proven, ProofError>> + Send;

    /// Asks the store for everything about a chain.
    fn fetch(
        &self,
        request: FetchRequest<'_>,
    ) -> impl Future<Output = Result<Vec<StoreAnswer>, FetchError>> + Send;

    /// Puts answers into our words. Pure: replay calls it with stored answers. Answers contain no
    /// evidence yet; the caller adds it (`guard::with_evidence`).
    fn normalize(
        &self,
        head: &Alias,
        answers: &[StoreAnswer],
        catalog: &Catalog,
        fetched_at: Instant,
    ) -> Result<Answer, FetchError>;

    /// Carries out a duty. Safe to repeat.
    fn perform(
        &self,
        effect: Effect<'_>,
        catalog: &Catalog,
    ) -> impl Future<Output = Result<(), FetchError>> + Send;

    /// Does what an operator asks; what changed is read afterwards like anything else. Gives the
    /// store's answer in words.
    fn command(
        &self,
        state: &StoreState,
        command: &Command,
        catalog: &Catalog,
    ) -> impl Future<Output = Result<String, CommandError>> + Send;

    /// Looks for what was not delivered: Apple's notification history, Google's voided purchases.
    fn sweep(
        &self,
        request: SweepRequest<'_>,
    ) -> impl Future<Output = Result<SweepPage, FetchError>> + Send;
}
