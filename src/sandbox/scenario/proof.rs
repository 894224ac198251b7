//! What the app of a scenario hands to the server: proofs of purchases, in the stores' words or in
//! Superwall's.

use super::super::delivery::Store;
use super::super::truth::PurchaseTruth;
use super::player::{PlayError, Player};
use super::step::{Bind, Preflight, Via};

/// What an app hands to the server to prove a purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A signed transaction of the App Store.
    SignedTransaction(String),
    /// A transaction id of the App Store, without a signature.
    TransactionId(String),
    /// A purchase token of Google Play.
    PurchaseToken {
        /// The app.
        package_name: String,
        /// The token.
        token: String,
    },
    /// A purchase as the app knows it from Superwall.
    Superwall {
        /// Where it was bought.
        store: Store,
        /// The app: bundle id, or package name.
        app: String,
        /// What Superwall calls the purchase: Apple's original transaction id, or the id of
        /// Google's first order.
        original_transaction_id: String,
        /// The transaction, or the order.
        transaction_id: String,
        /// App Store: the signed transaction, if the app has it.
        signed_transaction: Option<String>,
        /// Google Play: the purchase token.
        purchase_token: Option<String>,
    },
}

impl Player<'_> {
    /// What the app hands to the server in a bind: the store, the purchase's id, and the proof.
    ///
    /// # Errors
    /// No purchase has that name.
    pub fn proof(&self, bind: &Bind) -> Result<(Store, String, Proof), PlayError> {
        let bought = self.bought(&bind.bind)?;
        let (store, id) = (bought.store, bought.id.clone());
        let bare = match store {
            Store::AppStore => bind.bare_id,
            Store::GooglePlay => false,
        };
        let proof = match (bind.via, bare) {
            (Via::Store, true) => Proof::TransactionId(bought.charge.clone()),
            (Via::Store, false) => self.possession(store, &id, &bought.charge)?,
            (Via::Superwall, _) => self.as_superwall_names_it(bind, bare)?,
        };
        Ok((store, id, proof))
    }

    /// What the app hands to the server to ask about a purchase.
    ///
    /// # Errors
    /// No purchase has that name.
    pub fn shown(&self, preflight: &Preflight) -> Result<Proof, PlayError> {
        let bought = self.bought(&preflight.preflight)?;
        match (bought.store, preflight.bare_id) {
            (Store::AppStore, true) => Ok(Proof::TransactionId(bought.charge.clone())),
            (Store::AppStore, false) | (Store::GooglePlay, _) => {
                self.possession(bought.store, &bought.id, &bought.charge)
            }
        }
    }

    fn as_superwall_names_it(&self, bind: &Bind, bare: bool) -> Result<Proof, PlayError> {
        let bought = self.bought(&bind.bind)?;
        let named = self.bought(bind.ids_of.as_ref().unwrap_or(&bind.bind))?;
        let app = &self.scenario.app;
        let transaction_id = named.charge.clone();
        Ok(match bought.store {
            Store::AppStore => Proof::Superwall {
                store: bought.store,
                app: app.bundle_id.clone(),
                original_transaction_id: named.id.clone(),
                transaction_id,
                signed_transaction: match bare {
                    true => None,
                    false => Some(self.sandbox.signed_transaction(&bought.charge)?),
                },
                purchase_token: None,
            },
            Store::GooglePlay => Proof::Superwall {
                store: bought.store,
                app: app.package_name.clone(),
                original_transaction_id: named.charge.clone(),
                transaction_id,
                signed_transaction: None,
                purchase_token: Some(bought.id.clone()),
            },
        })
    }

    /// The same for everything that the devices of a store customer hold.
    ///
    /// # Errors
    /// The simulator cannot sign.
    pub fn proofs_of(&self, customer: &str) -> Result<Vec<(Store, String, Proof)>, PlayError> {
        let held = self.sandbox.purchases(customer);
        let mut proofs = Vec::new();
        for PurchaseTruth {
            store,
            id,
            latest_transaction,
            ..
        } in held
        {
            if proofs.iter().any(|(_, known, _)| *known == id) {
                continue;
            }
            let proof = self.possession(store, &id, &latest_transaction)?;
            proofs.push((store, id, proof));
        }
        Ok(proofs)
    }

    fn possession(&self, store: Store, id: &str, charge: &str) -> Result<Proof, PlayError> {
        Ok(match store {
            Store::AppStore => Proof::SignedTransaction(self.sandbox.signed_transaction(charge)?),
            Store::GooglePlay => Proof::PurchaseToken {
                package_name: self.scenario.app.package_name.clone(),
                token: id.to_owned(),
            },
        })
    }
}
