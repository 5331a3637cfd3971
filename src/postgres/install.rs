//! The installed Postgres: its programs, version and features.
//!
//! Checked once, before PGDATA is touched (01 §1.2). Missing features (the `neon` library,
//! `--sync-safekeepers`) are detected from the files here, not by a later failure.
//!
//! Invariant: the program that runs is the one that was named. Its links are not resolved, so that
//! a directory of wrappers keeps working; only the library directories come from the target of a
//! link.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memchr::memmem;
use tokio::process::Command;

use crate::os::children::{Children, RunError};

/// More than any version or path needs.
const OUTPUT_LIMIT: usize = 16 << 10;
/// Option that only Neon's server has.
const SYNC_OPTION: &[u8] = b"--sync-safekeepers";
const CHUNK: usize = 256 << 10;

/// The supported major versions; displayed as `v14` to `v17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum PgVersion {
    V14,
    V15,
    V16,
    V17,
}

impl PgVersion {
    /// Parses the output of `pg_config --version`: `PostgreSQL `, the major number, and at least
    /// one more character (01 §1.2).
    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("PostgreSQL ")?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        match rest.get(..end)? {
            "14" => Some(Self::V14),
            "15" => Some(Self::V15),
            "16" => Some(Self::V16),
            "17" => Some(Self::V17),
            _ => None,
        }
    }

    /// The number itself, for example 16.
    pub fn major(self) -> u32 {
        match self {
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
        }
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.major())
    }
}

/// Errors of [`PgInstall::discover`].
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A bare name was not found in PATH.
    #[error("there is no program `{0}` in PATH: give the path of the postgres binary with --pgbin")]
    NotInPath(PathBuf),
    /// The path does not lead to an executable program.
    #[error(
        "{0} is not a program that can be run: give the path of the postgres binary with --pgbin"
    )]
    NotAProgram(PathBuf),
    /// The version command could not be run.
    #[error("could not find out the version of {postgres}: {error}")]
    Run {
        /// Path of the server program.
        postgres: PathBuf,
        /// Error of the run.
        error: RunError,
    },
    /// The version command failed.
    #[error(
        "could not find out the version of {postgres}: `{program}` ended with {status}: {stderr}"
    )]
    Failed {
        /// Path of the server program.
        postgres: PathBuf,
        /// The command that was run.
        program: PathBuf,
        /// Exit status.
        status: std::process::ExitStatus,
        /// The end of its stderr.
        stderr: String,
    },
    /// The version is not 14 to 17, or the program is not Postgres.
    #[error("{postgres} is not a supported Postgres (14 to 17): its version is {version:?}")]
    Unsupported {
        /// Path of the server program.
        postgres: PathBuf,
        /// The reported version.
        version: String,
    },
}

/// An installation of Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgInstall {
    /// The server program, with its directory.
    pub postgres: PathBuf,
    /// Directory of its sibling programs.
    pub bin_dir: PathBuf,
    /// Its major version.
    pub version: PgVersion,
    /// Directory of loadable libraries; `None` if unknown.
    pub pkglibdir: Option<PathBuf>,
    /// Directory of `extension/*.control`; `None` if unknown.
    pub sharedir: Option<PathBuf>,
}

#[cfg(test)]
impl PgInstall {
    /// An installation for unit tests; its paths do not exist.
    pub(crate) fn for_tests() -> Self {
        Self {
            postgres: "/nonexistent/postgres".into(),
            bin_dir: "/nonexistent".into(),
            version: PgVersion::V17,
            pkglibdir: None,
            sharedir: None,
        }
    }
}

impl PgInstall {
    /// Examines the installation of `pgbin` (value of `--pgbin`). A name without a directory is
    /// looked up in `path`, the value of PATH. Runs one short program, for at most `limit`.
    ///
    /// # Errors
    /// See [`InstallError`].
    pub async fn discover(
        pgbin: &Path,
        path: Option<&OsStr>,
        children: &Children,
        limit: Duration,
    ) -> Result<Self, InstallError> {
        let postgres = locate(pgbin, path)?;
        let bin_dir = postgres.parent().unwrap_or(Path::new("/")).to_owned();
        let real = postgres.canonicalize().unwrap_or_else(|_| postgres.clone());
        // A link to the server alone, as in /usr/local/bin: its tools are beside the target.
        let pg_config = [bin_dir.join("pg_config"), real.with_file_name("pg_config")]
            .into_iter()
            .find(|p| is_program(p));
        let (program, args): (_, &[&str]) = match &pg_config {
            Some(pg_config) => (pg_config, &["--version", "--pkglibdir", "--sharedir"]),
            None => (&postgres, &["--version"]),
        };
        let mut command = Command::new(program);
        command.args(args);
        let output = children
            .run(command, limit, OUTPUT_LIMIT)
            .await
            .map_err(|error| InstallError::Run { postgres: postgres.clone(), error })?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let (program, status) = (program.clone(), output.status);
            return Err(InstallError::Failed { postgres, program, status, stderr });
        }
        let stdout = String::from_utf8_lossy(&output.stdout);
        // One line for each option, in the same order.
        let mut lines = stdout.lines();
        let version = lines.next().unwrap_or_default();
        // The server puts its name in front: `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`.
        let normal = match version.strip_prefix("postgres (PostgreSQL) ") {
            Some(rest) if pg_config.is_none() => format!("PostgreSQL {rest}"),
            _ => version.to_owned(),
        };
        let Some(version) = PgVersion::parse(&normal) else {
            return Err(InstallError::Unsupported { postgres, version: normal });
        };
        let (pkglibdir, sharedir) = if pg_config.is_some() {
            let mut dir = || lines.next().map(PathBuf::from).filter(|d| d.is_dir());
            (dir(), dir())
        } else {
            (guess(&real, "lib", None), guess(&real, "share", Some("extension")))
        };
        Ok(Self { postgres, bin_dir, version, pkglibdir, sharedir })
    }

    /// Path of a sibling program (`initdb`); not checked.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// Whether `shared_preload_libraries` can name `library`. `None` if unknown.
    pub fn has_library(&self, library: &str) -> Option<bool> {
        Some(self.pkglibdir.as_ref()?.join(format!("{library}.so")).is_file())
    }

    /// Whether the server supports `--sync-safekeepers`, detected from its bytes: a server without
    /// it would take the option for an unknown GUC and fail. A script is assumed to support it.
    /// Reads the whole program, so call it off the runtime's workers.
    ///
    /// # Errors
    /// The program cannot be read.
    pub fn knows_sync_safekeepers(&self) -> io::Result<bool> {
        search(File::open(&self.postgres)?)
    }
}

fn search(mut program: impl Read) -> io::Result<bool> {
    let finder = memmem::Finder::new(SYNC_OPTION);
    // The end of the previous chunk, so that a match across the boundary is found.
    let overlap = SYNC_OPTION.len() - 1;
    let mut window = Vec::with_capacity(CHUNK + overlap);
    let mut first = true;
    loop {
        let read = program.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        if (first && window.starts_with(b"#!")) || finder.find(&window).is_some() {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        first = false;
        window.drain(..window.len().saturating_sub(overlap));
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn locate(pgbin: &Path, path: Option<&OsStr>) -> Result<PathBuf, InstallError> {
    if pgbin.parent().is_some_and(|dir| !dir.as_os_str().is_empty()) {
        return match is_program(pgbin) {
            true => Ok(pgbin.to_owned()),
            false => Err(InstallError::NotAProgram(pgbin.to_owned())),
        };
    }
    std::env::split_paths(path.unwrap_or_default())
        .map(|dir| dir.join(pgbin))
        .find(|candidate| is_program(candidate))
        .ok_or_else(|| InstallError::NotInPath(pgbin.to_owned()))
}

/// `../<kind>/postgresql` or `../<kind>` of the program, as in common installations.
fn guess(postgres: &Path, kind: &str, with: Option<&str>) -> Option<PathBuf> {
    let base = postgres.parent()?.parent()?.join(kind);
    [base.join("postgresql"), base]
        .into_iter()
        .find(|dir| with.map_or_else(|| dir.is_dir(), |w| dir.join(w).is_dir()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn script(path: &Path, body: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // A shell writes it: see the note in `startup::stale`.
        let mut write = Command::new("/bin/sh");
        write.args(["-c", "printf '%s\\n' '#!/bin/sh' \"$1\" > \"$0\" && chmod 755 \"$0\""]);
        write.arg(path).arg(body);
        assert!(Children::new().run(write, LIMIT, 100).await.unwrap().status.success());
    }

    async fn discover(pgbin: &Path, path: &Path) -> Result<PgInstall, InstallError> {
        PgInstall::discover(pgbin, Some(path.as_os_str()), &Children::new(), LIMIT).await
    }

    #[test]
    fn versions() {
        for (text, version) in [
            ("PostgreSQL 14.11", Some(PgVersion::V14)),
            ("PostgreSQL 16.4 (Debian 16.4-1)", Some(PgVersion::V16)),
            ("PostgreSQL 17beta1", Some(PgVersion::V17)),
            ("PostgreSQL 14", None),
            ("PostgreSQL 13.1", None),
            ("PostgreSQL 18.0", None),
            ("PostgreSQL 170.0", None),
            ("MySQL 15.1", None),
            ("", None),
        ] {
            assert_eq!(PgVersion::parse(text), version, "{text}");
        }
        assert_eq!(PgVersion::V15.to_string(), "v15");
    }

    #[tokio::test]
    async fn a_program_directory_with_pg_config() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        script(&bin.join("postgres"), "exit 1").await;
        fs::create_dir(dir.path().join("s")).unwrap();
        let body = format!("echo PostgreSQL 16.4; echo /no/such; echo {}/s", dir.path().display());
        script(&bin.join("pg_config"), &body).await;
        let found = discover(Path::new("postgres"), &bin).await.unwrap();
        assert_eq!((&found.postgres, &found.bin_dir), (&bin.join("postgres"), &bin));
        assert_eq!(found.version, PgVersion::V16);
        assert_eq!(found.has_library("neon"), None);
        assert_eq!(found.sharedir, Some(dir.path().join("s")));
        assert!(found.knows_sync_safekeepers().unwrap());
    }

    #[tokio::test]
    async fn a_lone_link_and_no_pg_config() {
        let dir = tempfile::tempdir().unwrap();
        script(&dir.path().join("v15/bin/postgres"), "echo 'postgres (PostgreSQL) 15.18 (Debian)'")
            .await;
        fs::create_dir_all(dir.path().join("v15/lib/postgresql")).unwrap();
        fs::write(dir.path().join("v15/lib/postgresql/neon.so"), "").unwrap();
        let link = dir.path().join("postgres");
        symlink(dir.path().join("v15/bin/postgres"), &link).unwrap();
        let found = discover(&link, dir.path()).await.unwrap();
        assert_eq!((&found.postgres, found.version), (&link, PgVersion::V15));
        assert_eq!((found.has_library("neon"), found.sharedir), (Some(true), None));
    }

    #[tokio::test]
    async fn clear_errors() {
        let dir = tempfile::tempdir().unwrap();
        let error = |pgbin: &str| {
            let pgbin = PathBuf::from(pgbin);
            let path = dir.path().to_owned();
            async move { discover(&pgbin, &path).await.unwrap_err().to_string() }
        };
        assert!(error("postgres").await.contains("in PATH"));
        assert!(error("/no/postgres").await.contains("/no/postgres is not a program"));
        script(&dir.path().join("postgres"), "echo postgres: no >&2; exit 3").await;
        let text = error("postgres").await;
        assert!(text.contains("postgres: no") && text.contains('3'), "{text}");
        script(&dir.path().join("pg_config"), "echo PostgreSQL 13.3").await;
        assert!(error("postgres").await.contains("PostgreSQL 13.3"));
    }

    #[test]
    fn the_option_is_found_over_a_border() {
        for at in [0, 1, CHUNK - 5, CHUNK, 2 * CHUNK - 1] {
            let mut bytes = vec![b'-'; 2 * CHUNK + 100];
            bytes[at..at + SYNC_OPTION.len()].copy_from_slice(SYNC_OPTION);
            assert!(search(bytes.as_slice()).unwrap(), "{at}");
        }
        assert!(!search(vec![b'-'; 3 * CHUNK].as_slice()).unwrap());
        assert!(!search([].as_slice()).unwrap());
        assert!(search(b"#!/bin/sh\n".as_slice()).unwrap());
    }
}
