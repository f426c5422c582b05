// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines whether config.json also calls this hook at a later stage.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;

use super::GatherError;
use crate::facts::{FollowUp, Stage};
use crate::oci::config::{Config, Hook};
use crate::sys::Context;

/// Determines whether this hook will be called again after this call.
pub fn follow_up(config: &Config, stage: Stage) -> Result<FollowUp, GatherError> {
    // In a user namespace the hook may be unable to read config.json at createContainer (if the bundle is below a
    // directory of mode 0700) or to write a record, so that this call does the whole job.
    let follows = stage == Stage::CreateRuntime
        && !config.has_namespace("user")
        && lists_this_hook(&config.hooks.create_container)?;
    Ok(match (follows, config.root.readonly) {
        (false, _) => FollowUp::None,
        (true, false) => FollowUp::CreateContainer,
        (true, true) => FollowUp::CreateContainerOnReadOnlyRoot,
    })
}

/// Whether one of these hooks is this program.
pub(super) fn lists_this_hook(hooks: &[Hook]) -> Result<bool, GatherError> {
    /// The errors for a path that doesn't exist in this process's mount namespace, or that this process
    /// may not look up.
    const NOT_SEEN: [Errno; 6] =
        [Errno::NOENT, Errno::NOTDIR, Errno::ACCESS, Errno::PERM, Errno::LOOP, Errno::NAMETOOLONG];
    if hooks.is_empty() {
        return Ok(false);
    }
    let file = |path: &Path| match std::fs::metadata(path).call(|| format!("stat({path:?})")) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.errno().is_some_and(|errno| NOT_SEEN.contains(&errno)) || error.is_from_file_server() => {
            Ok(None)
        }
        Err(source) => Err(GatherError::Read { path: path.to_owned(), source }),
    };
    let Some(own) = file(Path::new("/proc/self/exe"))? else { return Ok(false) };
    for hook in hooks {
        if file(&hook.path)? == Some(own) {
            return Ok(true);
        }
    }
    Ok(false)
}
