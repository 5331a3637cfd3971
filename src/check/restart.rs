//! Finds the settings that would need a restart of a running server: reads the server's values, and
//! compares those that only a start can change.

use std::collections::HashMap;

use anyhow::Context;
use tokio_postgres::Config;

use super::units;
use crate::sql::{Session, SessionConfig, SessionDeadlines};
use crate::timeouts::Timeouts;

/// `current_setting` gives values with readable units.
const QUERY: &str = "SELECT name, setting, unit, context, vartype, \
     pg_catalog.current_setting(name, true) FROM pg_catalog.pg_settings";

/// Values that stand for another one, which the server computes at its start.
const AUTOMATIC: [(&str, &str); 1] = [("wal_buffers", "-1")];

/// A setting in the server.
#[derive(Debug, Clone)]
struct ServerSetting {
    value: String,
    unit: Option<String>,
    context: String,
    vartype: String,
    shown: String,
}

/// A remark on a setting of the new file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// The value takes effect only after a restart.
    NeedsRestart {
        /// The server's present value.
        current: String,
    },
    /// The value does not have the setting's type.
    Refused,
    /// The server does not know the setting, and its name is not that of an extension's setting.
    Unknown,
}

/// All settings that the session may read, by lower-case name.
#[derive(Debug, Default)]
pub(super) struct ServerSettings(HashMap<String, ServerSetting>);

impl ServerSettings {
    /// Reads the settings of a running server. No error shows the connection string.
    pub(super) async fn ask(connstr: &str, timeouts: &Timeouts) -> anyhow::Result<Self> {
        let mut config: Config =
            connstr.parse().context("--connstr is not a Postgres connection string")?;
        config.application_name("compute_ctl:check");
        let deadlines = SessionDeadlines { statement: timeouts.postgres.helper, ..timeouts.sql };
        let session = Session::connect(&SessionConfig::plain(config), deadlines).await?;
        let rows = session.query(QUERY).await?;
        let settings = rows.iter().map(|row| {
            let text = |at: usize| row.try_get(at).ok().flatten();
            let owned = |at: usize| text(at).unwrap_or_default().to_owned();
            let setting = ServerSetting {
                value: owned(1),
                unit: text(2).map(str::to_owned),
                context: owned(3),
                vartype: owned(4),
                shown: owned(5),
            };
            (owned(0).to_ascii_lowercase(), setting)
        });
        Ok(Self(settings.collect()))
    }

    /// The remark on a setting in force, if there is one.
    pub(super) fn mark(&self, name: &str, value: &str) -> Option<Mark> {
        let name = name.to_ascii_lowercase();
        let Some(server) = self.0.get(&name) else {
            return (!name.contains('.')).then_some(Mark::Unknown);
        };
        match units::same(&server.vartype, server.unit.as_deref(), value, &server.value) {
            None => Some(Mark::Refused),
            Some(false)
                if server.context == "postmaster"
                    && !AUTOMATIC.contains(&(name.as_str(), value)) =>
            {
                Some(Mark::NeedsRestart { current: server.shown.clone() })
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerSettings {
        let setting = |value: &str, unit: Option<&str>, context: &str, vartype: &str| {
            let (value, vartype) = (value.to_owned(), vartype.to_owned());
            let (unit, context) = (unit.map(str::to_owned), context.to_owned());
            ServerSetting { shown: format!("{value}!"), value, unit, context, vartype }
        };
        let settings = [
            ("shared_buffers", setting("16384", Some("8kB"), "postmaster", "integer")),
            ("max_connections", setting("100", None, "postmaster", "integer")),
            ("work_mem", setting("4096", Some("kB"), "user", "integer")),
            ("wal_buffers", setting("512", Some("8kB"), "postmaster", "integer")),
        ];
        ServerSettings(settings.map(|(name, setting)| (name.to_owned(), setting)).into())
    }

    #[test]
    fn only_settings_that_need_a_start_are_marked() {
        let needs = |current: &str| Some(Mark::NeedsRestart { current: current.to_owned() });
        for (name, value, mark) in [
            ("shared_buffers", "128MB", None),
            ("Shared_Buffers", "1GB", needs("16384!")),
            ("max_connections", "100", None),
            ("max_connections", "0x64", None),
            ("max_connections", "101", needs("100!")),
            ("max_connections", "many", Some(Mark::Refused)),
            ("work_mem", "1GB", None),
            ("work_mem", "1XB", Some(Mark::Refused)),
            ("wal_buffers", "-1", None),
            ("wal_buffers", "8MB", needs("512!")),
            ("no_such_setting", "1", Some(Mark::Unknown)),
            ("app.x", "1", None),
        ] {
            assert_eq!(server().mark(name, value), mark, "{name} {value}");
        }
    }
}
