//! kill -9, and the power that goes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Load, families, fixed, holds, lengths, millis, used_stay_used};
use crate::support::{Gateway, judge, many, wait_for};

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let rounds = many("ROUNDS", 4);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("data");
    super::size::fill(&store, many("TOKENS", 20_000));
    let mut gateway = Gateway::start(&fixed(Some(&store)));
    let families = families(&gateway, 3);
    let (mut writes, mut slowest, mut loaded) = (0, Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let before = lengths(&families);
        let (load, began) = (Load::start(&gateway, &families), Instant::now());
        std::thread::park_timeout(millis(250 + 37 * (round as u64 % 7)));
        load.has_written(&families, &before);
        gateway.kill();
        loaded += began.elapsed();
        let acknowledged = load.end();
        let began = Instant::now();
        gateway.restart();
        slowest = slowest.max(began.elapsed());
        holds(&gateway, &acknowledged, &families);
        let refreshed = lengths(&families).iter().sum::<usize>() - before.iter().sum::<usize>();
        writes += acknowledged.issued.lock().unwrap().len()
            + 2 * acknowledged.revoked.lock().unwrap().len()
            + refreshed;
    }
    used_stay_used(&gateway, &families);
    let rate = writes as u64 * 1_000 / u64::try_from(loaded.as_millis()).unwrap();
    println!("{rounds} kills, {writes} acknowledged writes ({rate}/s), none lost");
    judge("ready again", slowest, Duration::from_secs(2));
    assert!(many("STRICT", 0) == 0 || rate >= 50, "{rate} writes a second");
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A file with a file system of its own, mounted; what is not flushed stays in the cache of the
/// mounted one.
struct Disk<'a> {
    image: &'a Path,
    at: &'a Path,
}

impl<'a> Disk<'a> {
    fn mount(image: &'a Path, at: &'a Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let (image_text, at_text) = (image.display().to_string(), at.display().to_string());
        run("mount", &["-o", "loop,commit=300", &image_text, &at_text])?;
        Ok(Self { image, at })
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[&self.at.display().to_string()]) {
            println!("{}: {error}", self.image.display());
        }
    }
}

/// Waits until every thread of the gateway stands still, and until the clients have taken in what
/// it had answered: an answer that is still on its way would be followed by a use of what it gave,
/// and not be in the list.
fn stopped(gateway: &Gateway) {
    let tasks = format!("/proc/{}/task", gateway.pid());
    wait_for("the gateway to stand still", || {
        let states = std::fs::read_dir(&tasks).unwrap().flatten().filter_map(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            Some(stat.rsplit_once(") ")?.1.starts_with('T'))
        });
        states.into_iter().all(|still| still).then_some(())
    });
    std::thread::park_timeout(millis(50));
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let rounds = many("ROUNDS", 3).min(30);
    let folder = tempfile::tempdir().unwrap();
    let (image, disk) = (folder.path().join("disk"), folder.path().join("mounted"));
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let made = run("mkfs.ext4", &["-q", &image.display().to_string()])
        .and_then(|()| Disk::mount(&image, &disk));
    let mounted = match made {
        Ok(mounted) => mounted,
        // Without the right to mount there is no disk whose power can be cut.
        Err(cause) => {
            return println!(
                "SKIPPED: a power cut needs root, mkfs.ext4 and loop devices: {cause}"
            );
        }
    };
    let gateway = Gateway::start(&fixed(Some(&disk.join("data"))));
    let families = families(&gateway, 2);
    let mut writes = 0;
    for round in 0..rounds {
        let (load, before) = (Load::start(&gateway, &families), lengths(&families));
        std::thread::park_timeout(millis(300 + 53 * (round as u64 % 5)));
        load.has_written(&families, &before);
        gateway.signal("STOP");
        stopped(&gateway);
        // What was acknowledged until then; requests under way are answered later, and are not
        // asked about.
        let last = lengths(&families);
        let (issued, revoked) = {
            let known = &load.acknowledged;
            (known.issued.lock().unwrap().clone(), known.revoked.lock().unwrap().clone())
        };
        let (copy, at) = (folder.path().join("copy"), folder.path().join("copied"));
        std::fs::copy(&image, &copy).unwrap();
        {
            let _disk = Disk::mount(&copy, &at).unwrap();
            let after = Gateway::start(&fixed(Some(&at.join("data"))));
            let acknowledged = super::Acknowledged {
                issued: issued.clone().into(),
                revoked: revoked.clone().into(),
            };
            let cut: Vec<super::Family> = families
                .iter()
                .zip(&last)
                .map(|(family, last)| {
                    std::sync::Arc::new(family.lock().unwrap()[..*last].to_vec().into())
                })
                .collect();
            holds(&after, &acknowledged, &cut);
            used_stay_used(&after, &cut);
        }
        writes += issued.len() + 2 * revoked.len();
        gateway.signal("CONT");
        load.end();
    }
    println!("{rounds} power cuts, {writes} acknowledged tokens and revocations, none lost");
    drop(gateway);
    drop(mounted);
}
