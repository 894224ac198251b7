//! Access tokens for the service account (RFC 7523): made once, shared, renewed before they end.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::http::HttpClient;
use crate::providers::contract::FetchError;

/// Google's libraries name this audience even when the token is asked for elsewhere.
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/androidpublisher";
/// As a form encodes it.
const GRANT_TYPE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
const ASSERTION_LIFETIME_SECONDS: u64 = 3600;
/// A token is renewed this long before it ends, so that none ends on the way.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
/// What Google's tokens live, where the answer does not say.
const LIFETIME_DEFAULT_SECONDS: u64 = 3600;

/// The service account's key, as Google hands it out.
#[derive(Deserialize)]
pub(super) struct ServiceAccount {
    client_email: String,
    private_key: SecretString,
    private_key_id: String,
    pub(super) token_uri: String,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Hands out the current access token.
pub(super) struct TokenSource {
    http: HttpClient,
    url: Url,
    email: String,
    header: Header,
    key: EncodingKey,
    /// Held while a token is asked for, so that all who need one share it.
    current: tokio::sync::Mutex<Option<AccessToken>>,
}

/// A bearer credential; the number tells renewals apart without comparing secrets.
#[derive(Clone)]
pub(super) struct AccessToken {
    pub(super) bearer: HeaderValue,
    number: u64,
    renew_at: Instant,
}

impl TokenSource {
    pub(super) fn new(
        account: &ServiceAccount,
        url: Url,
        http: HttpClient,
    ) -> Result<Self, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(account.private_key_id.clone());
        let key = EncodingKey::from_rsa_pem(account.private_key.expose_secret().as_bytes())?;
        Ok(Self {
            http,
            url,
            email: account.client_email.clone(),
            header,
            key,
            current: tokio::sync::Mutex::default(),
        })
    }

    /// A token that is good at `now` (machine time), and not `refused`, which a call was answered
    /// 401 with.
    pub(super) async fn token(
        &self,
        refused: Option<&AccessToken>,
        now: Instant,
    ) -> Result<AccessToken, FetchError> {
        let mut current = self.current.lock().await;
        let last = current.as_ref();
        let good = last.filter(|token| {
            now < token.renew_at && refused.is_none_or(|refused| refused.number != token.number)
        });
        if let Some(token) = good {
            return Ok(token.clone());
        }
        let number = last.map_or(0, |token| token.number + 1);
        // Without a token nothing was asked of the store itself.
        let granted = self.ask().await.map_err(FetchError::before_any_call)?;
        let token = access_token(&granted, number, now)?;
        *current = Some(token.clone());
        Ok(token)
    }

    async fn ask(&self) -> Result<Granted, FetchError> {
        let assertion = self.assertion()?;
        let form = format!("grant_type={GRANT_TYPE}&assertion={assertion}");
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form_type);
        let sent = self.http.send(
            Method::POST,
            self.url.clone(),
            headers,
            Some(Bytes::from(form)),
        );
        let answer = sent
            .await
            .map_err(|error| FetchError::unanswered("token endpoint: ", &error))?;
        let status = answer.status.as_u16();
        match status {
            200 => serde_json::from_slice(&answer.body).map_err(|_| {
                FetchError::Unreadable("the token endpoint's answer has no access token".to_owned())
            }),
            400 | 401 | 403 => {
                let said = serde_json::from_slice::<Refusal>(&answer.body).ok();
                let word = said
                    .map(|refusal| super::plain_word(&refusal.error))
                    .unwrap_or_default();
                Err(FetchError::Refused(format!(
                    "token endpoint: status {status} {word}"
                )))
            }
            408 | 429 | 500..=599 => Err(super::away("token endpoint", status, &answer.headers)),
            _ => Err(FetchError::Unreadable(format!(
                "token endpoint: status {status}"
            ))),
        }
    }

    fn assertion(&self) -> Result<String, FetchError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let claims = Assertion {
            iss: &self.email,
            scope: SCOPE,
            aud: AUDIENCE,
            iat: now,
            exp: now + ASSERTION_LIFETIME_SECONDS,
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map_err(|_| FetchError::Refused("the service account's key cannot sign".to_owned()))
    }
}

fn access_token(granted: &Granted, number: u64, now: Instant) -> Result<AccessToken, FetchError> {
    let text = format!("Bearer {}", granted.access_token.expose_secret());
    let mut bearer = HeaderValue::from_str(&text)
        .map_err(|_| FetchError::Unreadable("the access token is no header value".to_owned()))?;
    bearer.set_sensitive(true);
    let seconds = granted.expires_in.unwrap_or(LIFETIME_DEFAULT_SECONDS);
    let lifetime = Duration::from_secs(seconds.min(24 * 60 * 60));
    Ok(AccessToken {
        bearer,
        number,
        renew_at: now + lifetime.saturating_sub(RENEW_BEFORE),
    })
}
