//! Sockets that connections are accepted on: TCP, and Unix sockets of hosts on this machine.

use std::io::Result;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::ListenAddress;
use crate::server::process::sockets::{self, FileId, Listening};

/// A socket that is accepted on.
#[derive(Debug)]
pub enum Accepting {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, and which file it is.
    Unix(UnixListener, FileId),
}

/// A connection.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP, and from where.
    Tcp(TcpStream, SocketAddr),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Accepting {
    /// Accepts on a socket.
    ///
    /// # Errors
    /// The runtime has no room for it.
    pub fn new(socket: Listening) -> Result<Self> {
        match socket {
            Listening::Tcp(socket) => TcpListener::from_std(socket).map(Self::Tcp),
            Listening::Unix(socket, file) => {
                UnixListener::from_std(socket).map(|socket| Self::Unix(socket, file))
            }
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// That one is gone again, or there is neither descriptor nor memory for it.
    pub async fn accept(&self) -> Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                socket.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, peer))
            }
            Self::Unix(socket, _) => {
                socket.accept().await.map(|(stream, _)| Accepted::Unix(stream))
            }
        }
    }

    /// From now on nobody else connects; those that have can be accepted.
    ///
    /// # Errors
    /// It cannot be kept from them.
    pub fn turn_away(&self, address: &ListenAddress) -> Result<()> {
        match (self, address) {
            (Self::Tcp(socket), _) => sockets::turn_away(socket),
            (Self::Unix(_, file), ListenAddress::Unix(path)) => {
                sockets::turn_away_unix(path, *file)
            }
            (Self::Unix(..), ListenAddress::Tcp(_)) => Ok(()),
        }
    }
}
