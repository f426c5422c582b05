// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes mountinfo. Each line must be a mount or be skipped, an escaped path must be parsed to the same path again,
//! and each path must be held by a mount at or above it.
#![no_main]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::facts::{Mounts, mounts};
use oci_systemd_hook::interface::PATHS;
use oci_systemd_hook::kernel::cgroup::Hierarchy;
use oci_systemd_hook::kernel::mountinfo;
use oci_systemd_hook::path::InnerPath;

const ROOT: &str = "/bundle/rootfs";

fuzz_target!(|table: &[u8]| {
    let lines = table.split(|byte| *byte == b'\n').count();
    assert!(mountinfo::entries(table).count() <= lines);
    for entry in mountinfo::entries(table) {
        let at = entry.mount_point();
        // Whatever the path is, a line with its escaped form must be a single mount.
        let escaped = mountinfo::escape(at.as_os_str().as_bytes());
        let line = [b"1 0 0:1 / ", escaped.as_slice(), b" rw - tmpfs tmpfs rw"].concat();
        let again: Vec<_> = mountinfo::entries(&line).collect();
        assert_eq!(again.len(), 1, "{at:?}");
        assert_eq!(again[0].mount_point(), at);
        assert!(again[0].may_be_below(&escaped));
        let _ = (entry.root(), entry.device(), entry.super_options(), entry.is_shared());
    }
    let root = Path::new(ROOT);
    let found = Mounts::read(table, root, 10);
    for path in PATHS {
        let path = InnerPath::new(path);
        if let Some(mount) = found.holding(&path) {
            assert!(path.is_at_or_below(&mount.at), "{path} is held by {mount:?}");
            assert!(found.directly_below(&path).iter().all(|mount| mount.at.is_below(&path)));
        }
    }
    for hierarchy in [Hierarchy::Unified, Hierarchy::Systemd, Hierarchy::Memory] {
        let _ = found.of_hierarchy(hierarchy).count();
        assert!(mounts::whole_hierarchy(table, hierarchy, root).is_none_or(|at| !at.starts_with(root)));
    }
    let _ = mounts::has_mounts_below(table, root);
});
