//! References to the contract in running text: `01 §18.5`, `(04 §8 to §11)`, `01 §24 nos. 3 and 9`,
//! `06 W11, W12`, `05 §3.1, weaknesses 6 and 10`, `02 R9`, `04 §15 T2`. Inside a document of the
//! contract a bare `§3.2` or `W5` means that document.

use std::fmt;

/// The part of a document that is cited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub document: u32,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A heading, such as `18.5` or `7.9a`; or a number in the list of one, such as `14.9`.
    Section(String),
    /// A row or a number of a list under that heading.
    Item(String, String),
    /// A row of the list of weaknesses.
    Weakness(String),
    /// A row with a name of its own, such as `R9` or `T15`, wherever it is.
    Row(String),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = self.document;
        match &self.target {
            Target::Section(section) => write!(f, "0{document} §{section}"),
            Target::Item(section, item) => write!(f, "0{document} §{section} no. {item}"),
            Target::Weakness(number) => write!(f, "0{document} W{number}"),
            Target::Row(name) => write!(f, "0{document} {name}"),
        }
    }
}

/// All references of a text with their lines. `own` is the document that the text is.
pub fn references(text: &str, own: Option<u32>) -> Vec<(usize, Reference)> {
    let (text, starts) = joined(text);
    let line = |at: usize| starts.partition_point(|&start| start <= at);
    let mut found = Vec::new();
    let mut rest = Cursor { text: &text, at: 0 };
    while rest.at < text.len() {
        let at = rest.at;
        let document = rest.document().or(own.filter(|_| rest.bare()));
        match document {
            Some(document) => {
                rest.chain(document, |target| {
                    found.push((line(at), Reference { document, target }));
                });
            }
            None => rest.step(),
        }
    }
    found
}

/// The lines without the marks of comments, as one line; and where each begins in it. A reference
/// may continue in the next line.
fn joined(text: &str) -> (String, Vec<usize>) {
    let (mut all, mut starts) = (String::new(), Vec::new());
    for line in text.lines() {
        starts.push(all.len());
        let line = line.trim_start();
        let marks = ["///", "//!", "//", "--", "#"];
        let bare = marks.iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        all.push_str(bare.trim());
        // A citation does not continue in the next row of a table.
        all.push_str(if line.is_empty() { " . " } else { " " });
    }
    (all, starts)
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// The kind of the numbers that follow.
#[derive(Clone, Copy, PartialEq)]
enum Counting {
    Sections,
    Items,
    Weaknesses,
    /// Steps and forms, which are inside of paragraphs.
    Nothing,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Goes to the next character that a reference can begin with.
    fn step(&mut self) {
        let begins = |c: char| "0§W".contains(c);
        let first = self.rest().chars().next().map_or(1, char::len_utf8);
        let ahead = self.text.get(self.at + first..).unwrap_or_default();
        self.at += first + ahead.find(begins).unwrap_or(ahead.len());
    }

    fn after_a_word(&self) -> bool {
        let before = self.text[..self.at].chars().next_back();
        before.is_some_and(|c| c.is_alphanumeric() || "_.-:".contains(c))
    }

    fn take(&mut self, text: &str) -> bool {
        let taken = self.rest().starts_with(text);
        self.at += if taken { text.len() } else { 0 };
        taken
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Skips the number of a document if a part of it is cited after that.
    fn document(&mut self) -> Option<u32> {
        let digits = self.rest().as_bytes().get(..2)?;
        if self.after_a_word() || digits[0] != b'0' || !(b'1'..=b'9').contains(&digits[1]) {
            return None;
        }
        let mut ahead = Cursor { text: self.text, at: self.at + 2 };
        let end = ahead.at;
        ahead.blanks();
        if ahead.at == end || ahead.locator(Counting::Nothing, "").is_none() {
            return None;
        }
        self.at = end;
        Some(u32::from(digits[1] - b'0'))
    }

    /// Whether the text here cites a part without naming the document.
    fn bare(&self) -> bool {
        let rest = self.rest();
        let number = |mark: &str| {
            rest.strip_prefix(mark).is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()))
        };
        number("§") || (number("W") && !self.after_a_word() && self.name().is_some())
    }

    /// A row's name here: a capital letter and a number.
    fn name(&self) -> Option<&'a str> {
        let rest = self.rest();
        let digits = rest.strip_prefix(|c: char| c.is_ascii_uppercase())?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let whole = !digits[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        (end > 0 && whole).then(|| &rest[..=end])
    }

    /// A number here, with points and a letter where sections have them.
    fn number(&mut self, of_section: bool) -> Option<String> {
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_digit() || (of_section && c == '.');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let mut number = rest[..end].trim_end_matches('.').to_owned();
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.at += number.len();
        let letter = self.rest().chars().next().filter(char::is_ascii_lowercase);
        let ends = self.rest().chars().nth(1).is_none_or(|c| !c.is_alphanumeric());
        if let Some(letter) = letter.filter(|_| ends) {
            number.push(letter);
            self.at += 1;
        }
        Some(number)
    }

    /// One cited part, and the kind of bare numbers after it.
    fn locator(&mut self, counting: Counting, section: &str) -> Option<(Counting, Option<Target>)> {
        let start = self.at;
        let words = [
            ("§", Counting::Sections),
            ("nos.", Counting::Items),
            ("nos", Counting::Items),
            ("no.", Counting::Items),
            ("items", Counting::Items),
            ("item", Counting::Items),
            ("rows", Counting::Items),
            ("row", Counting::Items),
            ("weaknesses", Counting::Weaknesses),
            ("weakness", Counting::Weaknesses),
            ("steps", Counting::Nothing),
            ("step", Counting::Nothing),
            ("forms", Counting::Nothing),
            ("cases", Counting::Nothing),
            ("case", Counting::Nothing),
        ];
        let word = words.into_iter().find(|(word, _)| self.take(word));
        let now = word.map_or(counting, |(_, counting)| counting);
        self.blanks();
        if let Some(name) = self.name() {
            self.at += name.len();
            let target = match name.strip_prefix('W') {
                Some(number) => Target::Weakness(number.to_owned()),
                None => Target::Row(name.to_owned()),
            };
            return Some((Counting::Nothing, Some(target)));
        }
        // Bare numbers continue the previous kind, except sections.
        let allowed = word.is_some() || (now != Counting::Sections && !section.is_empty());
        let Some(number) = self.number(now == Counting::Sections).filter(|_| allowed) else {
            self.at = start;
            return None;
        };
        let target = match now {
            Counting::Sections => Some(Target::Section(number)),
            Counting::Items => Some(Target::Item(section.to_owned(), number)),
            Counting::Weaknesses => Some(Target::Weakness(number)),
            Counting::Nothing => None,
        };
        Some((now, target))
    }

    /// All cited parts of one document from here on.
    fn chain(&mut self, document: u32, mut found: impl FnMut(Target)) {
        let (mut counting, mut section) = (Counting::Nothing, String::new());
        let mut begun_range: Option<Target> = None;
        self.blanks();
        while let Some((now, target)) = self.locator(counting, &section) {
            counting = now;
            if let Some(Target::Section(number)) = &target {
                section.clone_from(number);
            }
            let ends = begun_range.take().zip(target.as_ref());
            if let Some((first, last)) = ends {
                between(&first, last).into_iter().for_each(&mut found);
            }
            target.clone().into_iter().for_each(&mut found);
            if matches!(target, Some(Target::Section(_))) {
                let rows = self.letters().into_iter().flatten();
                rows.for_each(|row| found(Target::Item(section.clone(), row.to_string())));
            }
            let Some(separator) = self.another_of(document, counting) else {
                return;
            };
            begun_range = target.filter(|_| separator == " to ");
        }
        self.step();
    }

    /// Skips rows with letters after a section: `§8.1 d to i`.
    fn letters(&mut self) -> Option<std::ops::RangeInclusive<char>> {
        let rest = self.rest().strip_prefix(' ')?;
        let (first, last) = rest.split_at_checked(" d to i".len() - 1)?.0.split_once(" to ")?;
        let letter = |text: &str| text.parse().ok().filter(char::is_ascii_lowercase);
        let (first, last) = (letter(first)?, letter(last)?);
        self.at += " d to i".len();
        Some(first..=last)
    }

    /// Skips the separator between two cited parts of this document, if another one follows.
    fn another_of(&mut self, document: u32, counting: Counting) -> Option<&'static str> {
        let end = self.at;
        let separators = [", and ", ", ", " and ", " or ", " to ", " "];
        let separator = separators.into_iter().find(|it| self.take(it)).unwrap_or_default();
        self.blanks();
        let same = self.document().is_none_or(|it| it == document);
        self.blanks();
        let next = self.at;
        // After a blank alone only a part with its own word or sign counts.
        let counted = if separator.is_empty() || separator == " " { "" } else { "counted" };
        let follows = same && self.locator(counting, counted).is_some();
        self.at = if follows { next } else { end };
        follows.then_some(separator)
    }
}

/// The members of a range between its ends: for `§8 to §11` these are 9 and 10.
fn between(first: &Target, last: &Target) -> Vec<Target> {
    fn split(text: &str) -> Option<(&str, u32)> {
        let digits = text.len() - text.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let (front, number) = text.split_at(text.len() - digits);
        Some((front, number.parse().ok()?))
    }
    fn names(first: &str, last: &str) -> Vec<String> {
        match (split(first), split(last)) {
            (Some((front, a)), Some((same, b))) if front == same => {
                (a + 1..b).map(|number| format!("{front}{number}")).collect()
            }
            _ => Vec::new(),
        }
    }
    match (first, last) {
        (Target::Section(a), Target::Section(b)) => {
            names(a, b).into_iter().map(Target::Section).collect()
        }
        (Target::Item(section, a), Target::Item(_, b)) => {
            names(a, b).into_iter().map(|it| Target::Item(section.clone(), it)).collect()
        }
        (Target::Weakness(a), Target::Weakness(b)) => {
            names(a, b).into_iter().map(Target::Weakness).collect()
        }
        (Target::Row(a), Target::Row(b)) => names(a, b).into_iter().map(Target::Row).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cited(text: &str) -> Vec<String> {
        references(text, None).into_iter().map(|(line, it)| format!("{line}: {it}")).collect()
    }

    #[test]
    fn forms() {
        for (text, expected) in [
            ("(01 §18.5).", vec!["1: 01 §18.5"]),
            ("(04 §8 to §10)", vec!["1: 04 §8", "1: 04 §9", "1: 04 §10"]),
            ("02 §12.8, §12.10: x", vec!["1: 02 §12.8", "1: 02 §12.10"]),
            ("01 §24 nos. 3 and 9, x", vec!["1: 01 §24", "1: 01 §24 no. 3", "1: 01 §24 no. 9"]),
            (
                "05 §21 no. 18 to 20, 31)",
                vec![
                    "1: 05 §21",
                    "1: 05 §21 no. 18",
                    "1: 05 §21 no. 19",
                    "1: 05 §21 no. 20",
                    "1: 05 §21 no. 31",
                ],
            ),
            ("06 W11, W12)", vec!["1: 06 W11", "1: 06 W12"]),
            ("05 §3.1, weaknesses 6 and 10)", vec!["1: 05 §3.1", "1: 05 W6", "1: 05 W10"]),
            ("04 §15 T2, T3)", vec!["1: 04 §15", "1: 04 T2", "1: 04 T3"]),
            ("01 §9 step 6). 3 of", vec!["1: 01 §9"]),
            ("02 §7.2 forms 2 and 3, 06 §2.3)", vec!["1: 02 §7.2", "1: 06 §2.3"]),
            ("04 §1 rows 1 and 3)", vec!["1: 04 §1", "1: 04 §1 no. 1", "1: 04 §1 no. 3"]),
            ("05 §7.1, §7.9c, 12 of", vec!["1: 05 §7.1", "1: 05 §7.9c"]),
            ("    /// x (05\n    /// §3.3)\n", vec!["1: 05 §3.3"]),
            ("x\n// (02 R9)", vec!["2: 02 R9"]),
            (
                "01 §8.1 d to f and §13.2)",
                vec![
                    "1: 01 §8.1",
                    "1: 01 §8.1 no. d",
                    "1: 01 §8.1 no. e",
                    "1: 01 §8.1 no. f",
                    "1: 01 §13.2",
                ],
            ),
            ("at 05:05 W, 2026-01-02 W, 101 §4, {:02x}", vec![]),
        ] {
            assert_eq!(cited(text), expected, "{text}");
        }
    }

    #[test]
    fn bare_ones_mean_the_document_itself() {
        let found = references("see §4.2 (W6), and 03 §1; SW6", Some(4));
        let found: Vec<_> = found.into_iter().map(|(_, it)| it.to_string()).collect();
        assert_eq!(found, ["04 §4.2", "04 W6", "03 §1"]);
    }
}
