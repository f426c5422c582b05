// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes the state. Its ID must be safe as a file name, and its bundle must be an absolute path without `..`.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::oci::state::State;

fuzz_target!(|text: &[u8]| {
    let Ok(state) = State::parse(text) else { return };
    let name = Path::new(&state.id).file_name();
    assert!(name.is_some_and(|name| name == state.id.as_str()), "{:?} is no name", state.id);
    assert!(!state.id.starts_with('.') && !state.id.contains(char::is_control), "{:?}", state.id);
    assert!(state.pid.is_none_or(|pid| pid > 0));
    if let Ok(bundle) = state.bundle() {
        assert!(bundle.is_absolute() && bundle.components().all(|part| part.as_os_str() != ".."), "{bundle:?}");
    }
});
