//! Causes that metrics tell apart, as closed enums: a label never has another value.

use crate::reason::closed_list;

closed_list! {
    /// Why a connection, or a request on one, was not taken.
    ConnectionRefused {
        /// The operating system gave none.
        Accept = "accept",
        /// As many as may be are open.
        Total = "total",
        /// As many of its address as may be are open.
        Address = "address",
        /// As many requests over HTTP/2 as may be are under way.
        Streams = "streams",
    }
}

closed_list! {
    /// Why a connection was ended by us.
    ConnectionCut {
        /// No whole head in time.
        HeaderTimeout = "header_timeout",
        /// What stands in the place of the PROXY protocol is none.
        ProxyProtocol = "proxy_protocol",
        /// The TLS handshake failed.
        TlsHandshake = "tls_handshake",
        /// It ended before a request.
        NoRequest = "no_request",
        /// A malformed chunk of a body.
        Chunk = "chunk",
        /// A body that came too slowly.
        BodyPace = "body_pace",
        /// A client that took nothing of an answer.
        WriteTimeout = "write_timeout",
        /// A WebSocket whose handshake would be refused now.
        Tunnel = "tunnel",
        /// No HTTP/2 preface in time.
        Http2Preface = "http2_preface",
        /// Too many requests on one HTTP/2 connection.
        Http2Streams = "http2_streams",
        /// Malformed requests over HTTP/2.
        Http2Malformed = "http2_malformed",
        /// Frames against the protocol of HTTP/2.
        Http2Protocol = "http2_protocol",
        /// A request over HTTP/2 that stood still.
        Http2Stalled = "http2_stalled",
    }
}

closed_list! {
    /// What is exported to a collector of OpenTelemetry.
    Signal {
        /// Spans of traces.
        Spans = "spans",
        /// Log records of refused requests.
        LogRecords = "log_records",
    }
}

closed_list! {
    /// Why a span or a log record did not reach the collector.
    NotExported {
        /// More came than could be sent.
        Queue = "queue",
        /// The collector could not be reached, or was busy, for too long.
        Unreachable = "unreachable",
        /// The collector did not want it.
        Rejected = "rejected",
        /// It is not declared any more.
        Undeclared = "undeclared",
    }
}
