//! Archives: compared with what the tar library alone reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::EntryType;

use super::super::pipe::{Cancel, pipe};
use super::super::tree::Tree;
use super::super::unpack::inflate;
use crate::fuzzing::{pieces, seeded};

/// What an archive becomes: the number of entries or the error, and all files and folders.
type Unpacked = (Result<u64, String>, BTreeMap<PathBuf, Option<Vec<u8>>>);

/// An archive becomes the same files, in whatever pieces it comes, and those that the tar library
/// reads.
pub(crate) fn tar(data: &[u8]) {
    let (seed, archive) = seeded(data);
    check(archive, seed);
}

/// The records of an extended header, for a file that follows.
pub(crate) fn pax(data: &[u8]) {
    let (seed, records) = seeded(data);
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in [
        ("x", EntryType::XHeader, records),
        ("folder/file", EntryType::Regular, b"content"),
        ("other", EntryType::Regular, b"more"),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    check(&builder.into_inner().unwrap(), seed);
}

fn check(archive: &[u8], seed: u8) {
    let whole = unpacked(archive);
    let all = pieces(archive, 1000, seed).into_iter().map(Cursor::new);
    let in_pieces = all.fold(Box::new(std::io::empty()) as Box<dyn Read>, |before, piece| {
        Box::new(before.chain(piece))
    });
    assert_eq!(unpacked(in_pieces), whole);
    let (result, tree) = whole;
    match (result, reference(archive)) {
        (Ok(count), Some(expected)) => {
            assert_eq!(count, expected.entries);
            let mut folders = expected.folders;
            for path in expected.files.keys() {
                folders.extend(path.ancestors().skip(1).map(Path::to_owned));
            }
            folders.remove(Path::new(""));
            let files = expected.files.into_iter().map(|(path, content)| (path, Some(content)));
            let all = files.chain(folders.into_iter().map(|path| (path, None)));
            assert_eq!(tree, all.collect());
        }
        (Ok(_), None) => panic!("what the tar library refuses was accepted"),
        (Err(error), Some(expected)) => {
            assert!(expected.contradicts_itself(), "{error}: {:?}", expected.files.keys());
        }
        (Err(_), None) => {}
    }
}

fn unpacked(archive: impl Read) -> Unpacked {
    let around = tempfile::tempdir().unwrap();
    let pgdata = around.path().join("pgdata");
    fs::create_dir(&pgdata).unwrap();
    let result = Tree::open(&pgdata).unwrap().unpack(archive);
    let place = pgdata.display().to_string();
    let result = result.map_err(|error| error.to_string().replace(&place, "pgdata"));
    // Nothing is outside.
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
    let (mut tree, mut folders) = (BTreeMap::new(), vec![pgdata.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let (is_dir, mode) = (meta.is_dir(), meta.permissions().mode());
            assert!(is_dir || meta.is_file(), "{path:?}");
            assert_eq!(mode & 0o600, 0o600, "{path:?}");
            let content = (!is_dir).then(|| fs::read(&path).unwrap());
            tree.insert(path.strip_prefix(&pgdata).unwrap().to_owned(), content);
            folders.extend(is_dir.then_some(path));
        }
    }
    (result, tree)
}

/// What the tar library makes of an archive of files and folders.
#[derive(Default)]
struct Reference {
    entries: u64,
    files: BTreeMap<PathBuf, Vec<u8>>,
    folders: BTreeSet<PathBuf>,
    /// All paths, in order, and whether each is a folder.
    order: Vec<(PathBuf, bool)>,
}

impl Reference {
    /// Whether the paths cannot all be made.
    fn contradicts_itself(&self) -> bool {
        let is_odd = |path: &Path| {
            let bytes = path.as_os_str().as_encoded_bytes();
            bytes.contains(&0)
                || bytes.len() > 3000
                || path.iter().any(|part| part.len() > 255)
                || path.ancestors().skip(1).any(|folder| self.files.contains_key(folder))
                || (self.files.contains_key(path) && self.is_folder(path))
        };
        self.order.iter().any(|(path, _)| is_odd(path))
    }

    fn is_folder(&self, path: &Path) -> bool {
        self.order.iter().any(|(other, is_folder)| {
            (*is_folder && other == path) || other.ancestors().skip(1).any(|folder| folder == path)
        })
    }
}

/// None if there is an error, or something that is neither a file nor a folder below the root.
fn reference(archive: &[u8]) -> Option<Reference> {
    let mut all = Reference::default();
    let mut archive = tar::Archive::new(archive);
    archive.set_ignore_zeros(true);
    for entry in archive.entries().ok()? {
        let mut entry = entry.ok()?;
        all.entries += 1;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            std::io::copy(&mut entry, &mut std::io::sink()).ok()?;
            continue;
        }
        if entry.pax_extensions().ok()?.is_some_and(|mut records| records.any(|it| it.is_err())) {
            return None;
        }
        let is_refused = kind.is_symlink() || kind.is_hard_link() || kind.is_gnu_sparse();
        if is_refused || matches!(kind, EntryType::Char | EntryType::Block | EntryType::Fifo) {
            return None;
        }
        let whole = entry.path().ok()?.into_owned();
        let mut path = PathBuf::new();
        for part in whole.components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::ParentDir => return None,
                _ => {}
            }
        }
        let is_kept = path.file_name().is_some() && path != Path::new("postgresql.conf");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        if is_kept {
            all.order.push((path.clone(), kind.is_dir()));
        }
        if is_kept && kind.is_dir() {
            all.folders.extend(path.ancestors().map(Path::to_owned));
        } else if is_kept {
            if content.len() as u64 != entry.size() {
                return None;
            }
            all.files.insert(path, content);
        }
    }
    Some(all)
}

/// A stream, or what one holds: it inflates to the same bytes, in whatever pieces it comes.
pub(crate) fn gzip(data: &[u8]) {
    let (seed, data) = seeded(data);
    let stream = match seed % 2 {
        0 => data.to_vec(),
        _ => {
            let (first, second) = data.split_at(data.len() / 2);
            let mut stream = [packed(first), packed(second)].concat();
            // Some are cut, or have a fault.
            let at = stream.len() * usize::from(seed) / 256;
            match seed % 8 {
                1 => stream.truncate(at),
                3 => stream[at] ^= seed,
                _ => {}
            }
            stream
        }
    };
    let mut expected = Vec::new();
    let read = MultiGzDecoder::new(stream.as_slice()).read_to_end(&mut expected);
    let whole = (expected, read.is_ok());
    for longest in [1, 9, 1000] {
        let (bytes, is_ok) = inflated(&pieces(&stream, longest, seed));
        assert_eq!(is_ok, whole.1, "{longest}");
        // How much is inflated before an error depends on the pieces.
        assert!(bytes == whole.0 || !is_ok && is_beginning(&bytes, &whole.0), "{longest}");
    }
    if seed % 2 == 1 && seed % 8 > 4 {
        assert_eq!(whole, (data.to_vec(), true));
    }
}

/// Whether one of the two begins with the other.
fn is_beginning(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn inflated(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let (chunks, compressed) = tokio::sync::mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        chunks.try_send(Bytes::copy_from_slice(piece)).unwrap();
    }
    drop(chunks);
    let (writer, mut reader) = pipe(2, 4096, &Cancel::default());
    std::thread::scope(|scope| {
        let inflating = scope.spawn(move || inflate(compressed, writer).is_ok());
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        (bytes, inflating.join().unwrap())
    })
}
