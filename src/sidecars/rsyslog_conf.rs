//! The two files that configure the forwarding of rsyslogd, as pure functions (04 §10.1, §10.3).
//!
//! Invariant: a host or an id of the spec or the environment cannot add statements to the files,
//! because every string goes through [`quoted`] (04 W18).

use std::fmt::Write;
use std::path::Path;

use url::Host;

use crate::spec::host_port::{split_host_port, without_brackets};

/// File of the authorities that rsyslogd trusts.
const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Longest host name, and longest label of one (RFC 1123).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Why no audit collector can be used.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum EndpointError {
    /// Both variables are unset or empty.
    #[error("AUDIT_LOGGING_ENDPOINT and AUDIT_LOGGING_TLS_ENDPOINT are both empty")]
    BothEmpty,
    /// The variable that counts has an unusable value.
    #[error(
        "{variable} is {text:?}, which is not of the form host:port with an IP address (IPv6 in \
         brackets) or a host name"
    )]
    Bad {
        /// The environment variable.
        variable: &'static str,
        /// Value of the variable.
        text: String,
    },
}

/// Values of the two environment variables; unset or non-UTF-8 ones are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditEndpoints {
    /// `AUDIT_LOGGING_ENDPOINT`.
    pub plain: String,
    /// `AUDIT_LOGGING_TLS_ENDPOINT`; preferred.
    pub tls: String,
}

/// Destination of audit records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Lower case, IDN as punycode, IPv6 short and without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether to use TLS.
    pub tls: bool,
}

impl AuditEndpoints {
    /// Chooses one of the two variables and checks its value.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn collector(&self) -> Result<Collector, EndpointError> {
        let (variable, text, tls) = if !self.tls.is_empty() {
            ("AUDIT_LOGGING_TLS_ENDPOINT", &self.tls, true)
        } else if !self.plain.is_empty() {
            ("AUDIT_LOGGING_ENDPOINT", &self.plain, false)
        } else {
            return Err(EndpointError::BothEmpty);
        };
        match host_and_port(text) {
            Some((host, port)) => Ok(Collector { host, port, tls }),
            None => Err(EndpointError::Bad { variable, text: text.clone() }),
        }
    }
}

/// Parses the authority of a URL, without user and password. Unlike in a URL, port 80 is kept.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = split_host_port(text)?;
    let host = match Host::parse(host).ok()? {
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
        Host::Domain(name) => is_host_name(&name).then_some(name)?,
    };
    Some((host, port))
}

/// RFC 1123: labels of letters, digits and inner hyphens; no dot at the end.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

/// Inputs of the audit file besides the collector.
#[derive(Debug, Clone, Copy)]
pub struct AuditInputs<'a> {
    /// The folder that `pgauditlogtofile` writes into.
    pub log_folder: &'a Path,
    /// Folder in which rsyslogd stores its read positions.
    pub work_folder: &'a Path,
    /// Of the spec, or empty.
    pub endpoint_id: &'a str,
    /// Of the spec, or empty.
    pub project_id: &'a str,
}

/// Text of the audit file: RFC 5424 frames around a JSON body, the format of the collector. A
/// record begins with a time in GMT and may have several lines. The file always has both actions;
/// `$.remote_syslog_tls` chooses one. The daemon stores its read positions all the time, not only
/// when it ends, because the removal of old files uses them (04 W20), and so that a killed daemon
/// sends nothing twice.
pub fn audit(collector: &Collector, inputs: &AuditInputs<'_>) -> String {
    let files = inputs.log_folder.join("*.log");
    let host = quoted(&collector.host);
    let action = format!(
        "action(type=\"omfwd\" target={host} port=\"{}\" protocol=\"tcp\"\n               \
         template=\"PgAuditLog\" queue.type=\"linkedList\" queue.size=\"1000\"\n               \
         action.ResumeRetryCount=\"10\"",
        collector.port
    );
    format!(
        r#"# Managed by compute_ctl: audit records of Postgres go to a collector.
module(load="imfile")
global(workDirectory={work} DefaultNetstreamDriverCAFile={ca})
input(type="imfile" File={files} Tag="pgaudit_log" Severity="info" Facility="local5"
      persistStateAfterSubmission="on"
      startmsg.regex="^[[:digit:]]{{4}}-[[:digit:]]{{2}}-[[:digit:]]{{2}} [[:digit:]]{{2}}:[[:digit:]]{{2}}:[[:digit:]]{{2}}.[[:digit:]]{{3}} GMT,")
template(name="PgAuditLog" type="string"
         string="<%PRI%>1 %TIMESTAMP:::date-rfc3339% %HOSTNAME% - - - - %$.json_log%")

if $syslogtag == "pgaudit_log" then {{
    set $.remote_syslog_tls = "{tls}";
    set $.json_log!endpoint_id = {endpoint};
    set $.json_log!project_id = {project};
    set $.json_log!msg = $msg;
    if $.remote_syslog_tls == "true" then {{
        {action}
               StreamDriver="gtls" StreamDriverMode="1" StreamDriverAuthMode="x509/name"
               StreamDriverPermittedPeers={host}
               StreamDriver.CheckExtendedKeyPurpose="on" StreamDriver.PermitExpiredCerts="off")
    }} else {{
        {action})
    }}
    stop
}}
"#,
        work = quoted(&inputs.work_folder.to_string_lossy()),
        ca = quoted(CA_FILE),
        files = quoted(&files.to_string_lossy()),
        tls = collector.tls,
        endpoint = quoted(inputs.endpoint_id),
        project = quoted(inputs.project_id),
    )
}

/// `logs_export_host` of the spec is not `host:port`.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("Invalid host format for Postgres logs export: logs_export_host is {0:?}, not host:port")]
pub struct ExportHostError(pub String);

/// Text of the export file; empty without a host. The host is split at the last colon, so that it
/// can be an IPv6 address.
///
/// # Errors
/// The host is not `host:port`.
pub fn export(host: Option<&str>) -> Result<String, ExportHostError> {
    let Some(text) = host else { return Ok(String::new()) };
    let (host, port) = split_host_port(text).ok_or_else(|| ExportHostError(text.to_owned()))?;
    Ok(format!(
        r#"# Managed by compute_ctl: the log of Postgres goes to a collector.
if $programname == "postgres" then {{
    action(type="omfwd" target={host} port="{port}" protocol="tcp"
           template="RSYSLOG_SyslogProtocol23Format" action.resumeRetryCount="3"
           queue.type="linkedList" queue.size="1000")
    stop
}}
"#,
        host = quoted(without_brackets(host)),
    ))
}

/// A string of RainerScript for both expressions and parameters of objects. These two treat `$`
/// differently and agree only on octal escapes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            // Writing to a string cannot fail.
            '$' | '\0'..='\x1f' | '\x7f' => {
                let _ = write!(out, "\\{:03o}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
