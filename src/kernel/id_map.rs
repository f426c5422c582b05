// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses `/proc/<pid>/uid_map`, which maps the IDs of a user namespace to those
//! of its parent, see user_namespaces(7).

/// The map of the initial user namespace. Other user namespaces may have the same map.
pub const WHOLE: &str = "0 0 4294967295";

/// Returns the ID in the parent namespace that the namespace's ID 0 is mapped to, or `None` if ID 0 has no mapping.
#[must_use]
pub fn outer_id_of_root(text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (inner, outer) = (fields.next()?, fields.next()?);
        if inner == "0" { outer.parse().ok() } else { None }
    })
}

/// Returns the first ID below `end` that has no mapping, or `None` if all have one.
#[must_use]
pub fn first_unmapped(text: &str, end: u32) -> Option<u32> {
    let mut ranges: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (inner, _, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some((inner.parse().ok()?, count.parse().ok()?))
        })
        .collect();
    ranges.sort_unstable();
    let mapped = ranges
        .iter()
        .fold(0, |next, (first, count)| if *first <= next { next.max(first.saturating_add(*count)) } else { next });
    u32::try_from(mapped).ok().filter(|next| *next < end)
}

/// Whether every ID is mapped to itself, so that this process's root has the same ID as the host's. It need not have
/// the same rights: see [`crate::sys::process::is_in_user_namespace`].
#[must_use]
pub fn is_identity(text: &str) -> bool {
    let mut lines = text.lines();
    let whole = lines.next().is_some_and(|line| line.split_ascii_whitespace().eq(WHOLE.split_ascii_whitespace()));
    whole && lines.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_maps() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("0 1000 1\n"));
        // Each range has its own line. The kernel writes nothing else, but a map must never be the identity and lack
        // an ID at the same time.
        assert!(!is_identity("0 0\n4294967295\n"));
        assert!(!is_identity("0 0 4294967295\n0 0 1\n"));
        assert_eq!(outer_id_of_root("1 100000 65536\n0 1000 1\n"), Some(1000));
        assert_eq!(outer_id_of_root(""), None);
        for (text, unmapped) in [
            ("0 0 4294967295\n", None),
            ("0 1000 1\n1 100000 65536\n", None),
            ("1 100000 65536\n0 1000 1\n", None),
            ("0 100000 65535", None),
            ("0 100000 65534", Some(65534)),
            ("0 1000 1\n", Some(1)),
            ("0 1000 1\n2 100000 65536", Some(1)),
            ("1 100000 65536", Some(0)),
            ("", Some(0)),
            ("0 0 18446744073709551615\n1 0 18446744073709551615", None),
        ] {
            assert_eq!(first_unmapped(text, 65535), unmapped, "{text:?}");
        }
    }
}
