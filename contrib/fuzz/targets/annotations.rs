// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes annotations. Each line of the input has a key and, after a space, its value. An option is either set or
//! refused with an error of one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::facts::options::{Key, Options, PREFIX, Size};
use oci_systemd_hook::identity::MachineId;
use oci_systemd_hook::interface::MIB;
use oci_systemd_hook::oci::pod::Pod;
use oci_systemd_hook::os_release;
use oci_systemd_hook::report::chain;

fuzz_target!(|text: &str| {
    let mut options = Options::default();
    for line in text.lines() {
        let (whole, value) = line.split_once(' ').unwrap_or((line, ""));
        match Size::parse(value) {
            Some(Size::Bytes(bytes)) => assert!(bytes >= MIB && value.as_bytes()[0].is_ascii_digit(), "{value:?}"),
            Some(Size::Percent(percent)) => assert!((1..=100).contains(&percent) && value.ends_with('%'), "{value:?}"),
            None => {}
        }
        if let Some(id) = MachineId::parse(value) {
            assert_eq!(MachineId::parse(&id.hyphenated()), Some(id));
        }
        assert!(MachineId::parse(&MachineId::of_container(value, None).to_string()).is_some(), "{value:?}");
        let _ = os_release::field(text, whole);
        let name = whole.split('/').next().unwrap_or_default();
        let Some(key) = Key::parse(name) else { continue };
        assert_eq!(key.name(), name);
        if let Err(error) = options.set(key, format!("{PREFIX}{whole}"), value) {
            let line = chain(&error);
            assert!(line.contains(PREFIX) && !line.contains(char::is_control), "{line:?}");
        }
    }
    let annotation = |key: &str| text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == key);
    let pod = Pod::of(|key| annotation(key).map(|(_, value)| value));
    assert!(pod.name().is_none_or(|name| text.contains(name)), "{pod:?}");
});
