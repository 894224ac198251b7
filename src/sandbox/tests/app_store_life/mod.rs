//! Everything that can happen at the App Store, told as steps and what Apple says about them.

mod changes;
mod commitment;
mod documents;
mod ends;
mod family;
mod offers;
mod plans;
mod random;
mod refunds;

use super::*;

const BASIC: &str = "com.example.basic.monthly";
const PREMIUM: &str = "com.example.premium.monthly";
/// Of the same rank and length as [`PREMIUM`].
const FAMILY: &str = "com.example.family.monthly";
const YEAR: &str = "com.example.premium.yearly";
const WEEK: &str = "com.example.news.weekly";
const SEASON: &str = "com.example.season";
const EURO: &str = "com.example.coins.euro";
const TOKEN: &str = "2f0a5e0e-8f0e-4d8e-9f60-0d6b2f0f7f11";

fn shop() -> StoreSetup {
    let subscription = |id: &str, period, group: &str, level: u32, price| {
        let mut product = AppStoreProduct::subscription(id, period, group);
        if let AppStoreKind::AutoRenewable {
            rank, grace_days, ..
        } = &mut product.kind
        {
            (*rank, *grace_days) = (level, 16);
        }
        product.price_milliunits = price;
        product
    };
    let mut year = subscription(YEAR, Period::years(1), "premium", 1, 59_990);
    year.monthly_commitment_milliunits = Some(5_990);
    let mut basic = subscription(BASIC, Period::months(1), "premium", 2, 4_990);
    basic.win_back_offers = vec!["come-back".to_owned()];
    let mut euro = AppStoreProduct::consumable(EURO);
    euro.currency = "EUR".to_owned();
    StoreSetup {
        app_store: vec![
            basic,
            subscription(PREMIUM, Period::months(1), "premium", 1, 9_990),
            subscription(FAMILY, Period::months(1), "premium", 1, 12_990),
            year,
            subscription(WEEK, Period::weeks(1), "news", 1, 1_990),
            AppStoreProduct::non_consumable(LIFETIME),
            AppStoreProduct::consumable(COINS),
            AppStoreProduct::non_renewing(SEASON),
            euro,
        ],
        ..setup(Environment::Production)
    }
}

async fn shop_rig() -> Rig {
    let mut options = options(Environment::Production);
    options.setup = shop();
    Rig::of(options).await
}

impl Rig {
    /// Plays steps one after the other: actions as scenario files write them, or
    /// `{"advance": "P1M"}`. A text that starts with `$` stands for an id: `$alice` for her chain
    /// (her latest if she has several), `$alice.latest` and `$alice.first` for a transaction of it.
    async fn play(&self, steps: Value) {
        for step in steps.as_array().unwrap() {
            if let Some(period) = step["advance"].as_str() {
                self.sandbox.advance(period.parse().unwrap()).await.unwrap();
            } else if let Err(error) = self.act(step).await {
                panic!("{step}: {error}");
            }
        }
    }

    async fn act(&self, step: &Value) -> Result<Value, SandboxError> {
        let action = serde_json::from_value(self.resolved(step)).unwrap();
        let outcome = self.sandbox.app_store(action).await?;
        Ok(serde_json::to_value(outcome).unwrap())
    }

    async fn refused(&self, step: Value) {
        assert!(self.act(&step).await.is_err(), "{step} was not refused");
    }

    fn resolved(&self, step: &Value) -> Value {
        if let Some(name) = step.as_str().and_then(|text| text.strip_prefix('$')) {
            return json!(self.id(name));
        }
        match step.as_object() {
            Some(fields) => fields
                .iter()
                .map(|(name, value)| (name.clone(), self.resolved(value)))
                .collect(),
            None => step.clone(),
        }
    }

    fn id(&self, name: &str) -> String {
        let (customer, what) = name.split_once('.').unwrap_or((name, ""));
        self.sandbox.inner.read(|world, _| {
            let chain = world.app_store.chains_of(customer).last().unwrap();
            match what {
                "" => chain.original_transaction_id.clone(),
                "first" => chain.transactions[0].id.clone(),
                "latest" => chain.latest().unwrap().id.clone(),
                other => panic!("{other} names no transaction"),
            }
        })
    }

    /// The last notification, opened.
    fn last(&self) -> Value {
        apple_notification(self.sandbox.notifications().last().unwrap())
    }

    /// The notification that is so many before the last.
    fn last_but(&self, count: usize) -> Value {
        apple_notification(
            self.sandbox
                .notifications()
                .iter()
                .rev()
                .nth(count)
                .unwrap(),
        )
    }

    fn stands(&self, customer: &str, state: PurchaseState, entitled: bool) {
        let truth = self.truth(customer);
        assert_eq!(
            (truth.state, truth.entitled),
            (state, entitled),
            "{truth:?}"
        );
    }
}

/// Asserts fields of the transaction (`t.`), the renewal info (`r.`) or the notification itself;
/// null stands for absent.
#[track_caller]
fn says(notification: &Value, fields: &[(&str, Value)]) {
    for (path, expected) in fields {
        let value = match path.split_once('.') {
            Some(("t", name)) => &notification["data"]["signedTransactionInfo"][name],
            Some(("r", name)) => &notification["data"]["signedRenewalInfo"][name],
            _ => path.split('.').fold(notification, |at, name| &at[name]),
        };
        assert_eq!(value, expected, "{path} in {notification:#}");
    }
}

/// A purchase as a step.
fn buy(customer: &str, product: &str) -> Value {
    json!({"do": "buy", "customer": customer, "product_id": product})
}

fn buy_with(customer: &str, product: &str, more: Value) -> Value {
    let mut step = buy(customer, product);
    for (name, value) in more.as_object().unwrap() {
        step[name] = value.clone();
    }
    step
}
