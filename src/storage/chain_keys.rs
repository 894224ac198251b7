//! The key of each purchase chain: made when something of it is sealed, destroyed by an erasure.

use sqlx::PgConnection;
use uuid::Uuid;

use super::StorageError;
use super::keyring::Keyring;
use crate::domain::ids::ChainId;
use crate::encryption::{Key, KeyBytes, Place};

/// A chain's living key.
#[derive(Debug)]
pub(crate) struct ChainKey {
    pub(crate) id: Uuid,
    pub(crate) key: Key,
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
    let Some(root) = keys.current() else {
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
            r#"insert into chain_keys (id, chain_id, root_id, wrapped) values ($1, $2, $3, $4)
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
    let root = keys.root(connection, row.root_id).await?;
    let bytes = root.unwrap_key(&place(row.id, chain.0), &row.wrapped)?;
    let key = Key::new(&bytes)?;
    Ok(Some(ChainKey { id: row.id, key }))
}

/// A key by its id; `None` once it is destroyed.
pub(super) async fn by_id(
    connection: &mut PgConnection,
    keys: &Keyring,
    id: Uuid,
) -> Result<Option<Key>, StorageError> {
    let row = sqlx::query!(
        "select chain_id, root_id, wrapped from chain_keys where id = $1",
        id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some((chain, root, wrapped)) =
        row.and_then(|row| Some((row.chain_id, row.root_id, row.wrapped?)))
    else {
        return Ok(None);
    };
    let root = keys.root(connection, root).await?;
    let bytes = root.unwrap_key(&place(id, chain), &wrapped)?;
    Ok(Some(Key::new(&bytes)?))
}
