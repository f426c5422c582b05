// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory sizes as the kernel writes them; all results are in bytes.

/// `MemTotal` of `/proc/meminfo`, see proc_meminfo(5).
#[must_use]
pub fn total(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

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
    fn reads_the_total() {
        assert_eq!(total("MemTotal:       24684092 kB\nMemFree: 1 kB\n"), Some(24_684_092 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn no_limit_is_none() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("9223372036854771712\n"), None);
        assert_eq!(limit("9223372036854710272\n"), None, "64 KiB pages");
        assert_eq!(limit("536870912\n"), Some(536_870_912));
        assert_eq!(limit(""), None);
    }
}
