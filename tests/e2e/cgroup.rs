// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines the cgroup layout that a container should find, and checks that it has this layout, with a cgroup of
//! its own that it can write to and without write access to anything else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;

use crate::boot::same;
use crate::config::CgroupNs;
use crate::container::{Cell, Container};
use crate::hierarchy::{Hierarchy, Whole};
use crate::host::HOOKS;
use crate::inside::Inside;
use crate::mounts;
use crate::site::{Layout, MARK, Suite};

/// Returns the layout that a container should have.
pub fn expected(cell: Cell, forced: Option<Layout>) -> Layout {
    forced.unwrap_or(match (cell.suite, cell.layout) {
        // This is what the runtimes mount. runc 1.1 doesn't mount version 2 in a container on a hybrid host.
        (Suite::Bullseye | Suite::Bookworm, Layout::Legacy | Layout::Hybrid) => Layout::Legacy,
        // This is what the runtimes mount on a unified host, and the newest layout that Trixie and Sid can
        // use on any host.
        (Suite::Bullseye | Suite::Bookworm, Layout::Unified) | (Suite::Trixie | Suite::Sid, _) => Layout::Unified,
    })
}

/// Makes all checks of the cgroups of a container that runs systemd.
pub fn is_its_own(container: &Container, cgroupns: CgroupNs, layout: Layout) -> Result<(), Failed> {
    same("the cgroup layout", &found(container)?.to_string(), &layout.to_string())?;
    let cgroups = container.ask(&["cat", "/proc/1/cgroup"])?;
    let mut own = Vec::new();
    let mut beside = Vec::new();
    for hierarchy in Hierarchy::BOTH {
        if let Some(top) = mount_point(hierarchy, layout) {
            let path = hierarchy.path_in(&cgroups).ok_or_else(|| format!("no {hierarchy:?} in {cgroups}"))?;
            has_first_process(container, &format!("{top}{path}"))?;
            let managed = hierarchy == Hierarchy::Unified || layout == Layout::Legacy;
            let place = own_place(container, cgroupns, hierarchy, path, managed)?;
            own.push(format!("{top}{place}"));
            beside.push(Beside::new(container, hierarchy)?);
        }
    }
    writes_there_alone(container, &own)?;
    mounts_are_its_own(container)?;
    sees_no_others(container, cgroupns)?;
    cannot_change_its_limits(container, cgroupns)
}

/// Determines the layout by the same criteria as systemd (`cg_unified_cached` in its sources).
pub fn found(container: &Container) -> Result<Layout, Failed> {
    // The image's shell is used because stat fails if one of the paths is missing.
    let ask = "for at in '' /systemd /unified; do stat -f -c %T /sys/fs/cgroup$at 2>/dev/null || echo none; done";
    let told = container.ask(&["sh", "-c", ask])?;
    match told.split_whitespace().collect::<Vec<_>>()[..] {
        ["cgroup2fs", ..] => Ok(Layout::Unified),
        ["tmpfs", "cgroupfs", "cgroup2fs"] => Ok(Layout::Hybrid),
        ["tmpfs", "cgroupfs", "none" | "tmpfs"] => Ok(Layout::Legacy),
        _ => Err(format!("not a layout that systemd supports: {told}").into()),
    }
}

/// Returns the mount point of a hierarchy in a container with this layout.
fn mount_point(hierarchy: Hierarchy, layout: Layout) -> Option<&'static str> {
    match (hierarchy, layout) {
        (Hierarchy::Systemd, Layout::Legacy | Layout::Hybrid) => Some("/sys/fs/cgroup/systemd"),
        (Hierarchy::Unified, Layout::Hybrid) => Some("/sys/fs/cgroup/unified"),
        (Hierarchy::Unified, Layout::Unified) => Some("/sys/fs/cgroup"),
        (Hierarchy::Systemd, Layout::Unified) | (Hierarchy::Unified, Layout::Legacy) => None,
    }
}

/// Checks that systemd finds its cgroup where /proc says it is.
fn has_first_process(container: &Container, place: &str) -> Result<(), Failed> {
    let members = container.ask(&["cat", &format!("{place}/cgroup.procs")])?;
    if members.lines().any(|member| member == "1") {
        return Ok(());
    }
    Err(format!("{place}/cgroup.procs does not list process 1, but {members:?}").into())
}

/// Returns the cgroup that systemd got: the runtime's, or one that the hook created. In a private cgroup namespace,
/// the runtime's is the root.
fn own_place(
    container: &Container,
    cgroupns: CgroupNs,
    hierarchy: Hierarchy,
    path: &str,
    managed: bool,
) -> Result<String, Failed> {
    let runtimes = match cgroupns {
        CgroupNs::Private => String::new(),
        CgroupNs::Host => container.cgroup(),
    };
    let hooks = format!("{}/payload", container.hooks_cgroup());
    if !managed {
        // systemd uses as much of the hybrid layout's version 1 as it can: there it moves to the path that it
        // has in version 2.
        let has_own = container.cell().layout != Layout::Unified;
        let place = if has_own { runtimes } else { hooks };
        let is_below = Path::new(path).starts_with(Path::new("/").join(place.trim_start_matches('/')));
        return if is_below { Ok(place) } else { Err(format!("process 1 is in {path}, not below {place:?}").into()) };
    }
    let known = match hierarchy {
        Hierarchy::Systemd => vec![runtimes, hooks],
        Hierarchy::Unified => vec![format!("{runtimes}/payload"), runtimes, hooks],
    };
    // The cgroup above systemd's own init.scope.
    match path.strip_suffix("/init.scope") {
        Some(place) if known.iter().any(|known| known == place) => Ok(place.to_owned()),
        _ => Err(format!("process 1 is in {path}, and not in init.scope below one of {known:?}").into()),
    }
}

/// Checks that the container can write to nothing below /sys/fs/cgroup except its own cgroups.
fn writes_there_alone(container: &Container, own: &[String]) -> Result<(), Failed> {
    // Cgroups of other tests may disappear during the walk, which find reports as errors.
    let find = "find /sys/fs/cgroup ! -type l -writable -printf '%F %p\\n' 2>/dev/null; true";
    let told = container.ask(&["sh", "-c", find])?;
    let writable: Vec<(&str, &Path)> =
        told.lines().filter_map(|line| line.split_once(' ')).map(|(kind, path)| (kind, Path::new(path))).collect();
    for place in own.iter().map(Path::new) {
        for needed in [place, &place.join("cgroup.procs")] {
            if !writable.iter().any(|(_, path)| *path == needed) {
                return Err(format!("{} should be writable, but only these paths are: {told}", needed.display()).into());
            }
        }
    }
    // runc 1.1 in a cgroup namespace, and crun 1.8, leave the tmpfs that contains version 1's mount points
    // writable.
    let runtimes_tmpfs = container.cell().layout != Layout::Unified;
    let strange: Vec<_> = writable
        .iter()
        .filter(|(kind, path)| !(runtimes_tmpfs && *kind == "tmpfs" || own.iter().any(|own| path.starts_with(own))))
        .collect();
    if strange.is_empty() { Ok(()) } else { Err(format!("paths other than {own:?} are writable: {strange:?}").into()) }
}

/// Checks that cgroups that are mounted writable also belong to the container on the host, whatever
/// their names are inside.
fn mounts_are_its_own(container: &Container) -> Result<(), Failed> {
    let seen = container.mounts()?;
    let own = [container.cgroup(), container.hooks_cgroup()];
    let writable = |mount: &&mounts::Mount| mount.kind.starts_with("cgroup") && mount.has("rw");
    for mount in seen.iter().filter(writable) {
        let hidden = mounts::at(&seen, &mount.point) != Some(mount);
        if !hidden && !own.iter().any(|own| Path::new(&mount.root).starts_with(own)) {
            return Err(format!("{mount:?} should be read-only").into());
        }
    }
    Ok(())
}

/// Checks that a container doesn't see the cgroups of others. In the host's cgroup namespace, it sees only its own
/// and the names of those above.
fn sees_no_others(container: &Container, cgroupns: CgroupNs) -> Result<(), Failed> {
    let told = container.ask(&["sh", "-c", "find /sys/fs/cgroup -type d 2>/dev/null; true"])?;
    let own = [container.cgroup(), container.hooks_cgroup()];
    let is_on_the_way = |name: &str| own.iter().any(|own| own.split('/').nth(1) == Some(name));
    let foreign = |name: &str| (name.starts_with(MARK) || name.starts_with(HOOKS)) && !is_on_the_way(name);
    let others: Vec<&str> = told.lines().filter(|line| line.split('/').any(foreign)).collect();
    if !others.is_empty() {
        return Err(format!("other containers' cgroups are visible: {others:?}").into());
    }
    // The container doesn't see the cgroups of the host's units either: everything in the root of a hierarchy that
    // systemd uses is part of the path to the container's own cgroup.
    for top in tops(&told) {
        let names = told.lines().filter_map(|line| line.strip_prefix(top)).filter_map(|rest| rest.strip_prefix('/'));
        // The cgroup that the hook mounts in place of the root also shows the cgroups below it.
        let is_own = |name: &str| is_on_the_way(name) || name == "payload";
        let strange: Vec<&str> = names.filter(|name| !name.contains('/') && !is_own(name)).collect();
        if cgroupns == CgroupNs::Host && !strange.is_empty() {
            return Err(format!("{top} has {strange:?}, and should have one of {own:?}").into());
        }
    }
    Ok(())
}

/// Returns the mount points of the hierarchies that systemd uses.
fn tops(directories: &str) -> &'static [&'static str] {
    if directories.lines().any(|line| line == "/sys/fs/cgroup/systemd") {
        &["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
    } else {
        &["/sys/fs/cgroup"]
    }
}

/// A cgroup next to the container's in the root of a hierarchy, like those of other containers.
struct Beside {
    path: PathBuf,
    _whole: Whole,
}

impl Beside {
    fn new(container: &Container, hierarchy: Hierarchy) -> Result<Self, Failed> {
        let whole = hierarchy.whole()?.ok_or_else(|| format!("the kernel has no {hierarchy:?}"))?;
        let path = whole.path().join(container.beside());
        fs::create_dir(&path)?;
        Ok(Self { path, _whole: whole })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // If this fails, the test's clean-up tries again.
        fs::remove_dir(&self.path).ok();
    }
}

/// Limits that do no harm if the container can change them after all.
const LIMITS: [&str; 3] = ["cgroup.max.depth", "cgroup.max.descendants", "pids.max"];

/// Checks that the container can't write to the limits that apply to it.
fn cannot_change_its_limits(container: &Container, cgroupns: CgroupNs) -> Result<(), Failed> {
    let before = limits(container)?;
    if before.is_empty() {
        return Err(format!("{} has no limits on the host", container.cgroup()).into());
    }
    // In the host's cgroup namespace, the container sees cgroups that this test must not write to.
    let which = match cgroupns {
        CgroupNs::Private => "*".to_owned(),
        CgroupNs::Host => format!("*{}*", container.id()),
    };
    let names = LIMITS.map(|name| format!("-name {name}")).join(" -o ");
    let write = format!(
        "find /sys/fs/cgroup -path '{which}' \\( {names} \\) 2>/dev/null |
         while read -r file; do (echo 7777 >\"$file\") 2>/dev/null; done; true"
    );
    container.ask(&["sh", "-c", &write])?;
    let after = limits(container)?;
    if before == after { Ok(()) } else { Err(format!("limits before {before:#?}, after {after:#?}").into()) }
}

/// Returns the limits of the cgroups that the runtime and the hook created, not of those that
/// systemd creates in them.
fn limits(container: &Container) -> Result<BTreeMap<PathBuf, String>, Failed> {
    let mut found = BTreeMap::new();
    // On a hybrid host no engine has a limit in version 2, because the controllers are on version 1.
    let unified = if container.cell().layout == Layout::Hybrid { None } else { Hierarchy::Unified.whole()? };
    let tops = unified.iter().map(Whole::path).chain([Path::new("/sys/fs/cgroup/pids")]);
    for top in tops {
        for cgroup in [container.cgroup(), container.hooks_cgroup()] {
            for name in LIMITS {
                let path = Path::new(cgroup.trim_start_matches('/')).join(name);
                if let Ok(value) = fs::read_to_string(top.join(&path)) {
                    found.insert(path, value);
                }
            }
        }
    }
    Ok(found)
}
