//! Plays the stores' senders at a steady pace: genuine notifications, sent when their turn has
//! come whether or not the last one was answered.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chrono::Utc;
use entitled::sandbox::{PushToken, Sandbox, Source};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::users::User;

/// A notification and whom it is about.
pub(crate) struct Letter {
    user: usize,
    url: String,
    body: String,
    bearer: Option<String>,
}

/// A notification's way in, in microseconds since 1970.
pub(crate) struct Delivered {
    pub(crate) user: usize,
    pub(crate) sent: i64,
    /// When the server's 200 was read: from then on the notification is the server's to lose.
    pub(crate) answered: i64,
}

/// Every customer changes their mind about renewal; tells what the stores have to say about it.
pub(crate) async fn change_all(
    stores: &Sandbox,
    users: &[User],
    webhooks: &str,
    renew: bool,
) -> anyhow::Result<Vec<Letter>> {
    let known = stores.notifications().len();
    for user in users {
        user.purchase.set_auto_renew(stores, renew).await?;
    }
    // Pub/Sub signs in anew for every push; one token of an hour costs the server the same.
    let push = stores.push_token(&PushToken::default())?;
    let by_purchase: HashMap<&str, usize> = users
        .iter()
        .enumerate()
        .map(|(index, user)| (user.purchase.id(), index))
        .collect();
    let told = stores.notifications().split_off(known);
    ensure!(
        told.len() == users.len(),
        "one change made {} notifications",
        told.len()
    );
    told.into_iter()
        .map(|told| {
            let purchase = told
                .purchase
                .as_deref()
                .context("a notification about no purchase")?;
            let (path, bearer) = match told.source {
                Source::AppStore => ("app-store", None),
                Source::GooglePlay => ("google-play", Some(format!("Bearer {push}"))),
                Source::Superwall => bail!("nobody listens to Superwall here"),
            };
            let user = *by_purchase
                .get(purchase)
                .context("a stranger's notification")?;
            Ok(Letter {
                user,
                url: format!("{webhooks}/webhooks/{path}"),
                body: told.body,
                bearer,
            })
        })
        .collect()
}

/// Sends one letter every `1 / per_second`; anything but 200 ends the bench.
pub(crate) async fn send_all(
    letters: Vec<Letter>,
    per_second: u32,
) -> anyhow::Result<Vec<Delivered>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for (turn, letter) in (0_u32..).zip(letters) {
        sleep_until(began + Duration::from_secs(1) * turn / per_second).await;
        sending.spawn(send(client.clone(), letter));
    }
    let mut delivered = Vec::new();
    while let Some(sent) = sending.join_next().await {
        delivered.push(sent??);
    }
    Ok(delivered)
}

async fn send(client: reqwest::Client, letter: Letter) -> anyhow::Result<Delivered> {
    let mut request = client
        .post(letter.url)
        .header(CONTENT_TYPE, "application/json")
        .body(letter.body);
    if let Some(bearer) = letter.bearer {
        request = request.header(AUTHORIZATION, bearer);
    }
    let sent = Utc::now().timestamp_micros();
    let answer = request.send().await?;
    let answered = Utc::now().timestamp_micros();
    ensure!(
        answer.status() == 200,
        "a notification was answered {}",
        answer.status()
    );
    Ok(Delivered {
        user: letter.user,
        sent,
        answered,
    })
}
