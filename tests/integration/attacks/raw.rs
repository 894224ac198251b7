//! An HTTP/2 client that says whatever it is told to, frame by frame: no library would send this.
//! The bench's attackers are made of it, too.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A connection's beginning: the preface, and settings of this one's own.
pub fn greeting(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()
}

/// A head of `fields`, each as it is, in no table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x00);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A string of HPACK, without Huffman's code.
pub fn text(into: &mut Vec<u8>, text: &str) {
    number(into, 0x00, 7, text.len());
    into.extend(text.as_bytes());
}

/// A number of HPACK, behind the bits that `first` has set above its prefix.
pub fn number(into: &mut Vec<u8>, first: u8, prefix: u32, value: usize) {
    let max = (1_usize << prefix) - 1;
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if value < max {
        into.push(first | byte(value));
        return;
    }
    into.push(first | byte(max));
    let mut rest = value - max;
    while rest >= 128 {
        into.push(byte(rest % 128) | 0x80);
        rest /= 128;
    }
    into.push(byte(rest));
}

/// The head of a gRPC call.
pub fn call(path: &str, authorization: Option<&str>) -> Vec<u8> {
    let mut fields = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields.extend(authorization.map(|value| ("authorization", value)));
    block(&fields)
}

/// A gRPC message in its frame.
pub fn message(compressed: bool, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![u8::from(compressed)];
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    bytes
}

/// What a proxy says in front of a connection of `client`'s: PROXY protocol, version 2.
pub fn proxied(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let (SocketAddr::V4(client), SocketAddr::V4(server)) = (client, server) else {
        return Vec::new();
    };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend(client.ip().octets());
    header.extend(server.ip().octets());
    header.extend(client.port().to_be_bytes());
    header.extend(server.port().to_be_bytes());
    header
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Told to go away, with this code.
    GoAway(u32),
    /// Closed without a word.
    Closed,
    /// Not at all, as long as somebody waited.
    Open,
}

/// What became of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    pub end: End,
    pub after: Duration,
    /// Bytes that went out.
    pub sent: u64,
}

/// Sends `next` again and again, taking all answers, until the connection ends or time is up.
pub async fn flood(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    first: &[u8],
    mut next: impl FnMut() -> Vec<u8>,
    within: Duration,
) -> Flood {
    let began = Instant::now();
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = tokio::spawn(ended(read));
    let mut sent = 0;
    let mut is_writable = write.write_all(first).await.is_ok();
    let up = tokio::time::sleep(within);
    tokio::pin!(up);
    let end = loop {
        let chunk = next();
        let writing = async {
            match is_writable {
                true => write.write_all(&chunk).await,
                // Nothing more goes out: what came in is still to be read.
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            end = &mut reader => break end.unwrap_or(End::Closed),
            () = &mut up => {
                reader.abort();
                break End::Open;
            }
            written = writing => {
                is_writable = written.is_ok();
                sent += chunk.len() as u64;
            }
        }
    };
    Flood {
        end,
        after: began.elapsed(),
        sent,
    }
}

/// Reads until the end, and how it came about.
pub async fn ended(mut read: impl AsyncRead + Unpin) -> End {
    let mut end = End::Closed;
    while let Ok((kind, _, _, payload)) = next_frame(&mut read).await {
        if let (GOAWAY, Some(code)) = (kind, payload.get(4..8)) {
            let code = code.try_into().map_or(0, u32::from_be_bytes);
            // The last word counts: hyper's first one on the way out is none yet.
            end = End::GoAway(code);
        }
    }
    end
}

/// The next frame: kind, flags, stream and payload.
pub async fn next_frame(read: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await?;
    let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
    let length = u32::from_be_bytes([0, l0, l1, l2]);
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    read.read_exact(&mut payload).await?;
    Ok((kind, flags, u32::from_be_bytes([s0, s1, s2, s3]), payload))
}

/// A connection, as `client`'s behind a proxy if one is given.
pub async fn connect(server: SocketAddr, client: Option<SocketAddr>) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    if let Some(client) = client {
        stream.write_all(&proxied(client, server)).await?;
    }
    Ok(stream)
}
