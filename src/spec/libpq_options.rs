//! Options of a connection string that libpq knows and the driver does not.
//!
//! Postgres gets the same string and passes it to libpq. Options that have no meaning on an
//! unencrypted connection are left out here, instead of refusing a string that libpq accepts.

/// Options that change nothing about a TCP connection without encryption.
const IDLE: [&str; 21] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "requirepeer",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslpassword",
    "sslrootcert",
    "sslsni",
];

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The driver reads it, or refuses it.
    Kept,
    /// It has no effect.
    LeftOut,
    /// It demands encryption.
    Encryption,
}

fn fate(name: &str, value: &str) -> Fate {
    match (name, value) {
        ("gssencmode", "require") | ("requiressl", "1") | ("ssl", "true") => Fate::Encryption,
        ("sslmode", "verify-ca" | "verify-full") => Fate::Encryption,
        ("gssencmode" | "requiressl", _) | ("sslmode", "allow") => Fate::LeftOut,
        ("target_session_attrs", "primary" | "standby" | "prefer-standby") => Fate::LeftOut,
        (name, _) if IDLE.contains(&name) => Fate::LeftOut,
        _ => Fate::Kept,
    }
}

/// The string without the options that have no effect; `None` if an option demands encryption. A
/// string that cannot be read is returned as it is.
pub(super) fn without_idle_options(text: &str) -> Option<String> {
    if text.starts_with("postgresql://") || text.starts_with("postgres://") {
        return url(text);
    }
    let Some(options) = keywords(text) else { return Some(text.to_owned()) };
    let mut kept = Vec::new();
    for (name, value, written) in options {
        match fate(name, &value) {
            Fate::Kept => kept.push(written),
            Fate::LeftOut => {}
            Fate::Encryption => return None,
        }
    }
    // Without the blanks before it a list could look like a URL.
    let blanks = text.split_at_checked(text.len().saturating_sub(text.trim_start().len()))?.0;
    Some(format!("{blanks}{}", kept.join(" ")))
}

fn url(text: &str) -> Option<String> {
    // As the driver reads it: a question mark before the first `@` belongs to the user or password.
    let login = text.find('@').map_or(0, |at| at.saturating_add(1));
    let (login, rest) = text.split_at_checked(login)?;
    let Some((place, query)) = rest.split_once('?') else { return Some(text.to_owned()) };
    let mut kept = Vec::new();
    for option in query.split('&') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match fate(name, value) {
            Fate::Kept => kept.push(option),
            Fate::LeftOut => {}
            Fate::Encryption => return None,
        }
    }
    let mark = if kept.is_empty() { "" } else { "?" };
    Some(format!("{login}{place}{mark}{}", kept.join("&")))
}

/// Name, value and text of each option of `name=value name='value'`; `None` if it is not of this
/// form.
fn keywords(text: &str) -> Option<Vec<(&str, String, &str)>> {
    let mut options = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, end) = value(after)?;
        let after = after.get(end..)?;
        let written = rest.get(..rest.len().checked_sub(after.len())?)?;
        options.push((name.trim_end(), value, written));
        rest = after.trim_start();
    }
    Some(options)
}

/// The value at the beginning, and how many bytes it takes.
fn value(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted => return Some((value, at.checked_add(1)?)),
            c if !quoted && c.is_whitespace() => return Some((value, at)),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_without_effect_are_left_out() {
        for (text, expected) in [
            ("host=a port=1", Some("host=a port=1")),
            ("host=a gssencmode=disable port = 1", Some("host=a port = 1")),
            (
                r"host=a sslcert='x y' user='it\'s' krbsrvname=a\ b dbname=d",
                Some(r"host=a user='it\'s' dbname=d"),
            ),
            ("host=a sslmode=verify-full", None),
            ("host=a sslmode='verify-ca'", None),
            ("host=a gssencmode=require", None),
            ("host=a sslmode=allow", Some("host=a")),
            ("host=a sslmode=prefer service=x", Some("host=a sslmode=prefer service=x")),
            ("host=a user='open", Some("host=a user='open")),
            ("nonsense", Some("nonsense")),
            (" postgres://h?gsslib=1&port=2", Some(" postgres://h?gsslib=1&port=2")),
            ("postgres://h/d?sslsni=1&sslmode=prefer", Some("postgres://h/d?sslmode=prefer")),
            ("postgresql://h/d?gssencmode=prefer", Some("postgresql://h/d")),
            ("postgresql://h/d?ssl=true", None),
            ("postgresql://h/d?x", Some("postgresql://h/d?x")),
            (
                "postgresql://u:p?sslsni=1&x@h/d?sslsni=1&port=2",
                Some("postgresql://u:p?sslsni=1&x@h/d?port=2"),
            ),
            ("", Some("")),
        ] {
            assert_eq!(without_idle_options(text).as_deref(), expected, "{text}");
        }
    }
}
