// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An OCI bundle: the state of its container, and its config.json, which is read once.

use std::cell::OnceCell;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::oci::config::Config;
use crate::oci::document::{Document, FieldError};
use crate::oci::state::{State, StateError};
use crate::sys::{SysError, fs};

/// The maximum size of config.json. The largest ones seen are about 100 KiB. Together with the other limits here and
/// those of `oci`, this keeps the memory use of a call below 8 MiB.
const CONFIG_LIMIT_BYTES: u64 = 1024 * 1024;

/// Why a bundle can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: SysError },
    #[error("{} is larger than {limit_bytes} bytes", path.display())]
    TooLarge { path: PathBuf, limit_bytes: u64 },
    #[error("cannot read {} as an OCI configuration", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("cannot read {} as an OCI configuration", path.display())]
    Field { path: PathBuf, source: FieldError },
    #[error("{} has no process.args", .0.display())]
    NoArgs(PathBuf),
    #[error("{} has no root.path", .0.display())]
    NoRoot(PathBuf),
    #[error(
        "{} has no mount namespace, so the container's mounts would be created on the host", .0.display()
    )]
    NoMountNamespace(PathBuf),
}

/// A container's state and config.json.
#[derive(Debug)]
pub struct Bundle<'s> {
    pub state: &'s State,
    /// The path of config.json, for messages.
    path: PathBuf,
    document: Document,
    config: OnceCell<Config>,
}

/// Returns the absolute path of a bundle's directory. A path that can't be made absolute is returned unchanged, so
/// that the error that follows shows it.
#[must_use]
pub fn absolute(directory: &Path) -> PathBuf {
    std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned())
}

/// Reads a config.json that a program writes to `input`. Errors refer to it as `from`.
pub fn read_stream(input: impl AsFd, from: &str) -> Result<Document, BundleError> {
    parse(Path::new(from), CONFIG_LIMIT_BYTES, fs::read_stream(input, CONFIG_LIMIT_BYTES))
}

fn parse(path: &Path, limit_bytes: u64, text: Result<Option<Vec<u8>>, SysError>) -> Result<Document, BundleError> {
    let path_of = || path.to_owned();
    let text = text.map_err(|source| BundleError::Read { path: path_of(), source })?;
    let text = text.ok_or_else(|| BundleError::TooLarge { path: path_of(), limit_bytes })?;
    Document::parse(text).map_err(|source| BundleError::Json { path: path_of(), source })
}

impl<'s> Bundle<'s> {
    /// Reads config.json from the state's bundle.
    pub fn read(state: &'s State) -> Result<Self, BundleError> {
        Self::read_at(state, state.bundle()?.join("config.json"), CONFIG_LIMIT_BYTES)
    }

    /// Reads the config.json at `path`, which must not be larger than `limit_bytes`.
    pub fn read_at(state: &'s State, path: PathBuf, limit_bytes: u64) -> Result<Self, BundleError> {
        let text = fs::open_host(&path).and_then(|file| fs::read_up_to(file, limit_bytes));
        let document = parse(&path, limit_bytes, text)?;
        Ok(Self::of(state, path, document))
    }

    #[must_use]
    pub fn of(state: &'s State, path: PathBuf, document: Document) -> Self {
        Self { state, path, document, config: OnceCell::new() }
    }

    /// Creates a bundle whose config.json can't be read, with what is known about its content from other sources.
    #[must_use]
    pub fn without_config(state: &'s State, config: Config) -> Self {
        let path = PathBuf::from("config.json (unreadable)");
        Self { state, path, document: Document::default(), config: OnceCell::from(config) }
    }

    /// Returns the bundle's directory, an absolute path.
    pub fn directory(&self) -> Result<&'s Path, BundleError> {
        Ok(self.state.bundle()?)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Reads part of config.json, and adds the file's path to the error.
    pub fn read_with<'b, T>(
        &'b self,
        read: impl FnOnce(&'b Document) -> Result<T, FieldError>,
    ) -> Result<T, BundleError> {
        read(&self.document).map_err(|source| BundleError::Field { path: self.path.clone(), source })
    }

    /// Returns the fields that the plan needs, which are read only once.
    pub fn config(&self) -> Result<&Config, BundleError> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = self.read_with(Config::of)?;
        Ok(self.config.get_or_init(|| config))
    }

    /// Like [`Self::config`], for a container that is to be prepared. Such a container must not
    /// share the host's mounts.
    pub fn config_to_prepare(&self) -> Result<&Config, BundleError> {
        let config = self.config()?;
        if config.has_namespace("mount") { Ok(config) } else { Err(BundleError::NoMountNamespace(self.path.clone())) }
    }

    /// Returns the path of the container's root file system, which comes from config.json or else from crun's state.
    pub fn root(&self) -> Result<PathBuf, BundleError> {
        let directory = self.directory()?;
        let path = self.config()?.root(directory).or_else(|| self.state.root.as_ref().map(|root| directory.join(root)));
        path.ok_or_else(|| BundleError::NoRoot(self.path.clone()))
    }
}
