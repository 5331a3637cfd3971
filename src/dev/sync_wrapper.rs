//! Adds `--sync-safekeepers` to a vanilla Postgres (06 §11.6).
//!
//! Layout: `<dir>/bin/postgres` is a shell script; the other programs beside it are links, and so
//! are `<dir>/lib` and `<dir>/share`. The script accesses `<dir>/{lsn,mode,journal}` at each call,
//! so the behaviour can be changed while a daemon runs. For all other options the script `exec`s
//! the real server, so that the child of the daemon is the postmaster itself.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::servers::Server;
use crate::spec::Lsn;

/// POSIX shell. `@DIR@` and `@REAL@` are replaced by quoted paths.
const SCRIPT: &str = r#"#!/bin/sh
dir=@DIR@
real=@REAL@
if [ "$1" = --sync-safekeepers ]; then
    # One write per call, so that calls cannot mix.
    record=$(
        echo call
        printf 'pgdata %s\n' "$PGDATA"
        [ -z "${NEON_AUTH_TOKEN+set}" ] || printf 'token %s\n' "$NEON_AUTH_TOKEN"
        ls -A1 "$PGDATA" | sed 's/^/file /'
    )
    printf '%s\n' "$record" >> "$dir/journal"
    read -r mode number < "$dir/mode"
    echo "sync-safekeepers stand-in: $mode" >&2
    case $mode in
    exit) exit "$number" ;;
    hang) exec sleep 86400 ;;
    garbage) echo hello; exit 0 ;;
    fail-first) [ "$(grep -c '^call$' "$dir/journal")" -gt "$number" ] || exit 1 ;;
    esac
    cat "$dir/lsn"
    exit 0
fi
data=$PGDATA
previous=
for argument do
    case $argument in
    -D?*) data=${argument#-D} ;;
    --pgdata=*) data=${argument#--pgdata=} ;;
    esac
    [ "$previous" != -D ] || data=$argument
    previous=$argument
done
case $data in
*.warmup) exec "$real" "$@" -c shared_preload_libraries= -c "unix_socket_directories=$data" ;;
esac
exec "$real" "$@"
"#;

/// Behaviour of `--sync-safekeepers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// Prints the LSN, exits with 0.
    Ok,
    /// Exits with this code, prints nothing.
    Exit(u8),
    /// Runs until a signal ends it.
    Hang,
    /// Prints a text that is not an LSN, exits with 0.
    Garbage,
    /// Exits with 1 for this many calls, counted from the last [`SyncWrapper::clear_journal`].
    FailFirst(u32),
}

/// One call of `--sync-safekeepers`.
#[derive(Clone, PartialEq, Eq)]
pub struct SyncCall {
    /// `PGDATA` in its environment.
    pub pgdata: String,
    /// `NEON_AUTH_TOKEN` in its environment.
    pub token: Option<String>,
    /// Content of `PGDATA` at that moment, sorted.
    pub files: Vec<String>,
}

impl std::fmt::Debug for SyncCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncCall")
            .field("pgdata", &self.pgdata)
            .field("token", &self.token.as_ref().map(|_| "[secret]"))
            .field("files", &self.files)
            .finish()
    }
}

/// A program directory with a `postgres` that supports `--sync-safekeepers`.
#[derive(Debug, Clone)]
pub struct SyncWrapper {
    dir: PathBuf,
}

impl SyncWrapper {
    /// Fills `dir` (created if missing; its parent must exist). The user that runs the daemon must
    /// have access to it.
    ///
    /// # Errors
    /// Errors of the file system; `AlreadyExists` if `dir` already has a wrapper.
    pub fn create(dir: &Path, server: &Server) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let bin = dir.join("bin");
        for folder in [&dir, &bin] {
            if !folder.is_dir() {
                fs::create_dir(folder)?;
                fs::set_permissions(folder, Permissions::from_mode(0o755))?;
            }
        }
        for entry in fs::read_dir(&server.bin_dir)? {
            let name = entry?.file_name();
            if name != "postgres" && name != "postmaster" {
                symlink(server.bin_dir.join(&name), bin.join(&name))?;
            }
        }
        // As in an installation, libraries and extensions are found beside the programs.
        for kind in ["lib", "share"] {
            let original = server.bin_dir.with_file_name(kind);
            if original.is_dir() {
                symlink(original, dir.join(kind))?;
            }
        }
        let wrapper = Self { dir };
        wrapper.set_lsn(0)?;
        wrapper.set_mode(SyncMode::Ok)?;
        wrapper.clear_journal()?;
        // The daemon may run as another user than this process.
        fs::set_permissions(wrapper.dir.join("journal"), Permissions::from_mode(0o666))?;
        let script = replace(SCRIPT.as_bytes(), b"@DIR@", &quote(wrapper.dir.as_os_str()));
        let script = replace(&script, b"@REAL@", &quote(server.postgres.as_os_str()));
        fs::write(wrapper.postgres(), script)?;
        fs::set_permissions(wrapper.postgres(), Permissions::from_mode(0o755))?;
        Ok(wrapper)
    }

    /// The program to run; ends in `/bin/postgres`.
    #[must_use]
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("bin/postgres")
    }

    /// Sets the LSN that the sync prints.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_lsn(&self, lsn: u64) -> io::Result<()> {
        self.put("lsn", &Lsn(lsn).to_string())
    }

    /// Sets the behaviour of the sync.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_mode(&self, mode: SyncMode) -> io::Result<()> {
        let text = match mode {
            SyncMode::Ok => "ok".to_owned(),
            SyncMode::Exit(code) => format!("exit {code}"),
            SyncMode::Hang => "hang".to_owned(),
            SyncMode::Garbage => "garbage".to_owned(),
            SyncMode::FailFirst(calls) => format!("fail-first {calls}"),
        };
        self.put("mode", &text)
    }

    /// Removes the recorded calls.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear_journal(&self) -> io::Result<()> {
        fs::write(self.dir.join("journal"), "")
    }

    /// The recorded calls, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn calls(&self) -> io::Result<Vec<SyncCall>> {
        let text = fs::read(self.dir.join("journal"))?;
        let mut calls: Vec<SyncCall> = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            if line == "call" {
                calls.push(SyncCall { pgdata: String::new(), token: None, files: Vec::new() });
            }
            let Some(call) = calls.last_mut() else { continue };
            match line.split_once(' ') {
                Some(("pgdata", value)) => value.clone_into(&mut call.pgdata),
                Some(("token", value)) => call.token = Some(value.to_owned()),
                Some(("file", value)) => call.files.push(value.to_owned()),
                _ => {}
            }
        }
        Ok(calls)
    }

    /// Replaces a file atomically, so that a call never reads half of it.
    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let partial = self.dir.join(format!(".{name}"));
        fs::write(&partial, format!("{text}\n"))?;
        fs::rename(partial, self.dir.join(name))
    }
}

/// Quotes a word for a POSIX shell in single quotes.
pub(super) fn quote(text: &OsStr) -> Vec<u8> {
    [b"'".as_slice(), &replace(text.as_bytes(), b"'", br"'\''"), b"'"].concat()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(byte) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            out.extend_from_slice(to);
            rest = after;
        } else {
            out.push(*byte);
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    /// A wrapper in a directory with an awkward name, around a "server" that prints its arguments.
    fn set_up() -> (tempfile::TempDir, SyncWrapper) {
        let dir = tempfile::tempdir().unwrap();
        let bin_dir = dir.path().join("real bin's");
        fs::create_dir(&bin_dir).unwrap();
        symlink("/bin/echo", bin_dir.join("postgres")).unwrap();
        symlink("/bin/true", bin_dir.join("initdb")).unwrap();
        let postgres = bin_dir.join("postgres");
        let server = Server { bin_dir, postgres, major: 16, version: "16.1".to_owned() };
        let wrapper = SyncWrapper::create(&dir.path().join("wrap $per's"), &server).unwrap();
        (dir, wrapper)
    }

    /// Runs it through the shell: a child of another test could hold a program file of this process
    /// open, and then it could not be executed directly.
    fn run(wrapper: &SyncWrapper, args: &[&str], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new("/bin/sh");
        command.arg(wrapper.postgres()).args(args).env_remove("PGDATA");
        command.env_remove("NEON_AUTH_TOKEN").envs(env.iter().copied()).output().unwrap()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).trim_end().to_owned()
    }

    #[test]
    fn sync_modes_and_journal() {
        let (dir, wrapper) = set_up();
        let pgdata = dir.path().join("pg data");
        fs::create_dir(&pgdata).unwrap();
        for name in ["postgresql.conf", ".hidden"] {
            fs::write(pgdata.join(name), "").unwrap();
        }
        let pgdata = pgdata.to_str().unwrap();
        let sync = |env: &[(&str, &str)]| {
            let output = run(&wrapper, &["--sync-safekeepers"], env);
            (output.status.code(), text(&output.stdout))
        };
        wrapper.set_lsn(0x1A2_B3C8).unwrap();
        let with_token = [("PGDATA", pgdata), ("NEON_AUTH_TOKEN", "a token")];
        assert_eq!(sync(&with_token), (Some(0), "0/1A2B3C8".to_owned()));
        assert_eq!(sync(&[("PGDATA", pgdata)]), (Some(0), "0/1A2B3C8".to_owned()));
        let files = vec![".hidden".to_owned(), "postgresql.conf".to_owned()];
        let call = |token: Option<&str>| SyncCall {
            pgdata: pgdata.to_owned(),
            token: token.map(str::to_owned),
            files: files.clone(),
        };
        assert_eq!(wrapper.calls().unwrap(), [call(Some("a token")), call(None)]);
        assert!(!format!("{:?}", wrapper.calls().unwrap()).contains("a token"));

        wrapper.set_mode(SyncMode::Exit(7)).unwrap();
        assert_eq!(sync(&[]), (Some(7), String::new()));
        wrapper.set_mode(SyncMode::Garbage).unwrap();
        assert_eq!(sync(&[]), (Some(0), "hello".to_owned()));
        wrapper.set_mode(SyncMode::FailFirst(2)).unwrap();
        wrapper.clear_journal().unwrap();
        let codes: Vec<_> = (0..3).map(|_| sync(&[]).0).collect();
        assert_eq!(codes, [Some(1), Some(1), Some(0)]);
        assert_eq!(wrapper.calls().unwrap().len(), 3);
    }

    #[test]
    fn a_hanging_sync_dies_of_sigterm() {
        let (_dir, wrapper) = set_up();
        wrapper.set_mode(SyncMode::Hang).unwrap();
        // The signal goes to the shell, or to the `sleep` that has replaced it.
        let script = r#"/bin/sh "$1" --sync-safekeepers & pid=$!
            until [ -s "$2" ]; do sleep 0.02; done
            kill -TERM $pid; wait $pid; exit $?"#;
        let mut command = Command::new("/usr/bin/timeout");
        command.args(["60", "/bin/sh", "-c", script, "sh"]).arg(wrapper.postgres());
        let status = command.arg(wrapper.dir.join("journal")).output().unwrap().status;
        assert_eq!(status.code(), Some(128 + 15));
        assert_eq!(wrapper.calls().unwrap().len(), 1);
    }

    #[test]
    fn everything_else_goes_to_the_real_server() {
        let (_dir, wrapper) = set_up();
        let out = |args: &[&str]| text(&run(&wrapper, args, &[]).stdout);
        assert_eq!(out(&["-D", "/a b/data", "-c", "x=1 2"]), "-D /a b/data -c x=1 2");
        assert_eq!(out(&["--version-x"]), "--version-x");
        let extra = "-c shared_preload_libraries= -c unix_socket_directories=/a b/d.warmup";
        assert_eq!(out(&["-D", "/a b/d.warmup"]), format!("-D /a b/d.warmup {extra}"));
        assert_eq!(out(&["-D/a b/d.warmup"]), format!("-D/a b/d.warmup {extra}"));
        assert!(wrapper.calls().unwrap().is_empty());
        assert!(wrapper.postgres().with_file_name("initdb").is_symlink());
    }
}
