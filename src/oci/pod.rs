// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods: which of a container's annotations tell that it is in one, and by what name.
//!
//! No specification has these keys; they are what CRI-O, containerd and podman write into config.json.

/// Whether a container is in a pod. A pod's annotations are given to each of its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pod {
    /// It isn't, so its annotations are its own.
    None,
    /// It is the one that only holds the pod's namespaces.
    Sandbox,
    /// It is, and this is its name there, if config.json tells it.
    Member(Option<String>),
}

/// CRI-O's and containerd's word for what the container is; also podman's before 5.0.
const TYPES: [&str; 2] = ["io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri.container-type"];
/// The pod that the container is in; podman writes no type from 5.0 on.
const SANDBOX: &str = "io.kubernetes.cri-o.SandboxID";
/// The kubelet's label, which CRI-O makes an annotation of, and containerd's own.
const NAMES: [&str; 2] = ["io.kubernetes.container.name", "io.kubernetes.cri.container-name"];

impl Pod {
    /// Reads it from annotations.
    #[must_use]
    pub fn of<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        match TYPES.into_iter().find_map(&annotation) {
            Some("sandbox") => Self::Sandbox,
            None if annotation(SANDBOX).is_none() => Self::None,
            Some(_) | None => Self::Member(NAMES.into_iter().find_map(annotation).map(str::to_owned)),
        }
    }

    /// The container's name in its pod.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Member(name) => name.as_deref(),
            Self::None | Self::Sandbox => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_engines_words() {
        let member = |name: &str| Pod::Member(Some(name.to_owned()));
        for (annotations, pod) in [
            (&[][..], Pod::None),
            (&[("io.kubernetes.container.name", "web")], Pod::None),
            (
                &[("io.kubernetes.cri-o.ContainerType", "container"), ("io.kubernetes.container.name", "web")],
                member("web"),
            ),
            (
                &[("io.kubernetes.cri.container-type", "container"), ("io.kubernetes.cri.container-name", "web")],
                member("web"),
            ),
            (&[("io.kubernetes.cri-o.ContainerType", "sandbox")], Pod::Sandbox),
            (&[("io.kubernetes.cri-o.ContainerType", "sandbox"), ("io.kubernetes.cri-o.SandboxID", "x")], Pod::Sandbox),
            (&[("io.kubernetes.cri.container-type", "sandbox")], Pod::Sandbox),
            (&[("io.kubernetes.cri-o.SandboxID", "x")], Pod::Member(None)),
        ] {
            let find = |key: &str| annotations.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            assert_eq!(Pod::of(find), pod, "{annotations:?}");
        }
    }
}
