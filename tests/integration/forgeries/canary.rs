//! An address that nobody may ever connect to, and one that leads there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Counts who connects.
pub(super) struct Canary {
    pub(super) url: String,
    visits: Arc<AtomicU32>,
}

impl Canary {
    /// Answers nobody.
    pub(super) async fn set() -> Self {
        Self::answering(String::new()).await
    }

    /// Sends whoever comes to `target`, at the same path and with the same method.
    pub(super) async fn redirecting(target: &str) -> Self {
        Self::answering(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: {target}\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n"
        ))
        .await
    }

    async fn answering(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let visits = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&visits);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = socket.read(&mut request).await;
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, visits }
    }

    pub(super) fn visits(&self) -> u32 {
        self.visits.load(Ordering::SeqCst)
    }
}
