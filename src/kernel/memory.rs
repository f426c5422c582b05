// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory limits as the kernel writes them; all results are in bytes.

/// A cgroup's limit: `memory.max` of v2 or `memory.limit_in_bytes` of v1.
///
/// None where there is none: v2 says `max`, v1 the largest number of pages.
#[must_use]
pub fn limit(text: &str) -> Option<u64> {
    const NO_LIMIT_V1_BYTES: u64 = 0x7fff_ffff_ffff_f000;
    // A page can be larger than 4 KiB, which makes the largest number smaller.
    const LARGEST_PAGE_BYTES: u64 = 64 * 1024;
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT_V1_BYTES - LARGEST_PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_none() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("9223372036854710272\n"), None, "64 KiB pages");
        assert_eq!(limit("536870912\n"), Some(536_870_912));
        assert_eq!(limit(""), None);
    }
}
