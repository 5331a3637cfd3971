//! Parsers of values on the command line. Each error says which form the value must have.

use std::convert::Infallible;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use url::Url;

use crate::secret::Secret;
use crate::spec::pageserver::PageserverProtocol;
use crate::telemetry::form::LogFormat;

/// Postgres cuts longer names.
const MAX_NAME_BYTES: usize = 63;

/// A value that neither a log nor a message shows. A flag of this type has a flag beside it that
/// names a file with the value: other users see arguments.
pub(super) fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// Names that Postgres would cut or reserves for itself fail here and not in the middle of a start
/// (05 weakness 25). Other keywords are quoted wherever they are used.
pub(super) fn role_name(text: &str) -> Result<String, String> {
    let refusal = if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        "only lower-case letters and underscores are possible"
    } else if text.starts_with("pg_") || ["public", "none"].contains(&text) {
        "PostgreSQL keeps `public`, `none` and names that begin with `pg_` for itself"
    } else if text.len() > MAX_NAME_BYTES {
        "PostgreSQL allows 63 letters"
    } else {
        return Ok(text.to_owned());
    };
    Err(refusal.to_owned())
}

/// A name as it is in `Host`, without a port.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = |part: &str| {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&part.len()) && part.bytes().all(is_known)
    };
    match name.len() <= 253 && name.split('.').all(fits) {
        true => Ok(name.to_ascii_lowercase()),
        false => {
            Err("a DNS name such as compute-1.default.svc is needed, without a port".to_owned())
        }
    }
}

/// One of a few words. Messages and the completions of shells list them.
pub(super) fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    values: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(values.map(|(name, _)| name)).try_map(move |text| {
        let value = values.into_iter().find(|(name, _)| *name == text).map(|(_, value)| value);
        value.ok_or("not one of the values")
    })
}

pub(super) fn safekeeper_count() -> impl TypedValueParser<Value = usize> {
    one_of([("1", 1), ("3", 3)])
}

pub(super) fn protocol() -> impl TypedValueParser<Value = PageserverProtocol> {
    one_of([("libpq", PageserverProtocol::Libpq), ("grpc", PageserverProtocol::Grpc)])
}

pub(super) fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    one_of([LogFormat::Text, LogFormat::Json].map(|it| (it.name(), it)))
}

/// A duration from 0.1 s to a day.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0.1 to 86400 is needed".to_owned()),
    }
}

/// Exactly one slash at the end, so that relative paths are appended; no query (01 §1).
pub(super) fn gateway_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(&format!("{}/", text.trim_end_matches('/'))).map_err(|e| e.to_string())?;
    if url.query().is_some() {
        return Err("query parameters are not possible here".to_owned());
    }
    Ok(url)
}
