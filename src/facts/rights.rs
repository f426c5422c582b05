// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this process is permitted to do to the container. For what the container's own processes may do, see
//! [`super::privileges`].

use caps::Capability;

/// What this process is permitted to do to the container.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Whether the capabilities of this process apply in the user namespace that owns the container's mount
    /// namespace, which is the process's own or one below it (user_namespaces(7)).
    pub over_mounts: bool,
    pub user_namespaces: UserNamespaces,
    /// The capabilities of [`Rights::USED`] that this process lacks.
    pub lacking: Vec<Capability>,
}

impl Rights {
    /// The capabilities that steps of a plan may need.
    pub const USED: [Capability; 5] = [
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_MKNOD,
    ];

    /// Returns the rights of root, unless the user namespaces restrict them.
    #[must_use]
    pub fn of_root(user_namespaces: UserNamespaces) -> Self {
        Self { over_mounts: true, user_namespaces, lacking: Vec::new() }
    }

    /// Whether this process has `capability`, which must be one of [`Rights::USED`].
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        !self.lacking.contains(&capability)
    }

    /// Whether this process may mount file systems for the container.
    #[must_use]
    pub fn may_mount(&self) -> bool {
        self.over_mounts && self.has(Capability::CAP_SYS_ADMIN)
    }

    /// Whether this process may create device nodes. CAP_MKNOD doesn't permit that in a user namespace.
    #[must_use]
    pub fn may_make_devices(&self) -> bool {
        !self.user_namespaces.any() && self.has(Capability::CAP_MKNOD)
    }
}

/// Whether this process, and whether the container, is in a user namespace other than the host's, user_namespaces(7).
#[derive(Debug, Clone, Copy)]
pub struct UserNamespaces {
    /// Whether this process is in one. At createContainer it is in the container's own, if there is one.
    pub hook: bool,
    /// Whether config.json lists a user namespace, which the container creates or joins.
    pub container: bool,
}

impl UserNamespaces {
    /// Whether this process or the container is in one. This process may have to act as the container's root on file
    /// systems that were mounted in the container's own user namespace.
    #[must_use]
    pub fn any(self) -> bool {
        self.hook || self.container
    }

    /// Whether the engine is in one. In that case this process is in a user namespace although the container has
    /// none of its own that the process could have entered.
    #[must_use]
    pub fn is_rootless(self) -> bool {
        self.hook && !self.container
    }
}
