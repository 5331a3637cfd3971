//! Files that `databricks_settings` of a spec adds to PGDATA, in every mode (04 §16 no. 2).
//!
//! At a start, after the basebackup: copies of a certificate and its key under their own names (the
//! control plane writes the settings that name them), and an include line in each of `pg_hba.conf`
//! and `pg_ident.conf`. Invariant: a second run changes nothing.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::files::ensure_line;
use super::install::PgVersion;
use crate::os::denied::explained;
use crate::os::replace_file::FileError;
use crate::spec::wire::DatabricksSettings;

/// The settings cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabricksError {
    /// Older servers do not support includes in these files, and refuse such a file.
    #[error("databricks_settings need PostgreSQL 16 or newer, this is {0}")]
    Version(PgVersion),
    /// The path has no file name for the copy.
    #[error("databricks_settings: {0:?} names no file")]
    NoName(String),
    /// The path would split into several lines.
    #[error("databricks_settings: the path {0:?} holds a quote or a control character")]
    BadPath(String),
    /// A certificate or key cannot be copied.
    #[error("could not copy {from} into the data directory: {error}", from = from.display())]
    Copy {
        /// Source path.
        from: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// A file in PGDATA cannot be written.
    #[error(transparent)]
    Files(#[from] FileError),
}

/// Makes the copies and adds the include lines.
///
/// # Errors
/// See [`DatabricksError`].
pub(crate) fn install(
    pgdata: &Path,
    settings: &DatabricksSettings,
    version: PgVersion,
) -> Result<(), DatabricksError> {
    if version < PgVersion::V16 {
        return Err(DatabricksError::Version(version));
    }
    let tls = &settings.pg_compute_tls_settings;
    copy(pgdata, &tls.cert_file)?;
    let key = copy(pgdata, &tls.key_file)?;
    let private = Permissions::from_mode(0o600);
    fs::set_permissions(&key, private)
        .map_err(|error| DatabricksError::Copy { from: key, error })?;
    for (file, included) in [
        ("pg_hba.conf", &settings.databricks_pg_hba),
        ("pg_ident.conf", &settings.databricks_pg_ident),
    ] {
        ensure_line(&pgdata.join(file), &include(included)?)?;
    }
    Ok(())
}

/// Copies a file under its own name, unless that name exists. Returns the path of the copy.
fn copy(pgdata: &Path, from: &str) -> Result<PathBuf, DatabricksError> {
    let from = Path::new(from);
    let name =
        from.file_name().ok_or_else(|| DatabricksError::NoName(from.display().to_string()))?;
    let to = pgdata.join(name);
    let content = fs::read(from).map_err(|error| explained(error, from));
    let made = content.and_then(|content| {
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to);
        match new {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(explained(error, &to)),
            Ok(mut file) => file.write_all(&content),
        }
    });
    match made {
        Ok(()) => Ok(to),
        Err(error) => Err(DatabricksError::Copy { from: from.to_owned(), error }),
    }
}

/// The include line. A path with blanks or separators needs quotes.
fn include(path: &str) -> Result<String, DatabricksError> {
    if path.chars().any(|c| c == '"' || c.is_control()) {
        return Err(DatabricksError::BadPath(path.to_owned()));
    }
    Ok(if path.contains([' ', ',', '#']) {
        format!("include_if_exists \"{path}\"")
    } else {
        format!("include_if_exists {path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::wire::DatabricksTls;

    fn settings(dir: &Path) -> DatabricksSettings {
        let path = |name: &str| dir.join(name).display().to_string();
        DatabricksSettings {
            pg_compute_tls_settings: DatabricksTls {
                cert_file: path("my.crt"),
                key_file: path("my.key"),
                ca_file: path("my.ca"),
            },
            databricks_pg_hba: "/x/hba".to_owned(),
            databricks_pg_ident: "/x/the ident".to_owned(),
            databricks_workspace_host: String::new(),
        }
    }

    #[test]
    fn copies_and_includes_once() {
        let (source, pgdata) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = settings(source.path());
        let error = install(pgdata.path(), &settings, PgVersion::V16).unwrap_err();
        assert!(error.to_string().contains("my.crt"), "{error}");
        for name in ["my.crt", "my.key"] {
            fs::write(source.path().join(name), name).unwrap();
        }
        // A basebackup may contain the key, with a mode that is too open.
        fs::write(pgdata.path().join("my.key"), "of the basebackup").unwrap();
        fs::write(pgdata.path().join("pg_hba.conf"), "local all all trust\n").unwrap();
        for _ in 0..2 {
            install(pgdata.path(), &settings, PgVersion::V17).unwrap();
            let text = |name| fs::read_to_string(pgdata.path().join(name)).unwrap();
            assert_eq!((&*text("my.crt"), &*text("my.key")), ("my.crt", "of the basebackup"));
            assert_eq!(text("pg_hba.conf"), "local all all trust\n\ninclude_if_exists /x/hba");
            assert_eq!(text("pg_ident.conf"), "include_if_exists \"/x/the ident\"");
            let mode = fs::metadata(pgdata.path().join("my.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_postgres_would_not_read_is_refused() {
        let pgdata = tempfile::tempdir().unwrap();
        let error = install(pgdata.path(), &settings(pgdata.path()), PgVersion::V15).unwrap_err();
        assert!(error.to_string().contains("16"), "{error}");
        for bad in ["/a\nhost all all all trust", "/a\"b"] {
            assert!(matches!(include(bad), Err(DatabricksError::BadPath(_))));
        }
        assert!(matches!(copy(pgdata.path(), "/"), Err(DatabricksError::NoName(_))));
    }
}
