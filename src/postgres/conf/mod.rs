//! `postgresql.conf` as a value (04 §3).
//!
//! A spec becomes a list of lines in the fixed order of 04 §3.2 ([`ConfFile::build`]), then the
//! list becomes text in one place ([`ConfFile::render`]), and only then is a file written
//! ([`super::files::write_conf`]). So a spec is refused while the old file is still in place. In
//! Postgres the later line wins; the order is therefore the contract.

mod audit;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod lexer;
mod read;
mod render;
mod rows;
mod settings;

pub use read::{apply_concurrency, max_connections, parse_line};
pub use read::{preload_libraries, preload_texts, split_libraries};
pub use render::literal;
pub use settings::{EffectiveSetting, SettingState};

use thiserror::Error;

use crate::secret::Secret;
use crate::spec::pageserver::PageserverInfoError;
use lexer::{SyntaxError, TextError};

/// First line of the file. It also identifies a data directory whose preparation was interrupted,
/// and distinguishes it from a directory of another owner.
pub const CONF_HEADING: &str =
    "# Managed by compute_ctl: rewritten at every start and reconfiguration.";

/// Included as the last line; lies in PGDATA beside `postgresql.conf` (04 §3.7).
pub const TEMP_OVERRIDE_FILE: &str = "compute_ctl_temp_override.conf";

/// Keeps inherited logical replication subscriptions from running (04 §3.4).
pub const SUBSCRIBERS_SETTING: &str = "neon.disable_logical_replication_subscribers";

/// The exact line that enables subscriptions (04 §3.4).
pub const SUBSCRIBERS_ON_LINE: &str = "neon.disable_logical_replication_subscribers=false";

/// Inputs for the file besides the spec.
#[derive(Debug, Clone, Copy)]
pub struct ConfInputs<'a> {
    /// Value of `--privileged-role-name`.
    pub privileged_role_name: &'a str,
    /// Port of the internal HTTP server, which the extension calls.
    pub internal_http_port: u16,
    /// Whether the kernel refuses to overcommit memory ([`super::files::overcommit_is_strict`]).
    pub overcommit_strict: bool,
    /// Whether TLS is active ([`crate::tls::is_active`]).
    pub tls: bool,
    /// Lakebase mode: the port of `--connstr`, on which Postgres must listen (04 §16).
    pub lakebase_port: Option<u16>,
}

/// Source of a line. It decides the blanks around `=`, and shows which lines may override others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From `cluster.postgresql_conf`; weakest.
    BaseText,
    /// Derived from members of the spec; the settings list may override it.
    Program,
    /// From `cluster.settings`.
    SpecList,
    /// Written by the program after the settings list, which cannot override it.
    Appended,
    /// The include of [`TEMP_OVERRIDE_FILE`]; last.
    Override,
}

/// One entry of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Source of the entry.
    pub origin: Origin,
    /// Content of the entry.
    pub body: Body,
}

/// Content of a [`Line`]. Values may hold passwords and tokens, so `Debug` does not print them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Lines of the base text, copied unchanged.
    Verbatim(Secret<String>),
    /// A comment for the reader; an empty text without `#` is an empty line.
    Comment(&'static str),
    /// One setting.
    Setting {
        /// Name of the GUC, written unchanged.
        name: String,
        /// Its value.
        value: Value,
    },
}

/// The right side of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Written as a configuration literal (02 §8.6).
    Quoted(Secret<String>),
    /// Written unchanged (02 §8.4, every `vartype` but `string`).
    Raw(Secret<String>),
}

/// The whole file as a list of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfFile {
    lines: Vec<Line>,
    remarks: Vec<String>,
    unreadable: Vec<Unreadable>,
}

/// An entry of the settings list that is written as documented (02 §8.4: values of a type other
/// than `string` are written unchanged) but that Postgres cannot read. Postgres then refuses the
/// whole file.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error(
    "setting {name} is written as the spec has it and cannot be read: {error}; Postgres will refuse \
     its configuration"
)]
pub struct Unreadable {
    /// Name of the setting.
    pub name: String,
    /// The syntax error that Postgres will report.
    pub error: SyntaxError,
}

impl ConfFile {
    /// The lines in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Log messages about entries that are written as documented but will not have the effect that
    /// their author may expect.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Entries that make Postgres refuse the file; each is also among the remarks.
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    fn push(&mut self, origin: Origin, body: Body) {
        self.lines.push(Line { origin, body });
    }

    fn comment(&mut self, origin: Origin, text: &'static str) {
        self.push(origin, Body::Comment(text));
    }

    fn quoted(&mut self, origin: Origin, name: &str, value: impl Into<String>) {
        let value = Value::Quoted(Secret::new(value.into()));
        self.push(origin, Body::Setting { name: name.to_owned(), value });
    }

    fn raw(&mut self, origin: Origin, name: &str, value: impl Into<String>) {
        let value = Value::Raw(Secret::new(value.into()));
        self.push(origin, Body::Setting { name: name.to_owned(), value });
    }
}

/// A spec that has no `postgresql.conf`. No text repeats a value.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ConfError {
    /// The name is not valid in a file, or would split into several lines (02 W7, 04 W11).
    #[error(
        "{0:?} in cluster.settings is not the name of a setting: a word of letters, digits and \
         underscores, or two with a dot in between"
    )]
    BadName(String),
    /// The value is not valid in a file.
    #[error("the value of setting {0} holds a NUL byte")]
    NulInValue(String),
    /// The value is written unchanged and would split into several lines (02 W7).
    #[error(
        "the value of setting {0} holds a control character, which only values of vartype \
         `string` can"
    )]
    ControlInRawValue(String),
    /// Postgres would refuse the base text.
    #[error("cluster.postgresql_conf, {0}")]
    BaseText(TextError),
    /// The map lacks a shard.
    #[error(transparent)]
    Pageserver(#[from] PageserverInfoError),
    /// The value exceeds a limit of the extension (04 §4, W13).
    #[error("setting {setting}: {what} {count}, the limit of the neon extension is {limit}")]
    Limit {
        /// Name of the setting.
        setting: &'static str,
        /// Unit of the count.
        what: &'static str,
        /// Count in the spec.
        count: usize,
        /// Largest allowed count.
        limit: usize,
    },
}
