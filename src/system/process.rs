//! What the kernel says of this process, in `/proc/self`. The rest of `/proc` may be hidden from it
//! (`ProcSubset=pid` of systemd).

use std::fs;

use super::files;
use crate::config::Lookup as _;

/// Clock ticks a second in `/proc`: `USER_HZ`, the same on every processor we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the process uses. `None` where the system does not say, as all of it beyond Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time since the start, in user and kernel mode, seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory in use, bytes.
    pub resident_bytes: Option<f64>,
    /// Address space, bytes.
    pub virtual_bytes: Option<f64>,
    /// Threads.
    pub threads: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<f64>,
    /// The most file descriptors that it may have open.
    pub max_fds: Option<f64>,
}

/// Asks the kernel.
#[must_use]
pub fn usage() -> Usage {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let stat = text("/proc/self/stat");
    let status = text("/proc/self/status");
    Usage {
        cpu_seconds: cpu_seconds(&stat),
        resident_bytes: number_after(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024.0),
        virtual_bytes: number_after(&status, "VmSize:").map(|kibibytes| kibibytes * 1024.0),
        threads: number_after(&status, "Threads:"),
        open_fds: open_fds(),
        max_fds: number_after(&text("/proc/self/limits"), "Max open files"),
    }
}

/// The user of the system whose process this is, for audit records: behind sudo the one who typed
/// it, and without a name the number.
#[must_use]
pub fn user() -> String {
    let system = files::System::default();
    let named = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| system.env(name));
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// The number of entries of `/proc/self/fd`. Linux says it as the folder's size since 6.2; before,
/// they are counted.
fn open_fds() -> Option<f64> {
    const FOLDER: &str = "/proc/self/fd";
    let size = fs::metadata(FOLDER).ok()?.len();
    let number = if size > 0 { size } else { fs::read_dir(FOLDER).ok()?.count() as u64 };
    u32::try_from(number).ok().map(f64::from)
}

/// A field of `/proc/self/stat`, counted from 3 as in proc(5); the second may hold spaces.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

/// The first word behind this beginning of a line, if it is a number.
fn number_after(text: &str, beginning: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_moves_no_field() {
        let stat = "7 (a) b c) S 1 7 7 0 -1 4 0 0 0 0 250 150 0 0 20 0 9 0 12345 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn a_limit_that_is_none_is_absent() {
        assert_eq!(number_after("Max open files            unlimited", "Max open files"), None);
        assert_eq!(
            number_after("Max open files  1024  4096 files", "Max open files"),
            Some(1024.0)
        );
    }
}
