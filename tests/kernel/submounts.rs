// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that mounts from config.json are kept, and that the hook recognizes its own work when it is called again.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};
use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, ID, bind, tmpfs, with_bundle};
use crate::harness::tree::{self, Detail, same};
use crate::namespace::{Realm, isolated};
use crate::table::{self, Mount};

/// Mount points that are directories, in the order in which a runtime mounts them.
const DIRECTORIES: [&str; 8] = [
    "run/secrets",
    "run/secrets/nested/deep",
    "run/a b/c\nd/e\\f",
    "run/lock/x",
    "run/user/1000",
    "tmp/.X11-unix",
    "var/log/journal/remote",
    "runner",
];
const FILES: [&str; 3] = ["run/.containerenv", "run/systemd/journal/socket", "tmp/a/b/file"];

/// Tests that the mounts are the same, at the same paths.
pub fn are_kept(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        fs::write(bundle.image("run/plain"), "plain").unwrap();
        bundle.start(Cgroup::Mounted);
        for path in DIRECTORIES {
            bundle.submount(path);
        }
        for path in FILES {
            bundle.submount_file(path);
        }
        let covered = bundle.root("tmp/covered");
        fs::create_dir(&covered).unwrap();
        tmpfs(&covered, "mode=700");
        tmpfs(&covered, "mode=711");
        mount_remount(bundle.root("run/secrets"), MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        mount_change(bundle.root("run/user/1000"), MountPropagationFlags::SHARED).unwrap();

        let watch = bundle.watch();
        let all = || DIRECTORIES.iter().chain(&FILES).chain(&["tmp/covered"]);
        let before: Vec<_> = all().map(|path| seen(bundle, path)).collect();
        bundle.create()?.silently()?;
        for (path, before) in all().zip(before) {
            let after = seen(bundle, path);
            ensure!(before == after, "{path:?} was {before:?}, is {after:?}");
        }
        for path in ["run", "run/lock", "tmp", "var/log/journal"] {
            ensure!(table::at(&bundle.root(path)).is_some(), "no mount on {path}");
        }
        ensure!(fs::read_to_string(bundle.root("run/plain")).unwrap() == "plain", "not copied");
        watch.image(bundle)?;
        watch.host(bundle)
    })
}

/// Returns what is at a path: the mount, with its ID, and all its files.
fn seen(bundle: &Bundle, path: &str) -> (String, String, String, tree::Snapshot) {
    let Mount { id, device, options, .. } = table::at(&bundle.root(path)).unwrap();
    (id, device, options, tree::read(&bundle.root(path), Detail::Untouched))
}

/// If the user has mounted something on or above one of the hook's paths, that path is left alone,
/// but not the others.
pub fn of_the_users_are_left_alone(realm: Realm) -> Check {
    for (mounted, left, others) in [
        ("tmp", &["tmp"][..], &["run", "run/lock", "var/log/journal"][..]),
        ("var", &["var/log/journal"], &["run", "run/lock", "tmp"]),
        ("var/log", &["var/log/journal"], &["run", "run/lock", "tmp"]),
        ("var/log/journal", &["var/log/journal"], &["run", "run/lock", "tmp"]),
        ("run", &["run"], &["run/lock", "tmp", "var/log/journal"]),
        ("run/lock", &["run/lock"], &["run", "tmp", "var/log/journal"]),
    ] {
        with_bundle(realm, |bundle| {
            let destination = format!("/{mounted}");
            bundle.config["mounts"] = json!([{"destination": destination, "type": "tmpfs", "source": "tmpfs"}]);
            bundle.start(Cgroup::Mounted);
            bundle.submount(mounted);
            fs::create_dir_all(bundle.root("var/log/journal")).unwrap();
            let watch = bundle.watch();
            let before = table::at(&bundle.root(mounted)).map(|mount| (mount.id, mount.options));
            let finished = bundle.create()?;
            ensure!(finished.code == Some(0), "{finished:?}");
            let after = table::at(&bundle.root(mounted)).map(|mount| (mount.id, mount.options));
            ensure!(before == after, "the mount was {before:?}, is {after:?}");
            let kept = fs::read_to_string(bundle.root(mounted).join("kept")).unwrap_or_default();
            ensure!(kept == mounted, "the file on it is {kept:?}");
            for path in left.iter().filter(|path| **path != mounted) {
                ensure!(table::at(&bundle.root(path)).is_none(), "something was mounted on {path}");
            }
            for path in others {
                let mount = table::at(&bundle.root(path));
                ensure!(mount.is_some_and(|mount| mount.fs_type == "tmpfs"), "no tmpfs on {path}");
            }
            watch.image(bundle)?;
            watch.host(bundle)
        })
        .map_err(|message| format!("a mount on {mounted}: {message}"))?;
    }
    Ok(())
}

/// A volume outlives the container and must not be written to.
pub fn volume_on_run(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let volume = bundle.host("full/run");
        bundle.start(Cgroup::Mounted);
        bind(&volume, &bundle.root("run"));
        let watch = bundle.watch();
        let finished = bundle.create()?;
        ensure!(finished.code == Some(0), "{finished:?}");
        ensure!(table::at(&bundle.root("tmp")).is_some(), "no tmpfs on /tmp");
        // The hook recognizes paths where it leaves no traces by their tmpfs, and this volume is on a tmpfs.
        let made: Vec<_> = fs::read_dir(&volume).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        ensure!(made.is_empty(), "the volume contains {made:?}");
        watch.image(bundle)
    })
}

/// A second call finds the hook's work done, whatever it had to keep or to create.
pub fn second_run(realm: Realm) -> Check {
    type Prepare = fn(&Bundle);
    let cases: [(&str, Prepare, Prepare); 4] = [
        ("plain", |_| {}, |_| {}),
        (
            "submounts",
            |_| {},
            |bundle| {
                for path in DIRECTORIES {
                    bundle.submount(path);
                }
                bundle.submount_file(FILES[0]);
            },
        ),
        (
            "nothing in the image",
            |bundle| {
                for path in ["run/lock", "run", "tmp", "var/log/journal"] {
                    fs::remove_dir(bundle.image(path)).unwrap();
                }
                fs::remove_file(bundle.image("etc/machine-id")).unwrap();
            },
            |_| {},
        ),
        (
            "a copy of the id",
            |bundle| {
                fs::remove_file(bundle.image("var/lib/dbus/machine-id")).unwrap();
                fs::write(bundle.image("var/lib/dbus/machine-id"), "").unwrap();
            },
            |_| {},
        ),
    ];
    for (name, image, root) in cases {
        with_bundle(realm, |bundle| {
            image(bundle);
            bundle.start(Cgroup::Mounted);
            root(bundle);
            bundle.create()?.silently()?;
            let (mounts, files) = (table::whole(), container(bundle));
            bundle.create()?.silently()?;
            same("the mount table", &mounts, &table::whole())?;
            same("the container", &files, &container(bundle))
        })
        .map_err(|message| format!("{name}: {message}"))?;
    }
    Ok(())
}

fn container(bundle: &Bundle) -> tree::Snapshot {
    let mut all = tree::Snapshot::new();
    for top in ["run", "tmp", "etc", "var"] {
        let tree = tree::read(&bundle.root(top), Detail::Untouched);
        all.extend(tree.into_iter().map(|(path, line)| (Path::new(top).join(path), line)));
    }
    all
}

/// Tests each kind of peer group through which a mount of the hook could propagate.
pub fn peers(realm: Realm) -> Check {
    // The shared mount is that of the root itself, or one in it.
    for is_root_shared in [true, false] {
        isolated(|| {
            with_bundle(realm, |bundle| {
                let peer = bundle.elsewhere("peer");
                bundle.start(Cgroup::Mounted);
                bundle.submount("run/secrets");
                let shared = if is_root_shared { bundle.root("") } else { bundle.root("run/secrets") };
                mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
                bind(&shared, &peer);
                let watch = bundle.watch();
                bundle.create()?.silently()?;
                let mounts = table::below(&peer);
                ensure!(mounts == ["/"], "the peer has the mounts {mounts:?}");
                ensure!(table::at(&bundle.root("run/secrets")).is_some(), "the submount is gone");
                let id = fs::read_to_string(peer.join("etc/machine-id"));
                ensure!(!id.is_ok_and(|id| id.starts_with(&ID[..32])), "the peer sees the id");
                watch.host(bundle)?;
                watch.image(bundle)
            })
        })
        .map_err(|message| format!("the root itself is shared: {is_root_shared}: {message}"))?;
    }
    Ok(())
}

/// Tests a root that isn't a mount point, on a shared mount. No runtime does this, but even then the host must not
/// see the hook's mounts.
pub fn root_on_a_shared_mount(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let base = bundle.image("").parent().unwrap().to_owned();
        bundle.config["root"]["path"] = json!(bundle.image(""));
        bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
        bundle.write_config();
        mount_change(&base, MountPropagationFlags::SHARED).unwrap();
        let peer = bundle.elsewhere("peer");
        bind(&base, &peer);
        let before = table::below(&peer);
        let finished = bundle.create()?;
        finished.in_order()?;
        ensure!(before == table::below(&peer), "{finished:?}: the peer has the mounts {:?}", table::below(&peer));
        ensure!(finished.code == Some(0) || !bundle.records().exists(), "a record is left: {finished:?}");
        Ok(())
    })
}
