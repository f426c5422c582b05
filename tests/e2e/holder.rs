// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Creates the host of one container, with the container's bundle, and removes all of it after the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

use crate::idmap;
use crate::namespace::{Namespace, OWN_FOLDERS};
use crate::site::{Layout, Runtime};

const BUNDLE: &str = r#"
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
"#;

/// The last part of such a script, which waits for the end of the test and removes what the test has left.
/// The hook's own cgroups may be in hierarchies that the test's host doesn't mount. `ids` is a pattern for
/// the end of their names.
pub const LIFE: &str = r#"
echo ready
set +e
# Without a word the tests were killed, and a runtime may still be at work.
read -r word || sleep 2
for container in "$state"/*; do
    "$runtime" --root "$state" delete --force "${container##*/}"
done
mkdir /tmp/v1 /tmp/v2
grep -q :name=systemd: /proc/self/cgroup && mount -t cgroup -o none,name=systemd cgroup /tmp/v1
mount -t cgroup2 -o "$options" cgroup2 /tmp/v2
for name in "$cgroup" "oci-systemd-hook-$ids" "$cgroup-beside"; do
    find /sys/fs/cgroup /tmp/v1 /tmp/v2 -depth -type d \( -path "*/$name" -o -path "*/$name/*" \) -exec rmdir {} \;
done
"#;

/// The propagation of the mount that contains the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Shared,
}

/// The parameters of the namespace.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub machine: Layout,
    pub layout: Layout,
    pub propagation: Propagation,
    pub runtime: Runtime,
    pub id: &'a str,
    pub lower: &'a Path,
    /// The owner of root's files in `lower` as the container should see them, if it differs from the real owner.
    pub owner: Option<u32>,
    /// The test's own directory, which contains `bundle`, `upper`, `work`, `state` and `lower`.
    pub home: &'a Path,
    /// The first component of the cgroup path, which only this test uses.
    pub cgroup: &'a str,
}

/// The namespace and the image in it.
#[derive(Debug)]
pub struct Holder {
    namespace: Namespace,
    lower: PathBuf,
    is_shifted: bool,
}

impl Holder {
    pub fn new(wanted: &Wanted<'_>) -> Result<Self, Failed> {
        let propagation = match wanted.propagation {
            Propagation::Private => "private",
            Propagation::Shared => "shared",
        };
        let lower = match wanted.owner {
            Some(_) => wanted.home.join("lower"),
            None => wanted.lower.to_owned(),
        };
        let script = [BUNDLE, OWN_FOLDERS, LIFE].concat();
        let said = wanted.home.join("holder");
        let mut namespace = Namespace::new(wanted.machine, wanted.layout, &script, said, |command| {
            command
                .env("propagation", propagation)
                .env("runtime", wanted.runtime.to_string())
                .env("ids", wanted.id)
                .env("image", if wanted.owner.is_some() { "shifted" } else { "as-it-is" })
                .env("lower", &lower)
                .env("bundle", wanted.home.join("bundle"))
                .env("upper", wanted.home.join("upper"))
                .env("work", wanted.home.join("work"))
                .env("state", wanted.home.join("state"))
                .env("cgroup", wanted.cgroup);
        })?;
        let mut heard = namespace.hear()?;
        if let (Some(owner), "image") = (wanted.owner, heard.as_str()) {
            idmap::mount_shifted(wanted.lower, owner, &lower, &namespace.about("ns/mnt"))?;
            namespace.tell("mounted")?;
            heard = namespace.hear()?;
        }
        if heard == "ready" {
            return Ok(Self { namespace, lower, is_shifted: wanted.owner.is_some() });
        }
        Err(namespace.failed())
    }

    /// Returns a command that runs the program in the namespace, with everything else as on the host.
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command(program)
    }

    /// Returns the path by which the tests can open a path of the namespace.
    pub fn seen(&self, path: &Path) -> PathBuf {
        self.namespace.seen(path)
    }

    /// Returns the path of the image, in which the files have the owners that the container sees.
    pub fn image(&self) -> PathBuf {
        // The shifted image is mounted only in the namespace. The other one may be below /tmp, which is
        // covered in the namespace.
        if self.is_shifted { self.seen(&self.lower) } else { self.lower.clone() }
    }

    pub fn mountinfo(&self) -> Result<String, Failed> {
        self.namespace.mountinfo()
    }
}
