//! What an operator asks Google to do with a purchase. What became of it is read afterwards like
//! anything else.

use serde_json::{Value, json};

use super::client::{self, Client, Reply};
use super::fetch;
use super::wire::SubscriptionPurchase;
use crate::domain::catalog::Catalog;
use crate::domain::subscription::store_state::{ItemKind, StoreState};
use crate::providers::contract::{Command, CommandError, FetchError};

/// How often a deferral is tried on a purchase that changes meanwhile.
const DEFER_TRIES: u32 = 3;
const DAY_SECONDS: u64 = 86_400;

pub(super) async fn command(
    client: &Client,
    state: &StoreState,
    command: &Command,
    catalog: &Catalog,
) -> Result<String, CommandError> {
    let package = fetch::package(&state.head, catalog)?;
    let operator = Operator {
        client,
        package,
        state,
    };
    tokio::time::timeout(fetch::DEADLINE, operator.run(command))
        .await
        .unwrap_or_else(|_| Err(FetchError::away("no answer in time").into()))
}

struct Operator<'a> {
    client: &'a Client,
    package: &'a str,
    state: &'a StoreState,
}

impl Operator<'_> {
    async fn run(&self, command: &Command) -> Result<String, CommandError> {
        match command {
            Command::Refund { order_id, revoke } => self.refund(order_id, *revoke).await,
            Command::Revoke { prorated } => self.revoke(*prorated).await,
            Command::Cancel { by_developer } => self.cancel(*by_developer).await,
            Command::Extend { days, .. } => self.defer(*days).await,
        }
    }

    async fn refund(&self, order_id: &str, revoke: bool) -> Result<String, CommandError> {
        let (said, told) = match revoke {
            true => ("true", "and what it paid for ends"),
            false => ("false", "and access stays"),
        };
        let path = ["orders", order_id];
        let query = [("revoke", said)];
        let reply = self
            .client
            .post_once(self.package, &path, "refund", &query, &json!({}))
            .await?;
        self.done(&reply)?;
        Ok(format!("order {order_id} is refunded, {told}"))
    }

    async fn revoke(&self, prorated: bool) -> Result<String, CommandError> {
        self.renews("a one-time purchase is revoked by refunding its order with revoke")?;
        let (kind, told) = match prorated {
            true => ("proratedRefund", "the unused rest is refunded"),
            false => ("fullRefund", "the latest charge is refunded"),
        };
        let reply = self
            .of_subscription("revoke", &json!({"revocationContext": {kind: {}}}))
            .await?;
        self.done(&reply)?;
        Ok(format!("the subscription ends now, {told}"))
    }

    async fn cancel(&self, by_developer: bool) -> Result<String, CommandError> {
        self.renews("a one-time purchase does not renew")?;
        let (kind, told) = match by_developer {
            true => (
                "DEVELOPER_REQUESTED_STOP_PAYMENTS",
                "no further payment is taken; the customer cannot undo it",
            ),
            false => (
                "USER_REQUESTED_STOP_RENEWALS",
                "it does not renew; the customer may restore it, installments run out",
            ),
        };
        let body = json!({"cancellationContext": {"cancellationType": kind}});
        let reply = self.of_subscription("cancel", &body).await?;
        self.done(&reply)?;
        Ok(told.to_owned())
    }

    /// Google takes a deferral only for the purchase as it is, which its entity tag names.
    async fn defer(&self, days: u32) -> Result<String, CommandError> {
        self.renews("a one-time purchase has no renewal to move")?;
        let token = &self.state.head.value;
        let mut tries = 0;
        loop {
            tries += 1;
            let reply = self.client.subscription(self.package, token).await?;
            self.done(&reply)?;
            let purchase: SubscriptionPurchase = serde_json::from_slice(&reply.body)
                .map_err(|_| FetchError::Unreadable("subscriptions: not a purchase".to_owned()))?;
            let etag = purchase.etag.unwrap_or_default();
            let duration = format!("{}s", u64::from(days) * DAY_SECONDS);
            let context = json!({"etag": etag, "deferDuration": duration});
            let reply = self
                .of_subscription("defer", &json!({"deferralContext": context}))
                .await?;
            if reply.status == 409 && tries < DEFER_TRIES {
                continue;
            }
            self.done(&reply)?;
            return Ok(format!("the next renewal is {days} days later"));
        }
    }

    /// Refuses what only subscriptions have.
    fn renews(&self, otherwise: &'static str) -> Result<(), CommandError> {
        let mut items = self.state.items.iter();
        match items.any(|item| item.kind == ItemKind::Subscription) {
            true => Ok(()),
            false => Err(CommandError::NotOffered(otherwise)),
        }
    }

    async fn of_subscription(&self, verb: &'static str, body: &Value) -> Result<Reply, FetchError> {
        let path = [
            "purchases",
            "subscriptionsv2",
            "tokens",
            &self.state.head.value,
        ];
        self.client
            .post_once(self.package, &path, verb, &[], body)
            .await
    }

    fn done(&self, reply: &Reply) -> Result<(), CommandError> {
        match reply.status {
            200..=299 => Ok(()),
            _ => Err(CommandError::Declined(client::words(
                &reply.body,
                &self.state.head.value,
            ))),
        }
    }
}
