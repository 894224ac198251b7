//! One connection from its greeting to its end: which HTTP it speaks, within which limits, how long
//! it may grow old. hyper's own defaults are generous or none: each limit is set here.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rand::Rng as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::transport::server::Connected as _;
use tracing::debug;

use super::entry::{ConnectionEntry, Entry};
use super::untaken::Untaken;
use crate::edge::Socket;

/// All headers of one request together.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Streams that the other side opened and reset before anybody looked at them (CVE-2023-44487).
const RESETS_PENDING_MAX: usize = 64;
/// Streams that were reset for the other side's mistakes.
const RESETS_FOR_MISTAKES_MAX: usize = 1_024;
/// A silent connection is asked this often whether anybody is there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);
const KEEPALIVE_ANSWER_MAX: Duration = Duration::from_secs(20);
/// The headers of an HTTP/1.1 request, from the first byte to the last.
const HTTP1_HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// Connections are renewed after this, and up to half as long again: not all at once.
const AGE_MIN: Duration = Duration::from_secs(60 * 60);

/// What serves connections, and how they are told to end.
pub(super) struct Connections {
    entry: Entry,
    /// How long an answer may lie here, and twice as long at most.
    taken_within: Duration,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    /// Says goodbye: no new requests, those under way end.
    drain: CancellationToken,
    /// Ends whatever is left.
    cut: CancellationToken,
    open: TaskTracker,
}

impl Connections {
    /// `streams_max`: requests and streams of one connection at a time.
    pub(super) fn new(entry: Entry, streams_max: u32, taken_within: Duration) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP1_HEADERS_WITHIN);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(streams_max)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
            .max_local_error_reset_streams(RESETS_FOR_MISTAKES_MAX)
            .keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_ANSWER_MAX);
        Self {
            entry,
            taken_within,
            http1,
            http2,
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            open: TaskTracker::new(),
        }
    }

    /// Held as long as a socket lives: `drained` waits for it.
    pub(super) fn track(&self) -> TaskTrackerToken {
        self.open.token()
    }

    /// Cuts every connection when dropped, whatever else has or has not been done.
    pub(super) fn cut_on_drop(&self) -> tokio_util::sync::DropGuard {
        self.cut.clone().drop_guard()
    }

    /// Tells every connection to end; returns when all have.
    pub(super) async fn drained(&self) {
        self.drain.cancel();
        self.open.close();
        self.open.wait().await;
    }

    /// Serves until either side ends it.
    pub(super) async fn serve(&self, socket: Socket) {
        let untaken = Untaken::default();
        let entry = self.entry.of(socket.connect_info(), untaken.clone());
        if socket.speaks_http2() {
            let connection = self.http2.serve_connection(TokioIo::new(socket), entry);
            self.live(Http2(connection), &untaken).await;
        } else {
            let connection = self.http1.serve_connection(TokioIo::new(socket), entry);
            self.live(Http1(connection), &untaken).await;
        }
    }

    async fn live(&self, connection: impl Farewell, untaken: &Untaken) {
        let mut connection = pin!(connection);
        let mut overdue = pin!(untaken.overdue(self.taken_within));
        let age = AGE_MIN.mul_f64(rand::rng().random_range(1.0..1.5));
        // Without a grace: the age alone says GOAWAY and lets what runs end; a grace would cut it.
        let told = async {
            tokio::select! {
                () = tokio::time::sleep(age) => {}
                () = self.drain.cancelled() => {}
            }
        };
        tokio::select! {
            biased;
            () = self.cut.cancelled() => return,
            () = connection.as_mut() => return,
            () = overdue.as_mut() => return,
            () = told => connection.as_mut().farewell(),
        }
        tokio::select! {
            biased;
            () = self.cut.cancelled() => {}
            () = connection => {}
            () = overdue => {}
        }
    }
}

/// A connection that can be told to end in good order.
trait Farewell: Future<Output = ()> {
    fn farewell(self: Pin<&mut Self>);
}

struct Http1(http1::Connection<TokioIo<Socket>, ConnectionEntry>);
struct Http2(http2::Connection<TokioIo<Socket>, ConnectionEntry, TokioExecutor>);

impl Future for Http1 {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(note)
    }
}

impl Future for Http2 {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(note)
    }
}

impl Farewell for Http1 {
    fn farewell(mut self: Pin<&mut Self>) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

impl Farewell for Http2 {
    fn farewell(mut self: Pin<&mut Self>) {
        Pin::new(&mut self.0).graceful_shutdown();
    }
}

fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "a connection ended");
    }
}
