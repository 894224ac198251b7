//! The end of every change at the App Store: the chain is put back and indexed, Apple tells what
//! happened, what comes next is planned, and family members follow.

use std::sync::Arc;

use uuid::Uuid;

use super::super::agenda::Due;
use super::super::delivery::{Notification, Source};
use super::super::error::SandboxError;
use super::super::state::Turn;
use super::Signal;
use super::chain::Chain;
use super::notification::Letterhead;

impl Turn<'_> {
    /// Puts a changed chain back, with the chains of those it is shared with.
    pub(super) fn app_store_settle(
        &mut self,
        chain: Chain,
        signals: Vec<Signal>,
    ) -> Result<(), SandboxError> {
        let id = chain.original_transaction_id.clone();
        let members = chain.sharing.members().to_vec();
        self.app_store_put(chain, &signals)?;
        for member in members {
            let store = &self.world.app_store;
            let (Some(purchaser), Some(following)) =
                (store.chains.get(&id), store.chains.get(&member))
            else {
                continue;
            };
            let mut following = following.clone();
            let echoes = following.follow(purchaser, &signals, &mut self.world.ids);
            self.app_store_put(following, &echoes)?;
        }
        Ok(())
    }

    /// Puts one changed chain back.
    pub(super) fn app_store_put(
        &mut self,
        mut chain: Chain,
        signals: &[Signal],
    ) -> Result<(), SandboxError> {
        self.index(&mut chain);
        for signal in signals {
            self.tell(&chain, signal)?;
            self.superwall_about_app_store(&chain, signal);
        }
        let id = chain.original_transaction_id.clone();
        let next = chain.next_due(&self.setup.timing);
        self.world.agenda.set(Due::AppStore(id.clone()), next);
        self.world.app_store.chains.insert(id, chain);
        Ok(())
    }

    /// Stamps and indexes the transactions that are new or have changed.
    fn index(&mut self, chain: &mut Chain) {
        let id = chain.original_transaction_id.as_str();
        let old = self.world.app_store.chains.get(id);
        let known = old.map_or(0, |old| old.transactions.len());
        let changed: Vec<usize> = (0..chain.transactions.len())
            .filter(|index| {
                let before = old.and_then(|old| old.transactions.get(*index));
                let after = chain.transactions.get(*index);
                !matches!((before, after), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
            })
            .collect();
        if old.is_none() {
            let ids = &mut self.world.ids;
            let store = &mut self.world.app_store;
            let customer = store.customer_mut(&chain.customer, ids, self.now);
            customer.chains.push(id.to_owned());
        }
        for index in changed {
            let store = &mut self.world.app_store;
            store.revision += 1;
            let Some(transaction) = chain.transactions.get_mut(index) else {
                continue;
            };
            let transaction = Arc::make_mut(transaction);
            transaction.modified_at = self.now;
            transaction.revision = store.revision;
            if index >= known {
                let chain_id = chain.original_transaction_id.clone();
                store.chain_of.insert(transaction.id.clone(), chain_id);
                if let Some(order) = &transaction.order_id {
                    let of_order = store.orders.entry(order.clone()).or_default();
                    of_order.push(transaction.id.clone());
                }
            }
        }
    }

    fn tell(&mut self, chain: &Chain, signal: &Signal) -> Result<(), SandboxError> {
        let (id, signed_at) = (self.world.ids.uuid(), self.stamp(Source::AppStore));
        let shelf = self.world.app_store.shelf(self.setup);
        let letterhead = Letterhead {
            id: &id.to_string(),
            setup: self.setup,
            keys: self.keys,
            now: self.now,
            signed_at,
        };
        let notification = letterhead.about_chain(chain, &shelf, signal)?;
        self.send(notification);
        Ok(())
    }

    /// Sends what is not about a chain; returns its id and when it was signed.
    pub(super) fn app_store_announce(
        &mut self,
        write: impl FnOnce(&Letterhead<'_>) -> Result<Notification, SandboxError>,
    ) -> Result<(Uuid, i64), SandboxError> {
        let (signed_at, id) = (self.stamp(Source::AppStore), self.world.ids.uuid());
        let letterhead = Letterhead {
            id: &id.to_string(),
            setup: self.setup,
            keys: self.keys,
            now: self.now,
            signed_at,
        };
        let notification = write(&letterhead)?;
        self.send(notification);
        Ok((id, signed_at.timestamp_millis()))
    }
}
