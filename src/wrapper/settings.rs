// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The settings of the wrapper. They come from its own options, which precede the runtime's, and from a file for
//! engines such as containerd that can't pass options to a runtime.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::Deserialize;

use super::command_line;
use crate::sys::{SysError, fs};

/// The path of the settings file.
pub const FILE: &str = "/etc/oci-hooks-runtime.json";
/// The default directories of oci-hooks(5).
const HOOKS_DIRS: [&str; 2] = ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"];

/// The output of `--wrapper-help`; `--help` is passed to the runtime.
pub const HELP: &str = "\
oci-hooks-runtime - adds the hooks of hooks.d to containers of any OCI runtime

Usage:
  oci-hooks-runtime [OPTION…] [the runtime's own arguments…]

On create and run, matching hooks are added to the bundle's config.json; then this
program executes the runtime with the same arguments. If a container's command is
systemd, `kill ID TERM` and `kill ID INT` send it SIGRTMIN+3, on which it shuts
down. All other commands are passed to the runtime unchanged.

Options, before the runtime's own:
  --runtime-path PATH       the runtime; by default runc on PATH, or crun if there
                            is no runc
  --hooks-dir DIRECTORY     a directory with descriptors, see oci-hooks(5); may be
                            given more than once, and a later one takes
                            precedence; by default
                            /usr/share/containers/oci/hooks.d, then
                            share/containers/oci/hooks.d of the prefix in whose bin
                            this program is, and /etc/containers/oci/hooks.d
  --hook-config-path FILE   hooks for all containers, which run before all others,
                            as in \"hooks\" of config.json
  --skip-bad-descriptors    ignore and log a descriptor that engines would reject,
                            or that this program can't interpret as they do
  --wrapper-help            print this help
  --wrapper-version         print the version

/etc/oci-hooks-runtime.json may set the same with the fields runtimePath, hooksDirs,
hookConfigPath and skipBadDescriptors. Options take precedence.

Exit status: the runtime's, or 1 after an error, which is one line on stderr and in
the runtime's --log.
";

/// What the wrapper's options request.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    Help,
    Version,
    Run(Settings),
}

/// The settings; `None` for each that isn't specified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    pub runtime_path: Option<PathBuf>,
    hooks_dirs: Option<Vec<PathBuf>>,
    /// A file with hooks for all containers.
    pub hook_config_path: Option<PathBuf>,
    skip_bad_descriptors: Option<bool>,
}

/// Why the settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// An option lacks its value.
    #[error("the option {0} needs a value; see --wrapper-help")]
    NoValue(&'static str),
    #[error("cannot read {FILE}")]
    Read(#[source] SysError),
    /// The file's content is invalid.
    #[error("cannot use {FILE}; see --wrapper-help for the supported fields")]
    Json(#[source] serde_json::Error),
}

/// Removes the wrapper's own options from the beginning of the arguments, and leaves the runtime's.
pub fn take(arguments: &mut &[OsString]) -> Result<Invocation, SettingsError> {
    let mut settings = Settings::default();
    while let Some((first, rest)) = arguments.split_first() {
        let (name, mut value) = command_line::split(first);
        let (mut after, is_flag) = (rest, value.is_none());
        let mut path = |option| match (value.take(), after.split_first()) {
            (Some(value), _) => Ok(PathBuf::from(value)),
            (None, Some((value, rest))) => {
                after = rest;
                Ok(PathBuf::from(value))
            }
            (None, None) => Err(SettingsError::NoValue(option)),
        };
        match name {
            b"--runtime-path" => settings.runtime_path = Some(path("--runtime-path")?),
            b"--hook-config-path" => settings.hook_config_path = Some(path("--hook-config-path")?),
            b"--hooks-dir" => settings.hooks_dirs.get_or_insert_default().push(path("--hooks-dir")?),
            b"--skip-bad-descriptors" if is_flag => settings.skip_bad_descriptors = Some(true),
            b"--wrapper-help" => return Ok(Invocation::Help),
            b"--wrapper-version" => return Ok(Invocation::Version),
            _ => break,
        }
        *arguments = after;
    }
    Ok(Invocation::Run(settings))
}

impl Settings {
    /// Fills in missing settings from the file, if it exists.
    pub fn with_file(self) -> Result<Self, SettingsError> {
        match fs::read_host(Path::new(FILE)) {
            Ok(text) => Ok(self.or(serde_json::from_slice(&text).map_err(SettingsError::Json)?)),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(self),
            Err(error) => Err(SettingsError::Read(error)),
        }
    }

    fn or(self, file: Self) -> Self {
        Self {
            runtime_path: self.runtime_path.or(file.runtime_path),
            hooks_dirs: self.hooks_dirs.or(file.hooks_dirs),
            hook_config_path: self.hook_config_path.or(file.hook_config_path),
            skip_bad_descriptors: self.skip_bad_descriptors.or(file.skip_bad_descriptors),
        }
    }

    /// Returns the directories of descriptors. Empty paths are ignored.
    #[must_use]
    pub fn hooks_dirs(&self) -> Vec<PathBuf> {
        let dirs =
            self.hooks_dirs.clone().unwrap_or_else(|| default_hooks_dirs(&env::current_exe().unwrap_or_default()));
        dirs.into_iter().filter(|dir| !dir.as_os_str().is_empty()).collect()
    }

    /// Whether a bad descriptor is skipped instead of being an error.
    #[must_use]
    pub fn skips_bad_descriptors(&self) -> bool {
        self.skip_bad_descriptors.unwrap_or_default()
    }
}

/// Returns the default directories of descriptors: those of oci-hooks(5), and the one in which install.sh puts them
/// for a prefix other than /usr. The administrator's own directory comes last and takes precedence.
fn default_hooks_dirs(executable: &Path) -> Vec<PathBuf> {
    let [vendor, administrator] = HOOKS_DIRS.map(PathBuf::from);
    let prefix = executable.parent().filter(|directory| directory.ends_with("bin")).and_then(Path::parent);
    let own = prefix.map(|prefix| prefix.join("share/containers/oci/hooks.d")).filter(|own| *own != vendor);
    [vendor].into_iter().chain(own).chain([administrator]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(line: &str) -> (Result<Invocation, SettingsError>, usize) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let mut rest = words.as_slice();
        let request = take(&mut rest);
        (request, words.len() - rest.len())
    }

    #[test]
    fn own_options_come_first() {
        let all = Settings {
            runtime_path: Some("/r".into()),
            hooks_dirs: Some(vec!["/a".into(), "/b".into()]),
            hook_config_path: Some("/h".into()),
            skip_bad_descriptors: Some(true),
        };
        for (line, expected, taken) in [
            ("create --bundle /b c", Settings::default(), 0),
            ("--root /r --runtime-path /x state c", Settings::default(), 0),
            (
                "--hook-config-path /h --runtime-path=/r --hooks-dir /a --hooks-dir=/b --skip-bad-descriptors state c",
                all,
                7,
            ),
            ("--skip-bad-descriptors=no state", Settings::default(), 0),
        ] {
            let (request, count) = read(line);
            assert_eq!((request.unwrap(), count), (Invocation::Run(expected), taken), "{line}");
        }
        assert_eq!(read("--wrapper-help").0.unwrap(), Invocation::Help);
        assert_eq!(read("--runtime-path runc --wrapper-version").0.unwrap(), Invocation::Version);
        assert!(matches!(read("--runtime-path").0, Err(SettingsError::NoValue("--runtime-path"))));
    }

    #[test]
    fn an_option_wins_over_the_file() {
        let file = r#"{"runtimePath":"/f","hooksDirs":[],"skipBadDescriptors":true}"#;
        let of = |options: Settings| options.or(serde_json::from_str(file).unwrap());
        let both = of(Settings { runtime_path: Some("/o".into()), ..Settings::default() });
        assert_eq!(both.runtime_path, Some("/o".into()));
        assert!(both.hooks_dirs().is_empty() && both.skips_bad_descriptors());
        let both = of(Settings { hooks_dirs: Some(vec!["/a".into(), "".into()]), ..Settings::default() });
        assert_eq!(both.hooks_dirs(), [PathBuf::from("/a")]);
    }

    #[test]
    fn descriptors_are_looked_for_in_the_programs_prefix_too() {
        let [vendor, administrator] = HOOKS_DIRS;
        for (executable, expected) in [
            ("/usr/bin/oci-hooks-runtime", &[vendor, administrator][..]),
            ("/usr/local/bin/oci-hooks-runtime", &[vendor, "/usr/local/share/containers/oci/hooks.d", administrator]),
            ("/bin/oci-hooks-runtime", &[vendor, "/share/containers/oci/hooks.d", administrator]),
            ("/src/target/release/oci-hooks-runtime", &[vendor, administrator]),
            ("", &[vendor, administrator]),
        ] {
            assert_eq!(
                default_hooks_dirs(Path::new(executable)),
                expected.iter().map(PathBuf::from).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn the_file_has_no_other_fields() {
        for (text, says) in [
            (r#"{"runtime":"/r"}"#, "unknown field `runtime`"),
            (r#"{"hooksDirs":"/a"}"#, "expected a sequence"),
            ("{", "EOF"),
        ] {
            let error = serde_json::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
