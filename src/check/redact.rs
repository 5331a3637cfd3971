//! Removes secrets from values of settings.
//!
//! Hiding too much costs a reader little; hiding too little puts secrets into tickets. So every
//! text that looks like a password is treated as one.

use crate::postgres::conf::lexer::is_plain_value;
use crate::postgres::conf::literal;

const SECRET: &str = "[secret]";

/// Suffixes of the names of settings whose whole value is a secret.
const SECRET_NAMES: [&str; 5] = ["token", "password", "passwd", "secret", "passphrase_command"];

/// A value as it could stand in the file, without secrets.
pub(super) fn shown(name: &str, value: &str) -> String {
    let value = without_secrets(name, value);
    if value == SECRET || is_plain_value(&value) { value } else { literal(&value) }
}

/// A value with `[secret]` in the place of every secret.
pub(super) fn without_secrets(name: &str, value: &str) -> String {
    let name = name.to_ascii_lowercase();
    if SECRET_NAMES.iter().any(|end| name.ends_with(end)) && !value.is_empty() {
        return SECRET.to_owned();
    }
    without_keyword_passwords(&without_url_passwords(value))
}

/// `scheme://user:password@host`: from the first colon to the last `@` before the next URL.
fn without_url_passwords(value: &str) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some(start) = after_scheme(rest) {
        let (before, url) = rest.split_at_checked(start).unwrap_or((rest, ""));
        text.push_str(&without_password(before));
        rest = url;
    }
    text + &without_password(rest)
}

/// The position behind the first `://`. Only schemes that settings use count: a password may also
/// hold `://`.
fn after_scheme(text: &str) -> Option<usize> {
    const SCHEMES: [&str; 5] = ["postgres://", "postgresql://", "http://", "https://", "grpc://"];
    let ends = SCHEMES.iter().filter_map(|scheme| Some(text.find(scheme)? + scheme.len()));
    ends.min()
}

/// The text after a scheme, up to the next URL, without its password.
fn without_password(piece: &str) -> String {
    let authority = piece.rsplit_once('@');
    match authority.and_then(|(user, rest)| Some((user.split_once(':')?.0, rest))) {
        Some((user, rest)) => format!("{user}:{SECRET}@{rest}"),
        None => piece.to_owned(),
    }
}

/// `password = ...` in a connection string of keywords, and in the query of a URL.
fn without_keyword_passwords(value: &str) -> String {
    const KEYWORD: &str = "password";
    let mut text = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(KEYWORD) {
        text.push_str(before);
        text.push_str(KEYWORD);
        let Some(password) = after.trim_start().strip_prefix('=') else {
            rest = after;
            continue;
        };
        let password = password.trim_start();
        let length = match password.strip_prefix('\'') {
            Some(quoted) => quoted_length(quoted).saturating_add(1),
            None => {
                password.find(|c: char| c.is_whitespace() || c == '&').unwrap_or(password.len())
            }
        };
        text.push('=');
        text.push_str(SECRET);
        rest = password.split_at_checked(length).map_or("", |(_, rest)| rest);
    }
    text + rest
}

/// Number of bytes up to and including the closing quote; all bytes if there is none.
fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\'' if !escaped => return at.saturating_add(1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_are_replaced_and_the_rest_is_not() {
        for (value, expected) in [
            ("postgres://u:pw@h:1/d", "postgres://u:[secret]@h:1/d"),
            ("postgres://u:p@w:x/y@h", "postgres://u:[secret]@h"),
            ("postgres://u://pw@h", "postgres://u:[secret]@h"),
            ("grpc://:a://pw@h", "grpc://:[secret]@h"),
            (
                "postgres://u:a@h,postgresql://u:b@i",
                "postgres://u:[secret]@h,postgresql://u:[secret]@i",
            ),
            (
                "postgres://no_user@ps:6400,postgres://x@y",
                "postgres://no_user@ps:6400,postgres://x@y",
            ),
            (
                "postgres://h/d?user=u&password=pw&x=1",
                "postgres://h/d?user=u&password=[secret]&x=1",
            ),
            ("host=h password = 'a\\' b' user=u", "host=h password=[secret] user=u"),
            ("host=h password=pw", "host=h password=[secret]"),
            ("host=h sslpassword='open", "host=h sslpassword=[secret]"),
            ("password", "password"),
            ("128MB", "128MB"),
            ("g#7:sk-1:5454,sk-2:5454", "g#7:sk-1:5454,sk-2:5454"),
        ] {
            assert_eq!(without_secrets("a.b", value), expected);
        }
        for name in ["neon.endpoint_storage_token", "X.Password", "ssl_passphrase_command"] {
            assert_eq!(shown(name, "pw"), "[secret]");
        }
        assert_eq!(shown("password_encryption", "md5"), "md5");
        assert_eq!(shown("a", "it's"), "'it''s'");
        assert_eq!(shown("a", ""), "''");
        assert_eq!(shown("neon.endpoint_storage_token", ""), "''");
    }

    proptest! {
        #[test]
        fn no_password_of_a_url_gets_out(
            password in "[!-~é]{0,9}(planted)[!-~é]{0,9}",
            user in "[a-z]{0,3}",
        ) {
            let shown = without_secrets("x", &format!("postgres://{user}:{password}@h:1/d"));
            prop_assert!(!shown.contains("planted"), "{}", shown);
        }
    }
}
