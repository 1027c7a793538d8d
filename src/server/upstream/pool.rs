//! Connections to servers that wait for a next request: those of a worker thread are its own, so
//! that nobody waits for them, and neither a task nor a timer watches any of them.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::ServerConnection;

/// The connections that wait.
#[derive(Debug)]
pub struct Pool {
    shards: Box<[Mutex<Shard>]>,
    /// Most that one shard keeps.
    most: usize,
}

/// Those of one thread. The last that was given back is the first to be taken: the others become
/// old, and are closed.
#[derive(Debug, Default)]
struct Shard {
    waiting: HashMap<u64, Vec<Waiting>, BuildHasherDefault<Digest>>,
    count: usize,
}

/// The hash of a key that is a digest already.
#[derive(Debug, Default)]
struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys are numbers: this is never asked.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[derive(Debug)]
struct Waiting {
    connection: ServerConnection,
    until: Instant,
}

impl Pool {
    /// A pool for so many threads, in which so many connections wait at most.
    #[must_use]
    pub fn new(threads: usize, most: usize) -> Self {
        let threads = threads.max(1);
        Self {
            shards: (0..threads).map(|_| Mutex::default()).collect(),
            most: (most / threads).max(1),
        }
    }

    /// A connection to these servers that waits and is still good: nothing has come on it, and it
    /// has not ended.
    #[must_use]
    pub fn take(&self, key: u64) -> Option<ServerConnection> {
        let now = Instant::now();
        loop {
            let mut shard = self.shard();
            let shard = &mut *shard;
            let Waiting { mut connection, until } = shard.waiting.get_mut(&key)?.pop()?;
            shard.count -= 1;
            if until > now && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for a next request, for at most `idle`.
    pub fn put(&self, key: u64, connection: ServerConnection, idle: Duration) {
        let mut shard = self.shard();
        // What does not fit is closed.
        if shard.count < self.most {
            shard.count += 1;
            let until = Instant::now() + idle;
            shard.waiting.entry(key).or_default().push(Waiting { connection, until });
        }
    }

    /// Closes what has waited for long enough, or has been ended by its server.
    pub fn sweep(&self) {
        let now = Instant::now();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for waiting in shard.waiting.values_mut() {
                waiting.retain_mut(|waiting| waiting.until > now && waiting.connection.is_quiet());
            }
            shard.waiting.retain(|_, waiting| !waiting.is_empty());
            shard.count = shard.waiting.values().map(Vec::len).sum();
        }
    }

    /// The shard of this thread. A thread has one as long as it lives.
    fn shard(&self) -> MutexGuard<'_, Shard> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let mine = MINE.get().unwrap_or_else(|| {
            let mine = NEXT.fetch_add(1, Ordering::Relaxed);
            MINE.set(Some(mine));
            mine
        });
        let at = mine.checked_rem(self.shards.len()).unwrap_or(0);
        #[expect(clippy::indexing_slicing, reason = "there is one shard at least")]
        let shard = &self.shards[at];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    const IDLE: Duration = Duration::from_secs(60);

    async fn pair(listener: &TcpListener) -> (ServerConnection, TcpStream) {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let stream = pingora::protocols::l4::stream::Stream::from(stream);
        (ServerConnection::new(Box::new(stream), IDLE), server)
    }

    #[tokio::test]
    async fn a_connection_is_given_back_to_its_servers_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (pool, (connection, _server)) = (Pool::new(1, 8), pair(&listener).await);
        pool.put(1, connection, IDLE);
        assert!(pool.take(2).is_none());
        assert!(pool.take(1).is_some());
        assert!(pool.take(1).is_none());
    }

    #[tokio::test]
    async fn one_that_ended_or_on_which_something_came_is_thrown_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for swept in [false, true] {
            let (pool, mut servers) = (Pool::new(1, 8), Vec::new());
            for _ in 0..3 {
                let (connection, server) = pair(&listener).await;
                pool.put(1, connection, IDLE);
                servers.push(server);
            }
            servers[2].write_all(b"HTTP/1.1 408 \r\n\r\n").await.unwrap();
            drop(servers.remove(1));
            // Both have arrived once a third connection has been made behind them.
            let _ = pair(&listener).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if swept {
                pool.sweep();
                assert_eq!(pool.shard().count, 1);
            }
            assert!(pool.take(1).is_some());
            assert!(pool.take(1).is_none());
        }
    }

    #[tokio::test]
    async fn no_more_are_kept_than_may_be_nor_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (pool, mut servers) = (Pool::new(1, 2), Vec::new());
        for _ in 0..3 {
            let (connection, server) = pair(&listener).await;
            pool.put(1, connection, IDLE);
            servers.push(server);
        }
        assert_eq!(pool.shard().count, 2);
        pool.sweep();
        assert!(pool.take(1).is_some() && pool.take(1).is_some() && pool.take(1).is_none());
        let (connection, _server) = pair(&listener).await;
        pool.put(1, connection, Duration::ZERO);
        assert!(pool.take(1).is_none());
        assert_eq!(pool.shard().count, 0);
    }
}
