//! The exchange with a server that speaks HTTP/1, in one straight function: the request goes out
//! once and ends once, the answer's head is read as strictly as a client's and within its time, and
//! a connection is used again only where nothing came on it that was not asked for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Stream;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::v1::client::http_req_header_to_wire;
use pingora::proxy::{ProxyHttp, Session};
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_runtime::current_handle;
use tokio::time::{Instant, timeout, timeout_at};

use super::Gateway;
use crate::request::answer::AnswerHead;
use crate::request::body::Body;
use crate::request::head;
use crate::server::edge::names;
use crate::server::proxy::under_way::UnderWay;
use crate::server::proxy::{answer, retry};
use crate::server::upstream::connection::{ServerConnection, Step};

/// How long the rest of a body over HTTP/1 is read that was answered before its end.
const REST: Duration = Duration::from_secs(5);

/// How long, and for how many bytes, an answer is read whose client has gone away.
const MAX_READ_OUT: (Duration, usize) = (Duration::from_secs(1), 64 * 1024);

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
    pub(super) async fn forward_http1(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        session.as_mut().enable_retry_buffering();
        let mut fresh = false;
        for _ in 0..retry::TRIES {
            let peer = Self::choose(exchange)?;
            let connected = if fresh {
                self.transport.new_stream(&*peer).await.map(|stream| (stream, false))
            } else {
                self.transport.get_stream(&*peer).await
            };
            let (stream, reused) = match connected {
                Ok(connected) => connected,
                Err(error) => {
                    let error = self.fail_to_connect(session, &peer, exchange, error.into_up());
                    if error.retry() {
                        continue;
                    }
                    return Err(error);
                }
            };
            match self.attempt(session, exchange, stream, &peer).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let error = self.error_while_proxy(&peer, session, error, exchange, reused);
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

    async fn attempt(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        stream: Stream,
        peer: &HttpPeer,
    ) -> Result<()> {
        let patience =
            peer.options.read_timeout.or(peer.options.write_timeout).unwrap_or(Duration::MAX / 4);
        let mut upstream =
            ServerConnection::new(stream, patience.min(Duration::from_secs(86_400 * 365)));
        let upload = self.begin(session, exchange, &mut upstream).await?;
        let is_head = session.req_header().method == http::Method::HEAD;
        let awaits = session.req_header().headers.contains_key(EXPECT);
        let answered = Answered::Nothing;
        let mut attempt = Attempt {
            upstream,
            upload,
            answered,
            began: false,
            kept: false,
            is_head,
            awaits,
            refused: false,
        };
        if let Err(error) = self.relay(session, exchange, &mut attempt).await {
            if *error.esource() == ErrorSource::Downstream && attempt.upload.sent {
                // As long as that takes it counts as a request under way.
                let slot = super::permitted(exchange)?.attempt.slot.take();
                let (transport, hash) = (self.transport.clone(), peer.reuse_hash());
                let idle = peer.idle_timeout();
                current_handle().spawn(async move {
                    if timeout(MAX_READ_OUT.0, attempt.read_out()).await.unwrap_or(false) {
                        transport.release_stream(attempt.upstream.into_stream(), hash, idle);
                    }
                    drop(slot);
                });
            }
            return Err(error);
        }
        let Attempt { upstream, upload, answered, kept, .. } = attempt;
        let is_clean = upload.sent && upstream.is_written() && upstream.inbox.is_empty();
        match answered {
            Answered::Whole if kept && is_clean => {
                self.transport.release_stream(
                    upstream.into_stream(),
                    peer.reuse_hash(),
                    peer.idle_timeout(),
                );
            }
            // What is still to come of the body is not for a server that has said all it will: it
            // may take it for a next request.
            Answered::Whole => drop(upstream),
            Answered::Nothing | Answered::Framed(_) | Answered::UntilClose | Answered::Tunnel => {
                return Ok(());
            }
        }
        // Not under way at the server any more, however long the client takes.
        super::permitted(exchange)?.attempt.slot = None;
        Self::finish(session).await
    }

    /// Ends the answer; what is still to come of the request's body is read for a while, so that
    /// the client gets to read the answer.
    async fn finish(session: &mut Session) -> Result<()> {
        // Over HTTP/2 the rest is waited for once the exchange is over.
        if !session.is_http2() && !session.as_mut().is_body_done() {
            let rest =
                async { while let Ok(Some(_)) = session.as_mut().read_request_body().await {} };
            let _ = timeout(REST, rest).await;
        }
        session.as_mut().finish_body().await.map(drop).map_err(Error::into_down)
    }

    /// Puts the head on its way, with what is known of the body.
    async fn begin(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        upstream: &mut ServerConnection,
    ) -> Result<Upload> {
        let mut head = session.req_header().clone();
        head.set_version(http::Version::HTTP_11);
        self.upstream_request_filter(session, &mut head, exchange).await?;
        let empty = session.as_mut().is_body_empty();
        let chunked = !empty && !head.headers.contains_key(CONTENT_LENGTH);
        if chunked {
            head.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        upstream.send(to_wire(&head)?);
        let read = session.as_mut().is_body_done();
        let mut upload = Upload { chunked, read, sent: false };
        // What an attempt before this one has read.
        let mut before = session.as_ref().get_retry_buffer();
        if before.is_some() {
            self.request_body_filter(session, &mut before, read, exchange).await?;
        }
        upload.send(upstream, before);
        upload.sent = read && upstream.is_written();
        Ok(upload)
    }

    /// Carries the body there and the answer back, until both are over.
    async fn relay(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
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
                        self.answer(session, exchange, attempt).await?;
                    }
                    Ok(Step::Ended) => return self.end(session, exchange, attempt).await,
                    Err(mut error) => {
                        if *error.etype() == ErrorType::ConnectionClosed || *error.etype() ==
                            ErrorType::WriteError {
                            error.retry = retry_of(attempt.began);
                        }
                        // What it said before it stopped reading is worth more than that it did.
                        if *error.etype() == ErrorType::WriteError && self.drain(session, exchange,
                            attempt).await? {
                            return Ok(());
                        }
                        return Err(error);
                    }
                },
                body = read(session, idle, (on_client && !tunnel).then_some(asked + patience)),
                    if wants_body => {
                    let mut body = body.map_err(Error::into_down)?;
                    asked = Instant::now();
                    let end = body.is_none() || (!tunnel && session.as_mut().is_body_done());
                    self.request_body_filter(session, &mut body, end, exchange).await?;
                    attempt.upload.read = end;
                    attempt.awaits = false;
                    if tunnel {
                        if end {
                            return Ok(());
                        }
                        attempt.upstream.send(body.unwrap_or_default());
                    } else {
                        attempt.upload.send(&mut attempt.upstream, body);
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
    async fn end(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
    ) -> Result<()> {
        match attempt.answered {
            Answered::UntilClose => {
                self.respond(session, exchange, vec![HttpTask::Body(None, true)]).await?;
                attempt.answered = Answered::Whole;
                Ok(())
            }
            Answered::Tunnel => {
                self.respond(session, exchange, vec![HttpTask::UpgradedBody(None, true)]).await?;
                session.as_mut().finish_body().await.map(drop).map_err(Error::into_down)
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
    async fn drain(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
    ) -> Result<bool> {
        attempt.upstream.stop_writing();
        attempt.kept = false;
        while !matches!(attempt.answered, Answered::Whole) {
            match attempt.upstream.step(true, false).await {
                Ok(Step::Came) => {
                    attempt.began = true;
                    self.answer(session, exchange, attempt).await?;
                }
                Ok(Step::Ended) if matches!(attempt.answered, Answered::UntilClose) => {
                    self.end(session, exchange, attempt).await?;
                    return Ok(true);
                }
                Ok(Step::Written) => {}
                Ok(Step::Ended) | Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Takes in what has come of the answer, and hands it on.
    async fn answer(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
    ) -> Result<()> {
        let mut tasks = Vec::with_capacity(3);
        while matches!(attempt.answered, Answered::Nothing) {
            let Some(head) = attempt.head()? else { return Ok(()) };
            self.take_head(session, exchange, attempt, head, &mut tasks).await?;
        }
        attempt.body(&mut tasks)?;
        self.respond(session, exchange, tasks).await
    }

    /// Takes in one head, an interim one or the last.
    async fn take_head(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        attempt: &mut Attempt,
        mut head: ResponseHeader,
        tasks: &mut Vec<HttpTask>,
    ) -> Result<()> {
        let kept = is_kept(&head);
        self.upstream_response_filter(session, &mut head, exchange).await?;
        let status = head.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            // Its time begins anew. Clients of HTTP/1.0 know none (RFC 9110 §15.2).
            attempt.upstream.be_patient();
            if session.req_header().version != http::Version::HTTP_10 {
                self.response_filter(session, &mut head, exchange).await?;
                let keepalive = session.get_keepalive();
                session
                    .write_response_header(Box::new(head), false)
                    .await
                    .map_err(Error::into_down)?;
                // The library takes a connection for unusable after an interim answer.
                session.set_keepalive(keepalive);
            }
            return Ok(());
        }
        attempt.kept = kept;
        attempt.refused = !status.is_success();
        attempt.answered = attempt.framing(&head);
        let is_whole = matches!(attempt.answered, Answered::Whole);
        if matches!(attempt.answered, Answered::UntilClose) {
            // So that the client's connection need not end with it.
            head.insert_header(TRANSFER_ENCODING, "chunked")?;
        }
        self.response_filter(session, &mut head, exchange).await?;
        tasks.push(HttpTask::Header(Box::new(head), is_whole));
        Ok(())
    }

    async fn respond(
        &self,
        session: &mut Session,
        exchange: &mut UnderWay,
        tasks: Vec<HttpTask>,
    ) -> Result<()> {
        if tasks.is_empty() {
            return Ok(());
        }
        // Whoever watches the exchange sees that it goes on.
        self.response_body_filter(session, &mut None, false, exchange)?;
        session.write_response_tasks(tasks).await.map(drop).map_err(Error::into_down)
    }
}

impl Upload {
    /// Puts a part of the body on its way, and its end where it has been read in full.
    fn send(self, upstream: &mut ServerConnection, data: Option<Bytes>) {
        let data = data.unwrap_or_default();
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
                let Ok(Some(mut head)) = self.head() else { break };
                let kept = is_kept(&head);
                if answer::check(&mut head).is_err() {
                    return false;
                }
                if !head.status.is_informational() {
                    self.kept = kept;
                    self.answered = self.framing(&head);
                }
            }
            let before = self.upstream.inbox.len();
            if self.body(&mut Vec::new()).is_err() {
                return false;
            }
            if matches!(self.answered, Answered::Whole) {
                return self.kept && self.upstream.is_written() && self.upstream.inbox.is_empty();
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

    /// The next whole head, if it is there.
    fn head(&mut self) -> Result<Option<ResponseHeader>> {
        let inbox = &mut self.upstream.inbox;
        let end = match head::end(inbox) {
            Some(end) if end <= answer::MOST => end,
            None if inbox.len() < answer::MOST => return Ok(None),
            Some(_) | None => return Err(Error::new_up(ErrorType::InvalidHTTPHeader)),
        };
        let bytes = inbox.split_to(end).freeze();
        let invalid = |_| Error::new_up(ErrorType::InvalidHTTPHeader);
        let parsed = AnswerHead::parse(&bytes).map_err(invalid)?;
        let mut head = ResponseHeader::build(parsed.status, Some(parsed.fields.len() + 4))
            .map_err(Error::into_up)?;
        head.set_version(if parsed.http_11 {
            http::Version::HTTP_11
        } else {
            http::Version::HTTP_10
        });
        head.set_reason_phrase(Some(parsed.reason)).map_err(Error::into_up)?;
        for (name, value) in parsed.fields {
            let value = http::HeaderValue::from_maybe_shared(bytes.slice_ref(value))
                .map_err(|_| Error::new_up(ErrorType::InvalidHTTPHeader))?;
            head.append_header(name.to_owned(), value).map_err(Error::into_up)?;
        }
        Ok(Some(head))
    }

    /// How the body behind a head that was checked is delimited (RFC 9112 §6.3).
    fn framing(&self, head: &ResponseHeader) -> Answered {
        let status = head.status;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Answered::Tunnel;
        }
        // A 205 too (RFC 9110 §15.3.6): its head says a length of zero.
        if self.is_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
            return Answered::Whole;
        }
        if head.headers.contains_key(TRANSFER_ENCODING) {
            return Answered::Framed(Body::chunked());
        }
        match head.headers.get(CONTENT_LENGTH).and_then(answer::length_of) {
            None => Answered::UntilClose,
            Some(0) => Answered::Whole,
            Some(length) => Answered::Framed(Body::of_length(length)),
        }
    }

    /// Takes what has come of the body.
    fn body(&mut self, tasks: &mut Vec<HttpTask>) -> Result<()> {
        let inbox = &mut self.upstream.inbox;
        match &mut self.answered {
            Answered::Nothing | Answered::Whole => return Ok(()),
            Answered::Tunnel => {
                if !inbox.is_empty() {
                    tasks.push(HttpTask::UpgradedBody(Some(inbox.split().freeze()), false));
                }
            }
            Answered::UntilClose => {
                if !inbox.is_empty() {
                    tasks.push(HttpTask::Body(Some(inbox.split().freeze()), false));
                }
            }
            Answered::Framed(body) => {
                loop {
                    let piece = body
                        .next(inbox)
                        .map_err(|_| Error::new_up(ErrorType::InvalidHTTPHeader))?;
                    if piece.length == 0 {
                        break;
                    }
                    let data = inbox.split_to(piece.length).freeze().slice(piece.data);
                    if !data.is_empty() {
                        tasks.push(HttpTask::Body(Some(data), false));
                    }
                }
                if body.is_done() {
                    tasks.push(HttpTask::Done);
                    self.answered = Answered::Whole;
                }
            }
        }
        self.upstream.be_patient();
        Ok(())
    }
}

/// Whether the connection can be kept behind this answer (RFC 9112 §9.3). A body where none may be
/// is not read, and may still come.
fn is_kept(head: &ResponseHeader) -> bool {
    let length = head.headers.get(CONTENT_LENGTH);
    let announces =
        head.headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0");
    if announces && matches!(head.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
        return false;
    }
    let lines = head.headers.get_all(CONNECTION);
    if head.version == http::Version::HTTP_11 {
        !names(&lines, b"close")
    } else {
        names(&lines, b"keep-alive")
    }
}

/// A connection that had served before may just have been closed; once something of an answer has
/// come, it was not that.
fn retry_of(began: bool) -> pingora::RetryType {
    if began { pingora::RetryType::Decided(false) } else { pingora::RetryType::ReusedOnly }
}

/// The next part of the request's body, or the end of the client, until a moment.
async fn read(session: &mut Session, idle: bool, until: Option<Instant>) -> Result<Option<Bytes>> {
    let body = session.as_mut().read_body_or_idle(idle);
    match until {
        Some(until) => timeout_at(until, body)
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorType::ReadTimedout))),
        None => body.await,
    }
}

fn to_wire(head: &RequestHeader) -> Result<Bytes> {
    let wire = http_req_header_to_wire(head).map(BytesMut::freeze);
    wire.ok_or_else(|| {
        Error::explain(ErrorType::InvalidHTTPHeader, "a request line that cannot be written")
    })
}
