// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows how to make a private mount namespace that stands for a host with
//! the wanted cgroup layout, and to leave nothing of it behind.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use libtest_mimic::Failed;

use crate::command::{SHORT, ended};
use crate::hierarchy::unified_options;
use crate::idmap;
use crate::site::{Layout, Runtime};

/// The namespace gets its own /run and /tmp: whatever a run leaves there is
/// found, however busy the machine is. It cleans up when its standard input
/// ends, thus also when the tests are killed. The hook's own cgroups may lie in
/// hierarchies that the host of the test doesn't mount.
const SCRIPT: &str = r#"
set -e
case $layout in
legacy) umount /sys/fs/cgroup/unified ;;
unified) umount -R /sys/fs/cgroup && mount -t cgroup2 -o "$options" cgroup2 /sys/fs/cgroup ;;
as-it-is) ;;
esac
if [ "$propagation" = shared ]; then
    mount -t tmpfs tmpfs "$bundle"
    mount --make-shared "$bundle"
    mkdir "$bundle/rootfs"
fi
if [ "$image" = shifted ]; then
    echo image
    read -r word
fi
mount -t overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$work" overlay "$bundle/rootfs"
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -m 1777 /run/lock
echo mine >/run/mine
echo mine >/run/lock/mine
echo mine >/tmp/mine
echo ready
set +e
# Without a word the tests were killed, and a runtime may still be at work.
read -r word || sleep 2
"$runtime" --root "$state" delete --force "$id"
mkdir /tmp/v1 /tmp/v2
grep -q :name=systemd: /proc/self/cgroup && mount -t cgroup -o none,name=systemd cgroup /tmp/v1
mount -t cgroup2 -o "$options" cgroup2 /tmp/v2
for name in "$cgroup" "oci-systemd-hook-$id" "$cgroup-beside"; do
    find /sys/fs/cgroup /tmp/v1 /tmp/v2 -depth -type d \( -path "*/$name" -o -path "*/$name/*" \) -exec rmdir {} \;
done
"#;

/// How the mount that the bundle lies on passes mounts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Shared,
}

/// What the namespace is made of.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub machine: Layout,
    pub layout: Layout,
    pub propagation: Propagation,
    pub runtime: Runtime,
    pub id: &'a str,
    pub lower: &'a Path,
    /// The owner that root's files in `lower` have for the container, if that is another.
    pub owner: Option<u32>,
    /// The test's own directory; `bundle`, `upper`, `work`, `state` and `lower` are in it.
    pub home: &'a Path,
    /// The first component of the cgroup path, of this test alone.
    pub cgroup: &'a str,
}

/// The process that keeps the namespace.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    lower: PathBuf,
    is_shifted: bool,
}

impl Holder {
    pub fn new(wanted: &Wanted<'_>) -> Result<Self, Failed> {
        let layout = if wanted.layout == wanted.machine { "as-it-is".to_owned() } else { wanted.layout.to_string() };
        let propagation = match wanted.propagation {
            Propagation::Private => "private",
            Propagation::Shared => "shared",
        };
        let lower = match wanted.owner {
            Some(_) => wanted.home.join("lower"),
            None => wanted.lower.to_owned(),
        };
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", SCRIPT])
            .env("layout", layout)
            .env("propagation", propagation)
            .env("runtime", wanted.runtime.to_string())
            .env("id", wanted.id)
            .env("options", unified_options()?)
            .env("image", if wanted.owner.is_some() { "shifted" } else { "as-it-is" })
            .env("lower", &lower)
            .env("bundle", wanted.home.join("bundle"))
            .env("upper", wanted.home.join("upper"))
            .env("work", wanted.home.join("work"))
            .env("state", wanted.home.join("state"))
            .env("cgroup", wanted.cgroup)
            // An interrupt of the tests must not reach what cleans up after them.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(wanted.home.join("holder"))?)
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("no pipe from the holder")?;
        let mut holder = Self { child, stdin, lower, is_shifted: wanted.owner.is_some() };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        if let (Some(owner), "image") = (wanted.owner, line.trim()) {
            let namespace = PathBuf::from(format!("/proc/{}/ns/mnt", holder.child.id()));
            idmap::mount_shifted(wanted.lower, owner, &holder.lower, &namespace)?;
            holder.stdin.as_mut().ok_or("no pipe to the holder")?.write_all(b"mounted\n")?;
            line.clear();
            stdout.read_line(&mut line)?;
        }
        if line.trim() == "ready" {
            return Ok(holder);
        }
        let said = std::fs::read_to_string(wanted.home.join("holder"))?;
        Err(format!("the namespace for {} was not made: {said}", wanted.layout).into())
    }

    /// A program that will run in the namespace, with the rest as on the host.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.child.id())).args(["--", program]);
        command
    }

    /// A path of the namespace as the tests can open it.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let mut seen = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        seen.extend(path.components().skip(1));
        seen
    }

    /// The image, with the owners that its files have for the container.
    pub fn image(&self) -> PathBuf {
        // The shifted one is mounted in the namespace alone; the other may lie below /tmp, which is covered there.
        if self.is_shifted { self.seen(&self.lower) } else { self.lower.clone() }
    }

    pub fn mountinfo(&self) -> Result<String, Failed> {
        let path = format!("/proc/{}/mountinfo", self.child.id());
        Ok(std::fs::read_to_string(path)?)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // A holder that failed has closed its end, and says itself why.
            stdin.write_all(b"done\n").ok();
        }
        if let Err(failed) = ended(&mut self.child, "the namespace's clean-up", SHORT) {
            eprintln!("{}", failed.message().unwrap_or_default());
        }
    }
}
