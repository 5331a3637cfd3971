//! Files that people name: the path may be that of a device without an end, such as `/dev/zero`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use thiserror::Error;

/// More than a document of any user; the control plane may send as much.
pub(crate) const DOCUMENT: u64 = 32 << 20;
/// More than any token, key or chain of certificates.
pub(crate) const CREDENTIAL: u64 = 1 << 20;

#[derive(Debug, Error)]
#[error("it has more than {0} bytes: this is another file than is needed here")]
struct TooLarge(u64);

/// The whole content of at most `limit` bytes.
///
/// # Errors
/// The file cannot be read, or is larger.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(read).is_ok_and(|read| read <= limit) {
        Ok(content)
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLarge(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"1234");
        let error = read(&path, 3).unwrap_err().to_string();
        assert!(error.starts_with("it has more than 3 bytes"), "{error}");
        assert!(read(Path::new("/dev/zero"), CREDENTIAL).is_err());
        assert_eq!(read(folder.path(), 4).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
