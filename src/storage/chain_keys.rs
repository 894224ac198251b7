//! The key of each purchase chain: made when something of it is sealed, destroyed by an erasure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sqlx::PgConnection;
use uuid::Uuid;

use super::StorageError;
use super::keyring::{self, Keyring};
use crate::domain::ids::ChainId;
use crate::encryption::{Key, KeyBytes, Place, SealError};

/// A chain's living key.
#[derive(Debug)]
pub(crate) struct ChainKey {
    pub(crate) id: Uuid,
    pub(crate) key: Key,
}

/// What has become of a key.
#[derive(Debug)]
pub(super) enum Held {
    Key(Key),
    Destroyed,
    /// It does not open.
    Broken(SealError),
}

pub(super) fn place(id: Uuid, chain: Uuid) -> Place {
    Place::of("chain key", &[id.as_bytes(), chain.as_bytes()])
}

/// The key of a chain, made if it has none; `None` where nothing is sealed. Safe to race.
pub(super) async fn of_chain(
    connection: &mut PgConnection,
    keys: &Keyring,
    chain: ChainId,
) -> Result<Option<ChainKey>, StorageError> {
    let Some(root) = keys.current()? else {
        return Ok(None);
    };
    for _ in 0..3 {
        if let Some(key) = living(connection, keys, chain).await? {
            return Ok(Some(key));
        }
        let id = Uuid::now_v7();
        let bytes = KeyBytes::random()?;
        let wrapped = root.key.wrap(&place(id, chain.0), &bytes)?;
        let made = sqlx::query!(
            r#"insert into chain_keys (id, chain_id, root_id, wrapped)
               select $1, $2, $3, $4 where exists (select from root_keys where id = $3)
               on conflict (chain_id) where wrapped is not null do nothing"#,
            id,
            chain.0,
            root.id,
            wrapped
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if made == 1 {
            let key = Key::new(&bytes)?;
            return Ok(Some(ChainKey { id, key }));
        }
        if !keyring::exists(connection, root.id).await? {
            return Err(StorageError::Unavailable(
                "the root key that new keys hang on is gone".into(),
            ));
        }
    }
    Err(StorageError::Conflict("a chain's key came and went".into()))
}

async fn living(
    connection: &mut PgConnection,
    keys: &Keyring,
    chain: ChainId,
) -> Result<Option<ChainKey>, StorageError> {
    let row = sqlx::query!(
        r#"select id, root_id, wrapped as "wrapped!" from chain_keys
           where chain_id = $1 and wrapped is not null"#,
        chain.0
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let stored = (row.id, chain.0, row.root_id);
    let key = unwrap(connection, keys, stored, &row.wrapped).await??;
    Ok(Some(ChainKey { id: row.id, key }))
}

/// A key by its id.
async fn by_id(
    connection: &mut PgConnection,
    keys: &Keyring,
    id: Uuid,
) -> Result<Held, StorageError> {
    let row = sqlx::query!(
        "select chain_id, root_id, wrapped from chain_keys where id = $1",
        id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some((chain, root, wrapped)) =
        row.and_then(|row| Some((row.chain_id, row.root_id, row.wrapped?)))
    else {
        return Ok(Held::Destroyed);
    };
    let key = unwrap(connection, keys, (id, chain, root), &wrapped).await?;
    Ok(key.map_or_else(Held::Broken, Held::Key))
}

/// Keys by their ids, each asked for once: for whoever reads many documents of a few purchases in one
/// transaction.
#[derive(Debug, Default)]
pub(super) struct Remembered(HashMap<Uuid, Held>);

impl Remembered {
    pub(super) async fn by_id(
        &mut self,
        connection: &mut PgConnection,
        keys: &Keyring,
        id: Uuid,
    ) -> Result<&Held, StorageError> {
        Ok(match self.0.entry(id) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(new) => new.insert(by_id(connection, keys, id).await?),
        })
    }
}

/// The inner result is about this key alone: who reads others goes on.
async fn unwrap(
    connection: &mut PgConnection,
    keys: &Keyring,
    (id, chain, root): (Uuid, Uuid, Uuid),
    wrapped: &[u8],
) -> Result<Result<Key, SealError>, StorageError> {
    let Some(root) = keys.root(connection, root).await? else {
        return Ok(Err(SealError::KeyGone));
    };
    let bytes = root.unwrap_key(&place(id, chain), wrapped);
    Ok(bytes.and_then(|bytes| Key::new(&bytes)))
}
