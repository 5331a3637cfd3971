//! Compiles `proto/page_api.proto`, for which no `protoc` is needed, compresses the description of the
//! API, and notes the commit and the target.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::read::GzEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto/page_api.proto");
    let files = protox::compile(["page_api.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // The transports are chosen where they are used.
        .build_transport(false)
        // Slices of the received buffer instead of copies of it.
        .bytes(".page_api.GetBaseBackupResponseChunk")
        .compile_fds(files)?;
    compress("openapi.json")?;
    println!("cargo::rustc-env=COMPUTE_CTL_GIT_HASH={}", git_hash());
    println!("cargo::rustc-env=COMPUTE_CTL_TARGET={}", std::env::var("TARGET")?);
    Ok(())
}

/// Writes `FILE.gz` to the folder of generated files.
fn compress(file: &str) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={file}");
    let text = std::fs::read(file)?;
    let folder = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let mut packed = std::fs::File::create(Path::new(&folder).join(format!("{file}.gz")))?;
    std::io::copy(&mut GzEncoder::new(text.as_slice(), Compression::best()), &mut packed)?;
    Ok(())
}

/// The commit for `compute_ctl_build_info`: the environment variable `GIT_HASH`, for builds without
/// a repository; else what git says; else `unknown`. Git is asked for release builds only: others are
/// not operated, and each commit would compile the whole program again.
fn git_hash() -> String {
    println!("cargo::rerun-if-env-changed=GIT_HASH");
    let fits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(hash) = std::env::var("GIT_HASH").ok().filter(|text| fits(text)) {
        return hash;
    }
    let unknown = || "unknown".to_owned();
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // The sources may lie within the repository of something else.
    let is_ours = Path::new(".git").exists();
    if !is_release || !is_ours {
        return unknown();
    }
    // HEAD changes with a checkout, the file of its branch with a commit; a branch may be packed. A
    // file that does not exist would make each build run this again.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"]).filter(|text| fits(text)).unwrap_or_else(unknown)
}

/// The answer of git in one line; `None` if it fails or is not installed.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
