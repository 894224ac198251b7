//! Whether Google lets us do what the server must: sign in, acknowledge; and what is sold there.

use serde::Deserialize;
use serde_json::json;

use super::{GooglePlay, read};
use crate::domain::chain::StoreProduct;
use crate::providers::contract::FetchError;

/// A purchase token that no purchase has: what may be done is asked about it, nothing is done.
const NO_PURCHASE: &str = "entitled.doctor.asks.whether.it.may.acknowledge";
/// Lists longer than this are not a catalog of ours.
const PAGES_MAX: usize = 20;
const ACTIVE: &str = "ACTIVE";

/// What the store lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) product: StoreProduct,
    /// Whether it can be bought.
    pub(crate) active: bool,
}

/// `ListSubscriptionsResponse` and `ListOneTimeProductsResponse`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    subscriptions: Vec<Subscription>,
    #[serde(default)]
    one_time_products: Vec<OneTimeProduct>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    product_id: String,
    #[serde(default)]
    base_plans: Vec<BasePlan>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BasePlan {
    base_plan_id: String,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneTimeProduct {
    product_id: String,
    #[serde(default)]
    purchase_options: Vec<PurchaseOption>,
}

#[derive(Deserialize)]
struct PurchaseOption {
    #[serde(default)]
    state: String,
}

impl Page {
    fn offered(self) -> impl Iterator<Item = Offered> {
        let plans = self.subscriptions.into_iter().flat_map(|subscription| {
            let product_id = subscription.product_id;
            subscription
                .base_plans
                .into_iter()
                .map(move |plan| Offered {
                    product: StoreProduct {
                        product_id: product_id.clone(),
                        base_plan_id: Some(plan.base_plan_id),
                    },
                    active: plan.state == ACTIVE,
                })
        });
        let once = self.one_time_products.into_iter().map(|product| Offered {
            product: StoreProduct::new(product.product_id),
            active: product
                .purchase_options
                .iter()
                .any(|option| option.state == ACTIVE),
        });
        plans.chain(once)
    }
}

impl GooglePlay {
    /// Whether Google gives an access token for the service account's key.
    pub(crate) async fn sign_in(&self) -> Result<(), FetchError> {
        self.client.sign_in().await
    }

    /// The package that a push was sent for.
    pub(crate) fn sent_for(body: &[u8]) -> Option<String> {
        let sent = read::decode(&read::unwrap(body).ok()?).ok()?;
        Some(sent.package_name)
    }

    /// Whether pushes can be told from forgeries at all.
    pub(crate) fn takes_pushes(&self) -> bool {
        self.push.is_some()
    }

    /// Whether purchases may be acknowledged, as far as can be told without one: asks to
    /// acknowledge what does not exist.
    pub(crate) async fn may_acknowledge(&self, package: &str) -> Result<(), FetchError> {
        let path = ["purchases", "subscriptions", "-", "tokens", NO_PURCHASE];
        let reply = self
            .client
            .post(package, &path, "acknowledge", &json!({}))
            .await?;
        match reply.status {
            400 | 404 | 410 => Ok(()),
            status => Err(FetchError::Unreadable(format!(
                "acknowledge: status {status} for a purchase that does not exist"
            ))),
        }
    }

    /// Every base plan and one-time product of the app.
    pub(crate) async fn offered(&self, package: &str) -> Result<Vec<Offered>, FetchError> {
        let mut offered = Vec::new();
        for list in ["subscriptions", "oneTimeProducts"] {
            let mut next: Option<String> = None;
            for _ in 0..PAGES_MAX {
                let reply = self.client.sold(package, list, next.as_deref()).await?;
                if reply.status != 200 {
                    let status = reply.status;
                    return Err(FetchError::Refused(format!("{list}: status {status}")));
                }
                let page: Page = serde_json::from_slice(&reply.body)
                    .map_err(|_| FetchError::Unreadable(format!("{list}: not a page")))?;
                next = page.next_page_token.clone().filter(|next| !next.is_empty());
                offered.extend(page.offered());
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(offered)
    }
}
