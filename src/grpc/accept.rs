//! The accept loop: who may become a connection. Silent ones are closed, and there are never many.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::debug;

use super::connection::Connections;
use super::socket::Socket;
use super::threads::ConnectionThreads;

/// Sockets that have not said anything yet.
const SILENT_SOCKETS_MAX: usize = 4_096;
/// For TLS, and the start of the first request.
const GREETED_WITHIN: Duration = Duration::from_secs(10);

/// Accepts until it is dropped, which closes the listener. Each socket's handshake and greeting, and
/// then its requests, are its thread's work.
pub(super) async fn accept(
    listener: TcpListener,
    threads: &ConnectionThreads,
    connections: Arc<Connections>,
) {
    let silent = Arc::new(Semaphore::new(SILENT_SOCKETS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&silent).acquire_owned().await else {
            return;
        };
        let socket = match accepted(&listener).await {
            Ok(socket) => socket,
            Err(error) => {
                // Out of descriptors: wait for some to close rather than spin.
                debug!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connections = Arc::clone(&connections);
        let ended = connections.track();
        threads.serve(async move {
            let _ended = ended;
            let open = async {
                // From here on it is this thread's.
                let socket = TcpStream::from_std(socket).ok()?;
                Socket::open(socket, connections.tls()).await
            };
            let greeted = tokio::time::timeout(GREETED_WITHIN, open).await;
            drop(permit);
            if let Ok(Some(socket)) = greeted {
                connections.serve(socket).await;
            }
        });
    }
}

/// The next socket, belonging to no runtime yet.
async fn accepted(listener: &TcpListener) -> io::Result<std::net::TcpStream> {
    let (socket, _) = listener.accept().await?;
    socket.into_std()
}
