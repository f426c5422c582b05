// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Why a container can't be prepared at all. This is determined before anything is changed.

use crate::facts::Layout;
use crate::path::{InnerCgroupPath, InnerPath};
use crate::systemd::Version;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The hook lacks the capability to mount.
    #[error(
        "cannot mount in the container: this process has no CAP_SYS_ADMIN in the user namespace of the \
         container's mounts; run the engine as root, or this hook at createContainer"
    )]
    MayNotMount,
    /// The hook can't make the container's root the owner of what it creates.
    #[error(
        "cannot make the container's root ({uid}:{gid} on the host) the owner of new files: this process has no \
         CAP_CHOWN; run the engine, and the service that it is in (CapabilityBoundingSet=), with this capability"
    )]
    MayNotChown {
        /// The user ID on the host.
        uid: u32,
        gid: u32,
    },
    /// The image has something other than a directory where systemd needs one.
    #[error("cannot mount tmpfs on {at}: in the image it is {kind}, but systemd needs a directory; fix the image")]
    Occupied { at: InnerPath, kind: String },
    /// The size that the author chose exceeds the container's memory.
    #[error(
        "the annotation {key} asks for {asked_bytes} bytes, but the container has only {memory_bytes} bytes of \
         memory; set a smaller size, or a percentage"
    )]
    TooLarge { key: String, asked_bytes: u64, memory_bytes: u64 },
    /// No cgroup hierarchy is mounted, and systemd can't mount one.
    #[error(
        "no cgroup hierarchy is mounted below /sys/fs/cgroup, and systemd may not mount one without \
         CAP_SYS_ADMIN; add {{\"destination\": \"/sys/fs/cgroup\", \"type\": \"cgroup\", \"source\": \
         \"cgroup\"}} to the mounts in config.json"
    )]
    NoCgroup,
    /// The image's systemd can't use the layout that the annotation asks for.
    #[error(
        "the annotation {key} asks for the cgroup layout {layout}, which {version} in the image can't use; remove the \
         annotation"
    )]
    UnsupportedLayout { key: String, version: Version, layout: Layout },
    /// The container can't get a cgroup in the layout that it needs.
    #[error(
        "cannot set up the cgroup layout {layout}, although {why}: the runtime mounted {mounted}, and the container \
         has no other cgroup of its own; {remedy}, or use a host with the layout {layout}, or another image"
    )]
    LayoutUnavailable { why: String, layout: Layout, mounted: Layout, remedy: &'static str },
    /// The cgroup isn't the container's alone.
    #[error(
        "cannot make {at} writable: {why}, and the container may only write to a cgroup that is its own; let the \
         engine create one for this container alone (linux.cgroupsPath in config.json), or {remedy}"
    )]
    SharedCgroup {
        /// The hierarchy's mount in the container.
        at: InnerPath,
        /// Why the container may not write to the cgroup.
        why: &'static str,
        remedy: &'static str,
    },
    /// The container could become the host's root through the hierarchy that would be made for it.
    #[error(
        "cannot create cgroup v1's name=systemd for a container that may have CAP_SYS_ADMIN ({why}): the container \
         could mount the root of that hierarchy and set the program that the kernel runs as the host's root \
         (release_agent, cgroups(7)); drop that capability, run the container in a user namespace, or add \
         --allow-v1-with-cap-sys-admin to this hook's arguments"
    )]
    V1WithSysAdmin {
        /// The reason why the container needs v1.
        why: String,
    },
    /// The container's processes are in no cgroup that is visible from its cgroup namespace.
    #[error(
        "cannot make the container's cgroup below {at} writable: its processes are in no cgroup that is \
         visible in its cgroup namespace; don't let it join another container's cgroup namespace"
    )]
    NoMembership {
        /// The hierarchy's mount in the container.
        at: InnerPath,
    },
    /// The host's whole hierarchy is mounted, in a container with a private cgroup namespace.
    #[error(
        "cannot make the container's cgroup below {at} writable: the host's cgroups are mounted there, and have no \
         path in the container's own cgroup namespace; remove that mount (-v /sys/fs/cgroup:…), since the engine \
         mounts the container's cgroup itself"
    )]
    HostHierarchy {
        /// The hierarchy's mount in the container.
        at: InnerPath,
    },
    /// Something else is mounted over the container's cgroup.
    #[error(
        "cannot make the container's cgroup {at} writable: a file system of type {fs_type} is mounted over it; \
         remove the mount at {by}"
    )]
    CoveredCgroup {
        at: InnerPath,
        /// The file system type of the mount that covers the cgroup.
        fs_type: String,
        by: InnerPath,
    },
    /// The mount doesn't show the cgroup at its own path, and the hierarchy isn't mounted as a whole anywhere.
    #[error(
        "cannot show the cgroup {path} at its own path below {at}: no mount shows the whole hierarchy; run the \
         container in its own cgroup namespace"
    )]
    HiddenCgroup {
        /// The hierarchy's mount in the container.
        at: InnerPath,
        /// The path of the cgroup in /proc/1/cgroup.
        path: InnerCgroupPath,
    },
}
