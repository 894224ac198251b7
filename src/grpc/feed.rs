//! `ListAccounts` and `WatchAccounts`: what caches of backends are filled from and kept by.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::auth::Caller;
use super::cursor::{self, Owner};
use super::door::Door;
use super::pages;
use super::shared_snapshot::{SharedChange, SharedSnapshot};
use super::status::{self, Reason};
use super::streams::{self, Ends};
use super::{convert, wire};
use crate::domain::api_key::AppScope;
use crate::domain::horizon::Position;
use crate::domain::planted::{self, Bug};
use crate::domain::time::Instant;
use crate::flows::Core;
use crate::proto;
use crate::watch::{Change, FeedError, Feeds, Follower, State, Told};

/// Clients take messages of 4 MiB unless told otherwise; one change is far smaller.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Whoever takes no message for so long is sent away: where they stood is in their last cursor.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// `AccountChange.snapshot`.
const SNAPSHOT_FIELD: u32 = 3;

pub(super) type Messages =
    Pin<Box<dyn Stream<Item = Result<wire::WatchAccountsResponse, Status>> + Send>>;

pub(super) async fn list(
    door: &Door,
    feeds: &Feeds,
    caller: &Caller,
    request: &wire::ListAccountsRequest,
) -> Result<wire::ListAccountsResponse, Status> {
    let size = pages::size(request.page_size)?;
    let here = feeds.here().await.map_err(refused)?;
    let owner = Owner {
        epoch: &here.epoch,
        scope: &caller.apps,
    };
    let from = cursor::read(&request.page_token, owner)?.unwrap_or_default();
    let listed = feeds.list(from, &here, &caller.apps, size).await;
    let listed = listed.map_err(refused)?;
    let next = cursor::write(&listed.position, owner);
    let (next_page_token, cursor) = match listed.complete {
        true => (String::new(), next),
        false => (next, String::new()),
    };
    let as_of = door.core.clock.now();
    let accounts = listed.changes.iter();
    Ok(wire::ListAccountsResponse {
        accounts: accounts
            .map(|change| shared(&door.core, change, as_of))
            .collect(),
        next_page_token,
        cursor,
        as_of: Some(convert::timestamp(as_of)),
    })
}

/// Opens a feed for a caller.
pub(super) async fn follow(feeds: &Feeds, caller: &Caller, text: &str) -> Result<Follower, Status> {
    let here = feeds.here().await.map_err(refused)?;
    let owner = Owner {
        epoch: &here.epoch,
        scope: &caller.apps,
    };
    let from = cursor::read(text, owner)?.unwrap_or_default();
    let scope = caller.apps.clone();
    feeds.follow(from, here, scope).map_err(refused)
}

fn refused(cause: FeedError) -> Status {
    match cause {
        FeedError::Expired => cursor::expired(),
        FeedError::TooMany => status::retryable(
            Reason::TooManyStreams,
            "this replica has as many feeds as it serves; close some, or come back",
            Duration::from_secs(30),
        ),
        FeedError::Read(cause) => status::from_read(cause),
    }
}

/// The feed as messages. A task of its own hands over one message at a time: nothing is queued for
/// whoever does not read.
pub(super) fn messages(
    core: Arc<Core>,
    follower: Follower,
    scope: AppScope,
    ends: Ends,
) -> Messages {
    let (hand, taken) = mpsc::channel(1);
    let (over, end) = oneshot::channel();
    tokio::spawn(async move {
        let why = tokio::select! {
            why = streams::end_of(ends) => Some(why),
            why = tell(&core, follower, &scope, &hand) => why,
        };
        if let Some(why) = why {
            let _ = over.send(why);
        }
    });
    let end = futures::stream::once(end).filter_map(async |why| why.ok().map(Err));
    Box::pin(ReceiverStream::new(taken).chain(end))
}

/// Tells until there is a reason to end; `None`: the caller has gone.
async fn tell(
    core: &Core,
    mut follower: Follower,
    scope: &AppScope,
    hand: &mpsc::Sender<Result<wire::WatchAccountsResponse, Status>>,
) -> Option<Status> {
    let epoch = follower.epoch().to_owned();
    let owner = Owner {
        epoch: &epoch,
        scope,
    };
    loop {
        let told = tokio::select! {
            told = follower.next() => told,
            () = hand.closed() => return None,
        };
        let told = match told {
            Ok(told) => told,
            Err(cause) => return Some(refused(cause)),
        };
        for message in split(core, told, owner) {
            if let Err(end) = give(hand, message).await {
                return end;
            }
        }
    }
}

/// Hands a message over; or why no other can follow: the caller has gone, or does not read.
async fn give<T>(hand: &mpsc::Sender<Result<T, Status>>, message: T) -> Result<(), Option<Status>> {
    use mpsc::error::SendTimeoutError::{Closed, Timeout};
    match hand.send_timeout(Ok(message), TAKEN_WITHIN).await {
        Ok(()) => Ok(()),
        Err(Closed(_)) => Err(None),
        Err(Timeout(_)) => Err(Some(status::retryable(
            Reason::StreamTooSlow,
            "messages were not read for long; open the feed again with the last cursor",
            Duration::from_millis(100),
        ))),
    }
}

/// The messages of what is told: one, or several that say so if it is too much for one.
fn split(core: &Core, told: Told, owner: Owner<'_>) -> Vec<wire::WatchAccountsResponse> {
    let as_of = core.clock.now();
    let message = |changes, cursor, fragment, caught_up| wire::WatchAccountsResponse {
        changes,
        cursor,
        fragment,
        caught_up,
        as_of: Some(convert::timestamp(as_of)),
        degraded: core.hub.is_degraded(),
    };
    let mut messages = Vec::new();
    let (mut changes, mut bytes) = (Vec::new(), 0);
    let mut last = None;
    for change in &told.changes {
        let encoded = shared(core, change, as_of);
        if bytes > 0 && bytes + encoded.encoded_len() > MESSAGE_BYTES_MAX {
            let step = last.map(|place| (told.target.clone(), place));
            let here = Position {
                seen: told.seen.clone(),
                step,
            };
            let cursor = cursor::write(&here, owner);
            messages.push(message(std::mem::take(&mut changes), cursor, true, false));
            bytes = 0;
        }
        bytes += encoded.encoded_len();
        changes.push(encoded);
        last = Some(change.place);
    }
    let position = match planted::is(Bug::CursorAhead) {
        true => Position::at(told.target),
        false => told.position,
    };
    let cursor = cursor::write(&position, owner);
    messages.push(message(changes, cursor, !told.whole, told.caught_up));
    messages
}

/// A change as it reads now.
fn shared(core: &Core, change: &Change, now: Instant) -> SharedChange {
    match &change.state {
        State::Living(view) if !view.holds_at(now) => {
            let view = view.at(now, core.hub.encoder());
            SharedSnapshot(encode(change, Some(view.encoded.clone())))
        }
        State::Living(view) => {
            let first = || encode(change, Some(view.encoded.clone()));
            SharedSnapshot(change.encoded.get_or_init(first).clone())
        }
        State::Unreadable | State::Erased | State::Merged(_) => {
            SharedSnapshot(change.encoded.get_or_init(|| encode(change, None)).clone())
        }
    }
}

/// The bytes of `entitled.v1.AccountChange`, around those of a snapshot.
fn encode(change: &Change, snapshot: Option<Bytes>) -> Bytes {
    use proto::account_change::State as Wire;
    let state = match &change.state {
        State::Living(_) | State::Unreadable => None,
        State::Erased => Some(Wire::Erased(proto::AccountErased {})),
        State::Merged(into) => Some(Wire::Merged(proto::AccountMerged {
            account_id: into.to_string(),
        })),
    };
    let frame = proto::AccountChange {
        account_id: change.place.account.to_string(),
        names: change.names.clone(),
        state,
    };
    let mut bytes = frame.encode_to_vec();
    if let Some(snapshot) = snapshot {
        encode_key(SNAPSHOT_FIELD, WireType::LengthDelimited, &mut bytes);
        encode_varint(snapshot.len() as u64, &mut bytes);
        bytes.extend(snapshot);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_read_is_sent_away_and_whoever_reads_late_is_not() {
        let (hand, mut taken) = mpsc::channel(1);
        give(&hand, 1).await.unwrap();
        let late = async {
            tokio::time::sleep(TAKEN_WITHIN / 2).await;
            taken.recv().await
        };
        let (given, read) = tokio::join!(give(&hand, 2), late);
        given.unwrap();
        assert_eq!(read.unwrap().unwrap(), 1);
        let refused = give(&hand, 3).await.unwrap_err().unwrap();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        // What was handed over before is told all the same.
        assert_eq!(taken.recv().await.unwrap().unwrap(), 2);
        drop(taken);
        assert!(give(&hand, 4).await.unwrap_err().is_none());
    }

    #[test]
    fn the_field_of_a_snapshot_is_the_one_of_the_proto_file() {
        let mut bytes = Vec::new();
        encode_key(SNAPSHOT_FIELD, WireType::LengthDelimited, &mut bytes);
        encode_varint(0, &mut bytes);
        let change = proto::AccountChange::decode(&bytes[..]).unwrap();
        let empty = proto::EntitlementSnapshot::default();
        let state = proto::account_change::State::Snapshot(empty);
        assert_eq!(change.state, Some(state));
    }
}
