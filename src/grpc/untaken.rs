//! Answers that nobody takes. Over HTTP/2 a client that opens no window leaves its answer here for
//! as long as its connection lives, at no cost to itself; hyper asks such an answer for nothing, so
//! only the connection can end it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{Response, header};
use hyper::body::Body as _;
use prost_reflect::DescriptorPool;
use tonic::body::Body;

use crate::proto;

/// The answers of one connection that are not taken whole, counted by the turn in which they began.
#[derive(Clone, Debug, Default)]
pub(super) struct Untaken(Arc<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// The one that runs, and the one before.
    open: [AtomicU32; 2],
    now: AtomicUsize,
}

/// An answer that is not taken yet.
#[derive(Debug)]
pub(super) struct Open(Untaken, usize);

impl Untaken {
    /// An answer begins; it is taken when this is dropped.
    pub(super) fn begin(&self) -> Open {
        let turn = self.0.now.load(Ordering::Relaxed) % 2;
        self.0.open[turn].fetch_add(1, Ordering::Relaxed);
        Open(self.clone(), turn)
    }

    /// Counts an answer until what this gives is dropped; a stream takes as long as it takes.
    pub(super) fn count(&self, path: &str, answer: &Response<Body>) -> Option<Open> {
        let is_counted = !answer.body().is_end_stream() && !is_stream(path, answer);
        is_counted.then(|| self.begin())
    }

    /// Returns once an answer was not taken for a turn, and twice as long at most.
    pub(super) async fn overdue(&self, turn: Duration) {
        let turns = &self.0;
        loop {
            tokio::time::sleep(turn).await;
            let next = (turns.now.load(Ordering::Relaxed) + 1) % 2;
            if turns.open[next].load(Ordering::Relaxed) > 0 {
                metrics::counter!("entitled_connections_cut_total", "why" => "untaken")
                    .increment(1);
                return;
            }
            turns.now.store(next, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self(untaken, turn) = self;
        untaken.0.open[*turn].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a call is answered with a stream: by the schema, or as JSON's events.
fn is_stream(path: &str, answer: &Response<Body>) -> bool {
    static STREAMS: LazyLock<HashSet<String>> = LazyLock::new(streams);
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value == "text/event-stream") || STREAMS.contains(path)
}

fn streams() -> HashSet<String> {
    let schemas = [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    ];
    let pools = schemas.map(|schema| DescriptorPool::decode(schema).unwrap_or_default());
    let services = pools.iter().flat_map(DescriptorPool::services);
    services
        .flat_map(|service| {
            let name = service.full_name().to_owned();
            let methods: Vec<_> = service.methods().collect();
            methods
                .into_iter()
                .filter(|method| method.is_server_streaming())
                .map(move |method| format!("/{name}/{}", method.name()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt as _;

    use super::*;

    const TURN: Duration = Duration::from_secs(30);

    fn answer() -> Response<Body> {
        let text = http_body_util::Full::new(Bytes::from_static(b"an answer"));
        Response::new(Body::new(text.map_err(|never| match never {})))
    }

    async fn is_overdue(untaken: &Untaken, within: Duration) -> bool {
        let overdue = untaken.overdue(TURN);
        tokio::time::timeout(within, overdue).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_lies_is_overdue_and_a_stream_never_is() {
        let untaken = Untaken::default();
        let taken = untaken.count("/a.B/C", &answer());
        assert!(taken.is_some());
        drop(taken);
        let watch = "/entitled.v1.EntitlementService/WatchEntitlements";
        let stream = untaken.count(watch, &answer());
        assert!(!is_overdue(&untaken, 10 * TURN).await);
        let lies = untaken.count("/a.B/C", &answer());
        assert!(!is_overdue(&untaken, TURN - Duration::from_secs(1)).await);
        assert!(is_overdue(&untaken, 3 * TURN).await);
        drop((stream, lies));
    }
}
