//! A server with the extensions `neon` and `databricks_auth`, almost empty ones for a vanilla
//! Postgres: a copy of the server's tree, with links to everything that is the same.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use compute_ctl::dev::servers::Server;
use tempfile::TempDir;

use crate::support::bed::{folder, install};

/// Versions that the stub has, with updates between neighbours.
const VERSIONS: [&str; 2] = ["1.5", "1.6"];
/// The object on which Lakebase mode grants privileges.
const NEON: &str = "CREATE FUNCTION get_perf_counters() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION get_perf_counters() FROM PUBLIC;
CREATE VIEW neon_perf_counters AS SELECT 1 AS value;
";
/// The table records the settings of the session that created the extension.
const AUTH: &str = "CREATE VIEW databricks_auth_metrics AS SELECT 1 AS value;
CREATE TABLE databricks_auth_made AS
SELECT current_setting('statement_timeout') AS statement_timeout, current_setting('role') AS role;
";

pub struct NeonStub {
    /// The server with the extension.
    pub server: Server,
    extensions: PathBuf,
    _dir: TempDir,
}

impl NeonStub {
    pub async fn new(server: &Server) -> Self {
        let shared = install(server).await.sharedir.expect("no share folder of the server");
        let extensions = shared.join("extension").canonicalize().unwrap();
        let programs = server.bin_dir.canonicalize().unwrap();
        // A server finds its files relative to its own program, so both must move together.
        let common = programs.ancestors().find(|dir| extensions.starts_with(dir)).unwrap();

        let dir = folder("neon-stub");
        let root = dir.path().join("tree");
        mirror(common, &root, &[&programs, &extensions]);
        let place = |path: &Path| root.join(path.strip_prefix(common).unwrap());
        let bin_dir = place(&programs);
        let postgres = bin_dir.join("postgres");
        fs::remove_file(&postgres).unwrap();
        fs::copy(&server.postgres, &postgres).unwrap();
        let extensions = place(&extensions);
        write_extension(&extensions);
        open_to_all(dir.path());
        let server = Server { bin_dir, postgres, ..server.clone() };
        Self { server, extensions, _dir: dir }
    }

    /// Has the update between these versions run a script.
    pub fn write_update(&self, from: &str, to: &str, script: &str) {
        put(self.extensions.join(format!("neon--{from}--{to}.sql")), script);
    }

    /// Has the creation of this version run a script.
    pub fn write_creation(&self, version: &str, script: &str) {
        put(self.extensions.join(format!("neon--{version}.sql")), script);
    }

    /// Has the package offer this version from now on.
    pub fn offer(&self, version: &str) {
        write_control(&self.extensions, version);
    }

    /// Adds an extension of one version that is empty.
    pub fn add_extension(&self, name: &str) {
        let control = "default_version = '1.0'\nrelocatable = true\n";
        put(self.extensions.join(format!("{name}.control")), control);
        put(self.extensions.join(format!("{name}--1.0.sql")), "-- nothing\n");
    }
}

fn write_control(dir: &Path, version: &str) {
    let control = format!("default_version = '{version}'\nrelocatable = true\ntrusted = true\n");
    put(dir.join("neon.control"), &control);
}

fn write_extension(dir: &Path) {
    write_control(dir, VERSIONS[VERSIONS.len() - 1]);
    for version in VERSIONS {
        put(dir.join(format!("neon--{version}.sql")), NEON);
    }
    put(dir.join("databricks_auth.control"), "default_version = '1.0'\n");
    put(dir.join("databricks_auth--1.0.sql"), AUTH);
    for pair in VERSIONS.windows(2) {
        put(dir.join(format!("neon--{}--{}.sql", pair[0], pair[1])), "-- nothing\n");
    }
}

/// Replaces a link to the real extension, if there is one.
fn put(path: PathBuf, text: &str) {
    let _ = fs::remove_file(&path);
    fs::write(path, text).unwrap();
}

/// Makes a folder that consists of links, except the folders that lead to `real` ones.
fn mirror(from: &Path, to: &Path, real: &[&Path]) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if real.iter().any(|real| real.starts_with(&path)) {
            mirror(&path, &target, real);
        } else {
            symlink(&path, &target).unwrap();
        }
    }
}

fn open_to_all(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            open_to_all(&path);
        }
    }
}
