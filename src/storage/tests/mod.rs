//! Storage that lies: every message of a conversation is wrong in every way, and archives are
//! compared with what Debian's `tar` makes of them.
//!
//! Invariant: a lie ends in an error that names the peer, and another try finds a clean directory;
//! or it is one of those that are listed as harmless, and the files are those of the archive.

mod archives;
mod conversation;
mod grpc;
mod gzip;
mod libpq;
mod safekeepers;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::basebackup::{BasebackupRequest, BasebackupStats, get_basebackup};
use super::errors::BasebackupError;
use super::testing::{gzip as packed, tar};
use super::{BasebackupLimits, PageserverTarget, Progress};
use crate::spec::Lsn;
use crate::telemetry::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(60);

/// Mode and content of each file, and mode of each folder.
type Files = BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>;

fn archive() -> Vec<u8> {
    packed(&tar(&[("PG_VERSION", b"16\n"), ("base/", b""), ("base/1", &[7; 700])]))
}

/// Fetches into a new directory that holds a configuration.
async fn fetch(
    target: &PageserverTarget,
    retries: u32,
) -> (Result<BasebackupStats, BasebackupError>, Files) {
    let pgdata = tempfile::tempdir().unwrap();
    fs::write(pgdata.path().join("postgresql.conf"), "ours").unwrap();
    let limits = BasebackupLimits {
        progress: PATIENCE,
        connect: PATIENCE,
        first_byte: PATIENCE,
        slow: PATIENCE,
        stall: PATIENCE,
        retries,
        first_pause: Duration::from_millis(1),
    };
    let request = BasebackupRequest {
        target,
        tenant_id: "51b0c7e2a94d4c06b3f7d1e8a2640f9c".parse().unwrap(),
        timeline_id: "e7d25a1c90b84f3fa6120c4b8d93f57e".parse().unwrap(),
        lsn: Lsn(0x2A3_B4C8),
        replica: false,
        pgdata: pgdata.path(),
    };
    let tries = Metrics::new().unwrap().tries;
    let outcome = get_basebackup(request, None, limits, &Progress::default(), &tries).await;
    let mut files = files(pgdata.path());
    assert_eq!(files.remove(Path::new("postgresql.conf")).unwrap().1.unwrap(), b"ours");
    (outcome, files)
}

/// What [`archive`] becomes.
fn good_files() -> Files {
    [
        ("PG_VERSION", (0o600, Some(b"16\n".to_vec()))),
        ("base", (0o755, None)),
        ("base/1", (0o600, Some(vec![7; 700]))),
    ]
    .into_iter()
    .map(|(path, file)| (PathBuf::from(path), file))
    .collect()
}

/// Everything below a directory.
fn files(root: &Path) -> Files {
    let (mut found, mut folders) = (Files::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            assert!(meta.is_dir() || meta.is_file(), "{path:?}");
            let content = meta.is_file().then(|| fs::read(&path).unwrap());
            let mode = meta.permissions().mode() & 0o7777;
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, content));
            folders.extend(meta.is_dir().then_some(path));
        }
    }
    found
}
