// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses `/proc/<pid>/stat`, see proc_pid_stat(5).

/// The fields that identify a process together with its pid, and whether it still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// When it started, in clock ticks since boot (field 22). Together with the pid this is unique until the next boot.
    pub start_ticks: u64,
    /// Whether it has ended and only waits for its parent to collect its status.
    pub has_ended: bool,
}

impl Stat {
    /// Returns `None` if the text is not of the documented form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        /// The index among the fields that follow the program's name, which may contain blanks and parentheses.
        const START: usize = 22 - 3;
        let (_, fields) = text.rsplit_once(") ")?;
        let state = fields.split(' ').next()?;
        let start_ticks = fields.split(' ').nth(START)?.trim().parse().ok()?;
        Some(Self { start_ticks, has_ended: matches!(state, "Z" | "X" | "x") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_start_whatever_the_name() {
        let rest = "1 70 70 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 20 18446744073709551615";
        for (name, state, has_ended) in [("sh", "S", false), ("a) Z (b", "R", false), ("x y", "Z", true)] {
            let stat = Stat::parse(&format!("70 ({name}) {state} {rest}\n"));
            assert_eq!(stat, Some(Stat { start_ticks: 98765, has_ended }), "{name}");
        }
        assert_eq!(Stat::parse("70 (sh) S 1 70"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
