//! A log file that others move, truncate or remove, and that is rotated by its size if asked.
//!
//! Called by the thread that writes lines, between two batches of whole lines: no line is ever cut
//! by a change of files.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::Sink;
use crate::config::Rotation;

/// Mode of a file that is made here: records name clients, users and addresses.
const MODE: u32 = 0o600;

/// How long a file that was moved is still written to while nothing has its name. A program that
/// moves it and makes a new one, with an owner and a mode of its own, is not forestalled.
const MAX_NAMELESS: Duration = Duration::from_secs(1);

/// The open file, and the name that it is to have.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    out: File,
    /// Device and inode of `out`.
    identity: (u64, u64),
    rotation: Option<Rotation>,
    /// The size at which it is rotated next; more than the largest after a rotation that failed.
    rotate_at: u64,
    /// Since when nothing has its name.
    nameless_since: Option<Instant>,
    /// The last try to open it again has failed, and that was said.
    has_failed: bool,
}

impl LogFile {
    /// Opens a file to append to it, or makes it with mode 0600.
    ///
    /// # Errors
    /// It cannot be opened, or its state cannot be read.
    pub fn open(path: PathBuf, rotation: Option<Rotation>) -> std::io::Result<Self> {
        let (out, identity) = open(&path)?;
        Ok(Self {
            path,
            out,
            identity,
            rotation,
            rotate_at: rotation.map_or(u64::MAX, |rotation| rotation.max_bytes),
            nameless_since: None,
            has_failed: false,
        })
    }

    /// Opens what has the name now. The file at hand is kept when that fails: its records are in
    /// one place at least.
    fn open_again(&mut self) -> bool {
        match open(&self.path) {
            Ok((out, identity)) => {
                let is_other = identity != self.identity;
                (self.out, self.identity, self.nameless_since) = (out, identity, None);
                self.has_failed = false;
                self.rotate_at = self.rotation.map_or(u64::MAX, |rotation| rotation.max_bytes);
                is_other
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::error!(file = %self.path.display(), %error, "the decision log cannot \
                        be opened again; records go on into the file that it was");
                }
                false
            }
        }
    }

    /// Moves the file and those that were moved before it, and begins another.
    fn rotate(&mut self, rotation: Rotation, size: u64) -> bool {
        match shift(&self.path, rotation.keep) {
            Ok(()) => self.open_again(),
            Err(error) => {
                tracing::error!(file = %self.path.display(), %error, "the decision log cannot be \
                    rotated; it grows on");
                // Tried again when it has grown by as much once more.
                self.rotate_at = size.saturating_add(rotation.max_bytes);
                false
            }
        }
    }
}

impl Sink for LogFile {
    fn prepare(&mut self, bytes: usize) -> bool {
        let named = match std::fs::metadata(&self.path) {
            Ok(named) => named,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let since = *self.nameless_since.get_or_insert_with(Instant::now);
                return since.elapsed() >= MAX_NAMELESS && self.open_again();
            }
            Err(_) => return false,
        };
        self.nameless_since = None;
        if (named.dev(), named.ino()) != self.identity {
            return self.open_again();
        }
        let size = named.len();
        match self.rotation {
            Some(rotation)
                if size > 0
                    && size.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
                        > self.rotate_at =>
            {
                self.rotate(rotation, size)
            }
            Some(_) | None => false,
        }
    }

    fn reopen(&mut self) -> bool {
        self.open_again()
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn open(path: &Path) -> std::io::Result<(File, (u64, u64))> {
    let out = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    let found = out.metadata()?;
    Ok((out, (found.dev(), found.ino())))
}

/// Renames `FILE` to `FILE.1`, `FILE.1` to `FILE.2` and so on; the last one that is kept is
/// replaced.
fn shift(path: &Path, keep: u32) -> std::io::Result<()> {
    let moved = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    // Only as far as there are files in a row: those behind a gap need not move.
    let last = (1..keep).find(|number| !moved(*number).exists()).unwrap_or(keep);
    for number in (1..last).rev() {
        std::fs::rename(moved(number), moved(number + 1))?;
    }
    std::fs::rename(path, moved(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn write(file: &mut LogFile, line: &str) {
        file.prepare(line.len());
        file.write_all(line.as_bytes()).unwrap();
    }

    fn opened(rotation: Option<Rotation>) -> (tempfile::TempDir, PathBuf, LogFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = LogFile::open(path.clone(), rotation).unwrap();
        (folder, path, file)
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_one_that_exists_keeps_its_mode() {
        let (_folder, path, file) = opened(None);
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        drop(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        LogFile::open(path.clone(), None).unwrap();
        assert_eq!(mode(), 0o640);
    }

    #[test]
    fn a_file_that_was_moved_is_left_once_another_has_its_name() {
        let (folder, path, mut file) = opened(None);
        let moved = folder.path().join("moved");
        write(&mut file, "one\n");
        std::fs::rename(&path, &moved).unwrap();
        // The program that moves it makes the new one itself.
        write(&mut file, "two\n");
        assert!(!path.exists());
        std::fs::write(&path, "").unwrap();
        write(&mut file, "three\n");
        assert_eq!((text(&moved).as_str(), text(&path).as_str()), ("one\ntwo\n", "three\n"));
    }

    #[test]
    fn a_file_that_was_moved_is_made_anew_when_nobody_does_and_at_once_when_asked() {
        let (folder, path, mut file) = opened(None);
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        write(&mut file, "one\n");
        assert!(!path.exists());
        file.nameless_since = Instant::now().checked_sub(MAX_NAMELESS);
        write(&mut file, "two\n");
        assert_eq!(text(&path), "two\n");
        std::fs::rename(&path, folder.path().join("moved again")).unwrap();
        assert!(file.reopen());
        assert_eq!(text(&path), "");
    }

    #[test]
    fn a_file_that_was_truncated_goes_on_at_its_beginning() {
        let (_folder, path, mut file) = opened(None);
        write(&mut file, "one\n");
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        write(&mut file, "two\n");
        assert_eq!(text(&path), "two\n");
    }

    #[test]
    fn a_file_is_moved_before_it_is_too_large_and_so_many_are_kept() {
        let (folder, path, mut file) = opened(Some(Rotation { max_bytes: 10, keep: 2 }));
        for line in ["one\n", "two\n", "three\n", "four\n", "a line longer than that\n", "five\n"] {
            write(&mut file, line);
        }
        let moved = |number: u32| text(&folder.path().join(format!("log.{number}")));
        assert_eq!(text(&path), "five\n");
        assert_eq!(moved(1), "a line longer than that\n");
        assert_eq!(moved(2), "four\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_cannot_be_rotated_or_opened_again_is_written_on() {
        let (folder, path, mut file) = opened(Some(Rotation { max_bytes: 10, keep: 1 }));
        write(&mut file, "one one\n");
        // A folder in the place of the moved file.
        std::fs::create_dir(folder.path().join("log.1")).unwrap();
        write(&mut file, "two\n");
        write(&mut file, "three\n");
        assert_eq!(text(&path), "one one\ntwo\nthree\n");
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(!file.reopen());
        write(&mut file, "four\n");
        assert_eq!(text(&moved), "one one\ntwo\nthree\nfour\n");
    }
}
