//! Whether `--connstr` and the spec name the same port of Postgres.
//!
//! Both are known before anything is touched. If they differ, a start throws the old data directory
//! away, starts Postgres, and then cannot connect to it.

use std::net::IpAddr;
use std::path::Path;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::conf_params::POSTGRES_PORT;
use crate::postgres::conf::ConfFile;

/// The ports differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--connstr names port {connstr}, but Postgres will listen on port {}: give both the same port",
    listens(*spec)
)]
pub struct OtherPort {
    /// The port in `--connstr`, or its default.
    connstr: u16,
    /// The port in the spec; `None` if the spec leaves it to Postgres.
    spec: Option<u16>,
    /// Whether `--connstr` leads to this machine.
    is_local: bool,
}

fn listens(spec: Option<u16>) -> String {
    match spec {
        Some(port) => format!("{port} (spec.cluster.settings[port])"),
        None => format!("{POSTGRES_PORT} (its default, the spec does not set `port`)"),
    }
}

impl OtherPort {
    /// Whether nothing can make up for the difference: no forwarding on the way, and no PGPORT in
    /// the environment of Postgres.
    pub const fn is_certain(&self) -> bool {
        self.is_local && self.spec.is_some()
    }
}

/// Compares the port of `--connstr` with that in `postgresql.conf`.
///
/// # Errors
/// They differ.
pub fn check_port(connstr: &Config, conf: &ConfFile) -> Result<(), OtherPort> {
    let spec = match conf.value_in_force("port") {
        None => None,
        // Postgres refuses any other text.
        Some(text) => match text.expose().trim().parse() {
            Ok(port) => Some(port),
            Err(_) => return Ok(()),
        },
    };
    let ports = match connstr.get_ports() {
        [] => &[POSTGRES_PORT],
        ports => ports,
    };
    let expected = spec.unwrap_or(POSTGRES_PORT);
    if ports.contains(&expected) {
        return Ok(());
    }
    let connstr_port = ports.first().copied().unwrap_or(POSTGRES_PORT);
    let is_local = connstr.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => is_this_machine(name),
        Host::Unix(path) => path.starts_with(Path::new("/")),
    });
    Err(OtherPort { connstr: connstr_port, spec, is_local })
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::conf::ConfInputs;
    use serde_json::{Value, json};

    fn check(connstr: &str, port: Value, base_text: &str) -> Result<(), OtherPort> {
        let settings = match &port {
            Value::Null => json!([]),
            port => json!([{"name": "Port", "value": port, "vartype": "integer"}]),
        };
        let spec = serde_json::from_value(json!({
            "format_version": 1, "suspend_timeout_seconds": 0, "cluster": {
                "roles": [], "databases": [], "settings": settings, "postgresql_conf": base_text
            }
        }))
        .unwrap();
        let inputs = ConfInputs {
            privileged_role_name: "r",
            internal_http_port: 1,
            overcommit_strict: false,
            tls: false,
            lakebase_port: None,
        };
        check_port(&connstr.parse().unwrap(), &ConfFile::build(&spec, &inputs).unwrap())
    }

    #[test]
    fn both_must_agree() {
        for (connstr, port, base) in [
            ("postgresql://a@localhost:5433/d", json!("5433"), ""),
            ("postgresql://a@localhost/d", json!("5432"), ""),
            ("postgresql://a@localhost/d", Value::Null, ""),
            ("postgresql://a@localhost:7/d", Value::Null, "port = 7"),
            ("postgresql://a@localhost:7/d", json!("7"), "port = 8"),
            ("host=/tmp port=7", json!("7"), ""),
            ("host=a,b port=6,7", json!("7"), ""),
            ("postgresql://a@localhost:7/d", json!("seven"), ""),
        ] {
            assert_eq!(check(connstr, port.clone(), base), Ok(()), "{connstr} {port} {base}");
        }
        for (connstr, port, base, is_certain) in [
            ("postgresql://a@localhost:5999/d", json!("5433"), "", true),
            ("postgresql://a@127.0.0.1:5999/d", json!("5433"), "", true),
            ("postgresql://a@[::1]:5999/d", Value::Null, "port='5433'", true),
            ("postgresql://a@0.0.0.0/d", json!("5433"), "", true),
            ("host=/tmp port=7", json!("8"), "", true),
            ("postgresql://a@LocalHost:5999/d", Value::Null, "", false),
            ("postgresql://a@compute-1:5999/d", json!("5433"), "", false),
        ] {
            let error = check(connstr, port.clone(), base).unwrap_err();
            assert_eq!(error.is_certain(), is_certain, "{connstr} {port} {base}");
        }
        let text = check("host=::1 port=5999", json!("5433"), "").unwrap_err().to_string();
        assert_eq!(
            text,
            "--connstr names port 5999, but Postgres will listen on port 5433 \
             (spec.cluster.settings[port]): give both the same port"
        );
        let text = check("host=::1 port=5999", Value::Null, "").unwrap_err().to_string();
        assert!(text.contains("port 5432 (its default"), "{text}");
    }
}
