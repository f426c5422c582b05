// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Container engines and OCI runtimes, and where they differ from each other. All that the hook does for one of them alone is
//! decided by a method here.
//!
//! Neither is told by name: an engine is known by an annotation, and a runtime by the state that it writes. So most
//! differences are handled for all of them, by what is seen: [`crate::gather::call`] tells the stages apart though each runtime
//! writes another pid, and [`crate::prepare`] expects of any runtime what crun does after its hooks, which is to make
//! read-only what config.json wants so (crun 1.8 after createRuntime, 1.27 after createContainer). Nothing that the hook is
//! given tells a version; the versions named here are those that were seen to behave so.

use crate::oci::state::State;

/// The engine that the annotation `io.container.manager` names. Anybody can write that annotation, so nothing that matters to
/// the host may depend on it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Podman,
    Crio,
    /// Docker and containerd, which write no such annotation, and all others.
    Other,
}

impl Engine {
    /// The annotation's key.
    pub const ANNOTATION: &'static str = "io.container.manager";

    #[must_use]
    pub fn of(manager: Option<&str>) -> Self {
        match manager {
            Some("libpod") => Self::Podman,
            Some("cri-o") => Self::Crio,
            Some(_) | None => Self::Other,
        }
    }

    /// What the engine's own systemd mode puts into `$container`. For another engine it is `oci`, with which systemd looks for
    /// the engine's marks.
    #[must_use]
    pub fn container_variable(self) -> &'static str {
        match self {
            Self::Podman => "podman",
            Self::Crio => "crio",
            Self::Other => "oci",
        }
    }

    /// Whether poststop hooks are called though config.json doesn't list them. podman leaves them out and calls them itself
    /// (all versions up to 5.8).
    #[must_use]
    pub fn calls_poststop_itself(self) -> bool {
        self == Self::Podman
    }
}

/// The OCI runtime that called this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Crun,
    /// runc, youki, and all others.
    Other,
}

impl Runtime {
    /// Tells it by the state: `root` in it is crun's own field.
    #[must_use]
    pub fn of(state: &State) -> Self {
        if state.root.is_some() { Self::Crun } else { Self::Other }
    }

    /// Whether all mounts are made private after the hooks unless config.json has a `rootfsPropagation`, as crun does (1.8 to
    /// 1.28).
    #[must_use]
    pub fn makes_mounts_private(self) -> bool {
        self == Self::Crun
    }

    /// Whether hooks at createContainer start in the bundle, as crun's do, and not in the container's root, as runc's.
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
    fn an_engine_is_known_by_its_annotation() {
        for (manager, engine, variable) in [
            (Some("libpod"), Engine::Podman, "podman"),
            (Some("cri-o"), Engine::Crio, "crio"),
            (Some("podman"), Engine::Other, "oci"),
            (None, Engine::Other, "oci"),
        ] {
            assert_eq!(Engine::of(manager), engine, "{manager:?}");
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
