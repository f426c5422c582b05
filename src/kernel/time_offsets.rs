// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses `/proc/<pid>/timens_offsets`, see time_namespaces(7).

/// Whether all clock offsets of a time namespace are zero.
#[must_use]
pub fn are_none(text: &str) -> bool {
    text.lines().all(|line| line.split_ascii_whitespace().skip(1).all(|offset| offset == "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_offsets() {
        assert!(are_none("monotonic           0         0\nboottime            0         0\n"));
        assert!(!are_none("monotonic           0         0\nboottime       86400         0\n"));
        assert!(are_none(""));
    }
}
