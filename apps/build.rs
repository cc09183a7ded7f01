//! How the command is linked, so that it starts fast: `tailwater group` is started once for each change, beside `ip`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Libraries that go into the program instead of being loaded at each start, and the archives they are made of. GCC's
/// unwinder alone takes a tenth of the time until `main`, libelf and zlib half of that.
const STATIC: [(&str, &[&str]); 3] =
    [("libgcc_s.so", &["libgcc_eh.a", "libgcc.a"]), ("libelf.so", &["libelf.a"]), ("libz.so", &["libz.a"])];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        // `DT_RELR` (glibc 2.36): half a megabyte less of relocations to read.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        link_statically();
    }
}

/// The standard library and libbpf-sys name shared libraries. Where a linker looks for one it takes a script, too, as it
/// does for the C library: these name the archives. What has none, or is for another machine, is loaded as ever.
fn link_statically() {
    let native = std::env::var("HOST") == std::env::var("TARGET");
    let Some(folder) = std::env::var_os("OUT_DIR").map(PathBuf::from).filter(|_| native) else { return };
    for (library, archives) in STATIC {
        let found: Option<Vec<String>> = archives.iter().map(|name| archive(name)).collect();
        let script = found.filter(|_| library != "libelf.so" || libelf_is_alone());
        let written = script.map(|archives| {
            let script = format!("GROUP ( {} )\n", archives.join(" "));
            std::fs::write(folder.join(library), script)
        });
        if !matches!(written, Some(Ok(()))) {
            println!("cargo::warning={library} is loaded at each start: there is no archive to link");
        }
    }
    println!("cargo::rustc-link-search=native={}", folder.display());
}

/// Where the C compiler has an archive; it answers with the name alone if it has none.
fn archive(name: &str) -> Option<String> {
    let answer = Command::new("cc").arg(format!("-print-file-name={name}")).output().ok()?;
    let path = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    Some(path).filter(|path| Path::new(path).is_absolute() && Path::new(path).exists())
}

/// Newer ones than Debian 12's need a library for another compression.
fn libelf_is_alone() -> bool {
    let answer = Command::new("pkg-config").args(["--static", "--libs-only-l", "libelf"]).output();
    let libraries = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned()).unwrap_or_default();
    libraries.contains("-lelf") && libraries.split_whitespace().all(|library| ["-lelf", "-lz"].contains(&library))
}
