//! Calls to the stores' APIs: counted per endpoint, and answered badly while an outage is played.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::delivery::Store;

/// A request that hangs is let go after this; every sane client has given up before.
const HANG_SECONDS_MAX: u64 = 120;

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
            | Self::GoogleVoided => Some(Store::GooglePlay),
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
    /// The customer is not found yet: trying again is right.
    AccountNotFound,
    /// The purchase is not found yet: trying again is right.
    PurchaseNotFound,
}

/// Counters and outages of all endpoints.
pub(super) struct Traffic {
    calls: Mutex<BTreeMap<Endpoint, u64>>,
    outages: watch::Sender<BTreeMap<Store, Outage>>,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            calls: Mutex::default(),
            outages: watch::Sender::new(BTreeMap::new()),
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
            None => Ok(()),
            Some(Outage::Down503) => Err(Refusal::Unavailable),
            Some(Outage::RateLimited) => Err(Refusal::RateLimited),
            Some(Outage::Timeout) => {
                let mut outages = self.outages.subscribe();
                let over =
                    outages.wait_for(|outages| outages.get(&store) != Some(&Outage::Timeout));
                let limit = Duration::from_secs(HANG_SECONDS_MAX);
                // However it ends, the call was lost: the caller may not take it for an answer.
                let _ = tokio::time::timeout(limit, over).await;
                Err(Refusal::Unavailable)
            }
        }
    }
}
