// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods: the annotations that show whether a container is in a pod, and under which name.
//!
//! No specification defines these keys. They are what CRI-O, containerd and podman write into config.json.

/// Whether a container is in a pod. Each container of a pod also gets the pod's annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pod {
    /// The container isn't in a pod, so its annotations are its own.
    None,
    /// The container only holds the pod's namespaces.
    Sandbox,
    /// The container is in a pod, under this name if config.json contains it.
    Member(Option<String>),
}

/// CRI-O's and containerd's annotations for the type of container. Before 5.0, podman also wrote CRI-O's.
const TYPES: [&str; 2] = ["io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri.container-type"];
/// The ID of the pod that the container is in. Since 5.0, podman writes this but no type.
const SANDBOX: &str = "io.kubernetes.cri-o.SandboxID";
/// The container's name: the kubelet's label, which CRI-O copies to an annotation, and containerd's own annotation.
const NAMES: [&str; 2] = ["io.kubernetes.container.name", "io.kubernetes.cri.container-name"];

impl Pod {
    /// Determines the pod from a container's annotations.
    #[must_use]
    pub fn of<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        match TYPES.into_iter().find_map(&annotation) {
            Some("sandbox") => Self::Sandbox,
            None if annotation(SANDBOX).is_none() => Self::None,
            Some(_) | None => Self::Member(NAMES.into_iter().find_map(annotation).map(str::to_owned)),
        }
    }

    /// Returns the container's name in its pod.
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
