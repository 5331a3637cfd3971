//! WAL that computes archive into the folder of `compute_ctl dev --storage-only`, so that the next
//! compute has the data of the one before.
//!
//! The stand-in safekeepers receive no WAL, because a vanilla Postgres sends them none. Instead the
//! written configuration has an `archive_command` that copies each complete segment. A server that is
//! stopped cleanly switches to a new segment and archives the last one before it ends. The basebackup
//! of the next compute is the base with these segments, in a state that makes Postgres replay them.
//!
//! Invariant: only segments that follow the base without a gap are used, on the timeline of the base.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::control_file::require_replay;
use super::facts::ArchiveFacts;
use super::sync_wrapper::quote;

/// Bytes of WAL in a file whose name ends in `00000001 00000000`.
const BYTES_PER_LOG: u64 = 1 << 32;
/// Size of a control file.
const CONTROL_FILE: u64 = 8192;

/// The segments in a folder that follow a base.
#[derive(Debug)]
pub(crate) struct WalArchive {
    dir: PathBuf,
    base: PathBuf,
    /// The base with the segments.
    target: PathBuf,
    facts: ArchiveFacts,
}

impl WalArchive {
    /// Makes the folder if it is missing. `target` is replaced by each [`WalArchive::base_with_wal`].
    ///
    /// # Errors
    /// The base cannot be read, or the folder cannot be made.
    pub(crate) fn open(dir: PathBuf, base: PathBuf, target: PathBuf) -> io::Result<Self> {
        let facts = ArchiveFacts::read(&base)?;
        if !dir.is_dir() {
            fs::create_dir(&dir)?;
        }
        Ok(Self { dir, base, target, facts })
    }

    /// The `archive_command` of the computes. A segment appears with its name when it is whole.
    pub(crate) fn command(&self) -> String {
        let dir = String::from_utf8_lossy(&quote(self.dir.as_os_str())).replace('%', "%%");
        format!("cp %p {dir}/.%f && mv -f {dir}/.%f {dir}/%f")
    }

    /// The end of the WAL: where the next compute goes on.
    pub(crate) fn end(&self) -> io::Result<u64> {
        let segments = self.segments()?;
        Ok(match segments.last() {
            Some(last) => (last.number + 1) * last.size,
            None => self.facts.checkpoint_lsn,
        })
    }

    /// The archive to serve: the base if nothing was archived.
    pub(crate) fn base_with_wal(&self) -> io::Result<PathBuf> {
        let segments = self.segments()?;
        if segments.is_empty() {
            return Ok(self.base.clone());
        }
        let folder = self.target.parent().unwrap_or(Path::new("."));
        let partial = tempfile::NamedTempFile::new_in(folder)?;
        let packer = GzEncoder::new(BufWriter::new(partial), Compression::fast());
        let mut new = Builder::new(packer);
        let base = BufReader::new(File::open(&self.base)?);
        for entry in tar::Archive::new(GzDecoder::new(base)).entries()? {
            let entry = entry?;
            let (path, header) = (entry.path()?.into_owned(), entry.header().clone());
            if path == Path::new("global/pg_control") {
                let mut content = Vec::new();
                entry.take(CONTROL_FILE).read_to_end(&mut content)?;
                if !require_replay(&mut content) {
                    return Err(io::Error::other("global/pg_control has no checksum"));
                }
                append(&mut new, header, &path, &*content)?;
            } else if !segments.iter().any(|segment| segment.replaces(&path)) {
                append(&mut new, header, &path, entry)?;
            }
        }
        for segment in &segments {
            let file = File::open(self.dir.join(&segment.name))?;
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o600);
            header.set_size(segment.size);
            let path = Path::new("pg_wal").join(&segment.name);
            append(&mut new, header, &path, file.take(segment.size))?;
        }
        let mut partial = new.into_inner()?.finish()?.into_inner()?;
        partial.flush()?;
        partial.persist(&self.target).map_err(|error| error.error)?;
        Ok(self.target.clone())
    }

    /// The segments without a gap, from the one with the checkpoint of the base on.
    fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (name, size) = (entry.file_name(), entry.metadata()?.len());
            let timeline = self.facts.wal_timeline;
            all.extend(name.to_str().and_then(|name| Segment::parse(name, size, timeline)));
        }
        all.sort_by_key(|segment| segment.number);
        let first = |segment: &Segment| self.facts.checkpoint_lsn / segment.size;
        all.retain(|segment| segment.number >= first(segment));
        let expected = all.first().map_or(0, first);
        let whole = (expected..).zip(&all).take_while(|(n, segment)| *n == segment.number).count();
        all.truncate(whole);
        Ok(all)
    }
}

fn append<W: Write>(
    archive: &mut Builder<W>,
    mut header: Header,
    path: &Path,
    content: impl Read,
) -> io::Result<()> {
    if header.entry_type().is_dir() {
        return archive.append_data(&mut header, path, io::empty());
    }
    archive.append_data(&mut header, path, content)
}

/// A file of WAL.
#[derive(Debug)]
struct Segment {
    name: String,
    /// Its place in the WAL, in segments.
    number: u64,
    size: u64,
}

impl Segment {
    /// A whole segment of this timeline; `None` for any other file.
    fn parse(name: &str, size: u64, timeline: u32) -> Option<Self> {
        let part = |range| u32::from_str_radix(name.get(range)?, 16).ok();
        let is_one = name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_one || part(0..8)? != timeline || !size.is_power_of_two() || size > BYTES_PER_LOG {
            return None;
        }
        let (log, segment) = (u64::from(part(8..16)?), u64::from(part(16..24)?));
        Some(Self { name: name.to_owned(), number: log * (BYTES_PER_LOG / size) + segment, size })
    }

    /// Whether this path in the base is an older state of the segment.
    fn replaces(&self, path: &Path) -> bool {
        path.strip_prefix("pg_wal")
            .is_ok_and(|name| name.as_os_str().as_bytes() == self.name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::{ArchiveOptions, build, tests::data_dir};
    use super::super::control_file::{ClusterState, ControlFile};
    use super::*;

    const MIB: usize = 1 << 20;

    /// A base at `0/1F30EC8`, which is in segment 31 of 1 MiB.
    fn set_up(dir: &Path) -> WalArchive {
        let data = dir.join("data");
        fs::create_dir(&data).unwrap();
        data_dir(&data);
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        fs::write(data.join("pg_wal/00000001000000000000001F"), vec![1; MIB]).unwrap();
        let base = dir.join("base.tar.gz");
        build(&data, &base, &ArchiveOptions::default()).unwrap();
        WalArchive::open(dir.join("it's 5%"), base, dir.join("served.tar.gz")).unwrap()
    }

    fn put(wal: &WalArchive, name: &str, byte: u8) {
        fs::write(wal.dir.join(name), vec![byte; MIB]).unwrap();
    }

    #[test]
    fn the_base_is_served_until_a_segment_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        let wal = set_up(dir.path());
        // An older one, another timeline, one behind a gap, a half-made one and other files.
        for name in [
            "00000001000000000000001E",
            "00000002000000000000001F",
            "000000010000000000000020",
            ".00000001000000000000001F",
            "00000002.history",
        ] {
            put(&wal, name, 9);
        }
        assert_eq!(wal.base_with_wal().unwrap(), wal.base);
        assert_eq!(wal.end().unwrap(), 0x1F3_0EC8);

        // The missing one, so that 20 follows; 22 is behind a gap.
        put(&wal, "00000001000000000000001F", 2);
        put(&wal, "000000010000000000000022", 9);
        assert_eq!(wal.end().unwrap(), 0x210_0000);
        let served = wal.base_with_wal().unwrap();
        let out = dir.path().join("out");
        tar::Archive::new(GzDecoder::new(File::open(served).unwrap())).unpack(&out).unwrap();
        let control = ControlFile::read(&out).unwrap();
        assert_eq!((control.state, control.checkpoint_lsn), (ClusterState::Other(6), 0x1F3_0EC8));
        let first = |name: &str| fs::read(out.join("pg_wal").join(name)).map(|bytes| bytes[0]).ok();
        assert_eq!(first("00000001000000000000001F"), Some(2));
        assert_eq!(first("000000010000000000000020"), Some(9));
        assert_eq!(first("000000010000000000000022"), None);
        assert!(out.join("neon.signal").exists() && out.join("pg_dynshmem").is_dir());
    }

    #[test]
    fn the_archive_command_copies_into_any_folder() {
        let dir = tempfile::tempdir().unwrap();
        let wal = set_up(dir.path());
        let source = dir.path().join("segment");
        fs::write(&source, "wal").unwrap();
        let line = wal.command().replace("%p", "\"$1\"").replace("%f", "name").replace("%%", "%");
        let mut shell = std::process::Command::new("/bin/sh");
        let output = shell.args(["-c", &line, "sh"]).arg(&source).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read(wal.dir.join("name")).unwrap(), b"wal");
        assert_eq!(fs::read_dir(&wal.dir).unwrap().count(), 1);
    }
}
