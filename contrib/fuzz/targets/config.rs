// SPDX-License-Identifier: Apache-2.0 OR MIT
//! config.json: its readers agree on what all of them read, and the last of them reads no less than the first.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::oci::config::{Config, Peek, host_id_of_root, mounts};
use oci_systemd_hook::oci::edit::Document;

const VARIABLES: [&str; 4] = ["container", "container_uuid", "oci-systemd-hook", "PATH"];

fuzz_target!(|text: &[u8]| {
    let (peek, config) = (Peek::parse(text), Config::parse(text));
    if let (Ok(peek), Ok(config)) = (&peek, &config) {
        for name in VARIABLES {
            assert_eq!(peek.env(name), config.env(name), "{name}");
        }
    }
    if let Ok(config) = &config {
        assert!(config.root(Path::new("/bundle")).is_none_or(|root| root != Path::new("/bundle")));
        let _ = (config.has_cgroup_of_its_own(), host_id_of_root(&config.linux.uid_mappings));
        for mount in &config.mounts {
            assert!(!(mount.is_bind() && mount.is_cgroup()), "{mount:?}");
            let _ = (mount.is_read_only(), mount.has_propagation());
        }
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(document) = Document::parse(text) else { return };
    // With two fields of one name, the wrapper takes the last and the hook neither.
    if let (Ok(peek), Ok(same)) = (&peek, Peek::of(&document)) {
        assert_eq!(format!("{peek:?}"), format!("{same:?}"));
    }
    if let (Ok(config), Ok(same)) = (&config, mounts(&document)) {
        assert_eq!(format!("{:?}", config.mounts), format!("{same:?}"));
    }
});
