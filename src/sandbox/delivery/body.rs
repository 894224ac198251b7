//! A request body on a bad line: it takes its time, or ends in the middle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::Sleep;

/// The second half of a body.
enum Rest {
    /// Comes after a pause.
    Late(Bytes, Pin<Box<Sleep>>),
    /// Never comes: the connection ends.
    Lost,
    /// Is out.
    Sent,
}

/// A body whose length is announced in full and that arrives in two halves, if at all.
pub(super) struct BadLine {
    first: Option<Bytes>,
    rest: Rest,
    left: u64,
}

impl BadLine {
    /// Pauses in the middle.
    pub(super) fn slow(body: String, pause: Duration) -> Self {
        let left = body.len() as u64;
        let mut first = Bytes::from(body);
        let rest = first.split_off(first.len() / 2);
        Self {
            first: Some(first),
            rest: Rest::Late(rest, Box::pin(tokio::time::sleep(pause))),
            left,
        }
    }

    /// Ends in the middle.
    pub(super) fn cut(body: String) -> Self {
        let left = body.len() as u64;
        let mut first = Bytes::from(body);
        first.truncate(first.len() / 2);
        Self {
            first: Some(first),
            rest: Rest::Lost,
            left,
        }
    }

    fn out(&mut self, part: Bytes) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.left = self.left.saturating_sub(part.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}

impl Body for BadLine {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(first) = self.first.take() {
            return self.out(first);
        }
        match &mut self.rest {
            Rest::Late(rest, pause) => {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let rest = std::mem::take(rest);
                self.rest = Rest::Sent;
                self.out(rest)
            }
            Rest::Lost => {
                let cut = io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose");
                Poll::Ready(Some(Err(cut)))
            }
            Rest::Sent => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
