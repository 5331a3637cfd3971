//! Which compute, with which token, for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderValue;
use thiserror::Error;
use url::Url;

use super::certificates::{Certificates, CertificatesError};
use crate::os::denied::explained;
use crate::os::named_file;
use crate::secret::Secret;

/// Port of the external server where a URL has neither a scheme nor a port.
const USUAL_PORT: u16 = 3080;

/// The compute, and how to talk to it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the server, with an optional path prefix: `http://HOST:PORT`, or `HOST:PORT`, or
    /// `HOST`, whose port is 3080. The calls of the internal server need its address, which has
    /// port 3081. `http://127.0.0.1:3080` by default.
    pub url: String,
    /// A JWT for the calls of the external server (03 §4). None is sent by default.
    pub token: Option<Secret<String>>,
    /// Certificates for an address that begins with `https://`.
    pub certificates: Certificates,
    /// How long calls may take.
    pub timeouts: Timeouts,
}

/// How long each kind of call may take, from the begin of the request to the end of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Calls that are not named below: 10 s by default.
    pub answer: Duration,
    /// Calls that change the catalog or wait for Postgres: `configure`, `promote`,
    /// `install_extension`, `grant`, `database_schema` and `download_extension`. 5 minutes by
    /// default. The compute goes on with a `configure` or `promote` afterwards.
    pub change: Duration,
    /// `terminate`: 2 minutes by default.
    pub terminate: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: format!("http://127.0.0.1:{USUAL_PORT}"),
            token: None,
            certificates: Certificates::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            change: Duration::from_secs(300),
            terminate: Duration::from_secs(120),
        }
    }
}

/// Why a client cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// [`Options::url`] is not the address of a server.
    #[error("{0}")]
    Url(String),
    /// [`Options::token`] is not a token. The text does not repeat it.
    #[error("the token is not one word of printable ASCII")]
    Token,
    /// The token file cannot be read.
    #[error("could not read the token file {}: {error}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file does not hold a token. The text does not repeat the content.
    #[error("the token file {} {}", .0.display(), .1)]
    NoToken(PathBuf, &'static str),
    /// A file with certificates cannot be used.
    #[error("{0}")]
    Certificates(CertificatesError),
    /// The HTTP library cannot be set up.
    #[error("could not set up the HTTP client: {0}")]
    Client(String),
}

/// Reads a token from a file; white space around it is not part of it.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub fn token_from_file(path: &Path) -> Result<Secret<String>, SetupError> {
    let text = named_file::read(path, named_file::CREDENTIAL)
        .map_err(|error| explained(error, path))
        .map_err(|error| SetupError::TokenFile { path: path.to_owned(), error })?;
    let unusable = |what| SetupError::NoToken(path.to_owned(), what);
    let text = String::from_utf8(text).map_err(|_| unusable("is not text"))?;
    match text.trim() {
        "" => Err(unusable("is empty")),
        token if is_one_word(token) => Ok(Secret::new(token.to_owned())),
        _ => Err(unusable(
            "holds something else than one token: one word of printable ASCII is needed",
        )),
    }
}

/// The header with the token; its debug form does not show the token.
pub(super) fn authorization(token: &Secret<String>) -> Result<HeaderValue, SetupError> {
    let token = Some(token.expose()).filter(|token| is_one_word(token)).ok_or(SetupError::Token)?;
    let header = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut header = header.map_err(|_| SetupError::Token)?;
    header.set_sensitive(true);
    Ok(header)
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Parses scheme, host and port, with an optional path prefix; `HOST:PORT` is `http://HOST:PORT`. A
/// password in the URL would be in the argument list, which every user can read.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let needed = || "http://HOST:PORT is needed".to_owned();
    let has_scheme = text.contains("://");
    let full = if has_scheme { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&full).map_err(|error| format!("{}: {error}", needed()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(needed());
    }
    if !has_scheme && url.port().is_none() && !text.ends_with(":80") {
        url.set_port(Some(USUAL_PORT)).map_err(|()| needed())?;
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user and no password are possible here, use --token-file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("neither a query nor a fragment is possible here".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files() {
        let dir = tempfile::tempdir().unwrap();
        let read = |text: &[u8]| {
            let path = dir.path().join("token");
            std::fs::write(&path, text).unwrap();
            token_from_file(&path)
        };
        let token = read(b"a.b.c\n").unwrap();
        let header = authorization(&token).unwrap();
        assert_eq!(header, "Bearer a.b.c");
        assert!(!format!("{token:?} {header:?}").contains("a.b.c"));
        for bad in [&b""[..], b" \n", b"a b", b"a\nb", b"gr\xc3\xbcn"] {
            let error = read(bad).unwrap_err().to_string();
            let what =
                if bad.trim_ascii().is_empty() { "is empty" } else { "holds something else" };
            assert!(error.contains(&format!("token {what}")), "{error}");
        }
        assert!(read(b"\xff").unwrap_err().to_string().ends_with("token is not text"));
        assert!(matches!(authorization(&Secret::new("a b".to_owned())), Err(SetupError::Token)));
    }

    #[test]
    fn urls() {
        base_url(&Options::default().url).unwrap();
        for good in ["http://127.0.0.1:3080", "http://[::1]:3080/", "https://compute-7.example/x"] {
            base_url(good).unwrap();
        }
        for (short, full) in [
            ("127.0.0.1:3080", "http://127.0.0.1:3080/"),
            ("127.0.0.1:19594", "http://127.0.0.1:19594/"),
            ("localhost:3080", "http://localhost:3080/"),
            ("localhost", "http://localhost:3080/"),
            ("compute-7.example:80", "http://compute-7.example/"),
            ("[::1]:3080", "http://[::1]:3080/"),
            ("https://h", "https://h/"),
        ] {
            assert_eq!(base_url(short).unwrap().as_str(), full, "{short}");
        }
        for bad in [
            "",
            "127.0.0.1:port",
            "::1:3080",
            "u:p@h:3080",
            "ftp://h",
            "http://u@h",
            "http://:p@h",
            "http://h?a",
            "http://h#a",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }
}
