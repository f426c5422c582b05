// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the runtime that the wrapper executes.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::command::DEFAULT_PATH;
use crate::sys::{SysError, fs};

/// The runtimes to look for if none is configured.
const DEFAULT_RUNTIMES: [&str; 2] = ["runc", "crun"];

#[derive(Debug, PartialEq, Eq)]
pub struct RuntimeProgram {
    pub path: PathBuf,
    /// The name by which the runtime is called.
    pub name: OsString,
}

/// Why no runtime can be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// None of the usual runtimes was found.
    #[error(
        "cannot find an OCI runtime: neither runc nor crun is in {0:?}; install one, or specify one with --runtime-path or \
         runtimePath"
    )]
    None(OsString),
    /// The configured runtime was not found on `PATH`.
    #[error("cannot find the OCI runtime {0:?}, set by --runtime-path or runtimePath, in {1:?}")]
    NotOnPath(OsString, OsString),
    /// The configured runtime can't be used at its path.
    #[error("cannot use the OCI runtime {path:?}, set by --runtime-path or runtimePath")]
    Unusable { path: PathBuf, source: SysError },
    /// The wrapper would call itself forever.
    #[error(
        "the OCI runtime {0:?} is oci-hooks-runtime itself; specify the real one with --runtime-path or runtimePath"
    )]
    Itself(PathBuf),
}

/// Finds the runtime. `asked` is the configured one: a path, or a name that is to be found on `PATH`.
pub fn find(asked: Option<&Path>) -> Result<RuntimeProgram, ProgramError> {
    let search = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let is_own = |path: &Path| fs::is_same_file(path, Path::new("/proc/self/exe"));
    match asked.map(Path::as_os_str) {
        Some(name) if name.as_encoded_bytes().contains(&b'/') => {
            let path = PathBuf::from(name);
            if is_own(&path) {
                return Err(ProgramError::Itself(path));
            }
            match usable(&path) {
                Ok(()) => Ok(RuntimeProgram { path, name: name.to_owned() }),
                Err(source) => Err(ProgramError::Unusable { path, source }),
            }
        }
        Some(name) => {
            on_path(name, &search, is_own).ok_or_else(|| ProgramError::NotOnPath(name.to_owned(), search.clone()))
        }
        None => DEFAULT_RUNTIMES
            .iter()
            .find_map(|name| on_path(OsStr::new(name), &search, is_own))
            .ok_or_else(|| ProgramError::None(search.clone())),
    }
}

/// Returns the first program of this name, except for the wrapper itself, which may be installed
/// under a runtime's name.
fn on_path(name: &OsStr, search: &OsStr, is_own: impl Fn(&Path) -> bool) -> Option<RuntimeProgram> {
    let candidates = env::split_paths(search).filter(|directory| directory.is_absolute()).map(|dir| dir.join(name));
    let mut usable = candidates.filter(|path| usable(path).is_ok());
    usable.find(|path| !is_own(path)).map(|path| RuntimeProgram { path, name: name.to_owned() })
}

/// Checks that a path can be executed and isn't a directory.
fn usable(path: &Path) -> Result<(), SysError> {
    fs::check_executable(path)?;
    if path.is_dir() { Err(SysError::Elsewhere(format!("{} is a directory", path.display()))) } else { Ok(()) }
}
