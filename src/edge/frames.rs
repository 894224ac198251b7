//! Counts the HTTP/2 frames of a connection that cost us work and bring nobody anything.
//!
//! h2 bounds what a peer makes it remember (headers, resets it has to send, empty DATA); it answers
//! any number of PINGs and SETTINGS. Only heads of frames are looked at, while their bytes pass.
//! Useful frames earn the others: a client that measures its line by a PING for each answer is as
//! welcome with a thousand answers a second as with one.

use std::time::Instant;

const HEAD_BYTES: usize = 9;

/// What a connection may do at once before only its earnings count.
const CONTROL_BURST: f32 = 1_024.0;
/// Control frames per second that need no earning: SETTINGS at the start, keepalives.
const CONTROL_PER_SECOND: f32 = 10.0;
/// Control frames that one useful frame of either side pays for: a PING, and the windows of a
/// stream and of the connection, with one to spare.
const EARNED: f32 = 4.0;
/// A peer has a few settings to change at its start, and windows to adapt now and then.
const SETTINGS_BURST: f32 = 100.0;
const SETTINGS_PER_SECOND: f32 = 1.0;
/// Who cancels as many as this, and goes on with as many each second, works for nobody. An honest
/// backend whose deadlines all pass at once stays below the first.
const RESETS_BURST: f32 = 2_048.0;
const RESETS_PER_SECOND: f32 = 200.0;

/// What a connection did too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misuse {
    Control,
    Settings,
    Resets,
}

impl Misuse {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control_frames",
            Self::Settings => "settings",
            Self::Resets => "resets",
        }
    }
}

/// Counts both directions of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    inbound: Cursor,
    outbound: Cursor,
    control: Bucket,
    settings: Bucket,
    resets: Bucket,
    /// Whether the peer has ever asked for anything.
    pub(super) asked: bool,
}

/// How far a reader of the peer's bytes may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    All,
    /// So many bytes end a frame, and nothing after them is to be read.
    Until(usize, Misuse),
}

impl Meter {
    /// `preface`: bytes that come before the first frame.
    pub(super) fn new(preface: usize, now: Instant) -> Self {
        Self {
            inbound: Cursor::after(preface),
            outbound: Cursor::after(0),
            control: Bucket::full(CONTROL_BURST, CONTROL_PER_SECOND, now),
            settings: Bucket::full(SETTINGS_BURST, SETTINGS_PER_SECOND, now),
            resets: Bucket::full(RESETS_BURST, RESETS_PER_SECOND, now),
            asked: false,
        }
    }

    /// Bytes of the peer. Once it has done too much, what it sends after that frame is cut off.
    pub(super) fn received(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Passed {
        let Self {
            inbound,
            control,
            settings,
            resets,
            asked,
            ..
        } = self;
        inbound.advance(bytes, |head| {
            let (bucket, misuse) = match head.kind() {
                Kind::Useful => {
                    *asked = true;
                    control.earn(EARNED);
                    return None;
                }
                Kind::Part => return None,
                Kind::Settings => (&mut *settings, Misuse::Settings),
                Kind::Reset => (&mut *resets, Misuse::Resets),
                Kind::Control => (&mut *control, Misuse::Control),
            };
            (!bucket.take(&now)).then_some(misuse)
        })
    }

    /// Bytes of ours.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let control = &mut self.control;
        self.outbound.advance(bytes, |head| {
            if head.kind() == Kind::Useful {
                control.earn(EARNED);
            }
            None
        });
    }
}

/// Tokens that time refills; the clock is read only when they are out.
#[derive(Debug)]
struct Bucket {
    left: f32,
    max: f32,
    per_second: f32,
    since: Instant,
}

impl Bucket {
    const fn full(max: f32, per_second: f32, since: Instant) -> Self {
        Self {
            left: max,
            max,
            per_second,
            since,
        }
    }

    fn earn(&mut self, tokens: f32) {
        self.left = (self.left + tokens).min(self.max);
    }

    fn take(&mut self, now: &impl Fn() -> Instant) -> bool {
        if self.left < 1.0 {
            let now = now();
            let passed = now.saturating_duration_since(self.since).as_secs_f32();
            self.since = now;
            self.earn(passed * self.per_second);
        }
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// Where in its frames one direction is.
#[derive(Debug)]
struct Cursor {
    head: [u8; HEAD_BYTES],
    /// Bytes of the head that are there.
    filled: usize,
    /// Bytes until the next head.
    left: usize,
    over: Option<Misuse>,
}

/// The first bytes of a frame: its length, type, flags and stream.
struct Head([u8; HEAD_BYTES]);

/// What a frame is to us.
#[derive(PartialEq, Eq)]
enum Kind {
    /// A request's head, or data: the work itself.
    Useful,
    /// What goes on with a head; h2 bounds it.
    Part,
    Settings,
    Reset,
    /// PING, PRIORITY, WINDOW_UPDATE, empty DATA, and what nobody knows.
    Control,
}

impl Head {
    fn kind(&self) -> Kind {
        let [l0, l1, l2, kind, flags, ..] = self.0;
        let is_empty = [l0, l1, l2] == [0, 0, 0];
        match kind {
            // Empty DATA says something only at a stream's end.
            0x0 if is_empty && flags & 0x1 == 0 => Kind::Control,
            0x0 | 0x1 => Kind::Useful,
            0x3 => Kind::Reset,
            // What answers our own settings is asked for.
            0x4 if flags & 0x1 != 0 => Kind::Part,
            0x4 => Kind::Settings,
            0x9 => Kind::Part,
            _ => Kind::Control,
        }
    }

    fn length(&self) -> usize {
        let [l0, l1, l2, ..] = self.0;
        usize::try_from(u32::from_be_bytes([0, l0, l1, l2])).unwrap_or(usize::MAX)
    }
}

impl Cursor {
    const fn after(bytes: usize) -> Self {
        Self {
            head: [0; HEAD_BYTES],
            filled: 0,
            left: bytes,
            over: None,
        }
    }

    /// Goes over `bytes`, showing each head; after a frame that `charge` objects to, no further one.
    fn advance(&mut self, bytes: &[u8], mut charge: impl FnMut(&Head) -> Option<Misuse>) -> Passed {
        let mut at = 0;
        loop {
            let skipped = self.left.min(bytes.len() - at);
            at += skipped;
            self.left -= skipped;
            if let (0, 0, Some(misuse)) = (self.left, self.filled, self.over) {
                return Passed::Until(at, misuse);
            }
            if at == bytes.len() {
                return Passed::All;
            }
            let taken = (HEAD_BYTES - self.filled).min(bytes.len() - at);
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[at..at + taken]);
            at += taken;
            self.filled += taken;
            if self.filled == HEAD_BYTES {
                let head = Head(self.head);
                self.filled = 0;
                self.left = head.length();
                self.over = charge(&head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: (u8, u8, usize) = (0x6, 0, 8);
    const HEADERS: (u8, u8, usize) = (0x1, 0x4, 30);
    const RESET: (u8, u8, usize) = (0x3, 0, 4);
    const SETTINGS: (u8, u8, usize) = (0x4, 0, 6);
    const PRIORITY: (u8, u8, usize) = (0x2, 0, 5);
    const WINDOW_UPDATE: (u8, u8, usize) = (0x8, 0, 4);
    const EMPTY_DATA: (u8, u8, usize) = (0x0, 0, 0);
    const UNKNOWN: (u8, u8, usize) = (0xbe, 0, 100);

    fn frame((kind, flags, length): (u8, u8, usize)) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap_or_default().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEAD_BYTES + length, 0xff);
        bytes
    }

    /// How many of these frames pass on a connection of its own, at most `tried`.
    fn pass(frames: &[(u8, u8, usize)], tried: usize) -> (usize, Option<Misuse>) {
        let now = Instant::now();
        let mut meter = Meter::new(0, now);
        for passed in 0..tried {
            for one in frames {
                if let Passed::Until(_, misuse) = meter.received(&frame(*one), || now) {
                    return (passed, Some(misuse));
                }
            }
        }
        (tried, None)
    }

    #[test]
    fn a_flood_of_what_asks_for_nothing_ends() {
        for control in [PING, PRIORITY, WINDOW_UPDATE, EMPTY_DATA, UNKNOWN] {
            assert_eq!(
                pass(&[control], 10_000),
                (1_024, Some(Misuse::Control)),
                "{control:?}"
            );
        }
        assert_eq!(pass(&[SETTINGS], 10_000), (100, Some(Misuse::Settings)));
        let reset = pass(&[HEADERS, RESET], 10_000);
        assert_eq!(reset, (2_048, Some(Misuse::Resets)));
    }

    #[test]
    fn requests_pay_for_what_clients_do_beside_them() {
        let busy = [HEADERS, PING, WINDOW_UPDATE, WINDOW_UPDATE];
        assert_eq!(pass(&busy, 100_000), (100_000, None));
        assert_eq!(pass(&[HEADERS], 100_000), (100_000, None));
        // A watcher asks once and answers each push with a measurement.
        let now = Instant::now();
        let mut meter = Meter::new(0, now);
        for _ in 0..100_000 {
            meter.sent(&frame((0x0, 0, 60)));
            let ping = meter.received(&frame(PING), || now);
            assert_eq!(ping, Passed::All);
        }
        // Our own answers to a flood earn it nothing.
        let mut meter = Meter::new(0, now);
        let flood = (0..2_000).find(|_| {
            meter.sent(&frame((0x6, 0x1, 8)));
            meter.received(&frame(PING), || now) != Passed::All
        });
        assert_eq!(flood, Some(1_024));
    }

    #[test]
    fn time_forgives() {
        let start = Instant::now();
        let mut meter = Meter::new(0, start);
        for _ in 0..2_048 {
            assert_eq!(meter.received(&frame(RESET), || start), Passed::All);
        }
        let later = start + Duration::from_secs(1);
        for _ in 0..200 {
            assert_eq!(meter.received(&frame(RESET), || later), Passed::All);
        }
        assert_ne!(meter.received(&frame(RESET), || later), Passed::All);
    }

    #[test]
    fn frames_are_found_however_their_bytes_arrive_and_the_cut_is_between_two() {
        let now = Instant::now();
        let preface = 24;
        let frames = [
            vec![b'P'; preface],
            frame(SETTINGS),
            frame(PING).repeat(1_025),
        ]
        .concat();
        let whole = [frames, frame(HEADERS).repeat(3)].concat();
        let cut = preface + frame(SETTINGS).len() + frame(PING).len() * 1_025;
        for pieces in [1, 2, 7, 9, 4_096, whole.len()] {
            let mut meter = Meter::new(preface, now);
            let mut read = 0;
            let ended =
                whole
                    .chunks(pieces)
                    .find_map(|piece| match meter.received(piece, || now) {
                        Passed::All => {
                            read += piece.len();
                            None
                        }
                        Passed::Until(bytes, misuse) => Some((read + bytes, misuse)),
                    });
            assert_eq!(ended, Some((cut, Misuse::Control)), "in pieces of {pieces}");
        }
    }
}
