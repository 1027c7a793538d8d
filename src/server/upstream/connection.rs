//! A connection to a server that speaks HTTP/1, for one request after the other: written and read
//! at once, under one deadline that is moved.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pingora::protocols::Stream;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use crate::request::fields::Line;
use crate::server::edge::deadline::Alarm;

/// Room made for each read.
const READ: usize = 8 * 1024;
/// Most that is read ahead of what the client has taken.
const MAX_READ: usize = 64 * 1024;
/// The last chunk of a body, and the end of its trailers (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Data up to this size is copied behind the head, in bytes, so that both leave in one write.
const COPIED: usize = 4 * 1024;
/// Room that is kept for the next head, and for what comes, in bytes.
const KEPT: usize = 16 * 1024;

/// One connection to a server.
#[derive(Debug)]
pub struct ServerConnection {
    /// What has come and was not looked at yet.
    pub inbox: BytesMut,
    /// Where the lines of the head in it stand.
    pub lines: Vec<Line>,
    stream: Stream,
    /// What is still to be written: the head and small data from `written` on, then the rest;
    /// whether what was written has to be flushed.
    head: Vec<u8>,
    written: usize,
    outbox: VecDeque<Bytes>,
    unflushed: bool,
    /// Room made for the next read.
    room: usize,
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
    /// A connection that was just opened, and may be silent for `patience`.
    #[must_use]
    pub fn new(stream: Stream, patience: Duration) -> Self {
        let alarm = Alarm::at(Instant::now() + patience);
        Self {
            stream,
            head: Vec::new(),
            written: 0,
            outbox: VecDeque::new(),
            unflushed: false,
            inbox: BytesMut::new(),
            lines: Vec::new(),
            room: READ,
            alarm,
            patience,
        }
    }

    /// Begins a next request on a connection that was kept.
    pub fn begin(&mut self, patience: Duration) {
        self.patience = patience;
        self.room = READ;
        self.be_patient();
    }

    /// Whether it can be kept for a next request: everything that was sent has left us, and nothing
    /// has come that was not asked for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_written() && self.inbox.is_empty()
    }

    /// Gives back room that only the last request needed.
    pub fn shrink(&mut self) {
        if self.head.capacity() > KEPT {
            self.head = Vec::new();
        }
        if self.inbox.capacity() > KEPT || self.inbox.capacity() < READ {
            self.inbox = BytesMut::new();
        }
    }

    /// Whether a connection that waits is still good: it has not ended, and nothing has come on it.
    pub fn is_quiet(&mut self) -> bool {
        let waker = futures_util::task::noop_waker();
        self.inbox.reserve(1);
        let read = poll_read_buf(
            Pin::new(&mut self.stream),
            &mut Context::from_waker(&waker),
            &mut self.inbox,
        );
        read.is_pending()
    }

    /// Where the head of a request is written, before anything else of it is sent.
    pub fn head(&mut self) -> &mut Vec<u8> {
        self.head.clear();
        self.written = 0;
        &mut self.head
    }

    /// Its time begins anew.
    pub fn be_patient(&mut self) {
        self.alarm.set(Instant::now() + self.patience);
    }

    /// Whether everything that was sent has left us.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.outbox.is_empty() && self.written == self.head.len() && !self.unflushed
    }

    /// Puts bytes on their way as they are. Empty ones are none.
    pub fn send(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED && self.outbox.is_empty() && self.head.len() <= KEPT {
            if self.written == self.head.len() {
                self.head();
            }
            self.head.extend_from_slice(&bytes);
        } else {
            self.outbox.push_back(bytes);
        }
    }

    /// Puts one chunk of a body on its way (RFC 9112 §7.1). Empty ones are none: an empty chunk
    /// would be the last.
    pub fn send_chunk(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.send(Bytes::from(format!("{:x}\r\n", data.len())));
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
        self.head.clear();
        self.written = 0;
        self.unflushed = false;
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
            self.inbox.reserve(self.room);
            let room = self.inbox.capacity() - self.inbox.len();
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.inbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Step::Ended)),
                Poll::Ready(Ok(count)) => {
                    if count == room {
                        // It comes fast.
                        self.room = MAX_READ;
                    }
                    return Poll::Ready(Ok(Step::Came));
                }
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
        while self.written < self.head.len() || !self.outbox.is_empty() {
            let head = self.head.get(self.written..).unwrap_or_default();
            let stream = Pin::new(&mut self.stream);
            let count = match self.outbox.front() {
                Some(next) if head.is_empty() => ready!(stream.poll_write(cx, next))?,
                Some(next) => {
                    let slices = [IoSlice::new(head), IoSlice::new(next)];
                    ready!(stream.poll_write_vectored(cx, &slices))?
                }
                None => ready!(stream.poll_write(cx, head))?,
            };
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            let of_head = head.len().min(count);
            self.written += of_head;
            if let Some(next) = self.outbox.front_mut() {
                next.advance(count - of_head);
                if next.is_empty() {
                    self.outbox.pop_front();
                }
            }
            // Progress: a slow reader is no hanging one.
            self.be_patient();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
