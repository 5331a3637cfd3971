//! A value that cannot be printed, and the form of tokens and passwords.
//!
//! Secrets come from editors, `echo` and mounted files, which end them with a line break. The rule:
//! [`token`] and [`password`] trim the ends, and refuse a secret with forbidden characters inside,
//! by the name of the variable or member, before anything is done with it. In a header it would
//! fail only later and look like a lost connection.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// Wraps a token, password or hash so that no log line, error text or debug dump shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Hides a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. At every call a secret leaves the program.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// A malformed secret. The text does not repeat it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {what}: correct its value")]
pub struct UnusableSecret {
    name: String,
    what: &'static str,
}

impl UnusableSecret {
    pub(crate) fn new(name: &str, what: &'static str) -> Self {
        Self { name: name.to_owned(), what }
    }
}

/// A token that can be sent in a header: one word.
///
/// # Errors
/// There is a blank, a line break or another control character inside.
pub fn token(name: &str, text: &str) -> Result<Secret<String>, UnusableSecret> {
    let token = text.trim();
    if token.contains(['\n', '\r']) {
        return Err(UnusableSecret::new(name, "has a line break inside"));
    }
    if token.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(UnusableSecret::new(name, "has a blank or a control character inside"));
    }
    Ok(Secret::new(token.to_owned()))
}

/// A password: it may have blanks, but no line breaks.
///
/// # Errors
/// There is a line break inside.
pub fn password(name: &str, text: &str) -> Result<Secret<String>, UnusableSecret> {
    let password = text.trim_end_matches(['\n', '\r']);
    if password.contains(['\n', '\r']) {
        return Err(UnusableSecret::new(name, "has a line break inside"));
    }
    Ok(Secret::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_its_value() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn secrets_are_trimmed_and_bad_ones_are_refused_by_name() {
        for text in ["tok", "tok\n", "tok\r\n", " tok \t\n\n"] {
            assert_eq!(token("NAME", text).unwrap().expose(), "tok", "{text:?}");
        }
        assert_eq!(token("NAME", "\n").unwrap().expose(), "");
        for text in ["planted\nplanted", "planted\rplanted", "planted planted", "planted\0x"] {
            let error = token("NAME", text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(error.to_string().starts_with("NAME has a "), "{shown}");
            assert!(!shown.contains("planted"), "{shown}");
        }
        assert_eq!(password("NAME", " a b \r\n").unwrap().expose(), " a b ");
        let error = password("NAME", "planted\nb\n").unwrap_err().to_string();
        assert_eq!(error, "NAME has a line break inside: correct its value");
    }
}
