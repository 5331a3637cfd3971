//! The installed Postgres: its programs, version and features.
//!
//! Checked once, before PGDATA is touched (01 §1.2). Missing features (the `neon` library,
//! `--sync-safekeepers`) are detected from the files here, not by a later failure.
//!
//! Invariant: the program that runs is the one that was named. Its links are not resolved, so that
//! a directory of wrappers keeps working. Its siblings are looked up where it stands, then where it
//! leads.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::programs::{contains, find_in_path, folders, is_evidently_server, is_program};
pub use super::version::PgVersion;
use crate::os::children::{Children, RunError};

/// More than any version or path needs.
const OUTPUT_LIMIT: usize = 16 << 10;
/// Option that only Neon's server has.
const SYNC_OPTION: &[u8] = b"--sync-safekeepers";
/// What the server's `--version` begins with.
const SERVER_VERSION: &str = "postgres (PostgreSQL) ";
/// Characters of a foreign program's answer that are shown.
const SAID: usize = 80;

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
    /// The program is another one than the server.
    #[error(
        "{program} is not the Postgres server: its --version says {said:?}; give the path of \
         `postgres` itself with --pgbin{}",
        hint(beside)
    )]
    NotTheServer {
        /// The program that was named.
        program: PathBuf,
        /// The first line of its answer, cut.
        said: String,
        /// The server beside it, if there is one.
        beside: Option<PathBuf>,
    },
    /// The version is not 14 to 17.
    #[error("{postgres} is not a supported Postgres (14 to 17): its version is {version:?}")]
    Unsupported {
        /// Path of the server program.
        postgres: PathBuf,
        /// The reported version.
        version: String,
    },
}

fn hint(beside: &Option<PathBuf>) -> String {
    beside.as_ref().map(|path| format!(", as in {}", path.display())).unwrap_or_default()
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
    /// In full, such as `15.4` or `17beta1`.
    pub full_version: String,
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
            full_version: "17.0".to_owned(),
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
        // A link to the server alone, as in /usr/local/bin: its tools are where it leads.
        let pg_config = sibling(&postgres, "pg_config");
        let (program, args): (_, &[&str]) = match &pg_config {
            Some(pg_config) => (pg_config, &["--version", "--pkglibdir", "--sharedir"]),
            None => (&postgres, &["--version"]),
        };
        let mut command = Command::new(program);
        command.args(args);
        let (output, is_server) = tokio::join!(
            children.run(command, limit, OUTPUT_LIMIT),
            // Without pg_config the server itself is asked.
            require_server(pg_config.is_some(), &postgres, children, limit)
        );
        is_server?;
        let output =
            output.map_err(|error| InstallError::Run { postgres: postgres.clone(), error })?;
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
        let normal = match version.strip_prefix(SERVER_VERSION) {
            Some(rest) if pg_config.is_none() => format!("PostgreSQL {rest}"),
            None if pg_config.is_none() => return Err(not_the_server(&postgres, &output.stdout)),
            _ => version.to_owned(),
        };
        let Some(version) = PgVersion::parse(&normal) else {
            return Err(InstallError::Unsupported { postgres, version: normal });
        };
        let full_version = normal.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let (pkglibdir, sharedir) = if pg_config.is_some() {
            let mut dir = || lines.next().map(PathBuf::from).filter(|d| d.is_dir());
            (dir(), dir())
        } else {
            let real = postgres.canonicalize().unwrap_or_else(|_| postgres.clone());
            (guess(&real, "lib", None), guess(&real, "share", Some("extension")))
        };
        Ok(Self { postgres, bin_dir, version, full_version, pkglibdir, sharedir })
    }

    /// Path of a sibling program (`initdb`): where the server stands, or else where it leads. If
    /// there is none, the path where it was expected.
    pub fn program(&self, name: &str) -> PathBuf {
        sibling(&self.postgres, name).unwrap_or_else(|| self.bin_dir.join(name))
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
    let mut magic = Vec::new();
    program.by_ref().take(2).read_to_end(&mut magic)?;
    if magic == b"#!" {
        return Ok(true);
    }
    contains(magic.as_slice().chain(program), SYNC_OPTION)
}

fn sibling(program: &Path, name: &str) -> Option<PathBuf> {
    let mut paths = folders(program).into_iter().map(|folder| folder.join(name));
    paths.find(|path| is_program(path))
}

/// Refuses a program that is not the server, such as `pg_ctl`. A program that does not show what it
/// is, like a binary wrapper, is asked for its version at the same time as `pg_config`.
async fn require_server(
    needed: bool,
    program: &Path,
    children: &Children,
    limit: Duration,
) -> Result<(), InstallError> {
    if !needed {
        return Ok(());
    }
    let path = program.to_owned();
    let evident = tokio::task::spawn_blocking(move || is_evidently_server(&path)).await;
    if evident.unwrap_or(false) {
        return Ok(());
    }
    let mut command = Command::new(program);
    command.arg("--version");
    let output = children
        .run(command, limit, OUTPUT_LIMIT)
        .await
        .map_err(|error| InstallError::Run { postgres: program.to_owned(), error })?;
    if output.stdout.starts_with(SERVER_VERSION.as_bytes()) {
        return Ok(());
    }
    Err(not_the_server(program, &output.stdout))
}

fn not_the_server(program: &Path, stdout: &[u8]) -> InstallError {
    let stdout = String::from_utf8_lossy(stdout);
    let said = stdout.lines().next().unwrap_or_default();
    let said = said.chars().take(SAID).collect();
    let beside = sibling(program, "postgres").filter(|beside| beside != program);
    InstallError::NotTheServer { program: program.to_owned(), said, beside }
}

fn locate(pgbin: &Path, path: Option<&OsStr>) -> Result<PathBuf, InstallError> {
    let program = match pgbin.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => Some(pgbin.to_owned())
            .filter(|it| is_program(it))
            .ok_or_else(|| InstallError::NotAProgram(pgbin.to_owned())),
        _ => find_in_path(pgbin, path).ok_or_else(|| InstallError::NotInPath(pgbin.to_owned())),
    };
    // It may be run in another folder.
    program.map(|program| std::path::absolute(&program).unwrap_or(program))
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

    /// Beside `pg_config` any program could pass for the server.
    #[tokio::test]
    async fn other_programs_than_the_server_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        script(&bin.join("pg_config"), "echo PostgreSQL 16.4").await;
        script(&bin.join("postgres"), "exit 1").await;
        script(&bin.join("psql"), "echo 'psql (PostgreSQL) 16.4'").await;
        script(&bin.join("mine"), "exec echo 'postgres (PostgreSQL) 16.4'").await;
        symlink("/bin/ls", bin.join("ls")).unwrap();
        for (name, said) in [("psql", "psql (PostgreSQL) 16.4"), ("ls", "ls (GNU")] {
            let error = discover(&bin.join(name), &bin).await.unwrap_err().to_string();
            let postgres = format!("--pgbin, as in {}", bin.join("postgres").display());
            assert!(error.contains("is not the Postgres server"), "{error}");
            assert!(error.contains(said) && error.ends_with(&postgres), "{error}");
        }
        for name in ["postgres", "mine"] {
            assert_eq!(discover(&bin.join(name), &bin).await.unwrap().version, PgVersion::V16);
        }
        let alone = dir.path().join("alone");
        script(&alone, "echo 'GNU bash, version 5'").await;
        let error = discover(&alone, &bin).await.unwrap_err().to_string();
        assert!(error.contains("is not the Postgres server"), "{error}");
    }

    #[tokio::test]
    async fn siblings_are_found_where_a_link_stands_and_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, local) = (dir.path().join("v16/bin"), dir.path().join("local"));
        for name in ["postgres", "pg_dump", "pg_ctl"] {
            script(&bin.join(name), "exit 1").await;
        }
        script(&bin.join("pg_config"), "echo PostgreSQL 16.4").await;
        script(&local.join("pg_ctl"), "exit 1").await;
        symlink("../v16/bin/postgres", local.join("postgres")).unwrap();
        let found = discover(&local.join("postgres"), &local).await.unwrap();
        assert_eq!(found.postgres, local.join("postgres"));
        assert_eq!(found.program("pg_ctl"), local.join("pg_ctl"));
        let real = |path: PathBuf| path.canonicalize().unwrap();
        assert_eq!(real(found.program("pg_dump")), real(bin.join("pg_dump")));
        assert_eq!(found.program("initdb"), local.join("initdb"));
    }

    #[test]
    fn the_option_for_the_sync_is_searched_for() {
        assert!(search(b"-...--sync-safekeepers".as_slice()).unwrap());
        assert!(search(SYNC_OPTION).unwrap());
        assert!(!search(b"-..-sync-safekeepers".as_slice()).unwrap());
        assert!(!search([].as_slice()).unwrap());
        assert!(search(b"#!/bin/sh\n".as_slice()).unwrap());
    }
}
