//! `--connstr`: a URL that the Postgres driver understands (01 §1.2).
//!
//! Other code takes parts from the URL, so the driver's keyword form is refused. No error repeats
//! the text: it may hold a password.

use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio_postgres::Config;
use url::Url;

/// How it has to be written.
const FORM: &str = "write it as postgresql://USER@HOST:PORT/DB";

/// Why `--connstr` cannot be used.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
enum ConnstrError {
    /// `host=... user=...`.
    #[error("--connstr is not a URL but a list of keywords; {FORM}")]
    Keywords,
    /// No URL.
    #[error("--connstr is not a URL{reason}; {FORM}", reason = reason(.0))]
    NotAUrl(url::ParseError),
    /// Users and sockets go together in another form.
    #[error(
        "--connstr is not a URL: there is no host after the user; for a socket write it as \
         postgresql:///DB?host=/DIRECTORY&port=PORT&user=USER"
    )]
    NoHostAfterUser,
    /// A URL of the web.
    #[error("--connstr is not a Postgres connection string: its scheme is `{0}`; {FORM}")]
    Web(&'static str),
    /// Another scheme; `user:password@host` is taken for one, so it is not shown.
    #[error(
        "--connstr is not a Postgres connection string: it does not begin with postgresql://; {FORM}"
    )]
    Scheme,
    /// The driver refuses it.
    #[error("--connstr is not a Postgres connection string: {0}; {FORM}")]
    Driver(String),
    /// Neither in the URL nor in its query.
    #[error("--connstr names no host; {FORM}")]
    NoHost,
}

/// The reason, unless it only says that there is no scheme.
fn reason(error: &url::ParseError) -> String {
    match error {
        url::ParseError::RelativeUrlWithoutBase => String::new(),
        error => format!(": {error}"),
    }
}

/// Parses `--connstr`.
///
/// # Errors
/// See [`ConnstrError`].
fn parse_connstr(text: &str) -> Result<(Url, Config), ConnstrError> {
    let config: Result<Config, _> = text.parse();
    let url = Url::parse(text).map_err(|error| match error {
        _ if !text.contains("://") && config.is_ok() => ConnstrError::Keywords,
        url::ParseError::EmptyHost => ConnstrError::NoHostAfterUser,
        error => ConnstrError::NotAUrl(error),
    })?;
    match url.scheme() {
        "postgresql" | "postgres" => {}
        "http" => return Err(ConnstrError::Web("http")),
        "https" => return Err(ConnstrError::Web("https")),
        _ => return Err(ConnstrError::Scheme),
    }
    let config = config.map_err(|error| ConnstrError::Driver(crate::errors::one_line(&error)))?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(ConnstrError::NoHost);
    }
    Ok((url, config))
}

/// The connection of a command line cannot be used.
#[derive(Debug, Error)]
#[error("{}{error}", place(file.as_deref()))]
pub struct UnusableConnstr {
    /// The file of `--connstr-file`, if the text is from one.
    file: Option<PathBuf>,
    error: ConnstrError,
}

fn place(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |file| {
        format!("the file {} (--connstr-file) holds no connection: ", file.display())
    })
}

/// As [`parse_connstr`], for a text that may be from a file.
///
/// # Errors
/// See [`ConnstrError`]; the text names the file.
pub fn parse_connstr_of(text: &str, file: Option<&Path>) -> Result<(Url, Config), UnusableConnstr> {
    parse_connstr(text).map_err(|error| UnusableConnstr { file: file.map(Path::to_owned), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_show_the_form() {
        for (text, start) in [
            ("host=localhost user=planted", "--connstr is not a URL but a list of keywords"),
            ("nonsense", "--connstr is not a URL; write it as"),
            ("planted@localhost/postgres", "--connstr is not a URL; "),
            ("", "--connstr is not a URL"),
            ("http://u:planted@localhost/", "--connstr is not a Postgres connection string: its"),
            ("https://planted", "--connstr is not a Postgres connection string: its scheme is `h"),
            ("planted:planted@h:5432/d", "--connstr is not a Postgres connection string: it does"),
            ("postgresql://u:planted@h:x/d", "--connstr is not a URL: invalid port number"),
            ("postgresql://h/d?planted=1", "--connstr is not a Postgres connection string: inv"),
            ("postgresql:///postgres", "--connstr names no host"),
        ] {
            let error = parse_connstr(text).unwrap_err().to_string();
            assert!(error.starts_with(start), "{text}: {error}");
            assert!(error.ends_with("; write it as postgresql://USER@HOST:PORT/DB"), "{error}");
        }
        let error = parse_connstr("postgresql://u:planted@/d?host=/tmp").unwrap_err();
        assert_eq!(error, ConnstrError::NoHostAfterUser);
        for text in ["postgresql://u:pw@h:1/d", "postgres://h", "postgresql:///d?host=/tmp&user=u"]
        {
            parse_connstr(text).unwrap();
        }
    }

    #[test]
    fn a_file_is_named() {
        let error = parse_connstr_of("u:planted@h", Some(Path::new("/f"))).unwrap_err().to_string();
        let begin = "the file /f (--connstr-file) holds no connection: --connstr is not a";
        assert!(error.starts_with(begin) && !error.contains("planted"), "{error}");
        let error = parse_connstr_of("u:planted@h", None).unwrap_err().to_string();
        assert!(error.starts_with("--connstr is not a"), "{error}");
    }

    #[test]
    fn values_do_not_show() {
        for text in ["postgresql://h/d?sslmode=planted", "postgresql://h:1/d?port=planted"] {
            let error = parse_connstr(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("planted"), "{error}");
        }
    }
}
