//! Names and literals as SQL text (02 §8.2 to §8.6, 05 §16).

/// A SQL literal: `'` and `\` doubled, in quotes, with an `E` in front when there was a backslash.
pub(crate) fn literal(text: &str) -> String {
    let prefix = if text.contains('\\') { "E'" } else { "'" };
    format!("{prefix}{}'", text.replace('\'', "''").replace('\\', "\\\\"))
}

/// An identifier: always in `"`, inner ones doubled. Not idempotent.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A dollar-quoted literal, and the tag for the anonymous block around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DollarQuoted {
    /// `$tag$text$tag$`.
    pub literal: String,
    /// A tag that cannot end early inside the literal.
    pub outer_tag: String,
}

/// Quotes a text for use inside an anonymous block. The tag is as many `x` as the text does not
/// contain, so neither it nor the longer outer tag can occur in the text.
pub(crate) fn dollar_quoted(text: &str) -> DollarQuoted {
    let mut tag = "x".to_owned();
    while text.contains(&tag) {
        tag.push('x');
    }
    DollarQuoted { literal: format!("${tag}${text}${tag}$"), outer_tag: format!("{tag}x") }
}

/// A statement for databases of users: `%I` stands for the roles, in their order; nothing else of
/// the template is special to `format`.
///
/// A name of a role is UTF-8, whatever the encoding of the database, and a server refuses a text
/// whose bytes are invalid in that encoding (`EUC_JP` has no `\xE3\x81`). So the server looks up a
/// name that is not ASCII by its bytes.
pub(crate) fn naming(template: &str, roles: &[&str]) -> String {
    if roles.iter().all(|role| role.is_ascii()) {
        let mut roles = roles.iter();
        let mut pieces = template.split("%I");
        let mut sql = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            sql.extend(roles.next().map(|role| identifier(role)));
            sql.push_str(piece);
        }
        return sql;
    }
    let roles: Vec<_> = roles.iter().map(|role| role_by_bytes(role)).collect();
    in_block(template, &roles)
}

/// Like [`naming`], for a schema of the database and then a role.
pub(crate) fn naming_schema(template: &str, schema: &str, role: &str) -> String {
    if schema.is_ascii() && role.is_ascii() {
        return naming(template, &[schema, role]);
    }
    in_block(template, &[schema_expression(schema), role_by_bytes(role)])
}

fn in_block(template: &str, names: &[String]) -> String {
    format!(
        "DO $naming$ BEGIN EXECUTE pg_catalog.format({}, {}); END $naming$",
        literal(template),
        names.join(", ")
    )
}

/// An expression for the name of a role, for databases of users. See [`naming`].
pub(crate) fn role_expression(role: &str) -> String {
    if role.is_ascii() { literal(role) } else { role_by_bytes(role) }
}

/// An expression for the name of an object of the database, which is in the encoding of the
/// database.
pub(crate) fn schema_expression(schema: &str) -> String {
    if schema.is_ascii() {
        return literal(schema);
    }
    let digits = hexadecimal(schema);
    format!("pg_catalog.convert_from('\\x{digits}'::pg_catalog.bytea, 'UTF8')")
}

fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// An expression for the name of a role inside an anonymous block, for databases of users. See
/// [`naming`].
pub(crate) fn role_in_block(role: &str) -> String {
    if role.is_ascii() { dollar_quoted(role).literal } else { role_by_bytes(role) }
}

/// The client encoding of our sessions is not that of a database, so `namesend` gives the bytes.
fn role_by_bytes(role: &str) -> String {
    let digits = hexadecimal(role);
    format!(
        "(SELECT rolname FROM pg_catalog.pg_authid WHERE pg_catalog.encode(\
         pg_catalog.namesend(rolname), 'hex') OPERATOR(pg_catalog.=) '{digits}')"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn roles_in_databases_of_any_encoding() {
        let two = |old| naming("REASSIGN OWNED BY %I TO %I", &[old, "b%I"]);
        assert_eq!(two("a\"a"), r#"REASSIGN OWNED BY "a""a" TO "b%I""#);
        let sql = two("é");
        assert!(sql.is_ascii(), "{sql}");
        assert!(sql.contains("'hex') OPERATOR(pg_catalog.=) 'c3a9'), (SELECT "), "{sql}");
        assert!(
            sql.contains("('REASSIGN OWNED BY %I TO %I'") && sql.contains("'622549')"),
            "{sql}"
        );
        assert_eq!(role_in_block("it's"), "$x$it's$x$");
        assert!(role_in_block("é").ends_with("'c3a9')"));
        assert_eq!(naming_schema("ON %I TO %I", "a", "b"), r#"ON "a" TO "b""#);
        let sql = naming_schema("ON %I TO %I", "é", "b");
        assert!(
            sql.contains(r"convert_from('\xc3a9'::pg_catalog.bytea, 'UTF8'), (SELECT"),
            "{sql}"
        );
        assert_eq!(role_expression("b"), "'b'");
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
