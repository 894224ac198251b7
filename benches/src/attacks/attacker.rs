//! The attacker as a process of its own, and the neighbour who burns as much and touches nobody.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::floods::{Flooder, Kind};
use super::raw::{self, End, frame};
use crate::machine;

/// Connections at a time; where nothing is sent, of which there may be many.
const WORKERS: u32 = 8;
const SILENT_WORKERS: u32 = 2_000;
/// Before another connection is tried once one was refused: a SYN flood is the kernel's matter.
const PAUSE: Duration = Duration::from_millis(10);
const GET: &str = "/entitled.v1.EntitlementService/GetEntitlements";
const WATCH: &str = "/entitled.v1.EntitlementService/WatchEntitlements";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const END: u8 = raw::END_HEADERS | raw::END_STREAM;

#[derive(Args)]
pub(crate) struct AttackerArgs {
    #[arg(long)]
    attack: String,
    #[arg(long)]
    server: SocketAddr,
    #[arg(long)]
    webhooks: SocketAddr,
    #[arg(long)]
    token: String,
    #[arg(long)]
    seconds: u64,
}

#[derive(Args)]
pub(crate) struct BurnerArgs {
    /// Share of a core
    #[arg(long)]
    share: f64,
    #[arg(long)]
    seconds: u64,
}

/// One way to attack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Attack {
    Flood(&'static str, Kind),
    /// Sockets that say nothing.
    Silent,
    /// The beginning of a TLS handshake.
    Handshakes,
    /// Watches, as many as there may be and many more.
    Streams,
    /// Questions whose answers nobody reads.
    NeverReads,
    /// Messages that are announced as 64 MiB.
    Oversized,
    /// Everybody comes, asks once, and comes again.
    Herd,
    /// Forged notifications, and slow ones.
    Webhooks,
    /// Tokens of keys that nobody has.
    UnknownKeys,
}

impl Attack {
    pub(super) const ALL: [Self; 19] = [
        Self::Flood("D1", Kind::RapidReset),
        Self::Flood("D1-slow", Kind::SlowReset),
        Self::Flood("D2", Kind::MadeYouReset),
        Self::Flood("D3", Kind::Continuation),
        Self::Flood("D4", Kind::EmptyData),
        Self::Flood("D5", Kind::Ping),
        Self::Flood("D6", Kind::Settings),
        Self::Flood("D7-priority", Kind::Priority),
        Self::Flood("D7-window", Kind::WindowUpdate),
        Self::Flood("D7-unknown", Kind::Unknown),
        Self::Flood("D8", Kind::HpackBomb),
        Self::Silent,
        Self::Handshakes,
        Self::Streams,
        Self::NeverReads,
        Self::Oversized,
        Self::Herd,
        Self::Webhooks,
        Self::UnknownKeys,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Flood(name, _) => name,
            Self::Silent => "D9",
            Self::Handshakes => "D10",
            Self::Streams => "D11",
            Self::NeverReads => "D12",
            Self::Oversized => "D13",
            Self::Herd => "D14",
            Self::Webhooks => "D15",
            Self::UnknownKeys => "D16",
        }
    }

    pub(super) fn is_on_tls(self) -> bool {
        self == Self::Handshakes
    }
}

/// What an attacker saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) connections: u64,
    /// How many ended in which way.
    pub(super) ends: String,
    /// Of those that the server ended.
    pub(super) longest_seconds: f64,
    /// Whether any was held until time was up.
    pub(super) open_at_the_end: bool,
    pub(super) megabytes_sent: f64,
    pub(super) cpu_seconds: f64,
}

#[derive(Default)]
struct Seen {
    connections: u64,
    ends: BTreeMap<String, u64>,
    longest: Duration,
    is_open: bool,
    sent: u64,
}

/// Attacks until time is up and prints what it saw.
#[expect(clippy::print_stdout, reason = "the parent reads this line")]
pub(crate) async fn attack(args: AttackerArgs) -> anyhow::Result<()> {
    let chosen = Attack::ALL
        .into_iter()
        .find(|one| one.name() == args.attack);
    let Some(attack) = chosen else {
        anyhow::bail!("no such attack");
    };
    let attacker = Arc::new(Attacker {
        attack,
        server: args.server,
        webhooks: args.webhooks,
        bearer: format!("Bearer {}", args.token),
        until: Instant::now() + Duration::from_secs(args.seconds),
        number: AtomicU32::new(0),
        seen: Mutex::default(),
    });
    let is_silent = matches!(attack, Attack::Silent | Attack::Handshakes);
    let workers = if is_silent { SILENT_WORKERS } else { WORKERS };
    let mut working = JoinSet::new();
    for _ in 0..workers {
        working.spawn(Arc::clone(&attacker).work());
    }
    working.join_all().await;
    let cpu = machine::cpu_time(std::process::id())?;
    let seen = attacker.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let ends = seen
        .ends
        .iter()
        .map(|(end, count)| format!("{count} {end}"));
    let report = Report {
        connections: seen.connections,
        ends: ends.collect::<Vec<_>>().join(", "),
        longest_seconds: seen.longest.as_secs_f64(),
        open_at_the_end: seen.is_open,
        megabytes_sent: seen.sent as f64 / 1e6,
        cpu_seconds: cpu.as_secs_f64(),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Burns its share of a core in pieces of ten milliseconds.
pub(crate) async fn burn(args: BurnerArgs) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let piece = Duration::from_millis(10);
    while Instant::now() < end {
        let began = Instant::now();
        while began.elapsed() < piece.mul_f64(args.share) {
            std::hint::spin_loop();
        }
        tokio::time::sleep(piece.saturating_sub(began.elapsed())).await;
    }
    Ok(())
}

struct Attacker {
    attack: Attack,
    server: SocketAddr,
    webhooks: SocketAddr,
    bearer: String,
    until: Instant,
    /// Of the next connection.
    number: AtomicU32,
    seen: Mutex<Seen>,
}

impl Attacker {
    async fn work(self: Arc<Self>) {
        while Instant::now() < self.until {
            let began = Instant::now();
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let (end, sent) = match self.connect(number).await {
                Ok(socket) => self.use_up(socket, number).await,
                Err(_) => (End::Closed, 0),
            };
            let lasted = began.elapsed();
            self.note(end, lasted, sent);
            if lasted < PAUSE {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn note(&self, end: End, lasted: Duration, sent: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match end {
            End::GoAway(code) => format!("GOAWAY {code}"),
            End::Closed => "closed".to_owned(),
            End::Open => "left".to_owned(),
        };
        seen.connections += 1;
        *seen.ends.entry(name).or_default() += 1;
        seen.sent += sent;
        match end {
            // It left by itself, or was held to the end.
            End::Open => seen.is_open |= Instant::now() >= self.until,
            End::GoAway(_) | End::Closed => seen.longest = seen.longest.max(lasted),
        }
    }

    /// One address for all of them; a herd has many.
    async fn connect(&self, number: u32) -> std::io::Result<TcpStream> {
        let port = u16::try_from(1_024 + number % 60_000).unwrap_or(1_024);
        if self.attack == Attack::Webhooks {
            return TcpStream::connect(self.webhooks).await;
        }
        let address = match self.attack == Attack::Herd {
            true => Ipv4Addr::from_bits(0xc612_0000 + number % 0x1_0000),
            false => Ipv4Addr::new(203, 0, 113, 7),
        };
        let client = SocketAddr::from((address, port));
        if self.attack != Attack::NeverReads {
            return raw::connect(self.server, Some(client)).await;
        }
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4_096)?;
        let mut socket = socket.connect(self.server).await?;
        socket.write_all(&raw::proxied(client, self.server)).await?;
        Ok(socket)
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Attacks over one connection, until it ends.
    async fn use_up(&self, socket: TcpStream, number: u32) -> (End, u64) {
        match self.attack {
            Attack::Flood(_, kind) => {
                let mut flooder = Flooder::new(kind, GET, Some(&self.bearer));
                let first = flooder.first();
                self.flood(socket, &first, || flooder.next()).await
            }
            Attack::Silent => self.hold(socket, b"").await,
            Attack::Handshakes => {
                self.hold(socket, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
                    .await
            }
            Attack::Streams => self.many_streams(socket).await,
            Attack::NeverReads => self.never_read(socket).await,
            Attack::Oversized => {
                let call = raw::call(GET, Some(&self.bearer));
                let announced = [&[0, 4, 0, 0, 0][..], &[0; 4_000]].concat();
                let mut stream = 1;
                let next = || {
                    stream += 2;
                    let head = frame(raw::HEADERS, raw::END_HEADERS, stream, &call);
                    [head, frame(raw::DATA, 0, stream, &announced)].concat()
                };
                self.flood(socket, &raw::greeting(&[]), next).await
            }
            Attack::Herd => self.ask_once(socket).await,
            Attack::Webhooks => self.notify(socket, number).await,
            Attack::UnknownKeys => {
                let mut stream = 1;
                let next = || {
                    stream += 2;
                    let head =
                        format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{number}-{stream}"}}"#);
                    let token = format!("Bearer {}.e30.{}", encoded(&head), "A".repeat(86));
                    let call = raw::call(GET, Some(&token));
                    let message = raw::message(false, b"");
                    [
                        frame(raw::HEADERS, raw::END_HEADERS, stream, &call),
                        frame(raw::DATA, raw::END_STREAM, stream, &message),
                    ]
                    .concat()
                };
                self.flood(socket, &raw::greeting(&[]), next).await
            }
        }
    }

    async fn flood(
        &self,
        socket: TcpStream,
        first: &[u8],
        next: impl FnMut() -> Vec<u8>,
    ) -> (End, u64) {
        let flood = raw::flood(socket, first, next, self.left()).await;
        (flood.end, flood.sent)
    }

    /// Says this and nothing more.
    async fn hold(&self, mut socket: TcpStream, said: &[u8]) -> (End, u64) {
        let _ = socket.write_all(said).await;
        match tokio::time::timeout(self.left(), raw::ended(socket)).await {
            Ok(end) => (end, 0),
            Err(_) => (End::Open, 0),
        }
    }

    async fn many_streams(&self, socket: TcpStream) -> (End, u64) {
        let call = raw::call(WATCH, Some(&self.bearer));
        let mut stream = 1;
        let mut sent = raw::greeting(&[]);
        for _ in 0..2_000 {
            sent.extend(frame(raw::HEADERS, raw::END_HEADERS, stream, &call));
            let message = raw::message(false, b"");
            sent.extend(frame(raw::DATA, raw::END_STREAM, stream, &message));
            stream += 2;
        }
        let (read, mut write) = socket.into_split();
        let _ = write.write_all(&sent).await;
        let held = self.left().min(Duration::from_secs(5));
        let end = tokio::time::timeout(held, raw::ended(read)).await;
        (end.unwrap_or(End::Open), sent.len() as u64)
    }

    async fn never_read(&self, mut socket: TcpStream) -> (End, u64) {
        let widest = raw::greeting(&[(4, 0x7fff_ffff)]);
        let all = frame(raw::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        let call = raw::call(HEALTH, None);
        let (mut stream, mut sent) = (1, 0);
        let asks = async {
            let mut next = [widest, all].concat();
            while socket.write_all(&next).await.is_ok() {
                sent += next.len() as u64;
                next.clear();
                for _ in 0..64 {
                    next.extend(frame(raw::HEADERS, raw::END_HEADERS, stream, &call));
                    let message = raw::message(false, b"");
                    next.extend(frame(raw::DATA, raw::END_STREAM, stream, &message));
                    stream += 2;
                }
            }
        };
        let end = match tokio::time::timeout(self.left(), asks).await {
            Ok(()) => End::Closed,
            Err(_) => End::Open,
        };
        (end, sent)
    }

    async fn ask_once(&self, mut socket: TcpStream) -> (End, u64) {
        let call = raw::call(GET, Some(&self.bearer));
        let sent = [
            raw::greeting(&[]),
            frame(raw::HEADERS, raw::END_HEADERS, 1, &call),
            frame(raw::DATA, raw::END_STREAM, 1, &raw::message(false, b"")),
        ]
        .concat();
        let _ = socket.write_all(&sent).await;
        let answered = async {
            while let Ok((kind, flags, _, _)) = raw::next_frame(&mut socket).await {
                if kind == raw::HEADERS && flags & END == END {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(self.left(), answered).await;
        (End::Open, sent.len() as u64)
    }

    /// Forged notifications one after the other; every second connection sends a byte a second.
    async fn notify(&self, mut socket: TcpStream, number: u32) -> (End, u64) {
        let body = format!(r#"{{"signedPayload":"a.{number}.c"}}"#);
        let head = "POST /webhooks/app-store HTTP/1.1\r\nhost: a\r\ncontent-length: ";
        let whole = format!("{head}{}\r\n\r\n{body}", body.len());
        let announced = format!("{head}99999999\r\n\r\n");
        let mut sent = 0;
        let (mut read, mut write) = socket.split();
        let writes = async {
            let (first, pause) = match number % 2 {
                0 => (whole.as_str(), Duration::ZERO),
                _ => (announced.as_str(), Duration::from_secs(1)),
            };
            let mut next = first;
            while write.write_all(next.as_bytes()).await.is_ok() {
                sent += next.len() as u64;
                if number % 2 == 1 {
                    next = "a";
                }
                tokio::time::sleep(pause).await;
            }
        };
        let reads = async {
            let mut answers = vec![0; 16 * 1_024];
            while let Ok(1..) = read.read(&mut answers).await {}
        };
        let both = async {
            tokio::select! { () = writes => {}, () = reads => {} }
        };
        let end = match tokio::time::timeout(self.left(), both).await {
            Ok(()) => End::Closed,
            Err(_) => End::Open,
        };
        (end, sent)
    }
}

/// Base64 for URLs, without padding.
fn encoded(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut written = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let of = |index: usize| chunk.get(index).copied().unwrap_or_default();
        let bits = u32::from_be_bytes([0, of(0), of(1), of(2)]);
        for place in 0..=chunk.len() {
            let letter = bits >> (18 - 6 * place) & 0x3f;
            written.extend(LETTERS.get(letter as usize).map(|byte| char::from(*byte)));
        }
    }
    written
}
