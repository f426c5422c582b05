// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Predicts facts from a bundle alone, for `plan`, when the container doesn't exist yet.

use std::path::Path;

use super::cgroups::{self, NOBODY};
use super::interpret::{self, interpret};
use super::readings::{CgroupFiles, CgroupLook, CgroupPlace, Readings};
use super::selinux::{self, selinux};
use super::{AnnotationFacts, GatherError, annotation_facts, live, open_root};
use crate::bundle::Bundle;
use crate::facts::mounts::PredictedMount;
use crate::facts::options::Policy;
use crate::facts::selinux::Labeling;
use crate::facts::{
    CgroupCreation, CgroupNamespace, CgroupOwner, CgroupRoot, FollowUp, Layout, Mounts, Occupants, Places, Rights,
    Stage, Surroundings, UserNamespaces,
};
use crate::interface;
use crate::kernel::cgroup::{CgroupFile, Hierarchy};
use crate::kernel::id_map;
use crate::oci::config::{self, Config, IdMapping};
use crate::oci::state::State;
use crate::path::{CgroupPath, InnerPath, TreePath};
use crate::sys::fs;

/// Predicts the surroundings of a container that a runtime would create from this bundle on this host, at
/// createContainer and with the rights that a runtime gives a hook there.
pub fn surroundings(bundle: &Bundle<'_>, policy: &Policy) -> Result<Surroundings, GatherError> {
    let (state, config) = (bundle.state, bundle.config_to_prepare()?);
    let AnnotationFacts { options, stop_signal, engine, mount_context } = annotation_facts(bundle, policy)?;
    let root = open_root(bundle)?;
    let layout = layout_of_host();
    let namespace = namespace_of(config);
    let systemd = live::systemd(&root)?;
    let limit = config.linux.resources.memory.limit.and_then(|bytes| u64::try_from(bytes).ok());
    let readings = Readings {
        stage: Stage::CreateContainer,
        host: live::host(state, config),
        mounts: mounts(&config.mounts, layout, namespace, &own_cgroup(state, namespace)),
        places: Places::default(),
        namespace,
        membership: CgroupFiles { container: nowhere(), inside: nowhere(), runtime: None },
        cgroups: vec![cgroup(state, config, layout, namespace)],
        memory_limits: limit.into_iter().collect(),
        follow_up: FollowUp::None,
        options,
        creation: CgroupCreation::Possible,
        engine,
        rights: Rights::of_root(UserNamespaces { hook: false, container: config.has_namespace("user") }),
        id_maps: [id_map(&config.linux.uid_mappings), id_map(&config.linux.gid_mappings)],
        stop_signal,
        units: live::units(&root, &interpret::asked_units(config, systemd)),
        image: live::image(&root)?,
        systemd,
        // A runtime can set labels, but the user who asks for a plan may not have the right to try that.
        selinux: selinux(
            config,
            |_| selinux::asked_for(mount_context.as_deref()).map_or(Labeling::ByMount, Labeling::ByFile),
            |at| fs::open_host_directory(Path::new(at)),
        ),
    };
    Ok(interpret(state, config, readings))
}

/// Formats an ID map as the kernel will show it. Without a user namespace each ID is mapped to itself.
fn id_map(mappings: &[IdMapping]) -> String {
    if mappings.is_empty() {
        return id_map::WHOLE.to_owned();
    }
    let lines = mappings.iter().map(|map| format!("{} {} {}", map.container, map.host, map.size));
    lines.collect::<Vec<_>>().join("\n")
}

/// Determines the layout that runtimes mount on this host. On a hybrid host they mount v1's hierarchies.
pub(super) fn layout_of_host() -> Layout {
    let is_unified = Path::new(interface::CGROUP).join("cgroup.controllers").exists();
    if is_unified { Layout::Unified } else { Layout::Legacy }
}

/// Predicts the path of the container's cgroup. The runtime chooses the path, so the container's ID is shown in its
/// place. In the namespace in which a hook runs at createContainer, the path is the same as in the container's.
fn own_cgroup<Namespace>(state: &State, namespace: CgroupNamespace) -> TreePath<Namespace> {
    match namespace {
        CgroupNamespace::Private => TreePath::root(),
        CgroupNamespace::Host => TreePath::new(&state.id),
    }
}

/// Returns the `cgroup` file of a process that doesn't exist yet.
fn nowhere<Namespace>() -> CgroupFile<Namespace> {
    CgroupFile::new(String::new())
}

/// Determines the cgroup namespace of a container. One that config.json names by a path can be this host's.
fn namespace_of(config: &Config) -> CgroupNamespace {
    match config.joined_namespace("cgroup") {
        Some(joined) if fs::is_same_file(joined, Path::new("/proc/self/ns/cgroup")) => CgroupNamespace::Host,
        Some(_) => CgroupNamespace::Private,
        None => cgroups::namespace(config, &nowhere()),
    }
}

/// Predicts the cgroup that a runtime will create in the hierarchy that systemd uses.
fn cgroup(state: &State, config: &Config, layout: Layout, namespace: CgroupNamespace) -> (CgroupPlace, CgroupLook) {
    let (hierarchy, below) = match layout {
        Layout::Unified => (Hierarchy::Unified, ""),
        Layout::Legacy | Layout::Hybrid => (Hierarchy::Systemd, "systemd"),
    };
    let place = CgroupPlace {
        hierarchy,
        path: own_cgroup(state, namespace),
        path_inside: Some(own_cgroup(state, namespace)),
        owner: CgroupOwner::Container,
        on_host: Some(InnerPath::new(interface::CGROUP).join(below).as_path().to_owned()),
        seen_at: None,
        asks_for_room: false,
    };
    // The runtime creates the cgroup as root, which appears as nobody in a user namespace.
    let owner_of_limits = config.has_namespace("user").then_some(NOBODY);
    (place, CgroupLook { inode: None, occupants: Occupants::Container, room: None, owner_of_limits })
}

/// Returns the hierarchy and the path of the host's cgroup that a bind mount shows. podman bind-mounts the host's
/// mount of v1's hierarchy for systemd if the container has the host's cgroup namespace.
fn bound_cgroup(mount: &config::ConfigMount, layout: Layout) -> Option<(Hierarchy, &Path)> {
    let (hierarchy, top) = match layout {
        Layout::Unified => (Hierarchy::Unified, interface::CGROUP),
        Layout::Legacy | Layout::Hybrid => (Hierarchy::Systemd, interface::CGROUP_SYSTEMD),
    };
    let source = mount.source.as_deref().filter(|_| mount.is_bind())?;
    Some((hierarchy, source.strip_prefix(top).ok()?))
}

fn mounts(list: &[config::ConfigMount], layout: Layout, namespace: CgroupNamespace, own: &CgroupPath) -> Mounts {
    let cgroup = InnerPath::new(interface::CGROUP);
    // A bind mount from the host shows the host's own cgroups.
    let of_host = |below: &Path| match namespace {
        CgroupNamespace::Private => CgroupRoot::Outside,
        CgroupNamespace::Host => CgroupRoot::At(CgroupPath::new(below)),
    };
    let mut mounts = Vec::new();
    for mount in list {
        let at = InnerPath::new(&mount.destination);
        let read_only = mount.is_read_only();
        let fs_type = mount.kind.as_deref().filter(|_| !mount.is_bind()).unwrap_or("bind");
        let (whole, legacy) = match fs_type {
            "cgroup" | "cgroup2" => (CgroupRoot::At(CgroupPath::root()), CgroupRoot::At(own.clone())),
            "bind" if at == cgroup => (of_host(Path::new("")), of_host(Path::new(""))),
            _ => {
                mounts.push(match bound_cgroup(mount, layout) {
                    Some((hierarchy, below)) => PredictedMount::cgroup(at, hierarchy, of_host(below), read_only),
                    None => PredictedMount::ordinary(at, fs_type, read_only),
                });
                continue;
            }
        };
        match layout {
            Layout::Legacy if fs_type != "cgroup2" => {
                let systemd = at.join("systemd");
                mounts.push(PredictedMount::ordinary(at, "tmpfs", read_only));
                mounts.push(PredictedMount::cgroup(systemd, Hierarchy::Systemd, legacy, read_only));
            }
            Layout::Legacy | Layout::Hybrid | Layout::Unified => {
                mounts.push(PredictedMount::cgroup(at, Hierarchy::Unified, whole, read_only));
            }
        }
    }
    Mounts::predicted(mounts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::document::Document;

    /// Returns the cgroup that the container sees at a path.
    fn seen(bind: &str, layout: Layout, namespace: CgroupNamespace, at: &str) -> Option<(Hierarchy, CgroupRoot)> {
        let text = format!(r#"{{"mounts":[{{"destination":"/sys/fs/cgroup","type":"cgroup"}},{bind}]}}"#);
        let list = config::mounts(&Document::parse(text.into()).unwrap()).unwrap();
        mounts(&list, layout, namespace, &CgroupPath::new("/c")).at(&InnerPath::new(at)).unwrap().cgroup.clone()
    }

    #[test]
    fn a_bind_of_the_hosts_hierarchy_shows_cgroups() {
        const SYSTEMD: &str = "/sys/fs/cgroup/systemd";
        let bind = |source: &str, at: &str| {
            format!(r#"{{"destination":"{at}","type":"bind","source":"{source}","options":["bind"]}}"#)
        };
        let at = |path: &str| CgroupRoot::At(CgroupPath::new(path));
        let (legacy, unified) = (Layout::Legacy, Layout::Unified);
        let (host, private) = (CgroupNamespace::Host, CgroupNamespace::Private);
        for (source, layout, namespace, target, expected) in [
            (SYSTEMD, legacy, host, SYSTEMD, Some((Hierarchy::Systemd, at("/")))),
            ("/sys/fs/cgroup/systemd/a/b", legacy, host, SYSTEMD, Some((Hierarchy::Systemd, at("/a/b")))),
            (SYSTEMD, legacy, private, SYSTEMD, Some((Hierarchy::Systemd, CgroupRoot::Outside))),
            ("/sys/fs/cgroup/systemdx", legacy, host, SYSTEMD, None),
            ("/srv", legacy, host, SYSTEMD, None),
            ("/sys/fs/cgroup/a", unified, host, "/mnt", Some((Hierarchy::Unified, at("/a")))),
            ("/srv", unified, host, "/mnt", None),
        ] {
            assert_eq!(seen(&bind(source, target), layout, namespace, target), expected, "{source} at {target}");
        }
    }
}
