//! Envoy's questions by gRPC: `envoy.service.auth.v3.Authorization/Check`.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use prost::Message;
use tokio::time::timeout;

use super::messages::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValueOption,
    HttpRequest, HttpResponse, HttpStatus, OkHttpResponse, Status, Struct, Value,
};
use super::{Asker, Fact, Told};
use crate::reason::{Reason, Refusal};
use crate::request::fields::Fields;
use crate::request::head::{Head, Limits, is_token};
use crate::request::method::Method;
use crate::request::original::Question;
use crate::server::edge::conn::Conn;
use crate::server::edge::http2::Stream;
use crate::server::proxy::client::{Answer, Requester};
use crate::server::proxy::driver::Gateway;
use crate::server::proxy::lines::Lines as _;
use crate::server::proxy::refusal::grpc_status;
use crate::server::proxy::under_way::UnderWay;
use crate::server::proxy::{record, refusal};
use crate::telemetry::cause::ConnectionCut;
use crate::telemetry::decision_id;

const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_FOR_NAME: HeaderName = HeaderName::from_static(FORWARDED_FOR);
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What goes before a message: whether it is compressed, and its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// Statuses of gRPC that are answered where there is no question (gRPC, "Status codes").
#[derive(Clone, Copy, Debug)]
enum NoQuestion {
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
}

impl NoQuestion {
    const fn status(self) -> (&'static str, &'static str) {
        match self {
            Self::InvalidArgument => ("3", "no CheckRequest of envoy.service.auth.v3"),
            Self::ResourceExhausted => ("8", "larger than any head within edge.max_header_size"),
            Self::Unimplemented => ("12", "this listener answers envoy.service.auth.v3 alone"),
        }
    }
}

/// What Envoy says of a request besides its lines.
#[derive(Debug, Default)]
struct Facts {
    method: String,
    target: String,
    host: String,
    /// The upstream that it would forward to, where its route says so.
    upstream: Option<String>,
}

/// What a route says of its upstream by (`context_extensions`).
const UPSTREAM: &str = "upstream";

/// The lines of a request, names in lower case.
#[derive(Debug, Default)]
struct Lines(Vec<(String, Vec<u8>)>);

impl Fields for Lines {
    fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()))
    }
}

/// The request that Envoy asks about, with the session of the question.
struct Check<'a> {
    session: &'a mut ServerSession,
    facts: Facts,
    lines: Lines,
    answered: bool,
}

impl Gateway {
    /// Answers one question of a host that speaks gRPC.
    pub(in crate::server::proxy) async fn check(&self, session: &mut ServerSession) {
        let Some(conn) = Conn::of(session).cloned() else { return };
        let (Some(dialect), Some(head)) = (conn.decides, conn.take_head(session)) else { return };
        let limits = self.shared.fixed.edge.limits;
        let patience = self.shared.fixed.edge.body_timeout;
        let Ok(attributes) = timeout(patience, asked(session, &limits)).await else {
            // Its session goes with it, which resets the stream.
            return self.shared.metrics.edge.connection_cut(ConnectionCut::Http2Stalled);
        };
        let attributes = match attributes {
            Ok(attributes) => attributes,
            Err(Some(none)) => {
                // Nobody is told that it could not be told.
                let _ = say_nothing(session, none).await;
                return;
            }
            Err(None) => return,
        };
        let mut exchange = UnderWay::begin(&self.shared, self.shared.snapshot());
        let (facts, lines, head) = match read(attributes) {
            Ok((facts, lines)) => (facts, lines, head),
            Err(refusal) => (Facts::default(), Lines::default(), Err(refusal)),
        };
        let mut check = Check { session, facts, lines, answered: false };
        let served = self.decide(&mut check, &conn, dialect, head, &mut exchange).await;
        if let Err(error) = &served
            && let Some(refusal) = record::of_error(error, &mut exchange)
            && !check.answered
        {
            // What is written is a whole answer, or nobody is there to read it.
            let _ = refusal::refuse(&mut check, &mut exchange, &refusal, true).await;
        }
        Self::end_exchange(&mut exchange, served.as_ref().err().map(|error| &**error));
    }
}

/// The question of a session.
///
/// # Errors
/// There is none: what is to be said of that, or nothing where nobody is there any more.
async fn asked(
    session: &mut ServerSession,
    limits: &Limits,
) -> std::result::Result<AttributeContext, Option<NoQuestion>> {
    let head = session.req_header();
    let is_grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let rest = kind.as_bytes().strip_prefix(GRPC.as_bytes());
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    });
    if head.method != HttpMethod::POST || head.raw_path() != PATH.as_bytes() || !is_grpc {
        return Err(Some(NoQuestion::Unimplemented));
    }
    // Twice, for what goes around names and values; the rest is for what is not read of it.
    let most = limits.head_bytes * 2 + 16 * 1024;
    let mut body = BytesMut::new();
    while let Some(data) = session.read_request_body().await.map_err(|_| None)? {
        if let Some(stream) = Stream::of(session) {
            stream.moved();
        }
        if body.len() + data.len() > most {
            return Err(Some(NoQuestion::ResourceExhausted));
        }
        body.extend_from_slice(&data);
    }
    let attributes = message(&body)
        .and_then(|message| CheckRequest::decode(message).ok())
        .and_then(|question| question.attributes);
    attributes.ok_or(Some(NoQuestion::InvalidArgument))
}

/// The one message of a body, which is not compressed.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_first_chunk::<PREFIX>()?;
    let [compressed, length @ ..] = *prefix;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (compressed == 0 && length == message.len()).then_some(message)
}

fn malformed(text: &'static str) -> Refusal {
    Refusal::because(Reason::RequestMalformed, text)
}

/// What is said of the request: each fact once, and its lines.
///
/// # Errors
/// `request.malformed`: a fact is missing, or said in two ways.
fn read(attributes: AttributeContext) -> std::result::Result<(Facts, Lines), Refusal> {
    let upstream = attributes.context_extensions.get(UPSTREAM).cloned();
    let source = attributes.source.and_then(|source| source.address);
    let source = source.and_then(|source| source.socket_address).map(|socket| socket.address);
    let Some(http) = attributes.request.and_then(|request| request.http) else {
        return Err(malformed("the host says no HTTP request"));
    };
    let HttpRequest { method, headers, path, host, query, fragment, header_map } = http;
    if !query.is_empty() || !fragment.is_empty() {
        return Err(malformed("the host says query or fragment beside the path"));
    }
    let mut lines = Lines::default();
    match header_map {
        Some(_) if !headers.is_empty() => {
            return Err(malformed("the host says the headers in two forms"));
        }
        Some(map) => {
            let each = map.headers.into_iter().map(|line| {
                let raw = line.raw_value;
                (line.key, if raw.is_empty() { line.value.into_bytes() } else { raw })
            });
            lines.0.extend(each);
        }
        None => {
            lines.0.extend(headers.into_iter().map(|(name, value)| (name, value.into_bytes())));
        }
    }
    for (pseudo, said) in [(":method", &method), (":path", &path), (":authority", &host)] {
        if lines.all(pseudo).any(|value| value != said.as_bytes()) {
            return Err(malformed("the host says a fact in two ways"));
        }
    }
    // `:scheme`, and the protocol of an upgrade.
    lines.0.retain(|(name, _)| !name.starts_with(':'));
    let is_lower = |name: &str| !name.bytes().any(|byte| byte.is_ascii_uppercase());
    if !lines.0.iter().all(|(name, _)| is_token(name.as_bytes()) && is_lower(name)) {
        return Err(malformed("a header name that is no token in lower case"));
    }
    came_from(source.as_deref(), &mut lines)?;
    Ok((Facts { method, target: path, host, upstream }, lines))
}

/// The client is who Envoy saw; what the client's proxies said before is behind it, if Envoy hands
/// that on.
fn came_from(source: Option<&str>, lines: &mut Lines) -> std::result::Result<(), Refusal> {
    let source = source.and_then(|source| source.parse::<IpAddr>().ok());
    let Some(source) = source.map(|source| source.to_canonical()) else {
        return Err(malformed("the host says no address of its client"));
    };
    let Some(said) = lines.first(FORWARDED_FOR) else {
        lines.0.push((FORWARDED_FOR.to_owned(), source.to_string().into_bytes()));
        return Ok(());
    };
    let mut said = said.rsplit(|byte| *byte == b',');
    let last = std::str::from_utf8(said.next().unwrap_or_default().trim_ascii()).ok();
    let last = last.and_then(|last| last.parse::<IpAddr>().ok());
    if last.map(|last| last.to_canonical()) == Some(source) {
        return Ok(());
    }
    if source.is_loopback() && said.next().is_none() {
        // Of a client on its own machine Envoy says an address of that machine.
        lines.0.retain(|(name, _)| name != FORWARDED_FOR);
        lines.0.push((FORWARDED_FOR.to_owned(), source.to_string().into_bytes()));
        return Ok(());
    }
    Err(malformed(
        "X-Forwarded-For does not end with the address that the host saw: \
         `use_remote_address: true`, without `skip_xff_append`",
    ))
}

/// Writes an answer that is no answer to a question.
async fn say_nothing(session: &mut ServerSession, none: NoQuestion) -> Result<()> {
    let (status, text) = none.status();
    let mut head = ResponseHeader::build(200, Some(1))?;
    head.insert_header(CONTENT_TYPE, GRPC)?;
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static(status));
    trailers.insert(GRPC_MESSAGE, HeaderValue::from_static(text));
    session.write_response_header(Box::new(head)).await?;
    session.write_response_trailers(trailers).await
}

impl Check<'_> {
    /// Says to the upstream where the request comes from, in the place of what the client says.
    fn say_from(&self, told: &mut Told<'_>) -> Result<()> {
        if let Some(address) = told.exchange.address {
            told.upstream.put(&FORWARDED_FOR_NAME, address.to_string().as_bytes())?;
        }
        told.upstream.put(&FORWARDED_HOST, self.facts.host.as_bytes())
    }

    async fn say(&mut self, answer: &CheckResponse) -> Result<()> {
        self.answered = true;
        let mut head = ResponseHeader::build(200, Some(1))?;
        head.insert_header(CONTENT_TYPE, GRPC)?;
        let length = answer.encoded_len();
        let mut message = BytesMut::with_capacity(PREFIX + length);
        message.put_u8(0);
        message.put_u32(u32::try_from(length).map_err(|_| Error::new(ErrorType::InternalError))?);
        answer.encode(&mut message).map_err(|_| Error::new(ErrorType::InternalError))?;
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        let said = async {
            self.session.write_response_header(Box::new(head)).await?;
            self.session.write_response_body(message.freeze(), false).await?;
            self.session.write_response_trailers(trailers).await
        };
        said.await.map_err(Error::into_down)
    }
}

impl Requester for Check<'_> {
    type Fields = Lines;

    fn fields(&self) -> &Lines {
        &self.lines
    }

    // Envoy makes of an answer what its client reads.
    fn is_grpc(&self) -> bool {
        false
    }

    fn is_host(&self) -> bool {
        true
    }

    // Envoy forwards it.
    fn become_method(&mut self, _: Method) {}

    fn forget_upgrade(&mut self) {}

    // One question is one stream.
    fn close(&mut self) {}

    async fn answer(&mut self, answer: Answer) -> Result<()> {
        let text = |wanted: &HeaderName| {
            let line = answer.lines.0.iter().find(|(name, _)| name == wanted)?;
            String::from_utf8(line.1.clone()).ok().map(Value::text)
        };
        let facts = [
            ("decision_id", text(&decision_id::HEADER)),
            ("reason", text(&refusal::DECISION_REASON)),
        ];
        let facts = facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let code = grpc_status(answer.status).parse().unwrap_or_default();
        let denied = DeniedHttpResponse {
            status: Some(HttpStatus { code: i32::from(answer.status) }),
            headers: options(&answer.lines.0),
            body: String::from_utf8(answer.body).unwrap_or_default(),
        };
        let answer = CheckResponse {
            status: Some(Status { code }),
            dynamic_metadata: Some(Struct { fields: facts.collect() }),
            http_response: Some(HttpResponse::Denied(denied)),
        };
        self.say(&answer).await
    }
}

fn value_of(fact: Fact) -> Value {
    match fact {
        Fact::Text(text) => Value::text(text),
        Fact::Texts(texts) => Value::texts(texts.into_iter()),
    }
}

fn options(lines: &[(HeaderName, Vec<u8>)]) -> Vec<HeaderValueOption> {
    lines.iter().map(|(name, value)| HeaderValueOption::line(name, value)).collect()
}

impl Asker for Check<'_> {
    fn question<'a>(&'a self, _: &'a Head) -> Question<'a> {
        let Facts { method, target, host, .. } = &self.facts;
        Question {
            method: method.as_bytes(),
            target: target.as_bytes(),
            host: Some(host.as_bytes()),
        }
    }

    fn upstream(&self) -> Option<&[u8]> {
        self.facts.upstream.as_deref().map(str::as_bytes)
    }

    async fn permit(&mut self, told: Told<'_>) -> Result<()> {
        let mut told = told;
        self.say_from(&mut told)?;
        let facts = told.facts().into_iter().map(|(name, fact)| (name.to_owned(), value_of(fact)));
        let permitted = OkHttpResponse {
            headers: options(&told.upstream.0),
            headers_to_remove: told.unsaid(&self.lines).into_iter().collect(),
            response_headers_to_add: options(&told.client.0),
        };
        let answer = CheckResponse {
            status: Some(Status { code: 0 }),
            dynamic_metadata: Some(Struct { fields: facts.collect() }),
            http_response: Some(HttpResponse::Ok(permitted)),
        };
        self.say(&answer).await
    }
}
