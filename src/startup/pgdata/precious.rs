//! Directories whose foreign content is never deleted, not even with `--force-wipe`: those of the
//! operating system, the user's home, and the root of a mounted file system. A mistyped
//! `--pgdata` must not cost a machine or a volume.
//!
//! Paths are resolved before they are judged, so no link and no `..` leads around this.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

/// Why the content of a directory must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precious {
    /// Of the operating system.
    System,
    /// The home directory of a user.
    Home,
    /// The root of a mounted file system.
    MountRoot,
}

impl std::fmt::Display for Precious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::System => "a directory of the operating system",
            Self::Home => "a home directory",
            Self::MountRoot => "the root of a mounted file system",
        })
    }
}

/// These and everything below them.
const WHOLE: [&str; 17] = [
    "/bin",
    "/boot",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/share",
];

/// These and what is directly in them.
const WITH_CHILDREN: [&str; 2] = ["/home", "/run/user"];

/// These alone.
const ALONE: [&str; 39] = [
    "/",
    "/dev",
    "/dev/shm",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/run/lock",
    "/run/postgresql",
    "/snap",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/games",
    "/usr/lib32",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/local/share",
    "/usr/src",
    "/var",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/lib/apt",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/kubelet",
    "/var/lib/pgsql",
    "/var/lib/postgresql",
    "/var/lib/rpm",
    "/var/lib/systemd",
    "/var/local",
    "/var/log",
    "/var/spool",
    "/var/tmp",
];

/// Judges a directory by its resolved path.
pub(crate) fn judge(real: &Path) -> Option<Precious> {
    let is_one_of = |paths: &[&str], path: &Path| paths.iter().any(|it| path == Path::new(it));
    if is_one_of(&ALONE, real)
        || is_one_of(&WITH_CHILDREN, real)
        || WHOLE.iter().any(|whole| real.starts_with(whole))
        || links_to(real)
    {
        return Some(Precious::System);
    }
    let parent_has_homes = real.parent().is_some_and(|it| is_one_of(&WITH_CHILDREN, it));
    if parent_has_homes || home().is_some_and(|home| home == real) {
        return Some(Precious::Home);
    }
    is_mount_root(real).then_some(Precious::MountRoot)
}

/// Whether one of the paths is a link to the directory, as `/var/tmp` may be.
fn links_to(real: &Path) -> bool {
    let all = ALONE.iter().chain(&WITH_CHILDREN).chain(&WHOLE).map(Path::new);
    all.filter(|path| path.is_symlink()).any(|path| path.canonicalize().is_ok_and(|it| it == real))
}

/// Home of the user that this process runs as.
fn home() -> Option<PathBuf> {
    let user = User::from_uid(Uid::effective()).ok().flatten()?;
    user.dir.canonicalize().ok()
}

/// Whether a file system is mounted at the directory; `false` if the kernel does not tell.
fn is_mount_root(path: &Path) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE).is_ok_and(|found| {
        found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
            && found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_stay_and_places_for_data() {
        let system = [
            "/",
            "/etc",
            "/etc/postgresql/15/main",
            "/home",
            "/var",
            "/var/lib",
            "/usr",
            "/usr/lib/postgresql",
            "/opt",
            "/srv",
            "/mnt",
            "/root",
            "/lib64",
            "/proc/1",
            "/var/lib/postgresql",
        ];
        for path in system {
            assert_eq!(judge(Path::new(path)), Some(Precious::System), "{path}");
        }
        assert_eq!(judge(Path::new("/home/alice")), Some(Precious::Home));
        for path in [
            "/home/alice/data",
            "/var/lib/postgresql/15/main",
            "/var/db/postgres/compute",
            "/usr/local/pgsql/data",
            "/opt/neon/pgdata",
            "/mnt/volume/pgdata",
            "/pgdata",
            "/etcetera",
        ] {
            assert_eq!(judge(Path::new(path)), None, "{path}");
        }
        assert_eq!(judge(tempfile::tempdir().unwrap().path()), None);
    }

    /// Both are mounted everywhere, and in no list.
    #[test]
    fn the_root_of_a_mount_is_known() {
        let root = ["/dev/pts", "/dev/mqueue"].map(Path::new).into_iter().find(|it| it.exists());
        if let Some(root) = root {
            assert_eq!(judge(root), Some(Precious::MountRoot), "{}", root.display());
        }
    }
}
