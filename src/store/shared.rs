//! The shared engine: Redis or Valkey, for several gateways that serve as one.
//!
//! Every operation that reads and writes is one script (`operations.lua`), so that of concurrent
//! gateways one is first. All keys have one hash tag: in a cluster they are on one node. The server
//! removes expired keys itself. Owns a thread with its own runtime, because connections belong to
//! the runtime that made them; does not know the meaning of values.

mod access;
mod attempts;
mod audit;
mod blocks;
mod events;
mod grants;
mod keys;
mod limits;
mod link;
mod made_users;
mod moving;
mod refresh;
mod seal;
mod sessions;
mod usage;
mod uses;

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{FromRedisValue, RedisResult, Script};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::StoreFault;
use crate::config::SharedStore;
use crate::names::Timestamp;
use link::{Link, Links};
use seal::Seal;

/// The prefix of all keys.
const PREFIX: &str = "{scopegate}:";
/// Longest time for an operation: a later answer counts as an outage.
const LIMIT: Duration = Duration::from_millis(900);
/// How long replicas have to acknowledge a write.
const REPLICAS: Duration = Duration::from_millis(400);
/// Most attempts when other gateways write first.
const TRIES: usize = 16;

static OPERATIONS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("shared/operations.lua")));

/// The open store. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    links: Links,
    runtime: Handle,
    seal: Seal,
    wait_replicas: u32,
}

/// Arguments of an operation, as bytes.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        vec![$($crate::store::shared::Argument::bytes(&$argument)),*] };
}
use arguments;

/// A type that can be an argument.
trait Argument {
    fn bytes(&self) -> Vec<u8>;
}

impl Argument for String {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Argument for &str {
    fn bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Argument for Timestamp {
    fn bytes(&self) -> Vec<u8> {
        self.0.to_string().into_bytes()
    }
}

impl Argument for [u8; 32] {
    fn bytes(&self) -> Vec<u8> {
        crate::names::hex(self).into_bytes()
    }
}

impl Argument for serde_json::Value {
    fn bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl Shared {
    /// Connects, and checks whether the server is safe for durable data.
    ///
    /// # Errors
    /// It cannot be reached, evicts keys when memory is short, or has data of another schema.
    pub(super) fn open(declared: &SharedStore) -> Result<Self, StoreFault> {
        // One TLS provider per process; another component may have installed it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (links, runtime) = Links::start(declared)?;
        Ok(Self(Arc::new(Inner {
            links,
            runtime,
            seal: Seal::new(declared.encryption_key.expose()),
            wait_replicas: declared.wait_replicas,
        })))
    }

    /// Runs one operation.
    async fn operate<T: FromRedisValue + Send + 'static>(
        &self,
        operation: &'static str,
        arguments: Vec<Vec<u8>>,
    ) -> Result<T, StoreFault> {
        self.run(move |mut link| async move { operate(&mut link, operation, &arguments).await })
            .await
    }

    /// The same for a write: returns when as many replicas as configured have acknowledged it.
    async fn change<T: FromRedisValue + Send + 'static>(
        &self,
        operation: &'static str,
        arguments: Vec<Vec<u8>>,
    ) -> Result<T, StoreFault> {
        let wanted = self.0.wait_replicas;
        if wanted == 0 {
            return self.operate(operation, arguments).await;
        }
        let link = self.0.links.writes().map_err(|cause| self.fault(cause))?;
        let work = move |mut link: Link| async move {
            let value = operate(&mut link, operation, &arguments).await?;
            Ok((value, link.wait(wanted, REPLICAS).await?))
        };
        let (value, replicas): (T, u32) = self.run_on(link, work).await?;
        if replicas < wanted {
            self.0.links.is_short();
            return Err(self.fault(format!(
                "{replicas} of {wanted} replicas have acknowledged the write in time"
            )));
        }
        Ok(value)
    }

    /// Runs work with a connection, on the store's own runtime and with a time limit.
    async fn run<T, F>(
        &self,
        work: impl FnOnce(Link) -> F + Send + 'static,
    ) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: Future<Output = RedisResult<T>> + Send,
    {
        let link = self.0.links.now().ok_or_else(|| self.fault(self.0.links.fault()))?;
        self.run_on(link, work).await
    }

    async fn run_on<T, F>(
        &self,
        link: Link,
        work: impl FnOnce(Link) -> F + Send + 'static,
    ) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        F: Future<Output = RedisResult<T>> + Send,
    {
        let (sender, receiver) = oneshot::channel();
        self.0.runtime.spawn(async move {
            // The caller may have stopped waiting: the client went away.
            let _ = sender.send(tokio::time::timeout(LIMIT, work(link)).await);
        });
        match receiver.await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => {
                self.0.links.suspect();
                Err(self.fault(error.to_string()))
            }
            Ok(Err(_)) => {
                self.0.links.suspect();
                Err(self.fault(format!("no answer within {} ms", LIMIT.as_millis())))
            }
            Err(_) => Err(self.fault("the store's thread has ended".to_owned())),
        }
    }

    /// Runs work from a blocking thread: before serving begins, and in commands.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreFault>> + Send + 'static,
    ) -> Result<T, StoreFault> {
        let (sender, receiver) = oneshot::channel();
        self.0.runtime.spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver
            .blocking_recv()
            .unwrap_or_else(|_| Err(self.fault("the store's thread has ended".to_owned())))
    }

    fn fault(&self, cause: String) -> StoreFault {
        StoreFault::Shared { server: self.0.links.name().to_owned(), cause }
    }

    /// The fault for a value that this version does not write.
    fn malformed(&self, what: &str) -> StoreFault {
        self.fault(format!("{what} is not what this version writes"))
    }

    pub(super) fn look(&self) -> Result<(), StoreFault> {
        match self.0.links.now() {
            Some(_) => Ok(()),
            None => Err(self.fault(self.0.links.fault())),
        }
    }

    /// Nothing to do: the server owns the data on disk.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as the other engine's")]
    pub(super) const fn settle(&self) -> Result<(), StoreFault> {
        Ok(())
    }

    /// The server checks its own data.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "as the other engine's")]
    pub(super) const fn examine(&self) -> Result<(), StoreFault> {
        Ok(())
    }

    pub(super) fn backup(&self, _: &std::path::Path) -> Result<(), StoreFault> {
        Err(self.fault("the server copies itself: see BGSAVE and its append-only file".to_owned()))
    }

    pub(super) fn ping(&self) -> Result<(), StoreFault> {
        let store = self.clone();
        self.wait(async move {
            store.run(|mut link| async move { link.ask(&redis::cmd("PING")).await }).await
        })
    }

    pub(super) async fn sweep(&self, now: Timestamp) -> Result<bool, StoreFault> {
        let more: i64 = self.operate("sweep", arguments![now, "1000"]).await?;
        Ok(more == 1)
    }
}

async fn operate<T: FromRedisValue>(
    link: &mut Link,
    operation: &str,
    arguments: &[Vec<u8>],
) -> RedisResult<T> {
    let mut call = OPERATIONS.key(PREFIX);
    call.arg(operation);
    for argument in arguments {
        call.arg(argument.as_slice());
    }
    link.script(&call).await
}

/// The name of a key.
fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}
