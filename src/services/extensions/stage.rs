//! Holds the files of one archive until all of them are unpacked (07 §3.3 step 4, W11).
//!
//! A stage has a temporary folder inside each of Postgres' two folders, so that the last step is
//! a rename on one file system. Invariants: Postgres sees a file whole or not at all; libraries
//! come before the SQL that names them, and control files last, so an extension that can be created
//! is complete. Dropping a stage removes the files that were not moved.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use thiserror::Error;

use super::error::ArchiveError;
use super::remains::{self, TEMP_PREFIX};

/// Files that wait to be moved to Postgres' folders.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(super) libraries: Area,
    pub(super) extensions: Area,
}

/// Files for one folder.
#[derive(Debug)]
pub(crate) struct Area {
    target: PathBuf,
    /// Made for the first file: an archive without libraries needs no write permission there.
    temp: Option<Temp>,
    /// Relative to both folders.
    files: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
}

/// A temporary folder, locked until its removal when this is dropped.
#[derive(Debug)]
struct Temp {
    dir: TempDir,
    /// None where files cannot be locked: then no process removes it as left over either.
    _held: Option<File>,
}

/// A file could not be moved to Postgres' folder.
#[derive(Debug, Error)]
#[error(
    "could not put {path} in place: {error}; the user that compute_ctl runs as must be able to \
     write to this folder",
    path = path.display()
)]
pub struct InstallError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl Stage {
    /// A stage for Postgres' folders of libraries and of control files. Touches nothing.
    pub(crate) fn new(libraries: &Path, extensions: &Path) -> Self {
        Self { libraries: Area::new(libraries), extensions: Area::new(extensions) }
    }

    /// Whether the stage has no files.
    pub(super) fn is_empty(&self) -> bool {
        let areas = [&self.libraries, &self.extensions];
        areas.into_iter().all(|area| area.files.is_empty() && area.links.is_empty())
    }

    /// Makes the symbolic links of the archive.
    pub(super) fn make_links(&mut self) -> Result<(), ArchiveError> {
        self.libraries.make_links()?;
        self.extensions.make_links()
    }

    /// Moves all files to Postgres' folders; files of the same name are replaced. Blocks.
    ///
    /// # Errors
    /// The first file that cannot be moved. The files before it stay, because they are complete.
    pub(crate) fn install(mut self) -> Result<(), InstallError> {
        self.libraries.install()?;
        self.extensions.install()
    }
}

impl Area {
    fn new(target: &Path) -> Self {
        Self { target: target.to_owned(), temp: None, files: Vec::new(), links: Vec::new() }
    }

    /// Path at which to write the file for `path` in the target; makes the folder of that path.
    ///
    /// # Errors
    /// The temporary folder cannot be made.
    pub(super) fn place(&mut self, path: &Path) -> Result<PathBuf, ArchiveError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| ArchiveError::Write { path, error }
        };
        let dir = if let Some(temp) = &self.temp {
            &temp.dir
        } else {
            let made = tempfile::Builder::new().prefix(TEMP_PREFIX).tempdir_in(&self.target);
            let refused = |error: io::Error| ArchiveError::Folder {
                folder: self.target.clone(),
                why: error.kind(),
            };
            let dir = made.map_err(refused)?;
            let held = remains::hold(dir.path()).ok();
            &self.temp.insert(Temp { dir, _held: held }).dir
        };
        let staged = dir.path().join(path);
        if let Some(parent) = staged.parent() {
            fs::create_dir_all(parent).map_err(at(parent))?;
        }
        self.files.push(path.to_owned());
        Ok(staged)
    }

    /// Path of a file before the move; none if there is no file yet. A path without the folder would
    /// be one of the whole machine.
    pub(super) fn staged(&self, path: &Path) -> Option<PathBuf> {
        self.temp.as_ref().map(|temp| temp.dir.path().join(path))
    }

    /// Notes a symbolic link.
    pub(super) fn link_later(&mut self, path: PathBuf, leads_to: PathBuf) {
        self.links.push((path, leads_to));
    }

    fn make_links(&mut self) -> Result<(), ArchiveError> {
        for (path, leads_to) in std::mem::take(&mut self.links) {
            let staged = self.place(&path)?;
            symlink(leads_to, staged).map_err(|error| ArchiveError::Write { path, error })?;
        }
        Ok(())
    }

    fn install(&mut self) -> Result<(), InstallError> {
        let is_control = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "control");
        // The sort is stable: other files stay in the order of the archive.
        self.files.sort_by_key(is_control);
        // An archive may hold a file twice; the later one is in the stage.
        let mut seen = HashSet::new();
        for path in self.files.iter().filter(|path| seen.insert(path.as_path())) {
            let target = self.target.join(path);
            let at = |error| InstallError { path: target.clone(), error };
            // The target of a link was checked for its path in the archive. If an earlier archive
            // made a folder of this path a link, the file would land elsewhere.
            if self.leads_through_link(path) {
                return Err(at(io::Error::other("a folder on the way to it is a symbolic link")));
            }
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(at)?;
            }
            let staged = self.staged(path).ok_or_else(|| at(io::ErrorKind::NotFound.into()))?;
            fs::rename(staged, &target).map_err(at)?;
        }
        Ok(())
    }

    fn leads_through_link(&self, path: &Path) -> bool {
        let mut folders = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        folders.any(|folder| self.target.join(folder).is_symlink())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["lib", "ext"].map(|name| dir.path().join(name));
        folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let [libraries, extensions] = folders;
        (dir, libraries, extensions)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_appear_only_when_installed() {
        let (_dir, libraries, extensions) = folders();
        fs::write(extensions.join("x.control"), "old").unwrap();
        let mut stage = Stage::new(&libraries, &extensions);
        for name in ["x.control", "x--1.sql", "sub/data"] {
            fs::write(stage.extensions.place(Path::new(name)).unwrap(), "new").unwrap();
        }
        fs::write(stage.libraries.place(Path::new("x.so")).unwrap(), "elf").unwrap();
        assert_eq!(fs::read_to_string(extensions.join("x.control")).unwrap(), "old");
        stage.install().unwrap();
        assert_eq!(names(&libraries), ["x.so"]);
        assert_eq!(names(&extensions), ["sub", "x--1.sql", "x.control"]);
        assert_eq!(fs::read_to_string(extensions.join("x.control")).unwrap(), "new");
        assert_eq!(names(&extensions.join("sub")), ["data"]);
    }

    #[test]
    fn what_is_not_installed_leaves_nothing() {
        let (_dir, libraries, extensions) = folders();
        let mut stage = Stage::new(&libraries, &extensions);
        fs::write(stage.libraries.place(Path::new("x.so")).unwrap(), "elf").unwrap();
        // The stage is in use, so another process must not remove it.
        remains::remove_remains(&libraries);
        assert_eq!(names(&libraries).len(), 1);
        drop(stage);
        assert!(names(&libraries).is_empty() && names(&extensions).is_empty());
    }

    #[test]
    fn nothing_goes_through_a_link() {
        let (dir, libraries, extensions) = folders();
        symlink(".", libraries.join("here")).unwrap();
        let mut stage = Stage::new(&libraries, &extensions);
        // In `here/` this link would lead to the folder itself.
        symlink("..", stage.libraries.place(Path::new("here/x")).unwrap()).unwrap();
        let error = stage.install().unwrap_err().to_string();
        assert!(error.contains("here/x") && error.contains("symbolic link"), "{error}");
        assert_eq!(names(&libraries), ["here"]);
        assert_eq!(names(dir.path()), ["ext", "lib"]);
    }

    /// Postgres must not see a control file before the files that it needs.
    #[test]
    fn the_control_file_comes_last() {
        let (_dir, libraries, extensions) = folders();
        fs::create_dir(extensions.join("x--1.sql")).unwrap();
        let mut stage = Stage::new(&libraries, &extensions);
        for name in ["x.control", "x--1.sql"] {
            fs::write(stage.extensions.place(Path::new(name)).unwrap(), "new").unwrap();
        }
        let error = stage.install().unwrap_err().to_string();
        assert!(error.contains("x--1.sql") && error.contains("write to this folder"), "{error}");
        assert_eq!(names(&extensions), ["x--1.sql"]);
    }
}
