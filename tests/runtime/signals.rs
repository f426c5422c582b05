// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests which signal reaches a container's first process: systemd must stop at the signal that engines
//! send to any container.

use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::command::until;
use crate::harness::machine::Runtime;
use crate::room::{RECORDED, Room};
use crate::site::Site;
use crate::stand::{Stand, Way};
use crate::{Check, all};

/// systemd's `SIGRTMIN+3`, which halts it.
const HALT: i32 = 37;

/// Calls that all runtimes understand, with the signals that systemd and other processes receive.
const CALLS: &[(&str, i32, i32)] = &[
    ("R kill c TERM", HALT, 15),
    ("R kill c SIGTERM", HALT, 15),
    ("R kill c 15", HALT, 15),
    ("R kill c INT", HALT, 2),
    ("R kill c SIGINT", HALT, 2),
    ("R kill c 2", HALT, 2),
    ("R kill c", HALT, 15),
    ("--root=@ROOM@/state kill c TERM", HALT, 15),
    ("R --log @ROOM@/log --log-format json kill c TERM", HALT, 15),
    ("R kill c HUP", 1, 1),
    ("R kill c QUIT", 3, 3),
    ("R kill c USR1", 10, 10),
    ("R kill c SIGWINCH", 28, 28),
    ("R kill c 37", HALT, HALT),
    ("R kill c 38", 38, 38),
];

/// Calls that only runc understands. With `--all` the signal isn't changed: it must be one that stops every process.
const RUNCS: &[(&str, i32, i32)] =
    &[("R kill c term", HALT, 15), ("R kill --all c TERM", 15, 15), ("R kill -a c 15", 15, 15)];

/// A signal is passed on unchanged if the runtime doesn't answer the request for the container's state.
pub fn without_an_answer(site: &Site) -> Check {
    /// Less than the time that engines give a container to stop.
    const DEADLINE: Duration = Duration::from_secs(8);
    let room = Room::new(site)?;
    room.runs_systemd();
    let kill = || room.run(room.wrapper().args(["kill", "c", "TERM"]));
    kill()?.expect_code(RECORDED)?;
    let argument = |word: &str| room.record().is_some_and(|record| record.contains(&format!(" bytes: {word}\n")));
    ensure!(argument("37"), "systemd's signal wasn't changed: {:?}", room.record());
    // A process that opens the FIFO waits for a writer.
    std::fs::remove_file(room.path("state.json")).unwrap();
    mknodat(CWD, room.path("state.json"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let begun = Instant::now();
    kill()?.expect_code(RECORDED)?;
    ensure!(begun.elapsed() < DEADLINE, "it took {:?}", begun.elapsed());
    ensure!(argument("TERM"), "not TERM: {:?}", room.record());
    let asked = format!("{}\0state\0", room.path("runtime").display());
    let is_asked = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .any(|line| String::from_utf8_lossy(&line).contains(&asked))
    };
    until("the end of the question", || if is_asked() { Err("it is still asked".to_owned()) } else { Ok(()) })
}

pub fn of_systemd(site: &Site, runtime: Runtime) -> Check {
    for args in [&["/sbin/init", "loud"][..], &["/usr/lib/systemd/systemd", "loud"]] {
        arrive(site, runtime, args, None, true)?;
    }
    Ok(())
}

/// The signal isn't changed for other programs. This includes those that are only named like systemd, and containers
/// whose annotations disable the hook or the change.
pub fn of_others(site: &Site, runtime: Runtime) -> Check {
    arrive(site, runtime, &["/pause", "loud"], None, false)?;
    arrive(site, runtime, &["/init", "loud"], None, false)?;
    for annotation in [("oci-systemd-hook", "disabled"), ("oci-systemd-hook.stop-signal", "unchanged")] {
        arrive(site, runtime, &["/sbin/init", "loud"], Some(annotation), false)?;
    }
    Ok(())
}

fn arrive(site: &Site, runtime: Runtime, args: &[&str], annotation: Option<(&str, &str)>, is_systemd: bool) -> Check {
    let stand = Stand::new(site, runtime, args)?;
    if let Some((key, value)) = annotation {
        let mut config = stand.config(args);
        config["annotations"][key] = value.into();
        stand.room.write_config(&config);
    }
    stand.run_into_said(Way::Wrapped, "R run -d --bundle @BUNDLE@ c")?.expect_code(0)?;
    until("the container's first word", || if stand.said().contains("ready") { Ok(()) } else { Err(stand.said()) })?;
    let of_runtime = match runtime {
        Runtime::Runc => RUNCS,
        Runtime::Crun => &[],
    };
    all(CALLS.iter().chain(of_runtime).map(|(line, systemd, other)| {
        let check = || {
            let expected = if is_systemd { systemd } else { other };
            let before = stand.said().len();
            stand.run(Way::Wrapped, line)?.expect_code(0)?;
            let found = until("a signal", || match stand.said().get(before..) {
                Some(text) if text.ends_with('\n') => Ok(text.to_owned()),
                _ => Err(stand.said()),
            })?;
            ensure!(found == format!("signal {expected}\n"), "expected {expected}, found {found:?}");
            Ok(())
        };
        (format!("{args:?} {line}"), check())
    }))
}
