//! Client programs of the installation, connected to the managed Postgres.
//!
//! The connection target is given on the command line or in variables set here; libpq variables
//! from the environment of this process (`PGHOSTADDR`, `PGSERVICE`, …) are removed.

use tokio::process::Command;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use url::Url;

use super::install::PgInstall;
use crate::secret::Secret;

/// Prefix of the variables of libpq and of the client programs.
const LIBPQ: &str = "PG";

/// First host and port, and the user, of `--connstr`, as far as it names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Address {
    /// Host name, address, or directory of the socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Role.
    pub user: Option<String>,
    password: Option<Secret<String>>,
}

impl Address {
    /// From a connection URL that the start has already checked.
    pub(crate) fn of(connstr: &Url) -> Self {
        let Ok(config) = connstr.as_str().parse::<Config>() else { return Self::default() };
        let host = config.get_hosts().first().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(directory) => directory.to_string_lossy().into_owned(),
        });
        // The library supplies a default port for a URL without one; it must not count as named.
        let names_port =
            connstr.port().is_some() || connstr.query_pairs().any(|(name, _)| name == "port");
        let password = config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into());
        Self {
            host,
            port: config.get_ports().first().copied().filter(|_| names_port),
            user: config.get_user().map(str::to_owned),
            password: password.map(Secret::new),
        }
    }

    /// A program beside `postgres`, with the password as the only libpq setting in its environment.
    pub(crate) fn command(&self, install: &PgInstall, program: &str) -> Command {
        let mut command = Command::new(install.program(program));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with(LIBPQ)) {
                command.env_remove(name);
            }
        }
        command.env("PGSSLMODE", "disable");
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password.expose());
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::of(&Url::parse(url).unwrap())
    }

    #[test]
    fn first_host_and_port() {
        let found = address("postgresql://u:planted@h1:5501/d?host=h2&port=5502");
        assert_eq!(found.host.as_deref(), Some("h1"));
        assert_eq!(found.port, Some(5501));
        assert_eq!(found.user.as_deref(), Some("u"));
        assert!(!format!("{found:?}").contains("planted"));
        let found = address("postgresql://%2Ftmp/d");
        assert_eq!(found.host.as_deref(), Some("/tmp"));
        assert_eq!((found.port, found.user), (None, None));
    }
}
