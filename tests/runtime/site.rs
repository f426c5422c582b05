// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the wrapper and builds the program that replaces a runtime in tests, the recorder.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::scratch::Scratch;

/// The path of the wrapper's optional configuration file.
pub const SETTINGS: &str = "/etc/oci-hooks-runtime.json";

/// The wrapper, the recorder and the temporary directory of this run.
#[derive(Debug)]
pub struct Site {
    wrapper: PathBuf,
    scratch: Scratch,
    /// The path of the recorder, or the reason why it could not be built.
    recorder: Result<PathBuf, String>,
}

impl Site {
    /// Copies the wrapper and builds the recorder. This must be called before any thread starts another program,
    /// since a file that is open for writing can't be executed.
    pub fn new() -> Result<Self, String> {
        let given = env::var_os("OCI_HOOKS_RUNTIME").map(PathBuf::from);
        let given = given.unwrap_or_else(|| env!("CARGO_BIN_EXE_oci-hooks-runtime").into());
        // The directory is not below /tmp, which a test's mounts may cover.
        let scratch = Scratch::new("osh-runtime-", Path::new("/var/tmp"))
            .map_err(|error| format!("cannot make a directory: {error}"))?;
        // The wrapper is copied, so that a build during the run can't replace it.
        let wrapper = scratch.path().join("oci-hooks-runtime");
        std::fs::copy(&given, &wrapper).map_err(|error| format!("OCI_HOOKS_RUNTIME, {}: {error}", given.display()))?;
        let recorder = compile(&scratch.path().join("recorder"));
        Ok(Self { wrapper, scratch, recorder })
    }

    pub fn wrapper(&self) -> &Path {
        &self.wrapper
    }

    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    pub fn recorder(&self) -> Result<&Path, String> {
        self.recorder.as_deref().map_err(Clone::clone)
    }

    /// Returns the reason why no test can run here, if there is one.
    pub fn missing(&self) -> Option<String> {
        if Path::new(SETTINGS).exists() {
            return Some(format!("{SETTINGS} exists and changes what the wrapper does"));
        }
        self.recorder.as_ref().err().cloned()
    }
}

fn compile(to: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime/recorder.c");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1", "-static", "-o"])
        .arg(to)
        .arg(source)
        .output()
        .map_err(|error| format!("cc is not installed: {error}"))?;
    if compiled.status.success() {
        Ok(to.to_owned())
    } else {
        Err(format!("cc: {}", String::from_utf8_lossy(&compiled.stderr)))
    }
}
