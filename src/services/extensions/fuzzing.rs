//! Properties of extensions: names, archives and left-over files, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use url::Url;

use super::archive::unpack;
use super::control::is_file_name;
use super::index::{archive_url, file_name, is_allowed, resolve};
use super::remains::{TEMP_PREFIX, remove_remains};
use super::stage::Stage;
use crate::fuzzing::{lines, seeded};
use crate::postgres::install::PgVersion;
use crate::spec::wire::RemoteExtensions;

/// Most bytes of an archive here.
const LIMIT: u64 = 1 << 20;

/// The name in a request, the gateway, and the index.
pub(crate) fn index(data: &[u8]) {
    let Some(([name, gateway], index)) = lines(data) else { return };
    if let Ok(index) = serde_json::from_str::<RemoteExtensions>(index) {
        for is_library in [false, true] {
            if let Ok(extension) = resolve(&index, name, is_library) {
                assert!(is_allowed(&index, extension));
                assert!(index.extension_data.contains_key(extension));
                assert!(is_library || extension == name);
            }
        }
    }
    let Ok(gateway) = Url::parse(gateway) else { return };
    if gateway.cannot_be_a_base() {
        return;
    }
    let url = archive_url(&gateway, PgVersion::V17, name);
    assert_eq!(url.origin().ascii_serialization(), gateway.origin().ascii_serialization());
    let parts = |url: &Url| -> Vec<String> {
        url.path_segments().into_iter().flatten().map(str::to_owned).collect()
    };
    let (mut own, all) = (parts(&gateway), parts(&url));
    while own.last().is_some_and(String::is_empty) {
        own.pop();
    }
    assert!(all.len() >= own.len() + 5 && all.starts_with(&own), "{url}");
    assert_eq!(all[all.len() - 3..][..2], ["v17", "extensions"], "{url}");
    let last = percent_encoding::percent_decode_str(all.last().unwrap()).decode_utf8().unwrap();
    // A URL has no line feeds and tabs.
    assert_eq!(last, file_name(name).replace(['\n', '\r', '\t'], ""), "{url}");
    assert!(!is_file_name(name) || !name.contains('/') && name != ".." && name != ".");
}

/// A zstd stream, or a tar in one: no file lies outside of the two folders, each comes from the
/// archive, and there are not more bytes than allowed.
pub(crate) fn archive(data: &[u8]) {
    let (seed, data) = seeded(data);
    let archive = if seed % 2 == 0 { zstd::encode_all(data, 1).unwrap() } else { data.to_vec() };
    let whole = installed(archive.as_slice());
    let (first, second) = archive.split_at(archive.len() * usize::from(seed) / 256);
    assert_eq!(installed(first.chain(second)), whole);
    if seed % 2 == 0 {
        let is_inside = |content: &[u8]| {
            content.is_empty() || data.windows(content.len()).any(|part| part == content)
        };
        assert!(whole.1.values().flatten().all(|content| is_inside(content)));
    }
}

type Installed = (Result<(), String>, BTreeMap<PathBuf, Option<Vec<u8>>>);

fn installed(archive: impl Read) -> Installed {
    let around = tempfile::tempdir().unwrap();
    let [libraries, extensions] = ["lib", "ext"].map(|name| around.path().join(name));
    for folder in [&libraries, &extensions] {
        fs::create_dir(folder).unwrap();
    }
    let mut stage = Stage::new(&libraries, &extensions);
    let place = around.path().display().to_string();
    let unpacked = unpack(archive, &mut stage, LIMIT).map_err(|error| error.to_string());
    let result = unpacked.and_then(|()| stage.install().map_err(|error| error.to_string()));
    // The name of a temporary folder is in the text of some errors.
    let result = result.map_err(|text| match text.find(&place) {
        Some(at) => text[..at].to_owned(),
        None => text,
    });
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 2);
    let (mut files, mut folders, mut bytes) = (BTreeMap::new(), vec![libraries, extensions], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(around.path()).unwrap().to_owned();
            assert!(!name.starts_with(TEMP_PREFIX), "{name:?}");
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                folders.push(path);
            } else if meta.is_symlink() {
                if let Ok(target) = fs::canonicalize(&path) {
                    let inside = fs::canonicalize(around.path()).unwrap();
                    assert!(target.starts_with(inside), "{name:?}: {target:?}");
                }
                files.insert(name, None);
            } else {
                bytes += meta.len();
                files.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    // A hard link counts twice here.
    assert!(bytes <= LIMIT * 100);
    (result, files)
}

/// Names, one in a line: only those with the prefix are removed.
pub(crate) fn remains(data: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let is_name = |name: &&[u8]| {
        let name = Path::new(OsStr::from_bytes(name));
        let bytes = name.as_os_str().as_encoded_bytes();
        name.to_str().is_none_or(is_file_name) && !bytes.contains(&b'/') && !bytes.is_empty()
    };
    let mut names: BTreeSet<&[u8]> = data.split(|b| *b == b'\n').take(8).filter(is_name).collect();
    names.retain(|name| {
        let path = folder.path().join(OsStr::from_bytes(name));
        match name.len() % 3 {
            0 => fs::create_dir(&path).is_ok(),
            _ => fs::File::create_new(&path).and_then(|mut file| file.write_all(b"x")).is_ok(),
        }
    });
    remove_remains(folder.path());
    names.retain(|name| !name.starts_with(TEMP_PREFIX.as_bytes()));
    let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: BTreeSet<Vec<u8>> = left.map(|name| name.as_bytes().to_vec()).collect();
    assert!(left.iter().map(Vec::as_slice).eq(names));
}
