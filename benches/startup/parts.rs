//! The unavoidable work of a start: inflating the archive, writing its files, starting Postgres.
//!
//! Each part is done in the plainest way, one after the other, with everything prepared: the
//! archive is in memory, and the memory for its content is allocated and touched.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use flate2::bufread::MultiGzDecoder;
use nix::sys::signal::Signal;

use super::bed::Bed;
use super::common::host::Owner;
use super::common::process::Process;

/// Logged right before the postmaster writes `ready` into its pid file.
pub const READY: &str = "database system is ready to accept connections";

/// An archive in memory, and room for its content.
pub struct Parts {
    packed: Vec<u8>,
    tar: Vec<u8>,
}

impl Parts {
    pub fn new(archive: &Path) -> anyhow::Result<Self> {
        let packed = fs::read(archive)?;
        let mut tar = Vec::new();
        MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut tar)?;
        Ok(Self { packed, tar })
    }

    /// Inflates into memory.
    pub fn inflate(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut decoder = MultiGzDecoder::new(self.packed.as_slice());
        decoder.read_exact(&mut self.tar)?;
        ensure!(decoder.read(&mut [0])? == 0, "the archive has grown");
        Ok(began.elapsed())
    }

    /// Writes directories and files, from memory.
    pub fn write(&self, pgdata: &Path) -> anyhow::Result<Duration> {
        let mut entries = Vec::new();
        for entry in tar::Archive::new(self.tar.as_slice()).entries()? {
            let entry = entry?;
            let from = usize::try_from(entry.raw_file_position())?;
            let size = usize::try_from(entry.size())?;
            let content = self.tar.get(from..from + size).context("outside of the archive")?;
            let is_dir = entry.header().entry_type().is_dir();
            entries.push((pgdata.join(entry.path()?), is_dir, content));
        }
        let began = Instant::now();
        DirBuilder::new().mode(0o700).create(pgdata)?;
        for (path, is_dir, content) in entries {
            if is_dir {
                DirBuilder::new().mode(0o700).create(path)?;
            } else {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600).open(path)?.write_all(content)?;
            }
        }
        Ok(began.elapsed())
    }
}

/// The files that the daemon adds to a data directory.
pub struct Configuration {
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Configuration {
    /// Reads them from a directory that the daemon made.
    pub fn of(pgdata: &Path) -> anyhow::Result<Self> {
        let names = ["postgresql.conf", "pg_hba.conf"];
        let files = names.map(|name| Ok((PathBuf::from(name), fs::read(pgdata.join(name))?)));
        Ok(Self { files: files.into_iter().collect::<std::io::Result<_>>()? })
    }

    pub fn put(&self, pgdata: &Path, owner: Owner) -> anyhow::Result<()> {
        for (name, content) in &self.files {
            fs::write(pgdata.join(name), content)?;
        }
        fs::remove_dir(pgdata.join("pg_dynshmem"))?;
        symlink("/dev/shm/", pgdata.join("pg_dynshmem"))?;
        owner.hand_over(pgdata)
    }
}

/// Exec to ready of a server without a supervisor.
pub fn bare_server(bed: &Bed, postgres: &Path, pgdata: &Path) -> anyhow::Result<Duration> {
    let mut command = Command::new(postgres);
    command.arg("-D").arg(pgdata);
    bed.owner.run_as(&mut command);
    let server = Process::start(command, READY)?;
    let time = server.reached()?;
    server.stop(Signal::SIGINT)?;
    Ok(time)
}

/// Exec to end of the program that tells version and folders of a server.
pub fn pg_config(bed: &Bed) -> anyhow::Result<Duration> {
    let mut command = Command::new(bed.fake.with_file_name("pg_config"));
    command.args(["--version", "--pkglibdir", "--sharedir"]);
    let began = Instant::now();
    command.output()?;
    Ok(began.elapsed())
}
