// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses `/proc/<pid>/stat`, see proc_pid_stat(5).

/// The fields that, together with the PID, identify a process, and whether it still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// When the process started, in clock ticks since boot (field 22). Together with the PID this is
    /// unique until the next boot.
    pub start_ticks: u64,
    /// Whether the process has ended, with all its threads, and only waits for its parent to collect its status.
    pub has_ended: bool,
    /// Whether the process is ending or has ended (`PF_EXITING` in field 9). From then on, v1 hierarchies list
    /// it in their root cgroup.
    pub is_exiting: bool,
}

impl Stat {
    /// Parses the content of the file. Returns `None` if it doesn't have the documented form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        /// The index of field 22 among the fields after the program's name. The name
        /// may contain blanks and parentheses.
        const START: usize = 22 - 3;
        const FLAGS: usize = 9 - 3;
        const THREADS: usize = 20 - 3;
        /// Defined in the kernel's linux/sched.h.
        const PF_EXITING: u32 = 0x4;
        let (_, fields) = text.rsplit_once(") ")?;
        let state = fields.split(' ').next()?;
        let start_ticks = fields.split(' ').nth(START)?.trim().parse().ok()?;
        let flags: u32 = fields.split(' ').nth(FLAGS)?.parse().ok()?;
        let is_exiting = flags & PF_EXITING != 0;
        // A process whose first thread has ended is shown as a zombie while its other threads still run.
        let threads: u64 = fields.split(' ').nth(THREADS)?.parse().ok()?;
        Some(Self { start_ticks, has_ended: matches!(state, "Z" | "X" | "x") && threads <= 1, is_exiting })
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
            assert_eq!(stat, Some(Stat { start_ticks: 98765, has_ended, is_exiting: false }), "{name}");
        }
        let with_thread = rest.replace(" 20 0 1 0 ", " 20 0 2 0 ");
        assert_eq!(Stat::parse(&format!("70 (sh) Z {with_thread}")).map(|stat| stat.has_ended), Some(false));
        let exiting = rest.replace(" 4194560 ", " 4194564 ");
        assert_eq!(Stat::parse(&format!("70 (sh) D {exiting}")).map(|stat| stat.is_exiting), Some(true));
        assert_eq!(Stat::parse("70 (sh) S 1 70"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
