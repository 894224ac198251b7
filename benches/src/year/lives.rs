//! Who the customers of the year are and what they do in it, drawn from the seed.

use entitled::sandbox::{
    AppStoreBuy, Billing, GooglePlayBuy, Period, Sandbox, SandboxError, Store,
};

/// Everybody has joined after so many days.
const JOINING_DAYS: u64 = 28;

/// How long a period is paid for at once, and how many of a hundred customers choose it.
const PLANS: [(&str, u64); 4] = [
    ("weekly", 10),
    ("monthly", 50),
    ("quarterly", 15),
    ("yearly", 25),
];

/// A customer's year.
pub(super) struct Life {
    pub(super) name: String,
    pub(super) store: Store,
    plan: &'static str,
    trial: bool,
    pub(super) joins_on: u64,
    /// Days of the year with what happens then, in order.
    pub(super) acts: Vec<(u64, Act)>,
}

/// Something that a customer, a bank or a store's staff does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Cancel,
    Restore,
    FailPayment,
    Pay,
    Refund,
}

/// SplitMix64: the same draws on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

impl Life {
    pub(super) fn draw(seed: u64, number: u64, days: u64) -> Self {
        let mut dice = Dice(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let store = match dice.below(2) {
            0 => Store::AppStore,
            _ => Store::GooglePlay,
        };
        let mut share = dice.below(100);
        let plan = PLANS.iter().find_map(|(plan, of_hundred)| {
            let chosen = share < *of_hundred;
            share = share.saturating_sub(*of_hundred);
            chosen.then_some(*plan)
        });
        let trial = dice.below(100) < 20;
        let joins_on = dice.below(JOINING_DAYS.min(days));
        let day = joins_on + 1 + dice.below(days.saturating_sub(joins_on + 1));
        let acts = match dice.below(100) {
            0..20 => vec![(day, Act::Cancel)],
            20..28 => vec![(day, Act::Cancel), (day + 1 + dice.below(10), Act::Restore)],
            28..34 => vec![
                (day, Act::FailPayment),
                (day + 1 + dice.below(40), Act::Pay),
            ],
            34..38 => vec![(day, Act::FailPayment)],
            38..42 => vec![(day, Act::Refund)],
            _ => Vec::new(),
        };
        Self {
            name: format!("customer-{number}"),
            store,
            plan: plan.unwrap_or("monthly"),
            trial,
            joins_on,
            acts,
        }
    }

    /// Buys under the name that the server gave the account; the purchase's id at its store.
    pub(super) async fn buy(
        &self,
        stores: &Sandbox,
        store_token: String,
    ) -> anyhow::Result<String> {
        let trial = self.trial.then(|| Period::weeks(1));
        Ok(match self.store {
            Store::AppStore => {
                let buy = AppStoreBuy {
                    customer: self.name.clone(),
                    product_id: format!("com.example.premium.{}", self.plan),
                    app_account_token: Some(store_token.parse()?),
                    trial,
                    ..AppStoreBuy::default()
                };
                stores.buy_app_store(&buy).await?.original_transaction_id
            }
            Store::GooglePlay => {
                let buy = GooglePlayBuy {
                    customer: self.name.clone(),
                    product_id: "premium".to_owned(),
                    base_plan_id: Some(format!("premium-{}", self.plan)),
                    obfuscated_account_id: Some(store_token),
                    trial,
                    ..GooglePlayBuy::default()
                };
                stores.buy_google_play(&buy).await?.purchase_token
            }
        })
    }

    /// Does it; false if the store would not have it (what has ended cannot be cancelled).
    pub(super) async fn act(
        &self,
        stores: &Sandbox,
        purchase: &str,
        act: Act,
    ) -> anyhow::Result<bool> {
        let done = match (self.store, act) {
            (Store::AppStore, Act::Cancel) => stores.set_auto_renew(purchase, false).await,
            (Store::AppStore, Act::Restore) => stores.set_auto_renew(purchase, true).await,
            (Store::AppStore, Act::FailPayment) => {
                stores.set_app_store_billing(purchase, Billing::Fails).await
            }
            (Store::AppStore, Act::Pay) => {
                stores.set_app_store_billing(purchase, Billing::Works).await
            }
            (Store::AppStore, Act::Refund) => {
                let bought = stores.purchases(&self.name);
                let latest = bought.into_iter().next().map(|one| one.latest_transaction);
                stores.refund_app_store(&latest.unwrap_or_default()).await
            }
            (Store::GooglePlay, Act::Cancel) => stores.cancel_google_play(purchase).await,
            (Store::GooglePlay, Act::Restore) => stores.restore_google_play(purchase).await,
            (Store::GooglePlay, Act::FailPayment) => {
                stores
                    .set_google_play_billing(purchase, Billing::Fails)
                    .await
            }
            (Store::GooglePlay, Act::Pay) => {
                stores
                    .set_google_play_billing(purchase, Billing::Works)
                    .await
            }
            (Store::GooglePlay, Act::Refund) => stores.refund_google_play(purchase).await,
        };
        match done {
            Ok(()) => Ok(true),
            Err(SandboxError::Refused(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
