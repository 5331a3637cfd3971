//! Puts a pair into PGDATA as `server.key` and `server.crt` (04 §7.3).
//!
//! Postgres requires a key that its user owns and that no other user can read. Mounted secrets do
//! not meet that; hence copies. Both are written in full before the first is renamed into place, so
//! they differ only for the moment between the two renames. A reload by another process in that
//! moment finds a mismatch and keeps the pair in use.
//!
//! Invariant: after a failed installation the previous pair is in place, complete. Nothing is
//! synced to disk, as elsewhere in PGDATA: the next start deletes it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::pair::{PairDigest, TlsPair};
use crate::os::replace_file::{FileError, put_in_place, write_beside};

/// Name of the copy of the key, relative to PGDATA.
pub(crate) const KEY_FILE: &str = "server.key";
/// Name of the copy of the certificate chain, relative to PGDATA.
pub(crate) const CERT_FILE: &str = "server.crt";
/// Prefix of temporary files; a crash can leave one behind.
pub(crate) const TEMP_PREFIX: &str = ".server.tls.tmp-";

/// The outcome of [`Installer::install`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "Postgres has to be reloaded after a change"]
pub(crate) enum Installed {
    /// The content changed; Postgres must be reloaded.
    Changed,
    /// The same content was in place; no file was changed.
    Unchanged,
}

/// Remembers the pair in PGDATA.
#[derive(Debug, Default)]
pub(crate) struct Installer {
    installed: Option<Arc<TlsPair>>,
}

impl Installer {
    /// The pair in PGDATA.
    pub(crate) fn installed(&self) -> Option<&Arc<TlsPair>> {
        self.installed.as_ref()
    }

    /// Digest of the pair in PGDATA.
    pub(crate) fn digest(&self) -> Option<PairDigest> {
        self.installed.as_ref().map(|pair| pair.digest())
    }

    /// Puts a pair in place, with mode 0600 and unchanged content.
    ///
    /// # Errors
    /// A file operation failed; the previous pair is still in place.
    pub(crate) fn install(
        &mut self,
        pgdata: &Path,
        pair: &Arc<TlsPair>,
    ) -> Result<Installed, FileError> {
        if self.digest() == Some(pair.digest()) {
            return Ok(Installed::Unchanged);
        }
        let (key_path, cert_path) = (pgdata.join(KEY_FILE), pgdata.join(CERT_FILE));
        let written = |path, text| write_beside(path, TEMP_PREFIX, text);
        let key = written(&key_path, pair.key().expose())?;
        let cert = written(&cert_path, pair.cert())?;
        let back = match &self.installed {
            Some(before) => Some(written(&key_path, before.key().expose())?),
            None => None,
        };
        put_in_place(key, &key_path)?;
        if let Err(error) = put_in_place(cert, &cert_path) {
            // A key without its certificate is worse than no pair.
            let undone = match back {
                Some(back) => back.persist(&key_path).map(drop).map_err(|e| e.error),
                None => fs::remove_file(&key_path),
            };
            undone.map_err(FileError::at("put back", &key_path))?;
            return Err(error);
        }
        self.installed = Some(Arc::clone(pair));
        Ok(Installed::Changed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::tls::testing::{Texts, config, new_pair, put};

    fn pair(texts: &Texts) -> Arc<TlsPair> {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), texts);
        Arc::new(TlsPair::load(&config(dir.path())).unwrap())
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn holds(dir: &Path, texts: &Texts) {
        assert_eq!(fs::read_to_string(dir.join(KEY_FILE)).unwrap(), texts.key);
        assert_eq!(fs::read_to_string(dir.join(CERT_FILE)).unwrap(), texts.cert);
    }

    #[test]
    fn copies_are_private_and_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (new_pair(), new_pair());
        let mut installer = Installer::default();
        assert_eq!(installer.install(dir.path(), &pair(&one)).unwrap(), Installed::Changed);
        holds(dir.path(), &one);
        let meta = |name| fs::metadata(dir.path().join(name)).unwrap();
        let inode = meta(KEY_FILE).ino();
        assert_eq!(installer.install(dir.path(), &pair(&one)).unwrap(), Installed::Unchanged);
        assert_eq!(meta(KEY_FILE).ino(), inode, "not even touched");
        assert_eq!(installer.install(dir.path(), &pair(&other)).unwrap(), Installed::Changed);
        holds(dir.path(), &other);
        for name in [KEY_FILE, CERT_FILE] {
            assert_eq!(meta(name).permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(names(dir.path()), [CERT_FILE, KEY_FILE]);
    }

    #[test]
    fn the_last_good_pair_stays_when_the_certificate_cannot_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (new_pair(), new_pair());
        let mut installer = Installer::default();
        let _ = installer.install(dir.path(), &pair(&one)).unwrap();
        // A directory in its place makes the second rename fail.
        let cert = dir.path().join(CERT_FILE);
        fs::rename(&cert, dir.path().join("aside")).unwrap();
        fs::create_dir(&cert).unwrap();
        let error = installer.install(dir.path(), &pair(&other)).unwrap_err();
        assert!(error.to_string().contains(CERT_FILE), "{error}");
        fs::remove_dir(&cert).unwrap();
        fs::rename(dir.path().join("aside"), &cert).unwrap();
        holds(dir.path(), &one);
        assert_eq!(names(dir.path()), [CERT_FILE, KEY_FILE]);
        // The failed installation is not remembered as done.
        assert_eq!(installer.install(dir.path(), &pair(&other)).unwrap(), Installed::Changed);
        holds(dir.path(), &other);
    }

    #[test]
    fn a_first_pair_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(CERT_FILE)).unwrap();
        let mut installer = Installer::default();
        installer.install(dir.path(), &pair(&new_pair())).unwrap_err();
        assert_eq!(names(dir.path()), [CERT_FILE]);
        assert_eq!(installer.digest(), None);
        installer.install(&dir.path().join("no"), &pair(&new_pair())).unwrap_err();
    }
}
