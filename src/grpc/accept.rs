//! The accept loop: the edge says who may become a connection, and a thread serves it.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::connection::Connections;
use super::threads::ConnectionThreads;
use crate::edge::Edge;

/// Accepts until it is dropped, which closes the listener. Each socket's handshake and greeting, and
/// then its requests, are its thread's work.
pub(super) async fn accept(
    listener: TcpListener,
    edge: &Arc<Edge>,
    threads: &ConnectionThreads,
    connections: Arc<Connections>,
) {
    loop {
        let arrived = edge.accept(&listener).await;
        let connections = Arc::clone(&connections);
        let ended = connections.track();
        threads.serve(async move {
            let _ended = ended;
            if let Some(socket) = arrived.open().await {
                connections.serve(socket).await;
            }
        });
    }
}
