//! Root keys: wrapped in the database by a key outside of it, unwrapped once into memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Db, StorageError};
use crate::encryption::providers::KeyProvider;
use crate::encryption::{Key, KeyBytes, SealError};

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    #[error(
        "what this database holds is encrypted under the key {0:?}, which is not configured: put it \
         back under [[encryption.keys]]; without it the stores' documents cannot be read"
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
}

#[derive(Default)]
struct Roots {
    /// What is new is wrapped by it.
    current: Option<Uuid>,
    keys: HashMap<Uuid, Arc<Key>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// Seals nothing, opens nothing.
    pub(super) fn none() -> Self {
        Self(Arc::new(Inner {
            providers: Vec::new(),
            seals: false,
            roots: ArcSwap::default(),
        }))
    }

    /// Unwraps the database's root keys; the first process with a key makes the first of them.
    pub(crate) async fn open(
        db: &Db,
        providers: Vec<Box<dyn KeyProvider>>,
        seals: bool,
    ) -> Result<Self, KeyringError> {
        let keyring = Self(Arc::new(Inner {
            providers,
            seals,
            roots: ArcSwap::default(),
        }));
        let mut connection = db.connection().await?;
        keyring.reload(&mut connection).await?;
        if seals && keyring.0.roots.load().current.is_none() {
            keyring.add_root(&mut connection).await?;
            keyring.reload(&mut connection).await?;
        }
        Ok(keyring)
    }

    /// The key that wraps what is new; `None`: nothing is sealed.
    pub(crate) fn current(&self) -> Option<Root> {
        if !self.0.seals {
            return None;
        }
        let roots = self.0.roots.load();
        let id = roots.current?;
        let key = Arc::clone(roots.keys.get(&id)?);
        Some(Root { id, key })
    }

    /// The name of the configured key that wraps root keys from now on.
    pub(crate) fn newest(&self) -> Option<&str> {
        self.0.providers.first().map(|provider| provider.name())
    }

    /// A root key by its id, read anew if another process has made it.
    pub(crate) async fn root(
        &self,
        connection: &mut PgConnection,
        id: Uuid,
    ) -> Result<Arc<Key>, StorageError> {
        if let Some(key) = self.0.roots.load().keys.get(&id) {
            return Ok(Arc::clone(key));
        }
        self.reload(connection).await?;
        let roots = self.0.roots.load();
        let key = roots.keys.get(&id).map(Arc::clone);
        key.ok_or_else(|| StorageError::Corrupt(format!("the root key {id} is gone")))
    }

    /// Takes up what other processes have changed.
    pub(crate) async fn refresh(&self, db: &Db) -> Result<(), StorageError> {
        if self.0.providers.is_empty() {
            return Ok(());
        }
        let mut connection = db.connection().await?;
        Ok(self.reload(&mut connection).await?)
    }

    async fn reload(&self, connection: &mut PgConnection) -> Result<(), KeyringError> {
        let rows = sqlx::query!(
            r#"select id, kek, wrapped, retired_at is null as "current!" from root_keys
               order by created_at desc, id desc"#
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(StorageError::from)?;
        let known = self.0.roots.load_full();
        let current = rows.iter().find(|row| row.current).map(|row| row.id);
        if current == known.current && rows.len() == known.keys.len() {
            return Ok(());
        }
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
        self.0.roots.store(Arc::new(Roots { current, keys }));
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
    pub(crate) async fn add_root(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Uuid, KeyringError> {
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
        sqlx::query!(
            r#"with older as (
                   update root_keys set retired_at = clock_timestamp() where retired_at is null
               )
               insert into root_keys (id, kek, wrapped) values ($1, $2, $3)"#,
            id,
            provider.name(),
            wrapped
        )
        .execute(connection)
        .await
        .map_err(StorageError::from)?;
        Ok(id)
    }

    /// Puts every root key under the newest key outside; tells how many were under another one. From
    /// then on no other is needed.
    pub(crate) async fn rewrap_roots(
        &self,
        connection: &mut PgConnection,
    ) -> Result<u64, KeyringError> {
        let Some(newest) = self.0.providers.first() else {
            return Ok(0);
        };
        let rows = sqlx::query!(
            "select id, kek, wrapped from root_keys where kek <> $1 order by id",
            newest.name()
        )
        .fetch_all(&mut *connection)
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
            .execute(&mut *connection)
            .await
            .map_err(StorageError::from)?
            .rows_affected();
        }
        Ok(moved)
    }
}
