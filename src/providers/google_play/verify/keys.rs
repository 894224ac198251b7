//! Google's public keys for pushed notifications: cached, and fetched no more often than needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};
use jsonwebtoken::DecodingKey;
use reqwest::Url;
use serde::Deserialize;

use crate::http::HttpClient;

/// How long known keys are believed while the key server cannot be reached.
const STALE_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Bounds on what `Cache-Control` may ask for, and what holds without it.
const FRESH_AGE_MIN: Duration = Duration::from_secs(60);
const FRESH_AGE_MAX: Duration = STALE_AGE_MAX;
const FRESH_AGE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Fetches are at least this far apart, however many unknown key ids arrive.
const REFETCH_GAP: Duration = Duration::from_secs(60);
/// The gap while there are no keys at all: no notification can be taken, so it is tried more often.
const FIRST_FETCH_GAP: Duration = Duration::from_secs(5);
/// A genuine set has two or three keys in 2 KiB.
const KEY_SET_BYTES_MAX: usize = 64 * 1024;
const KEYS_MAX: usize = 32;

/// Why there is no key to check with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("Google does not publish the key that the token names")]
    Unknown,
    #[error("the key set cannot be fetched")]
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] crate::http::HttpError),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("it is no set of RSA keys")]
    Unreadable,
}

/// The keys behind one fixed URL.
pub(super) struct KeySet {
    http: HttpClient,
    url: Url,
    current: Mutex<Option<Published>>,
    /// Held during a fetch, so that all who need one share it.
    flight: Arc<tokio::sync::Mutex<Flight>>,
}

#[derive(Clone)]
struct Published {
    keys: Arc<HashMap<String, DecodingKey>>,
    fetched_at: Instant,
    fresh_age: Duration,
}

#[derive(Default)]
struct Flight {
    last_start: Option<Instant>,
    last_failed: bool,
}

impl Published {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.fetched_at) < self.fresh_age
    }

    fn is_usable(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.fetched_at) < STALE_AGE_MAX
    }
}

impl KeySet {
    pub(super) fn new(http: HttpClient, url: Url) -> Self {
        Self {
            http,
            url,
            current: Mutex::default(),
            flight: Arc::default(),
        }
    }

    /// The RS256 key with that id. `now` is machine time.
    pub(super) async fn find(
        self: &Arc<Self>,
        id: &str,
        now: Instant,
    ) -> Result<DecodingKey, KeyError> {
        if let Some(key) = self.fresh_key(id, now) {
            return Ok(key);
        }
        let flight = Arc::clone(&self.flight).lock_owned().await;
        // Whoever waited finds what the one before fetched.
        if let Some(key) = self.fresh_key(id, now) {
            return Ok(key);
        }
        let failed = self.fetch_if_due(flight, now).await;
        let usable = self
            .current()
            .clone()
            .filter(|published| published.is_usable(now));
        match usable {
            None => Err(KeyError::Unavailable),
            Some(published) => match published.keys.get(id) {
                Some(key) => Ok(key.clone()),
                // It may be a new key that cannot be seen yet.
                None if failed => Err(KeyError::Unavailable),
                None => Err(KeyError::Unknown),
            },
        }
    }

    fn fresh_key(&self, id: &str, now: Instant) -> Option<DecodingKey> {
        let current = self.current();
        let published = current
            .as_ref()
            .filter(|published| published.is_fresh(now))?;
        published.keys.get(id).cloned()
    }

    /// Fetches unless the last time was too short ago; tells whether the last fetch failed.
    async fn fetch_if_due(
        self: &Arc<Self>,
        mut flight: tokio::sync::OwnedMutexGuard<Flight>,
        now: Instant,
    ) -> bool {
        let usable = self
            .current()
            .as_ref()
            .is_some_and(|published| published.is_usable(now));
        let gap = if usable { REFETCH_GAP } else { FIRST_FETCH_GAP };
        let elapsed = flight
            .last_start
            .map(|start| now.saturating_duration_since(start));
        if elapsed.is_some_and(|elapsed| elapsed < gap) {
            return flight.last_failed;
        }
        // In a task of its own: a sender that hangs up must not spend the allowance for nothing.
        let keys = Arc::clone(self);
        let task = tokio::spawn(async move {
            flight.last_start = Some(now);
            flight.last_failed = true;
            match keys.fetch(now).await {
                Ok(published) => {
                    *keys.current() = Some(published);
                    flight.last_failed = false;
                }
                Err(error) => tracing::warn!(%error, "Google's push keys not fetched"),
            }
            flight.last_failed
        });
        task.await.unwrap_or(true)
    }

    async fn fetch(&self, now: Instant) -> Result<Published, FetchError> {
        let answer = self.http.get(self.url.clone()).await?;
        if answer.status != StatusCode::OK {
            return Err(FetchError::Status(answer.status));
        }
        let keys = parse(&answer.body).ok_or(FetchError::Unreadable)?;
        Ok(Published {
            keys: Arc::new(keys),
            fetched_at: now,
            fresh_age: fresh_age(&answer.headers),
        })
    }

    fn current(&self) -> MutexGuard<'_, Option<Published>> {
        // Nothing in a critical section panics, and every value of it is a valid one.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh_age(headers: &HeaderMap) -> Duration {
    let control = headers
        .get(header::CACHE_CONTROL)
        .and_then(|value| value.to_str().ok());
    let seconds = control.and_then(|control| {
        control
            .split(',')
            .find_map(|directive| directive.trim().strip_prefix("max-age="))
            .and_then(|seconds| seconds.parse().ok())
    });
    seconds
        .map_or(FRESH_AGE_DEFAULT, Duration::from_secs)
        .clamp(FRESH_AGE_MIN, FRESH_AGE_MAX)
}

#[derive(Deserialize)]
struct WireSet {
    keys: Vec<WireKey>,
}

#[derive(Deserialize)]
struct WireKey {
    #[serde(default)]
    kid: String,
    #[serde(default)]
    kty: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

/// Keys of another kind, or for another algorithm, are left out: the key decides what it is for.
fn parse(body: &[u8]) -> Option<HashMap<String, DecodingKey>> {
    if body.len() > KEY_SET_BYTES_MAX {
        return None;
    }
    let set: WireSet = serde_json::from_slice(body).ok()?;
    let keys: HashMap<_, _> = set
        .keys
        .into_iter()
        .take(KEYS_MAX)
        .filter_map(usable)
        .collect();
    (!keys.is_empty()).then_some(keys)
}

fn usable(key: WireKey) -> Option<(String, DecodingKey)> {
    let purpose = key.purpose.as_deref().unwrap_or("sig");
    let algorithm = key.alg.as_deref().unwrap_or("RS256");
    if key.kid.is_empty() || key.kty != "RSA" || purpose != "sig" || algorithm != "RS256" {
        return None;
    }
    let n = URL_SAFE_NO_PAD.decode(&key.n).ok()?;
    let e = URL_SAFE_NO_PAD.decode(&key.e).ok()?;
    // 2048 to 8192 bits; the first byte may be the sign byte that some encoders leave.
    let strong = (256..=1025).contains(&n.len()) && !e.is_empty();
    strong.then(|| (key.kid, DecodingKey::from_rsa_raw_components(&n, &e)))
}
