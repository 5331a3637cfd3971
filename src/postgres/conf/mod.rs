//! `postgresql.conf` as a value (04 §3).
//!
//! A spec becomes a list of lines in the fixed order of 04 §3.2 ([`ConfFile::build`]), the list
//! becomes text in one place ([`ConfFile::render`]), and only then is a file touched
//! ([`super::files::write_conf`]). So everything that can be refused is refused while the old file
//! still stands. In Postgres the later line wins; the order is therefore the contract.

mod audit;
pub mod lexer;
mod read;
mod render;
mod rows;
mod settings;

pub use read::{apply_concurrency, max_connections, parse_line, preload_libraries, preload_texts};
pub use render::literal;
pub use settings::{EffectiveSetting, SettingState};

use thiserror::Error;

use crate::secret::Secret;
use crate::spec::pageserver::PageserverInfoError;
use lexer::{SyntaxError, TextError};

/// First line of the file. It is also how a data directory whose preparation was cut short is told
/// from a directory that belongs to somebody else.
pub const CONF_HEADING: &str =
    "# Managed by compute_ctl: rewritten at every start and reconfiguration.";

/// Included as the last line; lies in PGDATA beside `postgresql.conf` (04 §3.7).
pub const TEMP_OVERRIDE_FILE: &str = "compute_ctl_temp_override.conf";

/// Keeps inherited logical replication subscriptions from running (04 §3.4).
pub const SUBSCRIBERS_SETTING: &str = "neon.disable_logical_replication_subscribers";

/// The exact line that lets subscriptions run (04 §3.4).
pub const SUBSCRIBERS_ON_LINE: &str = "neon.disable_logical_replication_subscribers=false";

/// What the file needs besides the spec.
#[derive(Debug, Clone, Copy)]
pub struct ConfInputs<'a> {
    /// Value of `--privileged-role-name`.
    pub privileged_role_name: &'a str,
    /// Port of the internal HTTP server, which the extension calls.
    pub internal_http_port: u16,
    /// Whether the kernel refuses to overcommit memory
    /// ([`super::files::overcommit_is_strict`]).
    pub overcommit_strict: bool,
    /// Whether TLS is active ([`crate::tls::is_active`]).
    pub tls: bool,
    /// Lakebase mode: the port of `--connstr`, on which Postgres has to listen (04 §16).
    pub lakebase_port: Option<u16>,
}

/// Where a line comes from. It decides the blanks around `=`, and tells a reader of the list who
/// may override whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `cluster.postgresql_conf`; weakest.
    BaseText,
    /// Derived from members of the spec; the settings list may override it.
    Program,
    /// `cluster.settings`.
    SpecList,
    /// Written by the program after the settings list, which must not override it.
    Appended,
    /// The include of [`TEMP_OVERRIDE_FILE`]; last.
    Override,
}

/// One entry of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who put it there.
    pub origin: Origin,
    /// What it says.
    pub body: Body,
}

/// What a [`Line`] says. Values may hold passwords and tokens, so none of them can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Lines of somebody else, passed on as they are.
    Verbatim(Secret<String>),
    /// For human readers; without the leading `#` an empty text is an empty line.
    Comment(&'static str),
    /// One setting.
    Setting {
        /// Name of the GUC, written as it is.
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
    /// Written as it is (02 §8.4, every `vartype` but `string`).
    Raw(Secret<String>),
    /// Nothing but the name is written (02 §8.4, value null). Postgres refuses such a line.
    Missing,
}

/// The whole file as a list of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfFile {
    lines: Vec<Line>,
    remarks: Vec<String>,
    unreadable: Vec<Unreadable>,
}

/// An entry of the settings list that is written as documented (02 §8.4: what is no `string` goes
/// out as it is) and that Postgres will not read. It then refuses the whole file.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error(
    "setting {name} is written as the spec has it and cannot be read: {error}; Postgres will refuse \
     its configuration"
)]
pub struct Unreadable {
    /// The setting.
    pub name: String,
    /// What Postgres will stumble over.
    pub error: SyntaxError,
}

impl ConfFile {
    /// The lines in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Sentences for the log about things that are written as documented but will not do what
    /// their sender may expect.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Entries that will keep Postgres from reading the file; each is among the remarks too.
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

/// Why there can be no `postgresql.conf` for a spec. No text repeats a value.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ConfError {
    /// A name that no file can hold, or that would become more than one line (02 W7, 04 W11).
    #[error(
        "{0:?} in cluster.settings is not the name of a setting: a word of letters, digits and \
         underscores, or two with a dot in between"
    )]
    BadName(String),
    /// A value that no file can hold.
    #[error("the value of setting {0} holds a NUL byte")]
    NulInValue(String),
    /// A value that is written as it is and would become more than one line (02 W7).
    #[error(
        "the value of setting {0} holds a control character, which only values of vartype \
         `string` can"
    )]
    ControlInRawValue(String),
    /// Postgres would refuse the file.
    #[error("cluster.postgresql_conf, {0}")]
    BaseText(TextError),
    /// A shard is not described.
    #[error(transparent)]
    Pageserver(#[from] PageserverInfoError),
    /// More than the extension can hold (04 §4, W13).
    #[error("setting {setting}: {what} {count}, the limit of the neon extension is {limit}")]
    Limit {
        /// The setting.
        setting: &'static str,
        /// What is counted.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}
