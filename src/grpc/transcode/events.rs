//! A server stream as server-sent events: each message an event, its end an event too.
//!
//! Events of a stream that can be resumed carry an id, `epoch/revision/as_of`; a browser sends the
//! last one back in `Last-Event-ID`, and it becomes the request's `known`.

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};

use super::frames;
use super::problem::Problem;
use crate::domain::planted::{self, Bug};

pub(super) const MEDIA_TYPE: &str = "text/event-stream";
const END: &str = "end";
const TOKEN: &str = "entitled.v1.RevisionToken";

/// What the reader of a resumable stream has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    epoch: String,
    revision: String,
    as_of: String,
}

impl Seen {
    fn id(&self) -> String {
        format!("{}/{}/{}", self.epoch, self.revision, self.as_of)
    }

    /// None for what is no id of ours: the stream then begins with everything.
    fn parse(id: &str) -> Option<Self> {
        let mut parts = id.rsplitn(3, '/').map(str::to_owned);
        let (as_of, revision, epoch) = (parts.next()?, parts.next()?, parts.next()?);
        revision.parse::<i64>().ok()?;
        Some(Self {
            epoch,
            revision,
            as_of,
        })
    }
}

/// Whether a request can say what its sender has seen.
pub(super) fn is_resumable(request: &MessageDescriptor) -> bool {
    request.get_field_by_name("known").is_some_and(
        |field| matches!(field.kind(), prost_reflect::Kind::Message(it) if it.full_name() == TOKEN),
    )
}

/// Where a stream stands, if it can be resumed.
#[derive(Debug)]
pub(super) struct Position(Option<Seen>);

impl Position {
    /// Reads `Last-Event-ID` into the request, and what the request says is known.
    pub(super) fn of(request: &mut DynamicMessage, last_event_id: Option<&str>) -> Self {
        let descriptor = prost_reflect::ReflectMessage::descriptor(request);
        if !is_resumable(&descriptor) {
            return Self(None);
        }
        let seen = last_event_id.and_then(Seen::parse);
        if let Some(known) = seen.as_ref().and_then(|seen| known(descriptor, seen)) {
            for (field, value) in known.fields() {
                request.set_field(&field, value.clone());
            }
            return Self(seen);
        }
        let token = request.get_field_by_name("known");
        let text = |name: &str| -> Option<String> {
            let value = token.as_ref()?.as_message()?.get_field_by_name(name)?;
            Some(match value.as_i64() {
                Some(number) => number.to_string(),
                None => value.as_str()?.to_owned(),
            })
        };
        Self(Some(Seen {
            epoch: text("epoch").unwrap_or_default(),
            revision: text("revision").unwrap_or_default(),
            as_of: String::new(),
        }))
    }

    /// The id after a message: a snapshot names its revision; whatever else comes confirms it.
    fn advance(&mut self, message: &Value) -> Option<String> {
        let seen = self.0.as_mut()?;
        if let Some(snapshot) = message.get("snapshot") {
            seen.epoch = snapshot["epoch"].as_str()?.to_owned();
            if !planted::is(Bug::PlaceStandsStill) {
                seen.revision = snapshot["revision"].as_str()?.to_owned();
            }
        }
        seen.as_of = message["asOf"].as_str()?.to_owned();
        Some(seen.id())
    }
}

/// A request that says just what was seen.
fn known(descriptor: MessageDescriptor, seen: &Seen) -> Option<DynamicMessage> {
    let known = json!({
        "known": {"epoch": seen.epoch, "revision": seen.revision},
        "knownAsOf": seen.as_of,
    });
    DynamicMessage::deserialize(descriptor, known).ok()
}

/// The events of a stream whose messages come framed in `body`.
pub(super) fn events(descriptor: MessageDescriptor, body: Body, position: Position) -> Body {
    let source = Source {
        descriptor,
        body,
        position,
        buffer: BytesMut::new(),
        over: false,
    };
    Body::new(StreamBody::new(source.into_stream()))
}

struct Source {
    descriptor: MessageDescriptor,
    body: Body,
    position: Position,
    buffer: BytesMut,
    over: bool,
}

impl Source {
    fn into_stream(self) -> impl Stream<Item = Result<Frame<Bytes>, Status>> {
        futures::stream::unfold(self, |mut source| async move {
            let text = source.next().await?;
            Some((Ok(Frame::data(Bytes::from(text))), source))
        })
    }

    async fn next(&mut self) -> Option<String> {
        while !self.over {
            if let Some(message) = frames::take(&mut self.buffer) {
                return Some(self.message(message).unwrap_or_else(|| self.broken()));
            }
            let Some(frame) = self.body.frame().await else {
                break;
            };
            let status = match frame.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    self.buffer.extend_from_slice(&data);
                    continue;
                }
                Ok(Err(frame)) => frame
                    .trailers_ref()
                    .and_then(Status::from_header_map)
                    .unwrap_or_else(|| Status::internal("the stream ended without a word")),
                Err(status) => status,
            };
            self.over = true;
            return Some(end(&status));
        }
        None
    }

    fn message(&mut self, message: Bytes) -> Option<String> {
        let json = frames::to_json(self.descriptor.clone(), message)?;
        let parsed: Value = serde_json::from_slice(&json).ok()?;
        let name = self
            .descriptor
            .oneofs()
            .flat_map(|it| it.fields().collect::<Vec<_>>())
            .find(|field| parsed.get(field.json_name()).is_some())
            .map_or_else(
                || "message".to_owned(),
                |field| field.json_name().to_owned(),
            );
        let id = self.position.advance(&parsed);
        Some(event(&name, id.as_deref(), &json))
    }

    fn broken(&mut self) -> String {
        self.over = true;
        end(&Status::internal("a message that cannot be read"))
    }
}

fn event(name: &str, id: Option<&str>, data: &[u8]) -> String {
    let data = String::from_utf8_lossy(data);
    match id.filter(|id| !id.contains(['\n', '\r', '\0'])) {
        Some(id) => format!("event: {name}\nid: {id}\ndata: {data}\n\n"),
        None => format!("event: {name}\ndata: {data}\n\n"),
    }
}

/// The last event: why, as problem details, and when to come back; nothing if all has been told.
fn end(status: &Status) -> String {
    if status.code() == Code::Ok {
        return event(END, None, b"{}");
    }
    let problem = Problem::of(status);
    let text = event(END, None, &problem.json());
    match problem.retry() {
        Some(retry) => format!("retry: {}\n{text}", retry.as_millis()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::proto;

    fn request() -> DynamicMessage {
        let pool = DescriptorPool::decode(proto::DESCRIPTORS).expect("descriptors");
        let name = "entitled.v1.WatchEntitlementsRequest";
        DynamicMessage::new(pool.get_message_by_name(name).expect("a message"))
    }

    #[test]
    fn an_id_comes_back_as_what_is_known() {
        let mut position = Position::of(&mut request(), None);
        let snapshot = json!({
            "snapshot": {"epoch": "1/2/e", "revision": "17"}, "asOf": "2027-01-10T09:00:00Z",
        });
        position.advance(&snapshot).expect("an id");
        let stays = planted::with(Bug::PlaceStandsStill, || {
            let mut position = Position::of(&mut request(), None);
            position.advance(&snapshot)
        });
        let stays = stays.expect("an id");
        assert!(!stays.contains("/17/"), "the bug is seen: {stays}");
        let heartbeat = json!({
            "heartbeat": {"revision": "17"}, "asOf": "2027-01-10T09:00:20Z",
        });
        let id = position.advance(&heartbeat).expect("an id");

        let mut again = request();
        Position::of(&mut again, Some(&id));
        let read = proto::WatchEntitlementsRequest::decode(&again.encode_to_vec()[..]);
        let read = read.expect("decodes");
        let known = read.known.expect("known");
        assert_eq!((known.epoch.as_str(), known.revision), ("1/2/e", 17));
        let as_of = read.known_as_of.expect("a time");
        assert_eq!(as_of.seconds, 1_799_571_620);
    }

    #[test]
    fn what_is_no_id_of_ours_is_nothing_seen() {
        for id in [
            "",
            "17",
            "a/b",
            "e/x/2027-01-10T09:00:00Z",
            "e/17/yesterday",
        ] {
            let mut request = request();
            Position::of(&mut request, Some(id));
            assert_eq!(request.encoded_len(), 0, "{id}");
        }
    }

    #[test]
    fn the_end_says_why_and_when_to_come_back() {
        let retry = std::time::Duration::from_millis(1_500);
        let status = crate::grpc::status::retryable(
            crate::grpc::status::Reason::StreamRenew,
            "come again",
            retry,
        );
        let text = end(&status);
        let lines: Vec<&str> = text.lines().collect();
        let told: u128 = lines[0]
            .strip_prefix("retry: ")
            .and_then(|it| it.parse().ok())
            .expect("milliseconds");
        assert!(told >= retry.as_millis());
        assert_eq!(lines[1], "event: end");
        assert!(lines[2].contains("STREAM_RENEW"));
        assert!(text.ends_with("\n\n"));
        assert_eq!(end(&Status::ok("")), "event: end\ndata: {}\n\n");
    }
}
