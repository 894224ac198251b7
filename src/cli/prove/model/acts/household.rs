//! The same operations for the runs through Postgres: people who share devices and a family, at
//! stores that many such households buy at. Time passes for all of them together.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::case::{Case, Op, What};
use super::super::draw::Draw;
use super::super::shop;
use super::super::stage::{OnDevice, Person};
use super::{Act, Ground, details, held, purchase, unless_refused};
use crate::domain::ids::AccountId;
use crate::sandbox::{PurchaseTruth, Sandbox, SandboxError, Store};

/// People of a household; the last one buys nothing and uses the others' devices.
pub(in crate::cli::prove) const PEOPLE: usize = 4;

/// What an app does after an operation.
#[derive(Clone, Debug)]
pub(in crate::cli::prove) enum Deed {
    /// Hands over what is on a device, as this person's account.
    Bind(usize, OnDevice),
    /// Asks the server to look now.
    Refresh(usize),
    /// Nothing.
    Rest,
}

/// A household: who lives there, and what they can still ask their money back for.
#[derive(Clone, Debug)]
pub(in crate::cli::prove) struct Household {
    pub(in crate::cli::prove) seed: u64,
    pub(in crate::cli::prove) people: Vec<Person>,
    ops: std::vec::IntoIter<(usize, Op)>,
    transactions: BTreeSet<String>,
    orders: BTreeMap<String, Vec<String>>,
}

impl Household {
    /// The household that follows from `seed`, with at most `ops` operations ahead of it.
    pub(in crate::cli::prove) fn of(seed: u64, ops: usize) -> Self {
        let person = |number: usize| Person {
            account: AccountId(Uuid::nil()),
            name: format!("household-{seed}-{number}"),
            token: Uuid::nil(),
            device: Vec::new(),
        };
        Self {
            seed,
            people: (0..PEOPLE).map(person).collect(),
            ops: Case::of(seed, ops).ops.into_iter(),
            transactions: BTreeSet::new(),
            orders: BTreeMap::new(),
        }
    }

    /// Everything that its people bought or share.
    pub(in crate::cli::prove) fn purchases(&self, sandbox: &Sandbox) -> Vec<PurchaseTruth> {
        let people = self.people.iter();
        people.flat_map(|p| sandbox.purchases(&p.name)).collect()
    }

    /// Its next operation that concerns nobody else; what the store refuses was not asked for.
    pub(in crate::cli::prove) async fn act(
        &mut self,
        sandbox: &Sandbox,
    ) -> Result<Deed, SandboxError> {
        let Some((_, op)) = self.ops.find(|(_, op)| stays_at_home(op.what)) else {
            return Ok(Deed::Rest);
        };
        let mut draw = Draw::new(op.roll);
        let draw = &mut draw;
        match op.what {
            What::BuyApple => self.buy(sandbox, draw, Store::AppStore).await,
            What::BuyGoogle => self.buy(sandbox, draw, Store::GooglePlay).await,
            What::Bind | What::BindForeign => {
                let of = draw.index(PEOPLE - 1);
                let by = if op.what == What::Bind {
                    of
                } else {
                    draw.index(PEOPLE)
                };
                let thing = draw.pick(&self.people[of].device).cloned();
                Ok(thing.map_or(Deed::Rest, |thing| Deed::Bind(by, thing)))
            }
            What::Refresh => Ok(Deed::Refresh(draw.index(PEOPLE))),
            What::Change
            | What::Billing
            | What::AutoRenew
            | What::RedeemOffer
            | What::RequestRefund
            | What::Refund
            | What::ReverseRefund
            | What::ChargeBack
            | What::Pause
            | What::Resume
            | What::SettlePending
            | What::TopUp
            | What::RaisePrice
            | What::AnswerPrice
            | What::Items
            | What::Share
            | What::Unshare
            | What::Extend
            | What::Withdraw
            | What::Transfer
            | What::Away
            | What::Stale
            | What::Advance => {
                let all = self.purchases(sandbox);
                if let Some(act) = details::act(&self.ground(), draw, op.what, &all) {
                    at_store(sandbox, act).await?;
                }
                self.note(sandbox);
                Ok(Deed::Rest)
            }
        }
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            people: &self.people,
            transactions: &self.transactions,
            orders: &self.orders,
        }
    }

    async fn buy(
        &mut self,
        sandbox: &Sandbox,
        draw: &mut Draw,
        store: Store,
    ) -> Result<Deed, SandboxError> {
        let buyer = draw.index(PEOPLE - 1);
        let Some(ware) = draw.pick(&shop::wares_of(store)).copied() else {
            return Ok(Deed::Rest);
        };
        let act = purchase(&self.ground(), draw, buyer, ware);
        let Some(thing) = at_store(sandbox, act).await? else {
            return Ok(Deed::Rest);
        };
        self.note(sandbox);
        self.people[buyer].device.push(thing.clone());
        Ok(match draw.below(10) {
            0..7 => Deed::Bind(buyer, thing),
            7 => Deed::Bind(PEOPLE - 1, thing),
            _ => Deed::Rest,
        })
    }

    /// Remembers what can be refunded later.
    fn note(&mut self, sandbox: &Sandbox) {
        for one in self.purchases(sandbox) {
            match one.store {
                Store::AppStore => {
                    self.transactions.insert(one.latest_transaction);
                }
                Store::GooglePlay => {
                    let orders = self.orders.entry(one.id).or_default();
                    if !orders.contains(&one.latest_transaction) {
                        orders.push(one.latest_transaction);
                    }
                }
            }
        }
    }
}

async fn at_store(sandbox: &Sandbox, act: Act) -> Result<Option<OnDevice>, SandboxError> {
    let done = match act {
        Act::AppStore(action) => sandbox.app_store(action).await,
        Act::GooglePlay(action) => sandbox.google_play(*action).await,
    };
    Ok(unless_refused(done)?.and_then(held))
}

/// Whether an operation is one household's own: prices, time and the stores' weather are
/// everybody's.
fn stays_at_home(what: What) -> bool {
    match what {
        What::BuyApple
        | What::BuyGoogle
        | What::Change
        | What::Billing
        | What::AutoRenew
        | What::RedeemOffer
        | What::RequestRefund
        | What::Refund
        | What::ReverseRefund
        | What::ChargeBack
        | What::Pause
        | What::Resume
        | What::SettlePending
        | What::TopUp
        | What::AnswerPrice
        | What::Items
        | What::Share
        | What::Unshare
        | What::Extend
        | What::Bind
        | What::BindForeign
        | What::Refresh => true,
        What::RaisePrice
        | What::Withdraw
        | What::Transfer
        | What::Away
        | What::Stale
        | What::Advance => false,
    }
}
