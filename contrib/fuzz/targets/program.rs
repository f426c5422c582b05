// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes the search for systemd's version. The version must be a number in the program that follows one of three
//! prefixes, no matter how the program is read.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::systemd::Version;

/// A reader that returns one byte at a time.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(&mut buffer[..1])
    }
}

fuzz_target!(|program: &[u8]| {
    let found = Version::in_program(program).unwrap();
    assert_eq!(found, Version::in_program(Slow(program)).unwrap());
    let Some(Version(number)) = found else { return };
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
