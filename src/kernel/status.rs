// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses `/proc/<pid>/status`, see proc_pid_status(5). Unlike most of a process's files, this one can
//! be read by any process.

/// The parent's PID in the PID namespace of the /proc that was read. Returns `None` if it has none there.
#[must_use]
pub fn parent(text: &str) -> Option<u32> {
    field(text, "PPid:")?.parse().ok().filter(|pid| *pid > 0)
}

/// How many nested PID namespaces the process is in, counted from that of the /proc that was read.
#[must_use]
pub fn pid_namespaces(text: &str) -> Option<usize> {
    field(text, "NSpid:").map(|pids| pids.split_ascii_whitespace().count())
}

/// The process's PID in the PID namespace of the /proc that was read.
#[must_use]
pub fn pid(text: &str) -> Option<u32> {
    field(text, "Pid:")?.parse().ok()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_parent_and_depth() {
        let text = "Name:\tsh\nPid:\t70\nPPid:\t7\nNSpid:\t70\t1\n";
        assert_eq!((parent(text), pid_namespaces(text)), (Some(7), Some(2)));
        assert_eq!(pid(text), Some(70));
        assert_eq!(parent("PPid:\t0\n"), None);
        assert_eq!(pid_namespaces("Name:\tsh\n"), None);
    }
}
