//! Properties of every reader of outside data, for any bytes: `fuzz/` runs them on generated inputs,
//! and [`corpus`] on the committed ones.
//!
//! The module exists in fuzzing and in unit tests only. Each room has its properties in a file
//! `fuzzing.rs`, beside the code that they are about. A property that does not hold panics.

#[cfg(test)]
mod corpus;
mod server;

pub(crate) use server::Server;

/// Defines the targets: the name, what it reads and whose property it is.
macro_rules! targets {
    ($($(#[$doc:meta])+ $name:ident = $property:path;)+) => {
        $($(#[$doc])+ pub fn $name(data: &[u8]) { $property(data); })+

        /// All targets, by name.
        pub const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name)),+];
    };
}

targets! {
    /// A configuration file (02 D1).
    config = crate::spec::fuzzing::config;
    /// A bare spec, up to the text of `postgresql.conf`.
    spec = crate::postgres::conf::fuzzing::spec;
    /// `libpq_url` of a pageserver.
    libpq_url = crate::spec::fuzzing::libpq_url;
    /// Ids, LSNs, shard indexes, `host:port`, `grpc_url`.
    scalars = crate::spec::fuzzing::scalars;
    /// A text in the syntax of `postgresql.conf`.
    conf_text = crate::postgres::conf::fuzzing::text;
    /// Base text and settings, rendered.
    conf_file = crate::postgres::conf::fuzzing::file;
    /// The lines of Postgres' log, joined to messages.
    log_joiner = crate::postgres::fuzzing::log_joiner;
    /// A message of Postgres' log as a JSON record.
    log_record = crate::telemetry::fuzzing::log_record;
    /// Foreign text in the log.
    shown = crate::telemetry::fuzzing::shown;
    /// Headers: `Retry-After`, trace context; durations, tokens.
    headers = crate::telemetry::traces::fuzzing::headers;
    /// An INI file and settings for it.
    ini = crate::sidecars::fuzzing::ini;
    /// Strings in the configuration of rsyslogd.
    rsyslog = crate::sidecars::fuzzing::rsyslog;
    /// A tar of a pageserver.
    tar = crate::storage::fuzzing::tar;
    /// The records of an extended header of a tar.
    pax = crate::storage::fuzzing::pax;
    /// A gzip stream.
    gzip = crate::storage::fuzzing::gzip;
    /// What a pageserver sends over libpq.
    libpq_messages = crate::storage::fuzzing::libpq_messages;
    /// What a pageserver sends over gRPC.
    grpc_frames = crate::storage::fuzzing::grpc_frames;
    /// What Postgres sends to a session of the program.
    pg_messages = crate::sql::fuzzing::pg_messages;
    /// Texts that become names, literals and options.
    sql_text = crate::sql::fuzzing::text;
    /// Options of roles and databases.
    pg_options = crate::catalog::fuzzing::pg_options;
    /// Header, claims and signature of a token.
    jwt = crate::http::fuzzing::jwt;
    /// Messages of the agent to the VM monitor.
    vm_monitor = crate::vm_monitor::fuzzing::message;
    /// Index of the extensions, and the name in a request.
    extension_index = crate::services::extensions::fuzzing::index;
    /// An archive of an extension.
    extension_archive = crate::services::extensions::fuzzing::archive;
    /// Names of files in Postgres' folders.
    remains = crate::services::extensions::fuzzing::remains;
}

/// Cuts bytes into pieces of 1 to `longest` bytes, in a way that `seed` decides.
pub(crate) fn pieces(data: &[u8], longest: usize, seed: u8) -> Vec<&[u8]> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut rest = data;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let length = 1 + usize::try_from(state % 1024).unwrap_or_default() % longest;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The first byte, and the others; 0 for no byte at all.
pub(crate) fn seeded(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// The first `N` lines, and the rest with its line feeds; missing ones are empty. `None` for bytes
/// that are not UTF-8.
pub(crate) fn lines<const N: usize>(data: &[u8]) -> Option<([&str; N], &str)> {
    let mut rest = std::str::from_utf8(data).ok()?;
    let lines = [(); N].map(|()| {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        line
    });
    Some((lines, rest))
}
