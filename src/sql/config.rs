//! The address and login of a session (05 §3.1). [`mod@super::options`] has its settings.

use std::sync::Arc;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::error::SessionError;
use super::footprint::Footprint;
use super::options::{ADMIN, Hardening};
use super::row;
use crate::errors::one_line;
use crate::postgres::install::PgVersion;

/// `application_name` of sessions that change catalogs.
pub const APPLY_CONFIG: &str = "compute_ctl:apply_config";
/// `application_name` of migrations.
pub const MIGRATIONS: &str = "compute_ctl:migrations";
/// `application_name` of the upgrade of the `neon` extension after the start.
pub const POST_APPLY_CONFIG: &str = "compute_ctl:post_apply_config";

/// The configuration of sessions: address, login, and hardening for the version of the server.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Everything but `options`, in the database of the URL.
    config: Config,
    /// Options of the operator, from the URL.
    own: Option<String>,
    /// `None` for sessions without hardening.
    hardened: Option<Hardened>,
    /// The database, if it differs from that of the URL.
    elsewhere: Option<String>,
}

/// The value of `role` for a session without another role than its login.
const NO_ROLE: &str = "none";

/// Input of [`Hardening`] besides the login.
#[derive(Debug, Clone, Copy)]
struct Hardened {
    version: PgVersion,
    role: &'static str,
    maintenance: bool,
    statement_limit: bool,
    read_only: bool,
}

/// Settings of sessions with one `application_name`, from the URL in `--connstr`. TLS is never
/// used. The version is that of the server, which refuses a session that names a setting of a
/// newer one.
pub fn session_config(
    connstr: &str,
    application_name: &str,
    version: PgVersion,
) -> Result<SessionConfig, SessionError> {
    let bad = |error: &dyn std::error::Error| SessionError::BadUrl(one_line(error));
    // The client library accepts keyword strings as well, but other code takes the port from the
    // URL.
    url::Url::parse(connstr).map_err(|error| bad(&error))?;
    let mut config: Config = connstr.parse().map_err(|error: tokio_postgres::Error| bad(&error))?;
    config.application_name(application_name).ssl_mode(SslMode::Disable);
    let own = config.get_options().map(str::to_owned);
    let hardened = Some(Hardened {
        version,
        role: ADMIN,
        maintenance: false,
        statement_limit: false,
        read_only: false,
    });
    Ok(SessionConfig { own, hardened, ..SessionConfig::plain(config) })
}

impl SessionConfig {
    /// Hardened, for the login and the `application_name` of a connection string of its own. The
    /// role of the session is the login itself.
    pub fn of_login(config: Config, version: PgVersion) -> Self {
        let own = config.get_options().map(str::to_owned);
        let hardened = Some(Hardened {
            version,
            role: NO_ROLE,
            maintenance: false,
            statement_limit: false,
            read_only: false,
        });
        Self { own, hardened, ..Self::plain(config) }
    }

    /// Without hardening, for a session that only reads from a foreign server. Names are
    /// looked up only in `pg_catalog` there too.
    pub fn plain(mut config: Config) -> Self {
        let own = config.get_options().map(|own| format!("{own} ")).unwrap_or_default();
        config.options(format!("{own}-c search_path="));
        Self { config, own: None, hardened: None, elsewhere: None }
    }

    /// Sets the database, by its [`name`](super::row::Row::name), which is sent unchanged.
    pub fn dbname(&mut self, name: &str) -> &mut Self {
        self.elsewhere = Some(name.to_owned());
        self
    }

    /// Sets `application_name`.
    pub fn application_name(&mut self, name: &str) -> &mut Self {
        self.config.application_name(name);
        self
    }

    /// The server ends statements after two minutes as well: for sessions of a start in Lakebase
    /// mode (05 §22). All other options stay.
    pub fn limit_statements(&mut self) -> &mut Self {
        if let Some(hardened) = &mut self.hardened {
            hardened.statement_limit = true;
        }
        self
    }

    /// Adds the options of sessions that change catalogs.
    pub(super) fn for_maintenance(&mut self) -> &mut Self {
        if let Some(hardened) = &mut self.hardened {
            hardened.maintenance = true;
        }
        self
    }

    /// For a session with the view of those that change catalogs that cannot write.
    pub fn read_only(&mut self) -> &mut Self {
        if let Some(hardened) = &mut self.hardened {
            hardened.read_only = true;
        }
        self.for_maintenance()
    }

    /// Sets another login with its own role; of the options only the hardening stays.
    pub(super) fn log_in_as(&mut self, user: &'static str) -> &mut Self {
        self.config.user(user);
        self.own = None;
        if let Some(hardened) = &mut self.hardened {
            hardened.role = user;
        }
        self
    }

    /// For the session of the lock watch: in the database of the URL, so that it does not prevent
    /// users from dropping their database.
    pub(super) fn for_watch(&self, name: &str) -> Self {
        let mut config = Self { elsewhere: None, ..self.clone() };
        config.application_name(name);
        config
    }

    pub(super) fn hardening(&self) -> Option<Hardening<'_>> {
        let Hardened { version, role, maintenance, statement_limit, read_only } = self.hardened?;
        let user = self.config.get_user();
        Some(Hardening { user, role, version, maintenance, statement_limit, read_only })
    }

    /// Held by a session in a users' database.
    pub(super) fn footprint(&self) -> Option<Footprint> {
        self.elsewhere.as_deref().and_then(Footprint::begin)
    }

    /// Everything but the options.
    pub(super) fn client(&self) -> Config {
        let mut client = self.config.clone();
        if let Some(name) = &self.elsewhere {
            client.dbname(row::shown(name));
        }
        client
    }

    /// The name of the database, if it is not UTF-8.
    pub(super) fn database_bytes(&self) -> Option<Arc<[u8]>> {
        row::foreign_bytes(self.elsewhere.as_deref()?).map(Arc::from)
    }

    /// Options of the operator, from the URL.
    pub(super) fn own_options(&self) -> Option<&str> {
        self.own.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Result<SessionConfig, SessionError> {
        session_config(url, APPLY_CONFIG, PgVersion::V17)
    }

    #[test]
    fn the_url_says_where_and_not_how() {
        let url = "postgresql://u:pw@h:55/d?options=-c%20work_mem%3D1MB&application_name=x&sslmode=require";
        let SessionConfig { config, own, .. } = config(url).unwrap();
        assert_eq!(own.as_deref(), Some("-c work_mem=1MB"));
        assert_eq!(config.get_application_name(), Some(APPLY_CONFIG));
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
        assert_eq!(config.get_ports(), [55]);
    }

    #[test]
    fn a_session_is_hardened_for_its_login_and_the_role_of_the_program() {
        let mut session = config("postgresql://u@h/d?options=-c%20work_mem%3D1MB").unwrap();
        assert_eq!(session.own_options(), Some("-c work_mem=1MB"));
        let hardening = session.hardening().unwrap();
        assert_eq!((hardening.user, hardening.role), (Some("u"), ADMIN));
        assert!(!hardening.maintenance && !hardening.read_only && !hardening.statement_limit);

        session.read_only().limit_statements().log_in_as("zenith_admin");
        let hardening = session.hardening().unwrap();
        assert_eq!((hardening.user, hardening.role), (Some("zenith_admin"), "zenith_admin"));
        assert!(hardening.maintenance && hardening.read_only && hardening.statement_limit);
        assert_eq!(session.own_options(), None, "the options were meant for the other login");
    }

    #[test]
    fn only_a_plain_session_is_not_hardened() {
        let client = || "postgresql://u@h/d?options=-c%20work_mem%3D1MB".parse::<Config>().unwrap();
        let plain = SessionConfig::plain(client());
        assert!(plain.hardening().is_none() && plain.own_options().is_none());
        let session = SessionConfig::of_login(client(), PgVersion::V17);
        assert_eq!(session.own_options(), Some("-c work_mem=1MB"));
        assert_eq!(session.hardening().unwrap().role, NO_ROLE);
    }

    #[test]
    fn a_session_elsewhere_leaves_a_footprint_and_the_lock_watch_is_not_elsewhere() {
        let mut session = config("postgresql://u@h/d").unwrap();
        let database = |session: &SessionConfig| session.client().get_dbname().map(str::to_owned);
        assert!(session.footprint().is_none());
        assert_eq!(database(&session).as_deref(), Some("d"));
        session.dbname("shop");
        assert!(session.footprint().is_some() && session.database_bytes().is_none());
        assert_eq!(database(&session).as_deref(), Some("shop"));
        // A name that is not UTF-8.
        session.dbname("caf\u{fffd}\u{0}636166e9");
        assert_eq!(session.database_bytes().unwrap().as_ref(), b"caf\xe9");
        assert_eq!(database(&session).as_deref(), Some("caf\u{fffd}"));
        let watch = session.for_watch("watch");
        assert!(watch.footprint().is_none() && watch.database_bytes().is_none());
        assert_eq!(database(&watch).as_deref(), Some("d"));
        assert_eq!(watch.client().get_application_name(), Some("watch"));
    }

    #[test]
    fn errors_do_not_repeat_the_url() {
        for url in
            ["host=localhost password=planted", "http://u:planted@h", "postgresql://u:planted@h:x"]
        {
            let error = config(url).unwrap_err().to_string();
            assert!(error.starts_with("--connstr is not a Postgres connection URL"), "{error}");
            assert!(!error.contains("planted"), "{error}");
        }
    }
}
