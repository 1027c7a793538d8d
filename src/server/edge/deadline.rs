//! Times a connection is held to: deadlines that are set anew all the time and hardly ever reached,
//! and a pace that bodies must keep.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that is set anew for every request and hardly ever reached: moving it costs nothing,
/// because the timer below it stays where it is until it fires, and is set anew only then.
#[derive(Debug)]
pub struct Alarm {
    at: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    /// A deadline.
    #[must_use]
    pub fn at(at: Instant) -> Self {
        Self { at, timer: Box::pin(sleep_until(at)) }
    }

    /// Moves it.
    pub fn set(&mut self, at: Instant) {
        self.at = at;
        if self.timer.deadline() > self.at {
            self.timer.as_mut().reset(self.at);
        }
    }

    /// Ready once it has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}

/// How long a peer has been taking nothing of what is written to it.
#[derive(Debug, Default)]
pub struct Stall {
    alarm: Option<Alarm>,
    waiting: bool,
}

impl Stall {
    /// Notes what came of a write; an error in the place of what has been waiting too long.
    ///
    /// # Errors
    /// Nothing was taken for `most`.
    pub fn watch<T>(
        &mut self,
        written: Poll<std::io::Result<T>>,
        most: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<T>> {
        if written.is_ready() {
            self.waiting = false;
            return written;
        }
        let until = Instant::now() + most;
        let alarm = self.alarm.get_or_insert_with(|| Alarm::at(until));
        if !std::mem::replace(&mut self.waiting, true) {
            alarm.set(until);
        }
        ready!(alarm.poll(cx));
        Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()))
    }
}

/// Bytes a second below which a body is taken for an attack.
const SLOWEST: u64 = 500;
/// How much of one wait counts.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How fast a body comes while it is waited for: what an upstream holds up does not count against
/// the client.
#[derive(Debug, Default)]
pub struct Pace {
    bytes: u64,
    waited: Duration,
    since: Option<Instant>,
}

impl Pace {
    /// Nothing has come: the wait begins.
    pub fn wait(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// Bytes have come; whether they come fast enough, after a time in which anybody may be slow.
    pub fn came(&mut self, bytes: usize, patience: Duration) -> bool {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let Some(since) = self.since.take() else { return true };
        // What is longer is more likely an upstream that takes nothing, while nobody asks the
        // client.
        self.waited += since.elapsed().min(LONGEST_WAIT);
        self.waited < patience || self.bytes >= SLOWEST.saturating_mul(self.waited.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_too_slow_once_patience_is_over() {
        let mut pace = Pace::default();
        let mut drip = async || {
            pace.wait();
            tokio::time::advance(Duration::from_secs(5)).await;
            pace.came(1, Duration::from_secs(30))
        };
        for _ in 0..5 {
            assert!(drip().await);
        }
        assert!(!drip().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_waits_for_is_never_too_slow() {
        let mut pace = Pace::default();
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(pace.came(1, Duration::from_secs(30)));
        pace.wait();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(pace.came(500 * 60, Duration::from_secs(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_stalls_only_while_it_waits() {
        let (most, mut stall) = (Duration::from_secs(3), Stall::default());
        let mut wait = async |written: Poll<std::io::Result<()>>, time| {
            tokio::time::advance(Duration::from_secs(time)).await;
            let waker = futures_util::task::noop_waker();
            stall.watch(written, most, &mut Context::from_waker(&waker)).map(|done| done.is_ok())
        };
        assert_eq!(wait(Poll::Pending, 0).await, Poll::Pending);
        assert_eq!(wait(Poll::Ready(Ok(())), 2).await, Poll::Ready(true));
        assert_eq!(wait(Poll::Pending, 60).await, Poll::Pending);
        assert_eq!(wait(Poll::Pending, 2).await, Poll::Pending);
        assert_eq!(wait(Poll::Pending, 2).await, Poll::Ready(false));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_was_moved_fires_at_its_new_time() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + Duration::from_secs(1));
        alarm.set(start + Duration::from_secs(9));
        std::future::poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(9));
        alarm.set(Instant::now() + Duration::from_secs(2));
        std::future::poll_fn(|cx| alarm.poll(cx)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(11));
    }
}
