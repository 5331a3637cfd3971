//! The directories where a change of the two files shows, and file events from them.
//!
//! Secrets are not rewritten in place. They are renamed over, or a symbolic link on the path is
//! pointed to another directory, as Kubernetes does with `..data`. So directories are watched: the
//! one that holds the file, and each that holds a link on the path.
//!
//! Invariant: after [`Places::look_again`] every later change causes an event, where events exist.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// The kernel's limit for links.
const MAX_LINKS: usize = 40;
/// The directories may change during the search; after this many tries only the poll is left.
const MAX_TRIES: usize = 3;

/// The directories to watch and the relevant names in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Found {
    /// With device and inode, because a directory may be replaced by another of the same name.
    folders: BTreeSet<(PathBuf, u64, u64)>,
    names: BTreeSet<OsString>,
}

impl Found {
    fn of(paths: &[PathBuf]) -> Self {
        let mut found = Self::default();
        for path in paths {
            found.follow(path);
        }
        found
    }

    /// Resolves a path as the kernel does, and notes each link and the final file.
    fn follow(&mut self, path: &Path) {
        let mut at = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let link = fs::read_link(&next).ok();
            if link.is_some() || rest.is_empty() {
                self.note(&at, part);
            }
            let Some(target) = link else {
                at = next;
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
    }

    fn note(&mut self, folder: &Path, name: OsString) {
        self.names.insert(name);
        // A missing directory cannot be watched; the retries find it later.
        if let Ok(meta) = fs::metadata(folder) {
            self.folders.insert((folder.to_owned(), meta.dev(), meta.ino()));
        }
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// Watches the directories of some files.
#[derive(Debug)]
pub(super) struct Places {
    paths: Vec<PathBuf>,
    changed: Arc<Notify>,
    found: Found,
    /// `None`: no directory to watch, or no events here. Its thread ends when it is dropped.
    watcher: Option<RecommendedWatcher>,
}

impl Places {
    /// Watches nothing until [`Self::look_again`].
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        Self { paths, changed, found: Found::default(), watcher: None }
    }

    /// Notified of changes.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Updates the watched directories. Call it before the files are read, so that no change in
    /// between is lost. Blocks on the file system.
    pub(super) fn look_again(&mut self) {
        for _ in 0..MAX_TRIES {
            let found = Found::of(&self.paths);
            if found == self.found {
                return;
            }
            self.watcher = watch(&found, Arc::clone(&self.changed));
            self.found = found;
        }
    }
}

fn watch(found: &Found, changed: Arc<Notify>) -> Option<RecommendedWatcher> {
    let (names, folders) = (found.names.clone(), found.folders.clone());
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let matters = |path: &PathBuf| {
            path.file_name().is_some_and(|name| names.contains(name))
                || folders.iter().any(|(folder, ..)| folder == path)
        };
        // An error (lost events) also requires a read.
        if event.map_or(true, |event| event.need_rescan() || is_change(&event, matters)) {
            changed.notify_one();
        }
    });
    let mut watcher = watcher
        .inspect_err(|e| tracing::warn!("no file events, polling the TLS certificate: {e}"))
        .ok()?;
    for (folder, ..) in &found.folders {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            let folder = folder.display();
            tracing::warn!("no file events in {folder}, polling the TLS certificate: {error}");
        }
    }
    Some(watcher)
}

/// Reading the files causes events as well; those must not cause another read.
fn is_change(event: &Event, matters: impl FnMut(&PathBuf) -> bool) -> bool {
    let written = AccessKind::Close(AccessMode::Write);
    let access = matches!(event.kind, EventKind::Access(kind) if kind != written);
    !access && event.paths.iter().any(matters)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(path: &Path) -> (Vec<PathBuf>, Vec<String>) {
        let found = Found::of(&[path.to_owned()]);
        let names = found.names.iter().map(|name| name.to_str().unwrap().to_owned());
        (found.folders.iter().map(|(folder, ..)| folder.clone()).collect(), names.collect())
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        (dir, real)
    }

    #[test]
    fn a_plain_file_shows_in_its_folder_even_before_it_is_there() {
        let (_dir, root) = place();
        let expected = (vec![root.clone()], vec!["tls.key".to_owned()]);
        assert_eq!(found(&root.join("tls.key")), expected);
        fs::write(root.join("tls.key"), "").unwrap();
        assert_eq!(found(&root.join("./x/../tls.key")), expected);
        assert_eq!(found(&root.join("no/tls.key")).0, Vec::<PathBuf>::new());
    }

    /// tls.key -> ..data/tls.key, ..data -> ..2026
    #[test]
    fn links_show_where_they_are() {
        let (_dir, root) = place();
        fs::create_dir(root.join("..2026")).unwrap();
        fs::write(root.join("..2026/tls.key"), "").unwrap();
        symlink("..2026", root.join("..data")).unwrap();
        symlink("..data/tls.key", root.join("tls.key")).unwrap();
        let (folders, names) = found(&root.join("tls.key"));
        assert_eq!(folders, [root.clone(), root.join("..2026")]);
        assert_eq!(names, ["..data", "tls.key"]);

        fs::create_dir(root.join("etc")).unwrap();
        symlink(root.join("tls.key"), root.join("etc/server.key")).unwrap();
        let (folders, names) = found(&root.join("etc/server.key"));
        assert_eq!(folders, [root.clone(), root.join("..2026"), root.join("etc")]);
        assert_eq!(names, ["..data", "server.key", "tls.key"]);
    }

    #[test]
    fn a_ring_of_links_has_an_end() {
        let (_dir, root) = place();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(found(&root.join("a")).0, [root]);
    }
}
