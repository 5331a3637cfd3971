use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::storage::testing::{Entries, gzip, tar};

/// A data directory with its configuration, inside a folder that must stay as it is.
fn pgdata() -> (TempDir, PathBuf) {
    let around = tempfile::tempdir().unwrap();
    let pgdata = around.path().join("pgdata");
    fs::create_dir(&pgdata).unwrap();
    fs::set_permissions(&pgdata, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(pgdata.join("postgresql.conf"), "ours").unwrap();
    (around, pgdata)
}

fn unpack_pieces(pgdata: &Path, archive: &[u8], piece: usize) -> Result<(), UnpackError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut unpacker = Unpacker::start(pgdata, false)?;
        for piece in archive.chunks(piece) {
            if !unpacker.push(Bytes::copy_from_slice(piece)).await {
                break;
            }
        }
        unpacker.finish().await
    })
}

fn unpack(pgdata: &Path, archive: &[u8]) -> Result<(), UnpackError> {
    unpack_pieces(pgdata, archive, 8192)
}

/// Everything below a directory: path to content, directories with a slash.
fn listing(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            assert!(!kind.is_symlink());
            if kind.is_dir() {
                found.insert(name + "/", Vec::new());
                folders.push(path);
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

const SMALL: Entries<'static> = &[
    ("base/", b""),
    ("base/1/", b""),
    ("PG_VERSION", b"16\n"),
    ("base/1/PG_VERSION", b"16\n"),
    ("base/1/empty", b""),
    ("pg_wal/archive_status/", b""),
    ("zenith.signal", b"PREV LSN: none"),
    ("global/pg_control", &[7; 8192]),
];

#[test]
fn files_directories_modes_and_the_signal_file() {
    let (_around, pgdata) = pgdata();
    unpack(&pgdata, &gzip(&tar(SMALL))).unwrap();
    let found = listing(&pgdata);
    for (path, content) in SMALL {
        assert_eq!(found.get(*path).map(Vec::as_slice), Some(*content), "{path}");
    }
    assert_eq!(found["neon.signal"], b"PREV LSN: none");
    assert_eq!(found["postgresql.conf"], b"ours");
    let mode = |path: &str| pgdata.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("PG_VERSION"), mode("base"), mode("global")], [0o600, 0o755, 0o700]);
    assert_eq!(mode(""), 0o700);
}

#[test]
fn modes_ignore_the_umask_and_keep_the_owner_in() {
    let (_around, pgdata) = pgdata();
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode) in [("wide", 0o666), ("none", 0o000), ("suid", 0o4755)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty()).unwrap();
    }
    unpack(&pgdata, &gzip(&builder.into_inner().unwrap())).unwrap();
    let mode = |path: &str| pgdata.join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("wide"), mode("none"), mode("suid")], [0o666, 0o600, 0o755]);
}

#[test]
fn an_existing_neon_signal_stays() {
    let (_around, pgdata) = pgdata();
    unpack(&pgdata, &gzip(&tar(&[("zenith.signal", b"old"), ("neon.signal", b"new")]))).unwrap();
    assert_eq!(listing(&pgdata)["neon.signal"], b"new");
}

#[test]
fn several_members_and_markers_within_are_read_on() {
    let (_around, pgdata) = pgdata();
    let (first, second) = (tar(&[("a", b"1")]), tar(&[("b", b"2")]));
    unpack(&pgdata, &[gzip(&first), gzip(&second)].concat()).unwrap();
    let found = listing(&pgdata);
    assert_eq!((&found["a"][..], &found["b"][..]), (&b"1"[..], &b"2"[..]));
}

#[test]
fn a_missing_end_marker_is_fine() {
    let (_around, pgdata) = pgdata();
    let mut archive = tar(&[("a", b"1")]);
    archive.truncate(1024);
    unpack(&pgdata, &gzip(&archive)).unwrap();
}

#[test]
fn slashes_and_dots_in_front_are_dropped_and_repeated_files_replaced() {
    let (_around, pgdata) = pgdata();
    unpack(&pgdata, &gzip(&tar(&[("./", b""), ("/abs", b"1"), ("./abs", b"22")]))).unwrap();
    assert_eq!(listing(&pgdata)["abs"], b"22");
    assert_eq!(pgdata.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn our_configuration_stays() {
    let (_around, pgdata) = pgdata();
    let archive = tar(&[("./postgresql.conf", b"theirs"), ("x/postgresql.conf", b"other")]);
    unpack(&pgdata, &gzip(&archive)).unwrap();
    let found = listing(&pgdata);
    assert_eq!(found["postgresql.conf"], b"ours");
    assert_eq!(found["x/postgresql.conf"], b"other");
}

#[test]
fn climbing_entries_refuse_the_archive() {
    for path in ["../evil", "a/../../evil", "/../evil", "a/..", "..", "a/../b", "../evil/"] {
        let (around, pgdata) = pgdata();
        let error = unpack(&pgdata, &gzip(&tar(&[(path, b"")]))).unwrap_err();
        assert!(matches!(error, UnpackError::Climbing(_)), "{path}: {error}");
        assert!(error.is_permanent());
        assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
        assert_eq!(listing(&pgdata).len(), 1, "{path}");
    }
}

/// The refusal also wins over garbage that follows, which the other thread may reach first.
#[test]
fn a_refusal_wins_over_a_corrupt_stream() {
    let (_around, pgdata) = pgdata();
    let mut archive = gzip(&tar(&[("../evil", b"")]));
    archive.extend(b"garbage");
    assert!(unpack(&pgdata, &archive).unwrap_err().is_permanent());
}

#[test]
fn links_and_devices_are_refused() {
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Fifo] {
        let (_around, pgdata) = pgdata();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, "way-out", "/etc").unwrap();
        let error = unpack(&pgdata, &gzip(&builder.into_inner().unwrap())).unwrap_err();
        assert!(matches!(error, UnpackError::Kind { .. }), "{error}");
    }
}

/// The tar reader holds these entries in memory.
#[test]
fn long_names_and_extended_headers_have_a_limit() {
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader]
    {
        let (_around, pgdata) = pgdata();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        let size = 64 << 20;
        header.set_size(size);
        builder.append_data(&mut header, "x", io::repeat(b'n').take(size)).unwrap();
        let error = unpack(&pgdata, &gzip(&builder.into_inner().unwrap())).unwrap_err();
        assert!(matches!(error, UnpackError::Headers), "{kind:?}: {error}");
        assert!(error.is_permanent());
    }
    // Files have no such limit, even if they are skipped.
    let (_around, pgdata) = pgdata();
    let large = vec![1; 3 << 20];
    let files: Entries<'_> = &[("postgresql.conf", &large[..]), ("a", &large[..]), ("b", b"2")];
    unpack(&pgdata, &gzip(&tar(files))).unwrap();
    assert_eq!(listing(&pgdata)["a"], large);
}

#[test]
fn links_that_are_there_already_are_not_followed() {
    let (around, pgdata) = pgdata();
    let outside = around.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, pgdata.join("dir")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), pgdata.join("file")).unwrap();
    let error = unpack(&pgdata, &gzip(&tar(&[("dir/x", b"1")]))).unwrap_err();
    assert!(matches!(error, UnpackError::Entry { .. }), "{error}");
    unpack(&pgdata, &gzip(&tar(&[("file", b"1")]))).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn damaged_archives_say_what_is_wrong() {
    let whole = tar(SMALL);
    let cut_file = whole[..whole.len() - 1024 - 4096].to_vec();
    let cut_header = whole[..700].to_vec();
    let compressed = gzip(&whole);
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("nothing", Vec::new(), "archive is empty"),
        ("garbage", b"this is not a gzip stream at all".to_vec(), "not a complete gzip"),
        ("cut gzip", compressed[..compressed.len() / 2].to_vec(), "not a complete gzip"),
        ("cut trailer", compressed[..compressed.len() - 4].to_vec(), "not a complete gzip"),
        ("tail", [compressed.clone(), b"tail".to_vec()].concat(), "not a complete gzip"),
        ("cut file", gzip(&cut_file), "ends within global/pg_control"),
        ("cut header", gzip(&cut_header), "not a complete tar"),
        ("no entries", gzip(&[0; 1024]), "holds no files"),
    ];
    for (name, archive, text) in cases {
        let (_around, pgdata) = pgdata();
        let error = unpack(&pgdata, &archive).unwrap_err();
        assert!(error.to_string().contains(text), "{name}: {error}");
        assert!(!error.is_permanent(), "{name}");
    }
}

#[test]
fn contradicting_entries_are_the_archives_fault() {
    for entries in
        [&[("a", &b"1"[..]), ("a/b", &b"2"[..])][..], &[("a/b", &b"1"[..]), ("a", &b"2"[..])][..]]
    {
        let (_around, pgdata) = pgdata();
        let error = unpack(&pgdata, &gzip(&tar(entries))).unwrap_err();
        assert!(matches!(error, UnpackError::Entry { .. }), "{error}");
    }
}

#[test]
fn a_missing_data_directory_is_the_machines_fault() {
    let around = tempfile::tempdir().unwrap();
    let error = unpack(&around.path().join("none"), &gzip(&tar(SMALL))).unwrap_err();
    assert!(matches!(error, UnpackError::Local { .. }), "{error}");
}

#[test]
fn cleaning_keeps_the_configuration_and_the_trash() {
    let (_around, pgdata) = pgdata();
    unpack(&pgdata, &gzip(&tar(SMALL))).unwrap();
    fs::create_dir(pgdata.join(".compute_ctl.trash-7")).unwrap();
    std::os::unix::fs::symlink("/etc", pgdata.join("link")).unwrap();
    clean_for_retry(&pgdata).unwrap();
    let left: Vec<String> = listing(&pgdata).into_keys().collect();
    assert_eq!(left, [".compute_ctl.trash-7/", "postgresql.conf"]);
    assert!(Path::new("/etc").is_dir());
}

/// Dropping the future half-way leaves no thread, because the drop waits for both.
#[tokio::test]
async fn dropping_stops_the_threads() {
    let (_around, pgdata) = pgdata();
    let content = vec![0; 8 << 20];
    let archive = gzip(&tar(&[("big", &content)]));
    let mut unpacker = Unpacker::start(&pgdata, false).unwrap();
    assert!(unpacker.push(Bytes::copy_from_slice(&archive[..archive.len() / 2])).await);
    drop(unpacker);
    fs::remove_dir_all(&pgdata).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunk_boundaries_do_not_matter(piece in 1usize..700) {
        let (_around, pgdata) = pgdata();
        unpack_pieces(&pgdata, &gzip(&tar(SMALL)), piece).unwrap();
        prop_assert_eq!(listing(&pgdata).len(), SMALL.len() + 4);
    }

    #[test]
    fn garbage_neither_panics_nor_escapes(bytes: Vec<u8>, compress: bool) {
        let (around, pgdata) = pgdata();
        let archive = if compress { gzip(&bytes) } else { bytes };
        let _ = unpack(&pgdata, &archive);
        prop_assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
        prop_assert_eq!(fs::read(pgdata.join("postgresql.conf")).unwrap(), b"ours");
    }

    /// Damage within an archive whose checksums still fit, so that it reaches the writer.
    #[test]
    fn odd_headers_neither_panic_nor_escape(
        names in proptest::collection::vec("[./a-c\u{0}]{1,12}", 1..6),
        kinds in proptest::collection::vec(any::<u8>(), 6),
        size in 0u64..2000,
    ) {
        let (around, pgdata) = pgdata();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind) in names.iter().zip(kinds) {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_size(size);
            header.set_mode(0o700);
            header.set_cksum();
            builder.append(&header, &vec![b'x'; 700][..]).unwrap();
        }
        let _ = unpack(&pgdata, &gzip(&builder.into_inner().unwrap()));
        prop_assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
        prop_assert_eq!(fs::read(pgdata.join("postgresql.conf")).unwrap(), b"ours");
        listing(&pgdata);
    }
}
