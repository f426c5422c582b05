// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests what a user of podman sees when the hook refuses a container, without a journal or syslog, which
//! these hosts don't have.

use std::fs;
use std::path::Path;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::engines::image::IMAGE;
use crate::podman::engine::{Engine, Hooks};
use crate::podman::guest::PLAIN;
use crate::site::Runtime;

const BAD: &str = "--annotation=oci-systemd-hook=yes";
const WORDS: [&str; 3] = ["oci-systemd-hook", "\"yes\"", "`enabled` or `disabled`"];

pub fn bad_annotation(engine: &Engine) -> Result<(), Failed> {
    for socket in ["/run/systemd/journal/socket", "/dev/log"] {
        let is_there = engine.host().seen(Path::new(socket)).exists();
        same(&format!("{socket} on the host"), &is_there.to_string(), "false")?;
    }
    let kept = engine.host().users_home().join("hook-said");
    // crun discards a hook's output unless configured otherwise.
    let keep = format!("--annotation=run.oci.hooks.stderr={}", kept.display());
    let words = [&["--detach", BAD, &keep], &PLAIN[..], &[IMAGE, "/sbin/init"]].concat();
    let told = engine.call_with(Hooks::Installed, &engine.making("run", &words))?;
    same("podman's exit code", &format!("{:?}", told.status.code()), "Some(126)")?;
    let says_why = |text: &str| text.lines().any(|line| WORDS.iter().all(|word| line.contains(word)));
    let is_as_known = match engine.spot().runtime {
        Runtime::Runc => says_why(&told.errors),
        Runtime::Crun => {
            told.errors.contains("(exit code: 1)")
                && !says_why(&told.errors)
                && says_why(&fs::read_to_string(&kept).unwrap_or_default())
        }
    };
    if !is_as_known {
        return Err(told.told().into());
    }
    same("a container that was started", &engine.ask(&["ps", "--quiet"])?, "")?;
    engine.ask(&["rm", "--all"]).map(drop)
}
