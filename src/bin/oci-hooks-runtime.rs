// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The entry point of the runtime wrapper: its arguments and exit status.
//!
//! `main` is what the C library calls, because Rust's own startup code changes what the runtime would inherit: it
//! ignores SIGPIPE, and opens /dev/null if standard input, output or error are closed.

#![no_main]

use std::io::Write;

use oci_systemd_hook::sys::process;
use oci_systemd_hook::wrapper;

// SAFETY: no other linked code defines a symbol named `main`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, values: *const *const libc::c_char) -> libc::c_int {
    // SAFETY: these are the arguments of `main`.
    let arguments = unsafe { process::arguments(count, values) };
    let Some(text) = wrapper::run(arguments.get(1..).unwrap_or_default()) else { return libc::EXIT_FAILURE };
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => libc::EXIT_SUCCESS,
        Err(_) => libc::EXIT_FAILURE,
    }
}
