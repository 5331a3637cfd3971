//! A copy of the server whose folders of libraries and extensions can be written.
//!
//! Postgres finds both from where its program is, so the copy has the same layout. Libraries are
//! links; what is written is the copy's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use compute_ctl::dev::servers::Server;
use compute_ctl::dev::sync_wrapper::SyncWrapper;
use compute_ctl::os::children::Children;
use compute_ctl::postgres::install::PgInstall;

use super::Bed;
use super::bed::hand_over_tree;

/// Folders of a relocated server.
pub struct Relocated {
    pub libraries: PathBuf,
    /// The one with the control files.
    pub extensions: PathBuf,
}

const LSN: u64 = 0x1F3_0EC8;

impl Bed {
    /// Has the compute run a copy of its server. `None` if it cannot be told where the server has
    /// its files; the test is skipped then.
    pub async fn relocate_server(&mut self) -> Option<Relocated> {
        let original = &self.server;
        let children = Children::new();
        let install =
            PgInstall::discover(&original.postgres, &children, Duration::from_secs(60)).await;
        let install = install.unwrap();
        let (Some(libraries), Some(share)) = (install.pkglibdir, install.sharedir) else {
            println!("skipped: this server does not tell where its files are");
            return None;
        };
        let bin = original.postgres.parent().unwrap();
        let root = common(&common(bin, &libraries), &share);
        let home = self.dir().join("server");
        let place = |original: &Path| home.join(original.strip_prefix(&root).unwrap());

        copy_tree(&share, &place(&share));
        link_all(&libraries, &place(&libraries));
        // What the program itself is linked against lies beside its modules.
        if let Some(parent) = libraries.parent().filter(|parent| *parent != root) {
            link_all(parent, &place(parent));
        }
        link_all(bin, &place(bin));
        for program in ["postgres", "pg_config"] {
            if bin.join(program).is_file() {
                let copy = place(bin).join(program);
                fs::remove_file(&copy).unwrap();
                fs::copy(bin.join(program), copy).unwrap();
            }
        }
        let server = Server {
            bin_dir: place(bin),
            postgres: place(bin).join("postgres"),
            ..original.clone()
        };
        let wrapper_dir = self.dir().join("pg-relocated");
        let wrapper = SyncWrapper::create(&wrapper_dir, &server).unwrap();
        wrapper.set_lsn(LSN).unwrap();
        hand_over_tree(&wrapper_dir);
        hand_over_tree(&home);
        self.pgbin = wrapper.postgres();
        self.wrapper = wrapper;
        Some(Relocated {
            libraries: place(&libraries),
            extensions: place(&share).join("extension"),
        })
    }
}

fn common(a: &Path, b: &Path) -> PathBuf {
    a.components().zip(b.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Links to everything in a folder that is not there yet.
fn link_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if !target.exists() {
            symlink(entry.path(), target).unwrap();
        }
    }
}
