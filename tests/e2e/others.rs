// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a container gets no cgroup that contains other processes, no hierarchy whose root belongs to the
//! host, and no unlimited number of cgroups.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;

use crate::boot::{PROBE, ends_in_order, has_come_up, same};
use crate::command::SHORT;
use crate::config::{CGROUP_ANNOTATION, CgroupNs, Config, Stages};
use crate::container::{Cell, Container};
use crate::hierarchy::{Hierarchy, Whole};
use crate::inside::Inside;
use crate::mounts;
use crate::outside::is_refused;
use crate::site::{Layout, Site};

/// A process that doesn't belong to the container, in the container's cgroup or below it.
pub struct Stranger {
    process: Child,
    /// The cgroups that were created, the deepest one of each hierarchy first.
    made: Vec<PathBuf>,
    /// Mounts that keep a hierarchy alive that is not mounted anywhere else.
    wholes: Vec<Whole>,
}

impl Stranger {
    pub fn new(container: &Container, below: &str) -> Result<Self, Failed> {
        let process = Command::new("sleep").arg("120").spawn()?;
        let pid = process.id().to_string();
        Self::with(process, &pid, container, below)
    }

    /// Starts a process that has a property of another container's processes, which an option of unshare(1)
    /// selects.
    fn contained(container: &Container, option: &str) -> Result<Self, Failed> {
        let process = Command::new("unshare").args([option, "--fork", "--kill-child", "sleep", "120"]).spawn()?;
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let deadline = Instant::now() + SHORT;
        loop {
            let child = fs::read_to_string(&children)?;
            let comm = fs::read_to_string(format!("/proc/{}/comm", child.trim())).unwrap_or_default();
            if comm.trim() == "sleep" {
                return Self::with(process, child.trim(), container, "");
            }
            if Instant::now() > deadline {
                return Err(format!("unshare(1) has the child {child:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn with(process: Child, pid: &str, container: &Container, below: &str) -> Result<Self, Failed> {
        let mut stranger = Self { process, made: Vec::new(), wholes: Vec::new() };
        for hierarchy in Hierarchy::BOTH {
            let Some(whole) = hierarchy.whole()? else { continue };
            let own = whole.path().join(container.cgroup().trim_start_matches('/'));
            let place = own.join(below);
            fs::create_dir_all(&place)?;
            fs::write(place.join("cgroup.procs"), pid)?;
            stranger.made.extend([place, own]);
            stranger.wholes.push(whole);
        }
        Ok(stranger)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        let deadline = Instant::now() + SHORT;
        for place in &self.made {
            // The runtime may already have removed it, and a child of unshare(1) remains for a moment.
            while fs::remove_dir(place).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.wholes.clear();
    }
}

/// Tests that a cgroup that contains other processes doesn't become writable. The hook creates another one if it
/// can, and refuses the container otherwise.
pub fn are_left_alone(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for below in ["", "below"] {
        for stages in [Stages::CreateContainerOnly, Stages::WithoutPoststop] {
            let container = Container::new(site, cell, &Config { stages, ..Config::default() }, &PROBE)?;
            let stranger = Stranger::new(&container, below)?;
            container.explain(|container| {
                let created = container.create()?;
                let words = "processes that are not the container's are in its cgroup";
                let is_told = container.said().contains(words);
                drop(stranger);
                container.delete(&["--force"])?;
                if created.status.success() || !is_told {
                    return Err(format!("it was not refused with {words:?}: {}", created.told()).into());
                }
                Ok(())
            })?;
            container.host_is_as_before()?;
        }
        let container = Container::new(site, cell, &Config::default(), &PROBE)?;
        let stranger = Stranger::new(&container, below)?;
        container.explain(|container| {
            container.start()?;
            has_come_up(container)?;
            let made = format!("{}{}", container.cgroup(), container.hooks_cgroup());
            let seen = container.mounts()?;
            let writable = seen.iter().filter(|mount| mount.kind.starts_with("cgroup") && mount.has("rw"));
            for mount in writable.filter(|mount| mounts::at(&seen, &mount.point) == Some(mount)) {
                if !mount.root.starts_with(&made) {
                    return Err(format!("{mount:?} is writable, and not below {made}").into());
                }
            }
            ends_in_order(container)?;
            drop(stranger);
            container.delete(&[])
        })?;
        container.host_is_as_before()?;
    }
    Ok(())
}

/// Tests that nothing is created below a cgroup that another container may write to, because that container could
/// rename it and write to it. That container may have the host's PID namespace.
pub fn container_is_left_alone(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let root = format!("--root={}", site.root(cell.suite)?.display());
    ["--pid", &root].into_iter().try_for_each(|option| contained_is_left_alone(site, cell, option))
}

fn contained_is_left_alone(site: &Arc<Site>, cell: Cell, option: &str) -> Result<(), Failed> {
    let container = Container::new(site, cell, &Config::default(), &PROBE)?;
    let stranger = Stranger::contained(&container, option)?;
    container.explain(|container| {
        let created = container.create()?;
        let said = container.said();
        let is_told = ["processes of another container are in its cgroup", "stop that container"];
        drop(stranger);
        container.delete(&["--force"])?;
        if created.status.success() || !is_told.iter().all(|words| said.contains(words)) {
            return Err(format!("it was not refused with {is_told:?}: {}", created.told()).into());
        }
        Ok(())
    })?;
    container.host_is_as_before()
}

/// Tests that a container with the right to mount gets no hierarchy whose root belongs to the host, unless
/// the administrator allows it.
pub fn no_v1_with_sys_admin(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    const ALLOWED: &str = "--allow-v1-with-cap-sys-admin";
    for layout in [Layout::Legacy, Layout::Hybrid] {
        let config = Config { with: Some("CAP_SYS_ADMIN"), cgroup: Some(layout.word()), ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        is_refused(&container, &["CAP_SYS_ADMIN", "release_agent", CGROUP_ANNOTATION, ALLOWED])?;
        let config = Config { policy: vec![ALLOWED], ..config };
        let container = Container::new(site, cell, &config, &PROBE)?;
        container.explain(|container| {
            container.create()?.expect_success()?;
            container.delete(&["--force"])
        })?;
        container.host_is_as_before()?;
    }
    Ok(())
}

/// Tests that the number of cgroups that a container creates is limited by a file that it can't write to. A lower
/// limit set by the engine is kept.
pub fn are_bounded(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    const MAKE: &str =
        "cd \"$(findmnt -rn -t cgroup2 -o TARGET,OPTIONS | grep ' rw,' | tail -n 1 | cut -d ' ' -f 1)\" &&
        for number in $(seq 60); do mkdir \"few$number\" 2>/dev/null || break; done; echo $number
        find /sys/fs/cgroup -name cgroup.max.descendants | while read -r file; do echo max >\"$file\"; done 2>/dev/null
        mkdir one-more 2>&1; ls -d few* | xargs rmdir";
    for (engines_most, expected) in [(None, "50"), (Some(40), "40")] {
        let config = Config { policy: vec!["--max-cgroups=50"], engines_most, ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        container.explain(|container| {
            container.start()?;
            has_come_up(container)?;
            let whole = Hierarchy::Unified.whole()?.ok_or("the kernel has no cgroup v2")?;
            let own = [container.cgroup(), container.hooks_cgroup()];
            let bounds = own.iter().map(|own| whole.path().join(own.trim_start_matches('/')));
            let bounds: Vec<_> = bounds.map(|own| fs::read_to_string(own.join("cgroup.max.descendants"))).collect();
            let is_expected = |bound: &Result<String, _>| bound.as_ref().is_ok_and(|bound| bound.trim() == expected);
            if !bounds.iter().any(is_expected) {
                return Err(format!("no limit is {expected}: {bounds:?}").into());
            }
            let told = container.ask(&["sh", "-c", MAKE])?;
            let made: u32 = told.lines().next().unwrap_or_default().parse()?;
            if made >= 60 || !told.contains("Resource temporarily unavailable") {
                return Err(format!("it could create {made} cgroups, and then: {told}").into());
            }
            container.kill_and_delete()
        })?;
        container.host_is_as_before()?;
    }
    // There is also a default limit.
    let container = Container::new(site, cell, &Config::default(), &PROBE)?;
    container.explain(|container| {
        container.create()?.expect_success()?;
        let whole = Hierarchy::Unified.whole()?.ok_or("the kernel has no cgroup v2")?;
        let own = whole.path().join(container.cgroup().trim_start_matches('/'));
        same("the bound", fs::read_to_string(own.join("cgroup.max.descendants"))?.trim(), "16384")?;
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}

/// Tests engine limits that leave no room for a copy of the path: the container is created, and the names
/// of others stay visible.
pub fn little_room(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { cgroupns: CgroupNs::Host, engines_most: Some(1), ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    container.explain(|container| {
        container.create()?.expect_success()?;
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}
