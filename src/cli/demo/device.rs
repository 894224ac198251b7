//! A device that watches its account and notes the moment of everything it is told.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

use crate::cli::client::Client;
use crate::proto::watch_entitlements_response::Event;
use crate::proto::{EntitlementSnapshot, WatchEntitlementsResponse};

/// How long a device waits for what it should be told.
const PATIENCE: Duration = Duration::from_secs(10);

/// One snapshot, and when it arrived by the machine's clock.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) at: SystemTime,
    pub(super) snapshot: EntitlementSnapshot,
}

/// An open `WatchEntitlements` stream with its memory.
pub(super) struct Device {
    pub(super) name: &'static str,
    /// Oldest first; never empty.
    told: watch::Receiver<Vec<Told>>,
    _reader: AbortOnDropHandle<()>,
}

impl Device {
    /// Opens the stream and waits for the first snapshot.
    pub(super) async fn open(name: &'static str, mut client: Client) -> anyhow::Result<Self> {
        let stream = client.watch().await?;
        let (teller, mut told) = watch::channel(Vec::new());
        let reader = AbortOnDropHandle::new(tokio::spawn(read(stream, teller)));
        let first = told.wait_for(|told| !told.is_empty());
        tokio::time::timeout(PATIENCE, first)
            .await
            .map_err(|_| anyhow::anyhow!("the {name}'s stream stays silent"))??;
        Ok(Self {
            name,
            told,
            _reader: reader,
        })
    }

    /// How many snapshots it has been told.
    pub(super) fn count(&self) -> usize {
        self.told.borrow().len()
    }

    /// What it holds now.
    pub(super) fn latest(&self) -> EntitlementSnapshot {
        self.told
            .borrow()
            .last()
            .map(|told| told.snapshot.clone())
            .unwrap_or_default()
    }

    /// The first snapshot after the first `count` that is as wanted; `None` if none comes in time.
    pub(super) async fn hears(
        &self,
        count: usize,
        wanted: impl Fn(&EntitlementSnapshot) -> bool,
    ) -> Option<Told> {
        let find = |told: &Vec<Told>| {
            told.iter()
                .skip(count)
                .find(|told| wanted(&told.snapshot))
                .cloned()
        };
        let mut told = self.told.clone();
        let heard =
            tokio::time::timeout(PATIENCE, told.wait_for(|told| find(told).is_some())).await;
        heard.ok()?.ok().and_then(|told| find(&told))
    }

    /// Whether each snapshot had a higher revision than the one before.
    pub(super) fn revisions_rose(&self) -> bool {
        self.told
            .borrow()
            .is_sorted_by(|a, b| a.snapshot.revision < b.snapshot.revision)
    }
}

/// Ends with the stream; the device then keeps what it was told last.
async fn read(mut stream: Streaming<WatchEntitlementsResponse>, teller: watch::Sender<Vec<Told>>) {
    while let Ok(Some(message)) = stream.message().await {
        let at = SystemTime::now();
        if let Some(Event::Snapshot(snapshot)) = message.event {
            teller.send_modify(|told| told.push(Told { at, snapshot }));
        }
    }
}
