//! A copy of the server whose folders of libraries and extensions can be written.
//!
//! Postgres finds both from where its program is, so the copy has the same layout. Libraries are
//! links; what is written is the copy's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use compute_ctl::dev::servers::Server;
use compute_ctl::dev::sync_wrapper::SyncWrapper;

use crate::support::bed::{Bed, hand_over_tree, install};

/// Folders of a relocated server.
pub struct Relocated {
    pub libraries: PathBuf,
    /// The one with the control files.
    pub extensions: PathBuf,
}

/// Find their files from where they really are, so links to them would not do.
const PROGRAMS: [&str; 2] = ["postgres", "pg_config"];
const LSN: u64 = 0x1F3_0EC8;

impl Bed {
    /// Has the compute run a copy of its server. `None` if it cannot be told where the server has
    /// its files; the test is skipped then.
    pub async fn relocate_server(&mut self) -> Option<Relocated> {
        let original = &self.server;
        let install = install(original).await;
        let (Some(libraries), Some(share)) = (install.pkglibdir, install.sharedir) else {
            println!("skipped: this server does not tell where its files are");
            return None;
        };
        let bin = original.postgres.parent().unwrap();
        let root = common(&common(bin, &libraries), &share);
        let home = self.dir().join("server");
        let place = |original: &Path| home.join(original.strip_prefix(&root).unwrap());

        copy_tree(&share, &place(&share));
        // What the program itself is linked against lies beside the folder of its modules.
        for folder in [Some(libraries.as_path()), libraries.parent()].into_iter().flatten() {
            link_files(folder, &place(folder), &[]);
        }
        link_files(bin, &place(bin), &PROGRAMS);
        for program in PROGRAMS.iter().filter(|program| bin.join(program).is_file()) {
            fs::copy(bin.join(program), place(bin).join(program)).unwrap();
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

/// Links to the files of a folder, in a folder of our own. None to folders: through such a link the
/// original could be written to.
fn link_files(from: &Path, to: &Path, except: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.path().is_file() && !except.iter().any(|except| name == *except) {
            symlink(entry.path(), to.join(name)).unwrap();
        }
    }
}
