//! Names, literals and options as SQL text (02 §8.2 to §8.6, 05 §16).

use super::passwords::password_text;
use crate::spec::wire::{PgOption, Role};

/// A SQL literal: `'` and `\` doubled, in quotes, with an `E` in front when there was a backslash.
pub fn literal(text: &str) -> String {
    let prefix = if text.contains('\\') { "E'" } else { "'" };
    format!("{prefix}{}'", text.replace('\'', "''").replace('\\', "\\\\"))
}

/// An identifier: always in `"`, inner ones doubled. Not idempotent.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A dollar-quoted literal, and the tag for the anonymous block around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DollarQuoted {
    /// `$tag$text$tag$`.
    pub literal: String,
    /// A tag that cannot end early inside the literal.
    pub outer_tag: String,
}

/// Quotes a text for use inside an anonymous block. The tag is as many `x` as the text does not
/// contain, so neither it nor the longer outer tag can occur in the text.
pub fn dollar_quoted(text: &str) -> DollarQuoted {
    let mut tag = "x".to_owned();
    while text.contains(&tag) {
        tag.push('x');
    }
    DollarQuoted { literal: format!("${tag}${text}${tag}$"), outer_tag: format!("{tag}x") }
}

/// One option: only a value of type `string` is quoted, all else is by contract written as it
/// comes (02 §8.4).
pub fn option(PgOption { name, value, vartype }: &PgOption) -> String {
    match value {
        None => name.clone(),
        Some(value) if vartype == "string" => format!("{name} {}", literal(value)),
        Some(value) => format!("{name} {value}"),
    }
}

/// Options with one blank between them; empty when there are none.
pub fn options(options: Option<&[PgOption]>) -> String {
    options.unwrap_or_default().iter().map(option).collect::<Vec<_>>().join(" ")
}

/// Whether a text that is written into a statement as it is stays one piece of it: words, numbers,
/// and quotes that are closed. What could end the statement or hide its rest is left out: `;`,
/// comments, `$`, `\\`, control characters.
pub fn is_one_piece(text: &str) -> bool {
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
pub fn role_options(role: &Role) -> String {
    let password =
        password_text(role).map_or_else(|| "NULL".to_owned(), |password| literal(&password));
    format!("{} LOGIN PASSWORD {password}", options(role.options.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::secret::Secret;
    use proptest::prelude::*;

    fn an_option(name: &str, value: Option<&str>, vartype: &str) -> PgOption {
        let (name, vartype) = (name.to_owned(), vartype.to_owned());
        PgOption { name, value: value.map(str::to_owned), vartype }
    }

    fn role(password: Option<&str>, options: Option<Vec<PgOption>>) -> Role {
        let encrypted_password = password.map(|text| Secret::new(text.to_owned()));
        Role { name: "r".to_owned(), encrypted_password, options }
    }

    #[test]
    fn literals() {
        for (text, expected) in [
            ("test", "'test'"),
            ("it's", "'it''s'"),
            (r"a\b", r"E'a\\b'"),
            (r"\'", r"E'\\'''"),
            (r"c:\x", r"E'c:\\x'"),
            ("", "''"),
        ] {
            assert_eq!(literal(text), expected);
        }
    }

    #[test]
    fn identifiers() {
        for (text, expected) in
            [("a\"b", "\"a\"\"b\""), ("Mixed Case", "\"Mixed Case\""), ("\"x\"", "\"\"\"x\"\"\"")]
        {
            assert_eq!(identifier(text), expected);
        }
    }

    #[test]
    fn dollar_quoting() {
        for (text, expected, outer) in [
            ("name", "$x$name$x$", "xx"),
            ("xx$", "$xxx$xx$$xxx$", "xxxx"),
            ("shop", "$x$shop$x$", "xx"),
            ("box", "$xx$box$xx$", "xxx"),
            ("$x$", "$xx$$x$$xx$", "xxx"),
            ("maxx", "$xxx$maxx$xxx$", "xxxx"),
        ] {
            let quoted = dollar_quoted(text);
            assert_eq!((quoted.literal.as_str(), quoted.outer_tag.as_str()), (expected, outer));
        }
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

    /// What Postgres makes of a literal, as far as this module writes them.
    fn read_literal(sql: &str) -> Option<String> {
        let (escapes, body) = match sql.strip_prefix("E'") {
            Some(body) => (true, body),
            None => (false, sql.strip_prefix('\'')?),
        };
        let mut text = String::new();
        let mut chars = body.strip_suffix('\'')?.chars();
        while let Some(c) = chars.next() {
            let escape = c == '\'' || (escapes && c == '\\');
            text.push(c);
            if escape && chars.next() != Some(c) {
                return None;
            }
        }
        Some(text)
    }

    proptest! {
        #[test]
        fn literals_read_back(text in "['\\\\a-zé\n]*") {
            prop_assert_eq!(read_literal(&literal(&text)), Some(text));
        }

        #[test]
        fn identifiers_read_back(name: String) {
            let quoted = identifier(&name);
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert!(!inner.replace("\"\"", "").contains('"'));
            prop_assert_eq!(inner.replace("\"\"", "\""), name);
        }

        #[test]
        fn dollar_quotes_end_where_they_should(text in "[x$a ]*") {
            let DollarQuoted { literal, outer_tag } = dollar_quoted(&text);
            let tag = format!("${}$", outer_tag.strip_suffix('x').unwrap());
            let rest = literal.strip_prefix(&tag).unwrap();
            // The first closing delimiter is the last one.
            prop_assert_eq!(rest.find(&tag), Some(text.len()));
            let outer = format!("${outer_tag}$");
            prop_assert!(!literal.contains(&outer));
        }
    }
}
