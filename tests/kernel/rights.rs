// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests what the hook reports if it lacks a privilege, before it changes anything.

use crate::Check;
use crate::bundle::{Bundle, Cgroup, with_bundle};
use crate::hook::{Finished, How};
use crate::namespace::Realm;

/// Runs the hook through another program, which gets the hook's command line as arguments.
fn by(bundle: &Bundle, program: &str) -> Result<Finished, String> {
    let first = format!("exec {program} \"$0\" \"$@\";");
    bundle.create_as(&How { first: Some(&first), ..How::default() })
}

fn is_refused(realm: Realm, program: &str) -> Check {
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Mounted);
        let watch = bundle.watch();
        by(bundle, program)?.refused(&["cannot mount", "CAP_SYS_ADMIN"])?;
        watch.everything(bundle)?;
        watch.image(bundle)
    })
}

pub fn to_mount(realm: Realm) -> Check {
    is_refused(realm, "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin")
}

/// The hook has all capabilities, but in a user namespace that doesn't own the container's mounts.
pub fn in_another_user_namespace(realm: Realm) -> Check {
    is_refused(realm, "unshare --user --map-root-user")
}

/// A missing privilege that only some copies need causes a warning. The copies here succeed nevertheless, since root
/// owns the image's files.
pub fn to_copy(realm: Realm) -> Check {
    for capability in ["chown", "dac_override", "fowner"] {
        with_bundle(realm, |bundle| {
            bundle.start(Cgroup::Mounted);
            let finished = by(bundle, &format!("setpriv --bounding-set=-{capability} --inh-caps=-{capability}"))?;
            finished.with_warning(&[&format!("CAP_{}", capability.to_uppercase()), "/run"])?;
            ensure!(bundle.root("run/lock").is_dir(), "nothing was copied");
            Ok(())
        })
        .map_err(|message| format!("{capability}: {message}"))?;
    }
    Ok(())
}
