//! Devices: one stream per account, several on a connection; each notes when it was told what.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use entitled::cli::client::Client;
use entitled::proto::EntitlementSnapshot;
use entitled::proto::watch_entitlements_response::Event;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::users::{self, User};

/// A snapshot that a device has decoded; microseconds since 1970.
struct Told {
    user: usize,
    revision: i64,
    at: i64,
}

/// All devices and what they were told.
pub(crate) struct Devices {
    told: mpsc::UnboundedReceiver<Told>,
    /// By user: the revision told last.
    latest: Vec<i64>,
    /// When a device was told a revision.
    at: HashMap<(usize, i64), i64>,
    /// Ends the streams with it.
    _streams: JoinSet<anyhow::Result<()>>,
}

impl Devices {
    /// Opens every user's stream and waits for all first snapshots.
    pub(crate) async fn open(
        server: &str,
        users: &[User],
        connections: usize,
    ) -> anyhow::Result<Self> {
        let mut channels = Vec::with_capacity(connections);
        for _ in 0..connections {
            channels.push(users::connect(server).await?);
        }
        let (tell, told) = mpsc::unbounded_channel();
        let mut streams = JoinSet::new();
        for (index, user) in users.iter().enumerate() {
            let client = Client::over(channels[index % connections].clone(), &user.token)?;
            streams.spawn(follow(client, index, tell.clone()));
        }
        let latest = vec![-1; users.len()];
        let mut devices = Self {
            told,
            latest,
            at: HashMap::new(),
            _streams: streams,
        };
        let all = devices
            .all_past(&vec![-1; users.len()], Duration::from_secs(30))
            .await;
        anyhow::ensure!(all, "some streams did not open");
        Ok(devices)
    }

    pub(crate) fn latest(&self) -> &[i64] {
        &self.latest
    }

    /// When this device was told this revision.
    pub(crate) fn told_at(&self, user: usize, revision: i64) -> Option<i64> {
        self.at.get(&(user, revision)).copied()
    }

    /// Listens until every device is past its revision in `before`; `false` if that takes too long.
    pub(crate) async fn all_past(&mut self, before: &[i64], patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let behind = |latest: &[i64]| {
            latest
                .iter()
                .zip(before)
                .filter(|(now, was)| now <= was)
                .count()
        };
        let mut left = behind(&self.latest);
        while left > 0 {
            let Ok(Some(told)) = timeout_at(deadline, self.told.recv()).await else {
                return behind(&self.latest) == 0;
            };
            self.note(&told);
            left = behind(&self.latest);
        }
        true
    }

    /// Takes what comes for a while.
    pub(crate) async fn listen(&mut self, length: Duration) {
        let deadline = Instant::now() + length;
        while let Ok(Some(told)) = timeout_at(deadline, self.told.recv()).await {
            self.note(&told);
        }
    }

    fn note(&mut self, told: &Told) {
        if let Some(latest) = self.latest.get_mut(told.user) {
            *latest = told.revision.max(*latest);
        }
        self.at.entry((told.user, told.revision)).or_insert(told.at);
    }
}

async fn follow(
    mut client: Client,
    user: usize,
    tell: mpsc::UnboundedSender<Told>,
) -> anyhow::Result<()> {
    let mut stream = client.watch().await?;
    loop {
        let message = stream.message().await?.context("a stream has ended")?;
        if let Some(Event::Snapshot(EntitlementSnapshot { revision, .. })) = message.event {
            let at = Utc::now().timestamp_micros();
            if tell.send(Told { user, revision, at }).is_err() {
                return Ok(());
            }
        }
    }
}
