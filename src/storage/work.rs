//! Whether any work waits, over all tables that hold some.

use super::{Db, StorageError};
use crate::domain::time::Instant;

/// Anything unread, dirty, due or owed that a worker would take up at this moment.
pub(crate) async fn is_waiting(db: &Db, now: Instant) -> Result<bool, StorageError> {
    let waiting = sqlx::query_scalar!(
        r#"select exists (select 1 from raw_notifications
                    where status in ('received', 'sealed'))
               or exists (select 1 from raw_notifications r join chain_aliases a
                      on a.provider = r.awaits_provider and a.app = r.awaits_app
                      and a.kind = r.awaits_kind and a.value = r.awaits_value
                    where r.status = 'pending')
               or exists (select 1 from purchase_chains where merged_into is null
                    and dirty_seq > synced_seq and not_before <= clock_timestamp())
               or exists (select 1 from purchase_chains where merged_into is null
                    and next_check_at <= $1 and not_before <= clock_timestamp())
               or exists (select 1 from entitlement_snapshots where next_transition_at <= $1)
               or exists (select 1 from catalog_versions where finished_at is null)
               or exists (select 1 from entitlement_snapshots
                    where catalog_version < (select max(version) from catalog_versions))
               or exists (select 1 from duties
                    where done_at is null and due_at <= $1 and (not_before <= clock_timestamp()
                      -- being carried out for the first time: neither done nor failed
                      or (attempts > 0 and last_error is null))) as "waiting!""#,
        now
    )
    .fetch_one(db.pool())
    .await?;
    Ok(waiting)
}
