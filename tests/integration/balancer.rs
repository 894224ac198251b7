//! A TCP balancer, as stands in front of replicas and of databases: turns, no looking inside.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Listens on one address and hands connections to others in turn, until dropped.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    pool: Arc<Mutex<Pool>>,
    _stop: DropGuard,
}

struct Pool {
    places: Vec<SocketAddr>,
    /// Ends the connections that were made to them.
    cut: CancellationToken,
}

impl Balancer {
    pub(crate) async fn start(places: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let pool = Arc::new(Mutex::new(Pool {
            places,
            cut: stop.child_token(),
        }));
        let turn = Arc::new(AtomicUsize::new(0));
        let (accepting, pools) = (stop.clone(), Arc::clone(&pool));
        tokio::spawn(accepting.run_until_cancelled_owned(async move {
            loop {
                let (near, _) = listener.accept().await.expect("accepted");
                tokio::spawn(carry(near, Arc::clone(&pools), Arc::clone(&turn)));
            }
        }));
        Self {
            address,
            pool,
            _stop: stop.drop_guard(),
        }
    }

    /// From now on connections go elsewhere; those of before are cut.
    pub(crate) fn turn_to(&self, places: Vec<SocketAddr>) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.cut.cancel();
        *pool = Pool {
            places,
            cut: CancellationToken::new(),
        };
    }
}

/// To the next place that takes it; a place that is gone is skipped.
async fn carry(mut near: TcpStream, pool: Arc<Mutex<Pool>>, turn: Arc<AtomicUsize>) {
    let (places, cut) = {
        let pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        (pool.places.clone(), pool.cut.clone())
    };
    for _ in 0..places.len() {
        let place = places[turn.fetch_add(1, Ordering::Relaxed) % places.len()];
        if let Ok(mut far) = TcpStream::connect(place).await {
            let _ = near.set_nodelay(true);
            let _ = far.set_nodelay(true);
            cut.run_until_cancelled(copy_bidirectional(&mut near, &mut far))
                .await;
            return;
        }
    }
}
