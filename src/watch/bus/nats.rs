//! Hints by NATS: for many replicas, since `NOTIFY` wakes every listener through one database.
//!
//! Core NATS, without JetStream: what is lost is healed by the sweep. The client reconnects by
//! itself and would hide a gap, so a listener ends at the first event that may mean one.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, Subject, Subscriber};
use futures::{FutureExt as _, StreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;

use super::{BusError, HintBus, HintListener, HintSender};

const CONNECTED_WITHIN: Duration = Duration::from_secs(3);
/// A listener that falls this many messages behind is told so, and compares.
const BACKLOG_MAX: usize = 16_384;
/// Hints of one message stay far below NATS' default limit of 1 MiB.
const HINTS_PER_MESSAGE: usize = 256;

/// Where NATS is, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct NatsOptions {
    /// `nats://host:4222` or `tls://host:4222`.
    pub(crate) servers: Vec<String>,
    /// The one subject that replicas of a deployment share.
    pub(crate) subject: String,
    pub(crate) user: Option<(String, SecretString)>,
    pub(crate) token: Option<SecretString>,
    /// PEM file of the authorities to trust beside the system's.
    pub(crate) authorities: Option<PathBuf>,
    /// PEM certificate chain and key to show the server.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Hints over a NATS subject.
pub(crate) struct NatsBus {
    options: NatsOptions,
}

impl NatsBus {
    pub(crate) fn new(options: NatsOptions) -> Self {
        Self { options }
    }

    /// Tells `gaps` of everything after which messages may be missing.
    async fn connect(&self, gaps: mpsc::Sender<String>) -> Result<Client, BusError> {
        let mut options = ConnectOptions::new()
            .name("entitled")
            .connection_timeout(CONNECTED_WITHIN)
            .subscription_capacity(BACKLOG_MAX)
            // Dropped and opened anew by whoever holds it, who knows what to do about the gap.
            .max_reconnects(self.options.servers.len())
            .event_callback(move |event| {
                if is_gap(&event) {
                    // A full queue has told already.
                    let _ = gaps.try_send(format!("NATS: {event}"));
                }
                std::future::ready(())
            });
        if let Some((name, password)) = &self.options.user {
            options = options.user_and_password(name.clone(), password.expose_secret().to_owned());
        }
        if let Some(token) = &self.options.token {
            options = options.token(token.expose_secret().to_owned());
        }
        if let Some(authorities) = &self.options.authorities {
            options = options.add_root_certificates(authorities.clone());
        }
        if let Some((certificate, key)) = &self.options.identity {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options.connect(&self.options.servers).await?)
    }

    fn subject(&self) -> Subject {
        Subject::from(self.options.subject.as_str())
    }
}

fn is_gap(event: &Event) -> bool {
    match event {
        Event::Connected | Event::LameDuckMode | Event::Draining => false,
        Event::Disconnected
        | Event::Closed
        | Event::SlowConsumer(_)
        | Event::ServerError(_)
        | Event::ClientError(_) => true,
    }
}

#[tonic::async_trait]
impl HintBus for NatsBus {
    async fn sender(&self) -> Result<Box<dyn HintSender>, BusError> {
        let (told, gaps) = mpsc::channel(1);
        Ok(Box::new(Sender {
            client: self.connect(told).await?,
            subject: self.subject(),
            gaps,
        }))
    }

    async fn listener(&self) -> Result<Box<dyn HintListener>, BusError> {
        let (told, gaps) = mpsc::channel(1);
        let client = self.connect(told).await?;
        let subject = self.subject();
        let messages = client.subscribe(subject.clone()).await?;
        // The server knows of the subscription once it has answered what came behind it.
        client.flush().await?;
        Ok(Box::new(Listener {
            client,
            subject,
            messages,
            waiting: Vec::new(),
            gaps,
        }))
    }
}

struct Sender {
    client: Client,
    subject: Subject,
    gaps: mpsc::Receiver<String>,
}

#[tonic::async_trait]
impl HintSender for Sender {
    async fn send(&mut self, hints: &[String]) -> Result<(), BusError> {
        publish(&self.client, &self.subject, hints).await?;
        match self.gaps.try_recv() {
            Ok(gap) => Err(BusError(gap)),
            Err(_) => Ok(()),
        }
    }
}

async fn publish(client: &Client, subject: &Subject, hints: &[String]) -> Result<(), BusError> {
    for hints in hints.chunks(HINTS_PER_MESSAGE) {
        let message = hints.join("\n");
        client.publish(subject.clone(), message.into()).await?;
    }
    Ok(client.flush().await?)
}

struct Listener {
    client: Client,
    subject: Subject,
    messages: Subscriber,
    /// Of messages that held more than was asked for, last first.
    waiting: Vec<String>,
    gaps: mpsc::Receiver<String>,
}

impl Listener {
    fn unpack(&mut self, message: &async_nats::Message) {
        // What is not text is not ours, and says nothing.
        let text = std::str::from_utf8(&message.payload).unwrap_or_default();
        self.waiting
            .splice(0..0, text.lines().rev().map(str::to_owned));
    }
}

#[tonic::async_trait]
impl HintListener for Listener {
    async fn receive(&mut self, max: usize) -> Result<Vec<String>, BusError> {
        while self.waiting.is_empty() {
            tokio::select! {
                biased;
                gap = self.gaps.recv() => {
                    return Err(BusError(gap.unwrap_or_else(|| "NATS: closed".into())));
                }
                message = self.messages.next() => match message {
                    Some(message) => self.unpack(&message),
                    None => return Err(BusError("NATS: the subscription has ended".into())),
                }
            }
        }
        while self.waiting.len() < max {
            match self.messages.next().now_or_never() {
                Some(Some(message)) => self.unpack(&message),
                Some(None) | None => break,
            }
        }
        let kept = self.waiting.len().saturating_sub(max);
        let mut batch = self.waiting.split_off(kept);
        batch.reverse();
        Ok(batch)
    }

    async fn echo(&mut self, hint: &str) -> Result<(), BusError> {
        publish(&self.client, &self.subject, &[hint.to_owned()]).await
    }
}

macro_rules! bus_error_from {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for BusError {
            fn from(error: $error) -> Self {
                Self(format!("NATS: {error}"))
            }
        }
    )+};
}

bus_error_from!(
    async_nats::ConnectError,
    async_nats::SubscribeError,
    async_nats::PublishError,
    async_nats::client::FlushError,
);
