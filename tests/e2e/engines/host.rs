// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Creates a host for an engine, with its own directories, accounts and processes, and removes all of it after the
//! test: the processes end with their namespace, and the files that they wrote are in the test's directory.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use libtest_mimic::Failed;
use tempfile::TempDir;

use crate::container::{Planted, plant};
use crate::engines::user::{self, User};
use crate::host;
use crate::mounts::{self, Mount};
use crate::namespace::{Namespace, OWN_FOLDERS};
use crate::site::{Layout, MARK, Site};
use crate::tree;

/// `tree` is a root file system for containers. Engines also write to /etc, /var/lib and /dev/shm.
const FOLDERS: &str = r#"
mount -t overlay -o "lowerdir=$lower,upperdir=$home/upper,workdir=$home/work" overlay "$home/tree"
mount -t overlay -o "lowerdir=/etc,upperdir=$home/etc,workdir=$home/etc-work" overlay /etc
mount -t overlay -o "lowerdir=/var/lib,upperdir=$home/lib,workdir=$home/lib-work" overlay /var/lib
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for file in passwd group subuid subgid; do
    cat "$home/accounts/$file" >>"/etc/$file"
done
"#;

/// `own` contains everything of version 2 that a rootless podman sees and writes to. Its processes are in a cgroup
/// below `own`, since a cgroup that contains processes can't pass on controllers.
const LIFE: &str = r#"
mkdir -m 755 /run/user
mkdir -m 700 "/run/user/$user"
chown "$user:$user" "/run/user/$user"
set +e
if [ "$kind" = rootless ]; then
    own=/sys/fs/cgroup/$cgroup
    mkdir -p "$own/session" && chown -R "$user:$user" "$own"
    (echo 0 >"$own/cgroup.procs" && exec unshare --cgroup -- sh -c "$session" "$own")
else
    sh -c "$processes"
fi
find /sys/fs/cgroup -depth -type d \( -path "*/$cgroup" -o -path "*/$cgroup/*" \) -exec rmdir {} \;
"#;
const SESSION: &str = r#"echo 0 >"$0/session/cgroup.procs" && exec sh -c "$processes""#;

/// All processes end with the first one, which adopts orphaned processes.
const PROCESSES: &str = r#"
exec unshare --mount --propagation private --pid --fork --kill-child -- catatonit -- sh -c "$keeper"
"#;

/// Mounts are shared, as on a host that systemd booted. The script prints its PID on the machine.
const KEEPER: &str = r#"
set -e
read -r pid rest </proc/self/stat
mount -t proc proc /proc
if [ "$kind" = rootless ]; then
    umount /sys/fs/cgroup
    mount -t cgroup2 -o "$options" cgroup2 /sys/fs/cgroup
fi
mount --make-rshared /
echo "$pid"
read -r word
"#;

/// Moves itself to the cgroup in `$0`, and executes the arguments.
const IN_CGROUP: &str = r#"echo 0 >"$0" && exec "$@""#;

/// The parameters that differ from engine to engine and from test to test.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Part of the names of the directory and of the cgroup.
    pub engine: &'static str,
    pub user: User,
    pub layout: Layout,
    /// The root file system below the tree, and the files that the tree has in addition.
    pub lower: PathBuf,
    pub files: &'a [Planted],
    /// An additional part of the script that creates the host. Its variable `home` is the test's directory.
    pub more: &'a str,
}

/// A host for an engine, and the test's directory.
#[derive(Debug)]
pub struct EngineHost {
    namespace: Namespace,
    keeper: u32,
    user: User,
    cgroup: String,
    lower: PathBuf,
    planted: BTreeSet<PathBuf>,
    home: TempDir,
}

impl EngineHost {
    pub fn new(site: &Site, wanted: Wanted<'_>) -> Result<Self, Failed> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let Wanted { engine, user, layout, lower, files, more } = wanted;
        let cgroup = format!("{MARK}{engine}-{}-{count}", std::process::id());
        let folders = ["tree", "upper", "work", "etc", "etc-work", "lib", "lib-work", "accounts", "user"];
        let home = site.home(&format!("{engine}-"), &folders)?;
        // The top directory of a root file system has this mode.
        for name in ["upper", "etc", "lib"] {
            fs::set_permissions(home.path().join(name), fs::Permissions::from_mode(0o755))?;
        }
        chown(home.path().join("user"), Some(user::ID), Some(user::ID))?;
        for (name, lines) in user::accounts() {
            fs::write(home.path().join("accounts").join(name), lines)?;
        }
        let planted = plant(&home.path().join("upper"), files)?;
        let script = [FOLDERS, more, OWN_FOLDERS, LIFE].concat();
        let said = home.path().join("host");
        let mut namespace = Namespace::new(site.machine(), layout, &script, said, |command| {
            command
                .env("home", home.path())
                .env("lower", &lower)
                .env("cgroup", &cgroup)
                .env("kind", user.to_string())
                .env("user", user::ID.to_string())
                .env("session", SESSION)
                .env("processes", PROCESSES)
                .env("keeper", KEEPER);
        })?;
        let keeper = namespace.hear()?.parse().map_err(|_| namespace.failed())?;
        Ok(Self { namespace, keeper, user, cgroup, lower, planted, home })
    }

    /// The test's directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The part of the test's directory that the engine's user may write to.
    pub fn users_home(&self) -> PathBuf {
        match self.user {
            User::Root => self.home().to_owned(),
            User::Other => self.home().join("user"),
        }
    }

    /// The cgroup that only this test uses. It contains all others of the test.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Returns a command that runs the program on this host as the engine's user.
    pub fn command(&self, program: &str) -> Command {
        let of_keeper = |name: &str| format!("/proc/{}/ns/{name}", self.keeper);
        let mut enter = vec!["nsenter".to_owned()];
        enter.push(format!("--mount={}", of_keeper("mnt")));
        enter.push(format!("--pid={}", of_keeper("pid")));
        let mut command = match self.user {
            User::Root => {
                let mut command = Command::new("nsenter");
                command.args(&enter[1..]).arg("--");
                command
            }
            User::Other => {
                let session = Path::new("/sys/fs/cgroup").join(&self.cgroup).join("session/cgroup.procs");
                let id = user::ID;
                let mut command = Command::new("sh");
                command.args(["-c", IN_CGROUP]).arg(self.namespace.seen(&session)).args(&enter);
                command.arg(format!("--cgroup={}", of_keeper("cgroup"))).args(["--", "setpriv"]);
                command.args([format!("--reuid={id}"), format!("--regid={id}")]).args(["--clear-groups", "--"]);
                command
            }
        };
        // No other variables are inherited from the environment of the tests.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.users_home()).current_dir("/").arg(program);
        if self.user == User::Other {
            command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", user::ID));
        }
        command
    }

    /// Returns the path by which the tests can open a path of this host.
    pub fn seen(&self, path: &Path) -> PathBuf {
        let mut seen = PathBuf::from(format!("/proc/{}/root", self.keeper));
        seen.extend(path.components().skip(1));
        seen
    }

    pub fn mountinfo(&self) -> Result<String, Failed> {
        Ok(fs::read_to_string(format!("/proc/{}/mountinfo", self.keeper))?)
    }

    /// A root file system that the user provides.
    pub fn tree(&self) -> PathBuf {
        self.home().join("tree")
    }

    /// The overlay's upper layer, which is above the tree's image.
    pub fn upper(&self) -> PathBuf {
        self.home().join("upper")
    }

    /// Returns the paths of the tree that containers changed.
    pub fn tree_changes(&self) -> Result<Vec<PathBuf>, Failed> {
        tree::changes(&self.upper(), &self.lower, &self.planted)
    }

    /// Returns the names of all processes except those that keep the namespace alive.
    pub fn processes(&self) -> Result<Vec<String>, Failed> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.seen(Path::new("/proc")))?.flatten() {
            let number = entry.file_name().to_string_lossy().parse::<u32>();
            if number.is_ok_and(|number| number > 2) {
                // The process may just have ended.
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                names.push(name.trim().to_owned());
            }
        }
        Ok(names)
    }

    /// Returns the mounts that a process of this host sees.
    pub fn mounts_of(&self, process: &str) -> Result<Vec<Mount>, Failed> {
        let path = format!("/proc/{process}/mountinfo");
        Ok(mounts::parse(&fs::read_to_string(self.seen(Path::new(&path)))?))
    }

    /// Returns all cgroups below the one of this test.
    pub fn cgroups(&self) -> BTreeSet<String> {
        host::cgroups_below(&self.cgroup)
    }
}
