//! The accept loop: nobody waits for who says nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use super::address::{AddressClass, TrustedProxies};
use super::places::{Place, Places, Refused};
use super::proxy_protocol;
use super::socket::{Held, Socket};
use super::tls::Tls;
use crate::config::limits::LimitsConfig;

/// Connections that have not said anything yet; beyond it the oldest of them goes.
const SILENT_MAX: usize = 4_096;
/// Descriptors that connections leave to the database, the stores and files.
const DESCRIPTORS_LEFT: u64 = 512;
/// Out of descriptors: wait for some to close rather than spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the listeners of a process share.
pub(crate) struct Edge {
    proxies: TrustedProxies,
    /// Whether every connection comes from a trusted proxy, which names its client first.
    proxy_protocol: bool,
    tls: Option<Tls>,
    places: Places,
    all: Arc<Semaphore>,
    greeted_within: Duration,
    stalled_max: Duration,
    silent: Mutex<Silent>,
}

impl Edge {
    pub(crate) fn new(
        limits: &LimitsConfig,
        proxies: TrustedProxies,
        proxy_protocol: bool,
        tls: Option<Tls>,
    ) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let connections = match limits.connections {
            0 => connections_max(),
            given => usize::try_from(given).unwrap_or(usize::MAX),
        };
        Self {
            proxies,
            proxy_protocol,
            tls,
            places: Places::new(
                limits.connections_per_address,
                limits.connections_per_address_per_second,
            ),
            all: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            greeted_within: seconds(limits.greeting_seconds),
            stalled_max: seconds(limits.stalled_seconds),
            silent: Mutex::default(),
        }
    }

    /// The next connection that there is room for. It belongs to no runtime yet.
    pub(crate) async fn accept(self: &Arc<Self>, listener: &TcpListener) -> Arrived {
        loop {
            let accepted = listener.accept().await;
            match accepted.and_then(|(socket, peer)| Ok((socket.into_std()?, peer))) {
                Ok((socket, peer)) => {
                    if let Some(arrived) = self.admit(socket, peer) {
                        return arrived;
                    }
                }
                Err(error) => {
                    debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, socket: std::net::TcpStream, peer: SocketAddr) -> Option<Arrived> {
        let Ok(one_of_all) = Arc::clone(&self.all).try_acquire_owned() else {
            return refuse("full", peer);
        };
        // Behind a proxy its header comes first, and is waited for elsewhere.
        let place = match self.proxy_protocol {
            true => None,
            false => Some(self.place(peer, peer)?),
        };
        let making_room = Arc::new(Notify::new());
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.add(&making_room);
        Some(Arrived {
            socket,
            peer,
            place,
            one_of_all,
            making_room,
            edge: Arc::clone(self),
        })
    }

    /// A place for a client that `peer` speaks for; most speak for themselves.
    fn place(&self, peer: SocketAddr, client: SocketAddr) -> Option<Place> {
        let class = AddressClass::of(client.ip());
        let speaks_for_many = !class.is_public() || self.proxies.has(peer.ip().to_canonical());
        if client == peer && speaks_for_many {
            return Some(Places::uncounted());
        }
        match self.places.take(class, Instant::now()) {
            Ok(place) => Some(place),
            Err(Refused::TooMany) => refuse("address", client),
            Err(Refused::TooFast) => refuse("address_rate", client),
        }
    }
}

/// A connection that has not said anything yet.
pub(crate) struct Arrived {
    socket: std::net::TcpStream,
    peer: SocketAddr,
    place: Option<Place>,
    one_of_all: OwnedSemaphorePermit,
    /// Told if it must go for a newer one.
    making_room: Arc<Notify>,
    edge: Arc<Edge>,
}

impl Arrived {
    /// Waits for its greeting, on the runtime that is to serve it; none if it leaves, or takes too
    /// long, or is refused by what its proxy says.
    pub(crate) async fn open(self) -> Option<Socket> {
        let (peer, within) = (self.peer, self.edge.greeted_within);
        let making_room = Arc::clone(&self.making_room);
        tokio::select! {
            greeted = tokio::time::timeout(within, self.greeted()) => match greeted {
                Ok(socket) => socket,
                Err(_) => refuse("greeting", peer),
            },
            () = making_room.notified() => refuse("silent", peer),
        }
    }

    async fn greeted(self) -> Option<Socket> {
        let Self {
            socket,
            peer,
            place,
            one_of_all,
            making_room,
            edge,
        } = self;
        let mut socket = TcpStream::from_std(socket).ok()?;
        let (client, place) = match place {
            Some(place) => (peer, place),
            None => {
                let client = edge.behind_proxy(&mut socket, peer).await?;
                (client, edge.place(peer, client)?)
            }
        };
        let held = Held { place, one_of_all };
        let opened = Socket::open(socket, client, edge.tls.as_ref(), edge.stalled_max, held).await;
        // Until here it counts as silent.
        drop(making_room);
        opened
    }
}

impl Edge {
    /// Whom a proxy names in front of everything else.
    async fn behind_proxy(&self, socket: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        if !self.proxies.has(peer.ip().to_canonical()) {
            return refuse("not_a_proxy", peer);
        }
        match proxy_protocol::client(socket).await {
            Ok(named) => Some(named.unwrap_or(peer)),
            Err(_) => refuse("proxy_header", peer),
        }
    }
}

/// Connections that have said nothing yet, the oldest first.
#[derive(Default)]
struct Silent(VecDeque<Weak<Notify>>);

impl Silent {
    /// Makes room among them: who greets does so at once, and the oldest most likely never will.
    fn add(&mut self, newest: &Arc<Notify>) {
        while self.0.front().is_some_and(|one| one.strong_count() == 0) {
            self.0.pop_front();
        }
        if self.0.len() >= SILENT_MAX {
            self.0.retain(|one| one.strong_count() > 0);
        }
        if self.0.len() >= SILENT_MAX
            && let Some(oldest) = self.0.pop_front().and_then(|one| one.upgrade())
        {
            oldest.notify_one();
        }
        self.0.push_back(Arc::downgrade(newest));
    }
}

fn refuse<T>(why: &'static str, whom: SocketAddr) -> Option<T> {
    debug!(client = %whom, why, "a connection is refused");
    metrics::counter!("entitled_connections_refused_total", "why" => why).increment(1);
    None
}

/// As many as the process may have descriptors, but some: as many as it may have at all are asked
/// for first.
fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = DESCRIPTORS_LEFT.min(descriptors / 4);
    usize::try_from(descriptors - left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_many_silent_ones_goes_and_who_has_greeted_stays() {
        let mut silent = Silent::default();
        let mut waiting: Vec<Arc<Notify>> = Vec::new();
        for _ in 0..SILENT_MAX {
            let one = Arc::new(Notify::new());
            silent.add(&one);
            waiting.push(one);
        }
        // Somewhere in between one has greeted: there is room for one more.
        drop(waiting.remove(100));
        let told = |one: &Arc<Notify>| futures::FutureExt::now_or_never(one.notified()).is_some();
        let newer = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        silent.add(&newer[0]);
        assert!(!told(&waiting[0]));
        silent.add(&newer[1]);
        assert!(told(&waiting[0]));
        assert!(!told(&waiting[1]));
        assert_eq!(silent.0.len(), SILENT_MAX);
    }
}
