//! One connection: greeted, metered, and ended when nothing comes of it. What is spoken over it is
//! hyper's, which would wait for a part of a greeting without limit.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as MachineInstant};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::debug;

use super::frames::{Meter, Passed};
use super::places::Place;
use super::tls::Tls;

/// Every HTTP/2 connection begins with it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Without a first request over HTTP/2; between two requests over HTTP/1. As long again at most.
const QUIET_MAX: Duration = Duration::from_secs(60);
/// A head that does not end, in more parts than h2 takes: its own words for "enough" are GOAWAY with
/// `ENHANCE_YOUR_CALM`, and then the end of the connection.
const ENOUGH: [u8; 9 * 17] = enough();

const fn enough() -> [u8; 9 * 17] {
    let mut frames = [0; 9 * 17];
    let mut at = 0;
    while at < frames.len() {
        // HEADERS, then CONTINUATION, on the last of all streams.
        frames[at + 3] = if at == 0 { 0x1 } else { 0x9 };
        frames[at + 5] = 0x7f;
        frames[at + 6] = 0xff;
        frames[at + 7] = 0xff;
        frames[at + 8] = 0xff;
        at += 9;
    }
    frames
}

/// What a connection holds for as long as it lives.
#[expect(dead_code, reason = "they are held, and given back when dropped")]
pub(super) struct Held {
    pub(super) place: Place,
    /// Its part of all connections of the listeners.
    pub(super) one_of_all: OwnedSemaphorePermit,
}

/// A connection whose other side has greeted.
pub(crate) struct Socket {
    stream: Either<TcpStream, TlsStream<TcpStream>>,
    /// Where the client is; behind a proxy, what the proxy says.
    client: SocketAddr,
    /// What is read before the stream: the greeting, and at the end the word that it is enough.
    first: Bytes,
    speaks: Speaks,
    /// Nothing is read of the stream any more.
    is_cut: bool,
    /// Whether anything went through since the last look.
    is_used: bool,
    /// Since when the other side takes nothing of what is written.
    blocked: Option<Instant>,
    stalled_max: Duration,
    look: Pin<Box<Sleep>>,
    _held: Held,
}

enum Speaks {
    Http1,
    Http2(Meter),
}

impl Socket {
    /// Returns once the other side has sent a whole HTTP/2 preface, or the start of anything else;
    /// none if it leaves before, or fails at TLS. Takes as long as the other side does.
    pub(super) async fn open(
        socket: TcpStream,
        client: SocketAddr,
        tls: Option<&Tls>,
        stalled_max: Duration,
        held: Held,
    ) -> Option<Self> {
        let _ = socket.set_nodelay(true);
        let mut stream = match tls {
            None => Either::Left(socket),
            Some(tls) => {
                let accepted = tls.acceptor().accept(socket).await;
                let told = accepted.inspect_err(|error| debug!(%error, "TLS failed"));
                Either::Right(told.ok()?)
            }
        };
        let mut greeting = BytesMut::with_capacity(PREFACE.len());
        while PREFACE.starts_with(&greeting) && greeting.len() < PREFACE.len() {
            if stream.read_buf(&mut greeting).await.ok()? == 0 {
                return None;
            }
        }
        let speaks = match greeting.starts_with(PREFACE) {
            true => Speaks::Http2(Meter::new(PREFACE.len(), MachineInstant::now())),
            false => Speaks::Http1,
        };
        metrics::gauge!("entitled_connections").increment(1.0);
        Some(Self {
            stream,
            client,
            first: greeting.freeze(),
            speaks,
            is_cut: false,
            is_used: true,
            blocked: None,
            stalled_max,
            look: Box::pin(tokio::time::sleep(QUIET_MAX)),
            _held: held,
        })
    }

    /// Whether it began as every HTTP/2 connection does.
    pub(crate) const fn speaks_http2(&self) -> bool {
        matches!(self.speaks, Speaks::Http2(_))
    }

    /// Counts what was read into `into` behind `before`, and keeps back what is too much.
    fn meter(&mut self, before: usize, into: &mut ReadBuf<'_>) {
        self.is_used = true;
        let Speaks::Http2(meter) = &mut self.speaks else {
            return;
        };
        let fresh = &into.filled()[before..];
        if let Passed::Until(bytes, misuse) = meter.received(fresh, MachineInstant::now) {
            debug!(client = %self.client, why = misuse.as_str(), "a connection is cut");
            cut(misuse.as_str());
            into.set_filled(before + bytes);
            self.is_cut = true;
            self.first = Bytes::from_static(&ENOUGH);
        }
    }

    /// Whether the connection has outlived its use; looked at from time to time.
    fn is_over(&mut self, context: &mut Context<'_>) -> Option<&'static str> {
        while self.look.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let quiet = match &self.speaks {
                Speaks::Http1 => !self.is_used,
                Speaks::Http2(meter) => !meter.asked,
            };
            let stalled = self.blocked.map(|since| now.duration_since(since));
            match stalled {
                Some(stalled) if stalled >= self.stalled_max => return Some("stalled"),
                None if quiet => return Some("quiet"),
                Some(_) | None => {}
            }
            self.is_used = false;
            let next = stalled.map_or(QUIET_MAX, |stalled| self.stalled_max - stalled);
            self.look.as_mut().reset(now + next);
        }
        None
    }

    /// The same for writes: what came of one, or that nobody has taken anything for too long.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.blocked = None;
            self.is_used = true;
            return outcome;
        }
        if self.blocked.is_none() {
            let now = Instant::now();
            self.blocked = Some(now);
            self.look.as_mut().reset(now + self.stalled_max);
        }
        match self.is_over(context) {
            Some(why) => {
                cut(why);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            None => Poll::Pending,
        }
    }
}

fn cut(why: &'static str) {
    metrics::counter!("entitled_connections_cut_total", "why" => why).increment(1);
}

impl Drop for Socket {
    fn drop(&mut self) {
        metrics::gauge!("entitled_connections").decrement(1.0);
    }
}

impl Connected for Socket {
    type ConnectInfo = TcpConnectInfo;

    /// Its remote address is the client's: the other end, or what a trusted proxy's header names.
    fn connect_info(&self) -> TcpConnectInfo {
        let socket = match &self.stream {
            Either::Left(socket) => socket,
            Either::Right(tls) => tls.get_ref().0,
        };
        TcpConnectInfo {
            local_addr: socket.local_addr().ok(),
            remote_addr: Some(self.client),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        if this.first.has_remaining() {
            let length = this.first.len().min(into.remaining());
            into.put_slice(&this.first.split_to(length));
            if !this.is_cut {
                this.meter(before, into);
            }
            return Poll::Ready(Ok(()));
        }
        if this.is_cut {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut this.stream).poll_read(context, into) {
            Poll::Ready(read) => {
                read?;
                this.meter(before, into);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => match this.is_over(context) {
                Some(why) => {
                    cut(why);
                    this.is_cut = true;
                    Poll::Ready(Ok(()))
                }
                None => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        let written = ready!(this.written(context, outcome))?;
        if let Speaks::Http2(meter) = &mut this.speaks {
            meter.sent(&bytes[..written]);
        }
        Poll::Ready(Ok(written))
    }

    /// Not vectored: h2 then gathers small frames of many answers into one write.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.written(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::edge::places::Places;

    const STALLED_MAX: Duration = Duration::from_secs(10);

    /// A connection of ours, and its other end.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap());
        let (caller, accepted) = tokio::join!(caller, listener.accept());
        (accepted.unwrap().0, caller.unwrap())
    }

    async fn open(socket: TcpStream) -> Option<Socket> {
        let held = Held {
            place: Places::uncounted(),
            one_of_all: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
        };
        let client = "203.0.113.7:5555".parse().unwrap();
        Socket::open(socket, client, None, STALLED_MAX, held).await
    }

    /// What a connection that sends these pieces and then ends reads as; none if it never opens.
    async fn served(pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let (socket, mut caller) = pair().await;
        let opened = tokio::spawn(open(socket));
        for piece in pieces {
            caller.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        caller.shutdown().await.unwrap();
        let mut socket = opened.await.unwrap()?;
        let mut read = Vec::new();
        socket.read_to_end(&mut read).await.unwrap();
        Some(read)
    }

    #[tokio::test]
    async fn a_greeting_is_read_again_by_whoever_serves_it_and_half_of_one_is_none() {
        let (first, rest) = PREFACE.split_at(7);
        let whole: Vec<u8> = [PREFACE, b"settings"].concat();
        let read = served(&[first, rest, b"settings"]).await;
        assert_eq!(read, Some(whole));
        let request = b"POST /v1/entitlement:getEntitlements HTTP/1.1\r\n";
        assert_eq!(served(&[request]).await, Some(request.to_vec()));
        assert_eq!(served(&[b"P", b"UT /"]).await, Some(b"PUT /".to_vec()));
        assert_eq!(served(&[first]).await, None);
        assert_eq!(served(&[]).await, None);
    }

    #[tokio::test]
    async fn after_too_many_pings_only_the_word_that_it_is_enough_is_read() {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let read = served(&[PREFACE, &ping.repeat(3_000)]).await.unwrap();
        let pings = read.strip_suffix(&ENOUGH[..]).unwrap();
        assert!(pings.len() < PREFACE.len() + 17 * 1_100, "{}", pings.len());
        assert_eq!(
            pings,
            [PREFACE, &ping.repeat(3_000)].concat()[..pings.len()].to_vec()
        );
    }

    #[tokio::test]
    async fn who_takes_nothing_of_what_is_written_is_cut() {
        let (socket, mut caller) = pair().await;
        caller.write_all(PREFACE).await.unwrap();
        let mut socket = open(socket).await.unwrap();
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let stuck = async { while socket.write_all(&[0; 65_536]).await.is_ok() {} };
        stuck.await;
        assert!(began.elapsed() >= STALLED_MAX);
        assert!(began.elapsed() < 2 * STALLED_MAX);
    }

    #[tokio::test]
    async fn a_connection_that_asks_for_nothing_ends() {
        for (greeting, asks) in [
            (PREFACE.to_vec(), false),
            (b"GET".to_vec(), false),
            ([PREFACE, &[0, 0, 0, 1, 4, 0, 0, 0, 1]].concat(), true),
        ] {
            let (socket, mut caller) = pair().await;
            caller.write_all(&greeting).await.unwrap();
            let mut socket = open(socket).await.unwrap();
            tokio::time::pause();
            let ends = async { while socket.read_u8().await.is_ok() {} };
            let ended = tokio::time::timeout(3 * QUIET_MAX, ends).await;
            assert_eq!(ended.is_err(), asks);
            tokio::time::resume();
        }
    }
}
