//! API keys: made, listed, revoked, and checked on every call.
//!
//! Every replica that serves holds the live keys and reads them anew every other second: a revoked
//! key is refused, and its streams end, within `POLL` and the time of one read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use rand::Rng as _;
use tokio::sync::Mutex;
use tokio::time::Instant as MachineInstant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Core;
use crate::domain::api_key::{self, DRAWN, KeyRefused, Powers};
pub(crate) use crate::storage::api_keys::ApiKey;
use crate::storage::api_keys::{self, LiveKey, NewKey};
use crate::storage::{Db, StorageError};

/// How often the live keys are read.
const POLL: Duration = Duration::from_secs(2);
/// A key that is not known here may have been made a moment ago; reads for that reason keep this
/// distance, so that made-up keys cost the database nothing.
const LOOK_GAP: Duration = Duration::from_millis(250);
/// A database that has not answered by then is away: whoever waits for a read is told so, and the
/// next one begins.
const READ_MAX: Duration = Duration::from_secs(5);
/// Writing down uses holds up no read for longer.
const WRITE_MAX: Duration = Duration::from_millis(500);
/// Without the database, keys that were live are believed for so long.
const STALE_MAX: Duration = Duration::from_secs(60);

/// What a new key is to be.
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) powers: Powers,
    /// Machine time.
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error(transparent)]
    Refused(#[from] KeyRefused),
    #[error("the catalog has no app {0:?}")]
    UnknownApp(String),
    #[error("that moment has passed")]
    Expired,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A key that was made, with the text that is told this once.
pub(crate) struct Created {
    pub(crate) key: ApiKey,
    pub(crate) text: String,
}

/// Makes a key.
pub(crate) async fn create(core: &Core, wanted: &Wanted, by: &str) -> Result<Created, CreateError> {
    let catalog = core.catalog.load_full();
    let known = |id: &&String| !catalog.apps().iter().any(|app| app.id.0 == **id);
    if let Some(unknown) = wanted.powers.apps.ids().iter().flatten().find(known) {
        return Err(CreateError::UnknownApp(unknown.clone()));
    }
    let expiry = wanted.expires_at.map(SystemTime::from);
    if expiry.is_some_and(|end| end <= SystemTime::now()) {
        return Err(CreateError::Expired);
    }
    let mut tx = core.db.begin().await?;
    api_keys::lock(&mut tx).await?;
    let (same, live) = api_keys::live_of_name(&mut tx, &wanted.name).await?;
    api_key::may_have(&wanted.name, &wanted.powers, &same, live)?;
    let drawn: [u8; DRAWN] = std::array::from_fn(|_| rand::rng().random_range(0..62));
    let written = api_key::write(wanted.powers.kind, &drawn);
    let digest = hash(&written.text);
    let new = NewKey {
        id: &written.id,
        name: &wanted.name,
        powers: &wanted.powers,
        digest: digest.as_ref(),
        expires_at: wanted.expires_at,
        by,
    };
    let key = api_keys::add(&mut tx, &new).await?;
    tx.commit().await.map_err(StorageError::from)?;
    info!(
        key = written.id,
        name = wanted.name,
        by,
        "an API key was made"
    );
    Ok(Created {
        key,
        text: written.text,
    })
}

/// Every key there ever was, the newest first.
pub(crate) async fn list(core: &Core) -> Result<Vec<ApiKey>, StorageError> {
    api_keys::list(&core.db, None).await
}

/// Ends a key for good; `None` if there is none of that id. Again, it changes nothing.
pub(crate) async fn revoke(
    core: &Core,
    id: &str,
    by: &str,
) -> Result<Option<ApiKey>, StorageError> {
    if !api_keys::revoke(&core.db, id, by).await? {
        return Ok(None);
    }
    info!(key = id, by, "an API key was revoked");
    Ok(api_keys::list(&core.db, Some(id)).await?.pop())
}

fn hash(text: &str) -> aws_lc_rs::digest::Digest {
    digest(&SHA256, text.as_bytes())
}

/// A key that is good on this replica.
#[derive(Debug)]
pub(crate) struct HeldKey {
    pub(crate) name: Arc<str>,
    pub(crate) powers: Powers,
    pub(crate) expires_at: Option<SystemTime>,
    /// Cancelled once it is revoked or over.
    pub(crate) ended: CancellationToken,
    digest: Vec<u8>,
    /// Used since that was last written down.
    used: AtomicBool,
}

/// Why a key is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckError {
    /// Nobody was ever given it.
    Malformed,
    /// Never made, revoked, or over.
    NotLive,
    /// The database cannot be asked, and nobody here knows.
    Unavailable,
}

#[derive(Debug)]
struct Held {
    keys: HashMap<String, Arc<HeldKey>>,
    /// Those whose next use is worth writing down.
    use_is_news: HashSet<String>,
    /// When the read that gave them began.
    read_at: MachineInstant,
}

/// The live keys of a deployment, as one replica holds them.
pub(crate) struct KeyRing {
    db: Db,
    held: ArcSwapOption<Held>,
    /// When the last read began, whatever came of it.
    reading: Mutex<Option<MachineInstant>>,
}

impl KeyRing {
    pub(crate) fn new(db: Db) -> Self {
        Self {
            db,
            held: ArcSwapOption::empty(),
            reading: Mutex::default(),
        }
    }

    /// The live key that this text is.
    pub(crate) async fn check(&self, text: &str) -> Result<Arc<HeldKey>, CheckError> {
        let id = api_key::id_of(text).ok_or(CheckError::Malformed)?;
        let asked_at = MachineInstant::now();
        let found = match self.find(id, asked_at) {
            Some(found) => found,
            None => {
                self.read_since(asked_at).await;
                match self.held.load_full() {
                    Some(held) if held.read_at >= asked_at => {
                        held.keys.get(id).cloned().ok_or(CheckError::NotLive)?
                    }
                    Some(_) | None => return Err(CheckError::Unavailable),
                }
            }
        };
        let same = verify_slices_are_equal(hash(text).as_ref(), &found.digest).is_ok();
        let over = found.expires_at.is_some_and(|end| end <= SystemTime::now());
        if !same || over {
            return Err(CheckError::NotLive);
        }
        found.used.store(true, Ordering::Relaxed);
        Ok(found)
    }

    fn find(&self, id: &str, now: MachineInstant) -> Option<Arc<HeldKey>> {
        let held = self.held.load();
        let fresh = held
            .as_ref()
            .filter(|held| now.saturating_duration_since(held.read_at) < STALE_MAX)?;
        fresh.keys.get(id).cloned()
    }

    /// Returns after a read that began no earlier than `asked_at`, or failed; whoever waits
    /// together reads once.
    async fn read_since(&self, asked_at: MachineInstant) {
        let mut reading = self.reading.lock().await;
        if let Some(last) = *reading {
            if last >= asked_at {
                return;
            }
            tokio::time::sleep_until(last + LOOK_GAP).await;
        }
        *reading = Some(MachineInstant::now());
        self.read().await;
    }

    /// Reads the live keys; those that are no more end their streams.
    async fn read(&self) {
        let read_at = MachineInstant::now();
        let live = match tokio::time::timeout(READ_MAX, api_keys::live(&self.db)).await {
            Ok(Ok(live)) => live,
            Ok(Err(error)) => {
                warn!(%error, "API keys could not be read");
                return;
            }
            Err(_) => {
                warn!("API keys could not be read: the database does not answer");
                return;
            }
        };
        self.hold(live, read_at);
    }

    fn hold(&self, live: Vec<LiveKey>, read_at: MachineInstant) {
        let before = self.held.load_full();
        let known = |id: &str| before.as_ref()?.keys.get(id);
        let mut use_is_news = HashSet::new();
        let mut keys = HashMap::with_capacity(live.len());
        for row in live {
            let held = match known(&row.id) {
                Some(held) => Arc::clone(held),
                None => Arc::new(HeldKey {
                    name: row.name.into(),
                    powers: row.powers,
                    expires_at: row.expires_at,
                    ended: CancellationToken::new(),
                    digest: row.digest,
                    used: AtomicBool::new(false),
                }),
            };
            if row.use_is_news {
                use_is_news.insert(row.id.clone());
            }
            keys.insert(row.id, held);
        }
        for (id, held) in before.iter().flat_map(|before| &before.keys) {
            if !keys.contains_key(id) {
                held.ended.cancel();
            }
        }
        self.held.store(Some(Arc::new(Held {
            keys,
            use_is_news,
            read_at,
        })));
    }

    /// Writes down which keys were used, each once an hour: never while a call waits, and later if
    /// the database cannot now.
    async fn write_uses(&self) {
        let Some(held) = self.held.load_full() else {
            return;
        };
        let used = held.keys.iter();
        let used = used.filter(|(_, key)| key.used.swap(false, Ordering::Relaxed));
        let (news, keys): (Vec<String>, Vec<_>) = used
            .filter(|(id, _)| held.use_is_news.contains(*id))
            .map(|(id, key)| (id.clone(), key))
            .unzip();
        if news.is_empty() {
            return;
        }
        let written = tokio::time::timeout(WRITE_MAX, api_keys::used(&self.db, &news)).await;
        if !matches!(written, Ok(Ok(()))) {
            warn!("the last use of API keys could not be written; it is tried again");
            for key in keys {
                key.used.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Reads the live keys again and again, until stopped.
    pub(crate) async fn keep_current(self: Arc<Self>, stop: CancellationToken) {
        let read = async {
            loop {
                self.read_since(MachineInstant::now()).await;
                self.write_uses().await;
                tokio::time::sleep(POLL).await;
            }
        };
        stop.run_until_cancelled(read).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "api_keys_tests.rs"]
mod tests;
