//! Key sets kept fresh: fetched by age and for unknown key ids, never more often than allowed.
//!
//! Fetches run in tasks of their own: a caller that goes away neither stops one nor spends the
//! allowance of the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::StatusCode;
use jsonwebtoken::Algorithm;
use serde_json::Value;
use tokio::task::AbortHandle;

use crate::http::{HttpClient, HttpError};

use super::cache::Digest;
use super::keyset::{KeySet, KeySetError, VerificationKey};
use super::strict;
use super::{Cause, Moment};

/// A set older than this is fetched again behind the request that notices it.
const REFRESH_AGE: Duration = Duration::from_secs(10 * 60);
/// After an idle time this long the request waits: keys may have been withdrawn meanwhile.
const WAIT_AGE: Duration = Duration::from_secs(20 * 60);
/// How long known keys are trusted while the issuer cannot be reached.
const STALE_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Fetches of one issuer are at least this far apart, however many unknown key ids arrive.
const REFETCH_GAP: Duration = Duration::from_secs(60);
/// The gap while there is no set at all: nobody can sign in, so it is tried more often.
const FIRST_FETCH_GAP: Duration = Duration::from_secs(5);
/// A genuine set is a few KiB.
const KEY_SET_BYTES_MAX: usize = 256 * 1024;

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    KeySet(String),
    /// The `jwks_uri` of a discovery document, which must name the very same issuer.
    Discovery {
        issuer: String,
        url: String,
    },
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the URL is not readable")]
    Url,
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the key set is larger than {KEY_SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error(transparent)]
    KeySet(#[from] KeySetError),
    #[error("the discovery document is not readable or names another issuer")]
    Discovery,
}

/// The keys of one issuer.
pub(super) enum Keys {
    /// A development secret: tokens name it as they like.
    Fixed(KeySet),
    /// Our own, which need not be fetched.
    Own(KeySet),
    Fetched(Arc<FetchedKeys>),
}

/// A key, and the generation of the set that it came from.
pub(super) struct Found {
    pub(super) key: Arc<VerificationKey>,
    pub(super) generation: u64,
}

impl Keys {
    pub(super) fn fixed(keys: KeySet) -> Self {
        Self::Fixed(keys)
    }

    pub(super) fn fetched(
        issuer: Arc<str>,
        location: Location,
        algorithms: Vec<Algorithm>,
        http: HttpClient,
    ) -> Self {
        Self::Fetched(Arc::new(FetchedKeys {
            issuer,
            location,
            algorithms,
            http,
            current: ArcSwapOption::empty(),
            gate: Mutex::default(),
        }))
    }

    pub(super) async fn preload(&self, now: Moment) {
        if let Self::Fetched(keys) = self {
            // Failure is logged where it happens.
            let _ = keys.current(now.steady).await;
        }
    }

    /// How many keys there are now; fetched anew, whatever is known.
    pub(super) async fn examine(&self) -> Result<usize, String> {
        match self {
            Self::Fixed(keys) | Self::Own(keys) => Ok(keys.len()),
            Self::Fetched(keys) => match keys.fetch().await {
                Ok((keys, _)) => Ok(keys.len()),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// Changes whenever the set does; none while the keys must be looked at anew.
    pub(super) fn generation(&self, now: Moment) -> Option<u64> {
        match self {
            Self::Fixed(_) | Self::Own(_) => Some(0),
            Self::Fetched(keys) => keys.generation(now.steady),
        }
    }

    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Moment,
    ) -> Result<Found, Cause> {
        match self {
            // There is one secret, so its name does not matter.
            Self::Fixed(keys) => keys.select(None, algorithm).map(|key| Found {
                key: Arc::clone(key),
                generation: 0,
            }),
            Self::Own(keys) => keys.select(id, algorithm).map(|key| Found {
                key: Arc::clone(key),
                generation: 0,
            }),
            Self::Fetched(keys) => keys.find(id, algorithm, now.steady).await,
        }
    }
}

pub(super) struct FetchedKeys {
    issuer: Arc<str>,
    location: Location,
    algorithms: Vec<Algorithm>,
    http: HttpClient,
    current: ArcSwapOption<Published>,
    gate: Mutex<Gate>,
}

struct Published {
    keys: KeySet,
    digest: Digest,
    generation: u64,
    fetched_at: Instant,
}

impl Published {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.fetched_at)
    }

    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Found, Cause> {
        self.keys.select(id, algorithm).map(|key| Found {
            key: Arc::clone(key),
            generation: self.generation,
        })
    }
}

/// A fetch under way, which any number of requests can wait for.
type Flight = Shared<BoxFuture<'static, ()>>;

/// Who may fetch, and how the last fetch went.
#[derive(Default)]
struct Gate {
    last_start: Option<Instant>,
    last_failed: bool,
    flight: Option<(AbortHandle, Flight)>,
}

impl FetchedKeys {
    async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
        now: Instant,
    ) -> Result<Found, Cause> {
        match self.current(now).await?.find(id, algorithm) {
            Err(Cause::KeyUnknown) => {}
            found => return found,
        }
        if let Some(flight) = self.start_fetch(now) {
            flight.await;
        }
        let found = self.current(now).await?.find(id, algorithm);
        match found {
            // It may be a new key that cannot be seen yet.
            Err(Cause::KeyUnknown) if self.gate().last_failed => Err(Cause::KeysUnavailable),
            found => found,
        }
    }

    /// The set to judge by, fetched first if there is none or nobody has asked for long.
    async fn current(self: &Arc<Self>, now: Instant) -> Result<Arc<Published>, Cause> {
        if let Some(published) = self.at_hand(now) {
            return Ok(published);
        }
        if let Some(flight) = self.start_fetch(now) {
            flight.await;
        }
        self.trusted(now).ok_or(Cause::KeysUnavailable)
    }

    /// The generation of the set at hand. Every call of every caller asks: a set that needs no
    /// renewal is looked at where it is.
    fn generation(self: &Arc<Self>, now: Instant) -> Option<u64> {
        match self.current.load().as_deref() {
            Some(published) if published.age(now) < REFRESH_AGE => Some(published.generation),
            Some(_) | None => self.at_hand(now).map(|published| published.generation),
        }
    }

    /// The set, if it can be used without waiting; sees to its renewal.
    fn at_hand(self: &Arc<Self>, now: Instant) -> Option<Arc<Published>> {
        let published = self.trusted(now)?;
        let age = published.age(now);
        if age < REFRESH_AGE {
            return Some(published);
        }
        // While the issuer is down nobody waits for it.
        if age >= WAIT_AGE && !self.gate().last_failed {
            return None;
        }
        drop(self.start_fetch(now));
        Some(published)
    }

    fn trusted(&self, now: Instant) -> Option<Arc<Published>> {
        self.current
            .load_full()
            .filter(|published| published.age(now) < STALE_AGE_MAX)
    }

    /// Joins the fetch under way or starts one; none if the last was too short a time ago.
    fn start_fetch(self: &Arc<Self>, now: Instant) -> Option<Flight> {
        let gap = match self.trusted(now) {
            Some(_) => REFETCH_GAP,
            None => FIRST_FETCH_GAP,
        };
        let mut gate = self.gate();
        if let Some((task, flight)) = &gate.flight
            && !task.is_finished()
        {
            return Some(flight.clone());
        }
        let elapsed = gate
            .last_start
            .map(|start| now.saturating_duration_since(start));
        if elapsed.is_some_and(|elapsed| elapsed < gap) {
            return None;
        }
        let fetch = tokio::spawn(Arc::clone(self).fetch_and_publish(now));
        let task = fetch.abort_handle();
        let flight = fetch.map(|_| ()).boxed().shared();
        gate.last_start = Some(now);
        gate.flight = Some((task, flight.clone()));
        Some(flight)
    }

    async fn fetch_and_publish(self: Arc<Self>, now: Instant) {
        let fetched = self.fetch().await;
        self.gate().last_failed = fetched.is_err();
        match fetched {
            Ok((keys, digest)) => self.publish(keys, digest, now),
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, "key set not fetched");
            }
        }
    }

    fn publish(&self, keys: KeySet, digest: Digest, now: Instant) {
        if keys.len() == 0 {
            tracing::warn!(issuer = %self.issuer, "the issuer publishes no usable key");
        }
        let generation = match self.current.load().as_deref() {
            Some(before) if before.digest == digest => before.generation,
            Some(before) => before.generation + 1,
            None => 0,
        };
        self.current.store(Some(Arc::new(Published {
            keys,
            digest,
            generation,
            fetched_at: now,
        })));
    }

    async fn fetch(&self) -> Result<(KeySet, Digest), FetchError> {
        let url = match &self.location {
            Location::KeySet(url) => url.clone(),
            Location::Discovery { issuer, url } => {
                let document = self.get(url).await?;
                discovered(&document, issuer).ok_or(FetchError::Discovery)?
            }
        };
        let body = self.get(&url).await?;
        let keys = KeySet::parse(&body, &self.algorithms)?;
        Ok((keys, super::cache::digest(&body)))
    }

    async fn get(&self, url: &str) -> Result<bytes::Bytes, FetchError> {
        let url = url.parse().map_err(|_| FetchError::Url)?;
        let answer = self.http.get(url).await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status));
        }
        if answer.body.len() > KEY_SET_BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        Ok(answer.body)
    }

    #[cfg(test)]
    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in a critical section panics, and every state of the gate is a valid one.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The `jwks_uri` of the issuer's own document; an https issuer cannot point to plain http.
pub(super) fn discovered(document: &[u8], issuer: &str) -> Option<String> {
    let document = strict::object(document)?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let url = text("jwks_uri")?;
    let secure = url.starts_with("https://") || issuer.starts_with("http://");
    (text("issuer")? == issuer && secure).then(|| url.to_owned())
}
