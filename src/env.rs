//! All environment variables that the program reads, each read once.
//!
//! | Variable | Meaning |
//! |---|---|
//! | `AUTOSCALING` | set, with any value: the compute is a virtual machine (01 §2) |
//! | `INSTANCE_ID` | which instance this is, in Lakebase mode (01 §26) |
//! | `NEON_CONTROL_PLANE_TOKEN` | token for the control plane (09 §1) |
//! | `PGBOUNCER_PASSWORD` | password for pgbouncer's console (04 §13) |
//! | `NEON_CONTROL_PLANE_TOKEN_FILE`, `PGBOUNCER_PASSWORD_FILE`, `OTEL_EXPORTER_OTLP_HEADERS_FILE`, `OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE` | file with the secret, in place of the variable without `_FILE` |
//! | `AUDIT_LOGGING_ENDPOINT`, `AUDIT_LOGGING_TLS_ENDPOINT` | collectors of audit records (04 §13) |
//! | `COMPUTE_CTL_LOG_DIRECTORY` | log files of Lakebase mode (04 §16) |
//! | `COMPUTE_CTL_CGROUP_ROOT` | where cgroup v2 is mounted, instead of `/sys/fs/cgroup` |
//! | `JOURNAL_STREAM` | set by systemd: device and inode of the stream to journald |
//! | `RUST_LOG` | levels of the log (01 §20.1) |
//! | `OTEL_*`, `TRACEPARENT`, `TRACESTATE` | traces: the standard variables (01 §21) |
//! | `FAILPOINTS`, `NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES` | in testing builds only (01 §23) |
//! | `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID` | the service manager, see `sd_notify(3)` |
//! | `LISTEN_FDS`, `LISTEN_PID` | sockets of the service manager |
//! | `PATH` | where `--pgbin` is looked up |
//! | `COMPUTE_CTL_PG_PATH` | more folders with servers, for `compute_ctl dev` and the tests |
//!
//! Each flag can be given as a variable, too: see [`cli`](crate::cli). [`crate::os::activation`] reads
//! `LISTEN_FDS`, and [`crate::os::secret_files`] the files of `*_FILE`.

mod otel;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

pub use otel::{OTLP_HEADERS, OTLP_TRACES_HEADERS, Otel};

use crate::secret::{self, Secret, UnusableSecret};

/// Beginning of the names of this program's own variables, of flags as well.
pub const PREFIX: &str = "COMPUTE_CTL_";
/// Token for the control plane. Neon's extension reads it in the postmaster, and so does the
/// program that syncs the safekeepers (04 §1, 05 §17, 09 §1).
pub const CONTROL_PLANE_TOKEN: &str = "NEON_CONTROL_PLANE_TOKEN";
/// Password for pgbouncer's console (04 §13), which we open ourselves.
pub const PGBOUNCER_PASSWORD: &str = "PGBOUNCER_PASSWORD";
/// Failpoints of the start: `name=actions;name=actions`.
pub const FAILPOINTS: &str = "FAILPOINTS";
/// Number of retries of a basebackup (01 §2, 06 §3.8).
pub const BASEBACKUP_RETRIES: &str = "NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES";
/// Socket of the service manager.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// Time of the service manager's watchdog, in microseconds.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// The process that the watchdog watches.
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// Where log files of Lakebase mode go.
pub const LOG_DIRECTORY: &str = "COMPUTE_CTL_LOG_DIRECTORY";
/// Form of the log, as `--log-format`.
pub const LOG_FORMAT: &str = "COMPUTE_CTL_LOG_FORMAT";
/// Device and inode of the stream to journald.
pub const JOURNAL_STREAM: &str = "JOURNAL_STREAM";
/// Where cgroup v2 is mounted.
pub const CGROUP_ROOT: &str = "COMPUTE_CTL_CGROUP_ROOT";
/// More folders with servers.
pub const PG_PATH: &str = "COMPUTE_CTL_PG_PATH";

/// The variables that hold a secret, and those that name a file with the secret instead.
pub const SECRETS: [(&str, &str); 4] = [
    (CONTROL_PLANE_TOKEN, "NEON_CONTROL_PLANE_TOKEN_FILE"),
    (PGBOUNCER_PASSWORD, "PGBOUNCER_PASSWORD_FILE"),
    (OTLP_HEADERS, "OTEL_EXPORTER_OTLP_HEADERS_FILE"),
    (OTLP_TRACES_HEADERS, "OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE"),
];

/// Source of variables: the process, or a map in tests.
pub trait Variables {
    /// The value as it is, also if it is empty.
    fn raw(&self, name: &str) -> Option<OsString>;

    /// The value, if the variable is set. An empty one counts as unset: `NAME=${OTHER:-}` in a
    /// container's environment says nothing.
    fn get(&self, name: &str) -> Option<OsString> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// Whether there is a variable with such a name. A source that cannot list its variables says yes.
    fn has_any(&self, _is: impl Fn(&OsStr) -> bool) -> bool {
        true
    }

    /// What an error about the value names.
    fn origin(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// The variables of this process.
#[derive(Debug, Clone, Copy)]
pub struct OfProcess;

impl Variables for OfProcess {
    fn raw(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn has_any(&self, is: impl Fn(&OsStr) -> bool) -> bool {
        std::env::vars_os().any(|(name, _)| is(&name))
    }
}

impl<const N: usize> Variables for [(&str, &str); N] {
    fn raw(&self, name: &str) -> Option<OsString> {
        self.iter().find(|(it, _)| *it == name).map(|(_, value)| value.into())
    }

    fn has_any(&self, is: impl Fn(&OsStr) -> bool) -> bool {
        self.iter().any(|(name, _)| is(OsStr::new(name)))
    }
}

/// The names of the variables of this process that begin with [`PREFIX`].
pub fn own_names() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| is_own(name))
}

/// Whether the name begins with [`PREFIX`].
pub(crate) fn is_own(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// The values of the variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `AUTOSCALING` is set.
    pub autoscaling: bool,
    /// `INSTANCE_ID`; empty if it is unset or not UTF-8.
    pub instance_id: String,
    /// `NEON_CONTROL_PLANE_TOKEN`.
    pub control_plane_token: Option<Secret<String>>,
    /// `PGBOUNCER_PASSWORD`.
    pub pgbouncer_password: Option<Secret<String>>,
    /// `AUDIT_LOGGING_ENDPOINT`; empty if it is unset or not UTF-8.
    pub audit_endpoint: String,
    /// `AUDIT_LOGGING_TLS_ENDPOINT`; empty if it is unset or not UTF-8.
    pub audit_tls_endpoint: String,
    /// `COMPUTE_CTL_LOG_DIRECTORY`.
    pub log_directory: Option<PathBuf>,
    /// `COMPUTE_CTL_CGROUP_ROOT`.
    pub cgroup_root: Option<PathBuf>,
    /// `JOURNAL_STREAM`.
    pub journal_stream: Option<String>,
    /// `RUST_LOG`.
    pub log_filter: Option<String>,
    /// `OTEL_*`, `TRACEPARENT` and `TRACESTATE`.
    pub otel: Otel,
    /// `FAILPOINTS`.
    pub failpoints: Option<String>,
    /// `NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES`.
    pub basebackup_retries: Option<String>,
    /// `NOTIFY_SOCKET`.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`, unless `WATCHDOG_PID` names another process.
    pub watchdog: Option<Duration>,
    /// `PATH`.
    pub path: Option<OsString>,
}

impl Environment {
    /// Reads all variables.
    ///
    /// # Errors
    /// A secret cannot be used; the error names the variable but does not show its value.
    pub fn read(variables: &impl Variables) -> Result<Self, UnusableSecret> {
        let text = |name| variables.get(name).map(|value| value.to_string_lossy().into_owned());
        let utf8 = |name| variables.get(name)?.into_string().ok();
        let secret = |name, read: fn(&str, &str) -> Result<_, _>| {
            let Some(value) = variables.get(name) else { return Ok(None) };
            let origin = variables.origin(name);
            let text =
                value.to_str().ok_or_else(|| UnusableSecret::new(&origin, "is not UTF-8"))?;
            read(&origin, text).map(Some)
        };
        Ok(Self {
            // The one variable that has no value to look at (01 §2).
            autoscaling: variables.raw("AUTOSCALING").is_some(),
            instance_id: utf8("INSTANCE_ID").unwrap_or_default(),
            control_plane_token: secret(CONTROL_PLANE_TOKEN, secret::token)?,
            pgbouncer_password: secret(PGBOUNCER_PASSWORD, secret::password)?,
            audit_endpoint: utf8("AUDIT_LOGGING_ENDPOINT").unwrap_or_default(),
            audit_tls_endpoint: utf8("AUDIT_LOGGING_TLS_ENDPOINT").unwrap_or_default(),
            log_directory: variables.get(LOG_DIRECTORY).map(PathBuf::from),
            cgroup_root: variables.get(CGROUP_ROOT).map(PathBuf::from),
            journal_stream: utf8(JOURNAL_STREAM),
            log_filter: utf8("RUST_LOG"),
            otel: Otel::read(|name| variables.get(name)),
            failpoints: text(FAILPOINTS),
            basebackup_retries: text(BASEBACKUP_RETRIES),
            notify_socket: variables.get(NOTIFY_SOCKET),
            watchdog: watchdog(variables),
            path: variables.get("PATH"),
        })
    }
}

/// Time within which the service manager wants a sign of life of this process.
fn watchdog(variables: &impl Variables) -> Option<Duration> {
    let number = |name| variables.get(name)?.into_string().ok()?.parse::<u64>().ok();
    let others = number(WATCHDOG_PID).is_some_and(|pid| pid != u64::from(std::process::id()));
    let limit = number(WATCHDOG_USEC).filter(|limit| *limit > 0 && !others)?;
    Some(Duration::from_micros(limit))
}

/// Folders that may hold a server: those of `COMPUTE_CTL_PG_PATH`, then those of `PATH`, without
/// relative ones.
pub fn server_folders(variables: &impl Variables) -> Vec<PathBuf> {
    let lists = [PG_PATH, "PATH"].into_iter().filter_map(|name| variables.get(name));
    let folders = lists.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    folders.filter(|folder| folder.is_absolute()).collect()
}

/// `JOURNAL_STREAM`, for a process that has no [`Environment`] yet.
pub fn journal_stream(variables: &impl Variables) -> Option<String> {
    variables.get(JOURNAL_STREAM)?.into_string().ok()
}

/// Whether the log of this process is to be JSON, before the command line is known.
pub fn wants_json(variables: &impl Variables) -> bool {
    variables.get(LOG_FORMAT).is_some_and(|format| format == "json")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn each_variable_has_its_member() {
        assert_eq!(Environment::read(&[]).unwrap(), Environment::default());
        let all = [
            ("AUTOSCALING", ""),
            ("INSTANCE_ID", "i"),
            ("NEON_CONTROL_PLANE_TOKEN", "token\n"),
            ("PGBOUNCER_PASSWORD", " word\n"),
            ("AUDIT_LOGGING_ENDPOINT", "a:1"),
            ("AUDIT_LOGGING_TLS_ENDPOINT", "b:2"),
            ("COMPUTE_CTL_LOG_DIRECTORY", "/log"),
            ("COMPUTE_CTL_CGROUP_ROOT", "/cgroup"),
            ("JOURNAL_STREAM", "8:9"),
            ("RUST_LOG", "debug"),
            ("OTEL_SDK_DISABLED", "true"),
            ("FAILPOINTS", "x=off"),
            ("NEON_COMPUTE_TESTING_BASEBACKUP_RETRIES", "3"),
            ("NOTIFY_SOCKET", "/run/n"),
            ("WATCHDOG_USEC", "3000000"),
            ("PATH", "/bin"),
            ("UNKNOWN", "?"),
        ];
        let expected = Environment {
            autoscaling: true,
            instance_id: "i".to_owned(),
            control_plane_token: Some(Secret::new("token".to_owned())),
            pgbouncer_password: Some(Secret::new(" word".to_owned())),
            audit_endpoint: "a:1".to_owned(),
            audit_tls_endpoint: "b:2".to_owned(),
            log_directory: Some("/log".into()),
            cgroup_root: Some("/cgroup".into()),
            journal_stream: Some("8:9".to_owned()),
            log_filter: Some("debug".to_owned()),
            otel: Otel::off(),
            failpoints: Some("x=off".to_owned()),
            basebackup_retries: Some("3".to_owned()),
            notify_socket: Some("/run/n".into()),
            watchdog: Some(Duration::from_secs(3)),
            path: Some("/bin".into()),
        };
        assert_eq!(Environment::read(&all).unwrap(), expected);
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        struct AllEmpty;
        impl Variables for AllEmpty {
            fn raw(&self, _: &str) -> Option<OsString> {
                Some(OsString::new())
            }
        }
        let expected = Environment { autoscaling: true, ..Environment::read(&[]).unwrap() };
        assert_eq!(Environment::read(&AllEmpty).unwrap(), expected);
        assert!(server_folders(&AllEmpty).is_empty());
    }

    struct NotUtf8;

    impl Variables for NotUtf8 {
        fn raw(&self, name: &str) -> Option<OsString> {
            (name != PGBOUNCER_PASSWORD && name != CONTROL_PLANE_TOKEN)
                .then(|| OsString::from_vec(b"\xff".to_vec()))
        }
    }

    #[test]
    fn what_is_not_utf8_counts_as_empty_and_bad_secrets_are_refused_by_name() {
        let read = Environment::read(&NotUtf8).unwrap();
        assert_eq!((read.instance_id.as_str(), read.audit_endpoint.as_str()), ("", ""));
        for name in [CONTROL_PLANE_TOKEN, PGBOUNCER_PASSWORD] {
            let error = Environment::read(&[(name, "planted\nplanted")]).unwrap_err().to_string();
            assert!(error.starts_with(name) && !error.contains("planted"), "{error}");
        }
    }

    #[test]
    fn the_watchdog_of_another_process_does_not_count() {
        let ours = std::process::id().to_string();
        let read = |limit, pid| watchdog(&[(WATCHDOG_USEC, limit), (WATCHDOG_PID, pid)]);
        assert_eq!(read("250000", ours.as_str()), Some(Duration::from_millis(250)));
        assert_eq!(read("250000", "1"), None);
        assert_eq!(read("0", ours.as_str()), None);
        assert_eq!(read("soon", ours.as_str()), None);
        assert_eq!(watchdog(&[(WATCHDOG_PID, ours.as_str())]), None);
    }

    #[test]
    fn folders_of_servers_in_their_order() {
        let variables = [(PG_PATH, "/a:b"), ("PATH", "/c:/d")];
        let expected: [PathBuf; 3] = ["/a".into(), "/c".into(), "/d".into()];
        assert_eq!(server_folders(&variables), expected);
    }
}
