//! Splits SQL into tokens, as far as the rules need it.

/// Characters, each with its line in the file.
pub(super) type Text = Vec<(char, usize)>;

/// The text, with its first line in the file.
pub(super) fn text(source: &str, first_line: usize) -> Text {
    let mut line = first_line;
    source
        .chars()
        .map(|c| {
            let at = line;
            line += usize::from(c == '\n');
            (c, at)
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword, or a name without quotes.
    Word,
    /// A name in double quotes.
    Quoted,
    Number,
    /// A string constant; `inner` is its content.
    Constant,
    /// A string between dollar quotes, which is code.
    Code,
    /// `{x}`, `@X@`, `$1`, `%I`: a placeholder.
    Placeholder,
    /// A run of operator characters.
    Operator,
    /// Any other character.
    Mark,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Words in capitals; other tokens unchanged.
    pub(super) text: String,
    pub(super) line: usize,
    /// The content between the quotes.
    pub(super) inner: Text,
}

const OPERATORS: &str = "+-*/<>=~!@#%^&|?";

/// Placeholders of `format()` other than `%I` are recognised only in constants, which do not
/// contain an operator `%`.
pub(super) fn tokens(text: &[(char, usize)], in_constant: bool) -> Vec<Token> {
    let mut cutter = Cutter { text, at: 0, in_constant };
    let mut tokens = Vec::new();
    while let Some(&(c, line)) = text.get(cutter.at) {
        let begin = cutter.at;
        let Some((kind, inner)) = cutter.token(c) else { continue };
        let written: String = text[begin..cutter.at].iter().map(|(c, _)| *c).collect();
        let text = if kind == Kind::Word { written.to_uppercase() } else { written };
        tokens.push(Token { kind, text, line, inner });
    }
    tokens
}

struct Cutter<'a> {
    text: &'a [(char, usize)],
    at: usize,
    in_constant: bool,
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Cutter<'_> {
    fn char(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).map_or('\0', |(c, _)| *c)
    }

    fn sees(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.char(i) == c)
    }

    fn advance_while(&mut self, is_part: impl Fn(char) -> bool) {
        while self.at < self.text.len() && is_part(self.char(0)) {
            self.at += 1;
        }
    }

    /// The kind of the next token, which is consumed; `None` for blanks and comments.
    fn token(&mut self, c: char) -> Option<(Kind, Text)> {
        if c.is_whitespace() {
            self.at += 1;
            return None;
        }
        if self.sees("--") {
            self.advance_while(|c| c != '\n');
            return None;
        }
        if self.sees("/*") {
            while self.at < self.text.len() && !self.sees("*/") {
                self.at += 1;
            }
            self.at += 2;
            return None;
        }
        if c == '\'' || (matches!(c, 'E' | 'e') && self.char(1) == '\'') {
            return Some((Kind::Constant, self.quoted('\'', c != '\'')));
        }
        if c == '"' {
            return Some((Kind::Quoted, self.quoted('"', false)));
        }
        if let Some(code) = self.code() {
            return Some((Kind::Code, code));
        }
        if let Some(length) = self.placeholder() {
            self.at += length;
            return Some((Kind::Placeholder, Vec::new()));
        }
        let kind = if c.is_alphabetic() || c == '_' {
            self.advance_while(in_word);
            Kind::Word
        } else if c.is_ascii_digit() {
            self.advance_while(|c| c.is_alphanumeric());
            Kind::Number
        } else if OPERATORS.contains(c) {
            while OPERATORS.contains(self.char(0))
                && !self.sees("--")
                && !self.sees("/*")
                && self.placeholder().is_none()
            {
                self.at += 1;
            }
            Kind::Operator
        } else {
            let double = [":=", "::", ".."].iter().any(|mark| self.sees(mark));
            self.at += 1 + usize::from(double);
            Kind::Mark
        };
        Some((kind, Vec::new()))
    }

    fn quoted(&mut self, quote: char, escapes: bool) -> Text {
        self.at += 1 + usize::from(escapes);
        let mut inner = Vec::new();
        while let Some(&(c, line)) = self.text.get(self.at) {
            self.at += 1;
            if c == quote {
                if self.char(0) != quote {
                    break;
                }
                self.at += 1;
            } else if escapes && c == '\\' {
                self.at += 1;
            }
            inner.push((c, line));
        }
        inner
    }

    /// `$x$ … $x$`; the name may be a placeholder.
    fn code(&mut self) -> Option<Text> {
        if self.char(0) != '$' || self.char(1).is_ascii_digit() {
            return None;
        }
        let name = (1..).take_while(|i| in_word(self.char(*i)) || self.char(*i) == '@').count();
        if self.char(name + 1) != '$' {
            return None;
        }
        let length = name + 2;
        let tag: String = (0..length).map(|i| self.char(i)).collect();
        self.at += length;
        let mut inner = Vec::new();
        while self.at < self.text.len() && !self.sees(&tag) {
            inner.push(self.text[self.at]);
            self.at += 1;
        }
        self.at += length;
        Some(inner)
    }

    /// Length of the placeholder that begins here.
    fn placeholder(&self) -> Option<usize> {
        let run = |from: usize, is_part: fn(char) -> bool| {
            (from..).take_while(|i| is_part(self.char(*i))).count()
        };
        match self.char(0) {
            '{' => {
                let name = run(1, |c| c != '}' && c != '\0');
                (self.char(name + 1) == '}').then_some(name + 2)
            }
            '@' => {
                let name = run(1, |c| c.is_ascii_uppercase() || c == '_');
                (name > 0 && self.char(name + 1) == '@').then_some(name + 2)
            }
            '$' => match run(1, |c| c.is_ascii_digit()) {
                0 => None,
                digits => Some(digits + 1),
            },
            // `sql::quote::naming` has `%I` outside of constants.
            '%' if self.char(1) == 'I' => Some(2),
            '%' if self.in_constant && matches!(self.char(1), 'L' | 's') => Some(2),
            _ => None,
        }
    }
}

#[test]
fn tokens_of_a_text() {
    let sql = "SELECT a.\"B\"\"c\", E'x\\'y' -- no = here\n \
               /* nor = */ <>-2 ::x := @ROLE@ {x} $1 $@T@$ a = b $@T@$ 'it''s';";
    let tokens = tokens(&text(sql, 1), false);
    let texts: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let expected = [
        "SELECT",
        "A",
        ".",
        "\"B\"\"c\"",
        ",",
        "E'x\\'y'",
        "<>-",
        "2",
        "::",
        "X",
        ":=",
        "@ROLE@",
        "{x}",
        "$1",
        "$@T@$ a = b $@T@$",
        "'it''s'",
        ";",
    ];
    assert_eq!(texts, expected);
    let inner: String = tokens[14].inner.iter().map(|(c, _)| *c).collect();
    assert_eq!((inner.as_str(), tokens[14].line), (" a = b ", 2));
}
