//! The store simulator: plays Apple's App Store, Google Play and the app's identity provider on a
//! virtual clock. It knows nothing of the server's own code, so that an error on one side cannot
//! agree with the same error on the other.
//!
//! ```text
//! operations (buy, refund, …) ─┐
//! clockwork (time passes) ─────┼─▶ turn: store state machines ─▶ outbox ─▶ server's webhooks
//! store APIs (acknowledge, …) ─┘
//! ```

mod agenda;
mod app_store;
mod certs;
mod changes;
mod clockwork;
mod control;
mod courier;
mod customers;
mod delivery;
mod details;
mod disk;
mod ecdsa;
mod error;
pub mod forge;
mod google_play;
mod identity;
mod ids;
mod in_process;
mod inner;
mod jws;
mod keys;
mod limits;
mod manifest;
mod outcome;
mod pace;
mod page;
mod period;
mod recent;
mod remembering;
mod saver;
pub mod scenario;
mod server;
mod setup;
mod sins;
mod state;
mod superwall;
#[cfg(test)]
mod tests;
mod traffic;
mod truth;
mod walk;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use agenda::Due;
pub use app_store::{
    AppStoreAction, AppStoreBuy, AppStorePurchase, Billing, BillingPlan, ExtendReason,
    ExternalPurchaseKind, OcspAnswer, Offer as AppStoreOffer, OfferKind, OfferPayment,
    RefundReason,
};
pub use delivery::{
    Attempt, AttemptResult, DeliveryRules, DeliveryState, NotificationRecord, PubSubRules, Source,
    Store, Webhooks,
};
pub use error::SandboxError;
pub use google_play::{
    AddOn, CancelReason, CancelSurvey, ConsoleAccess, GooglePlayAction, GooglePlayBuy,
    GooglePlayPurchase, Offer as GooglePlayOffer, PriceChangeMode, Promotion, ReplacementMode,
    VoidReason, VoidSource,
};
pub use identity::{IdentityToken, PushToken};
pub use in_process::Line;
use inner::Inner;
pub use jws::Algorithm;
pub use manifest::{IdentityManifest, Manifest, PushManifest, SuperwallManifest};
pub use outcome::Outcome;
pub use pace::{Pace, Progress};
pub use period::{InvalidPeriod, Period};
pub use setup::{
    AppStoreKind, AppStoreProduct, Environment, GooglePlayKind, GooglePlayProduct, Options,
    StoreSetup, Timing,
};
pub use sins::{CallSin, CallSins, ClockSins, DeliverySin, DeliverySins, Sins};
pub use superwall::{SuperwallIdentity, SuperwallRules, SuperwallVersion};
pub use traffic::{Endpoint, Outage};
pub use truth::{Ownership, PurchaseState, PurchaseTruth};

/// A running simulator; clones are handles to the same one.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sandbox {
    /// Starts the stores, with the state and keys kept in the directory if there are any. The
    /// clock is moved to where that state ended, and what fell due since then happens at once.
    pub async fn start(options: Options) -> Result<Self, SandboxError> {
        let listener = TcpListener::bind((options.bind, options.port))
            .await
            .map_err(SandboxError::Listen)?;
        let address = listener.local_addr().map_err(SandboxError::Listen)?;
        let inner = Arc::new(server::build(options, address).await?);
        inner.write_manifest()?;
        let sandbox = Self {
            inner: Arc::clone(&inner),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let stop = sandbox.stop.clone();
        let served = server::serve(listener, server::router(&sandbox), stop.clone());
        sandbox.tasks.spawn(served);
        sandbox.tasks.spawn(Arc::clone(&inner).run(stop));
        let stop = sandbox.stop.clone();
        sandbox.tasks.spawn(async move {
            stop.run_until_cancelled(inner.keep_saved()).await;
        });
        sandbox.tasks.close();
        Ok(sandbox)
    }

    /// Stops listening and playing; returns when both have ended and the state is saved.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        if let Err(error) = self.inner.save_last() {
            tracing::error!(%error, "the simulator's state cannot be saved");
        }
    }

    /// Where the simulator is reached, without a slash at the end.
    pub fn base_url(&self) -> &str {
        &self.inner.base_url
    }

    /// What a server under test has to be told to take the simulator for the stores.
    pub fn manifest(&self) -> Manifest {
        self.inner.manifest()
    }

    /// Business time.
    pub fn now(&self) -> DateTime<Utc> {
        self.inner.clock.now()
    }

    /// Says where the stores send their notifications; those made before stay unsent.
    pub fn set_webhooks(&self, webhooks: Webhooks) -> Result<(), SandboxError> {
        self.inner.change(|turn| {
            turn.world.outbox.webhooks = webhooks;
            Ok(())
        })
    }
}

/// The App Store's customers, and Apple's staff.
impl Sandbox {
    /// Does one thing at the App Store; what it had to tell has been sent when this returns.
    pub async fn app_store(&self, action: AppStoreAction) -> Result<Outcome, SandboxError> {
        self.inner.act(|turn| turn.app_store(action)).await
    }

    /// A customer buys something; its notification has been sent when this returns.
    pub async fn buy_app_store(&self, buy: &AppStoreBuy) -> Result<AppStorePurchase, SandboxError> {
        self.inner.act(|turn| turn.app_store_buy(buy)).await
    }

    /// A transaction as StoreKit would hand it to the app now, freshly signed.
    pub fn signed_transaction(&self, transaction_id: &str) -> Result<String, SandboxError> {
        self.inner
            .change(|turn| turn.app_store_signed_transaction(transaction_id))
    }

    /// The customer turns auto-renewal on or off.
    pub async fn set_auto_renew(
        &self,
        original_transaction_id: &str,
        enabled: bool,
    ) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| turn.app_store_set_auto_renew(original_transaction_id, enabled))
            .await
    }

    /// The customer's means of payment fails or works again; a debt is paid at once.
    pub async fn set_app_store_billing(
        &self,
        original_transaction_id: &str,
        billing: Billing,
    ) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| turn.app_store_set_billing(original_transaction_id, billing))
            .await
    }

    /// Apple refunds one transaction in full; access ends if it is the latest of its chain.
    pub async fn refund_app_store(&self, transaction_id: &str) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| turn.app_store_refund(transaction_id, 100))
            .await
    }

    /// Says what Apple's OCSP responders answer from now on.
    pub fn set_ocsp(&self, answer: OcspAnswer) {
        *self
            .inner
            .ocsp
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// A genuine signed document around any payload.
    pub fn sign_apple(&self, payload: &Value) -> Result<String, SandboxError> {
        self.inner.keys.apple.sign(payload)
    }
}

/// Google Play's customers, and Google's staff.
impl Sandbox {
    /// Takes an action; what it causes has been told when this returns.
    pub async fn google_play(&self, action: GooglePlayAction) -> Result<Outcome, SandboxError> {
        self.inner.act(|turn| turn.google_play(action)).await
    }

    /// A customer buys something; its notification has been sent when this returns.
    pub async fn buy_google_play(
        &self,
        buy: &GooglePlayBuy,
    ) -> Result<GooglePlayPurchase, SandboxError> {
        self.inner.act(|turn| turn.google_play_buy(buy)).await
    }

    /// The customer stops renewal; an unpaid subscription ends at once.
    pub async fn cancel_google_play(&self, purchase_token: &str) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| turn.google_play_cancel(purchase_token))
            .await
    }

    /// The customer takes a cancellation back before the period ends.
    pub async fn restore_google_play(&self, purchase_token: &str) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| turn.google_play_restore(purchase_token))
            .await
    }

    /// The customer's means of payment fails or works again; a debt is paid at once.
    pub async fn set_google_play_billing(
        &self,
        purchase_token: &str,
        billing: Billing,
    ) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| turn.google_play_set_billing(purchase_token, billing))
            .await
    }

    /// Google refunds the latest order and ends access.
    pub async fn refund_google_play(&self, purchase_token: &str) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| turn.google_play_refund(purchase_token))
            .await
    }

    /// Whether the developer has acknowledged the purchase; `None` for an unknown token.
    pub fn is_acknowledged(&self, purchase_token: &str) -> Option<bool> {
        self.inner.read(|world, _| {
            let purchase = world.google_play.purchases.get(purchase_token)?;
            Some(purchase.acknowledged)
        })
    }

    /// Changes what the service account may do at the Developer API.
    pub fn set_google_access(&self, access: ConsoleAccess) {
        self.inner.google_tokens.set_access(access);
    }

    /// Ends all bearer tokens for the Developer API before their time.
    pub fn revoke_google_access_tokens(&self) {
        self.inner.google_tokens.revoke_all();
    }
}

/// Superwall, which relays what the stores say.
impl Sandbox {
    /// The app tells Superwall's SDK who a customer is; without this Superwall uses the customer's
    /// name.
    pub fn set_superwall_user(
        &self,
        customer: &str,
        app_user_id: &str,
    ) -> Result<(), SandboxError> {
        self.inner.change(|turn| {
            let users = &mut turn.world.superwall.users;
            users.insert(customer.to_owned(), app_user_id.to_owned());
            Ok(())
        })
    }

    /// A new secret signs Superwall's webhooks, and for a day of machine time the last one as
    /// well; the manifest names the new one.
    pub fn rotate_superwall_secret(&self) -> Result<(), SandboxError> {
        self.inner.rotate_superwall_secret()
    }
}

/// Time, and what the stores say in it.
impl Sandbox {
    /// Moves the clock to `target`; every event on the way happens at its own time, and what it
    /// has to tell is delivered before the next.
    pub async fn advance_to(&self, target: DateTime<Utc>) -> Result<(), SandboxError> {
        self.inner.advance_to(target).await
    }

    /// Moves the clock by a calendar period.
    pub async fn advance(&self, period: Period) -> Result<(), SandboxError> {
        self.advance_to(period.after(self.now())).await
    }

    /// Moves the clock by a length of time.
    pub async fn advance_by(&self, delta: TimeDelta) -> Result<(), SandboxError> {
        self.advance_to(self.now() + delta).await
    }

    /// Has `hook` awaited after each event, so that the server under test can settle before the
    /// next. The hook must not call the simulator's own operations: they wait for it.
    pub fn set_idle_hook<F>(&self, hook: F)
    where
        F: Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        *self
            .inner
            .idle_hook
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Everything that the stores have said, oldest first.
    pub fn notifications(&self) -> Vec<NotificationRecord> {
        self.inner.read(|world, _| {
            let all = world.outbox.all();
            all.map(|notification| notification.record.clone())
                .collect()
        })
    }

    /// A store sends its test notification.
    pub async fn send_test_notification(&self, store: Store) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| match store {
                Store::AppStore => turn.app_store_test().map(|_| ()),
                Store::GooglePlay => {
                    turn.google_play_test();
                    Ok(())
                }
            })
            .await
    }

    /// Keeps new notifications back, or sends all that were kept back, in their order.
    pub async fn hold_deliveries(&self, hold: bool) -> Result<(), SandboxError> {
        self.inner
            .act(|turn| {
                for number in turn.world.outbox.hold(hold, turn.now) {
                    turn.world.agenda.set(Due::Delivery(number), Some(turn.now));
                }
                Ok(())
            })
            .await
    }

    /// Ids of the notifications that are kept back, oldest first.
    pub fn held_notifications(&self) -> Vec<String> {
        self.inner.read(|world, _| {
            let held = world.outbox.held();
            held.map(|notification| notification.record.id.clone())
                .collect()
        })
    }

    /// Sends one notification now: early, late, or once more.
    pub async fn deliver(&self, id: &str) -> Result<NotificationRecord, SandboxError> {
        self.inner.deliver(id).await
    }

    /// Loses a notification: no further attempt is made by schedule.
    pub fn drop_notification(&self, id: &str) -> Result<(), SandboxError> {
        self.inner.change(|turn| {
            let found = turn.world.outbox.find(id);
            let number = found.ok_or(SandboxError::UnknownNotification)?.number;
            turn.world.outbox.drop_one(number);
            turn.world.agenda.set(Due::Delivery(number), None);
            Ok(())
        })
    }

    /// Makes a store's API fail, or work again.
    pub fn set_outage(&self, store: Store, outage: Option<Outage>) {
        self.inner.traffic.set_outage(store, outage);
    }

    /// Has the stores refuse calls beyond their published rates, or answer them all (the default).
    /// Rates run on machine time.
    pub fn enforce_rate_limits(&self, on: bool) {
        self.inner.limits.watch(on);
    }

    /// How often each endpoint has been called, refused calls included.
    pub fn store_calls(&self) -> BTreeMap<Endpoint, u64> {
        self.inner.traffic.calls()
    }
}

/// Credentials, and the truth.
impl Sandbox {
    /// A token of the app's identity provider.
    pub fn identity_token(&self, token: &IdentityToken) -> Result<String, SandboxError> {
        self.inner.identity_token(token)
    }

    /// New keys sign from now on; the last ones stay published, those before them vanish.
    pub fn rotate_identity_keys(&self) -> Result<(), SandboxError> {
        self.inner.rotate_identity_keys()
    }

    /// A bearer token as Google's pushes carry it, or one that is wrong in a chosen way.
    pub fn push_token(&self, token: &PushToken) -> Result<String, SandboxError> {
        self.inner.push_token(token)
    }

    /// What the developer answered Apple about the consumption of a transaction, as it was sent.
    pub fn consumption_answer(&self, transaction_id: &str) -> Option<Value> {
        self.inner.read(|world, _| {
            let mut chains = world.app_store.chains.values();
            let transaction = chains.find_map(|chain| chain.transaction(transaction_id))?;
            transaction.consumption.clone()
        })
    }

    /// What a customer owns at both stores, as the stores know it now.
    pub fn purchases(&self, customer: &str) -> Vec<PurchaseTruth> {
        self.inner
            .read(|world, now| truth::purchases(world, Some(customer), now))
    }

    /// What all customers own at both stores, as the stores know it now.
    pub fn all_purchases(&self) -> Vec<PurchaseTruth> {
        self.inner
            .read(|world, now| truth::purchases(world, None, now))
    }
}
