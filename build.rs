// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Takes libselinux's constructor out of the start of static programs; src/sys/libselinux.ld says why. The constructor of
//! a shared library is the dynamic linker's to run, so that plain builds are linked without the script.

fn main() {
    const SCRIPT: &str = "src/sys/libselinux.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if is_static && std::env::var_os("CARGO_FEATURE_SELINUX").is_some() {
        println!("cargo::rustc-link-arg-bins=-T{}/{SCRIPT}", variable("CARGO_MANIFEST_DIR"));
    }
}
