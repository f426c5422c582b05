// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The policy: from facts to a plan, one file per concern. Pure; sees the host only as facts.

mod cgroup;
pub mod config;
mod filesystems;
mod host_interface;
mod identity;
mod layout;
mod places;
mod privileges;
mod propagation;
mod rights;
mod selinux;
mod units;
mod view;

use crate::facts::{FollowUp, Found, Layout, Surroundings};
use crate::path::{InnerCgroupPath, InnerPath};
use crate::plan::{Action, Need, Plan, RootThen};
use crate::systemd::Version;

/// Why a container can't be prepared at all; found out before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The hook lacks what every step needs.
    #[error(
        "cannot mount in the container: this process has no CAP_SYS_ADMIN in the user namespace of the \
         container's mounts; run the engine as root, or the hook at createContainer"
    )]
    MayNotMount,
    /// What is made can't be given to the container.
    #[error(
        "cannot give what is made to the container's root ({uid}:{gid} on the host): this process has no CAP_CHOWN; \
         let the engine, or the service that it is in (CapabilityBoundingSet=), keep it"
    )]
    MayNotGive {
        /// The user id on the host.
        uid: u32,
        gid: u32,
    },
    /// The image has something else where a directory is needed.
    #[error("cannot mount tmpfs on {at}: in the image it is {kind}, where systemd needs a directory; mend the image")]
    Occupied { at: InnerPath, kind: String },
    /// The size that the author chose is more than there is.
    #[error(
        "the annotation {key} asks for {asked_bytes} bytes, and the container has {memory_bytes} bytes of memory; \
         choose less, or a percentage"
    )]
    TooLarge { key: String, asked_bytes: u64, memory_bytes: u64 },
    /// No cgroup hierarchy that systemd could use.
    #[error(
        "no cgroup hierarchy is mounted below /sys/fs/cgroup, and systemd may not mount one without \
         CAP_SYS_ADMIN; add {{\"destination\": \"/sys/fs/cgroup\", \"type\": \"cgroup\", \"source\": \
         \"cgroup\"}} to the mounts in config.json"
    )]
    NoCgroup,
    /// The annotation and the image's systemd don't fit.
    #[error(
        "the annotation {key} asks for the cgroup layout {layout}, which {version} in the image can't use; leave the \
         annotation out"
    )]
    Unfit { key: String, version: Version, layout: Layout },
    /// The layout can't be made.
    #[error(
        "{why}, but the runtime mounted {mounted}, and the container has no other cgroup of its own: {way_out}; or use \
         a host whose cgroups are {layout}, or another image"
    )]
    OutOfReach { why: String, layout: Layout, mounted: Layout, way_out: &'static str },
    /// The cgroup isn't the container's alone.
    #[error(
        "cannot make {at} writable: {why}, and the container may only write to a cgroup that is its own; let the \
         engine make one for it alone (linux.cgroupsPath in config.json), or {way_out}"
    )]
    SharedCgroup {
        /// The hierarchy's mount in the container.
        at: InnerPath,
        /// Why the container may not write it.
        why: &'static str,
        way_out: &'static str,
    },
    /// The container could become the host's root through the hierarchy that would be made for it.
    #[error(
        "cannot make cgroup v1's name=systemd for a container that may have CAP_SYS_ADMIN ({why}): the container could \
         mount the root of that hierarchy and set the program that the kernel runs as the host's root (release_agent, \
         cgroups(7)); drop that capability, give the container a user namespace, or add --allow-v1-with-cap-sys-admin \
         to this hook's arguments"
    )]
    V1WithSysAdmin {
        /// What asks for v1.
        why: String,
    },
    /// The container's processes are elsewhere.
    #[error(
        "cannot make the container's cgroup below {at} writable: its processes are in none that can be seen from \
         its cgroup namespace; don't let it join another container's"
    )]
    NoMembership {
        /// The hierarchy's mount in the container.
        at: InnerPath,
    },
    /// The host's whole hierarchy is mounted.
    #[error(
        "cannot make the container's cgroup below {at} writable: the host's cgroups are mounted there, and have no \
         path in the container's own cgroup namespace; leave out that mount (-v /sys/fs/cgroup:…), since the engine \
         mounts the right one"
    )]
    HostHierarchy {
        /// The hierarchy's mount in the container.
        at: InnerPath,
    },
    /// Something else is mounted over the cgroup.
    #[error(
        "cannot make the container's cgroup {at} writable: {fs_type} is mounted over it; leave out the mount at {by}"
    )]
    CoveredCgroup {
        at: InnerPath,
        /// What is mounted over it.
        fs_type: String,
        by: InnerPath,
    },
    /// The hierarchy has the wrong root.
    #[error(
        "cannot show the cgroup {path} at its own path below {at}: the hierarchy is mounted nowhere as a whole; \
         give the container a cgroup namespace of its own"
    )]
    HiddenCgroup {
        /// The hierarchy's mount in the container.
        at: InnerPath,
        /// The path in /proc/1/cgroup.
        path: InnerCgroupPath,
    },
}

/// Makes the plan. Its steps are in the order in which they have to be done: what lies below comes
/// after what it lies on. What a later call can do as well is left to that.
pub fn prepare(facts: &Surroundings) -> Result<Plan, Refusal> {
    let plan = match whole(facts) {
        Err(Refusal::MayNotMount) if facts.follow_up != FollowUp::None => return Ok(Plan::default()),
        result => result?,
    };
    Ok(match facts.follow_up {
        FollowUp::None => plan,
        FollowUp::CreateContainer | FollowUp::CreateContainerOnReadOnlyRoot if plan.needs_host_side() => plan,
        FollowUp::CreateContainer => plan.before_create_container(RootThen::Writable),
        FollowUp::CreateContainerOnReadOnlyRoot => plan.before_create_container(RootThen::ReadOnly),
    })
}

fn whole(facts: &Surroundings) -> Result<Plan, Refusal> {
    if !facts.rights.may_mount() {
        return Err(Refusal::MayNotMount);
    }
    let label = facts.selinux.label().map(str::to_owned);
    let mut plan = Plan { owner: facts.owner, label, ..Plan::default() };
    for key in &facts.options.not_allowed {
        plan.remark(format!("the annotation {key} has no effect: this host's --allow-options leaves it out"));
    }
    selinux::plan(facts, &mut plan);
    filesystems::plan(facts, &mut plan)?;
    cgroup::plan(facts, &mut plan)?;
    identity::plan(facts, &mut plan);
    host_interface::plan(facts, &mut plan);
    units::plan(facts, &mut plan);
    privileges::plan(facts, &mut plan);
    propagation::plan(facts, &mut plan);
    rights::plan(facts, &mut plan)?;
    places::plan(&facts.places, &mut plan);
    Ok(plan)
}

/// Where `directory` is, if what is written there leaves no trace outside the container: it is on a
/// tmpfs. Otherwise says so in the plan.
fn traceless(facts: &Surroundings, plan: &mut Plan, directory: &str) -> Option<InnerPath> {
    let at = match facts.image.at(directory) {
        Found::Directory(at) | Found::EmptyDirectory(at) | Found::Nothing(at) | Found::OnServer(at) => at,
        Found::File(at) | Found::Else(at, _) => {
            plan.warn(format!("nothing is written to {directory}: {at} is no directory in the image"));
            return None;
        }
        Found::Unreachable(why) => {
            plan.warn(format!("nothing is written to {directory}: {why}"));
            return None;
        }
    };
    if plan.covers(&at) {
        return Some(at);
    }
    match facts.mounts.holding(&at) {
        Some(mount) if mount.is_own_tmpfs() && mount.at != InnerPath::root() => Some(at),
        Some(mount) if mount.at == InnerPath::root() => {
            plan.leave(at, "it lies in the image's root, where what is written would outlive the container");
            None
        }
        Some(mount) => {
            plan.leave(at, format!("the mount at {} is not proven to be this container's alone", mount.at));
            None
        }
        None => None,
    }
}

/// Plans to make something at `at`, which is `path` to the container, unless it would only replace what is there already.
/// Nothing is there if `at` is on a new tmpfs.
fn unless_there(
    facts: &Surroundings,
    plan: &mut Plan,
    (path, at): (&str, InnerPath),
    why: &str,
    action: impl FnOnce(InnerPath) -> Action,
) {
    match facts.image.at(path) {
        Found::Unreachable(why) if !plan.covers(&at) => plan.leave(at, why),
        found if plan.covers(&at) || matches!(found, Found::Nothing(_)) => {
            plan.step(Need::BestEffort, action(at), why);
        }
        _ => plan.leave(at, "it is there already"),
    }
}

/// Where `path`, which is below `base`, lies if the links of the image lead from `base` to `directory`.
fn moved(path: &str, base: &str, directory: &InnerPath) -> InnerPath {
    let path = InnerPath::new(path);
    path.below(&InnerPath::new(base)).map_or_else(|| path.clone(), |name| directory.join(name))
}
