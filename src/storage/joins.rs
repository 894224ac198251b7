//! Joins: a linked token showed that two chains are one.

use super::{StorageError, Tx};
use crate::domain::ids::ChainId;

/// Makes `part` a part of `whole`: every name, claim, fact and pending row moves there.
pub(crate) async fn merge(
    tx: &mut Tx<'_>,
    part: ChainId,
    whole: ChainId,
) -> Result<(), StorageError> {
    let (part, whole) = (part.0, whole.0);
    sqlx::query!(
        "update chain_aliases set chain_id = $2 where chain_id = $1",
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    // An open claim of the same account on both is one wish, with whatever proof it has.
    sqlx::query!(
        r#"update ownership_claims o set stand_in = coalesce(o.stand_in, c.stand_in)
           from ownership_claims c
           where c.chain_id = $1 and c.verdict is null and o.chain_id = $2 and o.verdict is null
             and o.account_id = c.account_id"#,
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"delete from ownership_claims c where chain_id = $1 and verdict is null and exists
           (select 1 from ownership_claims o where o.chain_id = $2 and o.verdict is null
              and o.account_id = c.account_id)"#,
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update ownership_claims set chain_id = $2 where chain_id = $1",
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"insert into chain_evidence (chain_id, kind, transaction_id, fact, observed_at)
           select $2, kind, transaction_id, fact, observed_at from chain_evidence
           where chain_id = $1 on conflict do nothing"#,
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update transactions t set chain_id = $2 where chain_id = $1 and not exists
           (select 1 from transactions o
            where o.chain_id = $2 and o.transaction_id = t.transaction_id)"#,
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("delete from transactions where chain_id = $1", part)
        .execute(&mut **tx)
        .await?;
    // The same duty on both: what has been done for one is done, and nobody is woken twice.
    sqlx::query!(
        r#"update duties o set
               done_at = coalesce(o.done_at, d.done_at),
               waived = case when o.done_at is null then d.waived else o.waived end,
               waits_for = case when d.done_at is null then o.waits_for end,
               alarmed_at = coalesce(o.alarmed_at, d.alarmed_at)
           from duties d
           where d.chain_id = $1 and o.chain_id = $2 and o.transaction_id = d.transaction_id
             and o.kind = d.kind"#,
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update duties d set chain_id = $2 where chain_id = $1 and not exists
           (select 1 from duties o where o.chain_id = $2
              and o.transaction_id = d.transaction_id and o.kind = d.kind)"#,
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!("delete from duties where chain_id = $1", part)
        .execute(&mut **tx)
        .await?;
    // One line of an order is in one purchase only; credit entries are never changed, so those of
    // the part stay where they are and are read through `merged_into`.
    sqlx::query!(
        "update deliveries set chain_id = $2 where chain_id = $1",
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    // Signals of the part wait for the whole's next settle; whoever is fetching the whole by its
    // former head is fenced off.
    let seq = sqlx::query_scalar!(
        r#"update purchase_chains
           set dirty_seq = dirty_seq + 1, claim_no = claim_no + 1, lease_until = '-infinity',
               names_erased = names_erased
                   or (select names_erased from purchase_chains where id = $2)
           where id = $1 returning dirty_seq"#,
        whole,
        part
    )
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update raw_notifications set chain_id = $2, resolved_seq = $3
           where chain_id = $1 and status = 'resolved'"#,
        part,
        whole,
        seq
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from store_subscription_state where chain_id = $1",
        part
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"update purchase_chains set merged_into = $2, next_check_at = null,
               owner_account_id = null, owner_since = null, owner_provisional_until = null,
               synced_seq = dirty_seq
           where id = $1"#,
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update purchase_chains set merged_into = $2 where merged_into = $1",
        part,
        whole
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
