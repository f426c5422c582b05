// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a hook whose dynamic loader obeyed the container's environment reports it, and that a hook without a
//! loader doesn't.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::Check;
use crate::bundle::{Bundle, Cgroup, with_bundle};
use crate::hook::{SAYS, program};
use crate::namespace::Realm;

/// Variables that an image can set, with values that are harmless here.
const LISTENED_TO: [(&str, &str); 3] =
    [("LD_LIBRARY_PATH", "/nowhere"), ("LD_BIND_NOW", "1"), ("GLIBC_TUNABLES", "glibc.malloc.perturb=0")];

pub fn listened(realm: Realm) -> Check {
    // The static build is covered when the other tests run with it.
    for hook in [program(), PathBuf::from(env!("CARGO_BIN_EXE_oci-systemd-hook"))] {
        let is_dynamic = is_dynamic(&hook);
        with_bundle(realm, |bundle| {
            // The result doesn't depend on whether the hook acts for the container.
            bundle.config["process"]["args"] = json!(["/bin/true"]);
            bundle.start(Cgroup::Mounted);
            let watch = bundle.watch();
            for (stage, word) in [("createContainer", true), ("createRuntime", false), ("poststop", false)] {
                for (name, value) in LISTENED_TO {
                    let output = call(&hook, bundle, stage, &[(name, value)]);
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    let is_as_wanted = if is_dynamic && word {
                        let is_one_line = said.starts_with(SAYS) && said.lines().count() == 1;
                        output.status.code() == Some(1) && is_one_line && said.contains(name) && said.contains("env")
                    } else {
                        output.status.success() && said.is_empty()
                    };
                    ensure!(is_as_wanted, "{hook:?}, dynamic {is_dynamic}, {name} at {stage}: {output:?}");
                }
                let output = call(&hook, bundle, stage, &[("PATH", "/bin"), ("LDX", "1"), ("XLD_PRELOAD", "x")]);
                ensure!(output.status.success() && output.stderr.is_empty(), "{hook:?} at {stage}: {output:?}");
            }
            watch.everything(bundle)
        })?;
    }
    Ok(())
}

fn call(hook: &Path, bundle: &Bundle, stage: &str, environment: &[(&str, &str)]) -> Output {
    let mut hook = Command::new(hook);
    hook.arg(stage).env_clear().envs(environment.iter().copied()).current_dir(bundle.root(""));
    let mut hook = hook.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    hook.stdin.take().unwrap().write_all(bundle.state.to_string().as_bytes()).unwrap();
    hook.wait_with_output().unwrap()
}

/// Whether a hook is dynamically linked. With this variable the dynamic loader lists the libraries instead
/// of starting the program.
fn is_dynamic(hook: &Path) -> bool {
    let output = Command::new(hook).arg("--version").env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    !output.stdout.starts_with(b"oci-systemd-hook ")
}
