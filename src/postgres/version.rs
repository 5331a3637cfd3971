//! The versions of Postgres that the program knows.

use std::fmt;

/// The supported major versions; displayed as `v14` to `v17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum PgVersion {
    V14,
    V15,
    V16,
    V17,
}

impl PgVersion {
    /// Parses the output of `pg_config --version`: `PostgreSQL `, the major number, and at least
    /// one more character (01 §1.2).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("PostgreSQL ")?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        match rest.get(..end)? {
            "14" => Some(Self::V14),
            "15" => Some(Self::V15),
            "16" => Some(Self::V16),
            "17" => Some(Self::V17),
            _ => None,
        }
    }

    /// The number itself, for example 16.
    pub fn major(self) -> u32 {
        match self {
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
        }
    }
}

impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.major())
    }
}
