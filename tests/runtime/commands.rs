// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that the runtimes' commands and all forms of their options do and print the same through the
//! wrapper as without it.

use std::fs;

use crate::harness::machine::Runtime;
use crate::site::Site;
use crate::stand::{Stand, Way};
use crate::{Check, all};

/// Successive calls for the same container; `~` waits until the container has stopped. The second half includes what
/// runtime-tools' validation tests: create, start, state, kill, killsig, kill_no_effect, delete, pidfile.
const CASES: &[&str] = &[
    "",
    "--version",
    "-v",
    "-V",
    "--help",
    "-h",
    "-?",
    "--usage",
    "help",
    "h",
    "help create",
    "create --help",
    "run -h",
    "kill --help",
    "kill -?",
    "unknown",
    "unknown c TERM",
    "--unknown",
    "--unknown create c",
    "create --unknown c",
    "--root",
    "--log",
    "R list",
    "R list -q",
    "R list --format json",
    "R list --format=json",
    "R --debug list",
    "features",
    "in empty: spec",
    "in empty: spec --rootless",
    "spec --bundle @ROOM@/empty",
    "in empty: spec ; in empty: spec",
    "R state",
    "R state c",
    "R state c d",
    "R kill",
    "R kill c",
    "R kill c TERM",
    "R kill c 15",
    "R kill c NOSIG",
    "R kill --all c TERM",
    "R delete",
    "R delete c",
    "R delete --force c",
    "R delete -f c",
    "R start",
    "R start c",
    "R ps c",
    "R events c",
    "R events --stats c",
    "R pause c",
    "R resume c",
    "R update --memory 100 c",
    "R exec c /pause",
    "R exec c create --bundle @BUNDLE@",
    "R exec",
    "R checkpoint c",
    "R restore --bundle @BUNDLE@ c",
    "R create",
    "R create --bundle @BUNDLE@",
    "R create --bundle",
    "R create --bundle= c",
    "R create --bundle @ROOM@/nowhere c",
    "R create --bundle=@ROOM@/nowhere c",
    "R create --bundle @ROOM@/empty c",
    "R run --bundle @ROOM@/empty c",
    "R run --bundle @ROOM@/nowhere c",
    "in empty: R create c",
    "in empty: R run c",
    "R create --bundle @HOOK@ c",
    "R create --bundle @BUNDLE@ a/b",
    "R create --bundle @BUNDLE@ c d",
    "R --log @ROOM@/log create --bundle @ROOM@/nowhere c",
    "R --log=@ROOM@/log --log-format json create --bundle @ROOM@/nowhere c",
    "R --log @ROOM@/log --log-format=json state c",
    "R --log @ROOM@/log --log-format wrong state c",
    "R --log @ROOM@/nowhere/log state c",
    "R --debug --log @ROOM@/log --log-format json list",
    "R --systemd-cgroup list",
    "R --systemd-cgroup create --bundle @BUNDLE@ c",
    "R --cgroup-manager=wrong create --bundle @BUNDLE@ c",
    "R --cgroup-manager=cgroupfs create --bundle @BUNDLE@ c",
    "R --cgroup-manager cgroupfs create --bundle @BUNDLE@ c",
    "R --rootless true list",
    "R --rootless=wrong list",
    "R --criu /nowhere list",
    "--root=@ROOM@/state create --bundle @BUNDLE@ c ; --root=@ROOM@/state state c",
    "R create --bundle @BUNDLE@ c ; R state c ; R start c ; R state c ; R kill c KILL ; ~ ; R state c ; R delete c ; R state c",
    "R create --bundle=@BUNDLE@ c ; R delete c ; R kill c KILL ; R delete c",
    "R create -b @BUNDLE@ c ; R delete --force c",
    "R create -b=@BUNDLE@ c",
    "R create -b@BUNDLE@ c",
    "R create -bundle @BUNDLE@ c",
    "R create --bundle bundle c ; R state c",
    "in bundle: R create c ; R start c ; R start c",
    "in bundle: R create --bundle . c ; R list -q",
    "R create c --bundle @BUNDLE@ ; R state c",
    "R create --bundle @BUNDLE@ --pid-file @ROOM@/pid c ; R start c ; R kill c 9 ; ~ ; R start c",
    "R create --pid-file=@ROOM@/pid --bundle @BUNDLE@ --no-pivot c",
    "R create --pid-file pid --bundle @BUNDLE@ --no-new-keyring --preserve-fds 0 c",
    "R create --pid-file @ROOM@/nowhere/pid --bundle @BUNDLE@ c",
    "R create --bundle @BUNDLE@ c ; R create --bundle @BUNDLE@ c",
    "R create --console-socket @ROOM@/nowhere --bundle @BUNDLE@ c",
    "R run -d --bundle @BUNDLE@ c ; R state c ; R delete c ; R delete -f c",
    "R run --detach --bundle=@BUNDLE@ --pid-file @ROOM@/pid c ; R ps c ; R ps -f json c ; R exec c /pause ; R list -q",
    "R run -d -b @BUNDLE@ c ; R pause c ; R state c ; R resume c ; R kill c SIGKILL ; ~ ; R kill c KILL",
    "R run -d -b @BUNDLE@ c ; R exec --cwd / --env A=B c /pause create ; R exec c /nowhere",
    "R run -d -b @BUNDLE@ c ; R run -d -b @BUNDLE@ c ; R kill c HUP ; R kill c USR1 ; R kill c NOSIG ; R kill c",
    "R run -d -b @BUNDLE@ c ; R kill --all c KILL ; ~ ; R delete c",
    "R run -d -b @BUNDLE@ c ; R kill -a c 9 ; ~ ; R kill c TERM",
    "R run -d -b @BUNDLE@ c ; R update --pids-limit 20 c",
    "R create -b @BUNDLE@ c ; R kill c KILL ; ~ ; R delete c ; R delete c",
    "R --log @ROOM@/log --log-format json run -d --bundle @BUNDLE@ c ; R --log @ROOM@/log state d",
];

/// The files that a call may write.
const FILES: [&str; 3] = ["log", "pid", "empty/config.json"];

pub fn each(site: &Site, runtime: Runtime) -> Check {
    let stand = Stand::new(site, runtime, &["/pause"])?;
    let config = fs::read(stand.room.config()).unwrap();
    let result = all(CASES.iter().map(|case| {
        let check = || {
            let expected = outcome(&stand, Way::Bare, case)?;
            let found = outcome(&stand, Way::Wrapped, case)?;
            ensure!(found == expected, "through the wrapper {found:#?}\nwithout {expected:#?}");
            Ok(())
        };
        (*case, check())
    }));
    ensure!(fs::read(stand.room.config()).unwrap() == config, "config.json was changed");
    stand.clear();
    ensure!(stand.cgroups().is_empty(), "left: {:?}", stand.cgroups());
    result
}

/// Returns the result of each call and the content of the files that it wrote.
fn outcome(stand: &Stand, way: Way, case: &str) -> Result<Vec<String>, String> {
    stand.clear();
    let mut told = Vec::new();
    for line in case.split(" ; ") {
        if line == "~" {
            stand.until_stopped()?;
            continue;
        }
        let finished = stand.run(way, line)?;
        told.push(format!("{line}: {}", same_each_time(&finished.to_string())));
        for name in FILES {
            if let Ok(text) = fs::read_to_string(stand.room.path(name)) {
                told.push(format!("{name}: {}", same_each_time(&text)));
            }
        }
    }
    Ok(told)
}

/// Replaces numbers, which are PIDs, times and addresses, and collapses spaces, since the widths of columns
/// depend on the numbers.
fn same_each_time(text: &str) -> String {
    let mut same = String::new();
    for character in text.chars() {
        let character = if character.is_ascii_digit() { '#' } else { character };
        let is_more = same.ends_with(character) && matches!(character, '#' | ' ');
        if !is_more {
            same.push(character);
        }
    }
    same
}
