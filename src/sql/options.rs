//! The settings that every session of ours starts with (05 §3.1, weaknesses 6 and 10).
//!
//! Settings attached to databases and roles are in force before the first statement of a session,
//! and some of them end the session before that. Start-up options outrank all of them. They come
//! in three groups: those that any login may set, those that need a superuser, and those that only
//! sessions that change catalogs need. A setting is listed if some value of it breaks, redirects,
//! delays or publishes our statements. A setting that merely costs time or changes plans is not,
//! unless it can cost very much.

use crate::postgres::install::PgVersion;

/// The role that all sessions have, a superuser.
pub(super) const ADMIN: &str = "cloud_admin";

/// Name and value of a setting.
type Setting = (&'static str, &'static str);
/// Settings, and the first version that has them: an older server refuses a session that names
/// them.
type Settings = (PgVersion, &'static [Setting]);

/// Settings that any login may set.
const ANY_LOGIN: &[Settings] = &[
    (PgVersion::V14, ANY_LOGIN_14),
    (PgVersion::V16, ANY_LOGIN_16),
    (PgVersion::V17, ANY_LOGIN_17),
];

/// The empty value: only `pg_catalog` is visible. Two quote characters would name a schema, which
/// a tenant can create (05 §3.1).
const SEARCH_PATH: Setting = ("search_path", "");
/// Ordinary triggers, rules and event triggers of tenants do not fire ([`crate::catalog::trust`]).
const REPLICATION_ROLE: Setting = ("session_replication_role", "replica");
/// Settings that the options of `--connstr` cannot change: they are repeated after those.
const FIXED: [Setting; 2] = [SEARCH_PATH, REPLICATION_ROLE];

/// The first three follow `role` in the documented order.
const ANY_LOGIN_14: &[Setting] = &[
    ("default_transaction_read_only", "off"),
    SEARCH_PATH,
    // We have our own deadlines, whose errors say what the statement waited for.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("tcp_user_timeout", "0"),
    // A statement that we no longer wait for, because we have given it up or died, must not change
    // anything later, when the lock that it waits for is free.
    ("client_connection_check_interval", "1s"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // A change that is reported as done must survive the compute: the commit waits for the
    // safekeepers (`off` and `local` would not), but not for a replica to replay it
    // (`remote_apply`). Where a synchronous standby is missing the wait ends with our deadline:
    // the cancelled change stays committed on this server, and the error says that no answer came.
    ("synchronous_commit", "on"),
    // Expected errors must not end the session.
    ("exit_on_error", "off"),
    // A missing library would end the session before it begins.
    ("local_preload_libraries", ""),
    ("default_tablespace", ""),
    ("temp_tablespaces", ""),
    ("default_table_access_method", "heap"),
    // These change how statements are read and answers are written.
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("bytea_output", "hex"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    // Our sessions discard notices.
    ("client_min_messages", "warning"),
    // `all` turns harmless constructs in anonymous blocks into errors.
    ("plpgsql.extra_errors", "none"),
    // With thresholds of 0 both make a catalog query take seconds.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
];

const ANY_LOGIN_16: &[Setting] = &[
    // The server hashes a password that is not a hash, with 2^31 rounds if a user sets that.
    ("scram_iterations", "4096"),
    ("icu_validation_level", "warning"),
];

const ANY_LOGIN_17: &[Setting] = &[("transaction_timeout", "0")];

/// Settings that need a superuser.
const SUPERUSER: &[Setting] = &[
    ("pgaudit.log", "none"),
    ("session_preload_libraries", ""),
    REPLICATION_ROLE,
    ("plpgsql.variable_conflict", "error"),
];

/// For sessions that change catalogs; after the operator's own options, which must not override
/// them.
const MAINTENANCE: &[Settings] =
    &[(PgVersion::V14, MAINTENANCE_14), (PgVersion::V17, MAINTENANCE_17)];

const MAINTENANCE_14: &[Setting] = &[
    // Statements may hold password verifiers, so the server must not log them.
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("log_min_duration_sample", "-1"),
    ("log_transaction_sample_rate", "0"),
    ("log_min_error_statement", "panic"),
    ("debug_print_parse", "off"),
    ("debug_print_rewritten", "off"),
    ("debug_print_plan", "off"),
    ("pg_stat_statements.track_utility", "off"),
];

/// Users' event triggers must not affect the operations of the spec. Migrations do not use this:
/// their failures are reported, and the next start does the rest.
const MAINTENANCE_17: &[Setting] = &[("event_triggers", "off")];

/// Replaces the value 0 (05 §22).
const STATEMENT_LIMIT: Setting = ("statement_timeout", "2min");

/// The extension must not report changes to the control plane that the control plane itself
/// ordered. Set after all options of the operator.
const FORWARDING: Setting = ("neon.forward_ddl", "false");

/// For sessions that only read; the last option of all.
const READ_ONLY: Setting = ("default_transaction_read_only", "on");

/// Determines the settings that one session starts with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hardening<'a> {
    /// The login. A database can have `session_authorization` set, which would replace it.
    pub user: Option<&'a str>,
    /// Role of the session: `cloud_admin`, except where it does not exist yet.
    pub role: &'a str,
    /// Version of the server, which decides the settings it has.
    pub version: PgVersion,
    /// Whether the session changes catalogs.
    pub maintenance: bool,
    /// Whether the server ends statements after [`STATEMENT_LIMIT`].
    pub statement_limit: bool,
    /// Whether the server refuses statements that write.
    pub read_only: bool,
}

impl Hardening<'_> {
    /// The text of the start-up parameter `options`. `own` has the options of the operator.
    pub(super) fn startup_options(&self, own: Option<&str>) -> String {
        let mut words = self.for_any_login();
        words.extend(SUPERUSER.iter().copied().map(option));
        if let Some(own) = own {
            words.push(own.to_owned());
            words.extend(FIXED.map(option));
        }
        words.extend(self.for_maintenance().map(option));
        words.join(" ")
    }

    /// Like [`Self::startup_options`], for a login that is not a superuser but a member of the
    /// role: the options that it may set, and a message that sets the others once the role is in
    /// force.
    pub(super) fn in_two_steps(&self, own: Option<&str>) -> (String, String) {
        let mut words = self.for_any_login();
        if let Some(own) = own {
            words.extend([own.to_owned(), option(SEARCH_PATH)]);
        }
        let later: Vec<String> = SUPERUSER
            .iter()
            .copied()
            .chain(self.for_maintenance())
            .map(|(name, value)| format!("SET {name} = '{value}'"))
            .collect();
        (words.join(" "), later.join("; "))
    }

    fn for_any_login(&self) -> Vec<String> {
        // Setting the login resets the role, so it comes first.
        let login = self.user.map(|user| option(("session_authorization", user)));
        let role = option(("role", self.role));
        let settings = known(self.version, ANY_LOGIN).map(|setting| match setting {
            (name, _) if self.statement_limit && name == STATEMENT_LIMIT.0 => STATEMENT_LIMIT,
            setting => setting,
        });
        login.into_iter().chain([role]).chain(settings.map(option)).collect()
    }

    fn for_maintenance(&self) -> impl Iterator<Item = Setting> {
        let (wanted, read_only) = (self.maintenance, self.read_only);
        let maintenance = known(self.version, MAINTENANCE).chain([FORWARDING]);
        maintenance.filter(move |_| wanted).chain(read_only.then_some(READ_ONLY))
    }
}

/// The options of a client program, such as `pg_dump`, whose login need not be a superuser. They
/// go into `PGOPTIONS`.
pub(crate) fn child_options(version: PgVersion) -> String {
    let role = ADMIN;
    let hardening = Hardening {
        user: None,
        role,
        version,
        maintenance: false,
        statement_limit: false,
        read_only: false,
    };
    let mut words = hardening.for_any_login();
    words.push(option(("pgaudit.log", "none")));
    words.join(" ")
}

/// The settings that a server of this version has.
fn known(version: PgVersion, settings: &'static [Settings]) -> impl Iterator<Item = Setting> {
    let known = settings.iter().filter(move |(since, _)| *since <= version);
    known.flat_map(|(_, settings)| settings.iter().copied())
}

/// One option as the server's word splitter reads it: blanks and backslashes are escaped.
pub(super) fn option((name, value): (&str, &str)) -> String {
    let mut text = format!("-c {name}=");
    for c in value.chars() {
        // The server counts a vertical tab as a blank, Rust does not.
        if c.is_ascii_whitespace() || matches!(c, '\u{b}' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardening(version: PgVersion, maintenance: bool) -> Hardening<'static> {
        let (user, role) = (Some("cloud_admin"), "cloud_admin");
        let (statement_limit, read_only) = (false, false);
        Hardening { user, role, version, maintenance, statement_limit, read_only }
    }

    #[test]
    fn a_limit_takes_the_place_of_none_and_of_nothing_else() {
        let none = hardening(PgVersion::V17, true);
        let limited = Hardening { statement_limit: true, ..none };
        let expected =
            none.startup_options(None).replace("statement_timeout=0", "statement_timeout=2min");
        assert_eq!(limited.startup_options(None), expected);
    }

    #[test]
    fn forwarding_is_last_and_the_operators_options_before_it() {
        let options = hardening(PgVersion::V17, true).startup_options(Some("-c work_mem=1MB"));
        let start = "-c session_authorization=cloud_admin -c role=cloud_admin \
                     -c default_transaction_read_only=off -c search_path= -c statement_timeout=0 ";
        assert!(options.starts_with(start), "{options}");
        assert!(options.ends_with(" -c neon.forward_ddl=false"), "{options}");
        let at = |text: &str| options.find(text).unwrap();
        assert!(at("pgaudit.log") < at("work_mem") && at("work_mem") < at("log_statement"));
        // The operator's options change neither of these.
        for fixed in ["-c search_path= ", "-c session_replication_role=replica "] {
            assert!(options.rfind(fixed).unwrap() > at("work_mem"), "{options}");
        }
    }

    #[test]
    fn forwarding_stays_on_where_no_catalog_is_changed() {
        let options = hardening(PgVersion::V17, false).startup_options(None);
        for name in ["forward_ddl", "log_statement", "event_triggers"] {
            assert!(!options.contains(name), "{options}");
        }
        assert!(options.contains("transaction_timeout=0"));
    }

    #[test]
    fn older_servers_get_no_settings_that_they_do_not_know() {
        for version in [PgVersion::V14, PgVersion::V15, PgVersion::V16] {
            let options = hardening(version, true).startup_options(None);
            for name in [" transaction_timeout", "event_triggers"] {
                assert!(!options.contains(name), "{version} {options}");
            }
            assert_eq!(options.contains("scram_iterations"), version == PgVersion::V16);
        }
    }

    #[test]
    fn a_member_sets_later_what_it_may_not_give() {
        let (options, later) = hardening(PgVersion::V17, true).in_two_steps(Some("-c a.b=1"));
        assert!(options.ends_with("-c a.b=1 -c search_path="), "{options}");
        for name in ["pgaudit", "forward_ddl", "log_statement"] {
            assert!(!options.contains(name) && later.contains(name), "{options} / {later}");
        }
        assert!(later.ends_with("; SET neon.forward_ddl = 'false'"), "{later}");
    }

    /// A client program does what its caller asks for, as the role of the program, and nothing of it
    /// is audited.
    #[test]
    fn a_client_program_gets_the_role_and_what_is_for_any_login() {
        let options = child_options(PgVersion::V17);
        let role = option(("role", ADMIN));
        for part in [&role, "-c search_path=", "-c transaction_timeout=0", "-c pgaudit.log=none"] {
            assert!(options.contains(part), "{part} in {options}");
        }
        assert!(
            !options.contains("log_statement") && !options.contains("forward_ddl"),
            "{options}"
        );
    }

    #[test]
    fn nothing_lets_a_session_that_only_looks_write() {
        let own = Some("-c default_transaction_read_only=off");
        let looks = Hardening { read_only: true, ..hardening(PgVersion::V17, true) };
        let options = looks.startup_options(own);
        assert!(options.ends_with(" -c default_transaction_read_only=on"), "{options}");
        let (_, later) = looks.in_two_steps(own);
        assert!(later.ends_with("; SET default_transaction_read_only = 'on'"), "{later}");
    }

    #[test]
    fn blanks_and_backslashes_are_escaped() {
        assert_eq!(option(("a", r"b c\d")), r"-c a=b\ c\\d");
        assert_eq!(option(("a", "b\u{b}c\u{c}d")), "-c a=b\\\u{b}c\\\u{c}d");
        assert_eq!(option(("a", "")), "-c a=");
    }
}
