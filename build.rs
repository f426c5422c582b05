// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Links static programs with a linker script that keeps libselinux's constructor from running at startup;
//! src/sys/libselinux.ld explains why. Dynamic builds are linked without the script, because the dynamic linker runs
//! the constructors of shared libraries.

fn main() {
    const SCRIPT: &str = "src/sys/libselinux.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if is_static && std::env::var_os("CARGO_FEATURE_SELINUX").is_some() {
        println!("cargo::rustc-link-arg-bins=-T{}/{SCRIPT}", variable("CARGO_MANIFEST_DIR"));
    }
}
