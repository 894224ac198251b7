//! Which stores this deployment talks to. A new provider adds one field and one arm per call.

use std::borrow::Cow;

use super::app_store::AppStore;
use super::contract::{
    Authentic, Command, CommandError, Delivery, Effect, FetchError, FetchRequest, Proof,
    ProofError, Proven, Reading, Rejection, Store, StoreAnswer, SweepPage, SweepRequest,
};
use super::google_play::GooglePlay;
use super::superwall::Superwall;
use crate::domain::catalog::Catalog;
use crate::domain::chain::Alias;
use crate::domain::provider::{Provider, Source};
use crate::domain::reconcile::Answer;
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;

/// The configured stores; what is not configured is refused as such.
pub(crate) struct Stores {
    pub(crate) app_store: Option<AppStore>,
    pub(crate) google_play: Option<GooglePlay>,
    pub(crate) superwall: Option<Superwall>,
}

const NOT_CONFIGURED: &str = "this store is not configured";

/// Runs `$call` on the store of `$provider`, or gives `$absent`.
macro_rules! on_store {
    ($self:ident, $provider:expr, $store:ident => $call:expr, $absent:expr) => {
        match $provider {
            Provider::AppStore => match &$self.app_store {
                Some($store) => $call,
                None => $absent,
            },
            Provider::GooglePlay => match &$self.google_play {
                Some($store) => $call,
                None => $absent,
            },
        }
    };
}

impl Stores {
    pub(crate) async fn authenticate(
        &self,
        source: Source,
        delivery: Delivery<'_>,
    ) -> Result<Authentic, Rejection> {
        let absent = || Rejection::Unavailable(NOT_CONFIGURED.into());
        match source {
            Source::Store(provider) => {
                on_store!(self, provider, store => store.authenticate(delivery).await, Err(absent()))
            }
            Source::Superwall => {
                let superwall = self.superwall.as_ref().ok_or_else(absent)?;
                superwall.authenticate(&delivery)
            }
        }
    }

    pub(crate) fn read(&self, source: Source, body: &[u8], catalog: &Catalog) -> Reading {
        let absent = || Reading::Unreadable {
            reason: NOT_CONFIGURED.into(),
        };
        match source {
            Source::Store(provider) => {
                on_store!(self, provider, store => store.read(body, catalog), absent())
            }
            Source::Superwall => match &self.superwall {
                Some(superwall) => superwall.read(body, catalog),
                None => absent(),
            },
        }
    }

    /// An authentic body as it may be kept: without what nobody here needs of people.
    pub(crate) fn redact<'a>(&self, source: Source, body: &'a [u8]) -> Cow<'a, [u8]> {
        match (source, &self.superwall) {
            (Source::Superwall, Some(superwall)) => superwall.redact(body),
            (Source::Superwall, None) | (Source::Store(_), _) => Cow::Borrowed(body),
        }
    }

    pub(crate) async fn verify_proof(
        &self,
        proof: &Proof,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<Proven, ProofError> {
        on_store!(self, proof.provider(), store => store.verify_proof(proof, catalog, now).await,
            Err(ProofError::Invalid(NOT_CONFIGURED.into())))
    }

    pub(crate) async fn fetch(
        &self,
        request: FetchRequest<'_>,
    ) -> Result<Vec<StoreAnswer>, FetchError> {
        on_store!(self, request.head.provider, store => store.fetch(request).await,
            Err(FetchError::Refused(NOT_CONFIGURED.into())))
    }

    pub(crate) fn normalize(
        &self,
        head: &Alias,
        answers: &[StoreAnswer],
        catalog: &Catalog,
        fetched_at: Instant,
    ) -> Result<Answer, FetchError> {
        on_store!(self, head.provider, store => store.normalize(head, answers, catalog, fetched_at),
            Err(FetchError::Refused(NOT_CONFIGURED.into())))
    }

    pub(crate) async fn perform(
        &self,
        effect: Effect<'_>,
        catalog: &Catalog,
    ) -> Result<(), FetchError> {
        on_store!(self, effect.state.head.provider, store => store.perform(effect, catalog).await,
            Err(FetchError::Refused(NOT_CONFIGURED.into())))
    }

    pub(crate) async fn command(
        &self,
        state: &StoreState,
        command: &Command,
        catalog: &Catalog,
    ) -> Result<String, CommandError> {
        on_store!(self, state.head.provider,
            store => store.command(state, command, catalog).await,
            Err(CommandError::NotOffered(NOT_CONFIGURED)))
    }

    pub(crate) async fn sweep(
        &self,
        provider: Provider,
        request: SweepRequest<'_>,
    ) -> Result<SweepPage, FetchError> {
        on_store!(self, provider, store => store.sweep(request).await,
            Err(FetchError::Refused(NOT_CONFIGURED.into())))
    }
}
