//! A device that watches its account: what it was last told, without asking.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Streaming;

use crate::cli::client::Client;
use crate::proto::watch_entitlements_response::Event;
use crate::proto::{EntitlementSnapshot, WatchEntitlementsResponse};

/// How long a device may take to hear of what the database says already.
const PATIENCE: Duration = Duration::from_secs(5);

/// A device, until it is dropped.
pub(super) struct Device {
    told: watch::Receiver<EntitlementSnapshot>,
    listening: JoinHandle<()>,
}

impl Device {
    pub(super) async fn switch_on(mut client: Client) -> anyhow::Result<Self> {
        let stream = client.watch().await?;
        let (tell, told) = watch::channel(EntitlementSnapshot::default());
        Ok(Self {
            told,
            listening: tokio::spawn(listen(client, stream, tell)),
        })
    }

    /// The last snapshot, once it is as new as `revision`; the last one whatever it is, if that
    /// does not come.
    pub(super) async fn last_told(&self, revision: i64) -> anyhow::Result<EntitlementSnapshot> {
        let mut told = self.told.clone();
        let new_enough = |snapshot: &EntitlementSnapshot| snapshot.revision >= revision;
        let heard = tokio::time::timeout(PATIENCE, told.wait_for(new_enough)).await;
        if let Ok(Err(_)) = heard {
            bail!("a device's stream ended");
        }
        drop(heard);
        let last = self.told.borrow().clone();
        last.account.as_ref().context("a device was told nothing")?;
        Ok(last)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Keeps what is told; comes back when the server says so.
async fn listen(
    mut client: Client,
    mut stream: Streaming<WatchEntitlementsResponse>,
    tell: watch::Sender<EntitlementSnapshot>,
) {
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                if let Some(Event::Snapshot(snapshot)) = message.event {
                    tell.send_replace(snapshot);
                }
            }
            Ok(None) | Err(_) => match client.watch().await {
                Ok(again) => stream = again,
                Err(_) => return,
            },
        }
    }
}
