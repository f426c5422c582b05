// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Queries the loaded SELinux policy about the container, if there is a policy.

use std::os::fd::OwnedFd;

use super::user_namespaces;
use crate::facts::Selinux;
use crate::facts::selinux::{CgroupLabel, Confinement, Files, Labeling};
use crate::interface::{
    CAPABILITIES, CGROUP, CGROUP_SYSTEMD, CONTAINER_T, MANAGE_CGROUP, MOUNT_CONTEXT_TYPE, USE_ALL_CAPABILITIES,
    USE_CAPABILITIES,
};
use crate::kernel::selinux::Label;
use crate::oci::config::Config;
use crate::sys::{SysError, mount, selinux};

/// Gathers the facts about SELinux. `labeling` finds out how a label can be applied, and `open` opens a directory
/// as the container sees it.
pub(super) fn selinux(
    config: &Config,
    labeling: impl FnOnce(&str) -> Labeling,
    open: impl Fn(&str) -> Result<OwnedFd, SysError>,
) -> Selinux {
    let is_there = |label: &&str| !label.is_empty();
    let mount = config.linux.mount_label.as_deref().filter(is_there);
    if !selinux::is_enabled() {
        return Selinux::Off { has_label: mount.is_some() };
    }
    if !cfg!(feature = "selinux") {
        return Selinux::NotBuilt;
    }
    let process = config.process.selinux_label.as_deref().filter(is_there).map(Label::parse);
    let mount = mount.map(|text| (Label::parse(text), labeling(text)));
    let label = mount.as_ref().map(|(label, _)| label);
    let files = process.as_ref().zip(label).and_then(|(process, label)| files(process, label));
    let cgroup = cgroup(open).and_then(selinux::label_of).map(|at| CgroupLabel {
        manageable: process.as_ref().and_then(|process| may_manage(process, &at)),
        manageable_if_labeled: label.and_then(|label| {
            Some(files? == Files::Writable && selinux::denied(label, &at, "filesystem", &["associate"])?.is_empty())
        }),
        boolean: if_off(MANAGE_CGROUP),
        label: at,
    });
    let [outside, inside] = USE_CAPABILITIES;
    let (class, boolean) = if user_namespaces(config).any() { inside } else { outside };
    let is_container_t = process.as_ref().is_some_and(|process| process.kind == CONTAINER_T);
    Selinux::On(Box::new(Confinement {
        enforcing: selinux::is_enforcing(),
        files,
        denied_capabilities: process
            .as_ref()
            .map(|process| denied_capabilities(config, process, class))
            .unwrap_or_default(),
        capability_boolean: is_container_t.then_some(boolean).and_then(if_off).or_else(|| if_off(USE_ALL_CAPABILITIES)),
        process,
        mount,
        cgroup,
    }))
}

/// Opens the hierarchy that systemd uses, which is v1's own if it exists.
fn cgroup(open: impl Fn(&str) -> Result<OwnedFd, SysError>) -> Option<OwnedFd> {
    [CGROUP_SYSTEMD, CGROUP].into_iter().find_map(|at| open(at).ok())
}

fn if_off(boolean: &'static str) -> Option<&'static str> {
    Some(boolean).filter(|name| selinux::boolean(name) == Some(false))
}

/// Whether a process may do what systemd does in its cgroup, and its services do in their directories. `create`
/// isn't checked: the policy checks it against the new file's label, whose user is the process's.
fn may_manage(process: &Label, label: &Label) -> Option<bool> {
    let directory = selinux::denied(process, label, "dir", &["add_name", "remove_name", "write"])?;
    let file = selinux::denied(process, label, "file", &["open", "write"])?;
    Some(directory.is_empty() && file.is_empty())
}

/// Determines which part of a label keeps the container from its files.
fn files(process: &Label, label: &Label) -> Option<Files> {
    if may_manage(process, label)? {
        return Some(Files::Writable);
    }
    let is_level = may_manage(process, &label.at_level(&process.level)) == Some(true);
    Some(if is_level { Files::OtherLevel } else { Files::OtherType })
}

fn denied_capabilities(config: &Config, process: &Label, class: &str) -> Vec<&'static str> {
    let may_have = |name: &str| config.process.capabilities.may_have(name);
    let granted: Vec<_> =
        CAPABILITIES.into_iter().filter(|(name, _)| may_have(name)).map(|(_, permission)| permission).collect();
    selinux::denied(process, process, class, &granted).unwrap_or_default()
}

/// Returns the reason why labels must not be applied by the option `context=`, which lets no process in the
/// container change a label.
pub(super) fn asked_for(mount_context: Option<&str>) -> Option<String> {
    let kind = mount_context.filter(|kind| *kind != "context")?;
    Some(format!("the annotation {MOUNT_CONTEXT_TYPE} is {kind:?}"))
}

/// Finds out how a label can be applied by trying it on a detached tmpfs, which disappears afterwards.
pub(super) fn labeling(label: &str, mount_context: Option<&str>) -> Labeling {
    let why = match asked_for(mount_context) {
        Some(why) => why,
        None => match mount::new_tmpfs(&[("context", label.to_owned())]) {
            Ok(_) => return Labeling::ByMount,
            Err(error) => format!("the kernel refuses the label as a mount option: {error}"),
        },
    };
    match mount::new_tmpfs(&[]).and_then(|mount| selinux::set_label(mount, label)) {
        Ok(()) => Labeling::ByFile(why),
        Err(error) => Labeling::Refused(format!("{why}; setting it on a file also failed: {error}")),
    }
}
