//! Makes the first basebackup: runs `initdb` of a found server and packs the result (06 §11.2).
//!
//! The archive name contains the server's version, so [`Template::cached`] makes it once per
//! directory. Invariant: afterwards the data directory of `initdb` is deleted, and an archive with
//! the final name is complete.

use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::archive::{self, ArchiveError, ArchiveOptions};
use super::facts::ArchiveFacts;
use super::servers::Server;
use crate::os::children::{Children, RunError};
use crate::os::denied::explained;

/// `initdb` takes about a second; a machine that needs this long has another problem.
const INITDB_LIMIT: Duration = Duration::from_secs(180);
/// Superuser for the connections of the pipeline.
const SUPERUSER: &str = "cloud_admin";
/// Length of the output of `initdb` in an error.
const QUOTED: usize = 2000;
/// Limit for the output that is kept.
const OUTPUT_LIMIT: usize = 64 << 10;

/// The user for `initdb`. Needed if the caller is root, because `initdb` refuses root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The template could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A directory could not be created, handed over or read.
    #[error("cannot prepare a template in {}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// `initdb` could not be run to its end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// `initdb` asks for the name of the user.
    #[error(
        "user {0} has no entry in /etc/passwd, and initdb needs one: add a line such as \
         `dev:x:{0}:{0}::/tmp:/bin/sh`, or run it as another user"
    )]
    NamelessUser(u32),
    /// `initdb` failed.
    #[error("{} failed ({status}): {output}", program.display())]
    Failed {
        /// Path of the program.
        program: PathBuf,
        /// Exit status.
        status: std::process::ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The result could not be packed.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// A packed, never started cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Path of the gzip tar.
    pub archive: PathBuf,
    /// Its checkpoint; the LSN that the safekeepers should report.
    pub checkpoint_lsn: u64,
}

impl Template {
    /// The template in `dir` if an earlier call made it for this version; otherwise makes one.
    ///
    /// # Errors
    /// As [`Template::build`].
    pub async fn cached(
        server: &Server,
        dir: &Path,
        run_as: Option<RunAs>,
        children: &Children,
    ) -> Result<Self, TemplateError> {
        let archive = archive_path(server, dir);
        let path = archive.clone();
        let found = blocking(move || ArchiveFacts::read(&path)).await;
        match found {
            Ok(facts) => Ok(Self { archive, checkpoint_lsn: facts.checkpoint_lsn }),
            // Missing, truncated or foreign: a new one replaces it.
            _ => Self::build(server, dir, run_as, children).await,
        }
    }

    /// Runs `initdb` below `dir` (which must exist and be accessible to the `run_as` user) and
    /// leaves only the archive there.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub async fn build(
        server: &Server,
        dir: &Path,
        run_as: Option<RunAs>,
        children: &Children,
    ) -> Result<Self, TemplateError> {
        let io = |error| TemplateError::Io { path: dir.to_owned(), error: explained(error, dir) };
        let scratch = tempfile::Builder::new().prefix("initdb-").tempdir_in(dir).map_err(io)?;
        if let Some(RunAs { uid, gid }) = run_as {
            chown(scratch.path(), Some(uid), Some(gid)).map_err(io)?;
        }
        let data_dir = scratch.path().join("data");
        initdb(server, &data_dir, run_as, children).await?;
        let archive = archive_path(server, dir);
        let target = archive.clone();
        let summary = blocking(move || {
            let summary = archive::build(&data_dir, &target, &ArchiveOptions::default());
            // The scratch directory has thousands of files: delete it off the runtime's own
            // threads.
            drop(scratch);
            Ok(summary)
        })
        .await
        .map_err(io)??;
        Ok(Self { archive, checkpoint_lsn: summary.checkpoint_lsn })
    }
}

/// Path of the template of this server.
fn archive_path(server: &Server, dir: &Path) -> PathBuf {
    dir.join(format!("template-{}.tar.gz", server.version))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn initdb(
    server: &Server,
    data_dir: &Path,
    run_as: Option<RunAs>,
    children: &Children,
) -> Result<(), TemplateError> {
    let uid = run_as.map_or_else(|| nix::unistd::geteuid().as_raw(), |it| it.uid);
    if let Ok(None) = nix::unistd::User::from_uid(uid.into()) {
        return Err(TemplateError::NamelessUser(uid));
    }
    let program = server.program("initdb");
    let mut command = Command::new(&program);
    command
        .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
        .args(["--wal-segsize=1", "--no-sync", "--no-instructions", "-D"])
        .arg(data_dir)
        // The user of `initdb` may have no access to the caller's directory.
        .current_dir("/");
    if let Some(RunAs { uid, gid }) = run_as {
        command.uid(uid).gid(gid);
    }
    let output = children.run(command, INITDB_LIMIT, OUTPUT_LIMIT).await?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let skip = text.trim().chars().count().saturating_sub(QUOTED);
    let output_end = text.trim().chars().skip(skip).collect();
    Err(TemplateError::Failed { program, status: output.status, output: output_end })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use flate2::read::GzDecoder;

    use super::super::servers::choose;
    use super::*;

    /// The server for the tests, and the user if this is root. `None`: the test cannot run here.
    fn set_up() -> Option<(Server, Option<RunAs>)> {
        let server = choose(None).ok()?;
        if !nix::unistd::geteuid().is_root() {
            return Some((server, None));
        }
        let user = nix::unistd::User::from_name("postgres").ok()??;
        Some((server, Some(RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() })))
    }

    #[tokio::test]
    async fn initdb_is_packed_once() {
        let Some((server, run_as)) = set_up() else { return };
        let dir = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let template =
            Template::cached(&server, dir.path(), run_as, &Children::new()).await.unwrap();
        assert!(template.checkpoint_lsn > 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the archive is left");

        let out = dir.path().join("out");
        let file = std::fs::File::open(&template.archive).unwrap();
        tar::Archive::new(GzDecoder::new(file)).unpack(&out).unwrap();
        assert!(out.join("pg_dynshmem").is_dir());
        assert!(out.join("global/pg_control").is_file());
        assert!(!out.join("postgresql.conf").exists());
        let version = std::fs::read_to_string(out.join("PG_VERSION")).unwrap();
        assert_eq!(version.trim(), server.major.to_string());
        let hba = std::fs::read_to_string(out.join("pg_hba.conf")).unwrap();
        assert!(hba.contains("trust"));

        let before = std::fs::metadata(&template.archive).unwrap().modified().unwrap();
        let again = Template::cached(&server, dir.path(), run_as, &Children::new()).await.unwrap();
        assert_eq!(again, template);
        let after = std::fs::metadata(&template.archive).unwrap().modified().unwrap();
        assert_eq!(before, after);
    }

    /// Unpacks an archive as a data directory that the server's user owns.
    fn unpack(archive: &Path, data_dir: &Path, run_as: Option<RunAs>) {
        let file = std::fs::File::open(archive).unwrap();
        tar::Archive::new(GzDecoder::new(file)).unpack(data_dir).unwrap();
        std::fs::write(data_dir.join("postgresql.conf"), "fsync = off\n").unwrap();
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(data_dir, private).unwrap();
        if let Some(RunAs { uid, gid }) = run_as {
            let owner = format!("{uid}:{gid}");
            let chown =
                std::process::Command::new("chown").arg("-R").arg(owner).arg(data_dir).output();
            assert!(chown.unwrap().status.success());
        }
    }

    /// Runs one statement in a single-user server, which then stops cleanly.
    async fn single(server: &Server, data_dir: &Path, run_as: Option<RunAs>, sql: &str) -> String {
        let mut command = Command::new("/bin/sh");
        let script = r#"printf '%s\n' "$3" | "$1" --single -D "$2" postgres"#;
        command.args(["-c", script, "sh"]).arg(&server.postgres).arg(data_dir).arg(sql);
        if let Some(RunAs { uid, gid }) = run_as {
            command.uid(uid).gid(gid);
        }
        let output = command.current_dir("/").output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[tokio::test]
    async fn a_server_starts_from_it_and_its_data_can_be_taken_back() {
        let Some((server, run_as)) = set_up() else { return };
        let dir = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let template =
            Template::build(&server, dir.path(), run_as, &Children::new()).await.unwrap();

        let first = dir.path().join("first");
        unpack(&template.archive, &first, run_as);
        single(&server, &first, run_as, "create table kept as select 4711 as number").await;
        let taken = dir.path().join("taken.tar.gz");
        let summary = archive::build(&first, &taken, &ArchiveOptions::default()).unwrap();
        assert!(summary.checkpoint_lsn > template.checkpoint_lsn);

        let second = dir.path().join("second");
        unpack(&taken, &second, run_as);
        let answer = single(&server, &second, run_as, "select number from kept").await;
        assert!(answer.contains("4711"), "{answer}");
    }

    #[tokio::test]
    async fn a_failing_initdb_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server {
            bin_dir: "/nonexistent/bin".into(),
            postgres: "/nonexistent/bin/postgres".into(),
            major: 16,
            version: "16.1".to_owned(),
        };
        let error = Template::build(&server, dir.path(), None, &Children::new())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/bin/initdb"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
