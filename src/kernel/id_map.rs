// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/proc/<pid>/uid_map`: which ids of a user namespace are which of its parent, see
//! user_namespaces(7).

/// The parent's id of the namespace's id 0, or none where it has no mapping.
#[must_use]
pub fn parent_of_root(text: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (inner, outer) = (fields.next()?, fields.next()?);
        if inner == "0" { outer.parse().ok() } else { None }
    })
}

/// Whether this is the map of the initial user namespace: every id is itself.
#[must_use]
pub fn is_identity(text: &str) -> bool {
    text.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_maps() {
        assert!(is_identity("         0          0 4294967295\n"));
        assert!(!is_identity("0 1000 1\n"));
        assert_eq!(parent_of_root("1 100000 65536\n0 1000 1\n"), Some(1000));
        assert_eq!(parent_of_root(""), None);
    }
}
