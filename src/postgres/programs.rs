//! Program files: where they are, and whether one is the Postgres server.
//!
//! The server is recognized from its file, because running `postgres --version` costs more than all
//! other checks of a start together.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memchr::memmem;
use nix::unistd::{AccessFlags, access};

/// More links than an installation has.
const MAX_LINKS: usize = 16;
const CHUNK: usize = 256 << 10;
/// A function that the server exports to its extensions. Clients do not have it.
const SERVER_SYMBOL: &[u8] = b"\0PostmasterMain\0";
/// The names of exported functions are at the beginning of the file.
const SYMBOLS_WITHIN: u64 = 2 << 20;
/// Names under which Postgres itself and its wrappers are installed.
const SERVER_NAMES: [&str; 2] = ["postgres", "postmaster"];

/// Whether this process may run the file.
pub(super) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file()) && access(path, AccessFlags::X_OK).is_ok()
}

/// The first program of this name in the folders of `path`, the value of PATH.
pub(crate) fn find_in_path(name: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let mut folders = std::env::split_paths(path.unwrap_or_default());
    folders.find_map(|folder| Some(folder.join(name)).filter(|program| is_program(program)))
}

/// The folder in which a program stands, then those to which it leads, link by link.
pub(super) fn folders(program: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut add = |at: &Path| {
        let folder = at.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).to_owned();
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    };
    let mut at = program.to_owned();
    add(&at);
    for _ in 0..MAX_LINKS {
        let Ok(target) = at.read_link() else { break };
        at = at.with_file_name(target);
        add(&at);
    }
    if let Ok(end) = program.canonicalize() {
        add(&end);
    }
    folders
}

/// Whether the file itself shows that it is the server: it is the binary, or a script under the
/// server's name. `false`: only `--version` can tell. Reads up to 2 MiB, so call it off the
/// runtime's workers.
pub(super) fn is_evidently_server(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut file = file.take(SYMBOLS_WITHIN);
    let mut magic = Vec::new();
    if file.by_ref().take(2).read_to_end(&mut magic).is_err() {
        return false;
    }
    if magic == b"#!" {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return SERVER_NAMES.iter().any(|server| name.contains(server));
    }
    contains(file, SERVER_SYMBOL).unwrap_or(false)
}

/// Whether the bytes occur.
pub(super) fn contains(mut file: impl Read, bytes: &[u8]) -> io::Result<bool> {
    let finder = memmem::Finder::new(bytes);
    // The end of the previous chunk, so that a match across the boundary is found.
    let overlap = bytes.len().saturating_sub(1);
    let mut window = Vec::with_capacity(CHUNK.saturating_add(overlap));
    loop {
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        if finder.find(&window).is_some() {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        window.drain(..window.len().saturating_sub(overlap));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn bytes_are_found_over_a_border() {
        let wanted = SERVER_SYMBOL;
        for at in [0, 1, CHUNK - 5, CHUNK, 2 * CHUNK - 1] {
            let mut bytes = vec![b'-'; 2 * CHUNK + 100];
            bytes[at..at + wanted.len()].copy_from_slice(wanted);
            assert!(contains(bytes.as_slice(), wanted).unwrap(), "{at}");
        }
        assert!(!contains(vec![b'-'; 3 * CHUNK].as_slice(), wanted).unwrap());
        assert!(!contains([].as_slice(), wanted).unwrap());
    }

    #[test]
    fn the_binary_and_scripts_of_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut binary = b"\x7fELF".to_vec();
        binary.resize(CHUNK, 0);
        let client = binary.clone();
        binary.extend_from_slice(b"\0ParseConfigFp\0PostmasterMain\0PostgresMain\0");
        for (name, content, expected) in [
            ("postgres", binary.as_slice(), true),
            ("server-of-mine", &binary, true),
            ("postgres2", &client, false),
            ("pg_ctl", &client, false),
            ("psql", b"#!/usr/bin/perl\n# PostmasterMain", false),
            ("start.sh", b"#!/bin/sh\n", false),
            ("postgres-wrapper.sh", b"#!/bin/sh\n", true),
            ("postmaster", b"#!/bin/sh\n", true),
            ("empty", b"", false),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            assert_eq!(is_evidently_server(&path), expected, "{name}");
        }
        assert!(!is_evidently_server(&dir.path().join("missing")));
        assert!(!is_evidently_server(Path::new("/bin/ls")));
    }

    #[test]
    fn folders_follow_each_link() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for folder in ["local", "opt", "real"] {
            fs::create_dir(dir.join(folder)).unwrap();
        }
        fs::write(dir.join("real/postgres"), "").unwrap();
        symlink("../real/postgres", dir.join("opt/postgres")).unwrap();
        symlink(dir.join("opt/postgres"), dir.join("local/postgres")).unwrap();
        let found = folders(&dir.join("local/postgres"));
        let expected = [dir.join("local"), dir.join("local/../opt"), dir.join("real")];
        // A link is as it was written, so a folder can appear twice.
        let real = |folders: &[PathBuf]| {
            let mut real: Vec<_> = folders.iter().map(|it| it.canonicalize().unwrap()).collect();
            real.dedup();
            real
        };
        assert_eq!(real(&found), real(&expected), "{found:?}");
        symlink("loop", dir.join("loop")).unwrap();
        assert_eq!(folders(&dir.join("loop")), std::slice::from_ref(&dir));
        assert_eq!(folders(Path::new("postgres")), [Path::new(".")]);
    }

    #[test]
    fn only_what_can_be_run_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        for folder in [&first, &second] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("cgexec"), "").unwrap();
        }
        let path = std::env::join_paths([&first, &second]).unwrap();
        assert_eq!(find_in_path(Path::new("cgexec"), Some(&path)), None);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(second.join("cgexec"), mode).unwrap();
        assert_eq!(find_in_path(Path::new("cgexec"), Some(&path)), Some(second.join("cgexec")));
        assert_eq!(find_in_path(Path::new("cgexec"), None), None);
    }
}
