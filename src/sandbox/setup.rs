//! What the simulated stores sell, and how the simulator is started.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::delivery::DeliveryRules;
use super::period::Period;
use crate::clock::VirtualClock;

/// How to start a simulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Source of every id: the same seed and the same operations give the same ids, times and
    /// order. A state directory keeps the seed it was made with.
    pub seed: u64,
    /// Where state and keys are kept; `None` forgets everything at the end, and shares the RSA
    /// keys (service account, push, identity) with others of its kind in the process.
    pub dir: Option<PathBuf>,
    /// Address to listen on; anybody who reaches it can drive the stores.
    pub bind: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Business time, shared with the server under test.
    pub clock: VirtualClock,
    /// The app and its products.
    pub setup: StoreSetup,
}

impl Options {
    /// A forgetful simulator on a free loopback port with seed 0.
    pub fn new(setup: StoreSetup, clock: VirtualClock) -> Self {
        Self {
            seed: 0,
            dir: None,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            clock,
            setup,
        }
    }
}

/// The app as both stores know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSetup {
    /// Bundle id at the App Store.
    pub bundle_id: String,
    /// Apple's numeric app id.
    pub app_apple_id: i64,
    /// Package name at Google Play.
    pub package_name: String,
    /// What Apple's payloads say; in [`Environment::Sandbox`] Google's purchases are test purchases.
    pub environment: Environment,
    /// What the App Store sells.
    pub app_store: Vec<AppStoreProduct>,
    /// What Google Play sells; a subscription stands here once per base plan.
    pub google_play: Vec<GooglePlayProduct>,
    /// How far store events are from the period ends they belong to.
    #[serde(default)]
    pub timing: Timing,
    /// How notifications are delivered.
    #[serde(default)]
    pub deliveries: DeliveryRules,
}

impl StoreSetup {
    pub(super) fn app_store_product(&self, product_id: &str) -> Option<&AppStoreProduct> {
        self.app_store.iter().find(|p| p.product_id == product_id)
    }

    /// The product, and for subscriptions the named base plan or else the first one listed.
    pub(super) fn google_play_product(
        &self,
        product_id: &str,
        base_plan: Option<&str>,
    ) -> Option<&GooglePlayProduct> {
        self.google_play.iter().find(|p| {
            p.product_id == product_id && (base_plan.is_none() || p.base_plan_id() == base_plan)
        })
    }
}

/// Which of the store's worlds is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Environment {
    /// Real money; Apple retries failed notifications.
    Production,
    /// TestFlight, App Review, licence testers; Apple sends a notification once.
    Sandbox,
}

impl Environment {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Production => "Production",
            Self::Sandbox => "Sandbox",
        }
    }
}

/// A product at the App Store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStoreProduct {
    /// Product id as configured at the store.
    pub product_id: String,
    /// What is sold.
    pub kind: AppStoreKind,
    /// Price in thousandths of the currency's major unit: 9.99 is 9990.
    pub price_milliunits: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Price of one month of twelve, where a yearly subscription is also sold so; in thousandths
    /// of the major unit.
    #[serde(default)]
    pub monthly_commitment_milliunits: Option<i64>,
    /// Offers that Apple makes to who has left, by id.
    #[serde(default)]
    pub win_back_offers: Vec<String>,
}

/// What an App Store product is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AppStoreKind {
    /// A subscription; a customer holds at most one per group.
    AutoRenewable {
        /// Length of one paid period.
        period: Period,
        /// Subscription group identifier.
        group: String,
        /// Level within the group; 1 is the highest, a move to a lower number is an upgrade.
        rank: u32,
        /// Billing grace period in days; 0 for none.
        grace_days: u16,
        /// Days of billing retry before the subscription ends; Apple's own figure is 60.
        retry_days: u16,
    },
    /// Bought once, for ever.
    NonConsumable,
    /// Bought again and again.
    Consumable,
    /// A subscription that ends by itself when the app says so; bought again and again.
    NonRenewing,
}

impl AppStoreProduct {
    /// A subscription of the highest rank without grace period, at 9.99 USD.
    pub fn subscription(product_id: &str, period: Period, group: &str) -> Self {
        Self::priced(
            product_id,
            AppStoreKind::AutoRenewable {
                period,
                group: group.to_owned(),
                rank: 1,
                grace_days: 0,
                retry_days: 60,
            },
        )
    }

    /// Something bought once for ever, at 9.99 USD.
    pub fn non_consumable(product_id: &str) -> Self {
        Self::priced(product_id, AppStoreKind::NonConsumable)
    }

    /// Something bought again and again, at 9.99 USD.
    pub fn consumable(product_id: &str) -> Self {
        Self::priced(product_id, AppStoreKind::Consumable)
    }

    /// A subscription that does not renew, at 9.99 USD.
    pub fn non_renewing(product_id: &str) -> Self {
        Self::priced(product_id, AppStoreKind::NonRenewing)
    }

    fn priced(product_id: &str, kind: AppStoreKind) -> Self {
        Self {
            product_id: product_id.to_owned(),
            kind,
            price_milliunits: 9_990,
            currency: "USD".to_owned(),
            monthly_commitment_milliunits: None,
            win_back_offers: Vec::new(),
        }
    }
}

/// A product at Google Play; for subscriptions, one base plan of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GooglePlayProduct {
    /// Product id as configured at the store.
    pub product_id: String,
    /// What is sold.
    pub kind: GooglePlayKind,
    /// Price in millionths of the currency's major unit: 9.99 is 9990000.
    pub price_micros: i64,
    /// ISO 4217 code.
    pub currency: String,
}

/// What a Google Play product is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum GooglePlayKind {
    /// An auto-renewing base plan.
    AutoRenewable {
        /// Base plan id.
        base_plan_id: String,
        /// Length of one paid period.
        period: Period,
        /// Grace period in days; 0 leaves the silent day that the store gives anyway.
        grace_days: u16,
        /// Days of account hold after grace; 0 for none.
        hold_days: u16,
    },
    /// Bought once, for ever.
    NonConsumable,
    /// Bought again once consumed.
    Consumable,
}

impl GooglePlayProduct {
    /// A base plan without grace period and with 30 days of hold, at 9.99 USD.
    pub fn subscription(product_id: &str, base_plan_id: &str, period: Period) -> Self {
        Self::priced(
            product_id,
            GooglePlayKind::AutoRenewable {
                base_plan_id: base_plan_id.to_owned(),
                period,
                grace_days: 0,
                hold_days: 30,
            },
        )
    }

    /// Something bought once for ever, at 9.99 USD.
    pub fn non_consumable(product_id: &str) -> Self {
        Self::priced(product_id, GooglePlayKind::NonConsumable)
    }

    /// Something bought again once consumed, at 9.99 USD.
    pub fn consumable(product_id: &str) -> Self {
        Self::priced(product_id, GooglePlayKind::Consumable)
    }

    fn priced(product_id: &str, kind: GooglePlayKind) -> Self {
        Self {
            product_id: product_id.to_owned(),
            kind,
            price_micros: 9_990_000,
            currency: "USD".to_owned(),
        }
    }

    /// The base plan, for subscriptions.
    pub fn base_plan_id(&self) -> Option<&str> {
        match &self.kind {
            GooglePlayKind::AutoRenewable { base_plan_id, .. } => Some(base_plan_id),
            GooglePlayKind::NonConsumable | GooglePlayKind::Consumable => None,
        }
    }
}

/// Distances as observed at the real stores; in seconds of business time unless named otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Apple renews so long before the period ends.
    pub apple_renewal_lead_seconds: u32,
    /// Apple's EXPIRED follows the end of the period by this.
    pub apple_expiry_lag_seconds: u32,
    /// Google renews so long after the period has ended; its answers say ACTIVE meanwhile.
    pub google_renewal_lag_seconds: u32,
    /// Google's EXPIRED follows the end of the period, or a cancellation in hold, by this.
    pub google_expiry_lag_seconds: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            apple_renewal_lead_seconds: 30,
            apple_expiry_lag_seconds: 30,
            google_renewal_lag_seconds: 0,
            google_expiry_lag_seconds: 3,
        }
    }
}

/// Country fields that belong to a price's currency: Apple's storefront and its id, Google's region.
pub(super) fn storefront(currency: &str) -> (&'static str, &'static str, &'static str) {
    match currency {
        "EUR" => ("DEU", "143443", "DE"),
        "GBP" => ("GBR", "143444", "GB"),
        "JPY" => ("JPN", "143462", "JP"),
        "INR" => ("IND", "143467", "IN"),
        _ => ("USA", "143441", "US"),
    }
}
