//! What a directory holds, judged by its top level: whether it may be wiped without a question.
//!
//! Names alone are weak evidence, so an entry whose name people use for other things (`base`,
//! `log`, `server.key`) does not show Postgres, unless its content does or it is empty.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::error::{PgDataError, failed};
use crate::os::replace_file;
use crate::postgres::conf::{CONF_HEADING, TEMP_OVERRIDE_FILE};
use crate::postgres::files::{POSTMASTER_PID, TEMP_PREFIX};
use crate::tls::install::TEMP_PREFIX as TLS_TEMP_PREFIX;

/// Prefix of the trash inside PGDATA; the trash beside it is `.<name>.trash-<pid>`.
pub(super) const INNER_TRASH: &str = ".compute_ctl.trash-";
/// The file that identifies a data directory.
pub(super) const PG_VERSION: &str = "PG_VERSION";
/// The file that identifies a half-made directory, if it begins with [`CONF_HEADING`].
pub(super) const CONF: &str = "postgresql.conf";

/// Names at the top of a data directory that nothing else has.
const OF_POSTGRES: [&str; 39] = [
    PG_VERSION,
    CONF,
    "postgresql.auto.conf",
    "postgresql.auto.conf.tmp",
    TEMP_OVERRIDE_FILE,
    "pg_hba.conf",
    "pg_ident.conf",
    POSTMASTER_PID,
    "postmaster.opts",
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "recovery.done",
    "neon.signal",
    "zenith.signal",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "current_logfiles",
    "current_logfiles.tmp",
    "pg_clog",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
    "pg_xact",
    "pg_xlog",
];

/// Names that a data directory also has, and other directories too. They count beside one of
/// [`OF_POSTGRES`].
const ALSO_IN_POSTGRES: [&str; 8] = [
    "log",
    "pg_log",
    "pg_upgrade_output.d",
    "server.key",
    "server.crt",
    "root.crt",
    "file.cache",
    "core",
];

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing, or only leftovers of our own.
    Empty,
    /// Has `PG_VERSION`.
    DataDirectory,
    /// Has no `PG_VERSION`, but our `postgresql.conf`, or nothing but entries of a data directory:
    /// an earlier start was killed, of this program or of another one.
    HalfMade,
    /// Anything else.
    Foreign {
        /// One of the entries, if possible one that Postgres does not make.
        example: OsString,
    },
}

/// Classifies `path` by its top level.
///
/// # Errors
/// The directory, or its `postgresql.conf`, cannot be read.
pub(crate) fn classify(path: &Path) -> Result<Content, PgDataError> {
    let mut names = entries(path)?;
    names.retain(|name| !is_inner_trash(name) && !is_temp(name));
    let Some(first) = names.first() else { return Ok(Content::Empty) };
    let is_file = |name| fs::symlink_metadata(path.join(name)).is_ok_and(|m| m.is_file());
    if is_file(PG_VERSION) {
        return Ok(Content::DataDirectory);
    }
    if is_file(CONF) && has_heading(&path.join(CONF))? {
        return Ok(Content::HalfMade);
    }
    let evidence: Vec<_> = names.iter().map(|name| evidence(path, name)).collect();
    let foreign = evidence.iter().position(|it| *it == Evidence::Foreign);
    Ok(match foreign.and_then(|at| names.get(at)) {
        Some(example) => Content::Foreign { example: example.clone() },
        None if evidence.contains(&Evidence::Postgres) => Content::HalfMade,
        None => Content::Foreign { example: first.clone() },
    })
}

/// What an entry says about its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// This is a data directory.
    Postgres,
    /// It may be one.
    Neutral,
    /// Postgres makes no such entry.
    Foreign,
}

fn evidence(directory: &Path, name: &OsStr) -> Evidence {
    let Some(text) = name.to_str() else { return Evidence::Foreign };
    if OF_POSTGRES.contains(&text) {
        Evidence::Postgres
    } else if ["base", "global"].contains(&text) {
        if holds_relations(&directory.join(name)) { Evidence::Postgres } else { Evidence::Foreign }
    } else if ALSO_IN_POSTGRES.contains(&text)
        || text.starts_with("core.")
        || text.starts_with(".s.PGSQL.")
    {
        Evidence::Neutral
    } else {
        Evidence::Foreign
    }
}

/// Whether the entry is as Postgres fills `base` and `global`: with numbers and `pg…` names. An
/// empty one is, too.
fn holds_relations(path: &Path) -> bool {
    let Ok(listing) = fs::read_dir(path) else {
        return fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    };
    listing.flatten().all(|entry| {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        name.first().is_some_and(u8::is_ascii_digit) || name.starts_with(b"pg")
    })
}

/// Whether the first line is our heading.
fn has_heading(conf: &Path) -> Result<bool, PgDataError> {
    let mut file = File::open(conf).map_err(failed("open", conf))?;
    let mut start = [0; CONF_HEADING.len() + 1];
    match file.read_exact(&mut start) {
        Ok(()) => Ok(start.strip_prefix(CONF_HEADING.as_bytes()) == Some(b"\n".as_slice())),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(failed("read", conf)(e)),
    }
}

/// Top-level names except `lost+found`, which belongs to the file system of a mount point; sorted.
pub(super) fn entries(path: &Path) -> Result<Vec<OsString>, PgDataError> {
    let names = fs::read_dir(path).and_then(|listing| {
        let names = listing.map(|entry| Ok(entry?.file_name()));
        names.collect::<io::Result<Vec<_>>>()
    });
    let mut names = names.map_err(failed("list the directory", path))?;
    names.retain(|name| name != "lost+found");
    names.sort_unstable();
    Ok(names)
}

fn is_temp(name: &OsStr) -> bool {
    let prefixes = [TEMP_PREFIX, TLS_TEMP_PREFIX, replace_file::TEMP_PREFIX];
    prefixes.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

pub(super) fn is_inner_trash(name: &OsStr) -> bool {
    is_trash(name, INNER_TRASH)
}

/// Whether `name` is `prefix` and a process id, optionally with a counter behind a dash.
pub(super) fn is_trash(name: &OsStr, prefix: &str) -> bool {
    let rest = name.as_encoded_bytes().strip_prefix(prefix.as_bytes());
    rest.is_some_and(|r| !r.is_empty() && r.iter().all(|b| b.is_ascii_digit() || *b == b'-'))
}
