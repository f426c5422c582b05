// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Container engines and OCI runtimes, and the differences between them that the hook can't see otherwise. If the hook does
//! something for a single engine or runtime only, a method in this module decides it.
//!
//! Neither is recognized by name: an engine is recognized by annotations and by the bundle's path, and a runtime by the state
//! that it writes. Most differences are therefore handled for all of them, based on observed behavior:
//! [`crate::gather::call`] tells the stages apart although each runtime writes a different PID, and
//! [`crate::prepare`] expects any runtime to do what crun does after its hooks, which is to make mounts read-only
//! where config.json says so (crun 1.8 after createRuntime, 1.27 after createContainer). The hook isn't passed any
//! version. The versions in this module are those in which the behavior was observed.

use std::path::Path;

use crate::oci::pod::CRI_TYPE;
use crate::oci::state::State;

/// The engine, recognized by annotations and by the bundle's path. Anyone can write an annotation, so nothing that matters
/// to the host may depend on it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Podman,
    Crio,
    /// containerd for Kubernetes, by its CRI plugin.
    ContainerdCri,
    Docker,
    /// No engine, as with plain runc, or one that isn't recognized.
    Other,
}

/// The namespace of Docker's containers in containerd, whose bundles are
/// `/run/containerd/io.containerd.runtime.v2.task/NAMESPACE/ID`, also if Docker runs a containerd of its own.
const DOCKER_NAMESPACE: &str = "moby";

impl Engine {
    /// The annotation in which podman and CRI-O name themselves.
    const MANAGER: &'static str = "io.container.manager";

    #[must_use]
    pub fn of<'a>(annotation: impl Fn(&str) -> Option<&'a str>, bundle: Option<&Path>) -> Self {
        let is_docker = || bundle.and_then(Path::parent).is_some_and(|namespace| namespace.ends_with(DOCKER_NAMESPACE));
        match annotation(Self::MANAGER) {
            Some("libpod") => Self::Podman,
            Some("cri-o") => Self::Crio,
            _ if annotation(CRI_TYPE).is_some() => Self::ContainerdCri,
            _ if is_docker() => Self::Docker,
            Some(_) | None => Self::Other,
        }
    }

    /// Returns the value that the engine's own systemd mode assigns to `$container`. For other engines it is `oci`,
    /// which makes systemd look for the engine's marker files.
    #[must_use]
    pub fn container_variable(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Crio => "crio",
            Self::ContainerdCri | Self::Docker | Self::Other => "oci",
        }
    }

    /// Whether poststop hooks are called even if config.json doesn't list them. podman (all versions up to 5.8) doesn't write
    /// them to config.json, and runs them itself.
    #[must_use]
    pub fn calls_poststop_itself(self) -> bool {
        self == Self::Podman
    }
}

/// The OCI runtime that called this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Crun,
    /// runc, youki and all other runtimes.
    Other,
}

impl Runtime {
    /// Recognizes the runtime by its state: only crun writes the field `root`.
    #[must_use]
    pub fn of(state: &State) -> Self {
        if state.root.is_some() { Self::Crun } else { Self::Other }
    }

    /// Whether the runtime makes all mounts private after the hooks unless config.json sets `rootfsPropagation`, as
    /// crun does (1.8 to 1.28).
    #[must_use]
    pub fn resets_propagation_after_hooks(self) -> bool {
        self == Self::Crun
    }

    /// Whether createContainer hooks start in the bundle directory, as with crun, instead of in the container's
    /// root, as with runc.
    #[must_use]
    pub fn starts_hooks_in_bundle(self) -> bool {
        self == Self::Crun
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_engine_is_recognized() {
        const TASK: &str = "/run/containerd/io.containerd.runtime.v2.task";
        for (annotations, bundle, engine, variable) in [
            (&[("io.container.manager", "libpod")][..], "/b", Engine::Podman, "podman"),
            (&[("io.container.manager", "cri-o")], "/b", Engine::Crio, "crio"),
            (&[("io.container.manager", "podman")], "/b", Engine::Other, "oci"),
            (&[("io.kubernetes.cri.container-type", "container")], "/b", Engine::ContainerdCri, "oci"),
            (&[], &format!("{TASK}/moby/5c1a"), Engine::Docker, "oci"),
            (&[], &format!("{TASK}/default/moby"), Engine::Other, "oci"),
        ] {
            let find = |key: &str| annotations.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            assert_eq!(Engine::of(find, Some(Path::new(bundle))), engine, "{annotations:?} {bundle}");
            assert_eq!(engine.container_variable(), variable);
            assert_eq!(engine.calls_poststop_itself(), engine == Engine::Podman);
        }
    }

    #[test]
    fn a_runtime_is_known_by_its_state() {
        for (text, runtime) in [(r#"{"id":"c","root":"rootfs"}"#, Runtime::Crun), (r#"{"id":"c"}"#, Runtime::Other)] {
            assert_eq!(Runtime::of(&State::parse(text.as_bytes()).unwrap()), runtime);
        }
    }
}
