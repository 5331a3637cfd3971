//! What costs nothing: a server that is ready at once, and an archive of one file.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use compute_ctl::dev::servers::Server;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// A stand-in for a server that starts at no cost. It logs the same line as the real one. On a busy
/// machine the safekeepers are asked by the sync, which it answers, too.
const FAKE: &str = r#"#!/bin/sh
case "$1" in
    -D) ;;
    --sync-safekeepers) echo 0/1F30EC8; exit ;;
    *) echo "postgres (PostgreSQL) 15.0 (fake)"; exit ;;
esac
echo ready > "$2/postmaster.pid"
echo 'database system is ready to accept connections' >&2
exec sleep 600
"#;

/// Makes a folder with the stand-in; `server` gives it a `pg_config`.
pub fn fake_server(server: Option<&Server>, dir: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let pg_config = server.map(|server| server.program("pg_config"));
    if let Some(pg_config) = pg_config.filter(|path| path.is_file()) {
        std::os::unix::fs::symlink(pg_config, dir.join("pg_config"))?;
    }
    let fake = dir.join("postgres");
    fs::write(&fake, FAKE)?;
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755))?;
    Ok(fake)
}

/// One file: the rest of the time is the daemon's own work.
pub fn one_file(dir: &Path) -> anyhow::Result<PathBuf> {
    build(&dir.join("one-file.tar.gz"), least)
}

/// An archive that is being written.
pub type Packer = Builder<GzEncoder<File>>;

/// Packs what `fill` adds.
pub fn build(
    target: &Path,
    fill: impl FnOnce(&mut Packer) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let mut tar = Builder::new(GzEncoder::new(File::create(target)?, Compression::fast()));
    fill(&mut tar)?;
    tar.into_inner()?.finish()?;
    Ok(target.to_owned())
}

/// Without these two files the daemon does not accept an archive as a cluster.
pub fn least(tar: &mut Packer) -> anyhow::Result<()> {
    folder(tar, "pg_dynshmem")?;
    append(tar, "pg_hba.conf", b"# empty\n")
}

pub fn folder(tar: &mut Packer, name: &str) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o700);
    header.set_size(0);
    tar.append_data(&mut header, name, std::io::empty())?;
    Ok(())
}

pub fn append(tar: &mut Packer, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content)?;
    Ok(())
}
