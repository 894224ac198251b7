//! Users who have each bought and bound a yearly subscription, half of them at either store.

use std::str::FromStr as _;

use anyhow::Context as _;
use entitled::cli::client::Client;
use entitled::sandbox::{AppStoreBuy, GooglePlayBuy, IdentityToken, Sandbox};
use futures::{StreamExt as _, TryStreamExt as _};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

const AT_ONCE: usize = 8;
const PACKAGE: &str = "com.example.app";

/// A user with a purchase.
pub(crate) struct User {
    /// The server's id of the account.
    pub(crate) account: Uuid,
    /// An ES256 token of the app's identity provider.
    pub(crate) token: String,
    pub(crate) purchase: Purchase,
}

/// The purchase as its store names it.
pub(crate) enum Purchase {
    AppStore { original_transaction_id: String },
    GooglePlay { purchase_token: String },
}

impl Purchase {
    /// As notifications name it.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::AppStore {
                original_transaction_id,
            } => original_transaction_id,
            Self::GooglePlay { purchase_token } => purchase_token,
        }
    }

    /// The customer turns renewal on or off; the store has a notification to send.
    pub(crate) async fn set_auto_renew(&self, stores: &Sandbox, on: bool) -> anyhow::Result<()> {
        match self {
            Self::AppStore {
                original_transaction_id,
            } => {
                stores.set_auto_renew(original_transaction_id, on).await?;
            }
            Self::GooglePlay { purchase_token } if on => {
                stores.restore_google_play(purchase_token).await?;
            }
            Self::GooglePlay { purchase_token } => {
                stores.cancel_google_play(purchase_token).await?
            }
        }
        Ok(())
    }
}

pub(crate) async fn connect(server: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_str(server)?
        .tcp_nodelay(true)
        .connect()
        .await?)
}

/// Signs up `count` users through the public API, as their apps would.
pub(crate) async fn sign_up(
    stores: &Sandbox,
    server: &str,
    count: usize,
) -> anyhow::Result<Vec<User>> {
    let channel = connect(server).await?;
    futures::stream::iter(0..count)
        .map(|number| one(stores, channel.clone(), number))
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

async fn one(stores: &Sandbox, channel: Channel, number: usize) -> anyhow::Result<User> {
    let customer = format!("user-{number}");
    let token = stores.identity_token(&IdentityToken::of(&customer))?;
    let mut client = Client::over(channel, &token)?;
    let snapshot = client.get().await?.snapshot.context("a snapshot")?;
    let account = snapshot.account.context("an account")?;
    let purchase = if number.is_multiple_of(2) {
        let buy = AppStoreBuy {
            customer,
            product_id: "com.example.premium.yearly".into(),
            app_account_token: account.store_token.parse().ok(),
            ..AppStoreBuy::default()
        };
        let bought = stores.buy_app_store(&buy).await?;
        client.bind_app_store(&bought.signed_transaction).await?;
        Purchase::AppStore {
            original_transaction_id: bought.original_transaction_id,
        }
    } else {
        let buy = GooglePlayBuy {
            customer,
            product_id: "premium".into(),
            base_plan_id: Some("premium-yearly".into()),
            obfuscated_account_id: Some(account.store_token),
            ..Default::default()
        };
        let bought = stores.buy_google_play(&buy).await?;
        client
            .bind_google_play(PACKAGE, &bought.purchase_token)
            .await?;
        Purchase::GooglePlay {
            purchase_token: bought.purchase_token,
        }
    };
    Ok(User {
        account: account.id.parse()?,
        token,
        purchase,
    })
}
