//! A simulator whose only store is Google Play, driven and looked at without HTTP.

use chrono::TimeDelta;
use serde_json::Value;

use super::super::super::Sandbox;
use super::super::super::delivery::DeliveryRules;
use super::super::super::error::SandboxError;
use super::super::super::outcome::Outcome;
use super::super::super::period::Period;
use super::super::super::setup::{
    AppStoreProduct, Environment, GooglePlayKind, GooglePlayProduct, Options, StoreSetup, Timing,
};
use super::super::super::superwall::SuperwallRules;
use super::super::super::truth::PurchaseTruth;
use super::super::developer::Acknowledgement;
use super::super::*;
use super::at;
use crate::clock::VirtualClock;

pub(super) struct Shop {
    pub(super) sandbox: Sandbox,
    heard: std::cell::Cell<usize>,
}

/// Monthly plans of 9.99, 19.99 and 4.99 USD with a week of grace; the others say what they are.
fn products() -> Vec<GooglePlayProduct> {
    let month = Period::months(1);
    let plan = |product: &str, plan: &str, period, price_micros| GooglePlayProduct {
        price_micros,
        ..GooglePlayProduct::subscription(product, plan, period)
    };
    let graceful = |product: &str, price_micros| {
        let mut sold = plan(product, "monthly", month, price_micros);
        if let GooglePlayKind::AutoRenewable { grace_days, .. } = &mut sold.kind {
            *grace_days = 7;
        }
        sold
    };
    let mut korean = plan("korean", "monthly", month, 9_900_000_000);
    korean.currency = "KRW".to_owned();
    vec![
        graceful("basic", 9_990_000),
        graceful("pro", 19_990_000),
        graceful("extra", 4_990_000),
        plan("basic", "yearly", Period::years(1), 99_990_000),
        plan("strict", "monthly", month, 9_990_000),
        plan("strict", "weekly", Period::weeks(1), 2_990_000),
        korean,
        GooglePlayProduct::prepaid("ticket", "month", month),
        GooglePlayProduct::prepaid("ticket", "three-days", Period::days(3)),
        GooglePlayProduct::installments("course", "half-year", month, 3),
        GooglePlayProduct::consumable("coins"),
    ]
}

impl Shop {
    pub(super) async fn open() -> Self {
        Self::with(Timing::default()).await
    }

    pub(super) async fn with(timing: Timing) -> Self {
        let setup = StoreSetup {
            bundle_id: "com.example.app".to_owned(),
            app_apple_id: 1,
            package_name: "com.example.android".to_owned(),
            environment: Environment::Production,
            app_store: Vec::<AppStoreProduct>::new(),
            google_play: products(),
            timing,
            deliveries: DeliveryRules::default(),
            superwall: SuperwallRules::default(),
        };
        let clock = VirtualClock::stopped(at("2026-01-10T12:00:00Z"));
        let sandbox = Sandbox::start(Options::new(setup, clock)).await.unwrap();
        Self {
            sandbox,
            heard: std::cell::Cell::new(0),
        }
    }

    pub(super) async fn act(&self, action: GooglePlayAction) -> Result<Outcome, SandboxError> {
        self.sandbox.google_play(action).await
    }

    /// Why the store does not take an action.
    pub(super) async fn refusal(&self, action: GooglePlayAction) -> &'static str {
        match self.act(action).await {
            Err(SandboxError::Refused(reason)) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(super) async fn buy(&self, buy: GooglePlayBuy) -> String {
        let bought = self.act(GooglePlayAction::Buy(buy)).await.unwrap();
        bought.google_play().unwrap().purchase_token
    }

    /// A customer buys a plan, and the developer acknowledges it.
    pub(super) async fn subscribe(&self, product_id: &str, plan: &str) -> String {
        let token = self.buy(order(product_id, plan)).await;
        self.acknowledge(&token);
        token
    }

    pub(super) fn acknowledge(&self, token: &str) {
        let acknowledge = self
            .sandbox
            .inner
            .change(|turn| turn.google_play_acknowledge(token, Acknowledgement::default()));
        acknowledge.unwrap();
    }

    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut super::super::super::state::Turn<'_>) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        self.sandbox.inner.change(change)
    }

    pub(super) async fn until(&self, time: &str) {
        self.sandbox.advance_to(at(time)).await.unwrap();
    }

    pub(super) async fn wait(&self, time: TimeDelta) {
        self.sandbox.advance_by(time).await.unwrap();
    }

    /// What has been told since this was asked last, without the common prefix.
    pub(super) fn told(&self) -> Vec<String> {
        let all = self.sandbox.notifications();
        let news = all.iter().skip(self.heard.replace(all.len()));
        news.map(|record| {
            let name = &record.notification_type;
            name.strip_prefix("SUBSCRIPTION_")
                .unwrap_or(name)
                .to_owned()
        })
        .collect()
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Purchase, &GooglePlay) -> T, token: &str) -> T {
        self.sandbox.inner.read(|world, _| {
            let google = &world.google_play;
            look(google.purchases.get(token).unwrap(), google)
        })
    }

    /// `SubscriptionPurchaseV2`, or `ProductPurchaseV2`.
    pub(super) fn show(&self, token: &str) -> Value {
        let setup = &self.sandbox.inner.setup;
        self.sandbox.inner.read(|world, now| {
            let purchase = world.google_play.purchases.get(token).unwrap();
            let subscription = resource::subscription(purchase, setup, now);
            subscription
                .or_else(|| resource::product(purchase, setup))
                .unwrap()
        })
    }

    /// The orders of a purchase, oldest first.
    pub(super) fn orders(&self, token: &str) -> Vec<Value> {
        let orders = |purchase: &Purchase, _: &GooglePlay| {
            let orders = purchase.orders.iter();
            orders
                .map(|order| resource::order(purchase, order))
                .collect()
        };
        self.look(orders, token)
    }

    pub(super) fn truth(&self, token: &str) -> Vec<PurchaseTruth> {
        let all = self.sandbox.all_purchases().into_iter();
        all.filter(|truth| truth.id == token).collect()
    }
}

/// What a customer asks for.
pub(super) fn order(product_id: &str, plan: &str) -> GooglePlayBuy {
    GooglePlayBuy {
        customer: "alice".to_owned(),
        product_id: product_id.to_owned(),
        base_plan_id: Some(plan.to_owned()),
        obfuscated_account_id: Some("account".to_owned()),
        ..GooglePlayBuy::default()
    }
}
