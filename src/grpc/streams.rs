//! What a stream sends, how many an account may have, and how each ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use futures::{Stream, StreamExt as _};
use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::auth::{AuthError, Cause};
use super::leases::StreamLeases;
use super::shared_snapshot::SharedSnapshot;
use super::status::{self, Reason};
use super::{convert, wire};
use crate::domain::entitlement::nothing as no_entitlements;
use crate::domain::ids::{AccountId, Revision};
use crate::flows::Account;
use crate::flows::Core;
use crate::watch::{View, WatchEvent};

/// A stream is renewed now and then, so that deploys and rebalancing never wait for the last one.
const STREAM_AGE_MIN: Duration = Duration::from_secs(30 * 60);
/// Those who are sent away together come back spread over this.
const RETURN_SPREAD: Duration = Duration::from_secs(5);

pub(super) fn shared(view: &View) -> SharedSnapshot {
    SharedSnapshot(view.encoded.clone())
}

/// The answer about an account that nobody has seen: everything off, no account made.
pub(super) fn nothing(core: &Core) -> wire::GetEntitlementsResponse {
    let nobody = Account {
        id: AccountId(uuid::Uuid::nil()),
        store_token: String::new(),
    };
    let snapshot = no_entitlements(&core.catalog.load());
    let encoded = (core.hub.encoder())(&nobody, &core.hub.epoch(), Revision::ZERO, &snapshot);
    wire::GetEntitlementsResponse {
        snapshot: Some(SharedSnapshot(encoded)),
        as_of: Some(convert::timestamp(core.clock.now())),
        degraded: false,
    }
}

/// How many streams one account may hold on this replica.
#[derive(Clone, Debug)]
pub(super) struct StreamLimits {
    open: Arc<DashMap<AccountId, u32>>,
    per_account_max: u32,
}

impl StreamLimits {
    pub(super) fn new(per_account_max: u32) -> Self {
        Self {
            open: Arc::default(),
            per_account_max,
        }
    }

    pub(super) fn take(&self, account: AccountId) -> Result<Slot, Status> {
        let mut open = self.open.entry(account).or_insert(0);
        if *open >= self.per_account_max {
            return Err(status::retryable(
                Reason::TooManyStreams,
                "too many streams of this account; close some",
                Duration::from_secs(30),
            ));
        }
        *open += 1;
        Ok(Slot {
            limits: self.clone(),
            account,
        })
    }
}

/// One of an account's streams.
pub(super) struct Slot {
    limits: StreamLimits,
    account: AccountId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(mut open) = self.limits.open.get_mut(&self.account) {
            *open -= 1;
        }
        self.limits
            .open
            .remove_if(&self.account, |_, open| *open == 0);
    }
}

/// What ends a stream from our side.
pub(super) struct Ends {
    pub(super) credential: SystemTime,
    /// The credential before its time.
    pub(super) ended: Option<CancellationToken>,
    pub(super) drain: CancellationToken,
}

/// The wire stream: events until the credential, the stream's age or a deploy ends it.
pub(super) fn stream(
    core: Arc<Core>,
    events: impl Stream<Item = WatchEvent> + Send,
    ends: Ends,
    slot: Slot,
    mut leases: Option<Box<StreamLeases>>,
) -> impl Stream<Item = Result<wire::WatchEntitlementsResponse, Status>> + Send {
    let messages = events.map(move |event| message(&core, event, leases.as_deref_mut()));
    let end = futures::stream::once(async move {
        let why = end_of(ends).await;
        drop(slot);
        Err(why)
    });
    // The end wins over a message that is ready at the same time.
    let mut over = false;
    futures::stream::select_with_strategy(end, messages, |(): &mut ()| {
        futures::stream::PollNext::Left
    })
    .take_while(move |item: &Result<_, Status>| {
        let take = !over;
        over |= item.is_err();
        std::future::ready(take)
    })
}

fn message(
    core: &Core,
    event: WatchEvent,
    leases: Option<&mut StreamLeases>,
) -> Result<wire::WatchEntitlementsResponse, Status> {
    use wire::watch_entitlements_response::Event;
    let now = core.clock.now();
    let lease = leases.map(|leases| leases.beside(&event, now));
    let lease = lease.transpose()?.unwrap_or_default();
    let event = match event {
        WatchEvent::Snapshot(view) => Event::Snapshot(shared(&view)),
        WatchEvent::Unchanged(_) => Event::Unchanged(wire::Unchanged {}),
        WatchEvent::Heartbeat(revision) => Event::Heartbeat(wire::Heartbeat {
            revision: revision.0,
        }),
        // Whoever comes back with the same credential is told why it is no longer accepted.
        WatchEvent::Ended => {
            return Err(status::retryable(
                Reason::StreamRenew,
                "the account or its session has ended; open the stream again",
                Duration::from_millis(100),
            ));
        }
    };
    Ok(wire::WatchEntitlementsResponse {
        event: Some(event),
        as_of: Some(convert::timestamp(now)),
        degraded: core.hub.is_degraded(),
        lease,
    })
}

pub(super) async fn end_of(ends: Ends) -> Status {
    let credential = ends
        .credential
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    let age = STREAM_AGE_MIN.mul_f64(rand::rng().random_range(1.0..1.5));
    let ended = async {
        match ends.ended {
            Some(ended) => ended.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ended => status::unauthenticated(AuthError::from(Cause::KeyNotLive)),
        () = tokio::time::sleep(credential) => status::unauthenticated(AuthError::from(Cause::Expired)),
        () = tokio::time::sleep(age) => status::retryable(
            Reason::StreamRenew, "open the stream again", Duration::from_millis(100),
        ),
        () = ends.drain.cancelled() => status::retryable(
            Reason::StreamRenew,
            "this replica is going away; open the stream again",
            RETURN_SPREAD.mul_f64(rand::rng().random_range(0.02..1.0)),
        ),
    }
}
