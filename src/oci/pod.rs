// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods: the annotations that show whether a container is in a pod, and under which name.
//!
//! No specification defines these keys. They are what CRI-O, containerd and podman write into config.json.

use std::fmt;

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

/// containerd's annotation for the type of container.
pub const CRI_TYPE: &str = "io.kubernetes.cri.container-type";
/// CRI-O's and containerd's annotations for the type of container. Before 5.0, podman also wrote CRI-O's.
const TYPES: [&str; 2] = ["io.kubernetes.cri-o.ContainerType", CRI_TYPE];
/// The ID of the pod that the container is in. Since 5.0, podman writes this but no type.
const SANDBOX: &str = "io.kubernetes.cri-o.SandboxID";
/// The keys of the container's name: the kubelet's label, which CRI-O copies to an annotation, and containerd's own annotation.
const NAMES: [&str; 2] = ["io.kubernetes.container.name", "io.kubernetes.cri.container-name"];

/// The keys of a container's names: the kubelet's labels, which CRI-O turns into annotations, and containerd's own.
const POD_NAMES: [&str; 2] = ["io.kubernetes.pod.name", "io.kubernetes.cri.sandbox-name"];
const POD_NAMESPACES: [&str; 2] = ["io.kubernetes.pod.namespace", "io.kubernetes.cri.sandbox-namespace"];
/// nerdctl has no pods.
const NERDCTL_NAME: &str = "nerdctl/name";

/// The names by which a user knows a container, for messages. An engine writes them as annotations, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerNames {
    pub container: Option<String>,
    /// The namespace and the name of its pod.
    pub pod: Option<(String, String)>,
}

impl ContainerNames {
    /// Reads the names from annotations. Ignores values that can't be names, since a container's author may write
    /// anything there.
    #[must_use]
    pub fn of<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Self {
        let name =
            |keys: &[&str]| keys.iter().find_map(|key| annotation(key)).filter(|name| is_name(name)).map(str::to_owned);
        let container = name(&NAMES).or_else(|| name(&[NERDCTL_NAME]));
        Self { container, pod: name(&POD_NAMESPACES).zip(name(&POD_NAMES)) }
    }
}

/// Whether a text can be the name of a container, a pod or a namespace: Kubernetes and the engines allow these characters, and
/// Kubernetes at most 253 of them.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(is_allowed)
}

impl fmt::Display for ContainerNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.container, &self.pod) {
            (Some(container), Some((namespace, pod))) => write!(f, " (container {container} in pod {namespace}/{pod})"),
            (None, Some((namespace, pod))) => write!(f, " (in pod {namespace}/{pod})"),
            (Some(container), None) => write!(f, " ({container})"),
            (None, None) => Ok(()),
        }
    }
}

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

    #[test]
    fn names_are_printed_as_far_as_they_are_known() {
        for (annotations, printed) in [
            (&[][..], ""),
            (&[("nerdctl/name", "web")], " (web)"),
            (&[("nerdctl/name", "we b\n")], ""),
            (
                &[("io.kubernetes.cri.sandbox-name", "site"), ("io.kubernetes.cri.sandbox-namespace", "default")],
                " (in pod default/site)",
            ),
            (&[("io.kubernetes.pod.name", "site"), ("io.kubernetes.container.name", "web")], " (web)"),
            (
                &[
                    ("io.kubernetes.pod.name", "site"),
                    ("io.kubernetes.pod.namespace", "default"),
                    ("io.kubernetes.container.name", "web"),
                ],
                " (container web in pod default/site)",
            ),
        ] {
            let find = |key: &str| annotations.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
            assert_eq!(ContainerNames::of(find).to_string(), printed, "{annotations:?}");
        }
    }
}
