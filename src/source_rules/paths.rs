//! Finds the paths in Rust code that import from other modules, without a compiler.

/// A token of the code, without comments and literals.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Sep,
    Mark(char),
}

/// A path as it is written, and the kind of statement around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub segments: Vec<String>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// `use`, with the name that it brings into scope.
    Use(String),
    /// `pub use`, with any visibility.
    Reexport(String),
    /// A path within other code.
    Inline,
}

/// All paths with more than one segment, and all `use` trees.
pub(super) fn written(code: &str) -> Vec<Written> {
    let tokens = tokens(code);
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(token) = tokens.get(at) {
        match token {
            Token::Word(word) if word == "use" => {
                let public = matches!(tokens[..at].last(), Some(Token::Mark(')')))
                    || matches!(tokens[..at].last(), Some(Token::Word(word)) if word == "pub");
                at += 1;
                tree(&tokens, &mut at, &[], public, &mut found);
            }
            Token::Word(_) => {
                let segments = path(&tokens, &mut at);
                if segments.len() > 1 {
                    found.push(Written { segments, kind: Kind::Inline });
                }
            }
            _ => at += 1,
        }
    }
    found
}

/// Words with `::` between them.
fn path(tokens: &[Token], at: &mut usize) -> Vec<String> {
    let mut segments = Vec::new();
    while let Some(Token::Word(word)) = tokens.get(*at) {
        segments.push(word.clone());
        *at += 1;
        match (tokens.get(*at), tokens.get(*at + 1)) {
            (Some(Token::Sep), Some(Token::Word(_))) => *at += 1,
            _ => break,
        }
    }
    segments
}

fn tree(
    tokens: &[Token],
    at: &mut usize,
    before: &[String],
    public: bool,
    found: &mut Vec<Written>,
) {
    let mut segments = before.to_vec();
    segments.extend(path(tokens, at));
    if tokens.get(*at) == Some(&Token::Sep) {
        *at += 1;
        if tokens.get(*at) == Some(&Token::Mark('{')) {
            *at += 1;
            while tokens.get(*at).is_some_and(|token| *token != Token::Mark('}')) {
                tree(tokens, at, &segments, public, found);
                if tokens.get(*at) == Some(&Token::Mark(',')) {
                    *at += 1;
                }
            }
            *at += 1;
            return;
        }
        // A glob.
        *at += 1;
        segments.push("*".to_owned());
    }
    if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    let mut name = segments.last().cloned().unwrap_or_default();
    if let (Some(Token::Word(word)), Some(Token::Word(alias))) =
        (tokens.get(*at), tokens.get(*at + 1))
        && word == "as"
    {
        name.clone_from(alias);
        *at += 2;
    }
    let kind = if public { Kind::Reexport(name) } else { Kind::Use(name) };
    found.push(Written { segments, kind });
}

fn tokens(code: &str) -> Vec<Token> {
    let chars: Vec<char> = code.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let rest = &chars[at..];
        let starts = |text: &str| text.chars().eq(rest.iter().copied().take(text.len()));
        if starts("//") {
            at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
        } else if starts("/*") {
            at += 2 + rest.windows(2).skip(2).position(|pair| pair == ['*', '/']).unwrap() + 2;
        } else if let Some(length) = raw_string(rest) {
            at += length;
        } else if rest[0] == '"' {
            at += quoted(rest, '"');
        } else if rest[0] == '\'' && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')) {
            at += quoted(rest, '\'');
        } else if rest[0].is_alphanumeric() || rest[0] == '_' {
            let length = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            tokens.push(Token::Word(rest[..length].iter().collect()));
            at += length;
        } else if starts("::") {
            tokens.push(Token::Sep);
            at += 2;
        } else {
            if !rest[0].is_whitespace() {
                tokens.push(Token::Mark(rest[0]));
            }
            at += 1;
        }
    }
    tokens
}

/// Length of the literal that begins here.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let prefix = if rest[0] == 'b' { 1 } else { 0 };
    if rest.get(prefix) != Some(&'r') {
        return None;
    }
    let hashes = rest[prefix + 1..].iter().take_while(|c| **c == '#').count();
    let open = prefix + 1 + hashes;
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let length = rest[open + 1..].windows(end.len()).position(|window| window == end)?;
    Some(open + 1 + length + end.len())
}

#[test]
fn paths_are_found_where_they_are_code() {
    let code = r####"
        use a::{self, b::{C, D as E}, f::*};
        pub(crate) use g::H; /* use no::way; */
        // crate::not::this
        let x = crate::i::j("crate::k::l", 'm', '\'', r#"crate::"n""#, &'static o);
    "####;
    let found: Vec<_> = written(code)
        .into_iter()
        .map(|Written { segments, kind }| (segments.join("::"), kind))
        .collect();
    let used = |path: &str, name: &str| (path.to_owned(), Kind::Use(name.to_owned()));
    assert_eq!(
        found,
        [
            used("a", "a"),
            used("a::b::C", "C"),
            used("a::b::D", "E"),
            used("a::f::*", "*"),
            ("g::H".to_owned(), Kind::Reexport("H".to_owned())),
            ("crate::i::j".to_owned(), Kind::Inline),
        ]
    );
}
