//! Hand-made archives that a pageserver must never send.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use crate::support::bed::Bed;

/// One entry: its name as it is written, also one that a tar library would refuse.
pub enum Entry<'a> {
    File(&'a str, &'a [u8]),
    /// Name and target.
    Symlink(&'a str, &'a str),
    HardLink(&'a str, &'a str),
}

/// A gzip tar of these entries, without an end marker.
pub fn gzip_tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    for entry in entries {
        let (kind, name, target, content) = match entry {
            Entry::File(name, content) => (EntryType::Regular, name, "", *content),
            Entry::Symlink(name, target) => (EntryType::Symlink, name, *target, &b""[..]),
            Entry::HardLink(name, target) => (EntryType::Link, name, *target, &b""[..]),
        };
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        header.set_cksum();
        packer.write_all(header.as_bytes()).unwrap();
        packer.write_all(content).unwrap();
        packer.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()]).unwrap();
    }
    packer.finish().unwrap()
}

impl Bed {
    /// The archive that the pageserver serves.
    pub fn archive(&self) -> PathBuf {
        let mut archive = PathBuf::new();
        self.pageserver.behave(|behaviour| archive.clone_from(&behaviour.archive));
        archive
    }

    /// Makes the pageserver serve these bytes.
    pub fn serve(&self, name: &str, archive: &[u8]) -> PathBuf {
        let path = self.dir().join(name);
        fs::write(&path, archive).unwrap();
        self.pageserver.set_archive(&path);
        path
    }

    /// Makes the pageserver serve its archive with these entries in front, as a separate gzip
    /// member.
    pub fn serve_with(&self, entries: &[Entry<'_>]) -> PathBuf {
        let whole = fs::read(self.archive()).unwrap();
        self.serve("with.tar.gz", &[gzip_tar(entries), whole].concat())
    }

    /// Makes the pageserver serve its archive without some of the files.
    pub fn serve_without(&self, unwanted: &[&str]) -> PathBuf {
        let mut source = tar::Archive::new(GzDecoder::new(File::open(self.archive()).unwrap()));
        let mut target = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for entry in source.entries().unwrap() {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().into_owned();
            if !unwanted.iter().any(|name| path == Path::new(name)) {
                let header = entry.header().clone();
                target.append(&header, entry).unwrap();
            }
        }
        let packed = target.into_inner().unwrap().finish().unwrap();
        self.serve("without.tar.gz", &packed)
    }
}
