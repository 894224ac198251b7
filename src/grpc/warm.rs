//! Warm reads: `GetEntitlements` of a caller whose token has been verified and whose account's copy
//! is fresh. Nothing is waited for, so they are answered where they arrive, in front of the layers
//! and of the generated code. Whatever is not plainly such a read takes the ordinary way, where
//! `read` is asked again: this is a shortcut to the same answer, never another one.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use metrics::Counter;
use prost::Message as _;

use super::auth::{Caller, CallerKind};
use super::door::Door;
use super::guard;
use super::policy::{self, Row, Ruling};
use super::streams;
use super::{convert, wire};
use crate::domain::ids::{AccountId, Revision};
use crate::flows::read_entitlements::Read;
use crate::watch::Freshness;

const PATH: &str = "/entitled.v1.EntitlementService/GetEntitlements";
/// gRPC's frame around a message: a flag, and four bytes of length.
const FRAME_BYTES: usize = 5;
/// Consistency is all that a device says: more is not read here.
pub(super) const BODY_BYTES_MAX: usize = 256;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// The view of a caller's own account, if it is at hand and nothing need be asked.
pub(super) fn read(
    door: &Door,
    caller: &Caller,
    request: &wire::GetEntitlementsRequest,
) -> Option<Read> {
    if caller.kind != CallerKind::User
        || !request.account.is_empty()
        || request.as_of.is_some()
        || door.has_ended(caller)
    {
        return None;
    }
    let id = AccountId(*caller.account.get()?);
    let freshness = freshness(request.consistency.as_ref());
    let view = door.core.hub.cached(id, &freshness)?;
    let as_of = door.core.clock.now();
    Some(Read {
        view: view.at(as_of, door.core.hub.encoder()),
        as_of,
        degraded: false,
    })
}

pub(super) fn freshness(consistency: Option<&wire::Consistency>) -> Freshness {
    use wire::consistency::Requirement;
    match consistency.and_then(|consistency| consistency.requirement.as_ref()) {
        Some(Requirement::AtLeast(token)) => Freshness::AtLeast {
            epoch: token.epoch.clone(),
            revision: Revision(token.revision),
        },
        Some(Requirement::FullyConsistent(true)) => Freshness::Full,
        Some(Requirement::FullyConsistent(false)) | None => Freshness::MinimizeLatency,
    }
}

pub(super) fn message(read: &Read) -> wire::GetEntitlementsResponse {
    wire::GetEntitlementsResponse {
        snapshot: Some(streams::shared(&read.view)),
        as_of: Some(convert::timestamp(read.as_of)),
        degraded: read.degraded,
    }
}

/// Gives the answers that are at hand.
#[derive(Clone)]
pub(super) struct WarmReads {
    door: Door,
    row: &'static Row,
    answered: Counter,
}

impl WarmReads {
    /// None: the table has no such RPC.
    pub(super) fn new(door: Door) -> Option<Self> {
        match policy::ruling(PATH) {
            Ruling::Row(row) => Some(Self {
                door,
                row,
                answered: metrics::counter!("entitled_warm_reads_total"),
            }),
            Ruling::NotOurs | Ruling::Unknown => None,
        }
    }

    /// Whether a native gRPC request may be one; its body is read then.
    pub(super) fn may_answer(parts: &Parts) -> bool {
        let encoding = parts.headers.get("grpc-encoding");
        parts.uri.path() == PATH && encoding.is_none_or(|encoding| encoding == "identity")
    }

    /// The framed answer to a request whose whole body has arrived, if it is at hand.
    pub(super) fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Option<Bytes> {
        let request = request(body)?;
        let mut credentials = headers.get_all(header::AUTHORIZATION).iter();
        let (credential, None) = (credentials.next()?, credentials.next()) else {
            return None;
        };
        let authenticator = &self.door.authenticator;
        let caller = authenticator.recognised(credential.as_bytes())?;
        guard::admit(self.row, &caller).ok()?;
        let read = read(&self.door, &caller, &request)?;
        self.answered.increment(1);
        framed(&message(&read))
    }
}

/// The one message that a body is.
fn request(body: &[u8]) -> Option<wire::GetEntitlementsRequest> {
    let (frame, message) = body.split_at_checked(FRAME_BYTES)?;
    let length = usize::try_from(u32::from_be_bytes(frame[1..].try_into().ok()?)).ok()?;
    // Compressed, or not one whole message.
    if frame[0] != 0 || length != message.len() {
        return None;
    }
    wire::GetEntitlementsRequest::decode(message).ok()
}

fn framed(message: &wire::GetEntitlementsResponse) -> Option<Bytes> {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(FRAME_BYTES + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).ok()?);
    message.encode(&mut framed).ok()?;
    Some(framed.freeze())
}

/// The headers of an answer.
pub(super) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(header::CONTENT_TYPE, GRPC);
    headers
}

/// What follows it.
pub(super) fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, OK);
    trailers
}
