//! What the simulated stores sell, and how the simulator is started.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::delivery::DeliveryRules;
use super::pace::Pace;
use super::period::Period;
use super::sins::Sins;
use super::superwall::SuperwallRules;
use crate::clock::VirtualClock;

/// How to start a simulator.
#[derive(Clone, Debug)]
pub struct Options {
    /// Source of every id and of Apple's keys: the same seed and the same operations give the same
    /// ids, times, order and, at the same address, signatures. Whoever knows it can sign as this
    /// simulator does. A state directory keeps the seed and the keys it was made with.
    pub seed: u64,
    /// Where state and keys are kept; `None` forgets everything at the end, and shares the RSA
    /// keys (service account, push, identity) with others of its kind in the process.
    pub dir: Option<PathBuf>,
    /// Forgets what the state directory says was bought; the keys stay.
    pub fresh: bool,
    /// Address to listen on; anybody who reaches it can drive the stores.
    pub bind: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Business time, shared with the server under test.
    pub clock: VirtualClock,
    /// The app and its products.
    pub setup: StoreSetup,
    /// What goes wrong between stores and server; none keeps what the state directory has, and
    /// nothing goes wrong in a fresh one.
    pub sins: Option<Sins>,
    /// How events follow each other while time passes.
    pub pace: Pace,
    /// Where a server in another process answers 200 once it is idle: the simulator asks with
    /// `?wait=MILLISECONDS&at=BUSINESS_TIME` between events.
    pub idle_url: Option<String>,
}

impl Options {
    /// A forgetful simulator on a free loopback port with seed 0.
    pub fn new(setup: StoreSetup, clock: VirtualClock) -> Self {
        Self {
            seed: 0,
            dir: None,
            fresh: false,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            clock,
            setup,
            sins: None,
            pace: Pace::default(),
            idle_url: None,
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
    /// How Superwall relays what the stores say.
    #[serde(default)]
    pub superwall: SuperwallRules,
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
    /// Whether the grace period is only for those whose last period was paid, not for those who
    /// come from a free offer.
    #[serde(default)]
    pub grace_after_paid_only: bool,
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
            grace_after_paid_only: false,
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
    /// A base plan that is paid ahead and does not renew, but can be topped up.
    Prepaid {
        /// Base plan id.
        base_plan_id: String,
        /// Length of what one payment buys.
        period: Period,
    },
    /// An auto-renewing base plan whose customers commit themselves to a number of payments
    /// (Brazil, France, Italy, Spain).
    Installments {
        /// Base plan id.
        base_plan_id: String,
        /// Length of what one payment buys.
        period: Period,
        /// Payments that a customer commits to at first, at least one.
        payments: u32,
        /// Payments of each further commitment; 0 makes it an ordinary plan after the first.
        #[serde(default)]
        further_payments: u32,
        /// Grace period in days; 0 leaves the silent day that the store gives anyway.
        #[serde(default)]
        grace_days: u16,
        /// Days of account hold after grace; 0 for none.
        #[serde(default)]
        hold_days: u16,
    },
    /// Bought once, for ever.
    NonConsumable,
    /// Bought again once consumed.
    Consumable,
}

/// The terms of a base plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) base_plan_id: &'a str,
    pub(super) period: Period,
    pub(super) grace_days: u16,
    pub(super) hold_days: u16,
    pub(super) renewal: PlanRenewal,
}

/// How a base plan goes on after what has been paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlanRenewal {
    Auto,
    Never,
    Installments {
        payments: u32,
        further_payments: u32,
    },
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

    /// A base plan that is paid ahead, at 9.99 USD.
    pub fn prepaid(product_id: &str, base_plan_id: &str, period: Period) -> Self {
        Self::priced(
            product_id,
            GooglePlayKind::Prepaid {
                base_plan_id: base_plan_id.to_owned(),
                period,
            },
        )
    }

    /// A base plan with one commitment of so many payments at 9.99 USD, without grace period and
    /// with 30 days of hold.
    pub fn installments(
        product_id: &str,
        base_plan_id: &str,
        period: Period,
        payments: u32,
    ) -> Self {
        Self::priced(
            product_id,
            GooglePlayKind::Installments {
                base_plan_id: base_plan_id.to_owned(),
                period,
                payments,
                further_payments: 0,
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
        self.plan().map(|plan| plan.base_plan_id)
    }

    /// The terms of the base plan, for subscriptions.
    pub(super) fn plan(&self) -> Option<Plan<'_>> {
        match &self.kind {
            GooglePlayKind::AutoRenewable {
                base_plan_id,
                period,
                grace_days,
                hold_days,
            } => Some(Plan {
                base_plan_id,
                period: *period,
                grace_days: *grace_days,
                hold_days: *hold_days,
                renewal: PlanRenewal::Auto,
            }),
            GooglePlayKind::Prepaid {
                base_plan_id,
                period,
            } => Some(Plan {
                base_plan_id,
                period: *period,
                grace_days: 0,
                hold_days: 0,
                renewal: PlanRenewal::Never,
            }),
            GooglePlayKind::Installments {
                base_plan_id,
                period,
                payments,
                further_payments,
                grace_days,
                hold_days,
            } => Some(Plan {
                base_plan_id,
                period: *period,
                grace_days: *grace_days,
                hold_days: *hold_days,
                renewal: PlanRenewal::Installments {
                    payments: *payments,
                    further_payments: *further_payments,
                },
            }),
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

/// Value added tax in per cent that a price in this currency contains, by its storefront.
pub(super) fn tax_percent(currency: &str) -> i64 {
    match currency {
        "EUR" => 19,
        "GBP" => 20,
        "INR" => 18,
        "JPY" | "KRW" => 10,
        _ => 0,
    }
}

/// Country fields that belong to a price's currency: Apple's storefront and its id, Google's region.
pub(super) fn storefront(currency: &str) -> (&'static str, &'static str, &'static str) {
    match currency {
        "EUR" => ("DEU", "143443", "DE"),
        "GBP" => ("GBR", "143444", "GB"),
        "JPY" => ("JPN", "143462", "JP"),
        "INR" => ("IND", "143467", "IN"),
        "KRW" => ("KOR", "143466", "KR"),
        "BRL" => ("BRA", "143503", "BR"),
        _ => ("USA", "143441", "US"),
    }
}
