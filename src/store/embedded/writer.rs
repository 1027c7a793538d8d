//! The one thread that writes. Writes that arrive during a commit are committed together: one disk
//! sync serves many writes, and each is answered only after it.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

/// Writes that may wait.
const QUEUE: usize = 4_096;
/// Most writes per commit.
const BATCH: usize = 256;

/// Why a write was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// Its own statements failed; other writes of the batch are not affected.
    Work(rusqlite::Error),
    /// The transaction could not begin or be committed.
    Commit(String),
    /// Too many writes are waiting.
    Full,
    /// The thread has ended.
    Stopped,
}

/// Receives whether the transaction was committed.
type Reply = Box<dyn FnOnce(Result<(), &str>) + Send>;
/// One write: runs its statements, returns whether to keep them, and the reply to send after the
/// commit.
type Job = Box<dyn FnOnce(Option<&Connection>) -> (bool, Reply) + Send>;

/// The channel to the thread.
#[derive(Debug)]
pub(super) struct Writer(SyncSender<Job>);

impl Writer {
    /// Starts the thread; it ends when the last writer is dropped.
    pub(super) fn start(connection: Connection) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(connection, &jobs))?;
        Ok(Self(sender))
    }

    /// Queues a write.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, Fault>>, Fault> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = connection.map(work);
            let keep = matches!(result, Some(Ok(_)));
            let reply: Reply = Box::new(move |committed: Result<(), &str>| {
                let answer = match (result, committed) {
                    (Some(Err(error)), _) => Err(Fault::Work(error)),
                    (Some(Ok(value)), Ok(())) => Ok(value),
                    (_, Err(cause)) => Err(Fault::Commit(cause.to_owned())),
                    (None, Ok(())) => Err(Fault::Stopped),
                };
                // The caller may have stopped waiting: the client went away.
                let _ = sender.send(answer);
            });
            (keep, reply)
        });
        self.0.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Fault::Full,
            TrySendError::Disconnected(_) => Fault::Stopped,
        })?;
        Ok(receiver)
    }
}

fn run(mut connection: Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut waiting: std::collections::VecDeque<Job> = [first].into();
        waiting.extend(jobs.try_iter().take(BATCH - 1));
        let mut replies = Vec::with_capacity(waiting.len());
        let committed =
            commit(&mut connection, &mut waiting, &mut replies).map_err(|error| error.to_string());
        // Jobs that did not run, because the transaction could not begin.
        replies.extend(waiting.into_iter().map(|job| job(None).1));
        for reply in replies {
            reply(committed.as_ref().copied().map_err(String::as_str));
        }
    }
}

fn commit(
    connection: &mut Connection,
    waiting: &mut std::collections::VecDeque<Job>,
    replies: &mut Vec<Reply>,
) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    while let Some(job) = waiting.pop_front() {
        let savepoint = transaction.savepoint()?;
        let (keep, reply) = job(Some(&savepoint));
        replies.push(reply);
        if keep {
            savepoint.commit()?;
        }
        // Otherwise dropping it rolls its statements back.
    }
    transaction.commit()
}
