//! Secrets that are in files: `NAME_FILE=/path` in place of the variable `NAME`.
//!
//! A variable is in `/proc/PID/environ`, and in the description of a container; a file, such as a
//! mounted secret, has an owner and a mode. Files are read once, before the process steps down from
//! root, so that a file of root is enough.
//!
//! Invariant: an error names the file and the variable, never the content.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::denied::explained;
use crate::env::{Environment, OfProcess, SECRETS, Variables};
use crate::secret::{Secret, UnusableSecret};

/// Larger than any secret; a path to another kind of file must not fill the memory.
const MAX_BYTES: u64 = 64 * 1024;

/// How long a file may take: a pipe may have no writer, and a network mount may be lost.
const LIMIT: Duration = Duration::from_secs(10);

/// Why there is no secret in the file.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("could not be read: {0}")]
    Read(io::Error),
    #[error("gave no content within {0:?}")]
    Silent(Duration),
    #[error("is empty")]
    Empty,
    #[error("has more than {MAX_BYTES} bytes, which is not a secret")]
    TooLarge,
    #[error("is not text")]
    NotText,
}

/// A file that a flag or a variable names holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("{named_by}: the file {} {problem}", path.display())]
pub struct SecretFileError {
    named_by: String,
    path: PathBuf,
    problem: Problem,
}

/// Why the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A value is not a secret of its kind.
    #[error("{0}")]
    Unusable(UnusableSecret),
    /// A file holds no secret.
    #[error("{0}")]
    File(SecretFileError),
    /// Two sources of one secret.
    #[error("{name} and {file} are both set: unset one of them")]
    Both {
        /// The variable with the secret.
        name: &'static str,
        /// The variable with the path.
        file: &'static str,
    },
}

/// All variables of this process that the program reads, with the secrets of files.
///
/// # Errors
/// See [`EnvironmentError`].
pub fn environment() -> Result<Environment, EnvironmentError> {
    let variables = WithFiles::read(OfProcess)?;
    Environment::read(&variables).map_err(EnvironmentError::Unusable)
}

/// The secret in a file, without white space at its ends. `named_by`: what names the file. Blocks,
/// but not for long.
///
/// # Errors
/// The file cannot be read, or its content is not a secret.
pub fn secret_in(named_by: &str, path: &Path) -> Result<Secret<String>, SecretFileError> {
    let text = text_of(named_by, path)?;
    Ok(Secret::new(text.expose().trim().to_owned()))
}

fn text_of(named_by: &str, path: &Path) -> Result<Secret<String>, SecretFileError> {
    let failed =
        |problem| SecretFileError { named_by: named_by.to_owned(), path: path.to_owned(), problem };
    let (done, read) = mpsc::sync_channel(1);
    let reader = std::thread::Builder::new().name("secret".to_owned()).spawn({
        let path = path.to_owned();
        move || drop(done.send(read_text(&path)))
    });
    let reader = reader.map_err(|error| failed(Problem::Read(error)))?;
    let read = read.recv_timeout(LIMIT).map_err(|_| failed(Problem::Silent(LIMIT)))?;
    // The thread has finished its work. No other thread may exist when the process steps down.
    let _ = reader.join();
    read.map_err(failed)
}

fn read_text(path: &Path) -> Result<Secret<String>, Problem> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut bytes));
    let read = read.map_err(|error| Problem::Read(explained(error, path)))?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        return Err(Problem::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| Problem::NotText)?;
    // An environment cannot hold it either.
    if text.contains('\0') {
        return Err(Problem::NotText);
    }
    if text.trim().is_empty() {
        return Err(Problem::Empty);
    }
    Ok(Secret::new(text))
}

/// Variables, and in place of some the content of files.
#[derive(Debug)]
struct WithFiles<V> {
    variables: V,
    secrets: BTreeMap<&'static str, InFile>,
}

#[derive(Debug)]
struct InFile {
    text: Secret<String>,
    /// What to correct if it is malformed.
    origin: String,
}

impl<V: Variables> WithFiles<V> {
    /// Reads all files that variables name.
    fn read(variables: V) -> Result<Self, EnvironmentError> {
        let mut secrets = BTreeMap::new();
        for (name, file) in SECRETS {
            let Some(path) = variables.get(file) else { continue };
            if variables.get(name).is_some() {
                return Err(EnvironmentError::Both { name, file });
            }
            let path = PathBuf::from(path);
            let text = text_of(file, &path).map_err(EnvironmentError::File)?;
            let origin = format!("the file {} ({file})", path.display());
            secrets.insert(name, InFile { text, origin });
        }
        Ok(Self { variables, secrets })
    }
}

impl<V: Variables> Variables for WithFiles<V> {
    fn raw(&self, name: &str) -> Option<OsString> {
        match self.secrets.get(name) {
            Some(secret) => Some(secret.text.expose().into()),
            None => self.variables.raw(name),
        }
    }

    fn origin(&self, name: &str) -> String {
        self.secrets.get(name).map_or_else(|| name.to_owned(), |secret| secret.origin.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::env::{CONTROL_PLANE_TOKEN, PGBOUNCER_PASSWORD};

    const TOKEN_FILE: &str = "NEON_CONTROL_PLANE_TOKEN_FILE";

    fn read<const N: usize>(variables: [(&str, &str); N]) -> Result<Environment, String> {
        let variables = WithFiles::read(variables).map_err(|error| error.to_string())?;
        Environment::read(&variables).map_err(|error| error.to_string())
    }

    #[test]
    fn each_secret_can_be_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (token, password) = (put("token", "tok\n"), put("password", " a b \r\n"));
        let headers = put("headers", "authorization=Bearer%20x\n");
        let found = read([
            (TOKEN_FILE, &token),
            ("PGBOUNCER_PASSWORD_FILE", &password),
            ("OTEL_EXPORTER_OTLP_HEADERS_FILE", &headers),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE", &headers),
        ])
        .unwrap();
        assert_eq!(found.control_plane_token.unwrap().expose(), "tok");
        assert_eq!(found.pgbouncer_password.unwrap().expose(), " a b ");
        for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
            assert_eq!(found.otel.get(name), Some("authorization=Bearer%20x"));
        }
        // Every secret has its file: the four above are all.
        assert_eq!(SECRETS.len(), 4);
        for (name, file) in SECRETS {
            assert_eq!(file, format!("{name}_FILE"));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file_and_without_the_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let name = path.to_str().unwrap();
        let error = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            read([(TOKEN_FILE, name)]).unwrap_err()
        };
        let large = vec![b'p'; 64 * 1024 + 1];
        for (content, what) in [
            (&b" \n"[..], "is empty"),
            (b"", "is empty"),
            (b"planted\xff", "is not text"),
            (b"planted\0planted", "is not text"),
            (&large, "has more than 65536 bytes, which is not a secret"),
        ] {
            assert_eq!(error(content), format!("{TOKEN_FILE}: the file {name} {what}"));
        }
        assert_eq!(
            error(b"planted planted"),
            format!(
                "the file {name} ({TOKEN_FILE}) has a blank or a control character inside: correct \
                 its value"
            )
        );
        fs::remove_file(&path).unwrap();
        let missing = read([(TOKEN_FILE, name)]).unwrap_err();
        let begin = format!("{TOKEN_FILE}: the file {name} could not be read: No such file");
        assert!(missing.starts_with(&begin), "{missing}");
        let folder = read([(TOKEN_FILE, "/")]).unwrap_err();
        assert!(folder.contains("the file / could not be read: "), "{folder}");
    }

    #[test]
    fn two_sources_of_one_secret_are_refused() {
        let error = read([(TOKEN_FILE, "/planted"), (CONTROL_PLANE_TOKEN, "planted")]);
        let text = "NEON_CONTROL_PLANE_TOKEN and NEON_CONTROL_PLANE_TOKEN_FILE are both set: \
                    unset one of them";
        assert_eq!(error.unwrap_err(), text);
        let other = read([(PGBOUNCER_PASSWORD, "word"), (CONTROL_PLANE_TOKEN, "tok")]).unwrap();
        assert_eq!(other.control_plane_token.unwrap().expose(), "tok");
    }

    /// As `NAME=${OTHER:-}` leaves it in a container's environment.
    #[test]
    fn an_empty_variable_of_a_pair_counts_as_unset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "tok\n").unwrap();
        for both in [
            [(TOKEN_FILE, path.to_str().unwrap()), (CONTROL_PLANE_TOKEN, "")],
            [(TOKEN_FILE, ""), (CONTROL_PLANE_TOKEN, "tok")],
        ] {
            assert_eq!(read(both).unwrap().control_plane_token.unwrap().expose(), "tok");
        }
        assert_eq!(read([(TOKEN_FILE, "")]).unwrap().control_plane_token, None);
    }

    #[test]
    fn a_flag_names_itself_and_the_ends_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connstr");
        fs::write(&path, "\n postgresql://u:planted@h/db \r\n\n").unwrap();
        let secret = secret_in("--connstr-file", &path).unwrap();
        assert_eq!(secret.expose(), "postgresql://u:planted@h/db");
        fs::write(&path, "\n").unwrap();
        let error = secret_in("--connstr-file", &path).unwrap_err().to_string();
        assert_eq!(error, format!("--connstr-file: the file {} is empty", path.display()));
    }
}
