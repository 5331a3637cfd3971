//! Packs a cleanly stopped data directory as a basebackup archive that a vanilla Postgres can
//! start from (06 §11.2).
//!
//! A real pageserver omits relation files; this archive contains them, because a vanilla Postgres
//! has no other source. The order is that of the protocol: directories, files, signal files,
//! `pg_control`, WAL, so that a truncated archive cannot be started.
//!
//! Invariant: the archive gets its name only when it is complete, so a crash keeps the last good
//! one.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::control_file::{ClusterState, ControlFile};
use crate::os::denied::explained;

/// Content of the signal files at the start of a branch (06 §4.3).
const SIGNAL: &[u8] = b"PREV LSN: none";

/// The archive could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A server runs on the directory, or was killed there.
    #[error(
        "data directory {} has a postmaster.pid: stop its server first, an archive is only made of a cleanly stopped one",
        .0.display()
    )]
    InUse(PathBuf),
    /// The state in the control file is not "shut down".
    #[error(
        "data directory {path} was not shut down cleanly (pg_control state {state:?}): start and stop its server once",
        path = .0.display(), state = .1
    )]
    NotClean(PathBuf, ClusterState),
    /// An entry that an archive cannot hold, such as a tablespace elsewhere.
    #[error("{} is a symbolic link, which a basebackup cannot carry: tablespaces outside the data directory are not supported", .0.display())]
    Link(PathBuf),
    /// A file shrank or grew while it was read.
    #[error("{} changed while it was archived: is a server running on this data directory?", .0.display())]
    Changed(PathBuf),
    /// Reading or writing failed.
    #[error("cannot archive {}: {error}", path.display())]
    Io {
        /// The file that was read or written.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
}

/// Options of [`build`].
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// Whether to write `neon.signal`.
    pub neon_signal: bool,
    /// Whether to write `zenith.signal`.
    pub zenith_signal: bool,
    /// Whether to sync the archive to disk before it gets its name. Off for temporary archives.
    pub durable: bool,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self { neon_signal: true, zenith_signal: true, durable: false }
    }
}

/// Result of [`build`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// Number of regular files in the archive.
    pub files: u64,
    /// Their total size in bytes, before compression.
    pub unpacked_bytes: u64,
    /// Size of the archive in bytes.
    pub packed_bytes: u64,
    /// The checkpoint of the clean stop; the LSN that the safekeepers should report.
    pub checkpoint_lsn: u64,
}

/// Names below the data directory, parents before children.
#[derive(Debug, Default)]
struct Listing {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// Packs `data_dir` as a gzip tar at `target` (mode 0600), replacing an older one. Blocks; file
/// contents are streamed.
///
/// # Errors
/// See [`ArchiveError`]; `target` is then unchanged.
pub fn build(
    data_dir: &Path,
    target: &Path,
    options: &ArchiveOptions,
) -> Result<ArchiveSummary, ArchiveError> {
    if fs::symlink_metadata(data_dir.join("postmaster.pid")).is_ok() {
        return Err(ArchiveError::InUse(data_dir.to_owned()));
    }
    let control = ControlFile::read(data_dir).map_err(at(&data_dir.join("global/pg_control")))?;
    if !control.state.is_clean() {
        return Err(ArchiveError::NotClean(data_dir.to_owned(), control.state));
    }
    let mut listing = Listing::default();
    walk(data_dir, Path::new(""), &mut listing)?;
    // The sort is stable, so names stay sorted within each rank.
    listing.files.sort_by_key(|name| rank(name));

    let folder = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let partial = tempfile::NamedTempFile::new_in(folder).map_err(at(folder))?;
    let packer = GzEncoder::new(BufWriter::new(partial), Compression::fast());
    let mut writer = Writer { tar: Builder::new(packer), files: 0, bytes: 0, mtime: now() };
    for name in &listing.directories {
        writer.directory(name).map_err(at(name))?;
    }
    let mut signals_due = true;
    for name in &listing.files {
        if signals_due && rank(name) > 0 {
            signals_due = false;
            writer.signals(options).map_err(at(target))?;
        }
        writer.file(data_dir, name)?;
    }
    let (files, unpacked_bytes) = (writer.files, writer.bytes);
    let partial = writer
        .tar
        .into_inner()
        .and_then(GzEncoder::finish)
        .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(at(target))?;
    if options.durable {
        partial.as_file().sync_all().map_err(at(target))?;
    }
    let packed_bytes = partial.as_file().metadata().map_err(at(target))?.len();
    partial.persist(target).map_err(|error| error.error).map_err(at(target))?;
    if options.durable {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))?;
    }
    let checkpoint_lsn = control.checkpoint_lsn;
    Ok(ArchiveSummary { files, unpacked_bytes, packed_bytes, checkpoint_lsn })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |error| ArchiveError::Io { error: explained(error, &path), path }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Sort key: ordinary files first, then the control file, then WAL (06 §4.2).
fn rank(name: &Path) -> u8 {
    if name == Path::new("global/pg_control") {
        1
    } else if name.starts_with("pg_wal") {
        2
    } else {
        0
    }
}

/// Names at the top of a data directory that belong to one run of a server, not to the data.
fn stays_behind(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "postgresql.conf",
        "compute_ctl_temp_override.conf",
        "postmaster.pid",
        "postmaster.opts",
        "current_logfiles",
        "log",
        "pg_log",
        "logfile",
        "standby.signal",
        "recovery.signal",
        "neon.signal",
        "zenith.signal",
        "core",
    ];
    NAMES.contains(&name)
        || name.ends_with(".log")
        || name.starts_with("core.")
        || name.starts_with(".s.PGSQL.")
        || name.starts_with(".compute_ctl.")
}

/// Lists `data_dir/below`, sorted. Keeps only names, so memory depends only on their number.
fn walk(data_dir: &Path, below: &Path, listing: &mut Listing) -> Result<(), ArchiveError> {
    let folder = data_dir.join(below);
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(at(&folder))? {
        names.push(entry.map_err(at(&folder))?.file_name());
    }
    names.sort();
    for name in names {
        let relative = below.join(&name);
        let top = below == Path::new("");
        if top && name.to_str().is_some_and(stays_behind) {
            continue;
        }
        let path = data_dir.join(&relative);
        // On a running compute this is a link into /dev/shm; a new one needs a directory (06 §4.7).
        // Its content is not part of the data.
        if top && name == "pg_dynshmem" {
            listing.directories.push(relative);
            continue;
        }
        let mut kind = fs::symlink_metadata(&path).map_err(at(&path))?;
        if kind.is_symlink() {
            // `initdb --waldir` makes this link, and its target is an ordinary directory.
            if !(top && name == "pg_wal") {
                return Err(ArchiveError::Link(path));
            }
            kind = fs::metadata(&path).map_err(at(&path))?;
        }
        if kind.is_dir() {
            listing.directories.push(relative.clone());
            walk(data_dir, &relative, listing)?;
        } else if kind.is_file() {
            listing.files.push(relative);
        }
        // Sockets and pipes are not data.
    }
    Ok(())
}

struct Writer<W: Write> {
    tar: Builder<W>,
    files: u64,
    bytes: u64,
    mtime: u64,
}

impl<W: Write> Writer<W> {
    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime);
        header.set_size(size);
        header
    }

    fn directory(&mut self, name: &Path) -> io::Result<()> {
        let mut header = self.header(EntryType::Directory, 0o755, 0);
        self.tar.append_data(&mut header, name, io::empty())
    }

    fn signals(&mut self, options: &ArchiveOptions) -> io::Result<()> {
        let wanted =
            [("neon.signal", options.neon_signal), ("zenith.signal", options.zenith_signal)];
        for (name, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
            let mut header = self.header(EntryType::Regular, 0o600, SIGNAL.len() as u64);
            self.tar.append_data(&mut header, name, SIGNAL)?;
            self.files += 1;
            self.bytes += SIGNAL.len() as u64;
        }
        Ok(())
    }

    fn file(&mut self, data_dir: &Path, name: &Path) -> Result<(), ArchiveError> {
        let path = data_dir.join(name);
        let open = || -> io::Result<(File, Metadata)> {
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        };
        let (file, metadata) = open().map_err(at(&path))?;
        let size = metadata.len();
        let mut header = self.header(EntryType::Regular, 0o600, size);
        // Requests one byte more than the size in the header, to detect growth.
        let mut content = Exactly { inner: file.take(size + 1), left: size };
        match self.tar.append_data(&mut header, name, &mut content) {
            Ok(()) if content.left == 0 && content.inner.limit() == 1 => {}
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                return Err(at(&path)(error));
            }
            _ => return Err(ArchiveError::Changed(path)),
        }
        self.files += 1;
        self.bytes += size;
        Ok(())
    }
}

/// A reader that fails if the source is shorter or longer than the promised size.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.left =
            self.left.checked_sub(got as u64).ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(got)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use flate2::read::GzDecoder;

    use super::super::control_file::tests::sample;
    use super::*;

    /// A small synthetic data directory, "shut down" at `0/1F30EC8`.
    pub(in crate::dev) fn data_dir(dir: &Path) {
        for name in ["global", "base/5", "pg_wal/archive_status", "pg_tblspc", "log"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        symlink("/dev/shm/", dir.join("pg_dynshmem")).unwrap();
        fs::write(dir.join("global/pg_control"), sample(1, 0x1F3_0EC8)).unwrap();
        fs::write(dir.join("base/5/2600"), vec![7; 100_000]).unwrap();
        fs::write(dir.join("pg_wal/000000010000000000000001"), vec![0; 50_000]).unwrap();
        for name in
            ["PG_VERSION", "pg_hba.conf", "postgresql.auto.conf", "postgresql.conf", "core.12"]
        {
            fs::write(dir.join(name), name).unwrap();
        }
        for name in
            ["postmaster.opts", "current_logfiles", "standby.signal", "zenith.signal", "log/x"]
        {
            fs::write(dir.join(name), "old").unwrap();
        }
    }

    fn unpack(archive: &Path) -> Vec<(String, EntryType, u32, Vec<u8>)> {
        let mut tar = tar::Archive::new(GzDecoder::new(File::open(archive).unwrap()));
        tar.entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                let header = entry.header();
                let name = entry.path().unwrap().to_str().unwrap().to_owned();
                (name, header.entry_type(), header.mode().unwrap(), content)
            })
            .collect()
    }

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        data_dir(&data);
        let target = dir.path().join("base.tar.gz");
        let summary = build(&data, &target, &ArchiveOptions::default()).unwrap();
        assert_eq!(summary.checkpoint_lsn, 0x1F3_0EC8);
        assert_eq!(summary.packed_bytes, fs::metadata(&target).unwrap().len());

        let entries = unpack(&target);
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(
            names,
            [
                "base",
                "base/5",
                "global",
                "pg_dynshmem",
                "pg_tblspc",
                "pg_wal",
                "pg_wal/archive_status",
                "PG_VERSION",
                "base/5/2600",
                "pg_hba.conf",
                "postgresql.auto.conf",
                "neon.signal",
                "zenith.signal",
                "global/pg_control",
                "pg_wal/000000010000000000000001",
            ]
        );
        for (name, kind, mode, _) in &entries {
            match kind {
                EntryType::Directory => assert_eq!(*mode, 0o755, "{name}"),
                EntryType::Regular => assert_eq!(*mode, 0o600, "{name}"),
                other => panic!("{name} is {other:?}"),
            }
        }
        let content: BTreeMap<_, _> = entries.into_iter().map(|e| (e.0, e.3)).collect();
        assert_eq!(content["base/5/2600"], vec![7; 100_000]);
        assert_eq!(content["zenith.signal"], SIGNAL);
        assert_eq!(summary.files, 8);
        let total: usize = content.values().map(Vec::len).sum();
        assert_eq!(summary.unpacked_bytes, total as u64);
    }

    #[test]
    fn signal_files_can_be_left_out() {
        let dir = tempfile::tempdir().unwrap();
        data_dir(&dir.path().join("data"));
        let target = dir.path().join("base.tar.gz");
        let options = ArchiveOptions { neon_signal: false, durable: true, ..Default::default() };
        build(&dir.path().join("data"), &target, &options).unwrap();
        let names: Vec<String> = unpack(&target).into_iter().map(|entry| entry.0).collect();
        assert!(!names.contains(&"neon.signal".to_owned()));
        assert!(names.contains(&"zenith.signal".to_owned()));
    }

    #[test]
    fn refusals_keep_the_old_archive() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        data_dir(&data);
        let target = dir.path().join("base.tar.gz");
        fs::write(&target, "good").unwrap();
        let try_build = || build(&data, &target, &ArchiveOptions::default()).unwrap_err();

        fs::write(data.join("postmaster.pid"), "1").unwrap();
        assert!(matches!(try_build(), ArchiveError::InUse(_)));
        fs::remove_file(data.join("postmaster.pid")).unwrap();

        fs::write(data.join("global/pg_control"), sample(6, 1)).unwrap();
        assert!(matches!(try_build(), ArchiveError::NotClean(_, ClusterState::Other(6))));
        fs::write(data.join("global/pg_control"), sample(2, 1)).unwrap();

        symlink("/elsewhere", data.join("pg_tblspc/16385")).unwrap();
        assert!(matches!(try_build(), ArchiveError::Link(path) if path.ends_with("16385")));

        fs::remove_file(data.join("global/pg_control")).unwrap();
        assert!(matches!(try_build(), ArchiveError::Io { .. }));

        assert_eq!(fs::read_to_string(&target).unwrap(), "good");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing half-made is left");
    }
}
