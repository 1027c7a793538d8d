//! The exchange with a server that speaks HTTP/1, in one straight function for every client: the
//! request goes out once and ends once, the answer's head is read as strictly as a client's and
//! within its time, and a connection is used again only where nothing came on it that was not asked
//! for.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Framing;
use super::client::{Client, Extent};
use super::driver::{Gateway, permitted};
use super::exchange::{Exchange, Stage};
use super::retry::Replay;
use super::under_way::UnderWay;
use super::{answer, forward, retry, tunnel};
use crate::reason::{Reason, Refusal};
use crate::request::answer::AnswerHead;
use crate::request::body::Body;
use crate::request::fields::Fields;
use crate::request::head;
use crate::server::upstream::connection::{ServerConnection, Step};

/// How long, and for how many bytes, an answer is read whose client has gone away.
const MAX_READ_OUT: (Duration, usize) = (Duration::from_secs(1), 64 * 1024);
/// Bytes of a body that are kept so that it can be sent again.
const MAX_REPLAYED: usize = 64 * 1024;

/// How the answer's body is delimited (RFC 9112 §6.3).
enum Answered {
    /// The head is not there yet.
    Nothing,
    /// So far, and no further.
    Framed(Body),
    /// By the end of the connection.
    UntilClose,
    /// It is a tunnel.
    Tunnel,
    /// All of it is there.
    Whole,
}

/// The request's body on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Upload {
    chunked: bool,
    /// Everything of it was read from the client.
    read: bool,
    /// Everything of it was written to the server; nothing more will be.
    sent: bool,
}

/// What of a body was read from the client, over all attempts.
#[derive(Default)]
struct Taken {
    data: Vec<Bytes>,
    size: usize,
    /// It is more than is kept.
    is_cut: bool,
    /// It was read to its end.
    is_whole: bool,
}

impl Taken {
    fn put(&mut self, data: &Bytes) {
        self.size += data.len();
        self.is_cut |= self.size > MAX_REPLAYED;
        if self.is_cut {
            self.data.clear();
        } else {
            self.data.push(data.clone());
        }
    }
}

/// What of an exchange with one server has been reached.
struct Attempt {
    upstream: ServerConnection,
    upload: Upload,
    answered: Answered,
    /// A byte of an answer has come.
    began: bool,
    /// The server keeps the connection.
    kept: bool,
    is_head: bool,
    /// The client waits for a word of the server before it sends the body (RFC 9110 §10.1.1).
    awaits: bool,
    /// The answer's status is none of success.
    refused: bool,
}

impl Gateway {
    /// Forwards a permitted request to the servers of its upstream, until one has answered.
    pub(super) async fn forward_http1<C: Client>(
        &self,
        client: &mut C,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        let (mut fresh, mut taken) = (false, Taken::default());
        for _ in 0..retry::TRIES {
            Self::choose(exchange)?;
            let (connection, reused) = match self.connect(exchange, fresh).await {
                Ok(connected) => connected,
                Err(mut error) => {
                    self.fail_connect(exchange, &mut error);
                    if error.retry() {
                        continue;
                    }
                    return Err(error);
                }
            };
            match self.attempt(client, exchange, connection, &mut taken).await {
                Ok(()) => return Ok(()),
                Err(mut error) => {
                    let replay = Replay::new(&exchange.method, !taken.is_cut);
                    let answered = client.has_answered();
                    self.fail_attempt(exchange, &mut error, answered, replay, reused);
                    if !error.retry() {
                        return Err(error);
                    }
                    // That a kept connection was just closed is believed once.
                    fresh |= reused;
                }
            }
        }
        Error::e_explain(ErrorType::ConnectNoRoute, "no server is left to be tried")
    }

    /// A connection to the server that was chosen, and whether it had served before.
    async fn connect(
        &self,
        exchange: &mut Exchange,
        fresh: bool,
    ) -> Result<(ServerConnection, bool)> {
        let permitted = permitted(exchange)?;
        let Some(slot) = &permitted.attempt.slot else {
            return Error::e_explain(ErrorType::InternalError, "no server was chosen");
        };
        let patience = slot.servers().declared.response;
        if !fresh && let Some(mut kept) = self.pool.take(slot.key()) {
            kept.begin(patience);
            return Ok((kept, true));
        }
        let peer = forward::peer(&permitted.permit, slot);
        let stream = Box::pin(self.connect_to(&peer)).await?;
        Ok((ServerConnection::new(stream, patience), false))
    }

    async fn attempt<C: Client>(
        &self,
        client: &mut C,
        exchange: &mut UnderWay,
        connection: ServerConnection,
        taken: &mut Taken,
    ) -> Result<()> {
        let mut attempt = Attempt {
            upstream: connection,
            upload: Upload { chunked: false, read: client.is_body_done(), sent: false },
            answered: Answered::Nothing,
            began: false,
            kept: false,
            is_head: exchange.method == "HEAD",
            awaits: client.fields().has("expect"),
            refused: false,
        };
        self.begin(client, exchange, &mut attempt, taken)?;
        if let Err(error) = self.relay(client, exchange, &mut attempt, taken).await {
            if *error.esource() == ErrorSource::Downstream && attempt.upload.sent {
                self.read_out(exchange, attempt)?;
            }
            return Err(error);
        }
        let Attempt { mut upstream, upload, answered, kept, .. } = attempt;
        match answered {
            Answered::Whole if kept && upload.sent && upstream.is_clean() => {
                if let Some(slot) = &permitted(exchange)?.attempt.slot {
                    upstream.shrink();
                    self.pool.put(slot.key(), upstream, slot.servers().declared.idle);
                }
            }
            // What is still to come of the body is not for a server that has said all it will: it
            // may take it for a next request.
            Answered::Whole => drop(upstream),
            Answered::Nothing | Answered::Framed(_) | Answered::UntilClose | Answered::Tunnel => {
                return Ok(());
            }
        }
        // Not under way at the server any more, however long the client takes.
        permitted(exchange)?.attempt.slot = None;
        if let Some(trace) = &mut exchange.trace {
            trace.ended();
        }
        client.finish().await
    }

    /// Reads an answer that nobody waits for any more, and keeps its connection. As long as that
    /// takes it counts as a request under way.
    fn read_out(&self, exchange: &mut Exchange, mut attempt: Attempt) -> Result<()> {
        let Some(slot) = permitted(exchange)?.attempt.slot.take() else { return Ok(()) };
        let (pool, idle) = (self.pool.clone(), slot.servers().declared.idle);
        let task = async move {
            if timeout(MAX_READ_OUT.0, attempt.read_out()).await.unwrap_or(false) {
                attempt.upstream.shrink();
                pool.put(slot.key(), attempt.upstream, idle);
            }
        };
        // On this thread, whose connections it is one of.
        tokio::spawn(task);
        Ok(())
    }

    /// Puts the head on its way, with what is known of the body.
    fn begin<C: Client>(
        &self,
        client: &mut C,
        exchange: &mut Exchange,
        attempt: &mut Attempt,
        taken: &Taken,
    ) -> Result<()> {
        let Attempt { upstream, upload, .. } = attempt;
        upload.chunked = !client.is_body_empty() && !client.fields().has("content-length");
        upload.read |= taken.is_whole;
        let head = upstream.head();
        forward::write_head(client.fields(), exchange, &self.shared, head)?;
        if upload.chunked {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        permitted(exchange)?.attempt.sent = true;
        // What an attempt before this one has read.
        let last = taken.data.len();
        for (at, data) in taken.data.iter().enumerate() {
            count_body(exchange, data.len())?;
            let read = upload.read && at + 1 == last;
            Upload { read, ..*upload }.send(upstream, data.clone());
        }
        if taken.data.is_empty() && upload.read {
            upload.send(upstream, Bytes::new());
        }
        Ok(())
    }

    /// Carries the body there and the answer back, until both are over.
    async fn relay<C: Client>(
        &self,
        client: &mut C,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
        taken: &mut Taken,
    ) -> Result<()> {
        // Since when the client is waited for.
        let (mut asked, patience) = (Instant::now(), self.shared.fixed.edge.body_timeout);
        loop {
            if matches!(attempt.answered, Answered::Whole) {
                return Ok(());
            }
            let tunnel = matches!(attempt.answered, Answered::Tunnel);
            let wants_body = attempt.upstream.is_written() && !attempt.is_declined();
            let idle = attempt.upload.read && !tunnel;
            // While the client is waited for, the server may be silent.
            let on_client = wants_body && !attempt.upload.read;
            tokio::select! {
                biased;
                step = attempt.upstream.step(true, tunnel || on_client) => match step {
                    Ok(Step::Written) => {
                        attempt.note_written();
                        asked = Instant::now();
                    }
                    Ok(Step::Came) => {
                        attempt.began = true;
                        self.answer(client, exchange, attempt, taken).await?;
                    }
                    Ok(Step::Ended) => return Self::end(client, attempt).await,
                    Err(mut error) => {
                        if *error.etype() == ErrorType::ConnectionClosed || *error.etype() ==
                            ErrorType::WriteError {
                            error.retry = retry_of(attempt.began);
                        }
                        // What it said before it stopped reading is worth more than that it did.
                        if *error.etype() == ErrorType::WriteError && Box::pin(self.drain(client,
                            exchange, attempt, taken)).await? {
                            return Ok(());
                        }
                        return Err(error);
                    }
                },
                body = read(client, idle, (on_client && !tunnel).then_some(asked + patience)),
                    if wants_body => {
                    let body = body?;
                    asked = Instant::now();
                    let end = body.is_none() || (!tunnel && client.is_body_done());
                    let data = body.unwrap_or_default();
                    attempt.awaits = false;
                    attempt.upload.read = end;
                    if tunnel {
                        if end {
                            return Ok(());
                        }
                        attempt.upstream.send(data);
                    } else {
                        count_body(exchange, data.len())?;
                        taken.put(&data);
                        taken.is_whole = end;
                        attempt.upload.send(&mut attempt.upstream, data);
                    }
                    attempt.upstream.be_patient();
                    if attempt.upstream.is_written() {
                        attempt.note_written();
                    }
                }
            }
        }
    }

    /// The server has closed the connection.
    async fn end<C: Client>(client: &mut C, attempt: &mut Attempt) -> Result<()> {
        match attempt.answered {
            Answered::UntilClose => {
                client.end();
                client.flush().await?;
                attempt.answered = Answered::Whole;
                Ok(())
            }
            Answered::Tunnel => {
                client.end();
                client.flush().await?;
                client.finish().await
            }
            Answered::Whole => Ok(()),
            Answered::Nothing | Answered::Framed(_) => {
                let mut error = Error::new_up(ErrorType::ConnectionClosed);
                error.retry = retry_of(attempt.began);
                Err(error)
            }
        }
    }

    /// Reads on after the server has stopped reading: true when it had answered.
    async fn drain<C: Client>(
        &self,
        client: &mut C,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
        taken: &Taken,
    ) -> Result<bool> {
        attempt.upstream.stop_writing();
        attempt.kept = false;
        while !matches!(attempt.answered, Answered::Whole) {
            match attempt.upstream.step(true, false).await {
                Ok(Step::Came) => {
                    attempt.began = true;
                    self.answer(client, exchange, attempt, taken).await?;
                }
                Ok(Step::Ended) if matches!(attempt.answered, Answered::UntilClose) => {
                    Self::end(client, attempt).await?;
                    return Ok(true);
                }
                Ok(Step::Written) => {}
                Ok(Step::Ended) | Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Takes in what has come of the answer, and hands it on.
    async fn answer<C: Client>(
        &self,
        client: &mut C,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
        taken: &Taken,
    ) -> Result<()> {
        while matches!(attempt.answered, Answered::Nothing) {
            let Some(end) = attempt.head_end()? else { return client.flush().await };
            self.take_head(client, exchange, attempt, end, taken)?;
        }
        attempt.body(client)?;
        client.flush().await
    }

    /// Takes in one head, an interim one or the last.
    fn take_head<C: Client>(
        &self,
        client: &mut C,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
        end: usize,
        taken: &Taken,
    ) -> Result<()> {
        let upstream = &mut attempt.upstream;
        let bytes = upstream.inbox.get_mut(..end).unwrap_or_default();
        let head = AnswerHead::parse(bytes, &mut upstream.lines)
            .map_err(|_| Error::new_up(ErrorType::InvalidHTTPHeader))?;
        let framing = answer::check(head.status, head.http_11, &head)?;
        let replay = Replay::new(&exchange.method, !taken.is_cut);
        let is_handshake = tunnel::is_handshake(head.status, &head, exchange);
        self.judge_answer(head.status, is_handshake, replay, exchange)?;
        let is_interim = (100..200).contains(&head.status) && head.status != SWITCHING;
        if is_interim {
            // Clients of HTTP/1.0 know none (RFC 9110 §15.2).
            if client.is_http_11() {
                client.head(&head, Extent::Nothing, exchange)?;
            }
        } else {
            attempt.kept = is_kept(&head, framing);
            attempt.refused = !(200..300).contains(&head.status);
            attempt.answered = answered(&head, framing, attempt.is_head);
            let extent = match attempt.answered {
                Answered::Whole => Extent::Nothing,
                Answered::Framed(_) if framing.length.is_some() => Extent::Length,
                Answered::Tunnel => Extent::Length,
                Answered::Nothing | Answered::Framed(_) | Answered::UntilClose => Extent::Unknown,
            };
            if head.status != SWITCHING
                && let Stage::Permitted(permitted) = &mut exchange.stage
            {
                // Not a tunnel after all.
                permitted.watch = None;
            }
            client.head(&head, extent, exchange)?;
        }
        upstream.inbox.advance(end);
        if is_interim {
            // Its time begins anew.
            upstream.be_patient();
        }
        Ok(())
    }
}

const SWITCHING: u16 = StatusCode::SWITCHING_PROTOCOLS.as_u16();

/// Counts what has come of a request's body.
///
/// # Errors
/// It is more than its API takes.
pub(super) fn count_body(exchange: &mut Exchange, came: usize) -> Result<()> {
    let permitted = permitted(exchange)?;
    permitted.body.received += came as u64;
    if permitted.body.received > permitted.body.max {
        permitted.failed = Some(Refusal::new(Reason::RequestBody));
        return Err(Error::new_down(BODY_TOO_LARGE));
    }
    Ok(())
}

/// A body that outgrew its limit after the request was permitted.
const BODY_TOO_LARGE: ErrorType = ErrorType::Custom("body too large");

impl Upload {
    /// Puts a part of the body on its way, and its end where it has been read in full.
    fn send(self, upstream: &mut ServerConnection, data: Bytes) {
        if self.chunked {
            upstream.send_chunk(data);
            if self.read {
                upstream.send_last_chunk();
            }
        } else {
            upstream.send(data);
        }
    }
}

impl Attempt {
    /// Reads an answer that nobody waits for any more to its end, if that is near: the connection
    /// can be used again then. Clients that go away would otherwise cost the server a connection
    /// each, and those that do so on purpose all that it takes.
    async fn read_out(&mut self) -> bool {
        let mut left = MAX_READ_OUT.1;
        loop {
            while matches!(self.answered, Answered::Nothing) {
                let Ok(Some(end)) = self.head_end() else { break };
                let upstream = &mut self.upstream;
                let bytes = upstream.inbox.get_mut(..end).unwrap_or_default();
                let Ok(head) = AnswerHead::parse(bytes, &mut upstream.lines) else { return false };
                let Ok(framing) = answer::check(head.status, head.http_11, &head) else {
                    return false;
                };
                if head.status >= 200 {
                    self.kept = is_kept(&head, framing);
                    self.answered = answered(&head, framing, self.is_head);
                }
                self.upstream.inbox.advance(end);
            }
            let before = self.upstream.inbox.len();
            if self.body(&mut Nobody).is_err() {
                return false;
            }
            if matches!(self.answered, Answered::Whole) {
                return self.kept && self.upstream.is_clean();
            }
            let read = before - self.upstream.inbox.len();
            let goes_on = left > read
                && matches!(self.answered, Answered::Nothing | Answered::Framed(_))
                && matches!(self.upstream.step(true, false).await, Ok(Step::Came | Step::Written));
            if !goes_on {
                return false;
            }
            left -= read;
        }
    }

    fn note_written(&mut self) {
        self.upload.sent = self.upload.read;
        if self.upload.sent && matches!(self.answered, Answered::Nothing) {
            // From the end of the request to the whole head of the answer.
            self.upstream.be_patient();
        }
    }

    /// Whether the server has refused before the client has sent anything of a body that waits for
    /// its word.
    const fn is_declined(&self) -> bool {
        self.awaits && self.refused
    }

    /// Where the next head ends, if it is there.
    fn head_end(&self) -> Result<Option<usize>> {
        let inbox = &self.upstream.inbox;
        match head::end(inbox) {
            Some(end) if end <= answer::MOST => Ok(Some(end)),
            None if inbox.len() < answer::MOST => Ok(None),
            Some(_) | None => Err(Error::new_up(ErrorType::InvalidHTTPHeader)),
        }
    }

    /// Takes what has come of the body.
    fn body(&mut self, out: &mut impl Data) -> Result<()> {
        let inbox = &mut self.upstream.inbox;
        match &mut self.answered {
            Answered::Nothing | Answered::Whole => return Ok(()),
            Answered::Tunnel | Answered::UntilClose => {
                let all = inbox.len();
                out.data(inbox, all, 0..all);
            }
            Answered::Framed(body) => {
                loop {
                    let piece = body
                        .next(inbox)
                        .map_err(|_| Error::new_up(ErrorType::InvalidHTTPHeader))?;
                    if piece.length == 0 {
                        break;
                    }
                    out.data(inbox, piece.length, piece.data);
                }
                if body.is_done() {
                    out.end();
                    self.answered = Answered::Whole;
                }
            }
        }
        self.upstream.be_patient();
        Ok(())
    }
}

/// Where data of an answer go.
trait Data {
    fn data(&mut self, inbox: &mut BytesMut, length: usize, data: Range<usize>);
    fn end(&mut self);
}

impl<C: Client> Data for C {
    fn data(&mut self, inbox: &mut BytesMut, length: usize, data: Range<usize>) {
        Client::data(self, inbox, length, data);
    }

    fn end(&mut self) {
        Client::end(self);
    }
}

/// Nobody waits for it.
struct Nobody;

impl Data for Nobody {
    fn data(&mut self, inbox: &mut BytesMut, length: usize, _: Range<usize>) {
        inbox.advance(length.min(inbox.len()));
    }

    fn end(&mut self) {}
}

/// How the body behind a head that was checked is delimited (RFC 9112 §6.3).
fn answered(head: &AnswerHead<'_>, framing: Framing, is_head: bool) -> Answered {
    match (head.status, framing) {
        (SWITCHING, _) => Answered::Tunnel,
        // A 205 too (RFC 9110 §15.3.6): its head says a length of zero.
        (204 | 205 | 304, _) => Answered::Whole,
        _ if is_head => Answered::Whole,
        (_, Framing { chunked: true, .. }) => Answered::Framed(Body::chunked()),
        (_, Framing { length: Some(0), .. }) => Answered::Whole,
        (_, Framing { length: Some(length), .. }) => Answered::Framed(Body::of_length(length)),
        (_, Framing { chunked: false, length: None }) => Answered::UntilClose,
    }
}

/// Whether the connection can be kept behind this answer (RFC 9112 §9.3). A body where none may be
/// is not read, and may still come.
fn is_kept(head: &AnswerHead<'_>, framing: Framing) -> bool {
    let announces = framing.chunked || framing.length.is_some_and(|length| length > 0);
    if announces && matches!(head.status, 204 | 205) {
        return false;
    }
    if head.http_11 {
        !head.names("connection", b"close")
    } else {
        head.names("connection", b"keep-alive")
    }
}

/// A connection that had served before may just have been closed; once something of an answer has
/// come, it was not that.
fn retry_of(began: bool) -> pingora::RetryType {
    if began { pingora::RetryType::Decided(false) } else { pingora::RetryType::ReusedOnly }
}

/// The next part of the request's body, or the end of the client, until a moment.
async fn read<C: Client>(
    client: &mut C,
    idle: bool,
    until: Option<Instant>,
) -> Result<Option<Bytes>> {
    match until {
        Some(until) => timeout_at(until, client.body(idle))
            .await
            .unwrap_or_else(|_| Err(Error::new_down(ErrorType::ReadTimedout))),
        None => client.body(idle).await,
    }
}
