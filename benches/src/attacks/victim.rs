//! The well-behaved client: one connection, one call after the other at a steady pace.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use entitled::cli::client::Client;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Uri};
use tower::service_fn;

use super::authority;
use super::raw;
use crate::stats::{Samples, micros};
use crate::users::User;

/// Calls a second.
const PACE: u32 = 200;
/// Where it is, as its proxy says.
const FROM: ([u8; 4], u16) = ([198, 51, 100, 7], 5_555);

pub(super) struct Victim(Client);

/// What it noticed.
pub(super) struct Noticed {
    latency: Samples,
    failed: usize,
}

impl Victim {
    pub(super) async fn connect(
        url: &str,
        certificate: Option<&str>,
        user: &User,
    ) -> anyhow::Result<Self> {
        let server: SocketAddr = authority(url).parse()?;
        let mut endpoint = Endpoint::from_shared(url.to_owned())?;
        if let Some(pem) = certificate {
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(pem))
                .domain_name("localhost");
            endpoint = endpoint.tls_config(tls)?;
        }
        let connector = service_fn(move |_: Uri| async move {
            let stream = raw::connect(server, Some(FROM.into())).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        });
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.context("the client cannot connect")?;
        Ok(Self(Client::over(channel, &user.token)?))
    }

    /// Calls for a while. Each is counted from when it was due: a late answer makes the next late,
    /// too.
    pub(super) async fn watch(&self, length: Duration) -> anyhow::Result<Noticed> {
        let mut client = self.0.clone();
        let mut due = tokio::time::interval(Duration::from_secs(1) / PACE);
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let end = Instant::now() + length;
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while Instant::now() < end {
            let was_due = due.tick().await;
            let answer = client.get().await;
            latencies.push(micros(was_due.elapsed()));
            failed += usize::from(answer.is_err());
        }
        Ok(Noticed {
            latency: Samples::new(latencies),
            failed,
        })
    }
}

impl Noticed {
    pub(super) fn p99_ms(&self) -> f64 {
        self.latency.percentile_ms(0.99)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "latency": self.latency.json(), "failed": self.failed })
    }
}
