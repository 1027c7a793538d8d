//! An upgrade without a lost connection: the successor, ready in all but sockets, asks for them
//! over a Unix socket, serves on them, and only then tells this process to end. A successor that
//! dies before that has changed nothing.
//!
//! The conversation, one line each: the successor says who it is, gets the addresses and with them
//! the descriptors (SCM_RIGHTS), says `serving` and the addresses that it accepts on, and is told
//! that this process drains. Over the same socket a command may ask for a successor to be started
//! (successor.rs).

use std::io::{
    BufRead, BufReader, Error, ErrorKind, IoSlice, IoSliceMut, Read, Result as IoResult, Write,
};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use sd_notify::NotifyState;
use tokio::net::UnixListener;

use super::lifecycle::{Stop, tell};
use super::sockets::Inherited;
use super::{Process, successor};
use crate::config::{Fixed, ListenAddress};

const HELLO: &str = "scopegate upgrade 1";
const BYE: &str = "draining";
/// How long one side waits for the other's line. A successor has everything but sockets ready when
/// it asks.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Descriptors that one message can carry (`SCM_MAX_FD`).
const MOST: usize = 253;
/// Longest list of addresses.
const LIST: usize = 16 * 1024;

/// Where a gateway of this run folder offers its sockets.
fn path(run_folder: &str) -> PathBuf {
    Path::new(run_folder).join("upgrade.sock")
}

/// A conversation with the gateway that serves with this run folder.
///
/// # Errors
/// None does. In words for the operator, like all that `said` makes.
pub(super) fn connect(run_folder: &str) -> Result<UnixStream, String> {
    let stream = UnixStream::connect(path(run_folder)).map_err(|fault| said(run_folder, &fault))?;
    let limited = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    limited.map_err(|fault| said(run_folder, &fault))?;
    Ok(stream)
}

/// What went wrong with that gateway.
pub(super) fn said(run_folder: &str, fault: &Error) -> String {
    let gone = matches!(
        fault.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    );
    let hint = if gone {
        "the gateway there has ended, or has just handed over to another successor"
    } else {
        "is a gateway with this run_folder serving?"
    };
    format!("{}: {fault}; {hint}", path(run_folder).display())
}

/// The process that serves now, and has given us its sockets.
#[derive(Debug)]
pub struct Predecessor(BufReader<UnixStream>);

impl Predecessor {
    /// Asks the gateway that serves for its sockets.
    ///
    /// # Errors
    /// None serves here, or it does not give them. In words for the operator.
    pub fn ask(run_folder: &str) -> Result<(Self, Inherited), String> {
        let mut stream = connect(run_folder)?;
        let inherited = writeln!(stream, "{HELLO}").and_then(|()| receive(&stream));
        let inherited = inherited.map_err(|fault| said(run_folder, &fault))?;
        Ok((Self(BufReader::new(stream)), inherited))
    }

    /// Tells it that these addresses are served; it ends once what it has under way is over.
    ///
    /// # Errors
    /// It is gone, or does not answer.
    pub fn serving(mut self, addresses: &[ListenAddress]) -> IoResult<()> {
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        writeln!(self.0.get_mut(), "serving {}", list.join(" "))?;
        let mut line = String::new();
        self.0.by_ref().take(64).read_line(&mut line)?;
        if line.trim_end() == BYE { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

/// Reads the list of addresses, and the descriptors that come with it in the same order.
fn receive(stream: &UnixStream) -> IoResult<Inherited> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut list = vec![0; LIST];
    let got =
        recvmsg(stream, &mut [IoSliceMut::new(&mut list)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    let text =
        std::str::from_utf8(list.get(..got.bytes).unwrap_or_default()).map_err(Error::other)?;
    let addresses = addresses(text)?;
    if addresses.is_empty() && sockets.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if addresses.len() != sockets.len() {
        return Err(Error::new(ErrorKind::InvalidData, "it gave other sockets than it said"));
    }
    Ok(addresses.into_iter().zip(sockets).collect())
}

fn addresses(list: &str) -> IoResult<Vec<ListenAddress>> {
    list.split_whitespace().map(|address| address.parse().map_err(Error::other)).collect()
}

/// One line that names every listener, and what each is for.
fn announce(fixed: &Fixed) {
    let listeners: Vec<String> = fixed
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .chain(fixed.metrics.map(|address| format!("{address} (metrics)")))
        .chain(fixed.admin.map(|address| format!("{address} (admin)")))
        .collect();
    tracing::info!(listeners = %listeners.join(", "), public_url = %fixed.public_url, "serving");
}

/// All listeners accept: tells the predecessor, so that it ends, and whoever started the gateway;
/// and offers them from now on.
pub async fn serving(process: &Arc<Process>, predecessor: Option<Predecessor>) {
    announce(&process.fixed);
    process.life.serves();
    if let Some(predecessor) = predecessor {
        let addresses = process.fixed.addresses();
        let answered = tokio::task::spawn_blocking(move || predecessor.serving(&addresses)).await;
        match answered.unwrap_or_else(|error| Err(Error::other(error))) {
            Ok(()) => {
                tracing::info!("taken over: the process before this one ends once it is idle");
            }
            Err(error) if somebody_offers(&process.fixed) => {
                // It has given up on us and serves on: two must not.
                tracing::error!(%error, "the process before this one serves on; this one ends");
                process.logs.flush(Duration::from_millis(500));
                std::process::exit(1);
            }
            Err(error) => tracing::warn!(%error, "the process before this one has ended by itself"),
        }
    }
    tell(NotifyState::Ready);
    offer(process);
}

/// Whether a process offers its sockets in our run folder.
fn somebody_offers(fixed: &Fixed) -> bool {
    fixed.upgrade_folder().is_some_and(|folder| UnixStream::connect(path(folder)).is_ok())
}

/// The sockets of this process, for a successor.
#[derive(Debug, Default)]
pub struct Offer(Vec<(ListenAddress, OwnedFd)>);

impl Offer {
    /// Adds a socket.
    ///
    /// # Errors
    /// There is no descriptor left for it.
    pub fn add(&mut self, address: &ListenAddress, socket: &impl AsFd) -> Result<(), String> {
        let socket = socket.as_fd().try_clone_to_owned();
        let socket = socket.map_err(|fault| format!("{address}: {fault}"))?;
        self.0.push((address.clone(), socket));
        Ok(())
    }

    fn send(&self, stream: &UnixStream) -> IoResult<()> {
        let list: Vec<String> = self.0.iter().map(|(address, _)| address.to_string()).collect();
        let list = list.join(" ");
        let sockets: Vec<_> = self.0.iter().map(|(_, socket)| socket.as_fd()).collect();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if sockets.len() > MOST || !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(Error::other("too many listeners"));
        }
        sendmsg(stream, &[IoSlice::new(list.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Offers our sockets to a successor from now on. Where that cannot be, upgrades cannot be either,
/// and the gateway serves.
fn offer(process: &Arc<Process>) {
    let Some(folder) = process.fixed.upgrade_folder() else { return };
    match listen(Path::new(folder)) {
        Ok(listener) => {
            tokio::spawn(attend(process.clone(), listener));
        }
        Err(error) => tracing::warn!(%error, folder, "no upgrade will be possible"),
    }
}

/// Binds under another name and moves into place, so that there is always exactly one who offers.
fn listen(folder: &Path) -> IoResult<UnixListener> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if std::fs::metadata(folder)?.permissions().mode() & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::PermissionDenied,
            "the folder is open to others (it must be 0700)",
        ));
    }
    let (path, staged) =
        (folder.join("upgrade.sock"), folder.join(format!("upgrade.{}", std::process::id())));
    let _ = std::fs::remove_file(&staged);
    let listener = UnixListener::bind(&staged)?;
    std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&staged, &path)?;
    Ok(listener)
}

async fn attend(process: Arc<Process>, listener: UnixListener) {
    let mut stop = process.life.stop();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop != Stop::Not) => return,
        };
        let stream = match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a successor could not be heard");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let heard = process.clone();
        let said = tokio::task::spawn_blocking(move || converse(&heard, stream)).await;
        process.life.hands_over(false);
        match said.unwrap_or_else(|error| Err(Error::other(error))) {
            Ok(Some(taken)) => return process.life.succeeded(taken),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "an upgrade has failed; this process goes on serving");
            }
        }
    }
}

/// Hears what the other side wants. Gives the addresses that a successor serves.
fn converse(process: &Arc<Process>, stream: UnixStream) -> IoResult<Option<Vec<ListenAddress>>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    match line(&mut reader)?.as_str() {
        HELLO => hand_over(process, &mut reader).map(Some),
        successor::WANTED => {
            let process = process.clone();
            // Beside this: the successor is heard here meanwhile.
            std::thread::Builder::new()
                .name("successor".to_owned())
                .spawn(move || successor::start(&process, reader.get_mut()))?;
            Ok(None)
        }
        _ => Err(Error::new(ErrorKind::InvalidData, "a successor of another kind")),
    }
}

/// The conversation with a successor; gives the addresses that it serves.
fn hand_over(
    process: &Process,
    reader: &mut BufReader<UnixStream>,
) -> IoResult<Vec<ListenAddress>> {
    let offer = process.offer.get().ok_or_else(|| Error::other("nothing to hand over yet"))?;
    process.life.hands_over(true);
    if process.life.is_draining() || *process.life.stop().borrow() != Stop::Not {
        return Err(Error::other("this process is about to end"));
    }
    offer.send(reader.get_ref())?;
    let line = line(reader)?;
    let taken =
        line.strip_prefix("serving ").ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
    let taken = addresses(taken)?;
    // By us, who are the main process until then: a successor that fails before this changes
    // nothing for systemd either.
    let successor = rustix::net::sockopt::socket_peercred(reader.get_ref())?.pid.as_raw_nonzero();
    tell(NotifyState::MainPid(successor.get().unsigned_abs()));
    if let Err(error) = writeln!(reader.get_mut(), "{BYE}") {
        // It is gone: this process serves on, and is the main one again.
        tell(NotifyState::MainPid(std::process::id()));
        return Err(error);
    }
    Ok(taken)
}

fn line(reader: &mut BufReader<UnixStream>) -> IoResult<String> {
    let mut line = String::new();
    reader.by_ref().take(LIST as u64).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
