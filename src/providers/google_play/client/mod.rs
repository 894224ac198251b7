//! The Google Play Developer API: authorised calls, quick retries, and what its statuses mean.

mod oauth;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::Url;
use secrecy::ExposeSecret;

use self::oauth::{AccessToken, ServiceAccount, TokenSource};
use super::SetupError;
use super::wire::ErrorBody;
use crate::config::google_play::GooglePlayConfig;
use crate::http::{Answer, HttpClient, HttpError};
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

/// What came of one try.
enum Attempt {
    Reply(Reply),
    /// The access token is not accepted.
    Unauthorized(String),
    Retryable(FetchError),
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
        self.call("subscriptions", Method::GET, self.url(package, &path)?)
            .await
    }

    pub(super) async fn product(&self, package: &str, token: &str) -> Result<Reply, FetchError> {
        let path = ["purchases", "productsv2", "tokens", token];
        self.call("products", Method::GET, self.url(package, &path)?)
            .await
    }

    pub(super) async fn order(&self, package: &str, order_id: &str) -> Result<Reply, FetchError> {
        self.call(
            "orders",
            Method::GET,
            self.url(package, &["orders", order_id])?,
        )
        .await
    }

    /// `kind` is `subscriptions` or `products`.
    pub(super) async fn acknowledge(
        &self,
        package: &str,
        kind: &'static str,
        product_id: &str,
        token: &str,
    ) -> Result<Reply, FetchError> {
        let last = format!("{token}:acknowledge");
        let url = self.url(package, &["purchases", kind, product_id, "tokens", &last])?;
        self.call("acknowledge", Method::POST, url).await
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

    async fn call(
        &self,
        name: &'static str,
        method: Method,
        url: Url,
    ) -> Result<Reply, FetchError> {
        let mut refused: Option<AccessToken> = None;
        let mut retries = 0;
        loop {
            let token = self.oauth.token(refused.as_ref(), Instant::now()).await?;
            match self.attempt(name, &method, &url, &token).await {
                Attempt::Reply(reply) => return Ok(reply),
                Attempt::Failed(error) => return Err(error),
                Attempt::Unauthorized(_) if refused.is_none() => refused = Some(token),
                Attempt::Unauthorized(said) => return Err(FetchError::Refused(said)),
                Attempt::Retryable(error) if retries == RETRIES_MAX || wants_patience(&error) => {
                    return Err(error);
                }
                Attempt::Retryable(_) => {
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
        method: &Method,
        url: &Url,
        token: &AccessToken,
    ) -> Attempt {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, token.bearer.clone());
        let body = (*method == Method::POST).then(|| {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            Bytes::from_static(b"{}")
        });
        match self
            .http
            .send(method.clone(), url.clone(), headers, body)
            .await
        {
            Ok(answer) => judge(name, answer),
            Err(error @ (HttpError::TimedOut | HttpError::Connection(_))) => {
                Attempt::Retryable(FetchError::away(format!("{name}: {error}")))
            }
            Err(error @ HttpError::Refused { .. }) => {
                Attempt::Failed(FetchError::Refused(error.to_string()))
            }
            Err(error @ HttpError::TooLarge) => {
                Attempt::Failed(FetchError::Unreadable(format!("{name}: {error}")))
            }
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
        408 | 409 | 429 | 500..=599 => Attempt::Retryable(away(name, status, &answer.headers)),
        _ => Attempt::Failed(FetchError::Unreadable(said())),
    }
}

/// A pause that an answer asks for is believed up to an hour.
const PAUSE_SECONDS_MAX: u64 = 3_600;

fn wants_patience(error: &FetchError) -> bool {
    matches!(error, FetchError::Away { retry_after: Some(pause), .. } if *pause > RETRY_AFTER_MAX)
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
