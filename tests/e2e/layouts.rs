// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests containers whose cgroup layout differs from the runtime's, either because of an annotation or because
//! their systemd can't use the runtime's.

use std::sync::Arc;
use std::thread;

use libtest_mimic::Failed;

use crate::boot::{self, PROBE, ends_in_order, has_come_up};
use crate::cgroup;
use crate::config::{CGROUP_ANNOTATION, CgroupNs, Config, Stages};
use crate::container::{Cell, Container, Planted};
use crate::inside::Inside;
use crate::mounts;
use crate::outside::is_refused;
use crate::site::{Layout, Site};

/// Tests a container from its boot to its end with a layout that was requested.
pub fn forced(site: &Arc<Site>, cell: Cell, config: Config, layout: Layout) -> Result<(), Failed> {
    let config = Config { cgroup: Some(layout.word()), ..config };
    boot::whole_life(site, cell, config, cgroup::expected(cell, Some(layout)))
}

/// Tests that a layout that systemd can't use is refused.
pub fn forced_too_far(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for layout in [Layout::Legacy, Layout::Hybrid] {
        let config = Config { cgroup: Some(layout.word()), ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        is_refused(&container, &[CGROUP_ANNOTATION, layout.word()])?;
    }
    Ok(())
}

/// A stand-in for a systemd that doesn't know version 2. None of the available Debian releases has a real one.
const OLD_SYSTEMD: [Planted; 1] =
    [Planted::File("usr/lib/systemd/systemd", 0o755, "\u{7f}ELF\0libsystemd-shared-229.so\0")];

/// Tests that an old systemd gets version 1 on a host without it, and is refused if version 2 is requested.
pub fn old_systemd(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let container = Container::new(site, cell, &Config::default(), &OLD_SYSTEMD)?;
    container.explain(|container| {
        container.create()?.expect_success()?;
        let seen = container.mounts()?;
        let kind = |point| mounts::at(&seen, point).map(|mount| mount.kind.as_str());
        match (kind("/sys/fs/cgroup"), kind("/sys/fs/cgroup/systemd"), kind("/sys/fs/cgroup/unified")) {
            (Some("tmpfs"), Some("cgroup"), None) => {}
            other => return Err(format!("not a legacy layout: {other:?} of {seen:?}").into()),
        }
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()?;
    let config = Config { cgroup: Some(Layout::Unified.word()), ..Config::default() };
    let container = Container::new(site, cell, &config, &OLD_SYSTEMD)?;
    is_refused(&container, &["systemd 229", CGROUP_ANNOTATION, "unified"])
}

pub fn bad_value(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    let config = Config { cgroup: Some("v2"), ..Config::default() };
    let container = Container::new(site, cell, &config, &PROBE)?;
    is_refused(&container, &[CGROUP_ANNOTATION, "v2", "legacy", "hybrid", "unified"])
}

/// Tests that a systemd that needs a cgroup from the hook is refused, with the name of the missing stage, if the
/// hook isn't called when it could create the cgroup or when it should remove it.
pub fn missing_stage(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for (stages, missing) in [(Stages::CreateContainerOnly, "createRuntime"), (Stages::WithoutPoststop, "poststop")] {
        let config = Config { stages, ..Config::default() };
        let container = Container::new(site, cell, &config, &PROBE)?;
        is_refused(&container, &[missing])?;
    }
    Ok(())
}

/// Tests that a systemd that doesn't need such a cgroup gets what the runtime mounts.
pub fn missing_stage_without_need(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for stages in [Stages::CreateContainerOnly, Stages::WithoutPoststop] {
        boot::whole_life(site, cell, Config { stages, ..Config::default() }, Layout::Legacy)?;
    }
    Ok(())
}

/// The number of times that two containers start and end at once. The second one must never find anything
/// half-finished.
const ROUNDS: u32 = 4;

pub fn two_at_once(site: &Arc<Site>, cell: Cell, layout: Layout) -> Result<(), Failed> {
    let config = Config { cgroup: Some(layout.word()), ..Config::default() };
    for _ in 0..ROUNDS {
        let pair = [Container::new(site, cell, &config, &PROBE)?, Container::new(site, cell, &config, &PROBE)?];
        both(&pair, |container| {
            container.start()?;
            has_come_up(container)
        })?;
        // The containers are checked one after the other, because each check creates a cgroup that the other
        // container's check must not find.
        for container in &pair {
            container.explain(|container| cgroup::is_its_own(container, CgroupNs::Private, layout))?;
        }
        both(&pair, |container| {
            ends_in_order(container)?;
            container.delete(&[])
        })?;
        pair.iter().try_for_each(Container::host_is_as_before)?;
    }
    Ok(())
}

fn both(pair: &[Container; 2], part: fn(&Container) -> Result<(), Failed>) -> Result<(), Failed> {
    thread::scope(|scope| {
        let running = pair.each_ref().map(|container| scope.spawn(|| container.explain(part)));
        let results = running.map(|thread| thread.join().unwrap_or_else(|_| Err("a thread has panicked".into())));
        results.into_iter().collect()
    })
}
