//! What comes back of a document that was kept: its bytes, or that they are gone for good.

use sqlx::PgConnection;
use uuid::Uuid;

use super::chain_keys::{Held, Remembered};
use super::keyring::{Keyring, Root};
use super::{StorageError, chain_keys};
use crate::domain::ids::ChainId;
use crate::encryption::{Key, KeyBytes, Place, SealError};

/// A document of a store, as it can be read now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Readable(Vec<u8>),
    /// Its key is destroyed: its account was erased.
    Erased,
    /// It does not open, although nobody has destroyed its key.
    Broken(SealError),
}

impl Content {
    pub(super) fn of(opened: Result<Vec<u8>, SealError>) -> Self {
        match opened {
            Ok(bytes) => Self::Readable(bytes),
            Err(error) => Self::Broken(error),
        }
    }
}

/// A raw row's body and what it is sealed with, as the table has it.
#[derive(Debug)]
pub(super) struct RawBody<'a> {
    pub(super) source: &'a str,
    pub(super) id: Uuid,
    pub(super) body: Vec<u8>,
    pub(super) row_key: Option<Vec<u8>>,
    pub(super) root_id: Option<Uuid>,
    pub(super) chain_key_id: Option<Uuid>,
}

/// A body sealed at receipt.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) body: Vec<u8>,
    pub(super) row_key: Vec<u8>,
    pub(super) root_id: Uuid,
}

fn body_place(source: &str, id: Uuid) -> Place {
    Place::of("raw body", &[source.as_bytes(), id.as_bytes()])
}

pub(super) fn row_key_place(source: &str, id: Uuid) -> Place {
    Place::of("raw key", &[source.as_bytes(), id.as_bytes()])
}

/// Seals a body under a new key of its own, which the root key wraps.
pub(super) fn receive(
    root: &Root,
    source: &str,
    id: Uuid,
    body: &[u8],
) -> Result<Received, SealError> {
    let bytes = KeyBytes::random()?;
    Ok(Received {
        body: Key::new(&bytes)?.seal(&body_place(source, id), body)?,
        row_key: root.key.wrap(&row_key_place(source, id), &bytes)?,
        root_id: root.id,
    })
}

/// A raw row's body, and its own key if it has one.
pub(super) async fn open_raw(
    connection: &mut PgConnection,
    keys: &Keyring,
    raw: RawBody<'_>,
) -> Result<(Content, Option<KeyBytes>), StorageError> {
    open_raw_with(connection, keys, &mut Remembered::default(), raw).await
}

/// The same for many rows.
pub(super) async fn open_raw_with(
    connection: &mut PgConnection,
    keys: &Keyring,
    remembered: &mut Remembered,
    raw: RawBody<'_>,
) -> Result<(Content, Option<KeyBytes>), StorageError> {
    let Some(wrapped) = raw.row_key else {
        // Nothing that a store authenticates is empty.
        let content = match raw.body.is_empty() {
            true => Content::Erased,
            false => Content::Readable(raw.body),
        };
        return Ok((content, None));
    };
    let place = row_key_place(raw.source, raw.id);
    let bytes = match (raw.chain_key_id, raw.root_id) {
        (Some(id), _) => match remembered.by_id(connection, keys, id).await? {
            Held::Key(key) => key.unwrap_key(&place, &wrapped),
            Held::Destroyed => return Ok((Content::Erased, None)),
            Held::Broken(error) => Err(*error),
        },
        (None, Some(id)) => match keys.root(connection, id).await? {
            Some(root) => root.unwrap_key(&place, &wrapped),
            None => Err(SealError::KeyGone),
        },
        (None, None) => Err(SealError::Format),
    };
    let opened = bytes.and_then(|bytes| {
        let body = Key::new(&bytes)?.open(&body_place(raw.source, raw.id), &raw.body)?;
        Ok((body, bytes))
    });
    Ok(match opened {
        Ok((body, bytes)) => (Content::Readable(body), Some(bytes)),
        Err(error) => (Content::Broken(error), None),
    })
}

/// A row's key under the key of the chain that it turned out to be about, and that one's id.
pub(super) async fn rewrap(
    connection: &mut PgConnection,
    keys: &Keyring,
    (source, id): (&str, Uuid),
    row_key: &KeyBytes,
    chain: ChainId,
) -> Result<Option<(Vec<u8>, Uuid)>, StorageError> {
    let Some(of_chain) = chain_keys::of_chain(connection, keys, chain).await? else {
        return Ok(None);
    };
    let wrapped = of_chain.key.wrap(&row_key_place(source, id), row_key)?;
    Ok(Some((wrapped, of_chain.id)))
}
