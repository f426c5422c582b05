// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that an image can neither keep the hook busy nor fill the host's memory with content that is copied to a
//! tmpfs. If an image has more content than any sane one, only as much is copied as fits. If this happens in /run,
//! which systemd needs as a whole, the container is refused at once, and everything is undone.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, with_bundle};
use crate::hook::How;
use crate::hostile::TRIED;
use crate::namespace::Realm;
use crate::table;

/// The directories whose content is copied, and whether the container needs all of it.
const TOPS: [(&str, bool); 3] = [("run", true), ("tmp", false), ("var/log/journal", false)];

/// The limit on the address space of each call in KiB, however much an image contains. The memory that is used
/// is less than that.
const MEMORY: &str = "ulimit -v 8192 &&";

struct Case {
    name: &'static str,
    /// Fills a directory of the image. Returns the path in it that exceeds a limit, if there is only one.
    fill: fn(&Path) -> Option<&'static str>,
    /// The part of the message that names the limit.
    says: &'static str,
}

const TOO_MUCH: [Case; 8] = [
    Case {
        name: "a file below a directory that is larger than the tmpfs",
        fill: |top| {
            fs::create_dir(top.join("below")).unwrap();
            fs::write(top.join("below/large"), vec![1; 2 * 1024 * 1024]).unwrap();
            Some("below/large")
        },
        says: "bytes in /",
    },
    Case {
        name: "files that together are larger than the tmpfs",
        fill: |top| {
            for number in 0..40 {
                fs::write(top.join(number.to_string()), vec![1; 32 * 1024]).unwrap();
            }
            None
        },
        says: "bytes in /",
    },
    Case {
        name: "links that together are larger than the tmpfs",
        fill: |top| {
            for number in 0..300 {
                symlink("x".repeat(4000), top.join(number.to_string())).unwrap();
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
        says: "128 nested directories in /",
    },
];

/// Content that exceeds a limit: the container is refused if it needs the directory, and otherwise only a part is
/// copied, with a warning.
pub fn too_much(realm: Realm) -> Check {
    let all = TOPS.into_iter().flat_map(|top| TOO_MUCH.iter().map(move |case| (top, case)));
    crate::all(all.map(|((top, is_needed), case)| {
        TRIED.fetch_add(1, Ordering::Relaxed);
        let result = with_bundle(realm, |bundle| refused(bundle, top, is_needed, case));
        (format!("{} in /{top}", case.name), result)
    }))
}

fn refused(bundle: &mut Bundle, top: &str, is_needed: bool, case: &Case) -> Check {
    if case.name.ends_with("the tmpfs") {
        bundle.config["annotations"] = serde_json::json!({
            "oci-systemd-hook.run-size": "1m",
            "oci-systemd-hook.tmp-size": "1m",
            "oci-systemd-hook.journal-size": "1m",
        });
    }
    bundle.start(Cgroup::Mounted);
    let watch = bundle.watch();
    // The directory is filled after the snapshot, so that its content isn't read like the rest of the image.
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
        finished.with_warning(&["cannot copy all", &path, case.says])?;
        ensure!(
            table::at(&bundle.root(top)).is_some_and(|mount| mount.fs_type == "tmpfs"),
            "no tmpfs is mounted on it"
        );
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        // Only the directories below the limit are left out.
        let is_left_out = !named.is_empty() && !case.name.ends_with("deep");
        ensure!(!is_left_out || !is_there(&bundle.root(top).join(named)), "a part of {named} was copied");
    }
    ensure!(before == changed(&bundle.image(top)), "the image was changed");
    watch.host(bundle)
}

/// A file that is left out doesn't reduce what can be copied. Holes need no memory, however many and large they are.
pub fn holes(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let tops = TOPS.map(|(top, _)| top);
        for top in tops {
            let top = bundle.image(top);
            sparse(&top.join("1 TiB"), 1 << 40);
            for number in 0..200 {
                sparse(&top.join(number.to_string()), 100 << 20);
            }
            // There is content at the beginning, in the middle of a page, and at the end.
            let file = fs::File::create(top.join("some")).unwrap();
            file.set_len((3 << 30) + 17).unwrap();
            for offset in [0, (1 << 30) + 5000, (3 << 30) + 10] {
                file.write_all_at(b"content", offset).unwrap();
            }
            // Zeros that the file system doesn't report as holes.
            fs::write(top.join("zeros"), vec![0; 1_000_001]).unwrap();
        }
        bundle.start(Cgroup::Mounted);
        bundle.create_as(&How { first: Some(MEMORY), ..How::default() })?.silently()?;
        for top in tops {
            let top = bundle.root(top);
            for (name, bytes, taken_pages) in
                [("1 TiB", 1 << 40, 0), ("0", 100 << 20, 0), ("some", (3 << 30) + 17, 3), ("zeros", 1_000_001, 0)]
            {
                let file = fs::metadata(top.join(name)).map_err(|error| format!("{name}: {error}"))?;
                let taken = file.blocks() * 512 / page_bytes(&top);
                ensure!((file.len(), taken) == (bytes, taken_pages), "{name}: {} bytes, {taken} pages", file.len());
            }
            let file = fs::File::open(top.join("some")).unwrap();
            for offset in [0, (1 << 30) + 5000, (3 << 30) + 10] {
                let mut content = [0; 7];
                file.read_exact_at(&mut content, offset).unwrap();
                ensure!(&content == b"content", "at {offset} there is {content:?}");
            }
        }
        Ok(())
    })
}

/// Without a memory limit, all tmpfs together are limited to 512 MiB, or to half of the machine's memory.
pub fn in_all(realm: Realm) -> Check {
    const ALL_BYTES: u64 = 512 << 20;
    with_bundle(realm, |bundle| {
        for (top, _) in TOPS {
            // Each directory has one file with many hard links, since inodes and names count.
            names(&bundle.image(top), 60_000);
        }
        bundle.start(Cgroup::Mounted);
        let finished = bundle.create_as(&How { first: Some(MEMORY), ..How::default() })?;
        finished.with_warning(&["cannot copy all", "/var/log/journal", "in all directories that get a tmpfs"])?;
        let copied: usize = TOPS.iter().map(|(top, _)| fs::read_dir(bundle.root(top)).unwrap().count()).sum();
        let most = usize::try_from(ALL_BYTES / page_bytes(&bundle.root("run"))).unwrap();
        ensure!(copied > 120_000 && copied <= most + 10, "{copied} names were copied, but at most {most} may be");
        Ok(())
    })
}

/// An extended attribute can be as large as 64 KiB, and a file can have many of them.
pub fn attributes(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let tmp = bundle.image("tmp");
        bundle.config["annotations"] = serde_json::json!({"oci-systemd-hook.tmp-size": "1m"});
        let key = if realm == Realm::Initial { "trusted.x" } else { "user.x" };
        for number in 0..40 {
            let path = tmp.join(number.to_string());
            fs::write(&path, "").unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            if let Err(error) = rustix::fs::setxattr(&path, key, &vec![7; 60_000], flags) {
                eprintln!("skipped: {key} can't be set here: {error}");
                return Ok(());
            }
        }
        bundle.start(Cgroup::Mounted);
        bundle.create_as(&How { first: Some(MEMORY), ..How::default() })?.with_warning(&["others", "bytes in /tmp"])?;
        let copied = fs::read_dir(bundle.root("tmp")).unwrap().count();
        ensure!((10..16).contains(&copied), "{copied} files were copied");
        Ok(())
    })
}

/// Tests an amount of content that is large but not more than a sane image may have.
pub fn much(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let deep: PathBuf = std::iter::repeat_n("d", 120).collect();
        fs::create_dir_all(bundle.image("tmp").join(&deep)).unwrap();
        names(&bundle.image("tmp"), 60_000);
        bundle.start(Cgroup::Mounted);
        bundle.create_as(&How { first: Some(MEMORY), ..How::default() })?.silently()?;
        let copied = fs::read_dir(bundle.root("tmp")).unwrap().count();
        ensure!(copied == 60_001, "{copied} names were copied");
        ensure!(bundle.root("tmp").join(deep).is_dir(), "the deepest directory was not copied");
        Ok(())
    })
}

/// Returns the page size, which is the block size of a tmpfs.
fn page_bytes(tmpfs: &Path) -> u64 {
    rustix::fs::statvfs(tmpfs).unwrap().f_frsize
}

fn sparse(at: &Path, bytes: u64) {
    fs::File::create(at).unwrap().set_len(bytes).unwrap();
}

/// Creates this many names of one file, each of which has to be copied.
fn names(directory: &Path, count: u32) {
    let first = directory.join("0");
    fs::write(&first, "x").unwrap();
    for number in 1..count {
        fs::hard_link(&first, directory.join(number.to_string())).unwrap();
    }
}
