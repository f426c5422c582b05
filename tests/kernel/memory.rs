// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that sizes depend on the memory limit of the container's cgroup, and that the container is charged for what
//! is copied, but never for more than it has. This needs a machine on which the test can create such a cgroup.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, bind, with_bundle};
use crate::hook::{Finished, How, SAYS};
use crate::namespace::Realm;
use crate::runtime::Container;
use crate::table;

const MIB: u64 = 1024 * 1024;
const LIMIT_MIB: u64 = 512;

/// A cgroup with a memory limit. It is removed when this value is dropped.
struct Limited {
    directory: PathBuf,
    /// The mount point of the whole hierarchy.
    hierarchy: PathBuf,
}

impl Drop for Limited {
    fn drop(&mut self) {
        // A process that was in the cgroup may still be exiting. At worst, an empty cgroup remains.
        let until = Instant::now() + Duration::from_secs(2);
        while fs::remove_dir(&self.directory).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Limited {
    fn make(limit_mib: u64) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oci-systemd-hook-kernel-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let mut why = "no hierarchy with the memory controller is mounted as a whole".to_owned();
        for mount in table::read().into_iter().filter(|mount| mount.root.as_os_str() == "/") {
            let (prefix, file) = match mount.fs_type.as_str() {
                "cgroup2" => ("0::/", "memory.max"),
                "cgroup" if mount.at.ends_with("memory") => (":memory:/", "memory.limit_in_bytes"),
                _ => continue,
            };
            let Some(path) = own.lines().find_map(|line| line.split_once(prefix)).map(|(_, path)| path) else {
                continue;
            };
            let directory = mount.at.join(path).join(&name);
            let limited = Self { directory, hierarchy: mount.at };
            let made = fs::create_dir(&limited.directory)
                .and_then(|()| fs::write(limited.directory.join(file), (limit_mib * MIB).to_string()));
            match made {
                Ok(()) => return Ok(limited),
                Err(error) => why = format!("cannot make {}: {error}", limited.directory.display()),
            }
        }
        Err(why)
    }

    /// Returns the shell command that moves a shell into the cgroup.
    fn join(&self) -> String {
        format!("echo $$ > '{}/cgroup.procs' || exit 9;", self.directory.display())
    }

    fn number(&self, files: [&str; 2], name: &str) -> u64 {
        let text = files.iter().find_map(|file| fs::read_to_string(self.directory.join(file)).ok()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
    }

    /// Returns the number of bytes of tmpfs that are charged to the cgroup.
    fn shmem(&self) -> u64 {
        self.number(["memory.stat"; 2], "shmem ")
    }

    /// Returns the number of processes that were killed for lack of memory.
    fn kills(&self) -> u64 {
        self.number(["memory.oom_control", "memory.events"], "oom_kill ")
    }
}

/// Runs a check with a cgroup for the container and one for the engine, if the machine allows it.
fn with_cgroups(limit_mib: u64, check: impl FnOnce(&Limited, &Limited) -> Check) -> Check {
    match (Limited::make(limit_mib), Limited::make(8192)) {
        (Ok(container), Ok(engine)) => check(&container, &engine),
        (Err(why), _) | (_, Err(why)) => {
            ensure!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("skipped: {why}");
            Ok(())
        }
    }
}

/// The stage at which the hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    CreateRuntime,
    CreateContainer,
}

const STAGES: [Stage; 2] = [Stage::CreateRuntime, Stage::CreateContainer];
/// The maximum that is written apart from the copies: the machine ID and the files that describe
/// the container to systemd.
const OTHERS_BYTES: u64 = 256 * 1024;

/// Calls the hook from the engine's cgroup, for a container in another one.
fn create(
    bundle: &mut Bundle,
    stage: Stage,
    container: &Limited,
    engine: &Limited,
    under: &str,
    check: impl FnOnce(&Bundle, Finished) -> Check,
) -> Check {
    let start = |bundle: &mut Bundle| {
        bundle.start(Cgroup::Nowhere);
        bind(&container.hierarchy, &bundle.root("sys/fs/cgroup"));
    };
    match stage {
        Stage::CreateRuntime => {
            let process = Container::start_as(bundle, start)?;
            fs::write(container.directory.join("cgroup.procs"), process.id().to_string()).unwrap();
            bundle.state["pid"] = json!(process.id());
            let first = if under.is_empty() { String::new() } else { format!("exec {under} \"$0\" \"$@\";") };
            let first = format!("{}{first}", engine.join());
            let how = How { cwd: Some(bundle.directory()), first: Some(&first), ..How::default() };
            let finished = bundle.create_as(&how)?;
            check(bundle, finished)
        }
        Stage::CreateContainer => {
            start(bundle);
            let finished = bundle.create_as(&How { first: Some(&container.join()), ..How::default() })?;
            check(bundle, finished)
        }
    }
}

/// Creates files of this many mebibytes in total.
fn fill(directory: &Path, mib: usize) {
    for number in 0..mib / 2 {
        fs::write(directory.join(number.to_string()), vec![7; 2 << 20]).unwrap();
    }
}

/// The pages of a tmpfs remain charged to the cgroup of the process that wrote them.
pub fn is_charged_to_the_container(realm: Realm) -> Check {
    each(realm, 512, &|bundle, stage, container, engine| {
        for (top, mib) in [("run", 4), ("tmp", 40), ("var/log/journal", 20)] {
            fill(&bundle.image(top), mib);
        }
        create(bundle, stage, container, engine, "", |_, finished| {
            finished.silently()?;
            let (its, engines) = (container.shmem(), engine.shmem());
            ensure!((64 * MIB..65 * MIB).contains(&its), "the container is charged for {its} bytes");
            ensure!(engines <= OTHERS_BYTES, "the engine is charged for {engines} bytes");
            Ok(())
        })
    })
}

/// Whatever sizes the author chose, all tmpfs together are limited to half of the limit, and /run takes precedence.
pub fn is_half_of_the_limit(realm: Realm) -> Check {
    each(realm, 64, &|bundle, stage, container, engine| {
        bundle.config["annotations"] = json!({
            "oci-systemd-hook.run-size": "100%",
            "oci-systemd-hook.tmp-size": "100%",
            "oci-systemd-hook.journal-size": "64m",
        });
        for top in ["run", "tmp", "var/log/journal"] {
            fill(&bundle.image(top), 20);
        }
        create(bundle, stage, container, engine, "", |_, finished| {
            let lines: Vec<&str> = finished.stderr.lines().collect();
            ensure!(finished.code == Some(0) && lines.len() == 2, "expected two warnings: {finished:?}");
            for (line, top) in lines.iter().zip(["/tmp", "/var/log/journal"]) {
                let words = [SAYS, "cannot copy all", top, "others", &format!("more than {} bytes in all", 32 * MIB)];
                ensure!(words.iter().all(|word| line.contains(word)), "expected {words:?} in {line}");
            }
            let (its, engines) = (container.shmem(), engine.shmem());
            ensure!(its > 28 * MIB && its <= 32 * MIB + OTHERS_BYTES, "the container is charged for {its} bytes");
            ensure!(engines <= OTHERS_BYTES, "the engine is charged for {engines} bytes");
            ensure!(container.kills() == 0, "a process was killed");
            Ok(())
        })
    })
}

/// Nothing is killed even if the memory is almost full already: a quarter of the free memory stays free.
pub fn is_what_is_free(realm: Realm) -> Check {
    each(realm, 64, &|bundle, stage, container, engine| {
        // Another tmpfs of the container would have the same effect.
        let other = bundle.elsewhere("other");
        crate::bundle::tmpfs(&other, "size=64m");
        let write = format!("{} head -c 48M /dev/zero | tr '\\0' x >'{}/x'", container.join(), other.display());
        let status = std::process::Command::new("/bin/sh").args(["-c", &write]).status().unwrap();
        ensure!(status.success(), "cannot fill the cgroup: {status}");
        fill(&bundle.image("tmp"), 30);
        create(bundle, stage, container, engine, "", |_, finished| {
            finished.with_warning(&["cannot copy all", "/tmp", "three quarters of the container's free memory"])?;
            let its = container.shmem();
            ensure!((50 * MIB..61 * MIB).contains(&its), "the container is charged for {its} bytes");
            ensure!(container.kills() == 0, "a process was killed");
            Ok(())
        })
    })
}

/// For /run, too little memory is an error, and everything is undone.
pub fn is_needed_for_run(realm: Realm) -> Check {
    each(realm, 32, &|bundle, stage, container, engine| {
        fill(&bundle.image("run"), 20);
        bundle.config["annotations"] = json!({"oci-systemd-hook.run-size": "100%"});
        create(bundle, stage, container, engine, "", |bundle, finished| {
            finished.refused(&["cannot mount tmpfs on /run", "the image has more than"])?;
            ensure!(!bundle.records().exists(), "a record is left");
            ensure!(container.kills() == 0, "a process was killed");
            let left = container.shmem() + engine.shmem();
            ensure!(left <= OTHERS_BYTES, "{left} bytes are left");
            Ok(())
        })
    })
}

/// If the kernel nevertheless kills a process, it is the one that copies, and not the hook.
pub fn who_copies_is_killed(realm: Realm) -> Check {
    let kill = "strace -f -qq -o /dev/null -e trace=pwrite64 -e inject=pwrite64:signal=KILL:when=1";
    copies_by(realm, kill, &["cannot copy all that the image has in /tmp", "was killed"], |copied| copied == 0)
}

/// If no more processes can be started, a small amount is copied nevertheless.
pub fn nobody_can_copy(realm: Realm) -> Check {
    let none = "strace -f -qq -o /dev/null -e trace=clone -e inject=clone:error=EAGAIN";
    copies_by(realm, none, &["cannot charge the container for the files that are copied to /tmp", "EAGAIN"], |copied| {
        copied > 12 * MIB && copied <= 16 * MIB
    })
}

fn copies_by(realm: Realm, tracer: &str, words: &[&str], is_expected: fn(u64) -> bool) -> Check {
    if realm == Realm::User {
        return Ok(());
    }
    with_bundle(realm, |bundle| {
        with_cgroups(256, |container, engine| {
            fill(&bundle.image("tmp"), 30);
            create(bundle, Stage::CreateRuntime, container, engine, tracer, |_, finished| {
                let is_said = finished.stderr.lines().any(|line| words.iter().all(|word| line.contains(word)));
                ensure!(finished.code == Some(0) && is_said, "expected {words:?}: {finished:?}");
                let paid = container.shmem() + engine.shmem().saturating_sub(OTHERS_BYTES);
                ensure!(is_expected(paid), "{paid} bytes were copied");
                Ok(())
            })
        })
    })
}

type InCgroups<'a> = &'a (dyn Fn(&mut Bundle, Stage, &Limited, &Limited) -> Check + Sync);

/// Runs a check at each stage. In a user namespace no process can be moved to another cgroup.
fn each(realm: Realm, limit_mib: u64, check: InCgroups<'_>) -> Check {
    if realm == Realm::User {
        return Ok(());
    }
    crate::all(STAGES.into_iter().map(|stage| {
        let result = with_bundle(realm, |bundle| {
            with_cgroups(limit_mib, |container, engine| check(bundle, stage, container, engine))
        });
        (format!("{stage:?}"), result)
    }))
}

/// The sizes are 20 % of the limit but at least 64 MiB for /run, 50 % for /tmp, and 10 % for the journal.
pub fn of_the_cgroup(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let limited = match Limited::make(LIMIT_MIB) {
            Ok(limited) => limited,
            Err(why) => {
                ensure!(std::env::var_os("CI").is_none(), "{why}");
                eprintln!("skipped: {why}");
                return Ok(());
            }
        };
        bundle.start(Cgroup::Nowhere);
        // If there is only this hierarchy, this is its usual place.
        bind(&limited.hierarchy, &bundle.root("sys/fs/cgroup"));
        let join = limited.join();
        bundle.create_as(&How { first: Some(&join), ..How::default() })?.silently()?;
        for (path, expected) in [("run", 102), ("run/lock", 5), ("tmp", 256), ("var/log/journal", 51)] {
            let stat = rustix::fs::statvfs(bundle.root(path)).unwrap();
            let size = stat.f_blocks * stat.f_frsize / MIB;
            ensure!(size == expected, "{path} is {size} MiB large, expected {expected}");
        }
        Ok(())
    })
}
