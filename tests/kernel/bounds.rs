// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows that an image can't keep the hook busy, nor fill the host's memory, with what is to be copied to a tmpfs: what is
//! more than a sane image has is refused, at once, and all is undone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, with_bundle};
use crate::hook::How;
use crate::hostile::TRIED;
use crate::namespace::Realm;
use crate::table;

/// Where content is copied from, and whether the container needs it.
const TOPS: [(&str, bool); 3] = [("run", true), ("tmp", true), ("var/log/journal", false)];

/// No call needs more memory, however much there is. In KiB, of addresses, which are more than what is used.
const MEMORY: &str = "ulimit -v 8192 &&";

struct Case {
    name: &'static str,
    /// Fills a directory of the image. Returns the path in it that is too much, where there is only one.
    fill: fn(&Path) -> Option<&'static str>,
    /// What of it is too much.
    says: &'static str,
}

const TOO_MUCH: [Case; 8] = [
    Case {
        name: "a sparse file of 1 TiB",
        fill: |top| {
            sparse(&top.join("sparse"), 1 << 40);
            Some("sparse")
        },
        says: "bytes in /",
    },
    Case {
        name: "a sparse file below a directory",
        fill: |top| {
            fs::create_dir(top.join("below")).unwrap();
            sparse(&top.join("below/sparse"), 1 << 40);
            Some("below/sparse")
        },
        says: "bytes in /",
    },
    Case {
        name: "a thousand sparse files of 100 MiB",
        fill: |top| {
            for number in 0..1000 {
                sparse(&top.join(number.to_string()), 100 << 20);
            }
            None
        },
        says: "bytes in /",
    },
    Case {
        name: "a file larger than the tmpfs",
        fill: |top| {
            fs::write(top.join("large"), vec![1; 2 * 1024 * 1024]).unwrap();
            Some("large")
        },
        says: "bytes in /",
    },
    Case {
        name: "65,537 files",
        fill: |top| {
            names(top, 65_537);
            None
        },
        says: "65536 files in /",
    },
    Case {
        name: "200,000 files",
        fill: |top| {
            names(top, 200_000);
            None
        },
        says: "65536 files in /",
    },
    Case {
        name: "200,000 files in a hundred directories",
        fill: |top| {
            for number in 0..100 {
                let directory = top.join(format!("directory-{number}"));
                fs::create_dir(&directory).unwrap();
                names(&directory, 2000);
            }
            None
        },
        says: "65536 files in /",
    },
    Case {
        name: "a directory 129 levels deep",
        fill: |top| {
            let deep: PathBuf = std::iter::repeat_n("d", 129).collect();
            fs::create_dir_all(top.join(deep)).unwrap();
            Some("d")
        },
        says: "128 directories in each other in /",
    },
];

/// What is too much: no container where it is needed, and otherwise no tmpfs there.
pub fn too_much(realm: Realm) -> Check {
    let all = TOPS.into_iter().flat_map(|top| TOO_MUCH.iter().map(move |case| (top, case)));
    crate::all(all.map(|((top, is_needed), case)| {
        TRIED.fetch_add(1, Ordering::Relaxed);
        let result = with_bundle(realm, |bundle| refused(bundle, top, is_needed, case));
        (format!("{} in /{top}", case.name), result)
    }))
}

fn refused(bundle: &mut Bundle, top: &str, is_needed: bool, case: &Case) -> Check {
    if case.name.ends_with("tmpfs") {
        bundle.config["annotations"] = serde_json::json!({
            "oci-systemd-hook.run-size": "1m",
            "oci-systemd-hook.tmp-size": "1m",
            "oci-systemd-hook.journal-size": "1m",
        });
    }
    bundle.start(Cgroup::Mounted);
    let watch = bundle.watch();
    // Not to be read as the rest is.
    let named = (case.fill)(&bundle.image(top)).unwrap_or_default();
    let changed =
        |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec(), file.mtime_nsec())).unwrap();
    let before = changed(&bundle.image(top));
    let finished = bundle.create_as(&How { first: Some(MEMORY), ..How::default() })?;
    let path = Path::new("/").join(top).join(named).to_string_lossy().trim_end_matches('/').to_owned();
    if is_needed {
        finished.refused(&[&path, case.says])?;
        watch.mounts()?;
        ensure!(!bundle.records().exists(), "a record is left");
    } else {
        finished.with_warning(&[&path, case.says])?;
        ensure!(table::at(&bundle.root(top)).is_none(), "a tmpfs is on it");
        ensure!(table::at(&bundle.root("run")).is_some_and(|mount| mount.fs_type == "tmpfs"), "no tmpfs on /run");
    }
    ensure!(before == changed(&bundle.image(top)), "the image was changed");
    watch.host(bundle)
}

/// What is much, and no more than a sane image may have.
pub fn much(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let deep: PathBuf = std::iter::repeat_n("d", 120).collect();
        fs::create_dir_all(bundle.image("tmp").join(&deep)).unwrap();
        names(&bundle.image("tmp"), 60_000);
        bundle.start(Cgroup::Mounted);
        bundle.create_as(&How { first: Some(MEMORY), ..How::default() })?.silently()?;
        let copied = fs::read_dir(bundle.root("tmp")).unwrap().count();
        ensure!(copied == 60_001, "{copied} names were copied");
        ensure!(bundle.root("tmp").join(deep).is_dir(), "not to the bottom");
        Ok(())
    })
}

fn sparse(at: &Path, bytes: u64) {
    fs::File::create(at).unwrap().set_len(bytes).unwrap();
}

/// So many names of one file: each is one to be copied.
fn names(directory: &Path, count: u32) {
    let first = directory.join("0");
    fs::write(&first, "x").unwrap();
    for number in 1..count {
        fs::hard_link(&first, directory.join(number.to_string())).unwrap();
    }
}
