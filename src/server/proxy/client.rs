//! The client's side of an exchange: what is asked of it, whichever loop reads its requests.

pub mod direct;
pub mod library;

use std::future::Future;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use pingora::Result;

use super::exchange::Exchange;
use super::lines::OwnLines;
use crate::request::answer::AnswerHead;
use crate::request::fields::Fields;
use crate::request::method::Method;

/// An answer of our own, whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its lines, without those that delimit its body.
    pub lines: OwnLines,
    /// Its body.
    pub body: Vec<u8>,
    /// The connection ends behind it.
    pub close: bool,
}

/// How much of a body comes behind a head that is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// None, whatever the head says.
    Nothing,
    /// As much as the head says.
    Length,
    /// Nobody knows yet.
    Unknown,
}

/// A request that is judged, and answered where it is not forwarded.
pub trait Requester: Send {
    /// Where its lines are.
    type Fields: Fields + Sync;

    /// Its lines.
    fn fields(&self) -> &Self::Fields;

    /// It reads gRPC, and not HTTP statuses and bodies.
    fn is_grpc(&self) -> bool;

    /// It is a host proxy that asks what it may forward.
    fn is_host(&self) -> bool;

    /// It is taken for a request with this method.
    fn become_method(&mut self, method: Method);

    /// It asks for no other protocol any more.
    fn forget_upgrade(&mut self);

    /// The connection ends behind the answer.
    fn close(&mut self);

    /// Writes an answer of our own, whole.
    ///
    /// # Errors
    /// The client went away.
    fn answer(&mut self, answer: Answer) -> impl Future<Output = Result<()>> + Send;
}

/// A request with the connection that it came on, which may be forwarded.
pub trait Client: Requester {
    /// It came over HTTP/2.
    fn is_http2(&self) -> bool;

    /// It is of HTTP/1.1 or later.
    fn is_http_11(&self) -> bool;

    /// It has no body at all.
    fn is_body_empty(&mut self) -> bool;

    /// Everything of its body has been taken.
    fn is_body_done(&mut self) -> bool;

    /// A final answer has begun; an interim one (1xx) may still be followed by a refusal.
    fn has_answered(&self) -> bool;

    /// The next data of the body; `None` at its end. Where it is `idle`, the body was taken and
    /// this waits until the client has gone away. Nothing is lost when it is dropped.
    ///
    /// # Errors
    /// The client went away, or its body is not as it must be.
    fn body(&mut self, idle: bool) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Puts the head of a server's answer on its way, an interim one or the last.
    ///
    /// # Errors
    /// A value that cannot be one of a header; none is known.
    fn head(
        &mut self,
        head: &AnswerHead<'_>,
        extent: Extent,
        exchange: &mut Exchange,
    ) -> Result<()>;

    /// Puts so many bytes of what a server has sent on their way, of which these are data.
    fn data(&mut self, inbox: &mut BytesMut, length: usize, data: Range<usize>);

    /// Puts the end of the body on its way.
    fn end(&mut self);

    /// Waits until what was put on its way has left us.
    ///
    /// # Errors
    /// The client went away, or takes nothing.
    fn flush(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Ends the exchange; what is still to come of the body is read for a while, so that the client
    /// gets to read the answer.
    ///
    /// # Errors
    /// The client went away.
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send;
}
