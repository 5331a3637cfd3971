//! The basebackups that are served.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use compute_ctl::dev::archive::{self, ArchiveOptions};
use compute_ctl::dev::servers::Server;

use super::common::host::Owner;
use super::common::stand_in::{append, build, folder, least};

/// A cluster as initdb leaves it, with WAL segments of the usual 16 MiB: about 40 MB.
pub fn initdb(server: &Server, dir: &Path, owner: Owner) -> anyhow::Result<PathBuf> {
    let data = dir.join("initdb");
    let mut command = Command::new(server.program("initdb"));
    command.args(["-U", "cloud_admin", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
    command.args(["--no-sync", "--no-instructions", "-D"]).arg(&data).current_dir("/");
    owner.run_as(&mut command);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "initdb failed: {status}");
    let target = dir.join("initdb.tar.gz");
    archive::build(&data, &target, &ArchiveOptions::default())?;
    std::fs::remove_dir_all(data)?;
    Ok(target)
}

/// 512 MiB in files of 1 MiB, half of them incompressible, half almost fully compressible.
pub fn large(dir: &Path) -> anyhow::Result<PathBuf> {
    const FILE: usize = 1 << 20;
    build(&dir.join("large.tar.gz"), |tar| {
        let mut random = fastrand::Rng::with_seed(1);
        least(tar)?;
        folder(tar, "base")?;
        folder(tar, "base/1")?;
        for number in 0..512 {
            let mut content = vec![b'x'; FILE];
            if number % 2 == 0 {
                random.fill(&mut content);
            }
            append(tar, &format!("base/1/{number}"), &content)?;
        }
        Ok(())
    })
}

/// Size of the archive, and of the tar in it.
pub fn sizes(archive: &Path) -> anyhow::Result<(usize, usize)> {
    let packed = std::fs::read(archive).with_context(|| archive.display().to_string())?;
    let mut tar = Vec::new();
    flate2::bufread::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut tar)?;
    Ok((packed.len(), tar.len()))
}
