//! The files of `compute_ctl dev`; the base archive is kept between runs.
//!
//! ```text
//! DIR/base.tar.gz   the base that is served; replaced only by a whole new one
//! DIR/pgdata        the data directory of the compute, made anew at each run
//! DIR/compute.json  the configuration that was written for the compute
//! DIR/compute.log   log of the last run, unless it went to the terminal
//! DIR/unsaved       the run may have changes that are not in the base
//! DIR/wal           what computes on `--storage-only` have archived since the base was made
//! DIR/served.tar.gz the base with this WAL
//! ```
//!
//! Invariants: a failed run keeps the base of the last good one, and a directory with any other
//! files is not touched.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::{DateTime, Local};
use tempfile::TempDir;

use super::archive::{self, ArchiveOptions};
use super::facts::ArchiveFacts;
use super::progress::say;
use super::servers::Server;
use super::template::Template;
use super::wal::WalArchive;
use crate::os::children::Children;
use crate::os::denied::me;
use crate::startup::pgdata::{PgDataError, PgDataLock};

/// File name of the configuration document.
pub(crate) const CONFIG: &str = "compute.json";
/// File name of the log.
pub(crate) const LOG: &str = "compute.log";
/// File name of the base.
const BASE: &str = "base.tar.gz";
/// Folder of the archived WAL.
const WAL: &str = "wal";
/// File name of the base with this WAL.
const SERVED: &str = "served.tar.gz";
const PGDATA: &str = "pgdata";
const UNSAVED: &str = "unsaved";
/// Prefixes of incomplete files that a killed run may have left.
const HALF_MADE: [&str; 3] = ["initdb-", "template-", ".tmp"];
/// Old content of PGDATA, which the next start deletes.
const TRASH: &str = ".pgdata.trash-";

/// The directory of a run, kept or temporary.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    /// Deleted when dropped.
    _temporary: Option<TempDir>,
    /// Prevents a second run in a kept directory.
    _lock: PgDataLock,
}

impl Store {
    /// Opens the requested directory, or makes a temporary one. Call it after the process has
    /// switched to its final user.
    pub(crate) fn open(data: Option<&Path>) -> anyhow::Result<Self> {
        let (dir, temporary) = match data {
            Some(dir) => (std::path::absolute(dir)?, None),
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("compute_ctl-dev-")
                    .tempdir()
                    .context("could not make a temporary folder")?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let lock = PgDataLock::acquire(&dir).map_err(|error| unusable(error, &dir))?;
        sweep(&dir)?;
        Ok(Self { dir, _temporary: temporary, _lock: lock })
    }

    /// Whether the directory remains after the run.
    pub(crate) const fn is_kept(&self) -> bool {
        self._temporary.is_none()
    }

    /// Path of a file or directory in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The data directory of the compute.
    pub(crate) fn pgdata(&self) -> PathBuf {
        self.path(PGDATA)
    }

    /// The base that the stand-in pageserver serves: from the last run, or from a fresh `initdb`.
    pub(crate) async fn base(
        &self,
        server: &Server,
        children: &Children,
    ) -> anyhow::Result<Template> {
        let archive = self.path(BASE);
        if !archive.exists() {
            say("making an empty cluster with initdb");
            let made = Template::build(server, &self.dir, None, children).await?;
            std::fs::rename(&made.archive, &archive)
                .with_context(|| format!("could not keep {}", archive.display()))?;
            return Ok(Template { archive, ..made });
        }
        let path = archive.clone();
        let facts = tokio::task::spawn_blocking(move || ArchiveFacts::read(&path)).await?;
        let facts = facts.with_context(|| {
            format!("{} cannot be read; remove it to start anew", archive.display())
        })?;
        if facts.major != server.major {
            bail!(
                "{} was made by PostgreSQL {}, and {} is version {}: give the right one with \
                 --pgbin, or another --data folder",
                self.dir.display(),
                facts.major,
                server.postgres.display(),
                server.version
            );
        }
        Ok(Template { archive, checkpoint_lsn: facts.checkpoint_lsn })
    }

    /// The same with what computes on this storage have archived since.
    pub(crate) async fn base_with_wal(
        &self,
        server: &Server,
        children: &Children,
    ) -> anyhow::Result<Template> {
        let base = self.base(server, children).await?;
        if !self.path(WAL).exists() {
            return Ok(base);
        }
        let wal = self.wal().await?;
        let found = tokio::task::spawn_blocking(move || {
            wal.base_with_wal()
                .and_then(|archive| Ok(Template { archive, checkpoint_lsn: wal.end()? }))
        });
        found.await?.with_context(|| format!("{} cannot be used", self.path(WAL).display()))
    }

    /// The WAL that computes on this storage archive. The base must exist.
    pub(crate) async fn wal(&self) -> anyhow::Result<WalArchive> {
        let (dir, base, target) = (self.path(WAL), self.path(BASE), self.path(SERVED));
        let open = move || WalArchive::open(dir, base, target);
        tokio::task::spawn_blocking(open).await?.context("the archived WAL cannot be used")
    }

    /// Packs the data directory as the new base. It must have been shut down cleanly.
    pub(crate) async fn take_back(&self) -> anyhow::Result<()> {
        let (pgdata, archive) = (self.pgdata(), self.path(BASE));
        let options = ArchiveOptions { durable: true, ..ArchiveOptions::default() };
        tokio::task::spawn_blocking(move || archive::build(&pgdata, &archive, &options)).await??;
        let _ = std::fs::remove_file(self.path(UNSAVED));
        // It is in the new base. If it cannot be deleted, it is older than the base and not used.
        let _ = std::fs::remove_file(self.path(SERVED));
        let _ = std::fs::remove_dir_all(self.path(WAL));
        Ok(())
    }

    /// Notes that users can change data from now on.
    pub(crate) fn begin_changes(&self) -> anyhow::Result<()> {
        let path = self.path(UNSAVED);
        std::fs::write(&path, "").with_context(|| format!("could not write {}", path.display()))
    }

    /// What the last run changed and did not keep, because it was killed; as a text for the user,
    /// once.
    pub(crate) fn lost(&self) -> Option<String> {
        std::fs::remove_file(self.path(UNSAVED)).ok()?;
        let base = std::fs::metadata(self.path(BASE)).and_then(|meta| meta.modified()).ok()?;
        let base = DateTime::<Local>::from(base).format("%Y-%m-%d %H:%M:%S");
        Some(format!(
            "the last run in {} did not end cleanly: everything that it changed is lost; going on \
             with the data of {base}",
            self.dir.display()
        ))
    }
}

/// An error of the lock, in the words of this command, which has `--data` in place of `--pgdata`.
fn unusable(error: PgDataError, dir: &Path) -> anyhow::Error {
    let dir = dir.display();
    match error {
        PgDataError::Locked(_) => anyhow::anyhow!(
            "another compute_ctl is using the folder {dir}: end it first, or give another folder \
             with --data"
        ),
        PgDataError::NoParent(_) => anyhow::anyhow!(
            "the folder {dir} cannot be created because its parent does not exist: create the \
             parent, or give another folder with --data"
        ),
        PgDataError::NotADirectory(_) => {
            anyhow::anyhow!("{dir} is not a folder: give another one with --data")
        }
        error => anyhow::anyhow!(
            "the folder {dir} cannot be used by {}: {error}; give a folder of this user with \
             --data",
            me()
        ),
    }
}

/// Checks that all files in the directory are from earlier runs, then deletes the incomplete ones.
fn sweep(dir: &Path) -> anyhow::Result<()> {
    let failed = || format!("could not look into the folder {}", dir.display());
    let mut half_made = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if HALF_MADE.iter().any(|prefix| name.starts_with(prefix)) {
            half_made.push(entry.path());
        } else if !([BASE, PGDATA, CONFIG, LOG, UNSAVED, WAL, SERVED, "lost+found"]
            .contains(&&*name)
            || name.starts_with(TRASH))
        {
            bail!(
                "refusing to use the folder {}: it holds {name:?}, which is not from an earlier \
                 run; give a new folder",
                dir.display()
            );
        }
    }
    for path in half_made {
        let deleted = match path.is_dir() {
            true => std::fs::remove_dir_all(&path),
            false => std::fs::remove_file(&path),
        };
        deleted.with_context(|| format!("could not delete {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["template-15.1.tar.gz", "config.json"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let error = Store::open(Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn leftovers_of_a_killed_run_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["base.tar.gz", ".tmpAbc", ".pgdata.trash-7"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir_all(dir.path().join("initdb-xyz/data")).unwrap();
        let store = Store::open(Some(dir.path())).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".pgdata.trash-7", "base.tar.gz"]);
        let second = Store::open(Some(dir.path())).unwrap_err();
        assert!(format!("{second:#}").contains("another compute_ctl"), "{second:#}");
        drop(store);
    }
}
