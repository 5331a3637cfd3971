//! Severities of Postgres' messages, and the levels of our log that they correspond to.

use tracing::Level;

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
            _ => return None,
        })
    }

    /// The name, as Postgres writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Panic => "PANIC",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Log => "LOG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Debug(1) => "DEBUG1",
            Self::Debug(2) => "DEBUG2",
            Self::Debug(3) => "DEBUG3",
            Self::Debug(4) => "DEBUG4",
            Self::Debug(_) => "DEBUG5",
        }
    }

    /// The priority of journald and syslog.
    pub(crate) const fn priority(self) -> u8 {
        match self {
            Self::Panic => 2,
            Self::Fatal | Self::Error => 3,
            Self::Warning => 4,
            Self::Log | Self::Info | Self::Notice => 6,
            Self::Debug(_) => 7,
        }
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
    fn levels() {
        for (name, level, priority) in [
            ("PANIC", Level::ERROR, 2),
            ("FATAL", Level::ERROR, 3),
            ("ERROR", Level::ERROR, 3),
            ("WARNING", Level::WARN, 4),
            ("LOG", Level::INFO, 6),
            ("INFO", Level::INFO, 6),
            ("NOTICE", Level::INFO, 6),
            ("DEBUG1", Level::DEBUG, 7),
            ("DEBUG5", Level::DEBUG, 7),
        ] {
            let severity = Severity::named(name.as_bytes()).unwrap();
            assert_eq!((severity.level(), severity.priority()), (level, priority), "{name}");
            assert_eq!(severity.name(), name);
        }
        assert_eq!(Severity::named(b"DEBUG6"), None);
    }
}
