// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A private mount namespace that stands in for a host with the requested cgroup layout for as long as a test needs
//! it. The caller's script determines its other content and cleans up after it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use libtest_mimic::Failed;

use crate::command::{SHORT, ended};
use crate::hierarchy::unified_options;
use crate::site::Layout;

const LAYOUT: &str = r#"
set -e
case $layout in
legacy) umount /sys/fs/cgroup/unified ;;
unified) umount -R /sys/fs/cgroup && mount -t cgroup2 -o "$options" cgroup2 /sys/fs/cgroup ;;
as-it-is) ;;
esac
"#;

/// A part of such a script that gives the namespace its own /run and /tmp. Files that a run leaves there can be
/// found even on a busy machine.
pub const OWN_FOLDERS: &str = r"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -m 1777 /run/lock
echo mine >/run/mine
echo mine >/run/lock/mine
echo mine >/tmp/mine
";

/// The process that keeps the namespace alive. Its script cleans up and ends when its standard input is closed,
/// which also happens if the tests are killed.
#[derive(Debug)]
pub struct Namespace {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    said: PathBuf,
}

impl Namespace {
    /// Starts the script in a namespace with this layout. `set` sets the variables that the script reads in
    /// addition to `options`, which has the options of version 2's file system. The script's standard error goes
    /// to the file `said`.
    pub fn new(
        machine: Layout,
        layout: Layout,
        script: &str,
        said: PathBuf,
        set: impl FnOnce(&mut Command),
    ) -> Result<Self, Failed> {
        let wanted = if layout == machine { "as-it-is".to_owned() } else { layout.to_string() };
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", &[LAYOUT, script].concat()])
            .env("layout", wanted)
            .env("options", unified_options()?);
        set(&mut command);
        let mut child = command
            // A keyboard interrupt of the tests must not reach the script that cleans up after them.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&said)?)
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("no pipe from the namespace")?);
        Ok(Self { child, stdin, stdout, said })
    }

    /// Returns the next line of the script's output. Returns an empty string at its end.
    pub fn hear(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Sends a line to the script's standard input.
    pub fn tell(&mut self, line: &str) -> Result<(), Failed> {
        let stdin = self.stdin.as_mut().ok_or("no pipe to the namespace")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Returns the error for a script that didn't write the expected line.
    pub fn failed(&self) -> Failed {
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        format!("the namespace was not created: {said}").into()
    }

    /// Returns the path of a file in the /proc directory of the namespace's process.
    pub fn about(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Whether this is the PID of the process that keeps the namespace alive.
    pub fn is(&self, pid: u32) -> bool {
        self.child.id() == pid
    }

    /// Returns a command that runs the program in the namespace, with everything else as on the host.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", self.about("ns/mnt").display())).args(["--", program]);
        command
    }

    /// Returns the path by which the tests can open a path of the namespace.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let mut seen = self.about("root");
        seen.extend(path.components().skip(1));
        seen
    }

    pub fn mountinfo(&self) -> Result<String, Failed> {
        Ok(fs::read_to_string(self.about("mountinfo"))?)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // A script that failed has already closed its end of the pipe, and reports the reason itself.
            stdin.write_all(b"done\n").ok();
        }
        if let Err(failed) = ended(&mut self.child, "the namespace's clean-up", SHORT) {
            eprintln!("{}", failed.message().unwrap_or_default());
        }
    }
}
