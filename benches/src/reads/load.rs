//! The load: one thread, HTTP/2 without a gRPC library, because a server that is to be saturated from
//! one core needs a caller that costs less than it does.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, Bytes, BytesMut};
use entitled::proto::GetEntitlementsResponse;
use futures::{StreamExt as _, TryStreamExt as _};
use h2::client::SendRequest;
use http::{HeaderValue, Method, Request, Uri, Version, header};
use prost::Message as _;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use super::crowd::Crowd;
use crate::machine;
use crate::stats::{Samples, micros};

const PATH: &str = "/entitled.v1.EntitlementService/GetEntitlements";
/// While everything is read for the first time.
const AT_ONCE: usize = 64;
const WARM_UP: Duration = Duration::from_millis(300);
/// An empty message in its frame: the default read.
const QUESTION: Bytes = Bytes::from_static(&[0; 5]);
/// Every so many answers are decoded as a whole; of all others the head is looked at.
const DECODED_EVERY: u64 = 64;
/// The account comes first in an answer.
const HEAD_BYTES: usize = 128;

/// How the load presses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) connections: usize,
    pub(super) in_flight: usize,
    pub(super) length: Duration,
}

/// Where it presses.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) pid: u32,
    pub(super) tls: Option<TlsConnector>,
    /// Whether it answers each caller with the caller's own account.
    pub(super) owned: bool,
}

/// What one round of one server gave.
pub(super) struct Round {
    pub(super) per_second: f64,
    pub(super) cpu_micros_per_request: f64,
    /// Share of one core that each process used.
    pub(super) server_core: f64,
    pub(super) load_core: f64,
    pub(super) latency: Samples,
}

/// One round, on a thread and a runtime of its own. The first error ends it.
pub(super) async fn round(
    shape: Shape,
    target: &Target,
    crowd: &Arc<Crowd>,
) -> anyhow::Result<Round> {
    let (target, crowd) = (target.clone(), Arc::clone(crowd));
    let load = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, press(shape, &target, &crowd))
    });
    load.await?
}

async fn press(shape: Shape, target: &Target, crowd: &Arc<Crowd>) -> anyhow::Result<Round> {
    let mut connections = Vec::with_capacity(shape.connections);
    for _ in 0..shape.connections {
        connections.push(connect(target).await?);
    }
    drive(shape, WARM_UP, &connections, target, crowd).await?;
    let cpu_of = || {
        Ok::<_, anyhow::Error>((
            machine::cpu_time(target.pid)?,
            machine::cpu_time(std::process::id())?,
        ))
    };
    let (before, began) = (cpu_of()?, Instant::now());
    let latencies = drive(shape, shape.length, &connections, target, crowd).await?;
    let (after, took) = (cpu_of()?, began.elapsed().as_secs_f64());
    let server = (after.0 - before.0).as_secs_f64();
    let load = (after.1 - before.1).as_secs_f64();
    Ok(Round {
        per_second: latencies.len() as f64 / took,
        cpu_micros_per_request: server * 1e6 / latencies.len() as f64,
        server_core: server / took,
        load_core: load / took,
        latency: Samples::new(latencies),
    })
}

async fn connect(target: &Target) -> anyhow::Result<SendRequest<Bytes>> {
    let socket = TcpStream::connect(&target.address).await?;
    socket.set_nodelay(true)?;
    match &target.tls {
        None => greet(socket).await,
        Some(tls) => {
            let name = ServerName::try_from("localhost")?;
            greet(tls.connect(name, socket).await?).await
        }
    }
}

async fn greet<T>(socket: T) -> anyhow::Result<SendRequest<Bytes>>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake(socket)
        .await?;
    tokio::task::spawn_local(async move {
        // The requests that it carried tell what became of it.
        let _ = connection.await;
    });
    Ok(requests)
}

/// Closed loop: each slot sends its next request when the last one is answered. Tells every request's
/// microseconds.
async fn drive(
    shape: Shape,
    length: Duration,
    connections: &[SendRequest<Bytes>],
    target: &Target,
    crowd: &Arc<Crowd>,
) -> anyhow::Result<Vec<i64>> {
    let end = Instant::now() + length;
    let turn = Rc::new(Cell::new(crowd.start()));
    let mut slots = Vec::new();
    for connection in connections {
        for _ in 0..shape.in_flight {
            let (mut requests, turn) = (connection.clone(), Rc::clone(&turn));
            let (crowd, owned) = (Arc::clone(crowd), target.owned);
            slots.push(tokio::task::spawn_local(async move {
                let mut latencies = Vec::new();
                while Instant::now() < end {
                    let number = turn.get();
                    turn.set(number + 1);
                    let caller = crowd.caller(number);
                    let sent = Instant::now();
                    let answer = ask(&mut requests, caller.authorization.clone(), QUESTION).await?;
                    latencies.push(micros(sent.elapsed()));
                    let account = owned.then_some(caller.account.as_str());
                    check(&answer, account, number.is_multiple_of(DECODED_EVERY))?;
                }
                Ok::<_, anyhow::Error>(latencies)
            }));
        }
    }
    let mut all = Vec::new();
    for slot in slots {
        all.append(&mut slot.await??);
    }
    Ok(all)
}

/// One call; its answer's message, still in its frame.
async fn ask(
    requests: &mut SendRequest<Bytes>,
    authorization: HeaderValue,
    question: Bytes,
) -> anyhow::Result<Bytes> {
    futures::future::poll_fn(|context| requests.poll_ready(context)).await?;
    let (answer, mut body) = requests.send_request(request(authorization), false)?;
    body.send_data(question, true)?;
    let answer = answer.await?;
    ensure!(answer.status() == 200, "an answer {}", answer.status());
    let mut body = answer.into_body();
    let mut message = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        message = match message.is_empty() {
            true => piece,
            false => {
                let mut both = BytesMut::from(&message[..]);
                both.extend_from_slice(&piece);
                both.freeze()
            }
        };
    }
    let trailers = body.trailers().await?.context("an answer that broke off")?;
    let status = trailers.get("grpc-status").context("no status")?;
    ensure!(status == "0", "an answer with status {status:?}");
    Ok(message)
}

/// As tonic's client writes it.
fn request(authorization: HeaderValue) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri();
    let headers = request.headers_mut();
    headers.reserve(4);
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let grpc = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, grpc);
    headers.insert(header::AUTHORIZATION, authorization);
    let agent = HeaderValue::from_static("bench");
    headers.insert(header::USER_AGENT, agent);
    request
}

fn uri() -> Uri {
    thread_local! {
        static URI: Uri = format!("http://localhost{PATH}").parse().unwrap_or_default();
    }
    URI.with(Clone::clone)
}

/// The answer is a whole message, about the right account, and opens what was paid for.
fn check(framed: &Bytes, account: Option<&str>, whole: bool) -> anyhow::Result<()> {
    let mut message = framed.clone();
    ensure!(message.len() > 5, "an answer without a message");
    message.advance(5);
    if let Some(account) = account {
        let head = &message[..message.len().min(HEAD_BYTES)];
        let named = head
            .windows(account.len())
            .any(|text| text == account.as_bytes());
        ensure!(named, "another account's answer");
    }
    if !whole {
        return Ok(());
    }
    let answer = GetEntitlementsResponse::decode(message)?;
    let snapshot = answer.snapshot.context("an answer without a snapshot")?;
    ensure!(!answer.degraded, "the database could not confirm an answer");
    let mut entitlements = snapshot.entitlements.iter();
    let active = entitlements.any(|it| it.id == "pro_access" && it.active);
    ensure!(active, "an answer without what was bought");
    Ok(())
}

/// Every caller's answer, once: it warms the server, and is what the others give back.
pub(super) async fn answers(target: &Target, crowd: &Arc<Crowd>) -> anyhow::Result<Vec<Bytes>> {
    let (target, crowd) = (target.clone(), Arc::clone(crowd));
    let asked = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, async move {
            let connection = connect(&target).await?;
            // Accounts that no caller of ours has are read by a backend, and only kept warm.
            let backend = crowd.questions_of_a_backend().map(|question| {
                let (mut connection, backend) = (connection.clone(), crowd.backend.clone());
                async move { ask(&mut connection, backend, question).await }
            });
            let mut backend = futures::stream::iter(backend).buffer_unordered(AT_ONCE);
            while let Some(answer) = backend.next().await {
                answer?;
            }
            let callers = crowd.callers.iter().map(|caller| {
                let mut connection = connection.clone();
                async move {
                    let header = caller.authorization.clone();
                    let answer = ask(&mut connection, header, QUESTION).await?;
                    check(&answer, Some(&caller.account), true)?;
                    Ok::<_, anyhow::Error>(answer.slice(5..))
                }
            });
            let callers = futures::stream::iter(callers).buffered(AT_ONCE);
            callers.try_collect().await
        })
    });
    asked.await?
}
