//! The one configured client for everything we call: stores, token endpoints, key sets.
//!
//! No redirects, no proxy from the environment, TLS by rustls, bounded time and body size, and
//! plain HTTP only to loopback: an answer can come from nowhere but the host that was configured.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, StatusCode};
use reqwest::Url;

/// Bodies beyond this are an attack or a mistake: the largest genuine answer is well under 1 MiB.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a call brought no answer. The URL is never part of it: it may carry a purchase token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The configured base URL is not one we are willing to call.
    #[error("refused to call {host}: {reason}")]
    Refused { host: String, reason: &'static str },
    /// Nothing came back in time.
    #[error("no answer within the time-out")]
    TimedOut,
    /// No connection could be made: nothing was sent.
    #[error("no connection: {0}")]
    NotConnected(String),
    /// The connection broke; what was sent may have arrived.
    #[error("connection failed: {0}")]
    Connection(String),
    /// The answer is larger than we read.
    #[error("the answer is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Answers calls inside the process: simulated stores that no socket leads to.
pub(crate) type InProcess =
    Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Result<Answer, HttpError>> + Send + Sync>;

/// A cheap handle; clones share one connection pool.
#[derive(Clone)]
pub(crate) struct HttpClient(Way);

#[derive(Clone)]
enum Way {
    Network(reqwest::Client),
    InProcess(InProcess),
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Way::Network(_) => "HttpClient",
            Way::InProcess(_) => "HttpClient(in process)",
        })
    }
}

impl HttpClient {
    /// `timeout` bounds one call from connect to the last byte of the answer.
    pub(crate) fn new(timeout: Duration) -> Result<Self, HttpError> {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(timeout)
            .connect_timeout(timeout.min(Duration::from_secs(5)))
            .user_agent(concat!("entitled/", env!("CARGO_PKG_VERSION")))
            .build()
            .map(|client| Self(Way::Network(client)))
            .map_err(|error| HttpError::Connection(error.without_url().to_string()))
    }

    /// A client all of whose calls are answered by `answer`.
    pub(crate) fn in_process(answer: InProcess) -> Self {
        Self(Way::InProcess(answer))
    }

    /// Sends one request; retrying is the caller's decision, who knows what the status means.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Answer, HttpError> {
        refuse_unsafe(&url)?;
        let client = match &self.0 {
            Way::Network(client) => client,
            Way::InProcess(answer) => {
                let mut request = Request::new(body.unwrap_or_default());
                *request.method_mut() = method;
                *request.headers_mut() = headers;
                *request.uri_mut() = url
                    .as_str()
                    .parse()
                    .map_err(|_| HttpError::Connection("not a URI".to_owned()))?;
                return answer(request).await;
            }
        };
        let mut request = client.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let mut response = request.send().await.map_err(classify)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(classify)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }

    /// A GET without headers.
    pub(crate) async fn get(&self, url: Url) -> Result<Answer, HttpError> {
        self.send(Method::GET, url, HeaderMap::new(), None).await
    }
}

fn refuse_unsafe(url: &Url) -> Result<(), HttpError> {
    let host = url.host_str().unwrap_or_default();
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let reason = match url.scheme() {
        "https" => return Ok(()),
        // OCSP answers are signed, and this is the address in Apple's certificates.
        "http" if loopback || host == "ocsp.apple.com" => return Ok(()),
        "http" => "plain http is for loopback only; use https",
        _ => "not an http URL",
    };
    Err(HttpError::Refused {
        host: host.to_owned(),
        reason,
    })
}

fn classify(error: reqwest::Error) -> HttpError {
    if error.is_connect() {
        HttpError::NotConnected(error.without_url().to_string())
    } else if error.is_timeout() {
        HttpError::TimedOut
    } else {
        HttpError::Connection(error.without_url().to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn what_was_never_sent_is_told_from_what_may_have_arrived() {
        let client = HttpClient::new(Duration::from_secs(2)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = || Url::parse(&format!("http://{address}/")).unwrap();
        let hangs_up = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 16];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut first).await;
        };
        let (broken, ()) = tokio::join!(client.get(url()), hangs_up);
        assert!(
            matches!(broken, Err(HttpError::Connection(_))),
            "{broken:?}"
        );
        drop(listener);
        let closed = client.get(url()).await;
        assert!(
            matches!(closed, Err(HttpError::NotConnected(_))),
            "{closed:?}"
        );
    }
}
