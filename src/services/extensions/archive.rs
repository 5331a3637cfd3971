//! Unpacks an archive into a [`Stage`] (07 §3.3 step 3).
//!
//! An archive is a zstd-compressed tar with `lib/` and `share/extension/`; other entries are
//! ignored. It is not trusted: entries and links stay in their folder, and neither a false size in
//! a header nor a small archive that inflates to a large one costs more than the limits.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::error::{ArchiveError, ENTRIES_LIMIT};
use super::stage::{Area, Stage};
use crate::limited::{Budget, HEADERS, Limited};

/// Bytes read at once from the inflater.
const BUFFER: usize = 64 << 10;

/// Unpacks at most `limit` bytes into the stage. Reads the source to its end, so that the checksum
/// after the last file is verified too. Blocks.
///
/// # Errors
/// See [`ArchiveError`]; the stage then holds some of the files.
pub(crate) fn unpack(source: impl Read, stage: &mut Stage, limit: u64) -> Result<(), ArchiveError> {
    let inflated = zstd::stream::read::Decoder::new(source).map_err(ArchiveError::Broken)?;
    let budget = Budget::new(limit);
    let limited = Limited::new(inflated, &budget);
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::FileTooLarge => ArchiveError::TooLarge(limit),
        _ => ArchiveError::Broken(error),
    };
    let mut archive = tar::Archive::new(limited);
    let mut count = 0_usize;
    budget.piece(HEADERS);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        count = count.saturating_add(1);
        if count > ENTRIES_LIMIT {
            return Err(ArchiveError::TooMany);
        }
        budget.piece(entry.size());
        unpack_entry(&mut entry, stage, broken)?;
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
        budget.piece(HEADERS);
    }
    budget.piece(limit);
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    if stage.is_empty() {
        return Err(ArchiveError::NoFiles);
    }
    // Links come last, so that no file is written through a link.
    stage.make_links()
}

fn unpack_entry(
    entry: &mut tar::Entry<'_, impl Read>,
    stage: &mut Stage,
    broken: impl Fn(io::Error) -> ArchiveError,
) -> Result<(), ArchiveError> {
    let header = entry.header();
    let (kind, mode) = (header.entry_type(), header.mode().unwrap_or(0o644));
    let whole = entry.path().map_err(&broken)?.into_owned();
    let Some((area, path)) = place(&whole, stage)? else { return Ok(()) };
    let refused = |kind| Err(ArchiveError::Kind { path: whole.clone(), kind });
    match kind {
        // Folders are made for the files in them.
        EntryType::Directory => Ok(()),
        EntryType::Regular | EntryType::Continuous => {
            let target = area.place(&path)?;
            let mut options = OpenOptions::new();
            // No other bits, and always readable for the server.
            options.write(true).create(true).truncate(true).mode(mode & 0o755 | 0o644);
            let at = |error| ArchiveError::Write { path: whole.clone(), error };
            let mut file = options.open(&target).map_err(at)?;
            copy(entry, &mut file, &broken, at)
        }
        EntryType::Symlink => {
            let leads_to = link_name(entry, &whole, &broken)?;
            stays_inside(&path, &leads_to).ok_or(ArchiveError::Climbing(whole))?;
            area.link_later(path, leads_to);
            Ok(())
        }
        EntryType::Link => {
            let target = area.place(&path)?;
            let other = link_name(entry, &whole, &broken)?;
            let original = place(&other, stage)?.and_then(|(area, inner)| area.staged(&inner));
            let original = original.ok_or_else(|| ArchiveError::Climbing(whole.clone()))?;
            let linked = fs::hard_link(original, target);
            linked.map_err(|error| ArchiveError::Write { path: whole, error })
        }
        EntryType::GNUSparse => refused("a sparse file"),
        EntryType::Char | EntryType::Block | EntryType::Fifo => refused("a device"),
        _ => refused("of an unknown kind"),
    }
}

fn link_name(
    entry: &tar::Entry<'_, impl Read>,
    path: &Path,
    broken: impl Fn(io::Error) -> ArchiveError,
) -> Result<PathBuf, ArchiveError> {
    let name = entry.link_name().map_err(broken)?;
    Ok(name.ok_or_else(|| ArchiveError::Climbing(path.to_owned()))?.into_owned())
}

/// Distinguishes errors of reading and of writing, because callers handle them differently.
fn copy(
    entry: &mut impl Read,
    file: &mut File,
    broken: impl Fn(io::Error) -> ArchiveError,
    local: impl Fn(io::Error) -> ArchiveError,
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match entry.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                let piece = buffer.get(..read).unwrap_or_default();
                io::Write::write_all(file, piece).map_err(&local)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
}

/// The area of a path in the archive, and the path within the area; none for ignored entries.
fn place<'a>(
    path: &Path,
    stage: &'a mut Stage,
) -> Result<Option<(&'a mut Area, PathBuf)>, ArchiveError> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            _ => return Err(ArchiveError::Climbing(path.to_owned())),
        }
    }
    let areas = [("lib", &mut stage.libraries), ("share/extension", &mut stage.extensions)];
    Ok(areas.into_iter().find_map(|(prefix, area)| {
        let inner = plain.strip_prefix(prefix).ok()?;
        (!inner.as_os_str().is_empty()).then(|| (area, inner.to_owned()))
    }))
}

/// Whether a symbolic link at `link`, relative to its area, has a target in the area. The target
/// may have `..` only at its beginning: a named part may be a link, and `..` after it leads
/// anywhere.
fn stays_inside(link: &Path, leads_to: &Path) -> Option<()> {
    let mut depth = link.components().count().checked_sub(1)?;
    let mut named = false;
    for component in leads_to.components() {
        match component {
            Component::Normal(_) => named = true,
            Component::CurDir => {}
            Component::ParentDir if !named => depth = depth.checked_sub(1)?,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
