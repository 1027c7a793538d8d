//! Causes that metrics tell apart, as closed enums: a label never has another value.

/// Why a connection, or a request on one, was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefused {
    /// The operating system gave none.
    Accept,
    /// As many as may be are open.
    Total,
    /// As many of its address as may be are open.
    Address,
    /// As many requests over HTTP/2 as may be are under way.
    Streams,
}

impl ConnectionRefused {
    /// The value of the label `cause`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Total => "total",
            Self::Address => "address",
            Self::Streams => "streams",
        }
    }
}

/// Why a connection was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionCut {
    /// No whole head in time.
    HeaderTimeout,
    /// What stands in the place of the PROXY protocol is none.
    ProxyProtocol,
    /// The TLS handshake failed.
    TlsHandshake,
    /// It ended before a request.
    NoRequest,
    /// A malformed chunk of a body.
    Chunk,
    /// A body that came too slowly.
    BodyPace,
    /// A client that took nothing of an answer.
    WriteTimeout,
    /// A WebSocket whose handshake would be refused now.
    Tunnel,
    /// No HTTP/2 preface in time.
    Http2Preface,
    /// Too many requests on one HTTP/2 connection.
    Http2Streams,
    /// Malformed requests over HTTP/2.
    Http2Malformed,
    /// Frames against the protocol of HTTP/2.
    Http2Protocol,
    /// A request over HTTP/2 that stood still.
    Http2Stalled,
}

impl ConnectionCut {
    /// The value of the label `cause`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::HeaderTimeout => "header_timeout",
            Self::ProxyProtocol => "proxy_protocol",
            Self::TlsHandshake => "tls_handshake",
            Self::NoRequest => "no_request",
            Self::Chunk => "chunk",
            Self::BodyPace => "body_pace",
            Self::WriteTimeout => "write_timeout",
            Self::Tunnel => "tunnel",
            Self::Http2Preface => "http2_preface",
            Self::Http2Streams => "http2_streams",
            Self::Http2Malformed => "http2_malformed",
            Self::Http2Protocol => "http2_protocol",
            Self::Http2Stalled => "http2_stalled",
        }
    }
}
