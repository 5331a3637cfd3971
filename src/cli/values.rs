//! Parsers of values on the command line. Each error says which form the value must have.

use std::time::Duration;

use url::Url;

use crate::spec::pageserver::PageserverProtocol;

/// Postgres cuts longer names.
const MAX_NAME_BYTES: usize = 63;

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

pub(super) fn safekeeper_count(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("1 or 3 safekeepers are possible".to_owned()),
    }
}

pub(super) fn protocol(text: &str) -> Result<PageserverProtocol, String> {
    match text {
        "libpq" => Ok(PageserverProtocol::Libpq),
        "grpc" => Ok(PageserverProtocol::Grpc),
        _ => Err("libpq and grpc are possible".to_owned()),
    }
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
