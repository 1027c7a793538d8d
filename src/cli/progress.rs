//! Progress of long work, shown only on a terminal.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::tooling::Workers;

/// Longest line that is read whole, in bytes.
const LONGEST: u64 = 1 << 20;

fn bar(what: &'static str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("{msg} {bar:40} {percent} % {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what);
    bar
}

/// Runs work on one thread per processor, and shows its progress.
pub(super) fn during<T>(what: &'static str, work: impl FnOnce(Workers<'_>) -> T) -> T {
    let bar = bar(what);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let run = |work: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    };
    let progress = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let done = work(Workers { run: &run, progress: &progress });
    bar.finish_and_clear();
    done
}

/// Reads the lines of a file, or of standard input for `-`, skipping empty ones.
pub(super) fn lines(
    what: &'static str,
    path: &Path,
    mut line: impl FnMut(&[u8]),
) -> Result<(), String> {
    let said = |fault: std::io::Error| format!("{}: {fault}", path.display());
    let bar = bar(what);
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let file = std::fs::File::open(path).map_err(said)?;
        bar.set_length(file.metadata().map_err(said)?.len());
        Box::new(file)
    };
    let mut reader = BufReader::with_capacity(1 << 20, input);
    let (mut space, mut done) = (Vec::new(), 0);
    loop {
        space.clear();
        let count = (&mut reader).take(LONGEST).read_until(b'\n', &mut space).map_err(said)?;
        if count == 0 {
            bar.finish_and_clear();
            return Ok(());
        }
        let mut skipped = 0;
        if count as u64 == LONGEST && !space.ends_with(b"\n") {
            // Too long for a record: shortened, so that it counts as unreadable.
            skipped = reader.skip_until(b'\n').map_err(said)?;
            space.truncate(1);
        }
        if !space.trim_ascii().is_empty() {
            line(&space);
        }
        done += (count + skipped) as u64;
        bar.set_position(done);
    }
}
