//! Finds the literals of Rust code that are SQL.

use super::tokens::Text;

/// Words in capitals at the beginning of SQL statements and of their parts.
const BEGINNINGS: &str = " SELECT INSERT UPDATE DELETE DO WITH LOCK BEGIN CREATE ALTER DROP GRANT \
    REVOKE REASSIGN SET VALUES CALL TRUNCATE COPY MERGE EXPLAIN DECLARE PERFORM EXECUTE IF AND OR \
    NOT WHERE FROM JOIN LEFT CROSS UNION ON ORDER GROUP HAVING RETURNING COMMENT TABLE CASE ";

/// Whether a text begins like SQL: with such a word, then a blank.
pub(super) fn is_sql(text: &[(char, usize)]) -> bool {
    let mut rest = text;
    loop {
        let blanks = rest.iter().take_while(|(c, _)| c.is_whitespace()).count();
        rest = &rest[blanks..];
        if !(rest.len() > 1 && rest[0].0 == '-' && rest[1].0 == '-') {
            break;
        }
        let line = rest.iter().take_while(|(c, _)| *c != '\n').count();
        rest = &rest[line..];
    }
    let word: String = rest.iter().map(|(c, _)| *c).take_while(char::is_ascii_uppercase).collect();
    let blank = rest.get(word.len()).is_some_and(|(c, _)| c.is_whitespace());
    !word.is_empty() && blank && BEGINNINGS.contains(&format!(" {word} "))
}

/// All literals outside of tests that begin like SQL, with the line of each character.
pub(super) fn in_rust(source: &str) -> Vec<Text> {
    let mut reader = Reader { chars: source.chars().collect(), at: 0, line: 1 };
    let mut texts = Vec::new();
    while let Some(item) = reader.item() {
        match item {
            Item::Literal(text) => texts.push(text),
            Item::TestOnly => reader.skip_item(),
            Item::Other(_) => {}
        }
    }
    texts.retain(|text| is_sql(text));
    texts
}

enum Item {
    Literal(Text),
    /// `#[cfg(test)]`
    TestOnly,
    Other(char),
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Reader {
    fn next(&mut self) -> Option<char> {
        let c = *self.chars.get(self.at)?;
        self.at += 1;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn sees(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    fn item(&mut self) -> Option<Item> {
        if self.sees("//") {
            while !self.sees("\n") && self.next().is_some() {}
        } else if self.sees("/*") {
            while !self.sees("*/") && self.next().is_some() {}
        } else if self.sees("#[cfg(test)]") {
            self.skip("#[cfg(test)]".len());
            return Some(Item::TestOnly);
        } else if self.sees("'") {
            self.character();
        } else if self.sees("r\"") || self.sees("r#") {
            let inside_word = self.at.checked_sub(1).is_some_and(|before| {
                let c = self.chars[before];
                c.is_alphanumeric() && c != 'b' || c == '_'
            });
            let hashes = self.chars[self.at + 1..].iter().take_while(|c| **c == '#').count();
            if !inside_word && self.chars.get(self.at + 1 + hashes) == Some(&'"') {
                return Some(Item::Literal(self.raw(hashes)));
            }
        } else if self.sees("\"") {
            return Some(Item::Literal(self.literal()));
        }
        self.next().map(Item::Other)
    }

    /// A character literal, not a lifetime. Its last quote stays.
    fn character(&mut self) {
        if self.chars.get(self.at + 1) == Some(&'\\') {
            self.skip(3);
            while !self.sees("'") && self.next().is_some() {}
        } else if self.chars.get(self.at + 2) == Some(&'\'') {
            self.skip(2);
        }
    }

    fn raw(&mut self, hashes: usize) -> Text {
        self.skip(2 + hashes);
        let end = format!("\"{}", "#".repeat(hashes));
        let mut text = Vec::new();
        while !self.sees(&end) {
            let line = self.line;
            let Some(c) = self.next() else { break };
            text.push((c, line));
        }
        self.skip(end.len());
        text
    }

    fn literal(&mut self) -> Text {
        self.skip(1);
        let mut text = Vec::new();
        loop {
            let line = self.line;
            match self.next() {
                None | Some('"') => return text,
                Some('\\') => match self.next() {
                    Some('n') => text.push(('\n', line)),
                    Some('\n') => {
                        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
                            self.next();
                        }
                    }
                    Some(c) => text.push((c, line)),
                    None => return text,
                },
                Some(c) => text.push((c, line)),
            }
        }
    }

    /// Skips to the end of the item that an attribute belongs to.
    fn skip_item(&mut self) {
        let mut depth = 0_usize;
        while let Some(item) = self.item() {
            match item {
                Item::Other('{' | '(' | '[') => depth += 1,
                Item::Other(c @ ('}' | ')' | ']')) => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && c == '}' {
                        return;
                    }
                }
                Item::Other(';') if depth == 0 => return,
                _ => {}
            }
        }
    }
}

#[test]
fn literals_that_are_sql() {
    let source = r##"
        // "SELECT comment"
        const A: &'static str = "\
            SELECT 'x', \"y\" \
            FROM z";
        const C: char = '"'; const B: &str = "not SELECT this";
        fn f() { g(r#"UPDATE "t" SET x"#, ["SELECT", "SELECT, x", " AND a"]); }
        #[cfg(test)]
        mod tests { const D: &str = "SELECT } in a test"; fn g() {} }
        #[cfg(test)]
        mod tests;
        const E: &str = "DROP TABLE {x}";
    "##;
    let texts: Vec<(String, usize)> = in_rust(source)
        .into_iter()
        .map(|text| (text.iter().map(|(c, _)| *c).collect(), text.last().unwrap().1))
        .collect();
    let expected = [
        ("SELECT 'x', \"y\" FROM z", 5),
        ("UPDATE \"t\" SET x", 7),
        (" AND a", 7),
        ("DROP TABLE {x}", 12),
    ];
    assert_eq!(texts, expected.map(|(text, line)| (text.to_owned(), line)));
    let sql = |text: &str| is_sql(&super::tokens::text(text, 1));
    assert!(sql("\n-- why\n  DO $x$"));
    assert!(!sql("Select one") && !sql("SELECTED for") && !sql("SELECT"));
}
