// SPDX-License-Identifier: LGPL-2.1-or-later
//! Where the library is: OOH_LIB_DIR, or what pkg-config says, or the linker's own path.
use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=OOH_LIB_DIR");
    println!("cargo:rustc-link-lib=ooh");
    if let Ok(dir) = env::var("OOH_LIB_DIR") {
        println!("cargo:rustc-link-search=native={}", dir);
        return;
    }
    let found = Command::new("pkg-config")
        .args(["--variable=libdir", "libooh"])
        .output();
    if let Ok(output) = found {
        let dir = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && !dir.trim().is_empty() {
            println!("cargo:rustc-link-search=native={}", dir.trim());
        }
    }
}
