// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The version of an image's systemd, told from the bytes of its program; nothing of the image is run.

use memchr::memmem;

/// A release, such as 257.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// Finds it in systemd's program: in the name of the private library that it is linked to,
    /// `libsystemd-shared-257.so`, since release 231; before, in what it logs at its start.
    #[must_use]
    pub fn in_program(program: &[u8]) -> Option<Self> {
        let libraries = [&b"libsystemd-shared-"[..], b"libsystemd-core-"];
        let linked = libraries.into_iter().find_map(|name| after(program, name, |_| true));
        linked.or_else(|| {
            const LOGGED: &[u8] = b" running in %ssystem mode";
            after(program, b"systemd ", |rest| {
                let line = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                memmem::find(line.get(..64).unwrap_or(line), LOGGED).is_some()
            })
        })
    }
}

/// The number that follows the first `word` after which comes what is `wanted`, too.
fn after(program: &[u8], word: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<Version> {
    memmem::find_iter(program, word).filter_map(|at| program.get(at + word.len()..)).find_map(|rest| {
        let digits: Vec<u8> = rest.iter().copied().take(5).take_while(u8::is_ascii_digit).collect();
        let number = std::str::from_utf8(&digits).ok()?.parse().ok().filter(|number| *number > 0)?;
        Some(Version(number)).filter(|_| wanted(rest))
    })
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "systemd {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_version() {
        let found = |program: &[u8]| Version::in_program(program).map(|version| version.0);
        // As Debian, Fedora and CentOS 7 have it.
        assert_eq!(found(b"\0libc.so.6\0libsystemd-core-252.so\0libsystemd-shared-252.so\0"), Some(252));
        assert_eq!(found(b"\0libsystemd-shared-254.5-2.fc39.so\0"), Some(254));
        assert_eq!(found(b"See systemd 1\0systemd 219 running in %ssystem mode. (+PAM)\0"), Some(219));
        assert_eq!(found(b"systemd 246.6-1-arch running in %ssystem mode. (%s)"), Some(246));
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
}
