// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the container's annotations that concern this hook.

use std::collections::{BTreeMap, BTreeSet};

use super::GatherError;
use crate::bundle::{Bundle, BundleError};
use crate::facts::options::{Key, OptionError, Options, PREFIX, Policy};
use crate::facts::{Engine, Switch};
use crate::interface::MOUNT_CONTEXT_TYPE;
use crate::oci::Text;
use crate::oci::config;
use crate::oci::pod::Pod;
use crate::oci::state::State;

/// The annotation that enables or disables this hook, and the environment variable of the same name that
/// this hook's predecessor used.
pub const SWITCH: &str = "oci-systemd-hook";
/// The annotation with an image's `StopSignal`, as converted by image-spec. podman writes the signal's number there.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// The annotations of a container.
#[derive(Debug)]
pub struct Annotations<'a> {
    of_config: BTreeMap<Text<'a>, Text<'a>>,
    of_state: &'a BTreeMap<String, String>,
    /// The pod that the container is in. All containers of a pod have the pod's annotations.
    pub pod: Pod,
}

impl<'a> Annotations<'a> {
    /// Reads the annotations of config.json and of the state, because Docker's config.json may have none.
    pub fn of(bundle: &'a Bundle<'_>) -> Result<Self, BundleError> {
        Ok(Self::new(bundle.read_with(config::annotations)?, bundle.state))
    }

    /// Uses the annotations of the state alone.
    #[must_use]
    pub fn of_state(state: &'a State) -> Self {
        Self::new(BTreeMap::new(), state)
    }

    fn new(of_config: BTreeMap<Text<'a>, Text<'a>>, state: &'a State) -> Self {
        let mut all = Self { of_config, of_state: &state.annotations, pod: Pod::None };
        all.pod = Pod::of(|key| all.get(key));
        all
    }

    /// Returns the value of a key. config.json's annotations take precedence over the state's.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let of_state = || self.of_state.get(key).map(String::as_str);
        self.of_config.get(key).map(AsRef::as_ref).or_else(of_state)
    }

    /// Recognizes the engine.
    pub fn engine(&self, state: &State) -> Engine {
        Engine::of(|key| self.get(key), state.bundle().ok())
    }

    /// Returns the key that applies only to this container of a pod.
    fn own(&self, key: &str) -> Option<String> {
        self.pod.name().map(|name| format!("{key}/{name}"))
    }

    /// Determines whether the author wants this hook. `disabled` wins, wherever it is set, except that in a pod an
    /// annotation for one container takes precedence over one for all. `environment` is the value of the variable
    /// of the same name.
    pub fn switch(&self, environment: Option<&str>) -> Result<Switch, GatherError> {
        if let Some(own) = self.own(SWITCH).filter(|own| self.get(own).is_some()) {
            return self.switch_by(own, environment);
        }
        let switch = self.switch_by(SWITCH.to_owned(), environment)?;
        Ok(match switch {
            Switch::Enabled(_) if self.pod != Pod::None => Switch::EnabledForPod,
            other => other,
        })
    }

    fn switch_by(&self, key: String, environment: Option<&str>) -> Result<Switch, GatherError> {
        let said = [self.of_config.get(key.as_str()).map(AsRef::as_ref), self.of_state.get(&key).map(String::as_str)];
        if said.contains(&Some("disabled")) {
            return Ok(Switch::Disabled(format!("the annotation {key}")));
        }
        match said.into_iter().flatten().next() {
            Some("enabled") | None if environment == Some("disabled") => {
                Ok(Switch::Disabled(format!("the environment variable {SWITCH}")))
            }
            Some("enabled") => Ok(Switch::Enabled(key)),
            Some(other) => Err(GatherError::Switch { key, value: other.to_owned() }),
            None => Ok(Switch::Unset),
        }
    }

    /// Parses the options that the author set, as far as the host honors them.
    pub fn options(&self, policy: &Policy) -> Result<Options, OptionError> {
        let mut options = Options::new(policy.clone());
        let mut known = BTreeSet::new();
        for whole in self.of_config.keys().map(AsRef::as_ref).chain(self.of_state.keys().map(String::as_str)) {
            let Some(rest) = whole.strip_prefix(PREFIX) else { continue };
            let (name, container) = rest.split_once('/').map_or((rest, None), |(name, of)| (name, Some(of)));
            // Annotations for another container of the pod aren't checked.
            if container.is_none() || container == self.pod.name() {
                known.insert(Key::parse(name).ok_or_else(|| OptionError::Key(whole.to_owned()))?);
            }
        }
        for option in known {
            let key = option.annotation().to_owned();
            let own = self.own(&key).filter(|own| self.get(own).is_some());
            let key = own.unwrap_or(key);
            if !policy.allows(option) {
                options.not_allowed.push(key);
            } else if let Some(value) = self.get(&key) {
                options.set(option, key, value)?;
            }
        }
        Ok(options)
    }
}

/// The facts that come from annotations.
#[derive(Debug)]
pub struct AnnotationFacts {
    pub options: Options,
    /// The signal with which the engine stops the container.
    pub(super) stop_signal: Option<String>,
    pub(super) engine: Engine,
    /// How mounts get their SELinux label; see [`MOUNT_CONTEXT_TYPE`].
    pub(super) mount_context: Option<String>,
}

/// Reads the annotations of the state and of config.json.
pub fn annotation_facts(bundle: &Bundle<'_>, policy: &Policy) -> Result<AnnotationFacts, GatherError> {
    let annotations = Annotations::of(bundle)?;
    let owned = |key| annotations.get(key).map(str::to_owned);
    Ok(AnnotationFacts {
        options: annotations.options(policy)?,
        stop_signal: owned(STOP_SIGNAL),
        engine: annotations.engine(bundle.state),
        mount_context: owned(MOUNT_CONTEXT_TYPE),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::oci::document::Document;

    const CONTAINER: (&str, &str) = ("io.kubernetes.cri-o.ContainerType", "container");
    const NAME: (&str, &str) = ("io.kubernetes.container.name", "web");

    fn ask<T>(annotations: &[(&str, &str)], question: impl FnOnce(&Annotations<'_>) -> T) -> T {
        let state = State::parse(br#"{"id":"c"}"#).unwrap();
        let map: BTreeMap<_, _> = annotations.iter().copied().collect();
        let text = serde_json::json!({ "annotations": map }).to_string();
        let document = Document::parse(text.into_bytes()).unwrap();
        question(&Annotations::of(&Bundle::of(&state, "config.json".into(), document)).unwrap())
    }

    #[test]
    fn a_pods_word_is_for_all_and_a_containers_own_for_it_alone() {
        let enabled = |key: &str| Switch::Enabled(key.to_owned());
        let disabled = |key: &str| Switch::Disabled(format!("the annotation {key}"));
        for (annotations, expected) in [
            (&[][..], Switch::Unset),
            (&[("oci-systemd-hook", "enabled")], enabled("oci-systemd-hook")),
            (&[("oci-systemd-hook/web", "enabled")], Switch::Unset),
            (&[CONTAINER, NAME], Switch::Unset),
            (&[CONTAINER, NAME, ("oci-systemd-hook", "enabled")], Switch::EnabledForPod),
            (&[CONTAINER, ("oci-systemd-hook", "enabled")], Switch::EnabledForPod),
            (&[CONTAINER, NAME, ("oci-systemd-hook/web", "enabled")], enabled("oci-systemd-hook/web")),
            (&[CONTAINER, NAME, ("oci-systemd-hook/db", "enabled")], Switch::Unset),
            (&[CONTAINER, ("oci-systemd-hook/web", "enabled")], Switch::Unset),
            (
                &[CONTAINER, NAME, ("oci-systemd-hook", "enabled"), ("oci-systemd-hook/web", "disabled")],
                disabled("oci-systemd-hook/web"),
            ),
            (
                &[CONTAINER, NAME, ("oci-systemd-hook", "disabled"), ("oci-systemd-hook/web", "enabled")],
                enabled("oci-systemd-hook/web"),
            ),
            (&[CONTAINER, NAME, ("oci-systemd-hook", "disabled")], disabled("oci-systemd-hook")),
        ] {
            assert_eq!(ask(annotations, |all| all.switch(None).unwrap()), expected, "{annotations:?}");
        }
        assert!(ask(&[("oci-systemd-hook", "yes")], |all| all.switch(None).is_err()));
    }

    #[test]
    fn options_are_checked_and_allowed() {
        const CGROUP: &str = "oci-systemd-hook.cgroup";
        const RUN_SIZE: &str = "oci-systemd-hook.run-size";
        const STOP_SIGNAL: &str = "oci-systemd-hook.stop-signal";
        const TMP_SIZE: &str = "oci-systemd-hook.tmp-size";
        const OWN: &str = "oci-systemd-hook.run-size/web";
        let policy = Policy::only(vec![Key::RunSize, Key::Cgroup, Key::StopSignal]);
        let read = |annotations: &[(&str, &str)]| ask(annotations, |all| all.options(&policy));
        let none = Options::new(policy.clone());
        let mut refused = none.clone();
        refused.not_allowed.push(TMP_SIZE.to_owned());
        let set = |option, key: &str, value| {
            let mut options = none.clone();
            options.set(option, key.to_owned(), value).unwrap();
            options
        };
        for (annotations, expected) in [
            (&[][..], none.clone()),
            (&[(RUN_SIZE, "64m")], set(Key::RunSize, RUN_SIZE, "64m")),
            (&[(CGROUP, "legacy")], set(Key::Cgroup, CGROUP, "legacy")),
            (&[(TMP_SIZE, "nonsense")], refused),
            (&[(STOP_SIGNAL, "unchanged")], set(Key::StopSignal, STOP_SIGNAL, "unchanged")),
            (&[CONTAINER, NAME, (OWN, "5%")], set(Key::RunSize, OWN, "5%")),
            (&[CONTAINER, NAME, (RUN_SIZE, "64m"), (OWN, "5%")], set(Key::RunSize, OWN, "5%")),
            // These options are for another container.
            (&[CONTAINER, NAME, ("oci-systemd-hook.run-size/db", "5%")], none.clone()),
            (&[CONTAINER, NAME, ("oci-systemd-hook.run-szie/db", "5")], none.clone()),
        ] {
            assert_eq!(read(annotations).unwrap(), expected, "{annotations:?}");
        }
        for annotations in [
            [("oci-systemd-hook.run-szie", "64m")],
            [(RUN_SIZE, "64 MB")],
            [(CGROUP, "v1")],
            [(STOP_SIGNAL, "TERM")],
            [("oci-systemd-hook.", "")],
        ] {
            let error = read(&annotations).unwrap_err().to_string();
            assert!(error.contains(annotations[0].0), "{error}");
        }
    }
}
