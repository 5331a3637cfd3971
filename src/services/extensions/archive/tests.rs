use super::*;
use std::io::Write as _;
use tempfile::TempDir;

const LIMIT: u64 = 1 << 20;

fn header(kind: EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o4711);
    header
}

/// Puts a name into a header unchecked; the builder would refuse some names.
fn named(mut header: tar::Header, name: &str, link: &str) -> tar::Header {
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    header
}

fn tar_of(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let (link, content) = match kind {
            EntryType::Symlink | EntryType::Link => (*text, ""),
            _ => ("", *text),
        };
        let header = named(header(*kind, content.len() as u64), name, link);
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Folders {
    dir: TempDir,
    libraries: PathBuf,
    extensions: PathBuf,
}

impl Folders {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [libraries, extensions] = ["lib", "ext"].map(|name| dir.path().join(name));
        fs::create_dir(&libraries).unwrap();
        fs::create_dir(&extensions).unwrap();
        Self { dir, libraries, extensions }
    }

    fn install(&self, archive: &[u8]) -> Result<(), ArchiveError> {
        let mut stage = Stage::new(&self.libraries, &self.extensions);
        unpack(archive, &mut stage, LIMIT)?;
        stage.install().unwrap();
        Ok(())
    }

    /// Relative paths of all entries, with the content of files.
    fn found(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(self.dir.path()).unwrap().display().to_string();
                if path.is_symlink() {
                    found.push((name, fs::read_link(path).unwrap().display().to_string()));
                } else if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push((name, fs::read_to_string(path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }
}

fn text((name, content): (&str, &str)) -> (String, String) {
    (name.to_owned(), content.to_owned())
}

use EntryType::{Directory, Link, Regular, Symlink};

#[test]
fn files_go_where_they_belong() {
    let folders = Folders::new();
    let archive = zstd_of(&tar_of(&[
        ("./", Directory, ""),
        ("./share/extension/", Directory, ""),
        ("./share/extension/x.control", Regular, "c"),
        ("share/extension/tsearch/d.txt", Regular, "d"),
        ("lib/libx.so", Symlink, "libx.so.1"),
        ("lib/libx.so.1", Regular, "elf"),
        ("lib/libx.so.1.0", Link, "lib/libx.so.1"),
        ("lib/bc/i.bc", Symlink, "../libx.so.1"),
        ("share/doc/readme", Regular, "passed over"),
        ("bin/tool", Regular, "passed over"),
    ]));
    folders.install(&archive).unwrap();
    let expected = [
        ("ext/tsearch/d.txt", "d"),
        ("ext/x.control", "c"),
        ("lib/bc/i.bc", "../libx.so.1"),
        ("lib/libx.so", "libx.so.1"),
        ("lib/libx.so.1", "elf"),
        ("lib/libx.so.1.0", "elf"),
    ];
    assert_eq!(folders.found(), expected.map(text));
    let mode = fs::metadata(folders.libraries.join("libx.so.1")).unwrap();
    // No setuid, readable for all.
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o7777, 0o755);
}

#[test]
fn nothing_leaves_its_folder() {
    let cases: [&[(&str, EntryType, &str)]; 12] = [
        &[("../x", Regular, "")],
        &[("lib/../../x", Regular, "")],
        &[("/lib/x", Regular, "")],
        &[("lib/x", Symlink, "/etc/passwd")],
        &[("lib/x", Symlink, "../x")],
        &[("lib/a/x", Symlink, "../../x")],
        &[("lib/a/b/x", Symlink, "../c/../x")],
        // The names do not lead deeper, so each `..` leads further up.
        &[("lib/d", Symlink, "."), ("lib/e", Symlink, "d/d/d/../../..")],
        &[("lib/x", Link, "/etc/passwd")],
        &[("lib/x", Link, "../x")],
        &[("lib/x", Link, "bin/x")],
        // Of an area without files; not below the working directory, which is that of the crate here.
        &[("lib/x", Link, "share/extension/Cargo.toml")],
    ];
    for entries in cases {
        let folders = Folders::new();
        let error = folders.install(&zstd_of(&tar_of(entries))).unwrap_err();
        assert!(matches!(error, ArchiveError::Climbing(_)), "{entries:?}: {error}");
        assert!(!error.is_transient());
        assert_eq!(folders.found(), []);
    }
    // Through a link that stays inside.
    let folders = Folders::new();
    let archive = tar_of(&[("lib/a", Symlink, "b"), ("lib/a/x", Regular, "")]);
    let error = folders.install(&zstd_of(&archive)).unwrap_err();
    assert!(matches!(error, ArchiveError::Write { .. }), "{error}");
    assert_eq!(folders.found(), []);
}

#[test]
fn only_files_and_links() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let folders = Folders::new();
        let error = folders.install(&zstd_of(&tar_of(&[("lib/x", kind, "")]))).unwrap_err();
        assert!(error.to_string().contains("\"lib/x\" is a device"), "{error}");
        assert_eq!(folders.found(), []);
    }
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let folders = Folders::new();
    let zeros = "\0".repeat(2 * LIMIT as usize);
    let too_large = |archive: &[u8]| {
        let error = folders.install(archive).unwrap_err();
        assert!(matches!(error, ArchiveError::TooLarge(LIMIT)), "{error}");
        assert_eq!(folders.found(), []);
    };
    too_large(&zstd_of(&tar_of(&[("lib/x", Regular, &zeros)])));
    too_large(&zstd_of(&tar_of(&[("bin/x", Regular, &zeros)])));
    // Behind the end of the tar.
    let mut archive = tar_of(&[("lib/x", Regular, "elf")]);
    archive.extend(zeros.as_bytes());
    too_large(&zstd_of(&archive));
    // A long name, which the library would hold in memory.
    too_large(&zstd_of(&tar_of(&[("././@LongLink", EntryType::GNULongName, &zeros)])));
}

/// A header can have a false size.
#[test]
fn a_lie_about_the_size_is_a_broken_archive() {
    let folders = Folders::new();
    let mut archive = tar_of(&[("lib/x", Regular, "elf")]);
    let lie = named(header(Regular, 1 << 31), "lib/x", "");
    archive[..512].copy_from_slice(lie.as_bytes());
    let error = folders.install(&zstd_of(&archive)).unwrap_err();
    assert!(matches!(error, ArchiveError::Broken(_)), "{error}");
    assert_eq!(folders.found(), []);
}

#[test]
fn broken_archives() {
    let good = zstd_of(&tar_of(&[("lib/x", Regular, "elf")]));
    let mut checksum = good.clone();
    *checksum.last_mut().unwrap() ^= 1;
    let cut = &good[..good.len() - 6];
    for bad in [b"".as_slice(), b"<html>sorry</html>", cut, &checksum, &zstd_of(&[7; 600])] {
        let folders = Folders::new();
        let error = folders.install(bad).unwrap_err();
        assert!(matches!(error, ArchiveError::Broken(_)), "{error}");
        assert!(error.is_transient());
        assert_eq!(folders.found(), []);
    }
    let folders = Folders::new();
    let error = folders.install(&zstd_of(&tar_of(&[("bin/x", Regular, "")]))).unwrap_err();
    assert!(matches!(error, ArchiveError::NoFiles), "{error}");
}
