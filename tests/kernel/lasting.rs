// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests which files the hook creates in an image, that they are recorded, and that poststop removes
//! them and nothing else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ID, Watch, runtime_directory, with_bundle};
use crate::copy_up::node;
use crate::hook::How;
use crate::namespace::Realm;

/// Mount points that an image may lack.
const MISSING: [&str; 4] = ["etc/machine-id", "run", "tmp", "run/lock"];

/// If an image lacks mount points, they exist for the lifetime of the container.
pub fn is_taken_back(realm: Realm) -> Check {
    for missing in [&MISSING[..1], &MISSING[1..2], &MISSING[2..3], &MISSING[3..], &MISSING[..3]] {
        with_bundle(realm, |bundle| {
            lack(bundle, missing);
            let watch = created(bundle)?;
            let record = record(bundle);
            let modes = [(record.clone(), 0o100_600), (record.parent().unwrap().to_owned(), 0o40700)];
            // /run/lock lies on a new tmpfs and disappears with it.
            let lasts = missing != &MISSING[3..];
            ensure!(record.exists() == lasts, "there is a record: {}", record.exists());
            for (path, mode) in modes.iter().filter(|_| lasts) {
                let found = fs::metadata(path).unwrap().mode();
                ensure!(found == *mode, "{} has mode {found:o}", path.display());
            }
            for path in missing.iter().filter(|path| **path != "run/lock") {
                ensure!(bundle.image(path).exists(), "{path} was not created");
            }
            end(bundle, &watch)?;
            // A second call changes nothing.
            bundle.poststop()?.silently()?;
            watch.restored(bundle)
        })
        .map_err(|message| format!("without {missing:?}: {message}"))?;
    }
    Ok(())
}

/// Creating a missing directory needs a file descriptor, and so does removing it. Therefore their number is limited,
/// and nothing is created if there are more.
pub fn too_many_are_missing(realm: Realm) -> Check {
    const MOST: usize = 64;
    let link_to = |bundle: &Bundle, count: usize| {
        let names: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        relink(bundle, "run", format!("/{}", names.join("/")));
    };
    with_bundle(realm, |bundle| {
        link_to(bundle, MOST);
        let watch = created(bundle)?;
        ensure!(bundle.image(&MOST.to_string()).symlink_metadata().is_err(), "a directory is in the wrong place");
        end(bundle, &watch)
    })
    .map_err(|message| format!("as many as are allowed: {message}"))?;
    with_bundle(realm, |bundle| {
        link_to(bundle, MOST + 1);
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        bundle.create()?.refused(&["components of the path", "at most 64"])?;
        watch.everything(bundle)?;
        watch.restored(bundle)
    })
    .map_err(|message| format!("one more: {message}"))
}

/// The missing directories above a missing path are also created and removed.
pub fn is_taken_back_with_what_is_above(realm: Realm) -> Check {
    type Change = fn(&Bundle);
    let changes: [(&str, Change); 7] = [
        ("no /etc", |bundle| lack(bundle, &["etc"])),
        ("a link that dangles", |bundle| relink(bundle, "etc/machine-id", "/new/machine-id")),
        ("a link that dangles far", |bundle| relink(bundle, "etc/machine-id", "../srv/new/and/newer/machine-id")),
        ("/tmp dangles far", |bundle| relink(bundle, "tmp", "var/new/and/newer")),
        ("a name that is not UTF-8", |bundle| relink(bundle, "etc/machine-id", OsStr::from_bytes(b"/srv/\xff\xfe"))),
        ("names that are long when they are quoted", |bundle| {
            for (path, byte) in [("run", 1), ("tmp", 2), ("etc/machine-id", 3)] {
                let name = "/".to_owned() + &String::from(char::from(byte)).repeat(250);
                relink(bundle, path, name.repeat(15));
            }
        }),
        ("/run and the id lead to one directory", |bundle| {
            relink(bundle, "run", "new/run");
            relink(bundle, "etc/machine-id", "../new/machine-id");
        }),
    ];
    let check = |change: Change| {
        with_bundle(realm, |bundle| {
            change(bundle);
            let watch = created(bundle)?;
            end(bundle, &watch)
        })
    };
    crate::all(changes.into_iter().map(|(name, change)| (name, check(change))))
}

fn relink(bundle: &Bundle, path: &str, target: impl AsRef<Path>) {
    lack(bundle, &[path]);
    std::os::unix::fs::symlink(target, bundle.image(path)).unwrap();
}

/// A file that was changed in the meantime is no longer the hook's and is not removed.
pub fn and_nothing_else(realm: Realm) -> Check {
    type Change = fn(&Bundle);
    let changes: [(&str, Change, &str); 6] = [
        ("written to", |bundle| fs::write(bundle.image("etc/machine-id"), "x").unwrap(), "etc/machine-id"),
        ("replaced by a directory", |bundle| replace(bundle, |at| fs::create_dir(at).unwrap()), "etc/machine-id"),
        (
            "replaced by a link",
            |bundle| {
                let target = bundle.host("file");
                replace(bundle, |at| std::os::unix::fs::symlink(target, at).unwrap());
            },
            "etc/machine-id",
        ),
        (
            "replaced by a fifo",
            |bundle| replace(bundle, |at| node(&at, rustix::fs::FileType::Fifo, 0o600, 0)),
            "etc/machine-id",
        ),
        ("filled", |bundle| fs::write(bundle.image("tmp/new"), "x").unwrap(), "tmp/new"),
        (
            "its directory is a link now",
            |bundle| {
                fs::rename(bundle.image("etc"), bundle.image("etc-before")).unwrap();
                fs::write(bundle.host("empty/machine-id"), "").unwrap();
                std::os::unix::fs::symlink(bundle.host("empty"), bundle.image("etc")).unwrap();
            },
            "etc-before/machine-id",
        ),
    ];
    for (name, change, stays) in changes {
        with_bundle(realm, |bundle| {
            lack(bundle, &["etc/machine-id", "tmp"]);
            created(bundle)?;
            bundle.end();
            change(bundle);
            let host = bundle.watch();
            bundle.poststop()?.silently()?;
            ensure!(fs::symlink_metadata(bundle.image(stays)).is_ok(), "{stays} is gone");
            ensure!(!bundle.records().exists(), "a record is left");
            host.host(bundle)
        })
        .map_err(|message| format!("{name}: {message}"))?;
    }
    Ok(())
}

/// The root, the bundle or both may be gone when poststop is called.
pub fn when_things_are_gone(realm: Realm) -> Check {
    type Change = fn(&Bundle);
    let changes: [(&str, Change, bool); 5] = [
        ("the bundle", |bundle| fs::remove_file(bundle.directory().join("config.json")).unwrap(), false),
        ("the root", |bundle| unmount(bundle), true),
        (
            "the root's directory",
            |bundle| {
                unmount(bundle);
                fs::remove_dir_all(bundle.directory()).unwrap();
            },
            true,
        ),
        (
            "the root, and another is in its place",
            |bundle| {
                unmount(bundle);
                fs::create_dir_all(bundle.root("etc")).unwrap();
                fs::write(bundle.root("etc/machine-id"), "").unwrap();
            },
            true,
        ),
        (
            "what was made",
            |bundle| {
                fs::remove_file(bundle.image("etc/machine-id")).unwrap();
                fs::remove_dir(bundle.image("etc")).unwrap();
            },
            true,
        ),
    ];
    for (name, change, is_gone) in changes {
        with_bundle(realm, |bundle| {
            lack(bundle, &["etc/machine-id"]);
            let watch = created(bundle)?;
            bundle.end();
            change(bundle);
            bundle.poststop()?.silently()?;
            ensure!(!bundle.records().exists(), "the record is left");
            let other = bundle.root("etc/machine-id");
            ensure!(!name.ends_with("place") || other.exists(), "a file of another root was removed");
            if is_gone { Ok(()) } else { watch.restored(bundle) }
        })
        .map_err(|message| format!("without {name}: {message}"))?;
    }
    Ok(())
}

/// Tests records that are not as the hook wrote them.
pub fn of_a_spoilt_record(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        lack(bundle, &["tmp", "etc/machine-id"]);
        let watch = created(bundle)?;
        // As after a kill, the last line is truncated, and the file that it is about wasn't created.
        let text = fs::read_to_string(record(bundle)).unwrap();
        let first = text.lines().next().unwrap().len();
        fs::write(record(bundle), format!("{text}{}", &text[..first / 2])).unwrap();
        end(bundle, &watch)
    })
    .map_err(|message| format!("cut short: {message}"))?;

    for (name, spoil) in [
        ("a directory", (|at| fs::create_dir(at).unwrap()) as fn(PathBuf)),
        ("a link to itself", |at| std::os::unix::fs::symlink("made", at).unwrap()),
    ] {
        with_bundle(realm, |bundle| {
            lack(bundle, &["etc/machine-id"]);
            created(bundle)?;
            bundle.end();
            fs::remove_file(record(bundle)).unwrap();
            spoil(record(bundle));
            let watch = bundle.watch();
            bundle.poststop()?.with_warning(&[ID.get(..12).unwrap(), "record"])?;
            watch.host(bundle)?;
            watch.image(bundle)
        })
        .map_err(|message| format!("{name}: {message}"))?;
    }
    Ok(())
}

/// Tests a record that someone else wrote, with a path that leads out of the root.
pub fn stays_in_the_root(realm: Realm) -> Check {
    for at in ["/../../host/empty", "/out", "/out/lock", "/proc/self/root/{}"] {
        with_bundle(realm, |bundle| {
            lack(bundle, &["etc/machine-id"]);
            std::os::unix::fs::symlink(bundle.host("full"), bundle.image("out")).unwrap();
            created(bundle)?;
            bundle.end();
            let text = fs::read_to_string(record(bundle)).unwrap();
            let mut line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let empty = bundle.host("empty");
            let at = at.replace("{}", &empty.to_string_lossy()[1..]);
            // A path is a string, or an array of bytes, since it need not be UTF-8.
            line["at"] = if line["at"].is_string() { json!(at) } else { json!({"Unix": at.as_bytes()}) };
            line["is_directory"] = json!(true);
            fs::write(record(bundle), format!("{line}\n")).unwrap();
            let watch = bundle.watch();
            let finished = bundle.poststop()?;
            ensure!(finished.code == Some(0), "{finished:?}");
            watch.host(bundle)?;
            ensure!(fs::symlink_metadata(bundle.image("out")).is_ok(), "a link was removed");
            Ok(())
        })
        .map_err(|message| format!("{at}: {message}"))?;
    }
    Ok(())
}

/// Calls poststop for a container for which nothing was created.
pub fn of_nothing(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        bundle.poststop()?.silently()?;
        watch.everything(bundle)?;
        let word = How { word: Some("poststop"), cwd: Some("/".into()), ..How::default() };
        bundle.create_as(&word)?.silently()?;
        watch.everything(bundle)?;
        watch.image(bundle)
    })
}

/// If its record can't be stored, the hook creates nothing that outlives the call: neither the directory of a user's
/// runtime files, which would remain, nor files in the image.
pub fn needs_a_place(realm: Realm) -> Check {
    if realm == Realm::Initial {
        return Ok(());
    }
    with_bundle(realm, |bundle| {
        lack(bundle, &["etc/machine-id"]);
        bundle.start(Cgroup::Mounted);
        fs::remove_dir(runtime_directory()).unwrap();
        let before = crate::table::whole();
        bundle.create()?.refused(&["/etc/machine-id", "record"])?;
        crate::harness::tree::same("the mount table", &before, &crate::table::whole())?;
        ensure!(!bundle.image("etc/machine-id").exists(), "/etc/machine-id was created");
        ensure!(!runtime_directory().exists(), "the runtime directory was created, and nothing removes it");
        Ok(())
    })
}

fn lack(bundle: &Bundle, paths: &[&str]) {
    for path in paths {
        let at = bundle.image(path);
        if at.is_dir() { fs::remove_dir_all(at).unwrap() } else { fs::remove_file(at).unwrap() }
    }
}

fn created(bundle: &mut Bundle) -> Result<Watch, String> {
    bundle.start(Cgroup::Mounted);
    let watch = bundle.watch();
    bundle.create()?.silently()?;
    watch.host(bundle)?;
    Ok(watch)
}

fn end(bundle: &Bundle, watch: &Watch) -> Check {
    bundle.end();
    bundle.poststop()?.silently()?;
    watch.restored(bundle)?;
    ensure!(!bundle.records().exists(), "the record is left");
    Ok(())
}

/// Returns the only record of this ID, or a nonexistent path.
fn record(bundle: &Bundle) -> PathBuf {
    let directory = bundle.records().join(ID);
    let mut all = fs::read_dir(&directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    all.next().unwrap_or(directory.join("none"))
}

fn replace(bundle: &Bundle, make: impl FnOnce(PathBuf)) {
    let at = bundle.image("etc/machine-id");
    fs::remove_file(&at).unwrap();
    make(at);
}

fn unmount(bundle: &Bundle) {
    rustix::mount::unmount(bundle.root(""), rustix::mount::UnmountFlags::DETACH).unwrap();
}

/// Another container's record is not touched, and the directory is kept for it.
pub fn of_one_container_only(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        lack(bundle, &["etc/machine-id"]);
        let watch = created(bundle)?;
        let other = bundle.records().join("other");
        fs::create_dir(&other).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
        fs::copy(record(bundle), other.join("made")).unwrap();
        bundle.end();
        bundle.poststop()?.silently()?;
        watch.restored(bundle)?;
        ensure!(other.join("made").exists(), "the other's record is gone");
        ensure!(!bundle.records().join(ID).exists(), "its own record is left");
        Ok(())
    })
}
