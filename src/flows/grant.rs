//! Grant: an audited gift of access by an operator.

use super::{Core, derive};
use crate::domain::entitlement::Grant;
use crate::domain::event::{ApplyReason, Decision, SignalSource};
use crate::domain::gift::GiftRefused;
use crate::domain::ids::{AccountId, Revision};
use crate::storage::events::{self, NewEvent};
use crate::storage::grants::{self, Audit};
use crate::storage::{StorageError, accounts};

/// Why a grant was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    #[error("the catalog has no entitlement {0:?}")]
    UnknownEntitlement(String),
    #[error("no such account")]
    UnknownAccount,
    #[error(transparent)]
    Refused(#[from] GiftRefused),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Gives; tells the account's revision.
pub(crate) async fn grant(
    core: &Core,
    id: AccountId,
    grant: &Grant,
    actor: &str,
    reason: &str,
) -> Result<Option<Revision>, GrantError> {
    let now = core.clock.now();
    core.gifts.check(grant.expires_at, now)?;
    let catalog = core.catalog.load_full();
    if !catalog
        .entitlements()
        .any(|known| known == grant.entitlement)
    {
        return Err(GrantError::UnknownEntitlement(grant.entitlement.clone()));
    }
    let mut tx = core.db.begin().await?;
    let locked = accounts::lock(&mut tx, &[id]).await?.pop();
    let account = locked
        .filter(|account| !account.is_erased())
        .ok_or(GrantError::UnknownAccount)?;
    grants::add(
        &mut tx,
        id,
        grant,
        Audit {
            actor,
            reason,
            at: now,
        },
    )
    .await?;
    let changed = derive::account(core, &mut tx, account, &catalog, now).await?;
    let revision = changed.as_ref().map(|changed| changed.stored.revision);
    let detail = format!("{}: {reason}", grant.entitlement);
    let event = NewEvent {
        account: Some(id),
        actor: Some(actor),
        detail: Some(&detail),
        revision,
        catalog: Some(catalog.version()),
        ..NewEvent::new(
            SignalSource::Operator,
            Decision::Apply(ApplyReason::Granted),
            now,
        )
    };
    events::append(&mut tx, event).await?;
    tx.commit().await.map_err(StorageError::from)?;
    derive::publish(core, changed.into_iter().collect());
    Ok(revision)
}

/// Takes back every open gift of an entitlement; tells how many. None left is no error: asking
/// twice comes to the same.
pub(crate) async fn revoke_grant(
    core: &Core,
    id: AccountId,
    entitlement: &str,
    actor: &str,
    reason: &str,
) -> Result<usize, GrantError> {
    let now = core.clock.now();
    let catalog = core.catalog.load_full();
    let mut tx = core.db.begin().await?;
    let locked = accounts::lock(&mut tx, &[id]).await?.pop();
    let account = locked.ok_or(GrantError::UnknownAccount)?;
    let audit = Audit {
        actor,
        reason,
        at: now,
    };
    let revoked = grants::revoke(&mut tx, id, entitlement, audit).await?;
    if revoked == 0 {
        tx.rollback().await.map_err(StorageError::from)?;
        return Ok(0);
    }
    let changed = derive::account(core, &mut tx, account, &catalog, now).await?;
    let detail = format!("{entitlement}: {reason}");
    let event = NewEvent {
        account: Some(id),
        actor: Some(actor),
        detail: Some(&detail),
        revision: changed.as_ref().map(|changed| changed.stored.revision),
        catalog: Some(catalog.version()),
        ..NewEvent::new(
            SignalSource::Operator,
            Decision::Apply(ApplyReason::GrantRevoked),
            now,
        )
    };
    events::append(&mut tx, event).await?;
    tx.commit().await.map_err(StorageError::from)?;
    derive::publish(core, changed.into_iter().collect());
    Ok(revoked)
}
