//! Ownership claims: the durable wish of an account to own a chain.

use sqlx::types::Json;
use uuid::Uuid;

use super::{Db, StorageError, Tx};
use crate::domain::chain::Alias;
use crate::domain::ids::{AccountId, ChainId, ClaimId};
use crate::domain::ownership::{OpenClaim, Possession, Verdict};
use crate::domain::subscription::store_state::StoreState;
use crate::domain::time::Instant;

/// What a claimant hands over.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) possession: &'a Possession,
    /// What a signed proof says by itself.
    pub(crate) stand_in: Option<&'a StoreState>,
    /// A further name that the claimant gives the purchase.
    pub(crate) also_named: Option<&'a Alias>,
}

/// An open claim with what its signed proof says by itself.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) claim: OpenClaim,
    /// A further name that the claimant gives the purchase; whether it has it is for the caller to
    /// find out.
    pub(crate) also_named: Option<Alias>,
    /// The dirty mark that it came with: an answer fetched before does not speak about it.
    pub(crate) opened_seq: i64,
    pub(crate) stand_in: Option<StoreState>,
}

/// Opens a claim, or renews the open one of the same account.
pub(crate) async fn open(
    tx: &mut Tx<'_>,
    chain: ChainId,
    account: AccountId,
    shown: &Shown<'_>,
    opened_seq: i64,
    now: Instant,
) -> Result<ClaimId, StorageError> {
    let id = sqlx::query_scalar!(
        r#"insert into ownership_claims
               (id, chain_id, account_id, stand_in, opened_at, opened_seq, possession, also_named)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           on conflict (chain_id, account_id) where verdict is null
           do update set stand_in = coalesce(excluded.stand_in, ownership_claims.stand_in),
               opened_seq = excluded.opened_seq, possession = excluded.possession,
               also_named = excluded.also_named
           returning id"#,
        Uuid::now_v7(),
        chain.0,
        account.0,
        shown.stand_in.map(Json) as _,
        now,
        opened_seq,
        Json(shown.possession) as _,
        shown.also_named.map(Json) as _
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(id.into())
}

/// The open claims on a chain, oldest first; those of an account that has become part of another
/// are that one's.
pub(crate) async fn open_of(tx: &mut Tx<'_>, chain: ChainId) -> Result<Vec<Open>, StorageError> {
    let rows = sqlx::query!(
        r#"select c.id, coalesce(a.merged_into, c.account_id) as "account_id!", c.opened_seq,
                  c.stand_in as "stand_in: Json<StoreState>",
                  c.possession as "possession: Json<Possession>",
                  c.also_named as "also_named: Json<Alias>"
           from ownership_claims c left join accounts a on a.id = c.account_id
           where c.chain_id = $1 and c.verdict is null
           order by c.opened_at, c.id"#,
        chain.0
    )
    .fetch_all(&mut **tx)
    .await?;
    let open = rows.into_iter().map(|row| Open {
        claim: OpenClaim {
            id: row.id.into(),
            account: row.account_id.into(),
            possession: row.possession.map(|json| json.0).unwrap_or_default(),
            misnamed: false,
        },
        also_named: row.also_named.map(|json| json.0),
        opened_seq: row.opened_seq,
        stand_in: row.stand_in.map(|json| json.0),
    });
    Ok(open.collect())
}

/// Has an open claim show something else.
pub(crate) async fn show(
    tx: &mut Tx<'_>,
    id: ClaimId,
    possession: &Possession,
    also_named: Option<&Alias>,
) -> Result<(), StorageError> {
    sqlx::query!(
        "update ownership_claims set possession = $2, also_named = $3 where id = $1",
        id.0,
        Json(possession) as _,
        also_named.map(Json) as _
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(crate) async fn decide(
    tx: &mut Tx<'_>,
    id: ClaimId,
    verdict: Verdict,
    now: Instant,
) -> Result<(), StorageError> {
    sqlx::query!(
        // What the proof says by itself stands in for nothing any more.
        "update ownership_claims set verdict = $2, decided_at = $3, stand_in = null where id = $1",
        id.0,
        verdict.as_str(),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Where a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimState {
    Open,
    Decided(Verdict),
    /// Its chain was merged into one on which the account has a claim already.
    Gone,
}

pub(crate) async fn state(db: &Db, id: ClaimId) -> Result<ClaimState, StorageError> {
    let row = sqlx::query_scalar!("select verdict from ownership_claims where id = $1", id.0)
        .fetch_optional(db.pool())
        .await?;
    Ok(match row {
        None => ClaimState::Gone,
        Some(None) => ClaimState::Open,
        Some(Some(word)) => {
            let verdict = Verdict::parse(&word)
                .ok_or_else(|| StorageError::Corrupt(format!("verdict {word:?}")))?;
            ClaimState::Decided(verdict)
        }
    })
}
