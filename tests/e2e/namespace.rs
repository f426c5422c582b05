// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows how to keep a private mount namespace that stands for a host with the wanted cgroup layout, as long as a
//! test needs it. What else it has, and how it is left, is its maker's script.

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

/// A part of such a script: the namespace gets its own /run and /tmp, and so whatever a run leaves there is found,
/// however busy the machine is.
pub const OWN_FOLDERS: &str = r"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -m 1777 /run/lock
echo mine >/run/mine
echo mine >/run/lock/mine
echo mine >/tmp/mine
";

/// The process that keeps the namespace. Its script ends, and cleans up, when its standard input does: thus also when
/// the tests are killed.
#[derive(Debug)]
pub struct Namespace {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    said: PathBuf,
}

impl Namespace {
    /// Begins the script in a namespace with this layout. `set` gives it the variables that it reads beside `options`,
    /// which are those of version 2's file system; what it complains of goes to the file `said`.
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
            // An interrupt of the tests must not reach what cleans up after them.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&said)?)
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().ok_or("no pipe from the namespace")?);
        Ok(Self { child, stdin, stdout, said })
    }

    /// The next line of the script's output; empty where there comes none.
    pub fn hear(&mut self) -> Result<String, Failed> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Gives the script its next line of input.
    pub fn tell(&mut self, line: &str) -> Result<(), Failed> {
        let stdin = self.stdin.as_mut().ok_or("no pipe to the namespace")?;
        Ok(writeln!(stdin, "{line}")?)
    }

    /// Why the script did not say what it was to say.
    pub fn failed(&self) -> Failed {
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        format!("the namespace was not made: {said}").into()
    }

    /// A file of /proc that is about the namespace's process.
    pub fn about(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    /// Whether this is the process that keeps it.
    pub fn is(&self, pid: u32) -> bool {
        self.child.id() == pid
    }

    /// A program that will run in the namespace, with the rest as on the host.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={}", self.about("ns/mnt").display())).args(["--", program]);
        command
    }

    /// A path of the namespace as the tests can open it.
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
            // A script that failed has closed its end, and says itself why.
            stdin.write_all(b"done\n").ok();
        }
        if let Err(failed) = ended(&mut self.child, "the namespace's clean-up", SHORT) {
            eprintln!("{}", failed.message().unwrap_or_default());
        }
    }
}
