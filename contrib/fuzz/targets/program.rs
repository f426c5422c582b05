// SPDX-License-Identifier: Apache-2.0 OR MIT
//! systemd's version: a number that is in the program, after one of three words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::systemd::Version;

fuzz_target!(|program: &[u8]| {
    let Some(Version(number)) = Version::in_program(program) else { return };
    assert!((1..=99_999).contains(&number), "{number}");
    let text = String::from_utf8_lossy(program);
    let words = ["libsystemd-shared-", "libsystemd-core-", "systemd "];
    let is_there = words.iter().any(|word| {
        text.split(word).skip(1).any(|rest| {
            let digits: String = rest.chars().take(5).take_while(char::is_ascii_digit).collect();
            digits.parse() == Ok(number)
        })
    });
    assert!(is_there, "{number}");
});
