// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes a descriptor of hooks.d and matches it against containers. Whatever its patterns are,
//! this must not take long.
#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::hooksd::{self, MatchedContainer};

/// A directory for a single file, below $TMPDIR, which must be private to this program.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join("hooks.d");
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
});

fuzz_target!(|text: &[u8]| {
    std::fs::write(DIRECTORY.join("10.json"), text).expect("a file");
    let hooks = hooksd::read(&[DIRECTORY.clone()], &["precreate"]);
    assert_eq!(hooks.descriptors.len() + hooks.problems.len(), 1, "a file is a descriptor or a problem");
    let annotations = [("oci-systemd-hook", "enabled"), ("a", "b"), ("k\n", "ſK")];
    let annotations = BTreeMap::from(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let args = ["/sbin/init".to_owned()];
    for (args, has_bind_mounts) in [(Some(&args[..]), true), (Some(&[]), false), (None, false)] {
        let subject = MatchedContainer { args, annotations: &annotations, has_bind_mounts };
        if let Ok(matching) = hooks.matching(&subject) {
            assert!(matching.iter().all(|descriptor| !descriptor.hook.path.as_os_str().is_empty()));
        }
    }
    for problem in &hooks.problems {
        let line = oci_systemd_hook::report::chain(problem);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
});
