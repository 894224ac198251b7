//! What the stores know against what the books say. The stores' word is the simulator's, which
//! shares nothing with the server.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;

use super::books::Chain;
use super::shop;
use super::stage::Stage;
use crate::domain::chain::{Alias, AliasKind, AppId};
use crate::domain::ids::AccountId;
use crate::domain::provider::Provider;
use crate::domain::subscription::state::{ItemState, Renewal};
use crate::domain::subscription::store_state::Item;
use crate::domain::time::Instant;
use crate::sandbox::{PurchaseState, PurchaseTruth, Store};

/// Who has what, by entitlement.
type Rights = BTreeMap<AccountId, BTreeSet<String>>;

/// Access that the books may still show after the store's truth has ended: the look that every
/// owned chain gets in a day, and the leniency for late renewals.
pub(super) const WRONG_HOURS_MAX: i64 = 26;

pub(super) fn alias(one: &PurchaseTruth) -> Alias {
    let provider = match one.store {
        Store::AppStore => Provider::AppStore,
        Store::GooglePlay => Provider::GooglePlay,
    };
    named(provider, one.id.clone())
}

/// The chain's name at its store.
pub(super) fn named(provider: Provider, value: String) -> Alias {
    let (app, kind) = match provider {
        Provider::AppStore => ("ios", AliasKind::OriginalTransactionId),
        Provider::GooglePlay => ("android", AliasKind::PurchaseToken),
    };
    Alias {
        provider,
        app: AppId(app.to_owned()),
        kind,
        value,
    }
}

/// What the stores' customers have the use of, by the account that the books say owns it.
fn truth(stage: &Stage, all: &[PurchaseTruth]) -> Rights {
    let mut rights = Rights::new();
    if !stage.is_accepted {
        return rights;
    }
    for one in all.iter().filter(|one| one.entitled) {
        let Some(chain) = stage.books.find(&alias(one)) else {
            continue;
        };
        let Some(owner) = stage.books.chains[chain].book.owner else {
            continue;
        };
        let ware = shop::ware(one.store, &one.product_id, one.base_plan_id.as_deref());
        if let Some(own) = ware.and_then(shop::Ware::own) {
            let mine = rights.entry(owner.account).or_default();
            mine.insert(own);
            mine.insert(shop::COMMON.to_owned());
        }
    }
    rights
}

/// What the books say every account may use.
fn told(stage: &Stage) -> Rights {
    let now = stage.now();
    let accounts = stage.people.iter().map(|person| person.account);
    accounts
        .map(|account| {
            let snapshot = stage.books.snapshot(account, now);
            let active = snapshot.entitlements.iter().filter(|one| one.is_active());
            (account, active.map(|one| one.id.clone()).collect())
        })
        .collect()
}

/// Since when the books have said what is not so.
#[derive(Debug, Default)]
pub(super) struct Watch {
    wrong_since: BTreeMap<(AccountId, String), Instant>,
}

impl Watch {
    /// At every moment: nobody keeps for long what the store has taken back (I8).
    pub(super) fn look(&mut self, stage: &Stage) -> Result<(), String> {
        let now = stage.now();
        let truth = truth(stage, &stage.sandbox.all_purchases());
        let told = told(stage);
        let mut wrong = BTreeMap::new();
        for (account, rights) in &told {
            for right in rights {
                if truth.get(account).is_some_and(|all| all.contains(right)) {
                    continue;
                }
                let key = (*account, right.clone());
                let since = self.wrong_since.get(&key).copied().unwrap_or(now);
                wrong.insert(key, since);
            }
        }
        self.wrong_since = wrong;
        // While a store is away its customers keep what they had, within the outage leniency.
        let most = match stage.back_at {
            Some(back) if now < back + TimeDelta::hours(WRONG_HOURS_MAX) => {
                TimeDelta::hours(2 * WRONG_HOURS_MAX)
            }
            Some(_) | None => TimeDelta::hours(WRONG_HOURS_MAX),
        };
        match self
            .wrong_since
            .iter()
            .find(|(_, since)| now - **since > most)
        {
            None => Ok(()),
            Some(((account, right), since)) => Err(format!(
                "account {} has had {right} since {since} without having paid for it, and it is {now}",
                account.0.as_u128()
            )),
        }
    }
}

/// Everything is quiet: the books say what is so.
pub(super) fn compare(stage: &Stage, strict: bool) -> Result<u64, String> {
    let all = stage.sandbox.all_purchases();
    let now = stage.now();
    let (truth, told) = (truth(stage, &all), told(stage));
    let mut compared = 0;
    let nothing = BTreeSet::new();
    for (account, told) in &told {
        let truth = truth.get(account).unwrap_or(&nothing);
        compared += 1;
        let missing: Vec<&String> = truth.difference(told).collect();
        let missing: Vec<&&String> = missing
            .iter()
            .filter(|right| strict || is_looked_after(stage, &all, *account, right))
            .collect();
        if !missing.is_empty() {
            let why = describe(stage, &all, *account);
            return Err(format!(
                "account {} has paid for {missing:?} and does not have it at {now}\n{why}",
                account.0.as_u128()
            ));
        }
        let given: Vec<&String> = told
            .difference(truth)
            .filter(|right| !is_lenient(stage, *account, right, now))
            .collect();
        if !given.is_empty() {
            let why = describe(stage, &all, *account);
            return Err(format!(
                "account {} has {given:?} at {now} and has not paid for it\n{why}",
                account.0.as_u128()
            ));
        }
    }
    unowned(stage, &all)?;
    if strict {
        owners(stage, &all)?;
        compared += credits(stage, &all)?;
        compared += lines(stage, &all)?;
    }
    Ok(compared)
}

/// What was shown to the server is somebody's, but for claims that were refused by a store which
/// answered with the past and did not know the purchase yet: those apps are told to show it again,
/// and until they do it may be nobody's.
fn unowned(stage: &Stage, all: &[PurchaseTruth]) -> Result<(), String> {
    for one in all.iter().filter(|one| one.entitled) {
        let chain = stage.books.find(&alias(one));
        let Some(chain) = chain.map(|chain| &stage.books.chains[chain]) else {
            continue;
        };
        let mut wanted = chain.entitled_to_own.difference(&chain.not_known_yet);
        if chain.book.owner.is_none() && wanted.next().is_some() {
            return Err(format!(
                "{:?} was handed over and is nobody's: {chain:#?}",
                one.id
            ));
        }
    }
    Ok(())
}

/// Whether the schedule alone has to find it: an owned chain whose known state has not ended.
fn is_looked_after(stage: &Stage, all: &[PurchaseTruth], account: AccountId, right: &str) -> bool {
    // What grants nothing, coins for example, says nothing about a right however open it is.
    let mut of_right = all.iter().filter(|one| {
        let ware = shop::ware(one.store, &one.product_id, one.base_plan_id.as_deref());
        let own = ware.and_then(shop::Ware::own);
        one.entitled && own.is_some_and(|own| right == shop::COMMON || right == own)
    });
    of_right.any(|one| {
        let Some(chain) = stage.books.find(&alias(one)) else {
            return false;
        };
        let chain = &stage.books.chains[chain];
        let mine = chain
            .book
            .owner
            .is_some_and(|owner| owner.account == account);
        let open = chain.book.known.as_ref().is_some_and(|known| {
            known.state.items.iter().any(|item| !item.state.is_ended())
                && known.state.head == alias(one)
        });
        mine && open
    })
}

/// A paid period that should renew has just ended: access outlives it by the leniency.
fn is_lenient(stage: &Stage, account: AccountId, right: &str, now: Instant) -> bool {
    let snapshot = stage.books.snapshot(account, now);
    let found = snapshot.entitlements.iter().find(|one| one.id == right);
    found.is_some_and(|one| {
        one.sources
            .iter()
            .all(|source| source.will_renew && source.expires_at.is_some_and(|end| end <= now))
    })
}

/// Each unit that is paid for is credited once, to its owner and nobody else.
fn credits(stage: &Stage, all: &[PurchaseTruth]) -> Result<u64, String> {
    let mut due: BTreeMap<AccountId, i64> = BTreeMap::new();
    for one in all.iter().filter(|_| stage.is_accepted) {
        let ware = shop::ware(one.store, &one.product_id, one.base_plan_id.as_deref());
        let counted = ware.is_some_and(|ware| ware.sold_as == shop::SoldAs::Counted);
        let chain = stage.books.find(&alias(one));
        let owner = chain.and_then(|chain| stage.books.chains[chain].book.owner);
        if counted
            && one.state == PurchaseState::Active
            && let Some(owner) = owner
        {
            *due.entry(owner.account).or_default() += i64::from(one.quantity) * shop::COINS;
        }
    }
    let mut compared = 0;
    for person in &stage.people {
        let due = due.get(&person.account).copied().unwrap_or_default();
        let credited = stage.books.credited(person.account);
        compared += 1;
        if due != credited {
            return Err(format!(
                "account {} has paid for {due} coins and is credited {credited}\n{}",
                person.account.0.as_u128(),
                describe(stage, all, person.account)
            ));
        }
    }
    Ok(compared)
}

/// One owner, and the right one (I4).
fn owners(stage: &Stage, all: &[PurchaseTruth]) -> Result<(), String> {
    for (index, chain) in stage.books.living() {
        let Some(owner) = chain.book.owner else {
            continue;
        };
        if !chain.entitled_to_own.contains(&owner.account) {
            return Err(format!(
                "chain {index} is account {}'s, who never showed it and whom no record names",
                owner.account.0.as_u128()
            ));
        }
    }
    for one in all {
        let Some(chain) = stage.books.find(&alias(one)) else {
            continue;
        };
        let chain = &stage.books.chains[chain];
        if let Some(rightful) = rightful(chain)
            && chain.book.owner.map(|owner| owner.account) != Some(rightful)
        {
            return Err(format!(
                "{:?} is not account {}'s: {chain:#?}",
                one.id, rightful.0
            ));
        }
        if one.entitled && chain.book.owner.is_none() {
            return Err(format!("{:?} was handed over and is nobody's", one.id));
        }
    }
    Ok(())
}

/// Whose it can only be: of the one whom every record names, or else of the first who showed it.
fn rightful(chain: &Chain) -> Option<AccountId> {
    let first = chain.first_owner.filter(|_| !chain.moved)?;
    match chain.hints.len() {
        0 => Some(first),
        1 => chain.hints.first().copied().filter(|named| *named == first),
        _ => None,
    }
}

/// Every line item by itself: its end, and whether it renews.
fn lines(stage: &Stage, all: &[PurchaseTruth]) -> Result<u64, String> {
    let mut compared = 0;
    for one in all.iter().filter(|one| one.entitled) {
        let ware = shop::ware(one.store, &one.product_id, one.base_plan_id.as_deref());
        if ware.and_then(shop::Ware::own).is_none() {
            continue;
        }
        let Some(index) = stage.books.find(&alias(one)) else {
            continue;
        };
        let chain = &stage.books.chains[index];
        let Some(item) = item_of(chain, one) else {
            return Err(format!("no item of chain {index} is {one:#?}\n{chain:#?}"));
        };
        let (end, renews) = match &item.state {
            ItemState::Active {
                expires_at,
                renewal,
            } => (Some(*expires_at), *renewal == Renewal::On),
            // It renews if the debt is paid.
            ItemState::GracePeriod { until, .. } => (Some(*until), one.auto_renew),
            ItemState::Owned { .. } => (None, false),
            ItemState::OnHold { .. }
            | ItemState::Paused { .. }
            | ItemState::Pending
            | ItemState::Expired { .. }
            | ItemState::Revoked { .. }
            | ItemState::Unknown { .. } => {
                return Err(format!("chain {index} says {:?} of {one:#?}", item.state));
            }
        };
        if end != one.expires_at || renews != one.auto_renew {
            return Err(format!("chain {index} says {:?} of {one:#?}", item.state));
        }
        let next = item.pending_product.as_ref();
        let becomes = next.map(|next| (&next.product_id, next.base_plan_id.as_ref()));
        let truly = one.next_product_id.as_ref();
        if becomes != truly.map(|id| (id, one.next_base_plan_id.as_ref())) {
            return Err(format!("chain {index} becomes {becomes:?}, of {one:#?}"));
        }
        compared += 1;
    }
    Ok(compared)
}

fn item_of<'a>(chain: &'a Chain, one: &PurchaseTruth) -> Option<&'a Item> {
    let items = &chain.book.known.as_ref()?.state.items;
    items.iter().find(|item| {
        item.product.product_id == one.product_id
            && one
                .base_plan_id
                .as_ref()
                .is_none_or(|plan| item.product.base_plan_id.as_ref() == Some(plan))
    })
}

fn describe(stage: &Stage, all: &[PurchaseTruth], account: AccountId) -> String {
    let mut text = String::new();
    for one in all {
        let chain = stage.books.find(&alias(one));
        let owner = chain.and_then(|chain| stage.books.chains[chain].book.owner);
        if owner.is_some_and(|owner| owner.account == account) {
            text.push_str(&format!("truth of chain {chain:?}: {one:?}\n"));
        }
    }
    for (index, chain) in stage.books.living() {
        if chain
            .book
            .owner
            .is_some_and(|owner| owner.account == account)
        {
            text.push_str(&format!(
                "chain {index}, looked at again {:?}: {:?}\n",
                chain.next_check, chain.book
            ));
        }
    }
    text
}
