//! A copy of the server with writable folders of libraries and extensions.
//!
//! Postgres finds both folders relative to its program, so the copy has the same layout. Libraries
//! are links; files that a test writes belong to the copy.

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

/// Programs that find their files from their real path, so links to them do not work.
const PROGRAMS: [&str; 2] = ["postgres", "pg_config"];
const LSN: u64 = 0x1F3_0EC8;

impl Bed {
    /// Makes the compute run a copy of its server. `None` if the folders of the server cannot be
    /// determined; the test is skipped then.
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
        // The libraries that the program is linked against are beside the folder of its modules.
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

/// Makes a folder of links to the files of another. Folders are not linked: a write through such a
/// link would change the original.
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
