//! Root keys: wrapped in the database by a key outside of it, unwrapped once into memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::PgConnection;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant as MachineInstant;
use uuid::Uuid;

use super::{Db, StorageError};
use crate::encryption::providers::KeyProvider;
use crate::encryption::{Key, KeyBytes, SealError};

/// Whoever has not seen the root keys for so long seals nothing: the one that it holds may have been
/// retired, and what is retired is forgotten a day later.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The advisory lock of whoever adds a root key, to the end of a transaction.
const ADDING: i64 = 0x656e_7469_6b65_7931;

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    #[error(
        "what this database holds is encrypted under the key {0:?}, which is not configured: put it \
         back under [[encryption.keys]]; without it the stores' documents cannot be read. If it is \
         lost, give it up: `entitled encryption abandon {0} --yes`; then start with a new one"
    )]
    Missing(String),
    #[error("a key outside the database does not work: {0:#}")]
    Provider(anyhow::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<SealError> for StorageError {
    fn from(error: SealError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<KeyringError> for StorageError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Storage(error) => error,
            KeyringError::Provider(_) | KeyringError::Missing(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// A key with the id that names it in the database.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) id: Uuid,
    pub(crate) key: Arc<Key>,
}

/// A cheap handle on the keys of this process.
#[derive(Clone)]
pub(crate) struct Keyring(Arc<Inner>);

struct Inner {
    /// Newest first.
    providers: Vec<Box<dyn KeyProvider>>,
    seals: bool,
    roots: ArcSwap<Roots>,
    /// The outside is asked once, however many wait for it.
    asking: Mutex<()>,
    /// Rung where something hangs on a root key that this process does not have yet.
    wanted: Notify,
}

#[derive(Clone, Default)]
struct Roots {
    /// What is new is wrapped by it.
    current: Option<Uuid>,
    keys: HashMap<Uuid, Arc<Key>>,
    /// When the database was last asked.
    as_of: Option<MachineInstant>,
}

impl Roots {
    /// The key that wraps what is new.
    fn in_use(&self, now: MachineInstant) -> Result<Root, StorageError> {
        let seen = |at: MachineInstant| now.duration_since(at) < STALE_AFTER;
        if !self.as_of.is_some_and(seen) {
            return Err(StorageError::Unavailable(
                "the root keys have not been seen for a while: nothing is sealed under them".into(),
            ));
        }
        let key = self.current.and_then(|id| Some((id, self.keys.get(&id)?)));
        match key {
            Some((id, key)) => Ok(Root {
                id,
                key: Arc::clone(key),
            }),
            None => Err(StorageError::Unavailable(
                "no root key is in use: restart the server, which makes one".into(),
            )),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// Seals nothing, opens nothing.
    pub(super) fn none() -> Self {
        Self::of(Vec::new(), false)
    }

    fn of(providers: Vec<Box<dyn KeyProvider>>, seals: bool) -> Self {
        Self(Arc::new(Inner {
            providers,
            seals,
            roots: ArcSwap::default(),
            asking: Mutex::default(),
            wanted: Notify::new(),
        }))
    }

    /// Unwraps the database's root keys; the first process with a key makes the first of them.
    pub(crate) async fn open(
        db: &Db,
        providers: Vec<Box<dyn KeyProvider>>,
        seals: bool,
    ) -> Result<Self, KeyringError> {
        let keyring = Self::look(db, providers, seals).await?;
        if seals && !keyring.has_root() {
            keyring.add_root(db, Added::First).await?;
            keyring.read(db).await?;
        }
        Ok(keyring)
    }

    /// The same for whoever only looks: no key is made.
    pub(crate) async fn look(
        db: &Db,
        providers: Vec<Box<dyn KeyProvider>>,
        seals: bool,
    ) -> Result<Self, KeyringError> {
        let keyring = Self::of(providers, seals);
        keyring.read(db).await?;
        Ok(keyring)
    }

    /// Whether what is new is to be sealed.
    pub(crate) fn seals(&self) -> bool {
        self.0.seals
    }

    /// Whether there is a key that wraps what is new: the first server makes it.
    pub(crate) fn has_root(&self) -> bool {
        self.0.roots.load().current.is_some()
    }

    /// The key that wraps what is new; `None`: nothing is sealed.
    ///
    /// # Errors
    /// This process cannot tell which one is in use: what came is not to be kept for now.
    pub(crate) fn current(&self) -> Result<Option<Root>, StorageError> {
        match self.0.seals {
            true => Ok(Some(self.0.roots.load().in_use(MachineInstant::now())?)),
            false => Ok(None),
        }
    }

    /// The same, after another look if the last one is too long ago.
    pub(crate) async fn current_now(&self, db: &Db) -> Result<Option<Root>, StorageError> {
        match self.current() {
            Ok(root) => Ok(root),
            Err(_) => {
                self.refresh(db).await?;
                self.current()
            }
        }
    }

    /// The name of the configured key that wraps root keys from now on.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.0.providers.first().map(|provider| provider.name())
    }

    /// A root key by its id; `None`: the database has none of that id any more. One that is new is
    /// taken up in a moment, and not here: a KMS is not waited for by whoever may hold locks.
    pub(crate) async fn root(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
    ) -> Result<Option<Arc<Key>>, StorageError> {
        if let Some(key) = self.0.roots.load().keys.get(&id) {
            return Ok(Some(Arc::clone(key)));
        }
        if !exists(connection, id).await? {
            return Ok(None);
        }
        self.0.wanted.notify_one();
        Err(StorageError::Unavailable(
            "a new root key is being taken up".into(),
        ))
    }

    /// Returns when somebody has met a root key that this process does not have.
    pub(crate) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// Takes up what other processes have changed.
    pub(crate) async fn refresh(&self, db: &Db) -> Result<(), StorageError> {
        if self.0.providers.is_empty() {
            return Ok(());
        }
        Ok(self.read(db).await?)
    }

    async fn read(&self, db: &Db) -> Result<(), KeyringError> {
        let _alone = self.0.asking.lock().await;
        let as_of = MachineInstant::now();
        let rows = sqlx::query!(
            r#"select id, kek, wrapped, retired_at is null as "current!" from root_keys
               order by created_at desc, id desc"#
        )
        .fetch_all(db.pool())
        .await
        .map_err(StorageError::from)?;
        let known = self.0.roots.load_full();
        let current = rows.iter().find(|row| row.current).map(|row| row.id);
        let mut keys = HashMap::new();
        for row in rows {
            let key = match known.keys.get(&row.id) {
                Some(key) => Arc::clone(key),
                None => {
                    let bytes = self.unwrap(row.id, row.kek, &row.wrapped).await?;
                    Arc::new(Key::new(&bytes).map_err(StorageError::from)?)
                }
            };
            keys.insert(row.id, key);
        }
        self.0.roots.store(Arc::new(Roots {
            current,
            keys,
            as_of: Some(as_of),
        }));
        Ok(())
    }

    async fn unwrap(
        &self,
        id: Uuid,
        kek: String,
        wrapped: &[u8],
    ) -> Result<KeyBytes, KeyringError> {
        let mut providers = self.0.providers.iter();
        let Some(provider) = providers.find(|provider| provider.name() == kek) else {
            return Err(KeyringError::Missing(kek));
        };
        provider
            .unwrap_key(id, wrapped)
            .await
            .map_err(KeyringError::Provider)
    }

    /// A new root key under the newest key outside; what is new is wrapped by it from now on.
    pub(crate) async fn add_root(&self, db: &Db, added: Added) -> Result<(), KeyringError> {
        let Some(provider) = self.0.providers.first() else {
            return Err(KeyringError::Missing("any".into()));
        };
        let id = Uuid::now_v7();
        let bytes = KeyBytes::random().map_err(StorageError::from)?;
        let wrapped = provider
            .wrap(id, &bytes)
            .await
            .map_err(KeyringError::Provider)?;
        // What cannot be unwrapped must never wrap anything.
        provider
            .unwrap_key(id, &wrapped)
            .await
            .map_err(KeyringError::Provider)?;
        let rotation_to = match added {
            Added::First => None,
            Added::ByRotation => Some(provider.name()),
        };
        insert_root(db, added, (id, provider.name(), &wrapped), rotation_to).await?;
        Ok(())
    }

    /// Puts every root key under the newest key outside; tells how many were under another one. From
    /// then on no other is needed.
    pub(crate) async fn rewrap_roots(&self, db: &Db) -> Result<u64, KeyringError> {
        let Some(newest) = self.0.providers.first() else {
            return Ok(0);
        };
        let rows = sqlx::query!(
            "select id, kek, wrapped from root_keys where kek <> $1 order by id",
            newest.name()
        )
        .fetch_all(db.pool())
        .await
        .map_err(StorageError::from)?;
        let mut moved = 0;
        for row in rows {
            let bytes = self.unwrap(row.id, row.kek.clone(), &row.wrapped).await?;
            let wrapped = newest
                .wrap(row.id, &bytes)
                .await
                .map_err(KeyringError::Provider)?;
            newest
                .unwrap_key(row.id, &wrapped)
                .await
                .map_err(KeyringError::Provider)?;
            moved += sqlx::query!(
                "update root_keys set kek = $2, wrapped = $3 where id = $1 and kek = $4",
                row.id,
                newest.name(),
                wrapped,
                row.kek
            )
            .execute(db.pool())
            .await
            .map_err(StorageError::from)?
            .rows_affected();
        }
        Ok(moved)
    }
}

/// Why there is a new root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// None was in use. Several processes that start at once make one between them.
    First,
    /// A rotation puts everything under it.
    ByRotation,
}

async fn insert_root(
    db: &Db,
    added: Added,
    (id, kek, wrapped): (Uuid, &str, &[u8]),
    rotation_to: Option<&str>,
) -> Result<(), StorageError> {
    let mut tx = db.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", ADDING)
        .execute(&mut *tx)
        .await?;
    // Issued after the lock: whoever was first is seen.
    sqlx::query!(
        r#"insert into root_keys (id, kek, wrapped, rotation_to)
           select $1, $2, $3, $4
           where not $5 or not exists (select from root_keys where retired_at is null)"#,
        id,
        kek,
        wrapped,
        rotation_to,
        added == Added::First
    )
    .execute(&mut *tx)
    .await?;
    if added == Added::ByRotation {
        sqlx::query!(
            r#"update root_keys set retired_at = clock_timestamp()
               where retired_at is null and id <> $1"#,
            id
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Whether the database has that root key.
pub(super) async fn exists(connection: &mut PgConnection, id: Uuid) -> Result<bool, StorageError> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from root_keys where id = $1) as "exists!""#,
        id
    )
    .fetch_one(connection)
    .await?;
    Ok(exists)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_been_seen_for_a_while_seals_nothing() {
        let now = MachineInstant::now();
        let id = Uuid::from_u128(1);
        let key = Arc::new(Key::new(&KeyBytes::random().unwrap()).unwrap());
        let roots = Roots {
            current: Some(id),
            keys: HashMap::from([(id, key)]),
            as_of: Some(now),
        };
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(roots.in_use(after(59)).unwrap().id, id);
        assert!(roots.in_use(after(60)).is_err());
        for none in [
            Roots {
                current: None,
                ..roots.clone()
            },
            Roots {
                current: Some(Uuid::from_u128(2)),
                ..roots.clone()
            },
            Roots::default(),
        ] {
            assert!(none.in_use(after(1)).is_err());
        }
        assert!(Keyring::none().current().unwrap().is_none());
    }
}
