//! Compiles the BPF programs and writes their skeletons.

use std::env;
use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

const PROGRAMS: [&str; 2] = ["steer", "tools"];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    println!("cargo:rerun-if-changed=bpf");
    for name in PROGRAMS {
        if let Err(error) = build(&root, &out, name) {
            eprintln!("bpf/{name}.bpf.c: {error:#?}");
            eprintln!("needed: clang 14 or later, libbpf-dev and the kernel headers (`ci/setup` installs them)");
            std::process::exit(1);
        }
    }
}

fn build(root: &Path, out: &Path, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut args = vec!["-Wall".into(), "-Wextra".into(), "-Werror".into()];
    args.extend(multiarch_include().map(|dir| format!("-I{}", dir.display())));
    SkeletonBuilder::new()
        .source(root.join("bpf").join(format!("{name}.bpf.c")))
        .clang_args(args)
        .build_and_generate(out.join(format!("{name}.skel.rs")))?;
    Ok(())
}

/// Debian keeps `asm/types.h` in a directory named for the architecture, which clang does not search when
/// its target is bpf.
fn multiarch_include() -> Option<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
    let dir = PathBuf::from(format!("/usr/include/{arch}-linux-gnu"));
    dir.is_dir().then_some(dir)
}
