//! The files in PGDATA that the program writes or changes (04 §1 rows 1 and 3 to 8).
//!
//! The next start deletes the directory, so nothing here is synced to disk: these files are not
//! used after a crash of the machine. What matters is that a running Postgres never sees a
//! half-written file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::conf::{
    ConfError, ConfFile, SUBSCRIBERS_ON_LINE, SUBSCRIBERS_SETTING, TEMP_OVERRIDE_FILE, parse_line,
};
use crate::os::replace_file::{FileError, put_in_place, write_beside};
use crate::spec::ComputeSpec;

/// Allows connections from any address with a password (01 §9.5).
const HBA_LINE: &str = "host\tall\t\tall\t\tall\t\tmd5";
/// Lifts the size limit of the project during catalog changes; has no line feed.
const NO_SIZE_LIMIT: &[u8] = b"neon.max_cluster_size=-1";

/// Written by a postmaster in its data directory; the last line is its state.
pub(crate) const POSTMASTER_PID: &str = "postmaster.pid";

/// The configuration, in the data directory.
pub(crate) const POSTGRESQL_CONF: &str = "postgresql.conf";

/// Prefix of temporary files; a crash can leave one behind.
pub(crate) const TEMP_PREFIX: &str = ".postgresql.conf.tmp-";

/// A file in PGDATA could not be written or read.
#[derive(Debug, Error)]
pub(crate) enum FilesError {
    /// The system reported an error.
    #[error(transparent)]
    File(#[from] FileError),
    /// The spec cannot be rendered; no file was changed.
    #[error("cannot write postgresql.conf: {0}")]
    Conf(ConfError),
}

/// Replaces `postgresql.conf` atomically: a concurrent reload reads the old file or the new one
/// (04 W1). The mode is 0600. After an error no temporary file is left.
pub(crate) fn write_conf(pgdata: &Path, conf: &ConfFile) -> Result<(), FilesError> {
    let text = conf.render().map_err(FilesError::Conf)?;
    let path = pgdata.join(POSTGRESQL_CONF);
    let file = write_beside(&path, TEMP_PREFIX, text.expose().as_bytes())?;
    Ok(put_in_place(file, &path)?)
}

/// The outcome of [`ensure_line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineOutcome {
    /// The line exists; the file was not changed.
    AlreadyThere,
    /// The line was appended.
    Added,
}

/// Ensures that a file, created if necessary, contains exactly this line (04 §3.6). The line is
/// appended after a line feed (unless the file is empty), without a line feed of its own.
pub(crate) fn ensure_line(path: &Path, line: &str) -> Result<LineOutcome, FileError> {
    append_unless(path, line, |text| text.lines().any(|other| other == line))
}

fn append_unless(
    path: &Path,
    line: &str,
    done: impl FnOnce(&str) -> bool,
) -> Result<LineOutcome, FileError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.open(path).map_err(FileError::at("open", path))?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(FileError::at("read", path))?;
    if done(&text) {
        return Ok(LineOutcome::AlreadyThere);
    }
    let separator = if text.is_empty() { "" } else { "\n" };
    // One write, so that a reload never reads half a line.
    file.write_all(format!("{separator}{line}").as_bytes())
        .map_err(FileError::at("append to", path))?;
    Ok(LineOutcome::Added)
}

/// Allows connections from outside (01 §9.5).
pub(crate) fn touch_up_hba(pgdata: &Path) -> Result<LineOutcome, FileError> {
    ensure_line(&pgdata.join("pg_hba.conf"), HBA_LINE)
}

/// Enables logical replication subscribers from the next reload on, after inherited subscriptions
/// were dropped (04 §3.4). The last line with the setting decides, as in Postgres; an equal line
/// further up, for example in the base text, is not enough (04 W10).
pub(crate) fn enable_subscribers(pgdata: &Path) -> Result<LineOutcome, FileError> {
    append_unless(&pgdata.join("postgresql.conf"), SUBSCRIBERS_ON_LINE, |text| {
        subscribers_line(text) == Some(SUBSCRIBERS_ON_LINE)
    })
}

/// Whether the current file enables subscribers. If so, all subscriptions belong to this timeline,
/// and a reconfiguration that drops none must not stop them (04 W10).
pub(crate) fn subscribers_enabled(pgdata: &Path) -> Result<bool, FileError> {
    let path = pgdata.join("postgresql.conf");
    let text = fs::read_to_string(&path).map_err(FileError::at("read", &path))?;
    Ok(subscribers_line(&text) == Some(SUBSCRIBERS_ON_LINE))
}

/// The line about subscribers that Postgres uses.
fn subscribers_line(text: &str) -> Option<&str> {
    let names_it = |line: &&str| {
        parse_line(line).is_some_and(|(name, _)| name.eq_ignore_ascii_case(SUBSCRIBERS_SETTING))
    };
    text.lines().rfind(names_it)
}

/// Replaces the directory `pg_dynshmem` by a link to `/dev/shm/` (01 §9 step 6). With
/// `dynamic_shared_memory_type=mmap` the segments are then in shared memory and can be swapped. The
/// directory must exist.
pub(crate) fn link_dynshmem(pgdata: &Path) -> Result<(), FileError> {
    let path = pgdata.join("pg_dynshmem");
    fs::remove_dir_all(&path).map_err(FileError::at("remove", &path))?;
    std::os::unix::fs::symlink("/dev/shm/", &path)
        .map_err(FileError::at("link to /dev/shm/", &path))
}

/// Creates an empty `standby.signal` unless it exists (modes Static and Replica, 01 §9 step 7).
pub(crate) fn create_standby_signal(pgdata: &Path) -> Result<(), FileError> {
    let path = pgdata.join("standby.signal");
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(&path).map_err(FileError::at("create", &path))?;
    Ok(())
}

/// Whether the kernel refuses to overcommit memory: then anonymous shared memory is expensive and
/// Postgres uses `mmap` (04 §3.2 row 14). If the value cannot be read, the result is `false`.
pub(crate) fn overcommit_is_strict() -> bool {
    fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|text| text.trim() == "2")
}

/// The temporary override file while it lifts the size limit (04 §3.7).
///
/// The file is emptied, never deleted: by [`TempOverride::end`], or at the latest when the value is
/// dropped, so that no error or cancelled task leaves the limit lifted. The caller must reload
/// Postgres after each of the two steps, also when the work in between failed (04 W9).
#[derive(Debug)]
#[must_use = "dropping it ends the override"]
pub(crate) struct TempOverride {
    path: PathBuf,
    ended: bool,
}

impl TempOverride {
    /// Lifts the limit. Does nothing if the spec needs no catalog changes: then the file must not
    /// exist (04 §1).
    pub(crate) fn begin(pgdata: &Path, spec: &ComputeSpec) -> Result<Option<Self>, FileError> {
        if spec.skip_pg_catalog_updates {
            return Ok(None);
        }
        let path = pgdata.join(TEMP_OVERRIDE_FILE);
        // From here on the guard empties the file after a failure.
        let guard = Self { path: path.clone(), ended: false };
        let mut file = open_empty(&path, true).map_err(FileError::at("create", &path))?;
        file.write_all(NO_SIZE_LIMIT).map_err(FileError::at("write", &path))?;
        Ok(Some(guard))
    }

    /// Restores the limit.
    pub(crate) fn end(mut self) -> Result<(), FileError> {
        self.ended = true;
        self.empty()
    }

    fn empty(&self) -> Result<(), FileError> {
        open_empty(&self.path, false).map(drop).map_err(FileError::at("empty", &self.path))
    }
}

impl Drop for TempOverride {
    fn drop(&mut self) {
        if !self.ended
            && let Err(error) = self.empty()
        {
            tracing::error!("the size limit stays lifted: {error}");
        }
    }
}

fn open_empty(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().write(true).truncate(true).create(create).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::conf::ConfInputs;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    fn spec(skip: bool) -> ComputeSpec {
        serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0,
            "skip_pg_catalog_updates": skip, "drop_subscriptions_before_start": true,
            "cluster": {"roles": [], "databases": []}
        }))
        .unwrap()
    }

    const INPUTS: ConfInputs<'_> = ConfInputs {
        privileged_role_name: "neon_superuser",
        internal_http_port: 3081,
        overcommit_strict: false,
        tls: false,
        lakebase_port: None,
    };

    fn conf(spec: &ComputeSpec) -> ConfFile {
        ConfFile::build(spec, &INPUTS).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_conf_file_is_replaced_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("postgresql.conf"), "old").unwrap();
        let conf = conf(&spec(false));
        write_conf(dir.path(), &conf).unwrap();
        let path = dir.path().join("postgresql.conf");
        assert_eq!(&fs::read_to_string(&path).unwrap(), conf.render().unwrap().expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["postgresql.conf"]);
    }

    #[test]
    fn a_spec_that_cannot_be_rendered_does_not_become_a_file() {
        let mut spec = spec(false);
        spec.endpoint_id = Some("a\0b".to_owned());
        let error = ConfFile::build(&spec, &INPUTS).unwrap_err();
        assert!(error.to_string().contains("neon.endpoint_id"), "{error}");
    }

    /// 04 §3.6 and the helper checks of 04 §15.
    #[test]
    fn lines_are_appended_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for (before, line, after) in [
            ("a\nb", "X", "a\nb\nX"),
            ("a\nb\n", "X", "a\nb\n\nX"),
            ("", "X", "X"),
            ("\n", "X", "\n\nX"),
            ("a\r\nX\r\n", "X", "a\r\nX\r\n"),
            ("x\n X\n", "X", "x\n X\n\nX"),
            (
                "line1\nline2.1\t line2.2\nline3",
                "line2.1\t line2.2",
                "line1\nline2.1\t line2.2\nline3",
            ),
            ("line1\nline2.1\t line2.2\nline3", "line4", "line1\nline2.1\t line2.2\nline3\nline4"),
        ] {
            fs::write(&path, before).unwrap();
            let outcome = ensure_line(&path, line).unwrap();
            let expected =
                if before == after { LineOutcome::AlreadyThere } else { LineOutcome::Added };
            assert_eq!((outcome, fs::read_to_string(&path).unwrap()), (expected, after.to_owned()));
            assert_eq!(ensure_line(&path, line).unwrap(), LineOutcome::AlreadyThere);
        }
        fs::remove_file(&path).unwrap();
        ensure_line(&path, "line4").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "line4");
        fs::write(&path, b"\xff\n").unwrap();
        assert!(ensure_line(&path, "X").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"\xff\n");
    }

    #[test]
    fn hba_ends_with_the_md5_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pg_hba.conf"), "local all all trust\n").unwrap();
        touch_up_hba(dir.path()).unwrap();
        touch_up_hba(dir.path()).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("pg_hba.conf")).unwrap(),
            "local all all trust\n\nhost\tall\t\tall\t\tall\t\tmd5"
        );
    }

    #[test]
    fn subscribers_are_enabled_by_the_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = spec(false);
        spec.cluster.postgresql_conf = Some(SUBSCRIBERS_ON_LINE.to_owned());
        write_conf(dir.path(), &conf(&spec)).unwrap();
        assert!(!subscribers_enabled(dir.path()).unwrap());
        assert_eq!(enable_subscribers(dir.path()).unwrap(), LineOutcome::Added);
        assert!(subscribers_enabled(dir.path()).unwrap());
        assert_eq!(enable_subscribers(dir.path()).unwrap(), LineOutcome::AlreadyThere);
        let text = fs::read_to_string(dir.path().join("postgresql.conf")).unwrap();
        assert_eq!(text.lines().last(), Some(SUBSCRIBERS_ON_LINE));

        spec.drop_subscriptions_before_start = false;
        write_conf(dir.path(), &conf(&spec)).unwrap();
        assert_eq!(enable_subscribers(dir.path()).unwrap(), LineOutcome::AlreadyThere);
    }

    #[test]
    fn dynshmem_becomes_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pg_dynshmem");
        assert!(link_dynshmem(dir.path()).is_err(), "it has to be there");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("mmap.1"), "x").unwrap();
        link_dynshmem(dir.path()).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/dev/shm/"));
    }

    #[test]
    fn the_override_ends_whatever_happens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TEMP_OVERRIDE_FILE);
        let read = || fs::read_to_string(&path).unwrap();
        let guard = TempOverride::begin(dir.path(), &spec(false)).unwrap().unwrap();
        assert_eq!(read(), "neon.max_cluster_size=-1");
        guard.end().unwrap();
        assert_eq!(read(), "");
        let guard = TempOverride::begin(dir.path(), &spec(false)).unwrap().unwrap();
        drop(guard);
        assert_eq!(read(), "");
    }

    #[test]
    fn no_override_file_without_catalog_changes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(TempOverride::begin(dir.path(), &spec(true)).unwrap().is_none());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn standby_signal_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        create_standby_signal(dir.path()).unwrap();
        create_standby_signal(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("standby.signal")).unwrap(), "");
    }
}
