//! The settings of `postgresql.conf` as a readable table.

use std::fmt::Write;

use super::redact::{shown, without_secrets};
use super::restart::{Mark, ServerSettings};
use crate::postgres::conf::{EffectiveSetting, Origin, SettingState};

const fn label(origin: Origin) -> &'static str {
    match origin {
        Origin::BaseText => "base text",
        Origin::Program => "program",
        Origin::SpecList => "spec list",
        Origin::Appended => "appended",
        Origin::Override => "override",
    }
}

/// One line per setting, in file order: origin, setting, and the remark on it.
pub(super) fn table(settings: &[EffectiveSetting], server: Option<&ServerSettings>) -> String {
    let mut text =
        "postgresql.conf (of several settings of one name the last one counts):\n".to_owned();
    for setting in settings {
        let (name, value) = (&setting.name, setting.value.expose());
        let right_side = match setting.state {
            SettingState::Unreadable if value.is_empty() => String::new(),
            SettingState::Unreadable => format!(" = {}", without_secrets(name, value)),
            _ => format!(" = {}", shown(name, value)),
        };
        let mark = match setting.state {
            SettingState::Include => String::new(),
            SettingState::Overridden => "  (overridden)".to_owned(),
            SettingState::Unreadable => "  (Postgres refuses this)".to_owned(),
            SettingState::InForce => {
                let mark = server.and_then(|server| server.mark(name, setting.value.expose()));
                mark.map(|mark| format!("  ({})", words(name, &mark))).unwrap_or_default()
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {:<9}  {name}{right_side}{mark}", label(setting.origin));
    }
    text
}

fn words(name: &str, mark: &Mark) -> String {
    match mark {
        Mark::NeedsRestart { current } => {
            format!("needs a restart, the server has {}", shown(name, current))
        }
        Mark::Refused => "the server does not take this value".to_owned(),
        Mark::Unknown => "the server does not know this setting".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn rows() {
        let row = |origin, name: &str, value: &str, state| EffectiveSetting {
            origin,
            name: name.to_owned(),
            value: Secret::new(value.to_owned()),
            state,
        };
        let settings = [
            row(Origin::BaseText, "port", "1", SettingState::Overridden),
            row(Origin::Program, "neon.x", "postgres://u:pw@h", SettingState::InForce),
            row(Origin::SpecList, "port", "2 x", SettingState::Unreadable),
            row(Origin::SpecList, "fsync", "", SettingState::Unreadable),
            row(Origin::Override, "include_if_exists", "f", SettingState::Include),
        ];
        let expected = "postgresql.conf (of several settings of one name the last one counts):\n\
            \x20 base text  port = 1  (overridden)\n\
            \x20 program    neon.x = 'postgres://u:[secret]@h'\n\
            \x20 spec list  port = 2 x  (Postgres refuses this)\n\
            \x20 spec list  fsync  (Postgres refuses this)\n\
            \x20 override   include_if_exists = f\n";
        assert_eq!(table(&settings, None), expected);
    }
}
