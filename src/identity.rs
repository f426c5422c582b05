// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Derives the container's machine ID from what the engine says. This module reads nothing itself.

use std::fmt;

use sha2::{Digest, Sha256};

/// A machine ID in the form that machine-id(5) requires: 128 bits as 32 lowercase hexadecimal digits, not all zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineId(String);

impl MachineId {
    /// Parses a machine ID or a UUID, with or without hyphens, in either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        let valid = digits.len() == 32
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            && digits.bytes().any(|digit| digit != b'0');
        valid.then_some(Self(digits))
    }

    /// Returns the first 32 characters of a container's name as its machine ID if they are hexadecimal digits. Podman
    /// and the old hook do the same, so that the ID can be recognized in the output of `ps`.
    #[must_use]
    pub fn in_name(name: &str) -> Option<Self> {
        name.get(..32).filter(|start| !start.contains('-')).and_then(Self::parse)
    }

    /// Returns the machine ID for a container with this name: the one in the name ([`Self::in_name`]), or else a hash
    /// of the name and the host's machine ID, since the same name on two hosts must not result in the same ID.
    #[must_use]
    pub fn of_container(name: &str, host: Option<&Self>) -> Self {
        Self::in_name(name).unwrap_or_else(|| {
            let mut hash = Sha256::new();
            hash.update(b"oci-systemd-hook machine id\0");
            hash.update(host.map_or("", |host| &host.0));
            hash.update(b"\0");
            hash.update(name);
            let mut digits = format!("{:x}", hash.finalize());
            digits.truncate(32);
            // A hash that starts with 128 zero bits will not occur in practice. If it did, 1 would be as good an ID.
            Self::parse(&digits).unwrap_or_else(|| Self(format!("{:032x}", 1)))
        })
    }

    /// Formats the ID as a UUID, with hyphens.
    #[must_use]
    pub fn hyphenated(&self) -> String {
        let mut uuid = String::with_capacity(36);
        for (index, digit) in self.0.chars().enumerate() {
            if matches!(index, 8 | 12 | 16 | 20) {
                uuid.push('-');
            }
            uuid.push(digit);
        }
        uuid
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_ids_and_uuids() {
        let id = "0123456789abcdef0123456789abcdef";
        for text in [id, "01234567-89AB-cdef-0123-456789abcdef", &id.to_uppercase()] {
            assert_eq!(MachineId::parse(text).unwrap().to_string(), id);
        }
        for text in ["", "0123", "uninitialized", &"0".repeat(32), &"g".repeat(32), &"a".repeat(33)] {
            assert_eq!(MachineId::parse(text), None, "{text}");
        }
        assert_eq!(MachineId::parse(id).unwrap().hyphenated(), "01234567-89ab-cdef-0123-456789abcdef");
    }

    #[test]
    fn takes_the_digits_of_an_engines_id() {
        let id = format!("{}{}", "0123456789abcdef".repeat(2), "f".repeat(32));
        assert_eq!(MachineId::of_container(&id, None).to_string(), "0123456789abcdef".repeat(2));
    }

    #[test]
    fn hashes_other_names_with_the_hosts_id() {
        let host = MachineId::parse(&"a".repeat(32)).unwrap();
        let other = MachineId::parse(&"b".repeat(32)).unwrap();
        let named = |id: &str, host| MachineId::of_container(id, host).to_string();
        let zeros = "0".repeat(64);
        for id in ["web", "deadbeef", zeros.as_str(), "übercontainer", "c0ffee-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            let made = named(id, Some(&host));
            assert!(MachineId::parse(&made).is_some(), "{made}");
            assert_eq!(made, named(id, Some(&host)), "the same at every start");
            assert_ne!(made, named(id, Some(&other)), "another on another host");
            assert_ne!(made, named(id, None));
        }
        assert_ne!(named("web1", Some(&host)), named("web2", Some(&host)));
    }
}
