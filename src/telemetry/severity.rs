//! Severities of Postgres' messages, and the levels of our log that they correspond to.

use memchr::memmem;
use tracing::Level;

/// What follows the severity in a message of Postgres.
const END: &[u8] = b":  ";

/// Severity of a message, in the words of Postgres in English (`lc_messages`). The words of other
/// languages are not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// All sessions end.
    Panic,
    /// The session ends.
    Fatal,
    /// The statement ends.
    Error,
    /// Something is probably wrong.
    Warning,
    /// For the administrator.
    Log,
    /// Asked for by a client.
    Info,
    /// For a client.
    Notice,
    /// For developers, 1 to 5.
    Debug(u8),
}

impl Severity {
    /// The severity with this name.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"PANIC" => Self::Panic,
            b"FATAL" => Self::Fatal,
            b"ERROR" => Self::Error,
            b"WARNING" => Self::Warning,
            b"LOG" => Self::Log,
            b"INFO" => Self::Info,
            b"NOTICE" => Self::Notice,
            [b'D', b'E', b'B', b'U', b'G', number @ b'1'..=b'5'] => Self::Debug(number - b'0'),
            // Postgres before 12, and `debug_print_parse`.
            b"DEBUG" => Self::Debug(1),
            _ => return None,
        })
    }

    /// The severity that a line of Postgres' log most likely has: that of the first `WORD:  ` with a
    /// known word. A `log_line_prefix` with texts of clients can mislead this.
    pub(crate) fn likely(line: &[u8]) -> Option<Self> {
        memmem::find_iter(line, END).find_map(|end| {
            let before = line.get(..end)?;
            let letter = |byte: &u8| !byte.is_ascii_alphanumeric();
            let start = before.iter().rposition(letter).map_or(0, |last| last + 1);
            Self::named(before.get(start..)?)
        })
    }

    /// The level of our log.
    pub(crate) const fn level(self) -> Level {
        match self {
            Self::Panic | Self::Fatal | Self::Error => Level::ERROR,
            Self::Warning => Level::WARN,
            Self::Log | Self::Info | Self::Notice => Level::INFO,
            Self::Debug(_) => Level::DEBUG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_of_lines() {
        for (line, expected) in [
            ("2025-01-02 03:04:05.678 UTC [1] LOG:  a", Some(Severity::Log)),
            ("FATAL:  x", Some(Severity::Fatal)),
            ("[1] u@d PANIC:  x", Some(Severity::Panic)),
            ("[1] ERROR:  LOG:  x", Some(Severity::Error)),
            ("[1] DEBUG3:  x", Some(Severity::Debug(3))),
            ("[1] STATEMENT:  select 'ERROR: x'", None),
            ("[1] DETAIL:  WARNING:  x", Some(Severity::Warning)),
            ("[1] FEHLER:  x", None),
            ("[1] MYLOG:  x", None),
            ("LOG: one blank", None),
            ("", None),
        ] {
            assert_eq!(Severity::likely(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn levels() {
        for (name, level) in [
            ("PANIC", Level::ERROR),
            ("FATAL", Level::ERROR),
            ("ERROR", Level::ERROR),
            ("WARNING", Level::WARN),
            ("LOG", Level::INFO),
            ("INFO", Level::INFO),
            ("NOTICE", Level::INFO),
            ("DEBUG1", Level::DEBUG),
            ("DEBUG5", Level::DEBUG),
        ] {
            assert_eq!(Severity::named(name.as_bytes()).unwrap().level(), level, "{name}");
        }
        assert_eq!(Severity::named(b"DEBUG6"), None);
    }
}
