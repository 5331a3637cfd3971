//! Finds the constructs that SQL of ours must not contain.

use std::collections::HashSet;

use super::texts::is_sql;
use super::tokens::{Kind, Text, Token, text, tokens};

/// A fault in a text, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) line: usize,
    pub(super) what: String,
}

/// Words before `(` that are not functions. Most of these words are grammar; COALESCE, GREATEST
/// and the like find their operators by type, not by name.
const NOT_CALLED: &str = " VALUES EXISTS ANY SOME ALL COALESCE GREATEST LEAST EXTRACT TRIM POSITION \
    FILTER AS ROW ARRAY OPERATOR IN AND OR NOT WHERE ON SELECT FROM LATERAL USING BY WITH OVER \
    WITHIN GROUP SET WHEN THEN ELSE CASE RETURN IF ELSIF WHILE DISTINCT UNION EXCEPT INTERSECT CAST \
    CONFLICT KEY UNIQUE CHECK INTO TABLE DEFAULT LIMIT HAVING JOIN MATERIALIZED INCLUDE UPDATE INSERT \
    DELETE REFERENCES IS NUMERIC DECIMAL VARCHAR CHAR CHARACTER BIT FLOAT TIME TIMESTAMP INTERVAL \
    NULLIF RETURNING ";

/// Words after which a name before `(` is a call: `FROM f(x)`, but `t f (x)` gives a name.
const BEFORE_CALL: &str = " SELECT FROM WHERE AND OR NOT ON JOIN BY HAVING LIMIT OFFSET CASE WHEN \
    THEN ELSE RETURN PERFORM IF ELSIF WHILE DISTINCT ALL UNION SET VALUES IN IS DEFAULT CHECK LATERAL \
    EXECUTE USING CALL PROCEDURE FUNCTION RETURNING ANY FILTER IMMUTABLE NEXT QUERY LOOP BEGIN \
    BETWEEN LIKE ASC DESC ";

/// Types that the grammar takes from `pg_catalog`, whatever the `search_path`.
const GRAMMAR_TYPES: &str = " INT INTEGER SMALLINT BIGINT REAL FLOAT DOUBLE DECIMAL NUMERIC DEC \
    BOOLEAN BIT CHAR CHARACTER VARCHAR NCHAR NATIONAL TIME TIMESTAMP INTERVAL SETOF RECORD ";

/// Types that are often written before a constant.
const COMMON_TYPES: &str = " TEXT NAME OID INT2 INT4 INT8 BOOL FLOAT8 REGCLASS REGROLE REGTYPE \
    REGPROC REGPROCEDURE REGNAMESPACE TIMESTAMPTZ JSON JSONB BYTEA DATE UUID ACLITEM ";

/// Functions and types that look up the name in a constant. Schemas and roles have no schema.
const LOOKUPS: &str = " REGCLASS REGPROC REGPROCEDURE REGOPER REGOPERATOR REGTYPE REGCOLLATION \
    REGCONFIG REGDICTIONARY TO_REGCLASS TO_REGPROC TO_REGPROCEDURE TO_REGOPER TO_REGOPERATOR \
    TO_REGTYPE TO_REGCOLLATION ";

fn listed(list: &str, word: &str) -> bool {
    !word.is_empty() && list.contains(&format!(" {word} "))
}

/// The faults of a text.
pub(super) fn check(text: &Text) -> Vec<Finding> {
    check_part(text, false)
}

fn check_part(text: &[(char, usize)], in_constant: bool) -> Vec<Finding> {
    let tokens = tokens(text, in_constant);
    let mut walk = Walk { tokens: &tokens, ..Walk::default() };
    walk.frames.push(Frame::default());
    walk.collect_with_names();
    for at in 0..tokens.len() {
        walk.step(at);
    }
    walk.findings
}

/// The part between two parentheses, or the whole text.
#[derive(Debug, Default)]
struct Frame {
    /// The word before the parenthesis.
    opener: String,
    in_from: bool,
    in_set: bool,
    /// `SET (…)`, `WITH (…)`
    options: bool,
    /// `CREATE TABLE … (…)`
    columns: bool,
}

#[derive(Default)]
struct Walk<'a> {
    tokens: &'a [Token],
    frames: Vec<Frame>,
    with_names: HashSet<String>,
    /// The first word of the statement.
    statement: String,
    declares: bool,
    makes_table: bool,
    /// The last token ended `OPERATOR(…)`.
    after_operator: bool,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// The token `places` before; empty at the beginning.
    fn before(&self, at: usize, places: usize) -> &str {
        at.checked_sub(places).map_or("", |at| self.text(at))
    }

    /// A keyword or a name without quotes, in capitals.
    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).filter(|token| token.kind == Kind::Word).map_or("", |token| &token.text)
    }

    fn is(&self, at: usize, kind: Kind) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == kind)
    }

    fn is_name(&self, at: usize) -> bool {
        self.is(at, Kind::Word) || self.is(at, Kind::Quoted)
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().unwrap()
    }

    fn report(&mut self, at: usize, what: &str) {
        let token = &self.tokens[at];
        let finding = Finding { line: token.line, what: format!("{what} `{}`", token.text) };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn closing(&self, opening: usize) -> usize {
        let mut depth = 0_usize;
        for at in opening..self.tokens.len() {
            match self.text(at) {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len()
    }

    /// Whether `name (…) AS (` or `name AS (` begins here.
    fn is_with_query(&self, at: usize) -> bool {
        let after = if self.text(at + 1) == "(" { self.closing(at + 1) + 1 } else { at + 1 };
        let named = matches!(self.before(at, 1), "WITH" | "RECURSIVE" | ",");
        named
            && self.word(after) == "AS"
            && (self.text(after + 1) == "("
                || matches!(self.word(after + 1), "NOT" | "MATERIALIZED"))
    }

    fn collect_with_names(&mut self) {
        let names =
            (0..self.tokens.len()).filter(|at| self.is_name(*at) && self.is_with_query(*at));
        self.with_names = names.map(|at| self.text(at).to_owned()).collect();
    }

    fn step(&mut self, at: usize) {
        let token = &self.tokens[at];
        self.statement_and_frames(at);
        match token.kind {
            Kind::Operator => self.operator(at),
            Kind::Constant => self.constant(at),
            Kind::Code => self.findings.extend(check_part(&token.inner, false)),
            Kind::Word | Kind::Quoted => {
                self.keyword(at);
                self.call(at);
                if self.frame().columns
                    && matches!(self.before(at, 1), "(" | ",")
                    && !listed(" CONSTRAINT PRIMARY UNIQUE CHECK FOREIGN EXCLUDE ", self.word(at))
                {
                    self.type_name(at + 1);
                }
                if self.declares && matches!(self.before(at, 1), "DECLARE" | ";") {
                    self.type_name(at + 1 + usize::from(self.word(at + 1) == "CONSTANT"));
                }
                if listed(COMMON_TYPES, self.word(at))
                    && self.before(at, 1) != "."
                    && self.is(at + 1, Kind::Constant)
                {
                    self.report(at, "type without schema");
                }
            }
            Kind::Mark if token.text == "::" => self.type_name(at + 1),
            Kind::Mark if token.text == "," && self.frame().in_from => self.relation(at + 1),
            Kind::Mark | Kind::Number | Kind::Placeholder => {}
        }
        self.after_operator = token.text == ")" && self.after_operator;
    }

    fn statement_and_frames(&mut self, at: usize) {
        let before = self.before(at, 1).to_owned();
        if self.frames.len() == 1
            && matches!(before.as_str(), "" | ";" | "BEGIN" | "THEN" | "ELSE" | "LOOP")
        {
            self.statement = self.word(at).to_owned();
            self.makes_table = false;
            (self.frame().in_from, self.frame().in_set) = (false, false);
        }
        match self.tokens[at].text.as_str() {
            "(" => {
                let columns = self.makes_table && self.frames.len() == 1;
                self.makes_table &= !columns;
                let options = matches!(before.as_str(), "SET" | "WITH");
                let frame = Frame { opener: before, options, columns, ..Frame::default() };
                self.frames.push(frame);
            }
            ")" if self.frames.len() > 1 => {
                let closed = self.frames.pop();
                self.after_operator = closed.is_some_and(|frame| frame.opener == "OPERATOR");
            }
            _ => {}
        }
    }

    fn operator(&mut self, at: usize) {
        let text = self.text(at).to_owned();
        let before = self.before(at, 1).to_owned();
        let allowed = match text.as_str() {
            "=>" => true,
            "*" => matches!(before.as_str(), "SELECT" | "(" | "." | "," | "DISTINCT" | "ALL"),
            // The grammar joins both tokens into one constant.
            "-" if self.is(at + 1, Kind::Number) => {
                let operand = at.checked_sub(1).is_none_or(|at| {
                    matches!(self.tokens[at].kind, Kind::Number | Kind::Constant | Kind::Quoted)
                        || matches!(self.text(at), ")" | "]")
                        || self.is(at, Kind::Word) && !listed(BEFORE_CALL, self.word(at))
                });
                !operand || self.after_minus_operator(at)
            }
            "%" => matches!(self.word(at + 1), "TYPE" | "ROWTYPE"),
            "=" => self.assigns(at),
            _ => false,
        };
        if !allowed && self.frame().opener != "OPERATOR" {
            self.report(at, "operator without OPERATOR(pg_catalog.…)");
        }
        if self.frame().opener == "OPERATOR" && self.before(at, 2) != "PG_CATALOG" {
            self.report(at, "operator that is not of pg_catalog");
        }
    }

    fn after_minus_operator(&self, at: usize) -> bool {
        self.before(at, 1) == ")" && self.after_operator
    }

    /// `SET x = y`, `SET LOCAL x.y = z`, `SET a = 1, b = 2`, `SET (x = y)`.
    fn assigns(&mut self, at: usize) -> bool {
        let mut first = at.saturating_sub(1);
        while self.before(first, 1) == "." {
            first = first.saturating_sub(2);
        }
        let (before, frame) = (self.before(first, 1).to_owned(), self.frames.last().unwrap());
        match before.as_str() {
            "SET" | "LOCAL" | "SESSION" => true,
            // RAISE … USING ERRCODE = 'x', MESSAGE = 'y'
            "USING" | "," if listed(" ERRCODE MESSAGE DETAIL HINT ", self.word(first)) => true,
            "," => frame.in_set || frame.options,
            "(" => frame.options,
            _ => false,
        }
    }

    fn constant(&mut self, at: usize) {
        let token = &self.tokens[at];
        if is_sql(&token.inner) {
            self.findings.extend(check_part(&token.inner, true));
        }
        let cast = self.text(at + 1) == "::" && {
            let named = if self.word(at + 2) == "PG_CATALOG" { at + 4 } else { at + 2 };
            listed(LOOKUPS, self.word(named))
        };
        if cast || listed(LOOKUPS, &self.frame().opener) && self.before(at, 1) == "(" {
            let inner: String = token.inner.iter().map(|(c, _)| *c).collect();
            let mut names = inner.split(['(', ')', ',']).map(str::trim);
            let qualified = |name: &str| {
                name.is_empty()
                    || name.contains(['.', '{', '@', '%'])
                    || listed(GRAMMAR_TYPES, &name.to_uppercase())
            };
            if !names.all(qualified) {
                self.report(at, "name without schema in a constant");
            }
        }
    }

    fn keyword(&mut self, at: usize) {
        let (word, before) = (self.word(at).to_owned(), self.before(at, 1).to_owned());
        if before == "." {
            return;
        }
        let (next, next_word) = (self.text(at + 1).to_owned(), self.word(at + 1).to_owned());
        match word.as_str() {
            "IN" if next == "(" => self.report(at, "operator by name: write = ANY (ARRAY[…]) for"),
            "USING" if next == "(" => self.report(at, "operator by name: write ON for"),
            "CASE" if next_word != "WHEN" && before != "END" => {
                self.report(at, "operator by name: write CASE WHEN x = … for");
            }
            "LIKE" | "ILIKE" | "SIMILAR" | "BETWEEN" | "NULLIF" | "NATURAL" | "OVERLAPS" => {
                self.report(at, "operator by name:");
            }
            "DISTINCT" if matches!(before.as_str(), "IS") || before == "NOT" => {
                self.report(at, "operator by name: IS");
            }
            "COLLATE" if self.text(at + 2) != "." => {
                self.report(at, "collation without schema after")
            }
            "DECLARE" => self.declares = true,
            "BEGIN" => self.declares = false,
            // Not the FROM of REVOKE and FETCH, before a role or a cursor.
            "FROM"
                if !self.reads_a_part()
                    && before != "DISTINCT"
                    && !matches!(self.statement.as_str(), "REVOKE" | "FETCH") =>
            {
                self.relation(at + 1);
                self.frame().in_from = true;
            }
            "JOIN" => self.relation(at + 1),
            "INTO" if before == "INSERT" || before == "MERGE" => self.relation(at + 1),
            "UPDATE"
                if matches!(
                    before.as_str(),
                    "" | ";" | "(" | ")" | "BEGIN" | "THEN" | "ELSE" | "LOOP"
                ) =>
            {
                self.relation(at + 1);
            }
            "TABLE" | "VIEW" | "SEQUENCE" if before != "RETURNS" => {
                let skipped = (at + 1..)
                    .take_while(|at| listed(" IF NOT EXISTS ONLY ", self.word(*at)))
                    .count();
                self.makes_table |= self.statement == "CREATE" && word == "TABLE";
                self.name_of_relation(at + 1 + skipped);
            }
            "ON" if matches!(self.statement.as_str(), "GRANT" | "REVOKE") => {
                let kinds = " SCHEMA DATABASE ALL FUNCTION PROCEDURE ROUTINE TABLE TABLES SEQUENCE \
                    SEQUENCES FUNCTIONS TYPE TYPES LANGUAGE LARGE PARAMETER FOREIGN DOMAIN ";
                if !listed(kinds, &next_word) {
                    self.name_of_relation(at + 1);
                }
            }
            "AS" if self.frame().opener == "CAST" => self.type_name(at + 1),
            "RETURNS" if self.statement == "CREATE" => {
                self.type_name(at + 1 + usize::from(next_word == "SETOF"));
            }
            "SET" => self.frame().in_set = true,
            _ => {}
        }
        if listed(" WHERE GROUP ORDER LIMIT UNION LOOP SELECT HAVING RETURNING SET ", &word) {
            self.frame().in_from = false;
        }
        if listed(" WHERE FROM SELECT RETURNING ", &word) {
            self.frame().in_set = false;
        }
    }

    /// `extract(epoch FROM x)` and the like.
    fn reads_a_part(&mut self) -> bool {
        listed(" EXTRACT SUBSTRING TRIM OVERLAY ", &self.frame().opener.clone())
    }

    fn call(&mut self, at: usize) {
        let before = self.before(at, 1).to_owned();
        if self.text(at + 1) != "(" || before == "." || listed(NOT_CALLED, self.word(at)) {
            return;
        }
        let given = match at.checked_sub(1).map(|at| self.tokens[at].kind) {
            Some(Kind::Word) => !listed(BEFORE_CALL, &before),
            Some(Kind::Quoted | Kind::Placeholder) => true,
            Some(Kind::Mark) => matches!(before.as_str(), ")" | "]" | "::") && !self.after_operator,
            _ => false,
        };
        let special = listed(" SUBSTRING OVERLAY ", self.word(at)) && {
            let end = self.closing(at + 1);
            (at..end).any(|at| listed(" FROM PLACING ", self.word(at)))
        };
        if !given && !special && !self.is_with_query(at) {
            self.report(at, "function without schema");
        }
    }

    /// A relation that a query reads, or a statement changes.
    fn relation(&mut self, at: usize) {
        let at = at + usize::from(matches!(self.word(at), "ONLY" | "LATERAL"));
        // A function at this place is checked as a call.
        if self.text(at + 1) == "(" && self.before(at, 1) != "INTO"
            || self.with_names.contains(self.text(at))
        {
            return;
        }
        self.name_of_relation(at);
    }

    fn name_of_relation(&mut self, at: usize) {
        if self.is_name(at) && self.text(at + 1) != "." {
            self.report(at, "relation without schema");
        }
    }

    fn type_name(&mut self, at: usize) {
        let known = listed(GRAMMAR_TYPES, self.word(at));
        if self.is_name(at) && self.text(at + 1) != "." && !known {
            self.report(at, "type without schema");
        }
    }
}

/// The faults of a text without their lines, for tests.
pub(super) fn faults(sql: &str) -> Vec<String> {
    check(&text(sql, 1)).into_iter().map(|finding| finding.what).collect()
}
