//! Converts the list of lines to the text. Only this module quotes values.

use super::lexer::is_guc_name;
use super::{Body, ConfError, ConfFile, Line, Origin, Value};
use crate::secret::Secret;

impl ConfFile {
    /// The text of the file, ending in a line feed. Secret because it contains connection strings
    /// and tokens. Never fails for a file made by [`ConfFile::build`].
    pub fn render(&self) -> Result<Secret<String>, ConfError> {
        let mut text = String::new();
        for line in &self.lines {
            render_line(line, &mut text)?;
            text.push('\n');
        }
        Ok(Secret::new(text))
    }
}

/// Appends the text of a line, without its line feed.
pub(super) fn render_line(line: &Line, text: &mut String) -> Result<(), ConfError> {
    let (name, value) = match &line.body {
        Body::Verbatim(lines) => {
            text.push_str(lines.expose());
            return Ok(());
        }
        Body::Comment(comment) => {
            text.push_str(comment);
            return Ok(());
        }
        Body::Setting { name, value } => (name, value),
    };
    if !is_guc_name(name) {
        return Err(ConfError::BadName(name.clone()));
    }
    text.push_str(name);
    let (value, quoted) = match value {
        Value::Quoted(value) => (value.expose(), true),
        Value::Raw(value) => (value.expose(), false),
    };
    if value.contains('\0') {
        return Err(ConfError::NulInValue(name.clone()));
    }
    text.push_str(match line.origin {
        // `SUBSCRIBERS_ON_LINE` relies on these exact bytes.
        Origin::Program | Origin::Appended => "=",
        Origin::BaseText | Origin::SpecList | Origin::Override => " = ",
    });
    if quoted {
        text.push_str(&literal(value));
    } else if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return Err(ConfError::ControlInRawValue(name.clone()));
    } else {
        text.push_str(value);
    }
    Ok(())
}

/// A configuration literal (02 §8.6): `'` and `\` doubled, in quotes, never with an `E` prefix.
/// Line ends become escapes, so that a value stays on its line (04 W11).
pub fn literal(value: &str) -> String {
    let mut literal = String::with_capacity(value.len().saturating_add(2));
    literal.push('\'');
    for c in value.chars() {
        match c {
            '\'' => literal.push_str("''"),
            '\\' => literal.push_str(r"\\"),
            '\n' => literal.push_str(r"\n"),
            '\r' => literal.push_str(r"\r"),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::conf::parse_line;
    use proptest::prelude::*;

    fn one(origin: Origin, name: &str, value: Value) -> Result<String, ConfError> {
        let mut conf = ConfFile::default();
        conf.push(origin, Body::Setting { name: name.to_owned(), value });
        Ok(conf.render()?.expose().clone())
    }

    fn quoted(value: &str) -> Value {
        Value::Quoted(Secret::new(value.to_owned()))
    }

    fn raw(value: &str) -> Value {
        Value::Raw(Secret::new(value.to_owned()))
    }

    #[test]
    fn literals() {
        for (value, expected) in [
            ("it's \\ \"x\"", "'it''s \\\\ \"x\"'"),
            ("it's", "'it''s'"),
            ("", "''"),
            ("a'b\\c", "'a''b\\\\c'"),
        ] {
            assert_eq!(literal(value), expected);
        }
    }

    #[test]
    fn one_setting_is_one_line() {
        let program = one(Origin::Program, "a.b", quoted("x y"));
        assert_eq!(program.unwrap(), "a.b='x y'\n");
        assert_eq!(one(Origin::SpecList, "a.b", quoted("x")).unwrap(), "a.b = 'x'\n");
        assert_eq!(one(Origin::SpecList, "a.b", raw("it's\\")).unwrap(), "a.b = it's\\\n");
    }

    #[test]
    fn a_value_stays_on_its_line() {
        let value = one(Origin::SpecList, "a", quoted("x\ny = 1\r\t\u{1}\u{7f}")).unwrap();
        assert_eq!(value, "a = 'x\\ny = 1\\r\t\u{1}\u{7f}'\n");
        let name = || "work_mem".to_owned();
        for bad in ["x\ny = 1", "x\r", "\u{7f}"] {
            let error = one(Origin::SpecList, "work_mem", raw(bad)).unwrap_err();
            assert_eq!(error, ConfError::ControlInRawValue(name()));
        }
        for value in [quoted("\0"), raw("\0")] {
            let error = one(Origin::SpecList, "work_mem", value).unwrap_err();
            assert_eq!(error, ConfError::NulInValue(name()));
        }
    }

    #[test]
    fn an_invalid_name_is_refused() {
        for name in ["a\nport", "a\0", "a\tb", "", "a b", "a = 1 #", "a.b.c", "1a", "a-b", "'a'"] {
            let error = one(Origin::SpecList, name, raw("1")).unwrap_err();
            assert_eq!(error, ConfError::BadName(name.to_owned()));
        }
    }

    #[test]
    fn nothing_prints_a_value() {
        let error = one(Origin::Program, "a", quoted("planted\0")).unwrap_err();
        assert!(!error.to_string().contains("planted"));
        let mut conf = ConfFile::default();
        conf.quoted(Origin::Program, "a", "planted");
        conf.raw(Origin::Program, "a", "planted");
        assert!(!format!("{conf:?}").contains("planted"));
    }

    proptest! {
        #[test]
        fn postgres_reads_back_what_was_given(value in "[^\\x00]*") {
            let text = one(Origin::Program, "a.b", quoted(&value)).unwrap();
            prop_assert_eq!(text.lines().count(), 1);
            let (name, read) = parse_line(text.trim_end_matches('\n')).unwrap();
            prop_assert_eq!(name, "a.b");
            prop_assert_eq!(read, value);
        }

        #[test]
        fn quotes_and_backslashes_read_back(value in "['\\\\\"#=tn0-7 \n\r]*") {
            let text = one(Origin::SpecList, "a", quoted(&value)).unwrap();
            let (_, read) = parse_line(text.trim_end_matches('\n')).unwrap();
            prop_assert_eq!(read, value);
        }

        #[test]
        fn any_text_is_one_line_or_an_error(name: String, value: String, is_quoted: bool) {
            let value = if is_quoted { quoted(&value) } else { raw(&value) };
            if let Ok(text) = one(Origin::SpecList, &name, value) {
                prop_assert_eq!(text.matches('\n').count(), 1);
            }
        }
    }
}
