//! The effective settings: every setting of the file, and which line of each name counts.

use std::collections::HashSet;

use super::lexer::{read_line, read_text};
use super::render::render_line;
use super::{Body, ConfFile, Origin, Value};
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
        let mut settings = Vec::new();
        for line in &self.lines {
            let mut push = |name: &str, value: String, state| {
                let (origin, name) = (line.origin, name.to_owned());
                settings.push(EffectiveSetting { origin, name, value: Secret::new(value), state });
            };
            match &line.body {
                Body::Comment(_) => {}
                Body::Verbatim(text) => {
                    for (name, value) in read_text(text.expose()).unwrap_or_default() {
                        push(name, value, SettingState::InForce);
                    }
                }
                Body::Setting { name, value } => {
                    let mut text = String::new();
                    let rendered = render_line(line, &mut text);
                    match (rendered, read_line(&text)) {
                        (Ok(()), Ok(Some((name, value)))) => {
                            push(name, value, SettingState::InForce);
                        }
                        _ => push(name, as_written(value), SettingState::Unreadable),
                    }
                }
            }
        }
        mark(&mut settings);
        settings
    }
}

fn as_written(value: &Value) -> String {
    match value {
        Value::Quoted(value) | Value::Raw(value) => value.expose().clone(),
    }
}

impl ConfFile {
    /// The value that Postgres uses, if the file has one.
    pub fn value_in_force(&self, name: &str) -> Option<Secret<String>> {
        let settings = self.settings().into_iter();
        let mut named = settings.filter(|setting| setting.name.eq_ignore_ascii_case(name));
        named.find(|setting| setting.state == SettingState::InForce).map(|setting| setting.value)
    }
}

/// Marks the state of each entry. The later entry wins; case is ignored.
fn mark(settings: &mut [EffectiveSetting]) {
    let mut seen = HashSet::new();
    for setting in settings.iter_mut().rev() {
        let name = setting.name.to_ascii_lowercase();
        if ["include", "include_if_exists", "include_dir"].contains(&name.as_str()) {
            setting.state = SettingState::Include;
        } else if setting.state == SettingState::InForce && !seen.insert(name) {
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
}
