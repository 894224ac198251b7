//! Every answer of a store as it came, sealed under its chain's key; append-only, for replay.

use bytes::Bytes;
use sqlx::PgConnection;
use uuid::Uuid;

use super::chain_keys::{Held, Remembered};
use super::keyring::Keyring;
use super::sealed::Content;
use super::{Db, StorageError, Tx, chain_keys};
use crate::domain::ids::ChainId;
use crate::domain::time::Instant;
use crate::encryption::Place;

/// One answer of a store as it came: which call, its status, its body.
pub(crate) type RawAnswer = (String, u16, Bytes);

/// A stored set of answers.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// With the business time at which the store was asked.
    Readable(Vec<RawAnswer>, Instant),
    /// Their key is destroyed: the account was erased.
    Erased,
    /// They do not open, although their key is there.
    Broken,
}

/// An answer's bytes open as the n-th of what its chain was answered at that moment.
pub(super) fn place(chain: Uuid, fetched_at: Instant, n: usize, call: &str) -> Place {
    Place::of(
        "store answer",
        &[
            chain.as_bytes(),
            &fetched_at.timestamp_micros().to_be_bytes(),
            &(n as u64).to_be_bytes(),
            call.as_bytes(),
        ],
    )
}

/// Keeps what a store answered about a chain that `tx` has locked.
pub(crate) async fn add(
    tx: &mut Tx<'_>,
    db: &Db,
    chain: ChainId,
    answers: &[RawAnswer],
    fetched_at: Instant,
) -> Result<i64, StorageError> {
    let calls: Vec<String> = answers.iter().map(|answer| answer.0.clone()).collect();
    let statuses: Vec<i32> = answers.iter().map(|answer| i32::from(answer.1)).collect();
    let key = chain_keys::of_chain(tx, db.keyring(), chain).await?;
    let mut bodies = Vec::with_capacity(answers.len());
    for (n, (call, _, body)) in answers.iter().enumerate() {
        bodies.push(match &key {
            Some(of_chain) => of_chain
                .key
                .seal(&place(chain.0, fetched_at, n, call), body)?,
            None => body.to_vec(),
        });
    }
    let id = sqlx::query_scalar!(
        r#"insert into store_answers (chain_id, fetched_at, calls, statuses, bodies, chain_key_id)
           values ($1, $2, $3, $4, $5, $6) returning id"#,
        chain.0,
        fetched_at,
        &calls,
        &statuses,
        &bodies,
        key.map(|key| key.id)
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(id)
}

/// One stored set of answers; `None` once retention has trimmed it.
pub(crate) async fn read(db: &Db, id: i64) -> Result<Option<Kept>, StorageError> {
    let mut connection = db.connection().await?;
    let row = sqlx::query_as!(
        Stored,
        r#"select id, chain_id, fetched_at, calls, statuses, bodies, chain_key_id
           from store_answers where id = $1"#,
        id
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut remembered = Remembered::default();
    let kept = open(&mut connection, db.keyring(), &mut remembered, row).await?;
    Ok(Some(kept))
}

/// A set of answers as the table has it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) chain_id: Uuid,
    pub(super) fetched_at: Instant,
    calls: Vec<String>,
    statuses: Vec<i32>,
    bodies: Vec<Vec<u8>>,
    chain_key_id: Option<Uuid>,
}

/// What is kept about these purchases, in order: at most `limit` sets behind `after`.
pub(super) async fn page(
    connection: &mut PgConnection,
    chains: &[Uuid],
    after: i64,
    limit: i64,
) -> Result<Vec<Stored>, StorageError> {
    let rows = sqlx::query_as!(
        Stored,
        r#"select id, chain_id, fetched_at, calls, statuses, bodies, chain_key_id
           from store_answers where chain_id = any($1) and id > $2 order by id limit $3"#,
        chains,
        after,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// A set of answers as it can be read now.
pub(super) async fn open(
    connection: &mut PgConnection,
    keys: &Keyring,
    remembered: &mut Remembered,
    row: Stored,
) -> Result<Kept, StorageError> {
    if row.bodies.len() != row.calls.len() {
        return Ok(Kept::Erased);
    }
    let key = match row.chain_key_id {
        Some(id) => match remembered.by_id(connection, keys, id).await? {
            Held::Key(key) => Some(key),
            Held::Destroyed => return Ok(Kept::Erased),
            Held::Broken(_) => return Ok(Kept::Broken),
        },
        None => None,
    };
    let mut answers = Vec::with_capacity(row.calls.len());
    let parts = row.calls.into_iter().zip(row.statuses).zip(row.bodies);
    for (n, ((call, status), body)) in parts.enumerate() {
        let opened = match key {
            Some(key) => {
                Content::of(key.open(&place(row.chain_id, row.fetched_at, n, &call), &body))
            }
            None => Content::Readable(body),
        };
        let Content::Readable(body) = opened else {
            return Ok(Kept::Broken);
        };
        let status = u16::try_from(status).unwrap_or(0);
        answers.push((call, status, Bytes::from(body)));
    }
    Ok(Kept::Readable(answers, row.fetched_at))
}
