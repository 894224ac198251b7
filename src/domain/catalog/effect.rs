//! What a catalog does to accounts, counted: each account's snapshot by the active one against its
//! snapshot by the new one.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::Catalog;
use super::file::ProductKind;
use crate::domain::entitlement::{AccessReason, CreditBalance, Entitlement, Snapshot};
use crate::domain::holding::Holding;
use crate::domain::provider::{Environment, Provider};
use crate::domain::subscription::state::{ItemState, Renewal};
use crate::domain::subscription::store_state::ItemKind;
use crate::domain::time::Instant;

/// Longer than any period: what has come back has not ended by the time that is looked at.
const LATER: TimeDelta = TimeDelta::days(3_650);

/// Counts over all accounts that ever had something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Effect {
    /// Accounts that were looked at.
    pub(crate) accounts: u64,
    /// Accounts that could not be read, and are not among them.
    #[serde(default)]
    pub(crate) unreadable: u64,
    /// Accounts whose devices will be told something: access, a plan's name, a balance.
    pub(crate) changed: u64,
    /// Accounts that lose access, time or a balance that production money stands behind.
    pub(crate) payers_losing: u64,
    /// Of those: accounts with a purchase that can no longer be read at its store, because its app
    /// is gone or has another name.
    #[serde(default)]
    pub(crate) out_of_reach: u64,
    /// Of `payers_losing`: accounts that lose nothing today. They have a purchase on hold, paused or
    /// not paid yet, and would have less by it once it is paid for.
    #[serde(default)]
    pub(crate) losing_later: u64,
    /// By entitlement; those that nobody gains or loses are not named.
    pub(crate) entitlements: BTreeMap<String, Moves>,
    /// By credit: balances that are seen from now on, or no longer.
    pub(crate) credits: BTreeMap<String, Moves>,
}

/// How many accounts gain or lose one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moves {
    pub(crate) gain: u64,
    pub(crate) lose: u64,
    /// Still on, until earlier.
    pub(crate) shortened: u64,
    /// Of those that lose it or have it for a shorter time: by a purchase with real money.
    pub(crate) payers: u64,
}

impl Effect {
    /// Losses that need somebody's word: of payers, and whatever could not be looked at.
    pub(crate) fn to_confirm(&self) -> u64 {
        self.payers_losing + self.unreadable
    }

    /// Counts one account; tells whether it is a payer who loses.
    pub(crate) fn count(&mut self, before: &Snapshot, after: &Snapshot, unseen: Unseen) -> bool {
        self.accounts += 1;
        self.out_of_reach += u64::from(unseen.out_of_reach);
        let today = self.count_changes(before, after) || unseen.out_of_reach;
        self.losing_later += u64::from(unseen.later && !today);
        let loses = today || unseen.later;
        self.payers_losing += u64::from(loses);
        loses
    }

    /// Tells whether a payer loses by what devices see.
    fn count_changes(&mut self, before: &Snapshot, after: &Snapshot) -> bool {
        if before == after {
            return false;
        }
        self.changed += 1;
        let mut pays = false;
        for was in &before.entitlements {
            let is = after.entitlements.iter().find(|is| is.id == was.id);
            pays |= self.count_entitlement(was, is);
        }
        for is in &after.entitlements {
            let known = before.entitlements.iter().any(|was| was.id == is.id);
            if !known && is.is_active() {
                self.entitlements.entry(is.id.clone()).or_default().gain += 1;
            }
        }
        pays | self.count_credits(before, after)
    }

    /// Tells whether a payer loses.
    fn count_entitlement(&mut self, was: &Entitlement, is: Option<&Entitlement>) -> bool {
        let mut moves = Moves::default();
        let active = is.is_some_and(Entitlement::is_active);
        match (was.is_active(), active) {
            (false, true) => moves.gain = 1,
            (true, false) => moves.lose = 1,
            (true, true) if ends_earlier(was, is) => moves.shortened = 1,
            (true, true) | (false, false) => return false,
        }
        let loses = moves.lose + moves.shortened > 0;
        moves.payers = u64::from(loses && is_paid(was));
        self.entitlements
            .entry(was.id.clone())
            .or_default()
            .add(moves);
        moves.payers > 0
    }

    fn count_credits(&mut self, before: &Snapshot, after: &Snapshot) -> bool {
        let mut pays = false;
        let has = |snapshot: &Snapshot, balance: &CreditBalance| {
            let mut credits = snapshot.credits.iter();
            credits.any(|of| of.id == balance.id && of.environment == balance.environment)
        };
        for was in before.credits.iter().filter(|was| was.balance > 0) {
            if !has(after, was) {
                let paid = was.environment == Some(Environment::Production);
                let moves = self.credits.entry(was.id.clone()).or_default();
                moves.lose += 1;
                moves.payers += u64::from(paid);
                pays |= paid;
            }
        }
        for is in after.credits.iter().filter(|is| is.balance > 0) {
            if !has(before, is) {
                self.credits.entry(is.id.clone()).or_default().gain += 1;
            }
        }
        pays
    }
}

/// What an account loses that its snapshots do not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unseen {
    /// A purchase of it [`is_out_of_reach`].
    pub(crate) out_of_reach: bool,
    /// It would lose once everything that waits for money has come back.
    pub(crate) later: bool,
}

/// Whether an account that goes from one snapshot to the other is a payer who loses.
pub(crate) fn payer_loses(before: &Snapshot, after: &Snapshot) -> bool {
    Effect::default().count_changes(before, after)
}

/// What is on hold, paused or not paid yet, as it is once the store has its money; `None` if it does
/// not wait for any, or for none that counts.
pub(crate) fn paid_for(held: &Holding, now: Instant) -> Option<Holding> {
    let waits = match held.item.state {
        ItemState::OnHold { .. } | ItemState::Paused { .. } | ItemState::Pending => true,
        ItemState::Active { .. }
        | ItemState::GracePeriod { .. }
        | ItemState::Owned { .. }
        | ItemState::Expired { .. }
        | ItemState::Revoked { .. }
        | ItemState::Unknown { .. } => false,
    };
    let counts =
        held.environment == Environment::Production && held.away_since.is_none() && !held.former;
    if !(waits && counts) {
        return None;
    }
    let mut held = held.clone();
    held.item.state = match held.item.kind {
        ItemKind::Subscription => ItemState::Active {
            expires_at: now + LATER,
            renewal: Renewal::On,
        },
        ItemKind::OneTime => ItemState::Owned { since: now },
    };
    held.units = held.units.max(held.item.quantity);
    Some(held)
}

/// Whether nothing is handed out any more for units that are ordered and not paid yet.
pub(crate) fn brings_nothing(old: &Catalog, new: &Catalog, held: &Holding) -> bool {
    let is_counted = |catalog: &Catalog| {
        let plan = catalog.plan(held.provider, &held.item.product);
        plan.is_some_and(|(_, product)| product.kind == ProductKind::Consumable)
    };
    held.item.state == ItemState::Pending
        && held.environment == Environment::Production
        && is_counted(old)
        && !is_counted(new)
}

impl Moves {
    fn add(&mut self, more: Self) {
        self.gain += more.gain;
        self.lose += more.lose;
        self.shortened += more.shortened;
        self.payers += more.payers;
    }
}

/// Whether what was bought for money, and is not over, can no longer be read at its store: its app is
/// gone from the catalog, or has another name there. It ends when its period does.
pub(crate) fn is_out_of_reach(old: &Catalog, new: &Catalog, held: &Holding) -> bool {
    let goes_on = match held.item.state {
        ItemState::Active { .. }
        | ItemState::GracePeriod { .. }
        | ItemState::OnHold { .. }
        | ItemState::Paused { .. }
        | ItemState::Pending
        | ItemState::Owned { .. } => true,
        ItemState::Expired { .. } | ItemState::Revoked { .. } | ItemState::Unknown { .. } => false,
    };
    let names = |catalog: &Catalog| {
        let app = catalog.app(&held.app)?;
        Some(match held.provider {
            Provider::AppStore => (app.bundle_id.clone()?, app.app_apple_id),
            Provider::GooglePlay => (app.package_name.clone()?, None),
        })
    };
    let lost = match (names(old), names(new)) {
        (Some((was, was_id)), Some((is, is_id))) => {
            was != is || was_id.is_some_and(|was| is_id != Some(was))
        }
        (Some(_), None) => true,
        (None, _) => false,
    };
    lost && goes_on
        && held.environment == Environment::Production
        && held.away_since.is_none()
        && !held.former
        && old.plan(held.provider, &held.item.product).is_some()
}

fn ends_earlier(was: &Entitlement, is: Option<&Entitlement>) -> bool {
    let until = |entitlement: &Entitlement| entitlement.access_until();
    match (until(was), is.and_then(until)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(before), Some(after)) => after < before,
    }
}

/// Whether a store's charge stands behind it, or will at the end of a trial; sandbox and gifts do
/// not count.
fn is_paid(entitlement: &Entitlement) -> bool {
    entitlement.sources.iter().any(|source| {
        source.environment == Environment::Production
            && match source.reason {
                AccessReason::Subscription
                | AccessReason::Trial
                | AccessReason::GracePeriod
                | AccessReason::Purchase => true,
                AccessReason::Grant => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::entitlement::{InactiveReason, Source};
    use crate::domain::subscription::state::{Access, Offer};

    fn at(day: u32) -> Instant {
        format!("2027-01-{day:02}T00:00:00Z")
            .parse()
            .expect("a date")
    }

    fn source(reason: AccessReason, environment: Environment, access: Access) -> Source {
        Source {
            reason,
            store: None,
            product_id: String::new(),
            plan: String::new(),
            environment,
            expires_at: None,
            access,
            will_renew: false,
            unconfirmed: false,
            offer: Offer::None,
            family_shared: false,
        }
    }

    fn snapshot(sources: Vec<Source>) -> Snapshot {
        Snapshot {
            entitlements: vec![Entitlement {
                id: "pro".into(),
                sources,
                inactive_reason: InactiveReason::Never,
                ended_at: None,
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn losses_of_payers_are_told_from_those_of_others() {
        let paid = || {
            source(
                AccessReason::Purchase,
                Environment::Production,
                Access::Lifetime,
            )
        };
        let tested = || {
            source(
                AccessReason::Purchase,
                Environment::Sandbox,
                Access::Lifetime,
            )
        };
        let given = || {
            source(
                AccessReason::Grant,
                Environment::Production,
                Access::Lifetime,
            )
        };
        let shorter = || {
            let until = Access::Until(at(9));
            source(AccessReason::Purchase, Environment::Production, until)
        };
        // before, after: gain, lose, shortened, payers
        let cases = [
            (vec![paid()], vec![paid()], [0, 0, 0, 0]),
            (vec![paid()], vec![], [0, 1, 0, 1]),
            (vec![tested()], vec![], [0, 1, 0, 0]),
            (vec![given()], vec![], [0, 1, 0, 0]),
            (vec![given(), paid()], vec![], [0, 1, 0, 1]),
            (vec![paid()], vec![given()], [0, 0, 0, 0]),
            (vec![paid()], vec![shorter()], [0, 0, 1, 1]),
            (vec![shorter()], vec![paid()], [0, 0, 0, 0]),
            (vec![], vec![paid()], [1, 0, 0, 0]),
        ];
        for (before, after, expected) in cases {
            let mut effect = Effect::default();
            effect.count(
                &snapshot(before.clone()),
                &snapshot(after.clone()),
                Unseen::default(),
            );
            let moves = effect.entitlements.get("pro").copied().unwrap_or_default();
            let counted = [moves.gain, moves.lose, moves.shortened, moves.payers];
            assert_eq!(counted, expected, "{before:?} {after:?}");
            assert_eq!(effect.payers_losing, expected[3]);
            assert_eq!(effect.accounts, 1);
        }
    }

    #[test]
    fn an_entitlement_or_a_balance_that_is_gone_is_lost() {
        let paid = source(
            AccessReason::Trial,
            Environment::Production,
            Access::Until(at(9)),
        );
        let coins = |balance, environment| CreditBalance {
            id: "coins".into(),
            balance,
            environment,
        };
        let before = Snapshot {
            credits: vec![coins(100, Some(Environment::Production))],
            ..snapshot(vec![paid])
        };
        let mut effect = Effect::default();
        effect.count(&before, &Snapshot::default(), Unseen::default());
        effect.count(&Snapshot::default(), &before, Unseen::default());
        let poor = Snapshot {
            credits: vec![coins(0, None)],
            ..Snapshot::default()
        };
        effect.count(&poor, &Snapshot::default(), Unseen::default());
        assert_eq!(
            (effect.accounts, effect.changed, effect.payers_losing),
            (3, 3, 1)
        );
        let moves = Moves {
            gain: 1,
            lose: 1,
            shortened: 0,
            payers: 1,
        };
        assert_eq!(effect.entitlements["pro"], moves);
        assert_eq!(effect.credits["coins"], moves);
    }

    #[test]
    fn who_loses_later_or_unseen_is_a_payer_too() {
        let paid = snapshot(vec![source(
            AccessReason::Purchase,
            Environment::Production,
            Access::Lifetime,
        )]);
        let nothing = Snapshot::default();
        // before, after, out of reach, later: payers, of these out of reach, of these later
        let cases = [
            ((&paid, &paid), (false, false), [0, 0, 0]),
            ((&paid, &paid), (true, false), [1, 1, 0]),
            ((&nothing, &nothing), (false, true), [1, 0, 1]),
            ((&paid, &nothing), (false, true), [1, 0, 0]),
            ((&paid, &nothing), (true, true), [1, 1, 0]),
        ];
        for ((before, after), (out_of_reach, later), expected) in cases {
            let mut effect = Effect::default();
            let unseen = Unseen {
                out_of_reach,
                later,
            };
            let loses = effect.count(before, after, unseen);
            let told = [
                effect.payers_losing,
                effect.out_of_reach,
                effect.losing_later,
            ];
            assert_eq!((told, loses), (expected, expected[0] > 0), "{unseen:?}");
        }
    }
}
