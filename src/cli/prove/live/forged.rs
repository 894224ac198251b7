//! Forged documents among genuine ones, and one purchase that many accounts claim at once.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Url;
use std::time::Duration;

use super::super::model::COMMON;
use super::{Seen, is_on, read, reason};
use crate::cli::stack::Stack;
use crate::http::HttpClient;
use crate::sandbox::{AppStoreBuy, Store, forge};

const CLAIMANTS: usize = 50;
/// Nobody may ask here for what a forged document points at.
const CANARY: &str = "http://127.0.0.1:9/canary";
const MONTHLY: &str = "a.basic.monthly";
const YEARLY: &str = "a.premium.yearly";

/// Every document that is wrong in one way is refused; the genuine ones among them are accepted.
pub(super) async fn forgeries(stack: &Stack, seed: u64, seen: &mut Seen) -> anyhow::Result<()> {
    let buy = AppStoreBuy {
        customer: "genuine".to_owned(),
        product_id: MONTHLY.to_owned(),
        ..Default::default()
    };
    let bought = stack.sandbox.buy_app_store(&buy).await?;
    let payload = bought
        .signed_transaction
        .split('.')
        .nth(1)
        .context("not a JWS")?;
    let payload = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
    for (number, specimen) in forge::apple_corpus(&stack.sandbox, &payload, CANARY, seed)?
        .into_iter()
        .enumerate()
    {
        // A caller each: the server limits how often one may try.
        let subject = match specimen.genuine {
            true => "genuine".to_owned(),
            false => format!("forger-{number}"),
        };
        let answer = stack
            .client(&subject)
            .await?
            .bind_app_store(&specimen.jws)
            .await;
        let refused = answer
            .as_ref()
            .err()
            .is_some_and(|status| reason(status) != "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT");
        judge(
            seen,
            specimen.genuine,
            answer.is_ok(),
            refused,
            &specimen.name,
        );
    }
    let url = stack.app.webhooks_url().context("no webhooks")?;
    let url = Url::parse(&format!("{url}/webhooks/google-play"))?;
    let body = push_body(stack).await?;
    let http = HttpClient::new(Duration::from_secs(10))?;
    for specimen in forge::push_corpus(&stack.sandbox, CANARY)? {
        let Ok(bearer) = HeaderValue::try_from(format!("Bearer {}", specimen.jws)) else {
            continue;
        };
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, bearer),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        let sent = http.send(
            Method::POST,
            url.clone(),
            headers,
            Some(body.clone().into()),
        );
        let status = match sent.await {
            Ok(answer) => answer.status,
            // Of what is too large for a header nobody reads the end, nor waits for it.
            Err(_) if !specimen.genuine => http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Err(error) => return Err(error.into()),
        };
        let (taken, refused) = (
            status.is_success(),
            matches!(
                status,
                http::StatusCode::UNAUTHORIZED | http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            ),
        );
        judge(seen, specimen.genuine, taken, refused, &specimen.name);
    }
    Ok(())
}

fn judge(seen: &mut Seen, genuine: bool, taken: bool, refused: bool, name: &str) {
    match (genuine, taken, refused) {
        (true, true, _) => seen.genuine += 1,
        (false, false, true) => seen.forged += 1,
        (true, ..) => seen
            .broken
            .push(("I1", format!("refused, and genuine: {name}"))),
        (false, ..) => seen
            .broken
            .push(("I1", format!("not refused, and forged: {name}"))),
    }
}

/// A push as Google sends it.
async fn push_body(stack: &Stack) -> anyhow::Result<String> {
    stack
        .sandbox
        .send_test_notification(Store::GooglePlay)
        .await?;
    let told = stack.sandbox.notifications();
    let test = told
        .into_iter()
        .rev()
        .find(|one| one.source == Store::GooglePlay);
    Ok(test.context("no test notification")?.body)
}

/// One owner, whoever was first.
pub(super) async fn race(stack: &Stack, seen: &mut Seen) -> anyhow::Result<()> {
    let bought = stack
        .sandbox
        .buy_app_store(&AppStoreBuy {
            customer: "contested".to_owned(),
            product_id: YEARLY.to_owned(),
            outside_app: true,
            ..Default::default()
        })
        .await?;
    let proof = bought.signed_transaction;
    let claims = (0..CLAIMANTS).map(|number| {
        let proof = proof.clone();
        async move {
            let mut client = stack.client(&format!("claimant-{number}")).await?;
            anyhow::Ok(client.bind_app_store(&proof).await)
        }
    });
    let answers = futures::future::join_all(claims).await;
    let mut winners = 0;
    for answer in answers {
        seen.claimants += 1;
        match answer? {
            Ok(_) => winners += 1,
            Err(status) if reason(&status) == "PURCHASE_OWNED_BY_ANOTHER_ACCOUNT" => {}
            Err(status) => seen
                .broken
                .push(("I4", format!("a claimant was answered {status}"))),
        }
    }
    let mut holders = 0;
    for number in 0..CLAIMANTS {
        let snapshot = read(stack.client(&format!("claimant-{number}")).await?).await?;
        holders += usize::from(is_on(&snapshot, COMMON));
    }
    if (winners, holders) != (1, 1) {
        let words =
            format!("{winners} of {CLAIMANTS} were told that it is theirs, {holders} have it");
        seen.broken.push(("I4", words));
    }
    Ok(())
}
