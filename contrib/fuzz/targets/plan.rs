// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes the plan. The input is a complete world, as tests/world prints it, and its plan must obey the same rules as
//! the plans of the test cases.
#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::facts::{Found, Surroundings};
use oci_systemd_hook::interface::PATHS;
use oci_systemd_hook::kernel::cgroup::{CgroupFile, Hierarchy};
use oci_systemd_hook::kernel::mountinfo;
use oci_systemd_hook::oci::config::Config;
use oci_systemd_hook::oci::document::Document;
use oci_systemd_hook::path::{InnerPath, OwnNamespace};

use self::world::{World, rules};

#[path = "../../../tests/world/mod.rs"]
mod world;

fuzz_target!(|text: &str| {
    let world = World::parse(text);
    if !is_tree(world.get("mountinfo").unwrap_or_default()) || !is_one_cgroup(&world) {
        return;
    }
    let Ok(facts) = world.facts() else { return };
    if !is_image(&facts) {
        return;
    }
    if let Some(rule) = rules::broken(&facts) {
        panic!("{rule}");
    }
});

/// Whether a kernel can have this mount table: no two mounts have the same ID, or the same parent and mount point,
/// and each mount is below its parent.
fn is_tree(table: &str) -> bool {
    let (mut mounts, mut places) = (BTreeMap::new(), BTreeMap::new());
    for entry in mountinfo::entries(table.as_bytes()) {
        let (Some(id), Some(parent)) = (entry.id(), entry.parent()) else { return false };
        if mounts.insert(id, (parent, entry.mount_point())).is_some()
            || places.insert((parent, entry.mount_point()), id).is_some()
        {
            return false;
        }
    }
    mounts.iter().all(|(id, (parent, at))| {
        let ancestors: Vec<_> = std::iter::successors(Some(parent), |id| mounts.get(id).map(|(parent, _)| parent))
            .take(mounts.len())
            .collect();
        let above = mounts.get(parent).map_or(PathBuf::from("/"), |(_, at)| at.clone());
        !ancestors.contains(&id) && at.starts_with(above)
    })
}

/// Whether the hook and the container are in the same cgroup. Its path may differ only between cgroup namespaces.
fn is_one_cgroup(world: &World) -> bool {
    let text = |name| world.get(name).unwrap_or_default();
    let Some(inside) = world.get("cgroup-inside") else { return true };
    let is_elsewhere = world.get("stage").is_some()
        && Document::parse(text("config.json").into())
            .is_ok_and(|document| Config::of(&document).is_ok_and(|config| config.has_namespace("cgroup")));
    is_elsewhere
        && [Hierarchy::Unified, Hierarchy::Systemd].into_iter().all(|hierarchy| {
            let path = |text: &str| CgroupFile::<OwnNamespace>::new(text.to_owned()).path(hierarchy);
            match (path(text("cgroup")), path(inside)) {
                (Some(path), Some(inside)) => {
                    let (path, inside) = (path.to_string(), inside.to_string());
                    inside == "/" || path.ends_with(&inside)
                }
                _ => true,
            }
        })
}

/// Whether the findings in the image are consistent: what is found at a place must not depend on
/// the path that leads there.
fn is_image(facts: &Surroundings) -> bool {
    let found: Vec<_> = PATHS.into_iter().map(|path| (InnerPath::new(path), facts.image.at(path))).collect();
    found.iter().all(|(path, what)| {
        let Some(at) = what.place() else { return true };
        let is_empty = matches!(what, Found::Nothing(_) | Found::EmptyDirectory(_));
        let has_mounts = facts.mounts.at(at).is_some() || !facts.mounts.directly_below(at).is_empty();
        !(matches!(what, Found::Nothing(_)) && has_mounts)
            && found.iter().all(|(other_path, other)| match other.place() {
                None => true,
                // Nothing can exist below a place where nothing exists.
                Some(other_at) if other_at.is_below(at) => {
                    matches!(what, Found::Directory(_)) || (is_empty && matches!(other, Found::Nothing(_)))
                }
                Some(other_at) => {
                    // A path that was resolved has no symbolic link in it.
                    (at == path || !other_at.is_at_or_below(path))
                        && (at != other_at || what == other)
                        && (!other_path.is_below(path) || matches!(what, Found::Directory(_)))
                }
            })
    })
}
