// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes in config.json to what the hook can't change later: the environment of the container's first process,
//! its cgroup mount, and what the runtime does after its hooks. Only podman's stage precreate and the runtime
//! wrapper may change config.json.

use crate::facts::PrecreateFacts;
use crate::interface::{CGROUP, HOST_FIELDS};
use crate::oci::config::{Config, ConfigMount};
use crate::os_release;
use crate::path::InnerPath;
use crate::plan::{Change, Field};

/// Returns the changes to config.json for a container that is to be prepared.
#[must_use]
pub fn changes(config: &Config, before: &PrecreateFacts) -> Vec<Change> {
    let mut changes = environment(config, before);
    changes.extend(cgroups(config, before));
    changes.extend(propagation(config, before));
    changes
}

/// Sets `linux.rootfsPropagation` if it is unset. With any value, crun leaves /run shared, as the hook set it up.
///
/// The value replaces the runtimes' own `rslave` or `rprivate`. Without one of these, a bind mount is in its source's
/// peer group, and what is mounted on it appears on the host. Therefore each bind mount must have its own propagation
/// option, as it does with podman and Docker. runc also bind-mounts v1's hierarchies, if the container has the host's
/// cgroup namespace, and what is already mounted in the root.
fn propagation(config: &Config, before: &PrecreateFacts) -> Vec<Change> {
    let is_set = config.linux.rootfs_propagation.as_deref().is_some_and(|word| !word.is_empty());
    let is_safe = config.mounts.iter().filter(|mount| mount.is_bind()).all(ConfigMount::has_propagation);
    if is_set || !is_safe || before.has_mounts_in_root {
        return Vec::new();
    }
    let cgroups = config.mounts.iter().enumerate().filter(|(_, mount)| mount.is_cgroup() && !mount.has_propagation());
    let mut changes: Vec<_> = cgroups
        .map(|(number, _)| Change {
            field: Field::AddMountOption { mount: number, value: PRIVATE },
            why: "otherwise, with the root's new propagation, what is mounted on it appears on the host",
        })
        .collect();
    changes.push(Change {
        field: Field::RootfsPropagation("private"),
        why: "otherwise crun makes /run a private mount after its hooks, and services don't get their credentials",
    });
    changes
}

/// The propagation option for a cgroup mount.
const PRIVATE: &str = "rprivate";

/// Adds the variables in the section "Environment Variables" of systemd's Container Interface. A variable that the
/// user has set is kept, even if it is empty.
fn environment(config: &Config, before: &PrecreateFacts) -> Vec<Change> {
    let mut wanted =
        vec![("container", Some(before.engine.container_variable().to_owned()), "systemd detects the container by it")];
    let id = before.machine_id.as_ref().map(ToString::to_string);
    wanted.push(("container_uuid", id, "it is the machine ID"));
    let host = |name| os_release::field(before.host_os_release.as_deref()?, name);
    let of_host = HOST_FIELDS.into_iter();
    wanted.extend(of_host.map(|(variable, name)| {
        (variable, host(name), "systemd passes this information about the host to its services")
    }));
    let missing = wanted.into_iter().filter(|(variable, ..)| config.env(variable).is_none());
    missing.filter_map(|(name, value, why)| Some(Change { field: Field::Variable(name, value?), why })).collect()
}

/// Adds the mount of the container's cgroups, or makes the existing one writable.
fn cgroups(config: &Config, before: &PrecreateFacts) -> Option<Change> {
    let base = InnerPath::new(CGROUP);
    let is_shown = |mount: &ConfigMount| {
        let at = InnerPath::new(&mount.destination);
        // A bind mount above /sys/fs/cgroup may contain cgroup mounts.
        at.is_at_or_below(&base) || mount.is_bind() && base.is_at_or_below(&at)
    };
    // If the cgroup is mounted writable, runc makes the root of a user namespace its owner, but not the owner of its
    // limits. In other cases, this hook later makes a cgroup writable that has no limits itself.
    let is_writable = before.is_unified && config.has_cgroup_of_its_own() && config.has_new_namespace("user");
    if config.mounts.iter().any(is_shown) {
        return is_writable.then(|| made_writable(config, &base)).flatten();
    }
    let access = if is_writable { "rw" } else { "ro" };
    Some(Change {
        field: Field::Mount {
            at: CGROUP,
            kind: "cgroup",
            options: vec!["nosuid", "noexec", "nodev", "relatime", PRIVATE, access],
        },
        why: "systemd exits without a cgroup mount",
    })
}

fn made_writable(config: &Config, base: &InnerPath) -> Option<Change> {
    let (number, mount) =
        config.mounts.iter().enumerate().rev().find(|(_, mount)| InnerPath::new(&mount.destination) == *base)?;
    let option = mount.options.last_read_only()?;
    (mount.is_cgroup() && mount.is_read_only()).then_some(Change {
        field: Field::MountOption { mount: number, option, value: "rw" },
        why: "systemd creates a cgroup for each service below its own; the limits of its own belong to another user",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::facts::Engine;
    use crate::identity::MachineId;
    use crate::oci::document::Document;

    /// Returns the changes, except for an added cgroup mount if the config has no mounts at all.
    fn told(config: &Value, is_unified: bool) -> Vec<String> {
        let mut told = all(config, is_unified);
        told.retain(|line| config.get("mounts").is_some() || !line.starts_with("add a cgroup mount"));
        told
    }

    fn all(config: &Value, is_unified: bool) -> Vec<String> {
        let document = Document::parse(config.to_string().into()).unwrap();
        let before = PrecreateFacts {
            engine: Engine::Podman,
            machine_id: MachineId::parse(&"a".repeat(32)),
            host_os_release: Some("ID=debian\nVERSION_ID=\"13\"\n".to_owned()),
            has_mounts_in_root: config.get("mounted").is_some(),
            is_unified,
        };
        let changes = changes(&Config::of(&document).unwrap(), &before);
        changes.iter().map(|change| change.to_string().split_once(": ").unwrap().0.to_owned()).collect()
    }

    #[test]
    fn the_environment_is_completed() {
        let config = json!({ "linux": { "rootfsPropagation": "slave" } });
        let id = "a".repeat(32);
        let all = [
            "add container=\"podman\" to process.env".to_owned(),
            format!("add container_uuid=\"{id}\" to process.env"),
            "add container_host_id=\"debian\" to process.env".to_owned(),
            "add container_host_version_id=\"13\" to process.env".to_owned(),
        ];
        assert_eq!(told(&config, true), all);
        let env = ["container=oci", "container_uuid=", "container_host_id=x", "container_host_version_id=1"];
        let config = json!({ "process": { "env": env }, "linux": { "rootfsPropagation": "slave" } });
        assert_eq!(told(&config, true), [""; 0]);
    }

    #[test]
    fn the_root_gets_a_propagation_if_it_has_none() {
        for linux in [json!({}), json!({ "rootfsPropagation": "" }), json!(null)] {
            let last = told(&json!({ "linux": linux }), true).pop();
            assert_eq!(last.as_deref(), Some("set linux.rootfsPropagation to \"private\""));
        }
    }

    #[test]
    fn the_root_stays_as_it_is_where_a_mount_would_be_the_hosts() {
        for (kind, options, is_changed) in [
            ("bind", json!(["rbind", "rprivate"]), true),
            ("none", json!(["bind", "slave", "ro"]), true),
            ("none", json!(["rbind"]), false),
            ("none", json!(["bind", "ro"]), false),
            ("bind", json!(["ro"]), false),
            ("tmpfs", json!(["ro"]), true),
        ] {
            let mounts = json!([{ "destination": "/data", "type": kind, "source": "/srv", "options": options }]);
            let told = told(&json!({ "mounts": mounts }), true);
            assert_eq!(told.iter().any(|line| line.contains("rootfsPropagation")), is_changed, "{kind} {options}");
        }
        let told = told(&json!({ "mounted": "in the root" }), true);
        assert!(!told.iter().any(|line| line.contains("rootfsPropagation")), "{told:?}");
    }

    #[test]
    fn a_cgroup_mount_says_its_propagation_with_the_roots() {
        let add = "add \"rprivate\" to mounts[0].options";
        for (options, propagation, is_added) in [
            (json!(["ro"]), "", true),
            (json!(null), "", true),
            (json!(["ro", "rprivate"]), "", false),
            (json!(["rslave"]), "", false),
            (json!(["ro"]), "rslave", false),
        ] {
            let mounts = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "options": options }]);
            let told = told(&json!({ "mounts": mounts, "linux": { "rootfsPropagation": propagation } }), false);
            assert_eq!(told.iter().any(|line| line == add), is_added, "{options} {told:?}");
        }
    }

    #[test]
    fn the_cgroup_is_writable_for_a_user_namespace_on_v2() {
        let config = |mount: Value, namespaces: [&str; 2]| {
            json!({
                "mounts": [{ "destination": "/proc", "type": "proc" }, mount],
                "linux": { "namespaces": namespaces.map(|kind| json!({ "type": kind })), "cgroupsPath": "/libpod-1" },
            })
        };
        let (both, no_cgroup, no_user) = (["cgroup", "user"], ["pid", "user"], ["cgroup", "pid"]);
        let cgroup = |options: Value| json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "options": options });
        let change = "set mounts[1].options[1] to \"rw\"";
        for (mount, namespaces, is_unified, is_changed) in [
            (cgroup(json!(["nosuid", "ro"])), both, true, true),
            (cgroup(json!(["nosuid", "ro"])), both, false, false),
            (cgroup(json!(["nosuid", "ro"])), no_cgroup, true, false),
            (cgroup(json!(["nosuid", "ro"])), no_user, true, false),
            (cgroup(json!(["nosuid", "rw"])), both, true, false),
            (cgroup(json!(["ro", "rw"])), both, true, false),
            (cgroup(json!(["rw", "ro"])), both, true, true),
            (cgroup(json!(null)), both, true, false),
            (cgroup(json!(["bind", "ro"])), both, true, false),
            (json!({ "destination": "/sys", "type": "cgroup", "options": ["x", "ro"] }), both, true, false),
            (json!({ "destination": "/sys/fs/cgroup", "type": "tmpfs", "options": ["x", "ro"] }), both, true, false),
        ] {
            let told = told(&config(mount.clone(), namespaces), is_unified);
            assert_eq!(told.iter().any(|line| line == change), is_changed, "{mount} {namespaces:?} {is_unified}");
        }
        // In these cases the container shares its cgroup with others.
        let shared = config(cgroup(json!(["nosuid", "ro"])), both);
        let joined = json!([{ "type": "user" }, { "type": "cgroup", "path": "/proc/1/ns/cgroup" }]);
        for (pointer, value) in [("/linux/cgroupsPath", json!("")), ("/linux/namespaces", joined)] {
            let mut config = shared.clone();
            *config.pointer_mut(pointer).unwrap() = value;
            assert!(!told(&config, true).iter().any(|line| line == change), "{config}");
        }
    }

    #[test]
    fn a_missing_cgroup_mount_is_added() {
        let add = |access: &str| {
            format!("add a cgroup mount on /sys/fs/cgroup (nosuid,noexec,nodev,relatime,rprivate,{access}) to mounts")
        };
        let mount = |at: &str, kind: &str| json!({ "destination": at, "type": kind, "options": [kind] });
        for (mounts, added) in [
            (json!([mount("/sys", "sysfs"), mount("/sys/fs", "tmpfs")]), true),
            (json!(null), true),
            (json!([mount("/sys/fs/cgroup", "cgroup")]), false),
            (json!([mount("/sys/fs/cgroup/systemd", "cgroup")]), false),
            (json!([mount("/sys", "bind")]), false),
            (json!([mount("/", "rbind")]), false),
            (json!([mount("/srv", "bind")]), true),
        ] {
            let own = json!({ "namespaces": [{ "type": "cgroup" }, { "type": "user" }], "cgroupsPath": "/c" });
            for (linux, is_unified, access) in [(&own, true, "rw"), (&own, false, "ro"), (&json!({}), true, "ro")] {
                let told = all(&json!({ "mounts": mounts, "linux": linux }), is_unified);
                assert_eq!(told.contains(&add(access)), added, "{mounts} {told:?}");
            }
        }
    }
}
