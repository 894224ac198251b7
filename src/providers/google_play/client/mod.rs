//! The Google Play Developer API: authorised calls, quick retries, and what its statuses mean.

mod oauth;

use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::Value;

use self::oauth::{AccessToken, ServiceAccount, TokenSource};
use super::SetupError;
use super::wire::ErrorBody;
use crate::config::google_play::GooglePlayConfig;
use crate::http::{Answer, HttpClient};
use crate::providers::contract::FetchError;

/// Quick ones only: the caller knows how to wait longer.
const RETRIES_MAX: u32 = 2;
const RETRY_MILLIS: std::ops::RangeInclusive<u64> = 100..=300;
/// A store that asks for more patience than this gets it from the caller.
const RETRY_AFTER_MAX: Duration = Duration::from_millis(300);

pub(super) struct Client {
    http: HttpClient,
    base: Url,
    oauth: TokenSource,
}

/// An answer with a meaning: found (2xx), not known (400, 404) or no longer known (410).
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// What is sent.
enum Call {
    Get,
    /// Safe to repeat.
    Post(Bytes),
    /// Sent again only where nothing can have been done: it moves money or time.
    PostOnce(Bytes),
}

/// What came of one try.
enum Attempt {
    Reply(Reply),
    /// The access token is not accepted.
    Unauthorized(String),
    Retryable(FetchError),
    /// Somebody else is changing it.
    Changed(Reply),
    Failed(FetchError),
}

impl Client {
    pub(super) fn new(config: &GooglePlayConfig, http: HttpClient) -> Result<Self, SetupError> {
        let account = service_account(config)?;
        let token_uri = config.token_uri.as_deref().unwrap_or(&account.token_uri);
        let token_uri = super::url("token_uri", token_uri)?;
        let oauth = TokenSource::new(&account, token_uri, http.clone())
            .map_err(|_| SetupError::ServiceAccountKey)?;
        Ok(Self {
            http,
            base: super::url("base_url", &config.base_url)?,
            oauth,
        })
    }

    pub(super) async fn subscription(
        &self,
        package: &str,
        token: &str,
    ) -> Result<Reply, FetchError> {
        let path = ["purchases", "subscriptionsv2", "tokens", token];
        self.call("subscriptions", Call::Get, self.url(package, &path)?)
            .await
    }

    pub(super) async fn product(&self, package: &str, token: &str) -> Result<Reply, FetchError> {
        let path = ["purchases", "productsv2", "tokens", token];
        self.call("products", Call::Get, self.url(package, &path)?)
            .await
    }

    pub(super) async fn order(&self, package: &str, order_id: &str) -> Result<Reply, FetchError> {
        self.call(
            "orders",
            Call::Get,
            self.url(package, &["orders", order_id])?,
        )
        .await
    }

    /// Many orders at once; one that does not exist fails them all.
    pub(super) async fn orders(
        &self,
        package: &str,
        order_ids: &[String],
    ) -> Result<Reply, FetchError> {
        let mut url = self.url(package, &["orders:batchGet"])?;
        url.query_pairs_mut()
            .extend_pairs(order_ids.iter().map(|id| ("orderIds", id)));
        self.call("orders", Call::Get, url).await
    }

    /// Orders that were voided, `query` as in Google's reference.
    pub(super) async fn voided(
        &self,
        package: &str,
        query: &[(&str, String)],
    ) -> Result<Reply, FetchError> {
        let mut url = self.url(package, &["purchases", "voidedpurchases"])?;
        url.query_pairs_mut().extend_pairs(query);
        self.call("voidedpurchases", Call::Get, url).await
    }

    /// Whether the token endpoint gives a token for our key.
    pub(super) async fn sign_in(&self) -> Result<(), FetchError> {
        self.oauth.token(None, Instant::now()).await.map(drop)
    }

    /// One page of what is sold: `subscriptions` or `oneTimeProducts`.
    pub(super) async fn sold(
        &self,
        package: &str,
        list: &'static str,
        page: Option<&str>,
    ) -> Result<Reply, FetchError> {
        let mut url = self.url(package, &[list])?;
        url.query_pairs_mut().append_pair("pageSize", "1000");
        if let Some(page) = page {
            url.query_pairs_mut().append_pair("pageToken", page);
        }
        self.call(list, Call::Get, url).await
    }

    /// Does what is safe to do twice; `verb` is the last part of the call's name.
    pub(super) async fn post(
        &self,
        package: &str,
        path: &[&str],
        verb: &'static str,
        body: &Value,
    ) -> Result<Reply, FetchError> {
        let url = self.verb_url(package, path, verb)?;
        let call = Call::Post(Bytes::from(body.to_string()));
        self.call(verb, call, url).await
    }

    /// Does what must not be done twice: where the answer is lost, nobody knows. `query` is of the
    /// call's address.
    pub(super) async fn post_once(
        &self,
        package: &str,
        path: &[&str],
        verb: &'static str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Reply, FetchError> {
        let mut url = self.verb_url(package, path, verb)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let call = Call::PostOnce(Bytes::from(body.to_string()));
        self.call(verb, call, url).await
    }

    fn verb_url(&self, package: &str, path: &[&str], verb: &str) -> Result<Url, FetchError> {
        let mut path = path.to_vec();
        let last = path.pop().map(|last| format!("{last}:{verb}"));
        path.extend(last.as_deref());
        self.url(package, &path)
    }

    /// Every part is one percent-encoded segment, whatever is in it.
    fn url(&self, package: &str, path: &[&str]) -> Result<Url, FetchError> {
        let unusable = || FetchError::Unreadable("an id that no URL can hold".to_owned());
        // The URL standard resolves dots even where they were meant literally.
        if path
            .iter()
            .chain([&package])
            .any(|part| matches!(*part, "" | "." | ".."))
        {
            return Err(unusable());
        }
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| unusable())?
            .pop_if_empty()
            .extend(["androidpublisher", "v3", "applications", package])
            .extend(path);
        Ok(url)
    }

    async fn call(&self, name: &'static str, call: Call, url: Url) -> Result<Reply, FetchError> {
        let mut touched = false;
        let tried = self.attempts(name, call, url, &mut touched).await;
        tried.map_err(|error| if touched { error.after_others() } else { error })
    }

    /// `touched`: a try may have been carried out although its answer is lost.
    async fn attempts(
        &self,
        name: &'static str,
        call: Call,
        url: Url,
        touched: &mut bool,
    ) -> Result<Reply, FetchError> {
        let mut refused: Option<AccessToken> = None;
        let mut retries = 0;
        loop {
            let token = self.oauth.token(refused.as_ref(), Instant::now()).await?;
            match self.attempt(name, &call, &url, &token).await {
                // What is to be done to a purchase that has changed is for the caller to say.
                Attempt::Changed(reply) if !matches!(call, Call::Get) => return Ok(reply),
                Attempt::Changed(_) if retries == RETRIES_MAX => {
                    return Err(FetchError::away(format!("{name}: it keeps changing")));
                }
                Attempt::Changed(_) => retries += 1,
                Attempt::Reply(reply) => return Ok(reply),
                Attempt::Failed(error) => return Err(error),
                Attempt::Unauthorized(_) if refused.is_none() => refused = Some(token),
                Attempt::Unauthorized(said) => return Err(FetchError::Refused(said)),
                Attempt::Retryable(error) if retries == RETRIES_MAX || wants_patience(&error) => {
                    return Err(error);
                }
                Attempt::Retryable(error)
                    if matches!(call, Call::PostOnce(_)) && !is_untouched(&error) =>
                {
                    return Err(error);
                }
                Attempt::Retryable(error) => {
                    *touched |= !is_untouched(&error);
                    retries += 1;
                    let pause = rand::random_range(RETRY_MILLIS);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        name: &'static str,
        call: &Call,
        url: &Url,
        token: &AccessToken,
    ) -> Attempt {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.bearer.clone());
        let (method, body) = match call {
            Call::Get => (Method::GET, None),
            Call::Post(body) | Call::PostOnce(body) => {
                let json = HeaderValue::from_static("application/json");
                headers.insert(header::CONTENT_TYPE, json);
                (Method::POST, Some(body.clone()))
            }
        };
        match self.http.send(method, url.clone(), headers, body).await {
            Ok(answer) => judge(name, answer),
            Err(error) => match FetchError::unanswered(&format!("{name}: "), &error) {
                again @ FetchError::Away { .. } => Attempt::Retryable(again),
                never @ (FetchError::Refused(_) | FetchError::Unreadable(_)) => {
                    Attempt::Failed(never)
                }
            },
        }
    }
}

fn judge(name: &'static str, answer: Answer) -> Attempt {
    let status = answer.status.as_u16();
    let said = || format!("{name}: status {status} {}", reason(&answer.body));
    match status {
        200..=299 | 400 | 404 | 410 => Attempt::Reply(Reply {
            status,
            body: answer.body,
        }),
        401 => Attempt::Unauthorized(said()),
        403 => Attempt::Failed(FetchError::Refused(said())),
        409 => Attempt::Changed(Reply {
            status,
            body: answer.body,
        }),
        408 | 429 | 500..=599 => Attempt::Retryable(away(name, status, &answer.headers)),
        _ => Attempt::Failed(FetchError::Unreadable(said())),
    }
}

/// A pause that an answer asks for is believed up to an hour.
const PAUSE_SECONDS_MAX: u64 = 3_600;

fn wants_patience(error: &FetchError) -> bool {
    matches!(error, FetchError::Away { retry_after: Some(pause), .. } if *pause > RETRY_AFTER_MAX)
}

/// Whether the store has certainly done nothing.
fn is_untouched(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Away {
            untouched: true,
            ..
        }
    )
}

/// A retryable status, with the pause that the answer asks for.
fn away(name: &str, status: u16, headers: &HeaderMap) -> FetchError {
    let seconds = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let retry_after = seconds
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(|seconds: u64| Duration::from_secs(seconds.min(PAUSE_SECONDS_MAX)));
    FetchError::Away {
        cause: format!("{name}: status {status}"),
        retry_after,
        untouched: status == 429,
    }
}

/// Google's word for a refusal: the free text beside it may repeat what was asked for.
pub(super) fn reason(body: &[u8]) -> String {
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
        return String::new();
    };
    let reason = error.errors.into_iter().next().map(|first| first.reason);
    reason
        .or(error.status)
        .map(|word| plain_word(&word))
        .unwrap_or_default()
}

/// Google's own sentence, for operators, without the token that it may repeat.
pub(super) fn words(body: &[u8], token: &str) -> String {
    let word = reason(body);
    let Ok(ErrorBody { error }) = serde_json::from_slice(body) else {
        return word;
    };
    let message = error.message.unwrap_or_default();
    let message: String = match token {
        "" => message,
        token => message.replace(token, "…"),
    };
    let message: String = message
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    match (word.as_str(), message.as_str()) {
        (word, "") => word.to_owned(),
        ("", message) => message.to_owned(),
        (word, message) => format!("{word}: {message}"),
    }
}

/// A name for what may hold a secret.
pub(super) fn short_hash(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    let hex = hash.as_ref().iter().take(10);
    hex.map(|byte| format!("{byte:02x}")).collect()
}

fn plain_word(word: &str) -> String {
    word.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .take(64)
        .collect()
}

fn service_account(config: &GooglePlayConfig) -> Result<ServiceAccount, SetupError> {
    let text = match (&config.service_account, &config.service_account_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .map_err(|source| SetupError::ServiceAccountFile {
                path: path.clone(),
                source,
            })?
            .into(),
        (None, None) => return Err(SetupError::NoServiceAccount),
    };
    serde_json::from_str(text.expose_secret()).map_err(|_| SetupError::ServiceAccountJson)
}

#[cfg(test)]
mod tests;
