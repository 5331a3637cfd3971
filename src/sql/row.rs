//! Rows of answers. Other code reads them only in this way, because some texts are not UTF-8, see
//! [`wire`](mod@super::wire).

use tokio_postgres::SimpleQueryRow;

use super::error::SessionError;
use super::wire::{MARK, unmark};

/// A row. Columns count from 0.
#[derive(Debug)]
pub struct Row {
    row: SimpleQueryRow,
    /// The columns that are not UTF-8, in the form for readers and in the form for comparisons.
    foreign: Vec<(usize, String, String)>,
}

impl Row {
    pub(super) fn new(row: SimpleQueryRow) -> Self {
        let mut foreign = Vec::new();
        for at in 0..row.len() {
            let Some(digits) = row.try_get(at).ok().flatten().and_then(|it| it.strip_prefix(MARK))
            else {
                continue;
            };
            let shown = String::from_utf8_lossy(&unmark(digits).unwrap_or_default()).into_owned();
            let exact = format!("{shown}{MARK}{digits}");
            foreign.push((at, shown, exact));
        }
        Self { row, foreign }
    }

    fn foreign(&self, column: usize) -> Option<&(usize, String, String)> {
        self.foreign.iter().find(|(at, ..)| *at == column)
    }

    /// The text for readers, with replacement characters where it is not UTF-8; `None` for null.
    ///
    /// # Errors
    /// The row does not have the column.
    pub fn try_get(&self, column: usize) -> Result<Option<&str>, SessionError> {
        match self.foreign(column) {
            Some((_, shown, _)) => Ok(Some(shown)),
            None => self
                .row
                .try_get(column)
                .map_err(|error| SessionError::Answer(format!("column {column}: {error}"))),
        }
    }

    /// A name for comparisons: it equals another one only if all bytes are equal. A name that is
    /// not UTF-8 contains a character 0, so it equals no name of a spec, and cannot be part of a
    /// statement; [`shown`] is for messages. [`dbname`](crate::sql::SessionConfig::dbname) accepts
    /// it.
    ///
    /// # Errors
    /// The row does not have the column.
    pub fn name(&self, column: usize) -> Result<Option<&str>, SessionError> {
        match self.foreign(column) {
            Some((.., exact)) => Ok(Some(exact)),
            None => self.try_get(column),
        }
    }

    /// The column of this name.
    ///
    /// # Errors
    /// The row does not have the column.
    pub fn column(&self, name: &str) -> Result<usize, SessionError> {
        let found = self.row.columns().iter().position(|column| column.name() == name);
        found.ok_or_else(|| SessionError::Answer(format!("there is no column {name}")))
    }
}

/// Whether a [`Row::name`] is not UTF-8.
pub fn is_foreign(name: &str) -> bool {
    name.contains(MARK)
}

/// A [`Row::name`] in a message.
pub fn shown(name: &str) -> &str {
    name.split(MARK).next().unwrap_or_default()
}

/// The bytes of a [`Row::name`], if it is not UTF-8.
pub(super) fn foreign_bytes(name: &str) -> Option<Vec<u8>> {
    unmark(name.split_once(MARK)?.1)
}

/// A row in which each column must have the expected type. Otherwise the error says what the row
/// is about, which is its first column.
///
/// Names of roles and databases are read by [`TypedRow::name`].
pub(crate) struct TypedRow<'a>(pub &'a Row);

impl TypedRow<'_> {
    pub(crate) fn bad(&self, column: usize) -> SessionError {
        let kind = self.0.try_get(0).ok().flatten().unwrap_or("unknown");
        SessionError::Answer(format!("column {column} of a row about {kind:?}"))
    }

    pub(crate) fn optional(&self, column: usize) -> Result<Option<&str>, SessionError> {
        self.0.try_get(column).map_err(|_| self.bad(column))
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, SessionError> {
        self.optional(column)?.ok_or_else(|| self.bad(column))
    }

    pub(crate) fn owned(&self, column: usize) -> Result<String, SessionError> {
        self.text(column).map(str::to_owned)
    }

    /// A name for comparisons, see [`Row::name`].
    pub(crate) fn name(&self, column: usize) -> Result<String, SessionError> {
        self.optional_name(column)?.ok_or_else(|| self.bad(column))
    }

    pub(crate) fn optional_name(&self, column: usize) -> Result<Option<String>, SessionError> {
        let name = self.0.name(column).map_err(|_| self.bad(column))?;
        Ok(name.map(str::to_owned))
    }

    pub(crate) fn flag(&self, column: usize) -> Result<bool, SessionError> {
        match self.text(column)? {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(self.bad(column)),
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, column: usize) -> Result<T, SessionError> {
        self.text(column)?.parse().map_err(|_| self.bad(column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_utf8() {
        let name = "caf\u{fffd}\u{0}636166e9";
        assert!(is_foreign(name) && !is_foreign("caf\u{fffd}"));
        assert_eq!(shown(name), "caf\u{fffd}");
        assert_eq!(foreign_bytes(name).unwrap(), b"caf\xe9");
        assert_eq!((shown("a"), foreign_bytes("a")), ("a", None));
    }
}
