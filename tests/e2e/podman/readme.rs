// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Executes the steps of the README's section on podman, starting with the build of an image, in the same way as a
//! reader who copies them.

use std::env;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::{run, run_from};
use crate::engines::readme::{self, Section, has_done, repository};
use crate::engines::stand_in;
use crate::harness::machine::where_is;
use crate::podman::engine::{Engine, Hooks};
use crate::site::Site;

const SECTIONS: [Section; 3] = [
    Section { document: "README.md", heading: "### An image to try", blocks: 2 },
    Section { document: "README.md", heading: "### podman", blocks: 1 },
    Section { document: "share/doc/podman.md", heading: "## podman's own systemd mode", blocks: 1 },
];
/// What contrib/images/debian begins with, and what stands for it: the tests pull no image.
const BASE: &str = "docker.io/library/debian:trixie";

/// The time limit for a step, in which apt may download and install systemd.
const STEP: Duration = Duration::from_secs(300);

/// The reader's podman, with the options of this test and those that the machine requires. A build needs a network,
/// but containers have none here.
const PODMAN: &str = r#"#!/bin/sh
set -eu
verb=$1
shift
case $verb in
run) set -- --ulimit=host --cgroup-parent=@CGROUP@ "$@" ;;
build) set -- --isolation=chroot --network=host "$@" ;;
esac
exec @PODMAN@ "$verb" "$@"
"#;

pub fn steps(engine: &Engine, site: &Site) -> Result<(), Failed> {
    import_base(engine, site)?;
    let podman = where_is("podman").ok_or("podman is gone")?.display().to_string();
    let words = [podman].into_iter().chain(engine.options(Hooks::Installed)).collect::<Vec<_>>();
    let words = shlex::try_join(words.iter().map(String::as_str))?;
    let text = PODMAN.replace("@CGROUP@", &format!("/{}", engine.host().cgroup())).replace("@PODMAN@", &words);
    let bin = engine.host().home().join("bin");
    stand_in(&bin, "podman", &text)?;
    // The host may have its own directory at the path of the project.
    let clone = engine.host().home().join("clone");
    let images = "contrib/images";
    fs::create_dir_all(clone.join("contrib"))?;
    let copy = [repository().join(images), clone.join(images)];
    run(Command::new("cp").arg("-R").args(copy), STEP)?.expect_success()?;
    // The step that builds the image with Docker is for users of Docker.
    for step in readme::steps(&SECTIONS)?.into_iter().filter(|step| !step.starts_with("docker build")) {
        let mut command = engine.program("sh");
        command.args(["-euc", &format!("cd \"$clone\"\n{step}")]).env("clone", &clone);
        command.env("PATH", format!("{}:{}", bin.display(), env::var("PATH")?));
        has_done(&step, run(&mut command, STEP)?)?;
    }
    same("containers", &engine.ask(&["ps", "--all", "--quiet"])?, "")
}

fn import_base(engine: &Engine, site: &Site) -> Result<(), Failed> {
    let mut pack = Command::new("tar");
    pack.args(["--exclude=./dev/*", "-C"]).arg(site.base()?).args(["-c", "."]);
    let mut tar = pack.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let archive = tar.stdout.take().ok_or("no pipe from tar")?;
    let imported = run_from(&mut engine.command(Hooks::None, &["import", "-", BASE]), archive.into(), STEP);
    let packed = tar.wait()?;
    imported?.expect_success()?;
    if packed.success() { Ok(()) } else { Err(format!("tar: {packed}").into()) }
}
