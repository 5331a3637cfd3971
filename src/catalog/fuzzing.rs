//! Properties of the options of roles and databases, for [`crate::fuzzing`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a property that does not hold is a panic"
)]

use super::options::{is_one_piece, options, role_options};
use crate::fuzzing::lines;
use crate::secret::Secret;
use crate::spec::wire::{PgOption, Role};
use crate::sql::fuzzing::{Piece, sql_pieces};

/// Two options, each `type|name|value`, and a password: what is accepted stays inside of its
/// statement, whose last word is the password.
pub(crate) fn pg_options(data: &[u8]) {
    let Some(([first, second], password)) = lines(data) else { return };
    let option = |line: &str| {
        let mut parts = line.splitn(3, '|').map(str::to_owned);
        let vartype = parts.next().unwrap_or_default();
        let name = parts.next().unwrap_or_default();
        PgOption { name, value: parts.next(), vartype }
    };
    let accepted = |option: &PgOption| {
        let value = option.value.as_deref().unwrap_or_default();
        let value =
            if option.vartype == "string" { !value.contains('\0') } else { is_one_piece(value) };
        value && is_one_piece(&option.name)
    };
    let list: Vec<_> = [option(first), option(second)].into_iter().filter(accepted).collect();
    let written = options(Some(&list));
    let pieces = sql_pieces(&written).expect("all quotes are closed");
    assert!(
        !pieces.iter().any(|piece| matches!(piece, Piece::Mark(';' | '$' | '\\') | Piece::Comment))
    );
    if password.contains('\0') {
        return;
    }
    let role = Role {
        name: "r".to_owned(),
        encrypted_password: Some(Secret::new(password.to_owned())),
        options: Some(list),
    };
    let sql = role_options(&role);
    let all = sql_pieces(&sql).expect("all quotes are closed");
    let (own, login) = all.split_at(pieces.len());
    assert_eq!(own, pieces);
    let word = |text: &str| Piece::Word(text.to_owned());
    assert_eq!(login[..2], [word("LOGIN"), word("PASSWORD")]);
    assert!(matches!(login[2..], [Piece::String(_)]) || login[2..] == [word("NULL")], "{login:?}");
}
