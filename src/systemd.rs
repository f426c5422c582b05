// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the version of an image's systemd in the bytes of its executable. Nothing of the image is run.

use std::io::{ErrorKind, Read};

use memchr::memmem;

/// A release of systemd, such as 257.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

/// How much of the executable is searched at a time.
const WINDOW_BYTES: usize = 64 * 1024;
/// The maximum length of the bytes that identify a version, from the start of the prefix to the end of
/// the number or the line.
const LONGEST_BYTES: usize = 128;

impl Version {
    /// Finds the version in systemd's executable. Since release 231 it is in the name of the private library
    /// that systemd is linked to, `libsystemd-shared-257.so`. In earlier releases it is in the message that
    /// systemd logs when it starts.
    pub fn in_program(mut program: impl Read) -> std::io::Result<Option<Self>> {
        let mut window = vec![0; WINDOW_BYTES];
        let (mut length, mut logged) = (0, None);
        loop {
            let read = match program.read(window.get_mut(length..).unwrap_or_default()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            };
            length += read;
            let seen = window.get(..length).unwrap_or_default();
            // A match can be cut off at the end of the window, unless the executable ends there.
            let whole = if read == 0 { length } else { length.saturating_sub(LONGEST_BYTES) };
            if let Some(linked) = linked(seen, whole) {
                return Ok(Some(linked));
            }
            logged = logged.or_else(|| in_log_line(seen, whole));
            if read == 0 {
                return Ok(logged);
            }
            window.copy_within(whole..length, 0);
            length -= whole;
        }
    }
}

/// Finds the version in the first library name that starts before `end`.
fn linked(program: &[u8], end: usize) -> Option<Version> {
    let libraries = [&b"libsystemd-shared-"[..], b"libsystemd-core-"];
    let found = libraries.into_iter().filter_map(|name| after(program, end, name, |_| true));
    found.min_by_key(|(at, _)| *at).map(|(_, version)| version)
}

/// Finds the version in the first log message that starts before `end`.
fn in_log_line(program: &[u8], end: usize) -> Option<Version> {
    const LOGGED: &[u8] = b" running in %ssystem mode";
    let found = after(program, end, b"systemd ", |rest| {
        let line = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        memmem::find(line.get(..64).unwrap_or(line), LOGGED).is_some()
    });
    found.map(|(_, version)| version)
}

/// Finds the first `word` that starts before `end` and is followed by a number and a tail that satisfies `wanted`.
/// The tail includes the number. Returns the offset of `word` and the number.
fn after(program: &[u8], end: usize, word: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<(usize, Version)> {
    memmem::find_iter(program, word).take_while(|at| *at < end).find_map(|at| {
        let rest = program.get(at + word.len()..)?;
        let digits: Vec<u8> = rest.iter().copied().take(5).take_while(u8::is_ascii_digit).collect();
        let number = std::str::from_utf8(&digits).ok()?.parse().ok().filter(|number| *number > 0)?;
        Some((at, Version(number))).filter(|_| wanted(rest))
    })
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "systemd {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn finds_the_version() {
        let found = |program: &[u8]| Version::in_program(program).unwrap().map(|version| version.0);
        // Debian, Fedora and CentOS 7 contain these.
        assert_eq!(found(b"\0libc.so.6\0libsystemd-core-252.so\0libsystemd-shared-252.so\0"), Some(252));
        assert_eq!(found(b"\0libsystemd-shared-254.5-2.fc39.so\0"), Some(254));
        assert_eq!(found(b"See systemd 1\0systemd 219 running in %ssystem mode. (+PAM)\0"), Some(219));
        assert_eq!(found(b"systemd 246.6-1-arch running in %ssystem mode. (%s)"), Some(246));
        assert_eq!(found(b"libsystemd-core-2 libsystemd-shared-1"), Some(2));
        for none in [
            &b""[..],
            b"\x7fELF",
            b"libsystemd-shared-",
            b"libsystemd-shared-.so",
            b"libsystemd-shared-0.so",
            b"systemd 219",
            b"systemd running in %ssystem mode",
        ] {
            assert_eq!(found(none), None, "{}", String::from_utf8_lossy(none));
        }
    }
    #[test]
    fn finds_it_wherever_it_is() {
        let log_line = b"systemd 219 running in %ssystem mode. (+PAM)".as_slice();
        for text in [b"libsystemd-shared-257.so".as_slice(), log_line] {
            for before in (0..300).chain(WINDOW_BYTES - 300..WINDOW_BYTES + 300).chain([3 * WINDOW_BYTES - 7]) {
                for after in [0, 1, 200] {
                    let program = [&vec![b'x'; before], text, &vec![0; after]].concat();
                    let version = Version::in_program(program.as_slice()).unwrap().unwrap();
                    assert!([219, 257].contains(&version.0), "{version} at {before}");
                }
            }
        }
        // The library name takes precedence even if the log message comes first.
        let both = [log_line, &vec![0; 2 * WINDOW_BYTES], b"libsystemd-shared-257.so"].concat();
        assert_eq!(Version::in_program(both.as_slice()).unwrap(), Some(Version(257)));
    }
}
