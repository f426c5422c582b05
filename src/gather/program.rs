// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the program that a container's command starts.

use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::command::DEFAULT_PATH;
use crate::facts::{Found, Program};
use crate::oci::config;
use crate::path::InnerPath;
use crate::root::{ReadError, Root};
use crate::sys::Context;

/// Finds a command's program in the image as execvpe(3) would, and determines whether it is systemd.
pub(super) fn look_up(root: &Root, name: &str, command: &config::CommandFields) -> Program {
    /// More directories than the `PATH` of any image has. The limit bounds the work, since the name is looked up in
    /// each directory with all symbolic links.
    const DIRECTORIES_MAX: usize = 64;
    let candidates: Vec<InnerPath> = if name.contains('/') {
        vec![InnerPath::new(Path::new(command.cwd.as_deref().unwrap_or("/")).join(name))]
    } else {
        let path = command.env("PATH").unwrap_or(DEFAULT_PATH);
        let directories = path.split(':').filter(|each| each.starts_with('/')).take(DIRECTORIES_MAX);
        directories.map(|each| InnerPath::new(each).join(name)).collect()
    };
    let mut unreachable = None;
    for candidate in candidates {
        match root.find(&candidate) {
            Ok(Found::File(at)) => {
                return match is_systemd(root, &at) {
                    Ok(true) => Program::Systemd(at),
                    Ok(false) => Program::Other(at),
                    Err(error) => Program::Unreachable(error.to_string()),
                };
            }
            Ok(Found::Other(at, _) | Found::Directory(at) | Found::EmptyDirectory(at)) => return Program::Other(at),
            Ok(Found::Nothing(_)) => {}
            Ok(Found::Unreachable(reason)) => unreachable = Some(reason),
            Ok(Found::OnServer(at)) => return Program::Unreachable(ReadError::OfAServer(at).to_string()),
            // This candidate may be the command's program.
            Err(error) => return Program::Unreachable(error.to_string()),
        }
    }
    unreachable.map_or(Program::Nothing, Program::Unreachable)
}

/// Whether a file is systemd's own binary. That is `…/systemd/systemd` in every distribution, and an ELF file.
fn is_systemd(root: &Root, at: &InnerPath) -> Result<bool, ReadError> {
    const ELF: &[u8] = b"\x7fELF";
    if !at.as_path().ends_with("systemd/systemd") {
        return Ok(false);
    }
    let mut start = [0_u8; 4];
    match root.read_program(at)?.read_exact(&mut start) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        result => Ok(result.call(|| format!("read(\"{at}\")")).map(|()| start == ELF)?),
    }
}
