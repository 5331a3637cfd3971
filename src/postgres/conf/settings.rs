//! The effective settings: every setting of the file, and which line of each name counts.

use std::collections::HashSet;

use super::lexer::{read_line, read_text};
use super::render::render_line;
use super::{Body, ConfFile, Line, Origin, Value};
use crate::secret::Secret;

/// One setting of the file, as Postgres reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// Source of the setting.
    pub origin: Origin,
    /// Name as written in the file.
    pub name: String,
    /// Value without quotes and escapes; unchanged where Postgres cannot read it.
    pub value: Secret<String>,
    /// Whether this entry takes effect.
    pub state: SettingState,
}

/// Whether a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingState {
    /// It is the last entry with its name.
    InForce,
    /// A later entry with the same name wins.
    Overridden,
    /// Postgres refuses the file because of it.
    Unreadable,
    /// An `include` of another file, not a setting.
    Include,
}

impl ConfFile {
    /// All settings in file order, parsed from the text that [`ConfFile::render`] makes.
    pub fn settings(&self) -> Vec<EffectiveSetting> {
        let mut settings: Vec<_> = self.lines.iter().flat_map(settings_of).collect();
        mark(&mut settings);
        settings
    }

    /// The value that Postgres uses, if the file has one.
    pub fn value_in_force(&self, name: &str) -> Option<Secret<String>> {
        if is_include(name) {
            return None;
        }
        // The last one counts, and a start asks for few names: most lines need not be read.
        let lines = self.lines.iter().rev().filter(|line| may_set(line, name));
        let mut settings = lines.flat_map(|line| settings_of(line).into_iter().rev());
        let in_force = settings.find(|setting| {
            setting.state == SettingState::InForce && setting.name.eq_ignore_ascii_case(name)
        });
        in_force.map(|setting| setting.value)
    }
}

/// What one line of the file sets; text that was taken over may have several lines.
fn settings_of(line: &Line) -> Vec<EffectiveSetting> {
    let setting = |name: String, value: String, state| EffectiveSetting {
        origin: line.origin,
        name,
        value: Secret::new(value),
        state,
    };
    let in_force =
        |(name, value): (&str, String)| setting(name.to_owned(), value, SettingState::InForce);
    match &line.body {
        Body::Comment(_) => Vec::new(),
        Body::Verbatim(text) => {
            read_text(text.expose()).unwrap_or_default().into_iter().map(in_force).collect()
        }
        Body::Setting { name, value } => {
            let mut text = String::new();
            let rendered = render_line(line, &mut text);
            vec![match (rendered, read_line(&text)) {
                (Ok(()), Ok(Some(read))) => in_force(read),
                _ => setting(name.clone(), as_written(value), SettingState::Unreadable),
            }]
        }
    }
}

/// False for a line that cannot set `name`. A name is written as it is, so one with other
/// characters may be read as another name.
fn may_set(line: &Line, name: &str) -> bool {
    match &line.body {
        Body::Comment(_) => false,
        Body::Verbatim(_) => true,
        Body::Setting { name: written, .. } => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
            written.eq_ignore_ascii_case(name) || !written.bytes().all(is_plain)
        }
    }
}

fn as_written(value: &Value) -> String {
    match value {
        Value::Quoted(value) | Value::Raw(value) => value.expose().clone(),
    }
}

/// An entry that is not a setting.
fn is_include(name: &str) -> bool {
    ["include", "include_if_exists", "include_dir"].iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// Marks the state of each entry. The later entry wins; case is ignored.
fn mark(settings: &mut [EffectiveSetting]) {
    let mut seen = HashSet::new();
    for setting in settings.iter_mut().rev() {
        if is_include(&setting.name) {
            setting.state = SettingState::Include;
        } else if setting.state == SettingState::InForce
            && !seen.insert(setting.name.to_ascii_lowercase())
        {
            setting.state = SettingState::Overridden;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts() {
        let mut conf = ConfFile::default();
        let base = "a = 1 # x\n\nInclude = 'f'\nb.c='x''y'".to_owned();
        conf.push(Origin::BaseText, Body::Verbatim(Secret::new(base)));
        conf.comment(Origin::Program, "# a = 2");
        conf.quoted(Origin::Program, "A", "x\ny");
        conf.raw(Origin::SpecList, "d", "it's");
        conf.raw(Origin::SpecList, "a", "3");
        conf.raw(Origin::SpecList, "d", "4");
        let settings = conf.settings();
        let settings: Vec<_> = settings
            .iter()
            .map(|s| (s.origin, s.name.as_str(), s.value.expose().as_str(), s.state))
            .collect();
        use Origin::{BaseText, Program, SpecList};
        use SettingState::{InForce, Include, Overridden, Unreadable};
        assert_eq!(
            settings,
            [
                (BaseText, "a", "1", Overridden),
                (BaseText, "Include", "f", Include),
                (BaseText, "b.c", "x'y", InForce),
                (Program, "A", "x\ny", Overridden),
                (SpecList, "d", "it's", Unreadable),
                (SpecList, "a", "3", InForce),
                (SpecList, "d", "4", InForce),
            ]
        );
    }

    /// Reading only the lines that may set the name gives what reading all gives.
    #[test]
    fn one_value_is_the_one_in_force_of_all() {
        let mut conf = ConfFile::default();
        let base = "a = 1\nb = 2\ninclude = 'f'\nb = 3\nverbatim.only = 4".to_owned();
        conf.push(Origin::BaseText, Body::Verbatim(Secret::new(base)));
        conf.quoted(Origin::Program, "A", "5");
        conf.raw(Origin::SpecList, "a", "it's");
        // Names that are not read as they are written.
        conf.raw(Origin::SpecList, " b", "6");
        conf.raw(Origin::SpecList, "c = 7 #", "8");
        conf.raw(Origin::SpecList, "#d", "9");
        let settings = conf.settings();
        for name in ["a", "B", "b", "c", "d", "#d", "c = 7 #", "include", "verbatim.only", "none"] {
            let mut all = settings.iter().filter(|s| s.state == SettingState::InForce);
            let expected = all.rfind(|s| s.name.eq_ignore_ascii_case(name));
            let expected = expected.map(|setting| setting.value.expose().clone());
            let value = conf.value_in_force(name).map(|value| value.expose().clone());
            assert_eq!(value, expected, "{name}");
        }
        let value = |name| conf.value_in_force(name).map(|value| value.expose().clone());
        assert_eq!(value("b"), Some("3".to_owned()));
        assert_eq!(value("verbatim.only"), Some("4".to_owned()));
    }
}
