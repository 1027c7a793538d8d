//! A connection to a server that speaks HTTP/1, for one request: written and read at once, under
//! one deadline that is moved.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::protocols::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::server::edge::deadline::Alarm;

/// Room made for each read.
const READ: usize = 8 * 1024;
/// Most that is read ahead of what the client has taken.
const MAX_READ: usize = 64 * 1024;
/// The last chunk of a body, and the end of its trailers (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// One connection to a server, for one request.
#[derive(Debug)]
pub struct ServerConnection {
    /// What has come and was not looked at yet.
    pub inbox: BytesMut,
    stream: Stream,
    /// What is still to be written, and whether what was written has to be flushed.
    outbox: VecDeque<Bytes>,
    unflushed: bool,
    alarm: Alarm,
    /// How long it may be silent.
    patience: Duration,
}

/// What has happened on it.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// All that was to be written is.
    Written,
    /// More bytes have come.
    Came,
    /// It has ended.
    Ended,
}

impl ServerConnection {
    /// A connection that was just opened or taken out of the pool, and may be silent for
    /// `patience`.
    #[must_use]
    pub fn new(stream: Stream, patience: Duration) -> Self {
        let alarm = Alarm::at(Instant::now() + patience);
        Self {
            stream,
            outbox: VecDeque::new(),
            unflushed: false,
            inbox: BytesMut::new(),
            alarm,
            patience,
        }
    }

    /// Its time begins anew.
    pub fn be_patient(&mut self) {
        self.alarm.set(Instant::now() + self.patience);
    }

    /// Whether everything that was sent has left us.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.outbox.is_empty() && !self.unflushed
    }

    /// Puts bytes on their way as they are. Empty ones are none.
    pub fn send(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outbox.push_back(bytes);
        }
    }

    /// Puts one chunk of a body on its way (RFC 9112 §7.1). Empty ones are none: an empty chunk
    /// would be the last.
    pub fn send_chunk(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.send(Bytes::from(format!("{:X}\r\n", data.len())));
            self.send(data);
            self.send(Bytes::from_static(b"\r\n"));
        }
    }

    /// Puts the end of a body in chunks on its way.
    pub fn send_last_chunk(&mut self) {
        self.send(Bytes::from_static(LAST_CHUNK));
    }

    /// Gives up what was not written: the server reads no more.
    pub fn stop_writing(&mut self) {
        self.outbox.clear();
        self.unflushed = false;
    }

    /// The connection under it, for a next request.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Writes what is to be written and, where it `reads`, reads what comes; in a `tunnel` silence
    /// has no end.
    ///
    /// # Errors
    ///
    /// When a write or a read fails, or nothing has moved for as long as it may be silent.
    pub async fn step(&mut self, reads: bool, tunnel: bool) -> Result<Step> {
        std::future::poll_fn(|cx| self.poll_step(cx, reads, tunnel)).await
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, reads: bool, tunnel: bool) -> Poll<Result<Step>> {
        if !self.is_written()
            && let Poll::Ready(written) = self.poll_written(cx)
        {
            let step =
                written.or_err(ErrorType::WriteError, "to the server").map_err(Error::into_up);
            return Poll::Ready(step.map(|()| Step::Written));
        }
        if reads && self.inbox.len() < MAX_READ {
            self.inbox.reserve(READ);
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Step::Ended)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Step::Came)),
                Poll::Ready(Err(error)) => {
                    let is_closed =
                        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
                    let kind =
                        if is_closed { ErrorType::ConnectionClosed } else { ErrorType::ReadError };
                    return Poll::Ready(Err(
                        Error::because(kind, "from the server", error).into_up()
                    ));
                }
                Poll::Pending => {}
            }
        }
        if !tunnel && self.alarm.poll(cx).is_ready() {
            let kind =
                if self.is_written() { ErrorType::ReadTimedout } else { ErrorType::WriteTimedout };
            return Poll::Ready(Err(Error::new_up(kind)));
        }
        Poll::Pending
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while let Some(next) = self.outbox.front_mut() {
            let count = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, next))?;
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            let _ = next.split_to(count);
            if next.is_empty() {
                self.outbox.pop_front();
            }
            // Progress: a slow reader is no hanging one.
            self.alarm.set(Instant::now() + self.patience);
        }
        if self.unflushed {
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
