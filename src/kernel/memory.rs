// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses memory limits and usage as the kernel writes them. All results are in bytes.

/// Parses a cgroup's limit: `memory.max` of v2 or `memory.limit_in_bytes` of v1.
///
/// Returns `None` if there is no limit. In that case v2 says `max` and v1 the size of the largest number of pages.
#[must_use]
pub fn limit(text: &str) -> Option<u64> {
    const NO_LIMIT_V1_BYTES: u64 = 0x7fff_ffff_ffff_f000;
    // With pages larger than 4 KiB, v1 reports a smaller number.
    const LARGEST_PAGE_BYTES: u64 = 64 * 1024;
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT_V1_BYTES - LARGEST_PAGE_BYTES)
}

/// Returns how much of the memory that is charged to a cgroup and its descendants is page cache, which
/// the kernel reclaims before it kills a process. `text` is `memory.stat`; in v1 the values that
/// include descendants begin with `total_`.
#[must_use]
pub fn reclaimable(text: &str) -> u64 {
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    let of = |total: &str, name: &str| value(total).or_else(|| value(name)).unwrap_or_default();
    of("total_active_file", "active_file").saturating_add(of("total_inactive_file", "inactive_file"))
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

    #[test]
    fn pages_of_files_are_reclaimable() {
        let v1 = "cache 9\ninactive_file 1\nactive_file 2\nshmem 50\ntotal_inactive_file 10\ntotal_active_file 20\n";
        assert_eq!(reclaimable(v1), 30);
        assert_eq!(reclaimable("anon 7\nfile 60\nshmem 57\ninactive_anon 57\ninactive_file 1\nactive_file 2\n"), 3);
        assert_eq!(reclaimable("active_file much\n"), 0);
        assert_eq!(reclaimable(""), 0);
    }
}
