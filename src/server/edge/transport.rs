//! A connection below HTTP: TCP, what a trusted proxy says of it, and TLS.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proxy_header::{ParseConfig, ProxyHeader};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufWriter, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::request::certificate::CertificateFacts;

/// Room in which the head of an answer waits for its body: both go in one packet, or one TLS
/// record.
const WRITE: usize = 2 * 1024;
/// First byte of version 2 of the PROXY protocol.
const V2: u8 = b'\r';
/// Longest header of version 1 (PROXY protocol §2.1).
const V1_MOST: usize = 107;
/// Longest of version 2 that is read: addresses and a few kilobytes of what proxies add (§2.2).
const V2_MOST: usize = 4 * 1024;

/// The bytes of a connection, TLS taken off.
#[derive(Debug)]
pub enum Transport {
    /// As they are.
    Plain(BufWriter<TcpStream>),
    /// As they are, over a Unix socket.
    Unix(BufWriter<UnixStream>),
    /// Out of TLS.
    Tls(Box<BufWriter<TlsStream<TcpStream>>>),
    /// In memory.
    #[cfg(test)]
    Memory(BufWriter<tokio::io::DuplexStream>),
}

/// What a TLS handshake has settled.
#[derive(Debug, Default)]
pub struct Handshake {
    /// HTTP/2 was chosen by ALPN.
    pub http2: bool,
    /// The certificate that the client has shown, verified.
    pub certificate: Option<Arc<CertificateFacts>>,
}

impl Transport {
    /// A connection without TLS.
    #[must_use]
    pub fn plain(stream: TcpStream) -> Self {
        Self::Plain(BufWriter::with_capacity(WRITE, stream))
    }

    /// A connection over a Unix socket.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self::Unix(BufWriter::with_capacity(WRITE, stream))
    }

    /// One in memory.
    #[cfg(test)]
    #[must_use]
    pub fn memory(stream: tokio::io::DuplexStream) -> Self {
        Self::Memory(BufWriter::with_capacity(WRITE, stream))
    }

    /// Takes TLS off.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn tls(stream: TcpStream, config: Arc<ServerConfig>) -> Result<(Self, Handshake)> {
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate
            .map(|certificate| CertificateFacts::read(certificate))
            .transpose()
            .map_err(Error::other)?;
        let http2 = session.alpn_protocol() == Some(super::tls::H2);
        let handshake = Handshake { http2, certificate: certificate.map(Arc::new) };
        Ok((Self::Tls(Box::new(BufWriter::with_capacity(WRITE, stream))), handshake))
    }

    /// The descriptor: an id, as long as the connection is open.
    #[must_use]
    pub fn id(&self) -> RawFd {
        match self {
            Self::Plain(stream) => stream.get_ref().as_raw_fd(),
            Self::Unix(stream) => stream.get_ref().as_raw_fd(),
            Self::Tls(stream) => stream.get_ref().get_ref().0.as_raw_fd(),
            #[cfg(test)]
            Self::Memory(_) => 0,
        }
    }
}

/// Reads the header that a trusted proxy begins with (PROXY protocol, versions 1 and 2) and not one
/// byte more; gives whom it speaks for. `None` where it speaks for itself (`LOCAL`, `UNKNOWN`), as
/// in its health checks.
///
/// # Errors
/// There is no such header.
pub async fn proxied(stream: &mut TcpStream) -> Result<Option<IpAddr>> {
    let mut header = vec![stream.read_u8().await?];
    if header.first() == Some(&V2) {
        // Twelve bytes of signature, two of what it is, two of length (§2.2).
        header.resize(16, 0);
        stream.read_exact(header.get_mut(1..).unwrap_or_default()).await?;
        let length =
            header.last_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        if length > V2_MOST {
            return Err(Error::new(ErrorKind::InvalidData, "the PROXY header is too long"));
        }
        header.resize(16 + length, 0);
        stream.read_exact(header.get_mut(16..).unwrap_or_default()).await?;
    } else {
        while header.last() != Some(&b'\n') {
            if header.len() >= V1_MOST {
                return Err(Error::new(ErrorKind::InvalidData, "no PROXY header"));
            }
            header.push(stream.read_u8().await?);
        }
    }
    let (parsed, length) = ProxyHeader::parse(&header, ParseConfig::default())
        .map_err(|_| Error::new(ErrorKind::InvalidData, "no PROXY header"))?;
    if length != header.len() {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "a PROXY header of another length than it says",
        ));
    }
    Ok(parsed.proxied_address().map(|address| address.source.ip().to_canonical()))
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, out),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, out),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            #[cfg(test)]
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }
}
