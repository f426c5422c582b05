// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a volume isn't changed, wherever the symbolic links of the image lead and however many
//! mounts the host has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, bind, furnish_host, tmpfs, with_bundle};
use crate::harness::tree::{self, Detail, same};
use crate::hook::How;
use crate::namespace::Realm;
use crate::runtime::Container;
use crate::table;

/// The paths that the hook examines, and the directories above them.
const PATHS: [&str; 12] = [
    "run",
    "run/lock",
    "run/host",
    "run/host/inaccessible",
    "run/systemd",
    "run/systemd/system",
    "tmp",
    "var/log",
    "var/log/journal",
    "var/lib/dbus",
    "etc",
    "sys/fs/cgroup",
];

/// The number of mounts of the host.
#[derive(Debug, Clone, Copy)]
enum Hosts {
    Few,
    /// More mounts than the hook reads at once.
    Many,
}

/// The way in which the volume is reached at the path.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// The path is a symlink in the image that leads to the volume.
    Link,
    /// The path is a symlink in the image to a directory that doesn't exist in the volume.
    LinkToNothing,
    /// The volume is mounted on the path.
    Mounted,
    /// config.json mounts a tmpfs on the path, and the volume on a path that is a symlink to it in the image.
    OverATmpfs,
}

/// Tests each path in each way: a tmpfs of the host keeps its files, with their owners and modes, and nothing
/// is mounted on it.
pub fn stay_as_they_are(realm: Realm) -> Check {
    let mut cases = Vec::new();
    for path in PATHS {
        for way in [Way::Link, Way::LinkToNothing, Way::Mounted, Way::OverATmpfs] {
            for hosts in [Hosts::Few, Hosts::Many] {
                cases.push((path, way, hosts));
            }
        }
    }
    crate::all(cases.into_iter().flat_map(|(path, way, hosts)| {
        [false, true].map(|is_create_runtime| {
            let name = format!("{path}, {way:?}, {hosts:?}, at createRuntime: {is_create_runtime}");
            (name, with_bundle(realm, |bundle| stays(bundle, path, way, hosts, is_create_runtime)))
        })
    }))
}

fn stays(bundle: &mut Bundle, path: &str, way: Way, hosts: Hosts, is_create_runtime: bool) -> Check {
    let host = bundle.elsewhere("volume");
    tmpfs(&host, "mode=755");
    furnish_host(&host);
    let volume = host.clone();
    if matches!(hosts, Hosts::Many) {
        let many = bundle.elsewhere("many");
        tmpfs(&many, "mode=755");
        for number in 0..200 {
            let at = many.join(number.to_string());
            fs::create_dir(&at).unwrap();
            bind(&at, &at);
        }
    }
    let at = bundle.image(path);
    let replace = |target: &str| {
        let _ = fs::remove_dir_all(&at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        symlink(target, &at).unwrap();
    };
    fs::create_dir_all(bundle.image("data")).unwrap();
    match way {
        Way::Link => replace("/data/full"),
        Way::LinkToNothing => replace("/data/new/newer"),
        Way::Mounted => fs::create_dir_all(&at).unwrap(),
        Way::OverATmpfs => {
            fs::create_dir_all(&at).unwrap();
            symlink(Path::new("/").join(path), bundle.image("volume")).unwrap();
            bundle.config["mounts"] = json!([
                {"destination": Path::new("/").join(path), "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"]},
            ]);
        }
    }
    let mount = |bundle: &mut Bundle| {
        bundle.start(Cgroup::Nowhere);
        match way {
            Way::Link | Way::LinkToNothing => bind(&volume, &bundle.root("data")),
            Way::Mounted => bind(&volume, &bundle.root(path)),
            Way::OverATmpfs => {
                tmpfs(&bundle.root(path), "mode=755");
                bind(&volume, &bundle.root(path));
            }
        }
    };
    let (mut container, mut cwd) = (None, bundle.root(""));
    if is_create_runtime {
        let started = Container::start_as(bundle, mount)?;
        bundle.state["pid"] = json!(started.id());
        (container, cwd) = (Some(started), bundle.directory());
    } else {
        mount(bundle);
    }
    let before = tree::read(&host, Detail::Untouched);
    let finished = bundle.create_as(&How { cwd: Some(cwd), ..How::default() })?;
    finished.in_order()?;
    same("the volume", &before, &tree::read(&host, Detail::Untouched))
        .map_err(|wrong| format!("{finished:?}: {wrong}"))?;
    let process = container.as_ref().map_or("thread-self".to_owned(), |container| container.id().to_string());
    let shown = if matches!(way, Way::Link | Way::LinkToNothing) { "data" } else { path };
    let on_it: Vec<_> = table::of(&process)
        .into_iter()
        .filter(|mount| mount.at.starts_with(bundle.root(shown)) && mount.at != bundle.root(shown))
        .map(|mount| mount.at)
        .collect();
    ensure!(on_it.is_empty(), "the volume has the mounts {on_it:?}: {finished:?}");
    drop(container);
    bundle.end();
    bundle.poststop()?.silently()?;
    same("the volume after poststop", &before, &tree::read(&host, Detail::Untouched))
}
