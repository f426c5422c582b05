// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows that sizes follow the memory limit of the container's cgroup, where this machine lets us have one.

use std::fs;
use std::path::PathBuf;

use crate::Check;
use crate::bundle::{Cgroup, bind, with_bundle};
use crate::hook::How;
use crate::namespace::Realm;
use crate::table;

const MIB: u64 = 1024 * 1024;
const LIMIT_MIB: u64 = 512;

/// A cgroup with a limit, which is gone with this value.
struct Limited {
    directory: PathBuf,
    /// The whole hierarchy.
    hierarchy: PathBuf,
}

impl Drop for Limited {
    fn drop(&mut self) {
        // Worst case: an empty cgroup stays.
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Limited {
    fn make() -> Result<Self, String> {
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
            let directory = mount.at.join(path).join(format!("oci-systemd-hook-kernel-{}", std::process::id()));
            let limited = Self { directory, hierarchy: mount.at };
            let made = fs::create_dir(&limited.directory)
                .and_then(|()| fs::write(limited.directory.join(file), (LIMIT_MIB * MIB).to_string()));
            match made {
                Ok(()) => return Ok(limited),
                Err(error) => why = format!("cannot make {}: {error}", limited.directory.display()),
            }
        }
        Err(why)
    }
}

/// 20 % for /run but 64 MiB at least, 50 % for /tmp, 10 % for the journal.
pub fn of_the_cgroup(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let limited = match Limited::make() {
            Ok(limited) => limited,
            Err(why) => {
                ensure!(std::env::var_os("CI").is_none(), "{why}");
                eprintln!("skipped: {why}");
                return Ok(());
            }
        };
        bundle.start(Cgroup::Nowhere);
        // Where there is no more than this hierarchy, it is at its usual place.
        bind(&limited.hierarchy, &bundle.root("sys/fs/cgroup"));
        let join = format!("echo $$ > '{}/cgroup.procs' || exit 9;", limited.directory.display());
        bundle.create_as(&How { first: Some(&join), ..How::default() })?.silently()?;
        for (path, expected) in [("run", 102), ("run/lock", 5), ("tmp", 256), ("var/log/journal", 51)] {
            let stat = rustix::fs::statvfs(bundle.root(path)).unwrap();
            let size = stat.f_blocks * stat.f_frsize / MIB;
            ensure!(size == expected, "{path} is {size} MiB large, expected {expected}");
        }
        Ok(())
    })
}
