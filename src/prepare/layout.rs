// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chooses the container's cgroup layout: what the runtime mounted, unless the image's systemd can't use that or an
//! annotation asks for another one.

use super::Refusal;
use crate::facts::options::{OptionChoice, V1WithSysAdmin};
use crate::facts::{CgroupCreation, CgroupOwner, Cgroups, Layout, Surroundings};
use crate::interface::{FIRST_ON_V2_ALONE, FIRST_THAT_WARNS_OF_V1, LAST_ON_V1_ALONE};
use crate::kernel::cgroup::Hierarchy;
use crate::plan::{ChosenLayout, Plan};

impl Layout {
    /// The hierarchies in this layout. v1's comes first, since any systemd that finds it requires it.
    pub(super) fn hierarchies(self) -> &'static [Hierarchy] {
        match self {
            Self::Legacy => &[Hierarchy::Systemd],
            Self::Hybrid => &[Hierarchy::Systemd, Hierarchy::Unified],
            Self::Unified => &[Hierarchy::Unified],
        }
    }
}

pub(super) fn choose(facts: &Surroundings, mounted: Layout) -> Result<ChosenLayout, Refusal> {
    let (layout, why) = match (facts.options.layout(), facts.systemd) {
        (Some(OptionChoice { value: layout, key }), version) => {
            if let Some(version) = version {
                let takes_v1 = version < FIRST_ON_V2_ALONE;
                let takes_v2 = version > LAST_ON_V1_ALONE;
                if !(if layout == Layout::Unified { takes_v2 } else { takes_v1 }) {
                    return Err(Refusal::UnsupportedLayout { key: key.to_owned(), version, layout });
                }
            }
            (layout, format!("the annotation {key} asks for it"))
        }
        (None, Some(version)) if version >= FIRST_ON_V2_ALONE => {
            (Layout::Unified, format!("{version} in the image supports only cgroup v2"))
        }
        // In the hybrid layout, such a version finds v1 where it expects it.
        (None, Some(version)) if version <= LAST_ON_V1_ALONE => {
            let layout = if mounted == Layout::Hybrid { mounted } else { Layout::Legacy };
            (layout, format!("{version} in the image supports only cgroup v1"))
        }
        (None, Some(version)) if version >= FIRST_THAT_WARNS_OF_V1 && mounted != Layout::Unified => {
            let is_available = check_available(&facts.cgroups, Layout::Unified).is_ok();
            if is_available && facts.cgroups.is_showable(Hierarchy::Unified) {
                (Layout::Unified, format!("{version} in the image prefers cgroup v2"))
            } else {
                (mounted, format!("{version} in the image prefers cgroup v2, but the container can't get it"))
            }
        }
        (None, Some(version)) => (mounted, format!("the runtime mounted it, and {version} in the image supports it")),
        (None, None) => {
            (mounted, "the runtime mounted it, and the version of systemd in the image is unknown".to_owned())
        }
    };
    if layout != mounted {
        check_available(&facts.cgroups, layout).map_err(|creation| Refusal::LayoutUnavailable {
            why: why.clone(),
            layout,
            mounted,
            remedy: remedy(creation),
        })?;
    }
    Ok(ChosenLayout { layout, why })
}

/// Checks that the container has a cgroup of its own in each hierarchy of a layout, or that the hook can create one.
/// The error is the reason why the hook can't.
fn check_available(cgroups: &Cgroups, layout: Layout) -> Result<(), CgroupCreation> {
    let has_own =
        |hierarchy: &Hierarchy| cgroups.of(*hierarchy).is_some_and(|member| member.owner == CgroupOwner::Container);
    if cgroups.creation == CgroupCreation::Possible || layout.hierarchies().iter().all(has_own) {
        Ok(())
    } else {
        Err(cgroups.creation)
    }
}

/// Decides whether v1's hierarchy may be created for this container.
///
/// If the host doesn't have the hierarchy mounted, it either doesn't exist yet or exists only for another container.
/// The container's cgroup namespace was then created without regard to the hierarchy, and shows it from its root. A
/// process with CAP_SYS_ADMIN in the initial user namespace may mount it there.
pub(super) fn may_make_v1(facts: &Surroundings, plan: &mut Plan, chosen: &ChosenLayout) -> Result<(), Refusal> {
    let is_hosts = facts.cgroups.systemd.as_ref().is_some_and(|member| member.on_host.is_some());
    let may_mount = facts.privileges.capabilities.is_in_any_set("CAP_SYS_ADMIN") && !facts.rights.user_namespaces.any();
    if is_hosts || !may_mount || facts.options.policy.v1_with_sys_admin == V1WithSysAdmin::Allowed {
        return Ok(());
    }
    if !facts.privileges.is_privileged {
        return Err(Refusal::V1WithSysAdmin { why: chosen.why.clone() });
    }
    plan.warn(
        "cgroup v1's name=systemd is created for a privileged container, which can set the program that the kernel \
         runs as the host's root (release_agent, cgroups(7)); such a container can become the host's root in other \
         ways as well",
    );
    Ok(())
}

/// Returns what the user can do if the hook can't create a cgroup for the container.
pub(super) fn remedy(creation: CgroupCreation) -> &'static str {
    match creation {
        CgroupCreation::Possible | CgroupCreation::InContainer => {
            "run this hook at createRuntime as well, when it can still create a cgroup"
        }
        CgroupCreation::NoPoststop => "run this hook at poststop as well, where it removes what it has to create",
        CgroupCreation::Rootless => "run the engine as root, because only the host's root can create one",
    }
}
