//! The folder of a scenario, its owner, and the data that every compute begins with.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use compute_ctl::dev::servers::Server;
use compute_ctl::dev::template::{RunAs, Template};
use compute_ctl::os::children::Children;
use compute_ctl::postgres::install::PgInstall;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::support::assertions::PATIENCE;
use crate::support::server::servers;

/// The space that all clusters of a run need together, with a good margin.
const ROOM: u64 = 3 << 30;

/// The user that Postgres runs as when the tests run as root.
pub fn run_as() -> Option<RunAs> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres").unwrap().expect("no user `postgres`");
    Some(RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
}

/// Facts about the servers, determined once. This needs children of this process, and the registry
/// that runs them also reaps ended children that it does not know, such as the compute of another
/// test. So it happens before the first scenario has a child.
struct Prepared {
    /// By version.
    templates: BTreeMap<String, Template>,
    /// By the folder of the programs.
    installs: BTreeMap<PathBuf, PgInstall>,
}

async fn prepared() -> &'static Prepared {
    static PREPARED: OnceCell<Prepared> = OnceCell::const_new();
    let prepare = || async {
        let children = Children::new();
        let mut prepared = Prepared { templates: BTreeMap::new(), installs: BTreeMap::new() };
        for server in servers() {
            let template = kept_template(server, &children).await;
            prepared.templates.insert(server.version.clone(), template);
            let install =
                PgInstall::discover(&server.postgres, None, &children, PATIENCE).await.unwrap();
            prepared.installs.insert(server.bin_dir.clone(), install);
        }
        prepared
    };
    PREPARED.get_or_init(prepare).await
}

/// The template of a server version.
pub async fn template(server: &Server) -> Template {
    prepared().await.templates[&server.version].clone()
}

/// The folders of a server's files.
pub async fn install(server: &Server) -> PgInstall {
    prepared().await.installs[&server.bin_dir].clone()
}

/// Made once and kept for later runs: initdb takes seconds. One folder per user, locked while a run
/// makes or checks a template.
async fn kept_template(server: &Server, children: &Children) -> Template {
    let user = nix::unistd::geteuid();
    let dir = std::env::temp_dir().join(format!("cctl-templates-{user}"));
    if !dir.exists() {
        // Another run may be making it right now.
        let _ = fs::create_dir(&dir);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let lock = dir.clone();
    let lock = tokio::task::spawn_blocking(move || {
        let lock = File::create(lock.join("lock")).unwrap();
        lock.lock().unwrap();
        lock
    });
    let _lock = lock.await.unwrap();
    Template::cached(server, &dir, run_as(), children).await.unwrap()
}

/// The folder of the scenarios' folders: in memory if it has room, unless `TMPDIR` is set. Each
/// cluster has a thousand files, and ext4 creates a file the more slowly the more files were
/// deleted in the last minutes, until that takes most of a run.
fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let fits = |memory: &Path| {
            let Ok(found) = statvfs(memory) else { return false };
            let free = found.blocks_available() * found.fragment_size();
            let exec = !found.flags().contains(FsFlags::ST_NOEXEC);
            free >= ROOM && exec && access(memory, AccessFlags::W_OK).is_ok()
        };
        let memory = Path::new("/dev/shm");
        let told = std::env::var_os("TMPDIR").is_some();
        if !told && fits(memory) { memory.to_owned() } else { std::env::temp_dir() }
    })
}

/// A folder that the run-as user can use.
pub fn folder(what: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("cctl-{what}-")).tempdir_in(root()).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    hand_over(dir.path());
    dir
}

/// Gives a file or folder to the run-as user.
pub fn hand_over(path: &Path) {
    if let Some(RunAs { uid, gid }) = run_as() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// The name of the user that a compute runs as.
pub fn run_as_name() -> String {
    let uid = run_as().map_or(nix::unistd::geteuid(), |user| user.uid.into());
    nix::unistd::User::from_uid(uid).unwrap().unwrap().name
}

pub fn hand_over_tree(path: &Path) {
    hand_over(path);
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if !entry.is_symlink() {
                hand_over_tree(&entry);
            }
        }
    }
}
