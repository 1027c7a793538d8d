//! Listening sockets: bound here, or taken over from the process before; closed without losing a
//! connection.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Result as IoResult};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket, Type};

use crate::config::ListenAddress;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a socket that takes no more connections is watched for those that were on their way:
/// their last packet of the handshake takes as long as a round trip.
pub const LAST: Duration = Duration::from_millis(200);

/// Sockets that the process before had, by address.
pub type Inherited = HashMap<ListenAddress, OwnedFd>;

/// A socket of a listener.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket, and which file it is.
    Unix(UnixListener, FileId),
}

/// What tells a file from another one that takes its place: its device and its number there.
pub type FileId = (u64, u64);

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket, _) => socket.as_fd(),
        }
    }
}

/// The socket for an address: the inherited one, or a new one. `key` is what declares it.
///
/// # Errors
/// It cannot be had, in words for the operator.
pub fn bind(
    key: &str,
    address: &ListenAddress,
    inherited: &mut Inherited,
) -> Result<Listening, String> {
    match address {
        ListenAddress::Tcp(address) => bind_tcp(key, *address, inherited).map(Listening::Tcp),
        ListenAddress::Unix(path) => {
            let socket = match inherited.remove(address) {
                Some(socket) => Ok(UnixListener::from(socket)),
                None => new_unix(path),
            };
            let socket = socket.and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(Listening::Unix(socket, file_id(path)?))
            });
            socket.map_err(|fault| format!("{key}: {address}: {fault}"))
        }
    }
}

/// The socket for an address of TCP, as [`bind`].
///
/// # Errors
/// As [`bind`].
pub fn bind_tcp(
    key: &str,
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<TcpListener, String> {
    let socket = match inherited.remove(&address.into()) {
        Some(socket) => {
            let socket = TcpListener::from(socket);
            // Whoever had it before may have been about to close it.
            let _ = SockRef::from(&socket).detach_filter();
            Ok(socket)
        }
        None => new(address),
    };
    let socket = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    socket.map_err(|fault| format!("{key}: {address}: {fault}"))
}

fn new(address: SocketAddr) -> IoResult<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // What a process before us left in TIME_WAIT does not keep us from starting.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Who may connect is who may write to it: the owner and the group. A socket of a gateway that is
/// gone is replaced, under another name first, so that there is always one.
fn new_unix(path: &Path) -> IoResult<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(Error::new(ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ErrorKind::AddrInUse.into()),
        Ok(_) | Err(_) => {}
    }
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!(".{}", std::process::id()));
    let staged = Path::new(&staged);
    let _ = std::fs::remove_file(staged);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(staged)?)?;
    std::fs::set_permissions(staged, std::fs::Permissions::from_mode(0o660))?;
    socket.listen(BACKLOG)?;
    std::fs::rename(staged, path)?;
    Ok(socket.into())
}

fn file_id(path: &Path) -> IoResult<FileId> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// From now on nobody can connect to a Unix socket: its file is gone. Those that have can be
/// accepted. Another file in its place is somebody else's, and stays.
///
/// # Errors
/// The file is not there, or cannot be removed.
pub fn turn_away_unix(path: &Path, file: FileId) -> IoResult<()> {
    if file_id(path)? == file { std::fs::remove_file(path) } else { Ok(()) }
}

/// From now on the kernel drops attempts to connect unanswered; those it has answered are finished
/// and can be accepted. To close a socket resets what waits in it, requests already sent included,
/// so it is emptied first. A client whose attempt was dropped tries again after a second and is
/// refused then, or reaches the next process.
///
/// # Errors
/// The kernel has no such filters.
pub fn turn_away(listener: &impl AsFd) -> IoResult<()> {
    // Classic BPF over the TCP header: load its flags (byte 13), drop what has SYN set (bit 1),
    // pass the rest.
    let (load_byte, jump_if_set, give) = (0x30, 0x45, 0x06);
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(load_byte, 0, 0, 13),
        SockFilter::new(jump_if_set, 0, 1, 2),
        SockFilter::new(give, 0, 0, 0),
        SockFilter::new(give, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn a_socket_that_turns_away_still_gives_those_that_came_before() {
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = new(address).unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        turn_away(&listener).unwrap();
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(300));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        early.write_all(b"early").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        drop(listener);
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"early");
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_socket_that_turned_away_accepts_again_for_who_inherits_it() {
        let first = new("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        turn_away(&first).unwrap();
        let mut inherited =
            Inherited::from([(address.into(), OwnedFd::from(first.try_clone().unwrap()))]);
        let _second = bind_tcp("listeners", address, &mut inherited).unwrap();
        assert!(TcpStream::connect_timeout(&address, Duration::from_secs(120)).is_ok());
    }

    #[test]
    fn an_inherited_socket_is_used_and_a_new_one_is_made_for_what_was_not() {
        let first = new("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert!(
            bind_tcp("listeners", address, &mut Inherited::new())
                .unwrap_err()
                .contains("listeners: 127.0.0.1:")
        );
        let mut inherited =
            Inherited::from([(address.into(), OwnedFd::from(first.try_clone().unwrap()))]);
        let second = bind_tcp("listeners", address, &mut inherited).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
        assert!(inherited.is_empty());
    }
}
