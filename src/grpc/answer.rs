//! What a connection sends back: a warm answer that is whole already, or whatever a handler says.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::untaken::Open;
use super::warm;

/// Smaller than what h2 copies behind its other frames: many answers leave in one write. A larger
/// frame would be written for itself.
const FRAME_BYTES_MAX: usize = 1_000;

/// The body of an answer.
pub(super) enum Answer {
    /// A message in its frame; status `OK` follows.
    Warm {
        /// What is left of it.
        message: Bytes,
        is_over: bool,
        /// Until it is taken.
        _open: Open,
    },
    /// A handler's; counted until it is taken, if it is no stream.
    Handled(
        Body,
        #[expect(dead_code, reason = "it is held")] Option<Open>,
    ),
}

impl Answer {
    /// The response that this message is.
    pub(super) fn warm(message: Bytes, open: Open) -> http::Response<Self> {
        let mut response = http::Response::new(Self::Warm {
            message,
            is_over: false,
            _open: open,
        });
        *response.headers_mut() = warm::headers();
        response
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::Handled(body, _) => Pin::new(body).poll_frame(context),
            Self::Warm { is_over: true, .. } => Poll::Ready(None),
            Self::Warm {
                message, is_over, ..
            } if message.is_empty() => {
                *is_over = true;
                Poll::Ready(Some(Ok(Frame::trailers(warm::trailers()))))
            }
            Self::Warm { message, .. } => {
                let next = message.split_to(message.len().min(FRAME_BYTES_MAX));
                Poll::Ready(Some(Ok(Frame::data(next))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Warm { is_over, .. } => *is_over,
            Self::Handled(body, _) => body.is_end_stream(),
        }
    }

    /// Of a warm answer nothing is told: a length would be one more header.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Warm { .. } => SizeHint::default(),
            Self::Handled(body, _) => body.size_hint(),
        }
    }
}

/// A body of which something has been read already.
pub(super) struct Resumed<B> {
    /// What has been read.
    pub(super) first: Bytes,
    pub(super) rest: B,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Resumed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(context);
        }
        let first = std::mem::take(&mut self.first);
        Poll::Ready(Some(Ok(Frame::data(first))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }

    /// Nobody needs to know.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
