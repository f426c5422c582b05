// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes config.json. A document with duplicate fields must mean the same as one without them, and what is read
//! from it must be consistent.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::oci::config::{Config, annotations, host_id_of_root};
use oci_systemd_hook::oci::document::Document;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let Ok(document) = Document::parse(text.to_owned()) else { return };
    let Ok(config) = Config::of(&document) else { return };
    assert!(config.root(Path::new("/bundle")).is_none_or(|root| root != Path::new("/bundle")));
    let _ = (config.has_cgroup_of_its_own(), host_id_of_root(&config.linux.uid_mappings));
    for mount in &config.mounts {
        assert!(!(mount.is_bind() && mount.is_cgroup()), "{mount:?}");
        let _ = (mount.is_read_only(), mount.has_propagation());
    }
    // A `Value` keeps the last field of each name, but treats `null` like any other value.
    if document.text().contains("null") {
        return;
    }
    let Ok(value) = serde_json::from_str::<Value>(document.text()) else { return };
    let once = Document::parse(value.to_string().into()).expect("what serde_json writes");
    let same = Config::of(&once).unwrap_or_else(|error| panic!("{value}: {error}"));
    assert_eq!(format!("{config:?}"), format!("{same:?}"), "{value}");
    assert_eq!(format!("{:?}", annotations(&document)), format!("{:?}", annotations(&once)), "{value}");
});
