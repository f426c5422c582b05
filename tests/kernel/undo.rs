// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that everything is undone if a required step fails, and that one line says what failed and where.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};

use crate::Check;
use crate::bundle::{Bundle, Cgroup, with_bundle};
use crate::namespace::Realm;
use crate::table;

/// The number of nested directories, which is more than the hook copies.
const LEVELS: u32 = 129;

struct Case {
    name: &'static str,
    /// Changes the image before the root is mounted.
    image: fn(&Bundle),
    /// Changes the root after it is mounted.
    root: fn(&Bundle),
    /// Shell commands that run before the hook.
    first: Option<&'static str>,
    words: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        name: "no space left",
        image: |bundle| {
            fs::create_dir(bundle.image("run/lock/sub")).unwrap();
            fs::write(bundle.image("run/lock/sub/large"), vec![1; 5 * 1024 * 1024 + 1]).unwrap();
        },
        root: |_| {},
        first: None,
        words: &["/run/lock/sub/large", "5242880 bytes in /run/lock"],
    },
    Case {
        name: "too deep",
        image: |bundle| deep(&bundle.image("run/lock")),
        root: |_| {},
        first: None,
        words: &["at /run/lock: ", "128 nested directories in /run"],
    },
    Case {
        name: "no descriptors left",
        image: |bundle| deep(&bundle.image("tmp")),
        root: |_| {},
        first: Some("ulimit -n 100;"),
        words: &["/tmp/d/d/d", "EMFILE"],
    },
    Case {
        name: "no place for the record",
        image: |bundle| fs::remove_file(bundle.image("etc/machine-id")).unwrap(),
        root: |bundle| fs::write(bundle.records(), "in the way").unwrap(),
        first: None,
        words: &["/etc/machine-id", "oci-systemd-hook", "record"],
    },
    Case {
        name: "nowhere to make a mount point",
        image: |bundle| fs::remove_file(bundle.image("etc/machine-id")).unwrap(),
        root: |bundle| {
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::RELATIME;
            mount_remount(bundle.root(""), flags, "").unwrap();
        },
        first: None,
        words: &["/etc/machine-id", "EROFS"],
    },
    Case {
        name: "a file too large for the limit",
        image: |bundle| {
            fs::remove_dir(bundle.image("run/lock")).unwrap();
            fs::write(bundle.image("tmp/large"), vec![1; 64 * 1024]).unwrap();
        },
        root: |_| {},
        // The limit is in blocks of 512 bytes. A file that exceeds it causes a signal, unless the signal is ignored.
        first: Some("trap '' XFSZ; ulimit -f 16;"),
        words: &["/tmp/large", "EFBIG"],
    },
];

/// Tests each way to fail in the middle, with mounts to restore.
pub fn everything(realm: Realm) -> Check {
    crate::all(CASES.iter().map(|case| (case.name, with_bundle(realm, |bundle| check(bundle, case)))))
}

fn check(bundle: &mut Bundle, case: &Case) -> Check {
    (case.image)(bundle);
    bundle.start(Cgroup::Mounted);
    for path in ["run/secrets", "run/secrets/nested", "run/a/b", "run/lock/x"] {
        bundle.submount(path);
    }
    bundle.submount_file("run/.containerenv");
    (case.root)(bundle);
    let blocking = bundle.records().is_file();
    let watch = bundle.watch();
    let how = crate::hook::How { first: case.first, ..Default::default() };
    bundle.create_as(&how)?.refused(case.words)?;
    watch.mounts()?;
    watch.host(bundle)?;
    watch.restored(bundle)?;
    ensure!(blocking || !bundle.records().exists(), "a record is left");
    for path in ["run/secrets", "run/secrets/nested", "run/a/b", "run/lock/x"] {
        let kept = fs::read_to_string(bundle.root(path).join("kept")).unwrap_or_default();
        ensure!(kept == path, "{path} contains {kept:?}");
    }
    Ok(())
}

/// A root that was shared with the host remains a slave mount, and no mount of the hook remains on either side.
pub fn shared_root(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        (CASES[0].image)(bundle);
        let peer = bundle.elsewhere("peer");
        bundle.start(Cgroup::Mounted);
        bundle.submount("run/secrets");
        mount_change(bundle.root(""), MountPropagationFlags::SHARED).unwrap();
        crate::bundle::bind(&bundle.root(""), &peer);
        let watch = bundle.watch();
        let before = table::below(&bundle.root(""));
        bundle.create()?.refused(CASES[0].words)?;
        let after = table::below(&bundle.root(""));
        ensure!(before == after, "the mounts were {before:?} and are {after:?}");
        watch.host(bundle)?;
        watch.restored(bundle)
    })
}

/// If a step fails that the container doesn't require, this is only a warning.
pub fn best_effort(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        deep(&bundle.image("var/log/journal"));
        bundle.start(Cgroup::Mounted);
        bundle.submount("var/log/journal/kept");
        let watch = bundle.watch();
        let how = crate::hook::How { first: Some("ulimit -n 100;"), ..Default::default() };
        bundle.create_as(&how)?.with_warning(&["at /var/log/journal/d/d", "EMFILE"])?;
        ensure!(table::at(&bundle.root("tmp")).is_some(), "no tmpfs on /tmp");
        ensure!(table::at(&bundle.root("var/log/journal")).is_none(), "half a copy is mounted");
        ensure!(bundle.root("var/log/journal/kept/kept").exists(), "the submount is gone");
        watch.image(bundle)?;
        watch.host(bundle)
    })
}

/// Creates this many nested directories.
fn deep(top: &Path) {
    let mut directory: OwnedFd = openat(CWD, top, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for _ in 0..LEVELS {
        mkdirat(directory.as_fd(), "d", Mode::RWXU).unwrap();
        directory =
            openat(directory.as_fd(), "d", OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
                .unwrap();
    }
}
