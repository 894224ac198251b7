//! Threads that serve connections, each with a runtime to itself: what a connection needs is at hand
//! on one core, nothing is stolen from it and no lock is shared (docs/decisions/0021).
//!
//! A thread only moves bytes, TLS and frames, and gives warm answers. Handlers run on the runtime
//! that runs everything else.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The threads of one server. Dropped, they end, and what they serve is cut.
pub(crate) struct ConnectionThreads {
    threads: Vec<Thread>,
    /// For everything that is not a connection; serves them as well where there are no threads.
    main: Handle,
    end: CancellationToken,
}

struct Thread {
    runtime: Handle,
    /// Connections that it serves.
    serves: Arc<AtomicUsize>,
    joined: Option<JoinHandle<()>>,
}

impl ConnectionThreads {
    /// `count` threads; 0: connections are served by the runtime that calls this.
    ///
    /// # Errors
    /// A thread or its runtime cannot be had.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let threads = (0..count)
            .map(|number| Thread::start(number, end.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            threads,
            main: Handle::current(),
            end,
        })
    }

    /// One for each core that the process may use.
    pub(crate) fn count_default() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Where handlers run.
    pub(super) fn main(&self) -> &Handle {
        &self.main
    }

    /// Serves one connection on the thread that has the fewest. A socket must be given to the
    /// runtime within `connection`, not before.
    pub(super) fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let fewest = self
            .threads
            .iter()
            .min_by_key(|thread| thread.serves.load(Ordering::Relaxed));
        match fewest {
            Some(thread) => {
                let counted = Counted::new(&thread.serves);
                thread.runtime.spawn(async move {
                    let _counted = counted;
                    connection.await;
                });
            }
            None => {
                self.main.spawn(connection);
            }
        }
    }

    /// Ends the threads and waits for them. Connections to the database may have been opened on
    /// them: they end after its pool.
    pub(crate) async fn end(mut self) {
        self.end.cancel();
        let joined: Vec<_> = self
            .threads
            .iter_mut()
            .filter_map(|thread| thread.joined.take())
            .collect();
        let all = tokio::task::spawn_blocking(move || {
            for thread in joined {
                let _ = thread.join();
            }
        });
        let _ = all.await;
    }
}

impl Drop for ConnectionThreads {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Thread {
    fn start(number: usize, end: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let joined = std::thread::Builder::new()
            .name(format!("connections-{number}"))
            .spawn(move || runtime.block_on(end.cancelled()))?;
        Ok(Self {
            runtime: handle,
            serves: Arc::default(),
            joined: Some(joined),
        })
    }
}

/// One connection of a thread.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(serves: &Arc<AtomicUsize>) -> Self {
        serves.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(serves))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn connections_are_shared_out_evenly_and_cut_at_the_end() {
        let threads = ConnectionThreads::start(2).unwrap();
        let (told, mut names) = mpsc::unbounded_channel();
        let mut open = Vec::new();
        for _ in 0..6 {
            let (close, closed) = oneshot::channel::<()>();
            let told = told.clone();
            threads.serve(async move {
                let name = std::thread::current().name().unwrap().to_owned();
                told.send(name).unwrap();
                let _ = closed.await;
            });
            open.push(close);
        }
        let mut on: HashMap<String, usize> = HashMap::new();
        for _ in 0..6 {
            *on.entry(names.recv().await.unwrap()).or_default() += 1;
        }
        assert_eq!(on["connections-0"], 3);
        assert_eq!(on["connections-1"], 3);
        threads.end().await;
        assert!(open.iter().all(oneshot::Sender::is_closed), "all are cut");
    }

    #[tokio::test]
    async fn without_threads_the_runtime_at_hand_serves() {
        let threads = ConnectionThreads::start(0).unwrap();
        let (told, name) = oneshot::channel();
        threads.serve(async move {
            let name = std::thread::current().name().map(str::to_owned);
            told.send(name).unwrap();
        });
        let here = std::thread::current().name().map(str::to_owned);
        assert_eq!(name.await.unwrap(), here);
        threads.end().await;
    }
}
