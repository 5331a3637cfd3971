//! Control files in the spec (02 §10.4): with them Postgres lists an extension, and requests its
//! archive at `CREATE EXTENSION`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use super::index;
use super::remains::TEMP_PREFIX;
use crate::spec::wire::RemoteExtensions;

/// Writes the control files of all extensions that the lists do not exclude. An existing file is never
/// replaced. Errors are only logged: a compute without these extensions is better than none
/// (02 W11). Blocks.
pub(crate) fn write_control_files(folder: &Path, index: &RemoteExtensions) {
    let wanted = index.extension_data.iter().filter(|(name, _)| !index::is_excluded(index, name));
    for (name, content) in wanted.flat_map(|(_, data)| &data.control_data) {
        if !is_file_name(name) {
            tracing::error!("the control file {name:?} of the spec is refused: not a file name");
            continue;
        }
        match write_new(folder, name, content) {
            Ok(Written::New) => tracing::debug!("wrote the control file {name:?}"),
            Ok(Written::SameThere) => {}
            Ok(Written::OtherThere) => tracing::warn!(
                "the control file {name:?} of the spec is not written: {} has another one",
                folder.display()
            ),
            Err(error) => tracing::error!(
                "could not write the control file {name:?}: {error}; the user that compute_ctl \
                 runs as must be able to write to {}",
                folder.display()
            ),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Written {
    New,
    SameThere,
    OtherThere,
}

/// Whether this is exactly one path component, so that the file stays in the folder.
pub(super) fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(Component::Normal(only)) if only == name)
        && components.next().is_none()
}

/// Writes a file completely or not at all, and never over another file.
fn write_new(folder: &Path, name: &str, content: &str) -> io::Result<Written> {
    let path = folder.join(name);
    if let Ok(there) = fs::read(&path) {
        let same = there == content.as_bytes();
        return Ok(if same { Written::SameThere } else { Written::OtherThere });
    }
    let mut temp = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    // The lock keeps `remove_remains` of other processes away.
    let _ = temp.as_file().try_lock();
    temp.write_all(content.as_bytes())?;
    match temp.persist_noclobber(path) {
        Ok(_) => Ok(Written::New),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(Written::OtherThere),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn allowed_new_and_inside() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("extension");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("local.control"), "local").unwrap();
        let data = |files: serde_json::Value| json!({"control_data": files, "archive_path": ""});
        let index: RemoteExtensions = serde_json::from_value(json!({
            "public_extensions": ["a", "local", "evil"],
            "custom_extensions": [],
            "library_index": {},
            "extension_data": {
                "a": data(json!({"a.control": "x", "a2.control": ""})),
                "local": data(json!({"local.control": "spec"})),
                "evil": data(json!({
                    "../evil.control": "", "/tmp/evil.control": "", "..": "", "": "", "b/c": "", "d/": ""
                })),
                "locked": data(json!({"locked.control": "x"})),
            },
        }))
        .unwrap();
        for _ in 0..2 {
            write_control_files(&folder, &index);
            let mut names: Vec<_> = fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["a.control", "a2.control", "local.control"]);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        assert_eq!(fs::read_to_string(folder.join("a.control")).unwrap(), "x");
        assert_eq!(fs::read_to_string(folder.join("local.control")).unwrap(), "local");
        let mode = fs::metadata(folder.join("a.control")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);

        // Without both lists nothing is known to be excluded.
        let index = RemoteExtensions { custom_extensions: None, ..index };
        write_control_files(&folder, &index);
        assert_eq!(fs::read_to_string(folder.join("locked.control")).unwrap(), "x");
    }
}
