// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes `/proc/<pid>/cgroup` and the other small files of /proc and of cgroups.
#![no_main]

use std::path::Component;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::kernel::cgroup::{CgroupFile, Hierarchy};
use oci_systemd_hook::kernel::{id_map, memory, selinux, status};
use oci_systemd_hook::path::OwnNamespace;

fuzz_target!(|text: &str| {
    let file = CgroupFile::<OwnNamespace>::new(text.to_owned());
    for hierarchy in [Hierarchy::Unified, Hierarchy::Systemd, Hierarchy::Memory] {
        if let Some(path) = file.path(hierarchy) {
            assert!(file.has(hierarchy));
            let mut parts = path.as_path().components();
            assert_eq!(parts.next(), Some(Component::RootDir));
            assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        }
    }
    if let Some(id) = id_map::first_unmapped(text, 65535) {
        assert!(id < 65535 && !id_map::is_identity(text), "{id}");
    }
    let _ = (id_map::outer_id_of_root(text), memory::limit(text), status::parent(text), status::pid_namespaces(text));
    let (process, file) = text.split_once('\n').unwrap_or((text, text));
    let (process, file) = (selinux::Label::parse(process), selinux::Label::parse(file));
    if selinux::dominates(&process.level, &process.level) == Some(false) {
        panic!("{process:?} is not as high as itself");
    }
    let _ = selinux::dominates(&process.level, &file.level);
});
