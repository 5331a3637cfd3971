//! Finds the Postgres installations of the machine for `compute_ctl dev` and the tests.
//!
//! Places, in order: the given path (then no other place is searched), the bin directories in
//! `COMPUTE_CTL_PG_PATH`, `PATH`, and the directories that distributions use. A match is a
//! directory with `postgres` and `initdb` whose `postgres --version` reports 14 to 17.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::env::{OfProcess, server_folders};
use crate::os::children;

pub use crate::env::PG_PATH as PG_PATH_VARIABLE;
/// Supported major versions.
const SUPPORTED: std::ops::RangeInclusive<u16> = 14..=17;

/// An installed Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Directory of the programs.
    pub bin_dir: PathBuf,
    /// The `postgres` program in it, links resolved.
    pub postgres: PathBuf,
    /// Major version, such as 16.
    pub major: u16,
    /// Version as the program prints it, such as `16.4` or `17beta1`.
    pub version: String,
}

impl Server {
    /// Another program of the same installation, such as `initdb`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }
}

/// No usable Postgres was found.
#[derive(Debug, thiserror::Error)]
#[error(
    "found no Postgres 14 to 17 (a folder with both postgres and initdb) in {}{}. Install one (Debian: apt-get install postgresql), or name its bin folder in {PG_PATH_VARIABLE}",
    list(looked),
    skipped(unusable)
)]
pub struct NoServer {
    /// The places that were searched.
    pub looked: Vec<PathBuf>,
    /// Unusable programs, with the reason.
    pub unusable: Vec<(PathBuf, String)>,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn skipped(unusable: &[(PathBuf, String)]) -> String {
    unusable.iter().map(|(path, why)| format!("; {} {why}", path.display())).collect()
}

/// Places to search. [`Places::from_env`] gives those of this machine; tests set their own.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// A bin directory or a `postgres` program that the user named; then the only place.
    pub explicit: Option<PathBuf>,
    /// Bin directories, in order.
    pub folders: Vec<PathBuf>,
}

impl Places {
    /// The places of this machine.
    #[must_use]
    pub fn from_env(explicit: Option<&Path>) -> Self {
        let mut folders = server_folders(&OfProcess);
        folders.extend(distribution_folders(Path::new("/usr")));
        Self { explicit: explicit.map(Path::to_owned), folders }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        match &self.explicit {
            Some(path) if path.is_dir() => vec![path.clone()],
            Some(path) => vec![path.parent().map(Path::to_owned).unwrap_or_default()],
            None => self.folders.clone(),
        }
    }

    /// All usable servers, newest first; of equal versions the first in order. Runs each
    /// `postgres --version`, so it blocks for a few milliseconds per installation.
    #[must_use]
    pub fn find(&self) -> Vec<Server> {
        self.search().0
    }

    /// The newest usable server.
    ///
    /// # Errors
    /// [`NoServer`] lists the places and the unusable programs.
    pub fn choose(&self) -> Result<Server, NoServer> {
        let (servers, unusable) = self.search();
        let looked = self.candidates();
        servers.into_iter().next().ok_or(NoServer { looked, unusable })
    }

    fn search(&self) -> (Vec<Server>, Vec<(PathBuf, String)>) {
        let (mut servers, mut unusable) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for folder in self.candidates() {
            let Ok(postgres) = fs::canonicalize(folder.join("postgres")) else { continue };
            if !seen.insert(postgres.clone()) {
                continue;
            }
            match inspect(&folder, &postgres) {
                Ok(server) => servers.push(server),
                Err(why) => unusable.push((postgres, why)),
            }
        }
        servers.sort_by_key(|server| std::cmp::Reverse(version_key(&server.version)));
        (servers, unusable)
    }
}

/// All usable servers of this machine, newest first; see [`Places::find`].
#[must_use]
pub fn find_servers(explicit: Option<&Path>) -> Vec<Server> {
    Places::from_env(explicit).find()
}

/// The newest usable server of this machine; see [`Places::choose`].
///
/// # Errors
/// [`NoServer`], with instructions to install one.
pub fn choose(explicit: Option<&Path>) -> Result<Server, NoServer> {
    Places::from_env(explicit).choose()
}

/// `lib/postgresql/*/bin`, `local/pgsql/bin` and `pgsql-*/bin` below `usr`.
fn distribution_folders(usr: &Path) -> Vec<PathBuf> {
    let children = |folder: PathBuf| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let mut folders: Vec<PathBuf> =
        children(usr.join("lib/postgresql")).iter().map(|path| path.join("bin")).collect();
    folders.push(usr.join("local/pgsql/bin"));
    let named = |path: &PathBuf| {
        path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("pgsql-"))
    };
    folders.extend(
        children(usr.to_owned()).iter().filter(|path| named(path)).map(|path| path.join("bin")),
    );
    folders
}

/// Checks one program; the error completes the sentence "`program` ...".
fn inspect(folder: &Path, postgres: &Path) -> Result<Server, String> {
    // A link in /usr/local/bin may have no initdb beside it, but its target has.
    let home = postgres.parent().filter(|home| home.join("initdb").is_file());
    let bin_dir = match home {
        Some(home) => home.to_owned(),
        None if folder.join("initdb").is_file() => folder.to_owned(),
        None => return Err("has no initdb beside it".to_owned()),
    };
    // Not through the registry of children: no runtime exists yet, and orphans are not reaped.
    let mut command = Command::new(postgres);
    command.arg("--version").stdin(Stdio::null());
    children::withhold(&mut command);
    let output = command.output().map_err(|error| format!("cannot be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text).ok_or("does not tell its version")?;
    let major = u16::try_from(version_key(&version).0).unwrap_or(u16::MAX);
    if !SUPPORTED.contains(&major) {
        return Err(format!("is version {version}, and 14 to 17 are supported"));
    }
    Ok(Server { bin_dir, postgres: postgres.to_owned(), major, version })
}

/// The word after `postgres (PostgreSQL)`.
fn parse_version(text: &str) -> Option<String> {
    let (_, after) = text.split_once("(PostgreSQL)")?;
    let word = after.split_whitespace().next()?;
    word.starts_with(|first: char| first.is_ascii_digit()).then(|| word.to_owned())
}

/// Sort key: major version, whether it is a release, and minor or pre-release number.
fn version_key(version: &str) -> (u32, bool, u32) {
    let digits = |text: &str| {
        let run: String = text.chars().take_while(char::is_ascii_digit).collect();
        run.parse().unwrap_or(0)
    };
    let rest = version.trim_start_matches(|c: char| c.is_ascii_digit());
    let release = rest.is_empty() || rest.starts_with('.');
    let number = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    (digits(version), release, digits(number))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A shell writes the file: if this process did, a child that another test starts could hold it
    /// open, and then it could not be executed.
    fn program(path: &Path, output: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let script = r##"printf '#!/bin/sh\necho "%s"\n' "$2" > "$1" && chmod 755 "$1""##;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "sh"]).arg(path).arg(output);
        assert!(shell.output().unwrap().status.success());
    }

    fn install(usr: &Path, folder: &str, version: &str) -> PathBuf {
        let bin = usr.join(folder);
        program(&bin.join("postgres"), &format!("postgres (PostgreSQL) {version}"));
        program(&bin.join("initdb"), "");
        bin
    }

    #[test]
    fn newest_first_without_doubles_and_without_the_unusable() {
        let dir = tempfile::tempdir().unwrap();
        let usr = fs::canonicalize(dir.path()).unwrap();
        let v15 = install(&usr, "lib/postgresql/15/bin", "15.14 (Debian 15.14-0+deb12u1)");
        let v9 = install(&usr, "lib/postgresql/9.6/bin", "9.6.24");
        install(&usr, "lib/postgresql/18/bin", "18.1");
        let beta = install(&usr, "pgsql-17/bin", "17beta2");
        let v17 = install(&usr, "local/pgsql/bin", "17.2");
        program(&usr.join("lib/postgresql/16/bin/postgres"), "postgres (PostgreSQL) 16.1");
        fs::create_dir(usr.join("bin")).unwrap();
        symlink(v15.join("postgres"), usr.join("bin/postgres")).unwrap();

        let mut folders = vec![usr.join("bin"), usr.join("missing")];
        folders.extend(distribution_folders(&usr));
        let places = Places { explicit: None, folders };
        let found = places.find();
        let bins: Vec<&PathBuf> = found.iter().map(|server| &server.bin_dir).collect();
        assert_eq!(bins, [&v17, &beta, &v15]);
        assert_eq!((found[2].major, found[2].version.as_str()), (15, "15.14"));
        assert_eq!(places.choose().unwrap().program("initdb"), v17.join("initdb"));

        // An explicit place takes precedence, as a directory, as a program, and if it is unusable.
        for path in [v15.clone(), v15.join("postgres"), usr.join("bin/postgres")] {
            let places = Places { explicit: Some(path), ..places.clone() };
            assert_eq!(places.choose().unwrap().major, 15);
        }
        let error = Places { explicit: Some(v9), ..places }.choose().unwrap_err().to_string();
        assert!(error.contains("is version 9.6.24"), "{error}");
        assert!(error.contains("apt-get install postgresql"), "{error}");
    }

    #[test]
    fn nothing_found_names_the_places() {
        let places = Places { explicit: None, folders: vec!["/a/bin".into(), "/b/bin".into()] };
        let error = places.choose().unwrap_err().to_string();
        assert!(error.contains("in /a/bin, /b/bin. Install"), "{error}");
    }

    #[test]
    fn versions() {
        assert_eq!(parse_version("postgres (PostgreSQL) 16devel\n").unwrap(), "16devel");
        assert_eq!(parse_version("postgres (PostgreSQL) x"), None);
        assert_eq!(parse_version("bash 5"), None);
        assert_eq!(version_key("17beta2"), (17, false, 2));
        assert!(version_key("17.0") > version_key("17rc1"));
        assert!(version_key("16.10") > version_key("16.9"));
    }
}
