//! Where a device gets the authority's certificate: plain HTTP, for it trusts nothing yet. What it
//! gets is compared by eye, by the fingerprint.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::authority::Kept;

/// The name that it is downloaded under.
pub(super) const FILE: &str = "entitled-dev.crt";
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// A listener that hands the certificate out.
pub(in crate::cli) struct Offer {
    listener: TcpListener,
    page: Bytes,
    certificate: Bytes,
}

impl Offer {
    /// On all of this computer's addresses.
    ///
    /// # Errors
    /// The port is taken.
    pub(in crate::cli) async fn open(port: u16, kept: &Kept) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([0, 0, 0, 0], port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("port {port} is taken, for the download of a certificate"))?;
        Ok(Self {
            listener,
            page: page(kept).into(),
            certificate: kept.pem.clone().into(),
        })
    }

    /// Never returns.
    pub(in crate::cli) async fn serve(self) {
        let offer = Arc::new(self);
        loop {
            let Ok((socket, _)) = offer.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let offer = Arc::clone(&offer);
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let answer = offer.answer(request.uri().path());
                    std::future::ready(Ok::<_, Infallible>(answer))
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), answer);
                let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
            });
        }
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let (status, kind, body) = match path.strip_prefix('/') {
            Some("") => (
                StatusCode::OK,
                "text/html; charset=utf-8",
                self.page.clone(),
            ),
            // By this type iOS takes it for a profile, and Android for a certificate.
            Some(FILE) => (
                StatusCode::OK,
                "application/x-x509-ca-cert",
                self.certificate.clone(),
            ),
            Some(_) | None => (StatusCode::NOT_FOUND, "text/plain", Bytes::new()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

fn page(kept: &Kept) -> String {
    let (name, fingerprint) = (&kept.name, &kept.fingerprint);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{name}</title>\
         <body style=\"font: 1.1rem/1.5 system-ui; margin: 2rem auto; max-width: 34rem; padding: 0 1rem\">\
         <h1>{name}</h1>\
         <p>The development server's certificate authority. Trust it on devices for testing only.\
         <p><a href=\"/{FILE}\"><b>Download the certificate</b></a>\
         <p>Its SHA-256 must be the one in the terminal:<br>\
         <code style=\"overflow-wrap: anywhere\">{fingerprint}</code>\
         <h2>iPhone, iPad</h2><ol><li>Open this page in Safari, download, allow the profile.\
         <li>Settings → General → VPN &amp; Device Management: install {name}.\
         <li>Settings → General → About → Certificate Trust Settings: turn {name} on.</ol>\
         <h2>Android</h2><p>A debug build brings the certificate along: the terminal says how, and \
         nothing is to be installed. For a browser: Settings → Security → Encryption &amp; credentials \
         → Install a certificate → CA certificate."
    )
}
