//! Lines for a reader that may be slow, hang or be gone: a bounded queue, and a thread that writes.
//! Whoever has a line to write never waits; what does not fit is dropped and counted.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the writer.
const MAX_LINES: usize = 16_384;
/// Bytes of them.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Bytes written in one call.
const BATCH_BYTES: usize = 64 * 1024;

/// How long the thread lets lines gather before it looks for more of them. While there are some it
/// is never asleep in the queue, so that nobody who has a line has to wake it.
const GATHER: Duration = Duration::from_millis(2);

/// How long a start waits until it knows whether its lines can be written.
const MAX_OPEN_WAIT: Duration = Duration::from_secs(2);

/// Where a thread writes lines.
pub trait Sink: Write {
    /// Makes ready for a batch of so many bytes: a file follows its name, or is rotated. True when
    /// what is written from now on is the beginning of another file.
    fn prepare(&mut self, bytes: usize) -> bool {
        let _ = bytes;
        false
    }

    /// Opens again what has a name; true when it did.
    fn reopen(&mut self) -> bool {
        false
    }
}

impl Sink for std::io::Stdout {}
impl Sink for std::fs::File {}

/// What the writing thread is handed.
#[derive(Debug)]
enum Message {
    /// A line, its end included.
    Line(Vec<u8>),
    /// Everything before this has been written.
    Flush(SyncSender<()>),
    /// Nothing to write: look whether the sink is to be opened again.
    Wake,
}

/// Writes lines from a thread of its own.
#[derive(Clone, Debug)]
pub struct LineWriter {
    sender: SyncSender<Message>,
    queued_bytes: Arc<AtomicUsize>,
    /// The sink is to be opened again before the next line.
    reopening: Arc<AtomicBool>,
    dropped: IntCounter,
}

impl LineWriter {
    /// Starts the thread, which opens what it writes to. `dropped` counts the lines that were not
    /// written. An open that takes longer than a moment (a named pipe without a reader, a disk that
    /// hangs) is not waited for: lines gather until it is done.
    ///
    /// # Errors
    /// It cannot be opened, or no thread can be started.
    pub fn start<S: Sink>(
        name: &'static str,
        open: impl FnOnce() -> std::io::Result<S> + Send + 'static,
        dropped: IntCounter,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(MAX_LINES);
        let writer =
            Self { sender, queued_bytes: Arc::default(), reopening: Arc::default(), dropped };
        let thread = writer.thread(receiver);
        let (opener, opened) = sync_channel(1);
        let run = move || {
            let out = match open() {
                Ok(out) => out,
                Err(error) => {
                    if let Err(error) = opener.send(Err(error)) {
                        tracing::error!(error = ?error.0.err(), "{name}: cannot be opened; its \
                            lines are dropped");
                    }
                    return;
                }
            };
            if opener.send(Ok(())).is_err() {
                tracing::info!("{name}: opened at last");
            }
            thread.write_all(Lines { out, is_torn: false });
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        if let Ok(opened) = opened.recv_timeout(MAX_OPEN_WAIT) {
            opened?;
        } else {
            tracing::warn!(
                "{name}: cannot be opened yet; its lines wait, and are dropped when they are too \
                    many"
            );
        }
        Ok(writer)
    }

    fn thread(&self, receiver: Receiver<Message>) -> Writing {
        Writing {
            receiver,
            queued_bytes: self.queued_bytes.clone(),
            reopening: self.reopening.clone(),
            dropped: self.dropped.clone(),
        }
    }

    /// Has the thread open its file again before the next line. Waits for nothing.
    pub fn reopen(&self) {
        self.reopening.store(true, Ordering::Release);
        // With no room for it the thread is at work, and looks anyway.
        let _ = self.sender.try_send(Message::Wake);
    }

    /// The counter of lines that were not written.
    #[must_use]
    pub const fn dropped(&self) -> &IntCounter {
        &self.dropped
    }

    /// Hands a line to the thread, its end included; drops and counts it when the thread cannot
    /// keep up.
    pub fn write(&self, line: Vec<u8>) {
        let length = line.len();
        let queued = self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        let sent = if queued + length > MAX_BYTES {
            Err(TrySendError::Full(Message::Line(line)))
        } else {
            self.sender.try_send(Message::Line(line))
        };
        if sent.is_err() {
            self.queued_bytes.fetch_sub(length, Ordering::Relaxed);
            self.dropped.inc();
        }
    }

    /// Waits until what was handed over has been written, at most so long.
    pub fn flush(&self, longest: Duration) {
        let (asker, flushed) = sync_channel(1);
        if self.sender.try_send(Message::Flush(asker)).is_ok() {
            let _ = flushed.recv_timeout(longest);
        }
    }
}

/// One line of the gateway's own log: the layer that formats them writes each with one call.
#[derive(Debug)]
pub struct LogLine<'a>(&'a LineWriter);

impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.write(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine(self)
    }
}

/// Where lines go, which may be cut short in the middle of one.
struct Lines<S> {
    out: S,
    /// The last line was cut: the next one must not be taken for its rest.
    is_torn: bool,
}

impl<S: Sink> Lines<S> {
    /// Opens the sink again; a new file has no line that was cut.
    fn reopen(&mut self) {
        self.is_torn &= !self.out.reopen();
    }

    /// Writes whole lines, all into one file; gives how many of them were written.
    fn write(&mut self, lines: &[u8]) -> usize {
        let mut rest = lines;
        self.is_torn &= !self.out.prepare(lines.len());
        if self.is_torn && self.out.write(b"\n").is_ok_and(|written| written == 1) {
            self.is_torn = false;
        }
        while !self.is_torn && !rest.is_empty() {
            match self.out.write(rest) {
                Ok(written @ 1..) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A full disk or a closed pipe: the next lines may fare better, and requests go on.
                Ok(0) | Err(_) => break,
            }
        }
        let done = lines.get(..lines.len() - rest.len()).unwrap_or_default();
        self.is_torn |= done.last().is_some_and(|byte| *byte != b'\n');
        let _ = self.out.flush();
        memchr::memchr_iter(b'\n', done).count()
    }
}

/// What the thread works with.
struct Writing {
    receiver: Receiver<Message>,
    queued_bytes: Arc<AtomicUsize>,
    reopening: Arc<AtomicBool>,
    dropped: IntCounter,
}

impl Writing {
    /// Writes what has gathered in one call; a reader that hangs holds up this thread alone.
    fn write_all<S: Sink>(&self, mut out: Lines<S>) {
        let mut next = self.receiver.recv().ok();
        while let Some(message) = next.take() {
            if self.reopening.swap(false, Ordering::AcqRel) {
                out.reopen();
            }
            let first = match message {
                Message::Line(line) => line,
                Message::Wake => {
                    next = self.receiver.recv().ok();
                    continue;
                }
                Message::Flush(asker) => {
                    let _ = asker.try_send(());
                    next = self.receiver.recv().ok();
                    continue;
                }
            };
            let (lines, count, after) = self.gather(first);
            let written = out.write(&lines);
            self.dropped.inc_by(u64::try_from(count - written.min(count)).unwrap_or(u64::MAX));
            self.queued_bytes.fetch_sub(lines.len(), Ordering::Relaxed);
            next = after.or_else(|| self.next(lines.len()));
        }
    }

    /// The lines that wait, up to a batch of them; their number; and what came behind them.
    fn gather(&self, first: Vec<u8>) -> (Vec<u8>, usize, Option<Message>) {
        let (mut lines, mut count) = (first, 1);
        while lines.len() < BATCH_BYTES {
            match self.receiver.try_recv() {
                Ok(Message::Line(line)) => {
                    lines.extend_from_slice(&line);
                    count += 1;
                }
                Ok(other) => return (lines, count, Some(other)),
                Err(_) => break,
            }
        }
        (lines, count, None)
    }

    /// What comes after a batch of so many bytes; lines gather first if it was a small one.
    fn next(&self, bytes: usize) -> Option<Message> {
        if bytes < BATCH_BYTES {
            std::thread::sleep(GATHER);
        }
        match self.receiver.try_recv() {
            Ok(message) => Some(message),
            Err(TryRecvError::Empty) => self.receiver.recv().ok(),
            Err(TryRecvError::Disconnected) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    /// Takes so many bytes, then waits or fails.
    #[derive(Clone, Default)]
    struct Reader(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        hangs: bool,
        room: Option<usize>,
        written: Vec<u8>,
        waiting: bool,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let (state, changed) = &*self.0;
            let mut state = state.lock().unwrap();
            while state.hangs {
                state.waiting = true;
                changed.notify_all();
                state = changed.wait(state).unwrap();
            }
            let count = state.room.unwrap_or(usize::MAX).min(bytes.len());
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            state.room = state.room.map(|room| room - count);
            state.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Reader {
        fn reopen(&mut self) -> bool {
            self.0.0.lock().unwrap().written.clear();
            true
        }
    }

    fn writer(reader: &Reader) -> LineWriter {
        let reader = reader.clone();
        LineWriter::start(
            "test",
            move || Ok(reader),
            IntCounter::new("dropped", "Dropped").unwrap(),
        )
        .unwrap()
    }

    fn change(reader: &Reader, change: impl FnOnce(&mut State)) {
        change(&mut reader.0.0.lock().unwrap());
        reader.0.1.notify_all();
    }

    fn wait_until_it_hangs(reader: &Reader) {
        let (state, changed) = &*reader.0;
        drop(changed.wait_while(state.lock().unwrap(), |state| !state.waiting).unwrap());
    }

    #[test]
    fn a_reader_that_hangs_holds_up_nobody_and_what_is_dropped_is_counted() {
        let reader = Reader::default();
        change(&reader, |state| state.hangs = true);
        let writer = writer(&reader);
        writer.write(b"first\n".to_vec());
        wait_until_it_hangs(&reader);
        for _ in 0..MAX_LINES + 5 {
            writer.write(b"line\n".to_vec());
        }
        assert_eq!(writer.dropped().get(), 5);
        // There is no room for the question either: the end does not wait.
        writer.flush(Duration::from_secs(3_600));
        change(&reader, |state| state.hangs = false);
        let all = b"first\n".len() + MAX_LINES * b"line\n".len();
        while reader.0.0.lock().unwrap().written.len() < all {
            std::thread::yield_now();
        }
        writer.write(b"after\n".to_vec());
        writer.flush(Duration::from_secs(3_600));
        assert!(reader.0.0.lock().unwrap().written.ends_with(b"line\nafter\n"));
        assert_eq!(writer.dropped().get(), 5);
    }

    #[test]
    fn lines_wait_in_bounded_memory() {
        let reader = Reader::default();
        change(&reader, |state| state.hangs = true);
        let writer = writer(&reader);
        writer.write(b"first\n".to_vec());
        wait_until_it_hangs(&reader);
        for _ in 0..20 {
            writer.write(vec![b'x'; 1024 * 1024]);
        }
        assert_eq!(
            writer.dropped().get(),
            5,
            "fifteen and the first are fewer than sixteen mebibytes"
        );
        change(&reader, |state| state.hangs = false);
    }

    #[test]
    fn a_line_that_was_cut_short_is_not_glued_to_the_next() {
        let reader = Reader::default();
        change(&reader, |state| state.room = Some(8));
        let writer = writer(&reader);
        let flush = || writer.flush(Duration::from_secs(3_600));
        writer.write(b"one\n".to_vec());
        flush();
        writer.write(b"second\n".to_vec());
        flush();
        writer.write(b"third\n".to_vec());
        flush();
        assert_eq!(
            writer.dropped().get(),
            2,
            "a full disk took half of one line and nothing of another"
        );
        change(&reader, |state| state.room = None);
        writer.write(b"fourth\n".to_vec());
        flush();
        assert_eq!(reader.0.0.lock().unwrap().written, b"one\nseco\nfourth\n");
    }

    #[test]
    fn a_sink_is_opened_again_before_the_next_line_and_has_no_rest_of_one_that_was_cut() {
        let reader = Reader::default();
        change(&reader, |state| state.room = Some(2));
        let writer = writer(&reader);
        let flush = || writer.flush(Duration::from_secs(3_600));
        writer.write(b"first\n".to_vec());
        flush();
        assert_eq!(reader.0.0.lock().unwrap().written, b"fi");
        change(&reader, |state| state.room = None);
        writer.reopen();
        writer.write(b"second\n".to_vec());
        flush();
        assert_eq!(reader.0.0.lock().unwrap().written, b"second\n");
    }

    #[test]
    fn asking_to_open_again_waits_for_no_writer_that_hangs() {
        let reader = Reader::default();
        change(&reader, |state| state.hangs = true);
        let writer = writer(&reader);
        writer.write(b"first\n".to_vec());
        wait_until_it_hangs(&reader);
        for _ in 0..MAX_LINES {
            writer.write(b"line\n".to_vec());
        }
        writer.reopen();
        change(&reader, |state| state.hangs = false);
        let all = MAX_LINES * b"line\n".len();
        while reader.0.0.lock().unwrap().written.len() < all {
            std::thread::yield_now();
        }
        assert_eq!(writer.dropped().get(), 0);
        assert!(reader.0.0.lock().unwrap().written.starts_with(b"line\n"));
    }
}
