//! Options of roles and databases as SQL text (02 §8.2 to §8.6).

use super::passwords::password_text;
use crate::spec::wire::{PgOption, Role};
use crate::sql::quote::literal;

/// One option. Only a value of type `string` is quoted; by contract all others are written
/// unchanged (02 §8.4).
pub(crate) fn option(PgOption { name, value, vartype }: &PgOption) -> String {
    match value {
        None => name.clone(),
        Some(value) if vartype == "string" => format!("{name} {}", literal(value)),
        Some(value) => format!("{name} {value}"),
    }
}

/// Options with one blank between them; empty when there are none. Those that lack a value are
/// left out, see [`without_value`].
pub(crate) fn options(options: Option<&[PgOption]>) -> String {
    let written = options.unwrap_or_default().iter().filter(|option| !is_half(option));
    written.map(option).collect::<Vec<_>>().join(" ")
}

/// Options that are nothing without a value, of roles and of databases. Most options of roles, such
/// as `NOINHERIT`, need none.
const WITH_VALUE: [&str; 24] = [
    "ADMIN",
    "ALLOW_CONNECTIONS",
    "BUILTIN_LOCALE",
    "COLLATION_VERSION",
    "CONNECTION LIMIT",
    "ENCODING",
    "ENCRYPTED PASSWORD",
    "ICU_LOCALE",
    "ICU_RULES",
    "IN GROUP",
    "IN ROLE",
    "IS_TEMPLATE",
    "LC_COLLATE",
    "LC_CTYPE",
    "LOCALE",
    "LOCALE_PROVIDER",
    "OWNER",
    "PASSWORD",
    "ROLE",
    "STRATEGY",
    "SYSID",
    "TABLESPACE",
    "TEMPLATE",
    "VALID UNTIL",
];

fn is_half(option: &PgOption) -> bool {
    let name = option.name.split_whitespace().collect::<Vec<_>>().join(" ");
    option.lacks_value() && WITH_VALUE.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Names of the options that are left out because they lack the value that they need: Postgres
/// would refuse the statement.
pub(crate) fn without_value(options: Option<&[PgOption]>) -> impl Iterator<Item = &str> {
    let half = options.unwrap_or_default().iter().filter(|option| is_half(option));
    half.map(|option| option.name.as_str())
}

/// Whether a text that is written into a statement unchanged stays one piece of it: words,
/// numbers, and closed quotes. Characters that could end the statement or hide its rest are
/// refused: `;`, comments, `$`, `\\`, control characters.
pub(crate) fn is_one_piece(text: &str) -> bool {
    let mut open = None;
    let mut before = ' ';
    for c in text.chars() {
        match open {
            _ if c.is_control() || c == '\\' => return false,
            Some(quote) if c == quote => open = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => open = Some(c),
            None if c == '-' && before == '-' => return false,
            None if c.is_alphanumeric() || " _.,:=+-()".contains(c) => {}
            None => return false,
        }
        before = c;
    }
    open.is_none()
}

/// What follows the name in `CREATE ROLE` and `ALTER ROLE`: options, `LOGIN`, password. Holds the
/// verifier, so it is not for logs.
pub(crate) fn role_options(role: &Role) -> String {
    let password =
        password_text(role).map_or_else(|| "NULL".to_owned(), |password| literal(&password));
    format!("{} LOGIN PASSWORD {password}", options(role.options.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn an_option(name: &str, value: Option<&str>, vartype: &str) -> PgOption {
        let (name, vartype) = (name.to_owned(), vartype.to_owned());
        PgOption { name, value: value.map(str::to_owned), vartype }
    }

    fn role(password: Option<&str>, options: Option<Vec<PgOption>>) -> Role {
        let encrypted_password = password.map(|text| Secret::new(text.to_owned()));
        Role { name: "r".to_owned(), encrypted_password, options }
    }

    #[test]
    fn options_are_joined_by_single_blanks() {
        let list = [
            an_option("CONNECTION LIMIT", Some("5"), "integer"),
            an_option("VALID UNTIL", Some("it's \\"), "string"),
            an_option("NOINHERIT", None, "string"),
            an_option("X", Some("a'b"), "String"),
        ];
        let expected = "CONNECTION LIMIT 5 VALID UNTIL E'it''s \\\\' NOINHERIT X a'b";
        assert_eq!(options(Some(&list)), expected);
        assert_eq!(options(Some(&[])), "");
        assert_eq!(options(None), "");
    }

    #[test]
    fn an_option_that_lacks_its_value_is_left_out() {
        let list = [
            an_option("connection  limit", None, "integer"),
            an_option("VALID UNTIL", Some(" "), "text"),
            an_option("NOINHERIT", None, "bool"),
            an_option("TEMPLATE template0", None, "string"),
            an_option("LC_COLLATE", Some(""), "string"),
        ];
        assert_eq!(options(Some(&list)), "NOINHERIT TEMPLATE template0 LC_COLLATE ''");
        let left_out: Vec<_> = without_value(Some(&list)).collect();
        assert_eq!(left_out, ["connection  limit", "VALID UNTIL"]);
    }

    #[test]
    fn role_forms() {
        assert_eq!(role_options(&role(None, None)), " LOGIN PASSWORD NULL");
        assert_eq!(role_options(&role(Some(""), None)), " LOGIN PASSWORD NULL");
        let scram = "SCRAM-SHA-256$4096:AAEC==$MDEy=:YWJj=";
        assert_eq!(
            role_options(&role(Some(scram), Some(vec![]))),
            format!(" LOGIN PASSWORD '{scram}'")
        );
        let list = vec![an_option("CONNECTION LIMIT", Some("5"), "integer")];
        assert_eq!(
            role_options(&role(Some("0123456789abcdef0123456789abcdef"), Some(list))),
            "CONNECTION LIMIT 5 LOGIN PASSWORD 'md50123456789abcdef0123456789abcdef'"
        );
    }

    #[test]
    fn a_password_cannot_break_out() {
        assert_eq!(
            role_options(&role(Some("x' SUPERUSER --"), None)),
            " LOGIN PASSWORD 'md5x'' SUPERUSER --'"
        );
    }

    #[test]
    fn raw_texts_stay_one_piece() {
        for good in [
            "",
            "CONNECTION LIMIT",
            "5",
            "-1",
            "template0",
            "'C.UTF-8'",
            "= \"My Template\"",
            "'a;b -- c'",
            "'it''s'",
            "utf8 LC_COLLATE 'C' LC_CTYPE 'C'",
        ] {
            assert!(is_one_piece(good), "{good}");
        }
        for bad in [
            "x; DROP ROLE y",
            "x -- y",
            "x --",
            "/* x",
            "'x",
            "\"x",
            "'it's'",
            "$x$",
            "E'\\'",
            "a\nb",
            "a\0",
        ] {
            assert!(!is_one_piece(bad), "{bad}");
        }
    }
}
