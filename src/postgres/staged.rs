//! Puts a new `postgresql.conf` in force: writes it beside the old one, has the server's own
//! program check it, renames it into place, and restores the old one if a later step fails (04 W7).
//!
//! Invariants: the checked file is the very file that is put in place, and until then no file that
//! Postgres reads has changed; a restored file equals the old one byte for byte.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::process::Command;

use super::conf::{Body, ConfFile, Line, Origin};
use super::files::{FilesError, POSTGRESQL_CONF, TEMP_PREFIX};
use super::install::PgInstall;
use crate::os::children::Children;
use crate::os::replace_file::{FileError, put_in_place, write_beside};

/// Limit for the output of the program.
const OUTPUT_LIMIT: usize = 4096;

/// Postgres would refuse the file: a reload would ignore all of it, a start would fail.
#[derive(Debug, thiserror::Error)]
#[error("Postgres refuses the new postgresql.conf: {said}")]
pub(crate) struct ConfRefused {
    /// Message of the server.
    said: String,
}

/// Why Postgres did not accept a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It refuses the file.
    #[error(transparent)]
    Refused(#[from] ConfRefused),
    /// It could not be asked.
    #[error("could not have the new postgresql.conf checked: {0}")]
    NoAnswer(String),
}

/// The new file before it is in place; deleted when dropped.
#[derive(Debug)]
pub(crate) struct StagedConf {
    file: NamedTempFile,
    place: PathBuf,
}

impl StagedConf {
    /// Writes the new file beside the old one.
    ///
    /// # Errors
    /// See [`FilesError`].
    pub(crate) fn new(pgdata: &Path, conf: &ConfFile) -> Result<Self, FilesError> {
        let place = pgdata.join(POSTGRESQL_CONF);
        let text = conf.render().map_err(FilesError::Conf)?;
        let file = write_beside(&place, TEMP_PREFIX, text.expose().as_bytes())?;
        Ok(Self { file, place })
    }

    /// Has the server program read the file, see [`Self::ask`]. If the program does not answer, the
    /// file is accepted too: the reload decides.
    ///
    /// # Errors
    /// The program refused the file.
    pub(crate) async fn check(
        &self,
        install: &PgInstall,
        children: &Children,
        limit: Duration,
    ) -> Result<(), ConfRefused> {
        match self.ask(install, None, children, limit).await {
            Ok(()) => Ok(()),
            Err(AskError::Refused(refused)) => Err(refused),
            Err(error @ AskError::NoAnswer(_)) => {
                tracing::warn!("{error}");
                Ok(())
            }
        }
    }

    /// Makes the server program read the file, as at a start, and exit without starting. The
    /// program does not know the settings of extensions and accepts them, as a reload does. As
    /// root a `user`, by uid and gid, is needed, who owns the folder.
    ///
    /// # Errors
    /// The program refused the file, or could not be asked.
    pub(crate) async fn ask(
        &self,
        install: &PgInstall,
        user: Option<(u32, u32)>,
        children: &Children,
        limit: Duration,
    ) -> Result<(), AskError> {
        let folder = self.place.parent().unwrap_or(&self.place);
        let mut command = Command::new(&install.postgres);
        // Any setting serves. `-C` must be the first argument.
        command.args(["-C", "config_file", "-D"]).arg(folder);
        command.arg("-c").arg(format!("config_file={}", self.file.path().display()));
        // `without_values` relies on the untranslated message.
        command.env("LC_ALL", "C");
        if let Some((uid, gid)) = user {
            chown(self.file.path(), Some(uid), Some(gid))
                .map_err(|error| AskError::NoAnswer(error.to_string()))?;
            // The server must be able to read the folder that it starts in.
            command.uid(uid).gid(gid).current_dir(folder);
        }
        match children.run(command, limit, OUTPUT_LIMIT).await {
            Ok(output) if output.status.success() => Ok(()),
            // Something else has ended it, such as a lack of memory: the file is not at fault.
            Ok(output) if output.status.code().is_none() => {
                let program = install.postgres.display();
                Err(AskError::NoAnswer(format!("`{program} -C` ended with {}", output.status)))
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let temporary = self.file.path().display().to_string();
                let said = said.trim().replace(&temporary, POSTGRESQL_CONF);
                let said = format!("{}\n{}", output.status, without_values(&said));
                Err(AskError::Refused(ConfRefused { said }))
            }
            Err(error) => Err(AskError::NoAnswer(error.to_string())),
        }
    }

    /// Puts the file in place atomically; the next reload loads it. The old file can be restored: a
    /// copy of it is written first, so that its restoration needs no space on a disk that is full by
    /// then.
    ///
    /// # Errors
    /// See [`FileError`]; the old file is still in place.
    pub(crate) fn put_in_place(self) -> Result<ReplacedConf, FileError> {
        let Self { file, place } = self;
        let text = fs::read(&place).map_err(FileError::at("read", &place))?;
        let old = write_beside(&place, TEMP_PREFIX, &text)?;
        put_in_place(file, &place)?;
        Ok(ReplacedConf { place, old })
    }
}

/// A copy of the previous file, deleted when dropped.
#[derive(Debug)]
pub(crate) struct ReplacedConf {
    place: PathBuf,
    old: NamedTempFile,
}

impl ReplacedConf {
    /// Restores the previous content atomically.
    ///
    /// # Errors
    /// See [`FileError`]; the new file is still in place.
    pub(crate) fn restore(self) -> Result<(), FileError> {
        put_in_place(self.old, &self.place)
    }
}

/// The server's message about an unreadable line ends with `near token "…"`; the token may be part
/// of a password, so it is replaced.
fn without_values(said: &str) -> String {
    let lines = said.lines().map(|line| match line.split_once("near token ") {
        Some((place, _)) => format!("{place}near a token that is not shown here"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether Postgres accepts `new` if it has accepted `old`, so that it need not be asked: a tenant that
/// moves to another pageserver does not wait for the check. The lines from outside, that is, from the
/// base text and the settings list, are the same but for settings of extensions. Lines that the
/// program generates are well formed.
pub(crate) fn needs_no_check(new: &ConfFile, old: &ConfFile) -> bool {
    new.unreadable().is_empty() && refusable(new).eq(refusable(old))
}

/// The lines that the server's program may refuse.
fn refusable(conf: &ConfFile) -> impl Iterator<Item = &Line> {
    let outside = |line: &&Line| matches!(line.origin, Origin::BaseText | Origin::SpecList);
    let taken = |line: &&Line| match &line.body {
        Body::Setting { name, .. } => is_of_an_extension(name),
        Body::Verbatim(_) | Body::Comment(_) => false,
    };
    conf.lines().iter().filter(outside).filter(move |line| !taken(line))
}

/// Whether this is a name of two words. The program loads no extension, so that it has no setting of
/// such a name and takes any text as its value. An extension that refuses the value does so in the
/// running server, which then keeps the value before.
fn is_of_an_extension(name: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    name.split_once('.').is_some_and(|(class, rest)| is_word(class) && is_word(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::conf::ConfInputs;
    use crate::spec::ComputeSpec;
    use serde_json::{Value, json};
    use std::os::unix::fs::PermissionsExt;

    const INPUTS: ConfInputs<'_> = ConfInputs {
        privileged_role_name: "neon_superuser",
        internal_http_port: 3081,
        overcommit_strict: false,
        tls: false,
        lakebase_port: None,
    };

    fn conf(base: &str, endpoint: &str) -> ConfFile {
        let spec: ComputeSpec = serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0, "endpoint_id": endpoint,
            "cluster": {"roles": [], "databases": [], "postgresql_conf": base}
        }))
        .unwrap();
        ConfFile::build(&spec, &INPUTS).unwrap()
    }

    #[test]
    fn put_in_place_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(POSTGRESQL_CONF);
        fs::write(&path, b"old \xff").unwrap();
        let new = conf("work_mem=1MB", "e");
        drop(StagedConf::new(dir.path(), &new).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old \xff");
        let replaced = StagedConf::new(dir.path(), &new).unwrap().put_in_place().unwrap();
        assert_eq!(&fs::read_to_string(&path).unwrap(), new.render().unwrap().expose());
        let copies = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        let copies: Vec<_> = copies.filter(|copy| *copy != path).collect();
        assert_eq!(copies.len(), 1, "a restoration needs no space");
        assert_eq!(fs::read(&copies[0]).unwrap(), b"old \xff");
        replaced.restore().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old \xff");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_may_be_a_password_is_hidden() {
        let said = "LOG:  syntax error in file \"f\" line 7, near token \"s3cret\"\nFATAL:  errors";
        let shown = without_values(said);
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("line 7, near") && shown.ends_with("\nFATAL:  errors"), "{shown}");
    }

    #[test]
    fn only_lines_that_can_be_refused_need_the_server() {
        let before = conf("work_mem=1MB", "one");
        assert!(needs_no_check(&conf("work_mem=1MB", "other"), &before));
        assert!(!needs_no_check(&conf("work_mem=2MB", "one"), &before));

        let listed = |settings: Value| {
            let spec = json!({
                "format_version": 1, "suspend_timeout_seconds": 0,
                "cluster": {"roles": [], "databases": [], "settings": settings}
            });
            ConfFile::build(&serde_json::from_value(spec).unwrap(), &INPUTS).unwrap()
        };
        let one = |name: &str, value: &str, vartype: &str| {
            let memory = json!({"name": "work_mem", "value": "1MB", "vartype": "string"});
            listed(json!([memory, {"name": name, "value": value, "vartype": vartype}]))
        };
        let before = one("neon.limit", "1", "integer");
        assert!(needs_no_check(&one("neon.limit", "2", "integer"), &before));
        assert!(needs_no_check(&one("other.name_2", "it's", "string"), &before));
        assert!(needs_no_check(&before, &before));
        // One that Postgres cannot read, whatever it is for.
        assert!(!needs_no_check(&one("neon.limit", "a b", "enum"), &before));
        for core in ["limit", "work_mem"] {
            assert!(!needs_no_check(&one(core, "2", "integer"), &before), "{core}");
        }
        assert!(!needs_no_check(&listed(json!([])), &before));
        for (name, expected) in [
            ("neon.limit", true),
            ("_a.b_1", true),
            ("neon", false),
            ("neon.", false),
            (".limit", false),
            ("neon.1", false),
            ("a.b.c", false),
            ("n\u{e9}on.limit", false),
        ] {
            assert_eq!(is_of_an_extension(name), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn the_exit_status_decides() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(POSTGRESQL_CONF), "old").unwrap();
        let limit = Duration::from_secs(30);
        let staged = StagedConf::new(dir.path(), &conf("", "e")).unwrap();
        let check = async |program: &str| {
            let install = PgInstall { postgres: program.into(), ..PgInstall::for_tests() };
            staged.check(&install, &Children::new(), limit).await
        };
        check("/bin/true").await.unwrap();
        check("/nonexistent/postgres").await.unwrap();
        let error = check("/bin/false").await.unwrap_err().to_string();
        assert!(error.contains("exit status: 1"), "{error}");
    }

    /// It says nothing about the file.
    #[tokio::test]
    async fn a_program_that_was_killed_has_not_answered() {
        let dir = tempfile::tempdir().unwrap();
        let killed = dir.path().join("postgres");
        fs::write(dir.path().join("script"), "#!/bin/sh\nkill -9 $$\n").unwrap();
        // A shell writes the program, see `put_program` of the integration tests.
        let write = "cp script postgres && chmod 755 postgres";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", write]).current_dir(dir.path());
        let limit = Duration::from_secs(30);
        Children::new().run(shell, limit, OUTPUT_LIMIT).await.unwrap();
        let install = PgInstall { postgres: killed, ..PgInstall::for_tests() };
        let staged = StagedConf::new(dir.path(), &conf("", "e")).unwrap();
        let error = staged.ask(&install, None, &Children::new(), limit).await.unwrap_err();
        assert!(matches!(error, AskError::NoAnswer(_)), "{error}");
        assert!(error.to_string().contains("signal: 9"), "{error}");
        staged.check(&install, &Children::new(), limit).await.unwrap();
    }
}
