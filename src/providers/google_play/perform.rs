//! Duties carried out: acknowledge, consume, answer a refund review. Each is safe to repeat: a
//! refusal may only mean that somebody was faster, so the purchase is asked before it counts.

use serde_json::{Value, json};

use super::client::{self, Client, Reply};
use super::fetch;
use super::wire::{Order, ProductPurchase, SubscriptionPurchase};
use crate::domain::catalog::Catalog;
use crate::domain::duty::Duty;
use crate::domain::refund_defence::{Preference, RefundAnswer};
use crate::domain::subscription::store_state::{ItemKind, StoreState};
use crate::providers::contract::{Effect, FetchError};

const ACKNOWLEDGED: &str = "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED";
const CONSUMED: &str = "CONSUMPTION_STATE_CONSUMED";

pub(super) async fn perform(
    client: &Client,
    effect: Effect<'_>,
    catalog: &Catalog,
) -> Result<(), FetchError> {
    let package = fetch::package(&effect.state.head, catalog)?;
    let store = Performer {
        client,
        package,
        state: effect.state,
    };
    let done = async {
        match effect.duty {
            Duty::Acknowledge { account_token } => {
                store.acknowledge(account_token.as_deref()).await
            }
            Duty::Consume => store.consume().await,
            Duty::ReviewRefund {
                pending_refund_token,
            } => {
                let order_id = effect.transaction_id;
                let answer = effect.answer.ok_or_else(|| {
                    FetchError::Unreadable("there is nothing to say about the refund".to_owned())
                })?;
                store.review(order_id, pending_refund_token, answer).await
            }
            // The App Store's.
            Duty::Finish | Duty::SetAccountToken { .. } | Duty::AnswerConsumptionRequest => Ok(()),
        }
    };
    tokio::time::timeout(fetch::DEADLINE, done)
        .await
        .unwrap_or_else(|_| Err(FetchError::away("no answer in time")))
}

struct Performer<'a> {
    client: &'a Client,
    package: &'a str,
    state: &'a StoreState,
}

impl Performer<'_> {
    /// The account is named only where the app could not name it.
    async fn acknowledge(&self, account_token: Option<&str>) -> Result<(), FetchError> {
        let (kind, product_id) = self.bought()?;
        let mut body = json!({});
        let calls = match kind {
            ItemKind::Subscription => {
                if let Some(account) = account_token {
                    body["externalAccountIds"] = json!({"obfuscatedAccountId": account});
                }
                "subscriptions"
            }
            ItemKind::OneTime => "products",
        };
        let reply = self
            .of_token(calls, product_id, "acknowledge", &body)
            .await?;
        if !is_done(&reply) && !self.is_acknowledged(kind).await? {
            return Err(refused("acknowledge", &reply));
        }
        Ok(())
    }

    async fn consume(&self) -> Result<(), FetchError> {
        let (_, product_id) = self.bought()?;
        let reply = self
            .of_token("products", product_id, "consume", &json!({}))
            .await?;
        if !is_done(&reply) && !self.is_consumed().await? {
            return Err(refused("consume", &reply));
        }
        Ok(())
    }

    async fn review(
        &self,
        order_id: &str,
        pending_refund_token: &str,
        answer: &RefundAnswer,
    ) -> Result<(), FetchError> {
        let mut body = json!({
            "pendingRefundToken": pending_refund_token,
            "refundPreference": match answer.preference {
                Preference::Decline => "DECLINE",
                Preference::GrantFull => "APPROVE",
                // Google knows no part of a refund.
                Preference::Neutral | Preference::GrantProrated => "NEUTRAL",
            },
            "sampleContentProvided": answer.sample_content_provided,
        });
        if let Some(used) = answer.consumption_millipercent {
            body["consumptionPercentageMilliunits"] = json!(used.min(100_000));
        }
        let path = ["orders", order_id];
        let reply = self
            .client
            .post(self.package, &path, "reviewrefund", &body)
            .await?;
        if !is_done(&reply) && self.awaits_review(order_id).await? {
            return Err(refused("reviewrefund", &reply));
        }
        Ok(())
    }

    fn bought(&self) -> Result<(ItemKind, &str), FetchError> {
        let item = self.state.items.first();
        let item =
            item.ok_or_else(|| FetchError::Unreadable("a purchase of nothing".to_owned()))?;
        Ok((item.kind, &item.product.product_id))
    }

    async fn of_token(
        &self,
        calls: &str,
        product_id: &str,
        verb: &'static str,
        body: &Value,
    ) -> Result<Reply, FetchError> {
        let token = &self.state.head.value;
        let path = ["purchases", calls, product_id, "tokens", token];
        self.client.post(self.package, &path, verb, body).await
    }

    async fn is_acknowledged(&self, kind: ItemKind) -> Result<bool, FetchError> {
        let token = &self.state.head.value;
        let said = match kind {
            ItemKind::Subscription => {
                let reply = self.client.subscription(self.package, token).await?;
                serde_json::from_slice::<SubscriptionPurchase>(&reply.body)
                    .map(|purchase| purchase.acknowledgement_state)
            }
            ItemKind::OneTime => {
                let reply = self.client.product(self.package, token).await?;
                serde_json::from_slice::<ProductPurchase>(&reply.body)
                    .map(|purchase| purchase.acknowledgement_state)
            }
        };
        Ok(said.is_ok_and(|said| said == ACKNOWLEDGED))
    }

    async fn is_consumed(&self) -> Result<bool, FetchError> {
        let token = &self.state.head.value;
        let reply = self.client.product(self.package, token).await?;
        let purchase = serde_json::from_slice::<ProductPurchase>(&reply.body);
        Ok(purchase.is_ok_and(|purchase| {
            let mut lines = purchase.product_line_item.iter();
            lines.any(|line| {
                let details = line.product_offer_details.as_ref();
                details.is_some_and(|details| details.consumption_state == CONSUMED)
            })
        }))
    }

    /// Once it is decided, nobody waits for an answer any more.
    async fn awaits_review(&self, order_id: &str) -> Result<bool, FetchError> {
        let reply = self.client.order(self.package, order_id).await?;
        let order = serde_json::from_slice::<Order>(&reply.body);
        Ok(order.map_or(true, |order| order.state == "PENDING_REFUND"))
    }
}

fn is_done(reply: &Reply) -> bool {
    (200..=299).contains(&reply.status)
}

fn refused(what: &str, reply: &Reply) -> FetchError {
    let (status, reason) = (reply.status, client::reason(&reply.body));
    FetchError::Unreadable(format!("{what}: status {status} {reason}"))
}
