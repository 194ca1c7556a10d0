//! Builds the clock library, which goes into other people's programs and so can't be part of this crate.

use std::{env, fs, path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=preload/clock.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| env::var(name).unwrap_or_default();
    let library = Path::new(&variable("OUT_DIR")).join("libforefend_clock.so");
    let supported = variable("CARGO_CFG_TARGET_OS") == "linux"
        && variable("CARGO_CFG_TARGET_ENV") == "gnu"
        && ["x86_64", "aarch64"].contains(&variable("CARGO_CFG_TARGET_ARCH").as_str());
    let built = supported
        && Command::new(variable("RUSTC"))
            .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "forefend_clock"])
            .args(["-C", "opt-level=2", "-C", "panic=abort", "-C", "strip=symbols", "--target"])
            .arg(variable("TARGET"))
            .arg("-o")
            .arg(&library)
            .arg("preload/clock.rs")
            .status()
            .is_ok_and(|status| status.success());
    if !built {
        if supported {
            println!(
                "cargo::warning=the clock library can't be built here: clock skew will not be supported"
            );
        }
        fs::write(&library, []).expect("OUT_DIR is writable");
    }
}
