// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Executes the steps of the README's section on Docker in the same way as a reader who copies them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::run;
use crate::docker::daemon::{CONFIG, PIDFILE, RELOADED};
use crate::docker::engine::Engine;
use crate::engines::readme::{self, Section, has_done, repository};
use crate::engines::stand_in;

const SECTIONS: [Section; 2] = [
    Section { document: "README.md", heading: "## Install", blocks: 2 },
    Section { document: "README.md", heading: "### Docker", blocks: 2 },
];

/// Returns the part of the script that lets programs be installed on the host, and that keeps the project and its
/// build visible where the host has its own directories.
pub fn prepared() -> Result<String, Failed> {
    let quoted = |path: &Path| Ok::<_, Failed>(shlex::try_quote(&path.display().to_string())?.into_owned());
    Ok(PREPARED.replace("@REPOSITORY@", &quoted(&repository())?).replace("@TARGET@", &quoted(&target())?))
}

const PREPARED: &str = r#"
mkdir "$home/usr" "$home/usr-work" "$home/repository" "$home/target"
mount -t overlay -o "lowerdir=/usr,upperdir=$home/usr,workdir=$home/usr-work" overlay /usr
mount --bind @REPOSITORY@ "$home/repository"
mount --bind @TARGET@ "$home/target"
"#;

/// Follows a step in a private mount namespace, so that the paths are those that cargo knows.
const FOLLOW: &str = r#"
set -e
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p "$repository" "$target"
mount --bind "$home/repository" "$repository"
mount --bind "$home/target" "$target"
cd "$repository"
sh -euc "$step"
"#;

/// Returns the directory in which cargo has built the project.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), |path| repository().join(path))
}

/// Stand-ins for programs of a host that systemd runs, which come first in the reader's `PATH`. Packages that the
/// README installs with apt are already there.
const SUDO: &str = "#!/bin/sh\n[ \"$1 $2\" != 'apt install' ] || exit 0\nexec \"$@\"\n";
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
case $* in
"reload docker")
    before=$(grep -c '@RELOADED@' @LOG@ || :)
    kill -HUP "$(cat @PIDFILE@)"
    until [ "$(grep -c '@RELOADED@' @LOG@)" -gt "$before" ]; do sleep 0.1; done
    ;;
*)
    echo "systemctl: the tests have no $*" >&2
    exit 1
    ;;
esac
"#;

/// The time limit for a step. It allows for a build if nothing is built yet.
const STEP: Duration = Duration::from_secs(900);

/// Executes one step after the other. Each has to succeed without anything that this test adds.
pub fn steps(engine: &Engine) -> Result<(), Failed> {
    let bin = engine.host().home().join("bin");
    stand_in(&bin, "sudo", SUDO)?;
    let log = engine.daemon().log().display().to_string();
    let words = [("@PIDFILE@", PIDFILE), ("@RELOADED@", RELOADED), ("@LOG@", &log)];
    let systemctl = words.iter().fold(SYSTEMCTL.to_owned(), |text, (word, with)| text.replace(word, with));
    stand_in(&bin, "systemctl", &systemctl)?;
    // The reader doesn't have this file yet.
    fs::remove_file(engine.host().seen(Path::new(CONFIG)))?;
    for step in readme::steps(&SECTIONS)? {
        follow(engine, &step)?;
    }
    same("containers", &engine.ask(&["ps", "--all", "--quiet"])?, "")
}

fn follow(engine: &Engine, step: &str) -> Result<(), Failed> {
    let home = engine.host().home();
    let path = env::var("PATH")?;
    let mut command = engine.host().command("unshare");
    command.args(["--mount", "--", "sh", "-c", FOLLOW]);
    // The step gets the variables that cargo needs from the environment of the tests, and none of Docker's.
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        command.envs(env::var_os(name).map(|value| (name, value)));
    }
    command.env("PATH", format!("{}:{path}", home.join("bin").display())).env("DOCKER_CONFIG", home);
    command.env("CARGO_TARGET_DIR", target()).env("home", home);
    command.env("repository", repository()).env("target", target()).env("step", step);
    has_done(step, run(&mut command, STEP)?)
}
