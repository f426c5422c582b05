// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/proc/<pid>/status`, see proc_pid_status(5). Unlike most of a process's files it can be read
//! whoever reads.

/// The parent's pid, in the pid namespace of the /proc that was read.
#[must_use]
pub fn parent(text: &str) -> Option<u32> {
    field(text, "PPid:")?.parse().ok().filter(|pid| *pid > 0)
}

/// How many pid namespaces deep the process is, from that of the /proc that was read on.
#[must_use]
pub fn pid_namespaces(text: &str) -> Option<usize> {
    field(text, "NSpid:").map(|pids| pids.split_ascii_whitespace().count())
}

/// The process's pid in the pid namespace of the mounted /proc.
#[must_use]
pub fn pid(text: &str) -> Option<u32> {
    field(text, "Pid:")?.parse().ok()
}

/// Whether it has ended and only waits for its parent to collect its status. While other threads run, a process is a
/// zombie as soon as its first thread has ended.
#[must_use]
pub fn is_zombie(text: &str) -> bool {
    let threads = field(text, "Threads:").and_then(|count| count.parse::<u32>().ok());
    field(text, "State:").is_some_and(|state| state.starts_with(['Z', 'X'])) && threads.is_some_and(|count| count <= 1)
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
        assert_eq!((pid(text), is_zombie(text)), (Some(70), false));
        for (threads, expected) in [("0", true), ("1", true), ("2", false)] {
            assert_eq!(is_zombie(&format!("State:\tZ (zombie)\nThreads:\t{threads}\n")), expected, "{threads}");
        }
        assert_eq!(parent("PPid:\t0\n"), None);
        assert_eq!(pid_namespaces("Name:\tsh\n"), None);
    }
}
