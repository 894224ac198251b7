//! One connection of the door: bounded in time and in silence, so that who sends nothing makes room
//! for who has something to say.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use dashmap::DashMap;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Until the first request's head is there, and every further one over HTTP/1.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Between two requests over HTTP/2: a proxy keeps its connections for the next one.
const IDLE_MAX: Duration = Duration::from_secs(60);
const AGE_MAX: Duration = Duration::from_secs(10 * 60);
/// For what is in flight when a connection is told to end.
const FAREWELL: Duration = Duration::from_secs(10);
/// For the word that it ends, when nothing is.
const GOODBYE: Duration = Duration::from_secs(1);
/// Each may hold a body of the largest size.
const STREAMS_MAX: u32 = 16;
/// Of one public address. Behind a proxy all come from the proxy's, which is none.
const PER_PEER_MAX: u32 = 64;

/// Serves until the other side ends, has nothing more to say, or is told to go.
pub(super) async fn serve(socket: TcpStream, router: Router, stop: CancellationToken) {
    let requests = Arc::new(Requests::default());
    let counted = Arc::clone(&requests);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (router, busy) = (router.clone(), Busy::one(&counted));
        async move {
            let answer = router.oneshot(request).await;
            drop(busy);
            answer
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    // Whatever ends it: a connection that is cut is the store's to open again.
    let patience = tokio::select! {
        _ = connection.as_mut() => return,
        () = requests.silent() => GOODBYE,
        () = tokio::time::sleep(AGE_MAX) => FAREWELL,
        () = stop.cancelled() => FAREWELL,
    };
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(patience, connection).await;
}

/// The requests of one connection.
struct Requests(Mutex<State>);

struct State {
    in_flight: u32,
    /// Since when there is none in flight, and how long that may last.
    idle: (Instant, Duration),
}

impl Default for Requests {
    fn default() -> Self {
        Self(Mutex::new(State {
            in_flight: 0,
            idle: (Instant::now(), HEAD_WITHIN),
        }))
    }
}

impl Requests {
    /// Returns once nothing was asked for too long.
    async fn silent(&self) {
        loop {
            let left = {
                let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let (since, patience) = state.idle;
                match state.in_flight {
                    0 => patience.saturating_sub(since.elapsed()),
                    _ => patience,
                }
            };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}

/// A request in flight.
struct Busy(Arc<Requests>);

impl Busy {
    fn one(requests: &Arc<Requests>) -> Self {
        let mut state = requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight += 1;
        Self(Arc::clone(requests))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight -= 1;
        state.idle = (Instant::now(), IDLE_MAX);
    }
}

/// How many connections each public address holds.
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<DashMap<IpAddr, u32>>);

/// One of an address's connections.
pub(super) struct Place(Option<(Peers, IpAddr)>);

impl Peers {
    /// `None`: that address has as many as one may have.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        if !is_public(address) {
            return Some(Place(None));
        }
        let mut open = self.0.entry(address).or_insert(0);
        if *open >= PER_PEER_MAX {
            return None;
        }
        *open += 1;
        Some(Place(Some((self.clone(), address))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((peers, address)) = self.0.take() {
            if let Some(mut open) = peers.0.get_mut(&address) {
                *open -= 1;
            }
            peers.0.remove_if(&address, |_, open| *open == 0);
        }
    }
}

/// Not of this machine, and not of a network behind a proxy.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // 100.64.0.0/10: between a provider's machines.
            let shared = Ipv4Addr::from_bits(v4.to_bits() & 0xffc0_0000);
            let within = v4.is_loopback() || v4.is_private() || v4.is_link_local();
            !within && shared != Ipv4Addr::new(100, 64, 0, 0)
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_has_its_share_and_a_proxy_all() {
        let peers = Peers::default();
        let stranger: IpAddr = "203.0.113.7".parse().unwrap();
        let mapped: IpAddr = "::ffff:203.0.113.7".parse().unwrap();
        let mut places: Vec<Place> = (0..PER_PEER_MAX)
            .map(|_| peers.admit(stranger).unwrap())
            .collect();
        assert!(peers.admit(stranger).is_none());
        assert!(peers.admit(mapped).is_none(), "the same in other clothes");
        assert!(peers.admit("203.0.113.8".parse().unwrap()).is_some());
        places.pop();
        assert!(peers.admit(stranger).is_some());
        drop(places);
        assert!(peers.0.is_empty(), "nothing is remembered of who has left");
        for proxy in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.9",
            "100.100.0.1",
            "::1",
            "fd00::1",
        ] {
            let proxy: IpAddr = proxy.parse().unwrap();
            let many: Vec<_> = (0..=PER_PEER_MAX).map(|_| peers.admit(proxy)).collect();
            assert!(many.iter().all(Option::is_some), "{proxy}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_between_requests_only() {
        let requests = Arc::new(Requests::default());
        let busy = Busy::one(&requests);
        let silent = tokio::time::timeout(10 * IDLE_MAX, requests.silent()).await;
        assert!(silent.is_err(), "it is at work");
        drop(busy);
        requests.0.lock().unwrap().idle = (Instant::now(), Duration::ZERO);
        requests.silent().await;
    }
}
