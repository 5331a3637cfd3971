//! A server that offers a `neon` extension: a copy of an installation, because Postgres looks for
//! extensions beside its own program, with an extension that holds nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use compute_ctl::dev::servers::Server;
use tempfile::TempDir;

use super::bed::folder;

/// As in Neon's packages.
const CONTROL: &str = "default_version = '1.6'\nrelocatable = true\ntrusted = true\n";

pub struct NeonStub {
    pub server: Server,
    _dir: TempDir,
}

impl NeonStub {
    pub fn new(server: &Server) -> Self {
        let [bin, lib, share] = places(server);
        let root = common_ancestor(&bin, &share);
        let dir = folder("neon-stub");
        let place = |path: &Path| dir.path().join(path.strip_prefix(&root).unwrap());

        // The program finds everything else relative to where it is.
        fs::create_dir_all(place(&bin)).unwrap();
        for entry in fs::read_dir(&bin).unwrap() {
            let entry = entry.unwrap();
            let real = entry.path().canonicalize().unwrap();
            fs::copy(real, place(&bin).join(entry.file_name())).unwrap();
        }
        let all_libraries = root.join("lib");
        let lib = if bin.starts_with(&all_libraries) { lib } else { all_libraries };
        symlink(&lib, place(&lib)).unwrap();
        let extensions = place(&share).join("extension");
        fs::create_dir_all(&extensions).unwrap();
        link_all(&share, &place(&share));
        link_all(&share.join("extension"), &extensions);
        fs::write(extensions.join("neon.control"), CONTROL).unwrap();
        for script in ["neon--1.5.sql", "neon--1.5--1.6.sql", "neon--1.6.sql"] {
            fs::write(extensions.join(script), "-- nothing\n").unwrap();
        }
        let bin_dir = place(&bin);
        let server = Server { postgres: bin_dir.join("postgres"), bin_dir, ..server.clone() };
        Self { server, _dir: dir }
    }
}

/// Where an installation has its programs, its libraries and its shared files.
fn places(server: &Server) -> [PathBuf; 3] {
    let pg_config = server.program("pg_config");
    ["bin", "lib", "share"].map(|kind| {
        let place = if pg_config.exists() {
            let flag =
                if kind == "lib" { "--pkglibdir".to_owned() } else { format!("--{kind}dir") };
            let output = Command::new(&pg_config).arg(flag).output().unwrap();
            PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
        } else if kind == "share" {
            server.bin_dir.with_file_name("share/postgresql")
        } else {
            server.bin_dir.with_file_name(kind)
        };
        place.canonicalize().unwrap()
    })
}

fn common_ancestor(a: &Path, b: &Path) -> PathBuf {
    a.ancestors().find(|ancestor| b.starts_with(ancestor)).unwrap().to_owned()
}

/// Links what is in a folder, except what is there already.
fn link_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if !target.exists() {
            symlink(entry.path(), target).unwrap();
        }
    }
}
