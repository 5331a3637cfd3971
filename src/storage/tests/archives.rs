//! Archives of all kinds: what they become here is what Debian's `tar` makes of them.

use std::process::Command;

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::super::errors::UnpackError;
use super::super::tree::Tree;
use super::*;

/// How names and sizes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Ustar,
    Gnu,
    Pax,
}

/// An entry: its folder, its name, whether it is a folder itself, its mode, and the size of its
/// content.
#[derive(Debug, Clone)]
struct Entry {
    folders: Vec<u8>,
    name: u8,
    is_folder: bool,
    mode: u32,
    size: usize,
}

/// A name of a file or folder; the two never have the same, and some are too long for a header of
/// the older formats.
fn part(name: u8, is_folder: bool) -> String {
    let kind = if is_folder { 'd' } else { 'f' };
    match name {
        0..5 => format!("{kind}{name}"),
        5 => format!("{kind} ä'\\{name}"),
        6 => format!("{kind}{name}{}", "x".repeat(98)),
        _ => format!("{kind}{name}{}", "y".repeat(180)),
    }
}

impl Entry {
    fn path(&self) -> String {
        let folders = self.folders.iter().map(|name| part(*name, true));
        let all: Vec<_> = folders.chain([part(self.name, self.is_folder)]).collect();
        all.join("/")
    }

    fn content(&self, number: usize) -> Vec<u8> {
        (0..self.size).map(|at| (at * 31 + number * 7) as u8).collect()
    }

    fn append(&self, number: usize, format: Format, builder: &mut Builder<Vec<u8>>) {
        let (path, content) = (self.path(), self.content(number));
        let mut header = match format {
            Format::Gnu => Header::new_gnu(),
            Format::Ustar | Format::Pax => Header::new_ustar(),
        };
        header.set_entry_type(if self.is_folder {
            EntryType::Directory
        } else {
            EntryType::Regular
        });
        header.set_mode(self.mode);
        header.set_size(content.len() as u64);
        match format {
            // Writes a long name in an entry of its own.
            Format::Gnu => builder.append_data(&mut header, path, &*content).unwrap(),
            Format::Pax => {
                let size = content.len().to_string();
                let records = [("path", path.as_bytes()), ("size", size.as_bytes())];
                builder.append_pax_extensions(records).unwrap();
                header.set_path("other").unwrap();
                header.set_cksum();
                builder.append(&header, &*content).unwrap();
            }
            Format::Ustar => {
                // Its prefix holds what fits; longer names are not possible.
                if header.set_path(&path).is_ok() {
                    header.set_cksum();
                    builder.append(&header, &*content).unwrap();
                }
            }
        }
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let sizes = prop::sample::select(vec![0, 1, 511, 512, 513, 1024, 70_000, 300_000]);
    let mode = prop::sample::select(vec![0o600, 0o644, 0o640, 0o400, 0o777, 0o700, 0o000]);
    (prop::collection::vec(0u8..8, 0..4), 0u8..8, prop::bool::weighted(0.3), mode, sizes).prop_map(
        |(folders, name, is_folder, mode, size)| {
            let size = if is_folder { 0 } else { size };
            Entry { folders, name, is_folder, mode, size }
        },
    )
}

fn ours(archive: &[u8]) -> (Result<u64, UnpackError>, Files) {
    let pgdata = tempfile::tempdir().unwrap();
    let result = Tree::open(pgdata.path()).unwrap().unpack(archive);
    (result, files(pgdata.path()))
}

/// What Debian's `tar` makes of it; `None` if it complains.
fn theirs(archive: &[u8]) -> Option<Files> {
    let around = tempfile::tempdir().unwrap();
    let (file, root) = (around.path().join("archive"), around.path().join("root"));
    fs::write(&file, archive).unwrap();
    fs::create_dir(&root).unwrap();
    let mut tar = Command::new("tar");
    tar.args([
        "--extract",
        "--ignore-zeros",
        "--preserve-permissions",
        "--no-same-owner",
        "--file",
    ]);
    let done = tar.arg(&file).arg("--directory").arg(&root).output().unwrap();
    done.status.success().then(|| files(&root))
}

/// The two are equal in what must be equal: names, kinds, contents, and modes of what has an entry,
/// except that the owner keeps access here. Folders without an entry are 0700 here.
fn assert_equal(ours: &Files, theirs: &Files, folders_with_entries: &[PathBuf]) {
    assert!(ours.keys().eq(theirs.keys()), "{:?}\n{:?}", ours.keys(), theirs.keys());
    for (path, (mode, content)) in ours {
        let (other, expected) = &theirs[path];
        assert!(content == expected, "{path:?}");
        let owner = if content.is_some() { 0o600 } else { 0o700 };
        if content.is_some() || folders_with_entries.contains(path) {
            assert_eq!(*mode, other & 0o777 | owner, "{path:?}");
        } else {
            assert_eq!(*mode, 0o700, "{path:?}");
        }
    }
}

fn folders(entries: &[Entry]) -> Vec<PathBuf> {
    entries.iter().filter(|it| it.is_folder).map(|it| it.path().into()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// In any order, also a folder after its files and a file twice, and also as several archives
    /// one after the other, with or without the marker of the end between them and at the end.
    #[test]
    fn archives_become_what_tar_makes_of_them(
        entries in prop::collection::vec(entry(), 1..12),
        format in prop::sample::select(vec![Format::Ustar, Format::Gnu, Format::Pax]),
        parts in 1usize..4,
        markers: [bool; 4],
    ) {
        let mut archive = Vec::new();
        for (n, part) in entries.chunks(entries.len().div_ceil(parts)).enumerate() {
            let mut builder = Builder::new(Vec::new());
            for (number, entry) in part.iter().enumerate() {
                entry.append(n * 100 + number, format, &mut builder);
            }
            let whole = builder.into_inner().unwrap();
            let end = whole.len() - if markers[n] { 0 } else { 1024 };
            archive.extend(&whole[..end]);
        }
        let (result, ours) = ours(&archive);
        result.unwrap();
        // Without any block `tar` says that this does not look like an archive.
        if !ours.is_empty() {
            assert_equal(&ours, &theirs(&archive).unwrap(), &folders(&entries));
        }
    }
}

/// Archives that `tar` has made, in each of its formats, become the tree that was packed.
#[test]
fn archives_of_tar_become_the_tree_they_were_made_of() {
    let around = tempfile::tempdir().unwrap();
    let root = around.path().join("root");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let entries: Vec<_> = (0..60)
        .map(|_| {
            let tree = entry().new_tree(&mut runner).unwrap();
            proptest::strategy::ValueTree::current(&tree)
        })
        .collect();
    fs::create_dir(&root).unwrap();
    for (number, entry) in entries.iter().enumerate() {
        let path = root.join(entry.path());
        if entry.is_folder {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, entry.content(number)).unwrap();
        }
    }
    let expected = files(&root);
    for format in ["gnu", "oldgnu", "posix"] {
        let made = Command::new("tar")
            .args(["--create", "--file=-", &format!("--format={format}"), "--directory"])
            .arg(&root)
            .arg(".")
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (result, ours) = ours(&made.stdout);
        result.unwrap();
        assert_eq!(ours, expected, "{format}");
    }
}

/// The tar library takes a line feed for the end of a record, also one within a name, and would use
/// the short name of the header instead.
#[test]
fn a_record_that_cannot_be_read_is_an_error() {
    for records in ["18 path=two\nlines\n", "99 path=longer\n", "x path=name\n"] {
        let mut builder = Builder::new(Vec::new());
        for (name, kind, content) in
            [("x", EntryType::XHeader, records), ("short", EntryType::Regular, "content")]
        {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_path(name).unwrap();
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        }
        let (result, files) = ours(&builder.into_inner().unwrap());
        assert!(matches!(result, Err(UnpackError::Tar(_))), "{records:?}: {result:?}");
        assert!(files.is_empty(), "{records:?}: {:?}", files.keys());
    }
}

/// Links and devices refuse an archive wherever they are in it.
#[test]
fn a_link_or_device_at_any_place_refuses_the_archive() {
    for kind in
        [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo]
    {
        for at in 0..4 {
            let mut builder = Builder::new(Vec::new());
            for number in 0..4 {
                let mut header = Header::new_gnu();
                header.set_size(0);
                header.set_mode(0o600);
                header.set_entry_type(if number == at { kind } else { EntryType::Regular });
                builder.append_link(&mut header, format!("f{number}"), "f9").unwrap();
            }
            let (result, files) = ours(&builder.into_inner().unwrap());
            let error = result.unwrap_err();
            assert!(
                matches!(&error, UnpackError::Kind { path, .. } if path.ends_with(format!("f{at}")))
            );
            assert_eq!(files.len(), at, "{kind:?}: nothing after it is written");
        }
    }
}

/// A cut between two entries cannot be told from an archive without a marker; every other one is
/// noticed, and none makes a file shorter than its header says.
#[test]
fn a_cut_is_noticed_unless_it_is_between_two_entries() {
    let archive = tar(&[("PG_VERSION", b"16\n"), ("base/", b""), ("base/1", &[7; 700])]);
    let ends = [0, 1024, 1536, 3072, 3584, 4096];
    // Around each block, and some within.
    for end in (0..=archive.len()).filter(|end| (end + 1) % 512 < 3 || end % 97 == 0) {
        let (result, files) = ours(&archive[..end]);
        assert_eq!(result.is_ok(), ends.contains(&end), "{end}: {result:?}");
        if result.is_ok() {
            let whole = good_files();
            assert!(files.iter().all(|(path, file)| whole.get(path) == Some(file)), "{end}");
        }
    }
}

/// Headers have a checksum.
#[test]
fn a_change_of_any_byte_of_a_header_is_noticed() {
    let archive = tar(&[("PG_VERSION", b"16\n"), ("base/", b""), ("base/1", &[7; 700])]);
    for header in [0, 1024, 1536] {
        for at in 0..512 {
            // What is not used is the same in all of them.
            if header != 1536 && archive[header + at] == 0 {
                continue;
            }
            let mut changed = archive.clone();
            changed[header + at] ^= 1 << (at % 8);
            let (result, files) = ours(&changed);
            assert!(result.is_err() || files == good_files(), "{header} {at}");
        }
    }
}
