//! What `compute_ctl dev` keeps between runs: the base archive of the stand-in pageserver.
//!
//! ```text
//! DIR/base.tar.gz   the base that is served; replaced only by a whole new one
//! DIR/pgdata        the data directory of the compute, made anew at each run
//! DIR/config.json   the configuration that was written for the compute
//! DIR/compute.log   log of the last run, unless it went to the terminal
//! ```
//!
//! Invariant: a run that ends badly leaves the base of the last good one.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::archive::{self, ArchiveOptions};
use super::facts::ArchiveFacts;
use super::servers::Server;
use super::template::Template;
use crate::os::children::Children;
use crate::startup::pgdata::PgDataLock;

/// The folder of a run, kept or temporary.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Deletes itself.
    _temporary: Option<TempDir>,
    /// Keeps a second run away from a folder that is kept.
    _lock: PgDataLock,
}

impl Store {
    /// Opens the folder that was asked for, or makes a temporary one. The process has its final
    /// user by now.
    pub fn open(data: Option<&Path>) -> anyhow::Result<Self> {
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
        let lock = PgDataLock::acquire(&dir)?;
        Ok(Self { dir, _temporary: temporary, _lock: lock })
    }

    /// Whether it is still there after the run.
    pub const fn is_kept(&self) -> bool {
        self._temporary.is_none()
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The data directory of the compute.
    pub fn pgdata(&self) -> PathBuf {
        self.path("pgdata")
    }

    /// The base that the stand-in pageserver serves: that of the last run, or a fresh `initdb`.
    pub async fn base(&self, server: &Server, children: &Children) -> anyhow::Result<Template> {
        let archive = self.path("base.tar.gz");
        if !archive.exists() {
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

    /// Takes the data directory back as the new base. It must have been shut down cleanly.
    pub async fn take_back(&self) -> anyhow::Result<()> {
        let (pgdata, archive) = (self.pgdata(), self.path("base.tar.gz"));
        let options = ArchiveOptions { durable: true, ..ArchiveOptions::default() };
        tokio::task::spawn_blocking(move || archive::build(&pgdata, &archive, &options)).await??;
        Ok(())
    }
}
