//! Streams that are cut, changed or joined at any place.

use bytes::Bytes;

use super::super::errors::UnpackError;
use super::super::unpack::Unpacker;
use super::*;

/// Unpacks into a new directory.
fn unpacked(stream: &[u8]) -> (Result<(), UnpackError>, Files) {
    let pgdata = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let result = runtime.block_on(async {
        let mut unpacker = Unpacker::start(pgdata.path(), false)?;
        if !stream.is_empty() {
            unpacker.push(Bytes::copy_from_slice(stream)).await;
        }
        unpacker.finish().await
    });
    (result, files(pgdata.path()))
}

#[test]
fn a_cut_at_any_byte_is_noticed() {
    let whole = archive();
    for end in 0..whole.len() {
        let (result, _) = unpacked(&whole[..end]);
        let error = result.expect_err(&format!("{end} of {} bytes", whole.len()));
        assert!(!error.is_permanent(), "{end}: {error}");
    }
    assert_eq!(unpacked(&whole).1, good_files());
}

/// The header has a time, an operating system and the like, which may be any, and the same bytes can
/// be compressed in several ways.
#[test]
fn a_change_of_any_bit_is_noticed_or_changes_no_file() {
    let whole = archive();
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let (result, files) = unpacked(&changed);
        match result {
            Ok(()) => {
                assert_eq!(files, good_files(), "bit {bit}");
                assert!(bit / 8 < whole.len() - 8, "bit {bit} of the checksum and length");
            }
            Err(error) => assert!(!error.is_permanent(), "bit {bit}: {error}"),
        }
    }
}

/// Members may be joined anywhere, also within a file; each of them has a checksum of its own.
#[test]
fn joined_members_are_one_archive_and_each_is_checked() {
    let archive = tar(&[("PG_VERSION", b"16\n"), ("base/", b""), ("base/1", &[7; 700])]);
    for at in (0..=archive.len()).step_by(331) {
        let (first, second) = archive.split_at(at);
        let (first, second) = (packed(first), packed(second));
        let (result, files) = unpacked(&[&first[..], &packed(b""), &second].concat());
        result.unwrap_or_else(|error| panic!("joined at {at}: {error}"));
        assert_eq!(files, good_files(), "joined at {at}");

        // Checksum and length of either.
        for wrong in 1..=8 {
            for (n, whole) in [&first, &second].into_iter().enumerate() {
                let mut changed = whole.clone();
                let place = whole.len() - wrong;
                changed[place] ^= 1;
                let stream = if n == 0 {
                    [&changed[..], &second].concat()
                } else {
                    [&first[..], &changed].concat()
                };
                let error = unpacked(&stream).0.expect_err(&format!("{at} {n} {wrong}"));
                assert!(matches!(error, UnpackError::Gzip(_)), "{at} {n} {wrong}: {error}");
            }
        }
        // The second is cut: a whole first member is not a whole archive.
        for end in [1, second.len() / 2, second.len() - 1] {
            let error = unpacked(&[&first[..], &second[..end]].concat()).0;
            let error = error.expect_err(&format!("{at} {end}"));
            assert!(matches!(error, UnpackError::Gzip(_)), "{at} {end}: {error}");
        }
    }
}

#[test]
fn whatever_follows_the_last_member_is_noticed() {
    for tail in [&b"\0"[..], &[0; 512], b"tail", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08\0"] {
        let (result, _) = unpacked(&[&archive()[..], tail].concat());
        assert!(matches!(result, Err(UnpackError::Gzip(_))), "{tail:?}: {result:?}");
    }
}
