//! What the API tells of catalogs, in the domain's words, as it is printed.

use std::collections::BTreeMap;

use anyhow::anyhow;
use chrono::DateTime;
use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::domain::catalog::diff::{Change, ChangeKind};
use crate::domain::catalog::effect::{Effect, Moves};
use crate::domain::ids::{AccountId, CatalogVersion};
use crate::domain::time::Instant;
use crate::flows::apply_catalog::{Plan, Story};
use crate::proto;
use crate::storage::catalogs::{Told, Underived};

/// What a change would do.
pub(super) struct Planned {
    /// The active version that it is held against.
    pub(super) base: Option<CatalogVersion>,
    pub(super) already_active: bool,
    /// Whether whoever planned could not read the active version.
    pub(super) base_unreadable: bool,
    pub(super) changes: Vec<Change>,
    /// With the moment that it was counted for.
    pub(super) effect: Option<(Effect, Instant)>,
}

impl Planned {
    pub(super) fn of(plan: proto::CatalogPlan) -> anyhow::Result<Self> {
        let changes = plan.changes.into_iter().map(change);
        let effect = match (plan.effect, plan.count_time) {
            (Some(told), Some(at)) => Some((effect(told)?, instant(at)?)),
            (Some(_), None) => return Err(missing()),
            (None, _) => None,
        };
        Ok(Self {
            base: version(plan.base_version),
            already_active: plan.already_active,
            base_unreadable: plan.base_unreadable,
            changes: changes.collect::<Result<_, _>>()?,
            effect,
        })
    }

    /// A plan that was made in this process.
    pub(super) fn here(plan: &Plan, now: Instant) -> Self {
        Self {
            base: plan.base,
            already_active: plan.is_active(),
            base_unreadable: plan.base_unreadable,
            changes: plan.changes.clone(),
            effect: plan.effect().cloned().map(|effect| (effect, now)),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "base": self.base, "changes": self.changes,
            "effect": self.effect.as_ref().map(|(effect, _)| effect),
            "already_active": self.already_active, "base_unreadable": self.base_unreadable,
        })
    }
}

/// A part of an answer that every server of ours sends.
pub(super) fn missing() -> anyhow::Error {
    anyhow!("the server's answer is not whole; is it older than this program?")
}

fn version(number: i64) -> Option<CatalogVersion> {
    (number != 0).then_some(CatalogVersion(number))
}

fn instant(at: Timestamp) -> anyhow::Result<Instant> {
    let nanos = u32::try_from(at.nanos).unwrap_or_default();
    DateTime::from_timestamp(at.seconds, nanos).ok_or_else(missing)
}

fn change(change: proto::CatalogChange) -> anyhow::Result<Change> {
    Ok(Change {
        kind: match change.kind() {
            proto::CatalogChangeKind::Added => ChangeKind::Added,
            proto::CatalogChangeKind::Removed => ChangeKind::Removed,
            proto::CatalogChangeKind::Changed => ChangeKind::Changed,
            proto::CatalogChangeKind::Unspecified => return Err(missing()),
        },
        sentence: change.description,
        takes: change.takes,
    })
}

fn effect(told: proto::CatalogEffect) -> anyhow::Result<Effect> {
    Ok(Effect {
        accounts: count(told.accounts)?,
        unreadable: count(told.unreadable)?,
        changed: count(told.changed)?,
        payers_losing: count(told.payers_losing)?,
        out_of_reach: count(told.out_of_reach)?,
        losing_later: count(told.losing_later)?,
        entitlements: moves(told.entitlements)?,
        credits: moves(told.credits)?,
    })
}

fn moves(told: Vec<proto::CatalogMoves>) -> anyhow::Result<BTreeMap<String, Moves>> {
    let moves = told.into_iter().map(|told| {
        let moves = Moves {
            gain: count(told.gain)?,
            lose: count(told.lose)?,
            shortened: count(told.shortened)?,
            payers: count(told.payers)?,
        };
        Ok((told.id, moves))
    });
    moves.collect()
}

fn count(told: i64) -> anyhow::Result<u64> {
    u64::try_from(told).map_err(|_| missing())
}

/// A version's story; `active` if it is the newest.
pub(super) fn story(told: proto::CatalogVersion, active: bool) -> anyhow::Result<Story> {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let some = told.underived_accounts.iter();
    let some = some.map(|id| id.parse().map(AccountId).map_err(|_| missing()));
    Ok(Story {
        underived: Underived {
            count: told.accounts_underived,
            some: some.collect::<anyhow::Result<_>>()?,
        },
        behind: active.then_some(told.accounts_behind),
        told: Told {
            version: CatalogVersion(told.version),
            applied_at: instant(told.apply_time.ok_or_else(missing)?)?,
            origin: told.origin,
            actor: text(told.actor),
            reason: text(told.reason),
            copy_of: version(told.copy_of),
            effect: told.effect.map(effect).transpose()?,
            confirmed_loss: (told.confirmed_loss > 0).then_some(told.confirmed_loss),
            accounts: Some(told.accounts),
            looked_again: told.purchases_looked_again,
            finished_at: told.finish_time.map(instant).transpose()?,
        },
    })
}

pub(super) fn story_json(story: &Story) -> Value {
    let told = &story.told;
    json!({
        "version": told.version, "applied_at": told.applied_at, "origin": told.origin,
        "applied_by": told.actor, "reason": told.reason, "copy_of": told.copy_of,
        "effect": told.effect, "confirmed_loss": told.confirmed_loss, "accounts": told.accounts,
        "behind": story.behind, "underived": story.underived.count,
        "looked_again": told.looked_again,
        "finished_at": told.finished_at,
    })
}
