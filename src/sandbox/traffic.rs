//! Calls to the stores' APIs: counted per endpoint, and answered badly where an outage is played or
//! the network sins.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::delivery::Store;
use super::inner::Inner;
use super::sins::{CallSin, CallSins};

/// A request that hangs is let go after this; every sane client has given up before.
const HANG_MAX: Duration = Duration::from_secs(120);

/// An endpoint of a store's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// Apple: Get Transaction Info.
    AppleTransaction,
    /// Apple: Get All Subscription Statuses.
    AppleStatuses,
    /// Apple: Get App Transaction Info.
    AppleAppTransaction,
    /// Apple: Get Transaction History, version 1 or 2.
    AppleHistory,
    /// Apple: Get Refund History.
    AppleRefunds,
    /// Apple: Look Up Order ID.
    AppleOrder,
    /// Apple: Finish Transaction.
    AppleFinish,
    /// Apple: Set App Account Token.
    AppleAccountToken,
    /// Apple: Send Consumption Information, version 1 or 2.
    AppleConsumption,
    /// Apple: Extend a Subscription Renewal Date.
    AppleExtend,
    /// Apple: Extend Subscription Renewal Dates for All Active Subscribers.
    AppleMassExtend,
    /// Apple: Get Status of Subscription Renewal Date Extensions.
    AppleMassExtendStatus,
    /// Apple: Get Notification History.
    AppleNotificationHistory,
    /// Apple: Request a Test Notification.
    AppleTestNotification,
    /// Apple: Get Test Notification Status.
    AppleTestStatus,
    /// Apple: the OCSP responders of the certificates behind signed documents.
    AppleOcsp,
    /// Google: OAuth token endpoint.
    GoogleToken,
    /// Google: purchases.subscriptionsv2.get.
    GoogleSubscription,
    /// Google: purchases.subscriptionsv2.cancel and purchases.subscriptions.cancel.
    GoogleCancel,
    /// Google: purchases.subscriptionsv2.defer and purchases.subscriptions.defer.
    GoogleDefer,
    /// Google: purchases.subscriptionsv2.revoke.
    GoogleRevoke,
    /// Google: purchases.productsv2.getproductpurchasev2 and purchases.products.get.
    GoogleProduct,
    /// Google: purchases.subscriptions.acknowledge and purchases.products.acknowledge.
    GoogleAcknowledge,
    /// Google: purchases.products.consume.
    GoogleConsume,
    /// Google: orders.get and orders.batchget.
    GoogleOrder,
    /// Google: orders.refund.
    GoogleRefund,
    /// Google: orders.reviewrefund.
    GoogleReviewRefund,
    /// Google: purchases.voidedpurchases.list.
    GoogleVoided,
    /// Google: monetization.subscriptions.list and monetization.onetimeproducts.list.
    GoogleProductLists,
    /// Google: the public keys of push tokens.
    GoogleKeys,
    /// The identity provider's public keys.
    IdentityKeys,
}

impl Endpoint {
    /// The store whose outage takes this endpoint down; key sets and tokens of users stay up.
    fn store(self) -> Option<Store> {
        match self {
            Self::AppleTransaction
            | Self::AppleStatuses
            | Self::AppleAppTransaction
            | Self::AppleHistory
            | Self::AppleRefunds
            | Self::AppleOrder
            | Self::AppleFinish
            | Self::AppleAccountToken
            | Self::AppleConsumption
            | Self::AppleExtend
            | Self::AppleMassExtend
            | Self::AppleMassExtendStatus
            | Self::AppleNotificationHistory
            | Self::AppleTestNotification
            | Self::AppleTestStatus => Some(Store::AppStore),
            Self::GoogleToken
            | Self::GoogleSubscription
            | Self::GoogleCancel
            | Self::GoogleDefer
            | Self::GoogleRevoke
            | Self::GoogleProduct
            | Self::GoogleAcknowledge
            | Self::GoogleConsume
            | Self::GoogleOrder
            | Self::GoogleRefund
            | Self::GoogleReviewRefund
            | Self::GoogleVoided
            | Self::GoogleProductLists => Some(Store::GooglePlay),
            Self::AppleOcsp | Self::GoogleKeys | Self::IdentityKeys => None,
        }
    }
}

/// How a store's API fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// Every call is answered 503.
    Down503,
    /// No call is answered before the outage ends.
    Timeout,
    /// Every call is answered 429.
    RateLimited,
}

/// What a call meets instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Unavailable,
    RateLimited,
    /// Something went wrong inside: trying again is right.
    InternalError,
    /// The customer is not found yet: trying again is right.
    AccountNotFound,
    /// The purchase is not found yet: trying again is right.
    PurchaseNotFound,
}

/// A sin that the next calls shall suffer.
#[derive(Clone, Copy, Debug)]
struct OrderedSin {
    /// Calls of which store's API; of any if none is named.
    store: Option<Store>,
    sin: CallSin,
    count: u32,
}

/// What is going to happen to calls.
struct Fates {
    seed: u64,
    sins: CallSins,
    ordered: Vec<OrderedSin>,
    /// Calls of each path so far, counted while anything can happen to them.
    numbers: HashMap<String, u64>,
}

impl Fates {
    fn of(&mut self, method: &Method, path: &str) -> Vec<CallSin> {
        let mut fate = Vec::new();
        if self.sins.any() {
            let path = format!("{method} {path}");
            let number = self.numbers.entry(path.clone()).or_default();
            *number += 1;
            fate = self.sins.draw(self.seed, &path, *number);
        }
        let store = match path.starts_with("/apple") {
            true => Store::AppStore,
            false => Store::GooglePlay,
        };
        let reads = method == Method::GET;
        fate.retain(|sin| reads || !sin.strikes_reads_only());
        self.ordered.retain_mut(|order| {
            let meant = order.store.is_none_or(|wanted| wanted == store)
                && (reads || !order.sin.strikes_reads_only());
            if meant && order.count > 0 {
                order.count -= 1;
                fate.push(order.sin);
            }
            order.count > 0
        });
        fate
    }
}

/// The call that is being answered.
struct Call {
    fate: Vec<CallSin>,
    stale_seconds: u32,
}

tokio::task_local! {
    static CALL: Call;
}

/// How far back the call that is being answered sees, if it sees the past.
pub(super) fn stale_seconds() -> Option<u32> {
    CALL.try_with(|call| {
        let stale = call.fate.contains(&CallSin::Stale);
        stale.then_some(call.stale_seconds)
    })
    .ok()
    .flatten()
}

/// Ordains what a call to a store suffers; [`Traffic::admit`] and reads of the world carry it out.
pub(super) async fn suffer(
    State(inner): State<Arc<Inner>>,
    request: Request,
    next: Next,
) -> Response {
    let call = inner.traffic.ordain(request.method(), request.uri().path());
    match call.fate.is_empty() {
        true => next.run(request).await,
        false => CALL.scope(call, next.run(request)).await,
    }
}

/// Counters, outages and sins of all endpoints.
pub(super) struct Traffic {
    calls: Mutex<BTreeMap<Endpoint, u64>>,
    outages: watch::Sender<BTreeMap<Store, Outage>>,
    fates: Mutex<Fates>,
}

impl Traffic {
    pub(super) fn new(seed: u64, sins: CallSins) -> Self {
        Self {
            calls: Mutex::default(),
            outages: watch::Sender::new(BTreeMap::new()),
            fates: Mutex::new(Fates {
                seed,
                sins,
                ordered: Vec::new(),
                numbers: HashMap::new(),
            }),
        }
    }

    pub(super) fn calls(&self) -> BTreeMap<Endpoint, u64> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn outages(&self) -> BTreeMap<Store, Outage> {
        self.outages.borrow().clone()
    }

    pub(super) fn set_outage(&self, store: Store, outage: Option<Outage>) {
        self.outages.send_modify(|outages| {
            match outage {
                Some(outage) => outages.insert(store, outage),
                None => outages.remove(&store),
            };
        });
    }

    pub(super) fn set_sins(&self, sins: CallSins) {
        self.fates().sins = sins;
    }

    /// The next `count` calls to a store's API, or to any, suffer this.
    pub(super) fn order(&self, store: Option<Store>, sin: CallSin, count: u32) {
        let order = OrderedSin { store, sin, count };
        self.fates().ordered.push(order);
    }

    fn ordain(&self, method: &Method, path: &str) -> Call {
        let mut fates = self.fates();
        Call {
            fate: fates.of(method, path),
            stale_seconds: fates.sins.stale_seconds,
        }
    }

    fn fates(&self) -> MutexGuard<'_, Fates> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and lets it through, or not.
    pub(super) async fn admit(&self, endpoint: Endpoint) -> Result<(), Refusal> {
        *self
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(endpoint)
            .or_default() += 1;
        let Some(store) = endpoint.store() else {
            return Ok(());
        };
        let outage = self.outages.borrow().get(&store).copied();
        match outage {
            None => punish(endpoint).await,
            Some(Outage::Down503) => Err(Refusal::Unavailable),
            Some(Outage::RateLimited) => Err(Refusal::RateLimited),
            Some(Outage::Timeout) => {
                let mut outages = self.outages.subscribe();
                let over =
                    outages.wait_for(|outages| outages.get(&store) != Some(&Outage::Timeout));
                // However it ends, the call was lost: the caller may not take it for an answer.
                let _ = tokio::time::timeout(HANG_MAX, over).await;
                Err(Refusal::Unavailable)
            }
        }
    }
}

/// Carries out what was ordained for the call that is being answered.
async fn punish(endpoint: Endpoint) -> Result<(), Refusal> {
    let fate = CALL.try_with(|call| call.fate.clone()).unwrap_or_default();
    for sin in fate {
        match sin {
            CallSin::Slow { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
            CallSin::Timeout => {
                tokio::time::sleep(HANG_MAX).await;
                return Err(Refusal::Unavailable);
            }
            CallSin::Unavailable => return Err(Refusal::Unavailable),
            CallSin::RateLimited => return Err(Refusal::RateLimited),
            CallSin::NotFound if endpoint == Endpoint::AppleTransaction => {
                return Err(Refusal::PurchaseNotFound);
            }
            CallSin::NotFound => return Err(Refusal::AccountNotFound),
            CallSin::InternalError => return Err(Refusal::InternalError),
            CallSin::Stale => {}
        }
    }
    Ok(())
}
