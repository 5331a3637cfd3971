//! Sessions that change catalogs, and the creation of `cloud_admin` where the login as that role
//! fails (05 §3.3).

use std::sync::Arc;

use tokio_postgres::error::SqlState;

use super::config::{APPLY_CONFIG, SessionConfig};
use super::error::{PgError, SessionError};
use super::lock_watch::LockWatch;
use super::raw::SessionDeadlines;
use super::session::Session;

/// The bootstrap superuser of clusters that were created before `cloud_admin` was introduced.
const OLD_ADMIN: &str = "zenith_admin";

/// A session that may change catalogs: DDL is not forwarded to the control plane, and the server
/// does not log statements.
#[derive(Debug)]
pub struct MaintenanceSession(Session);

impl MaintenanceSession {
    /// Connects under the name [`APPLY_CONFIG`], whatever the settings say. If the server refuses
    /// the login, the superuser of old clusters creates `cloud_admin`.
    pub async fn connect(
        config: &SessionConfig,
        deadlines: SessionDeadlines,
    ) -> Result<Self, SessionError> {
        Self::connect_with(config, deadlines, Arc::default()).await
    }

    /// Like [`Self::connect`], with a lock watch that other sessions share.
    pub async fn connect_with(
        config: &SessionConfig,
        deadlines: SessionDeadlines,
        watch: Arc<LockWatch>,
    ) -> Result<Self, SessionError> {
        let mut config = config.clone();
        config.application_name(APPLY_CONFIG).for_maintenance();
        let refused = match Session::connect_with(&config, deadlines, Arc::clone(&watch)).await {
            Err(SessionError::Connect(error)) if is_refused_login(&error) => error,
            other => return other.map(Self),
        };
        create_admin(&config, deadlines, refused).await?;
        Session::connect_with(&config, deadlines, watch).await.map(Self)
    }

    /// The session for statements that any session may run.
    pub const fn session(&self) -> &Session {
        &self.0
    }
}

/// The server does not have the role, or refuses the password.
fn is_refused_login(error: &PgError) -> bool {
    matches!(
        error.sqlstate,
        Some(SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
    )
}

/// Creates `cloud_admin` as [`OLD_ADMIN`]. An existing role stays as it is; then the login is
/// wrong, and the next try returns that error.
async fn create_admin(
    config: &SessionConfig,
    deadlines: SessionDeadlines,
    refused: PgError,
) -> Result<(), SessionError> {
    let mut config = config.clone();
    let user = config.client().get_user().unwrap_or_default().to_owned();
    config.log_in_as(OLD_ADMIN);
    let session = Session::connect(&config, deadlines).await.map_err(|fallback| {
        let (refused, fallback) = (refused.clone(), Box::new(fallback));
        SessionError::BrokenCredential { user: user.clone(), refused, fallback }
    })?;
    let failed = |error| SessionError::SetUpAdmin(Box::new(error));
    let exists = "SELECT FROM pg_catalog.pg_roles \
                  WHERE rolname OPERATOR(pg_catalog.=) 'cloud_admin'";
    if session.query(exists).await.map_err(failed)?.is_empty() {
        let create = "CREATE ROLE cloud_admin LOGIN SUPERUSER; GRANT zenith_admin TO cloud_admin";
        session.query(create).await.map_err(failed)?;
        tracing::info!("created the superuser cloud_admin, as {OLD_ADMIN} of an old cluster");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anything else, such as a full server, is not a reason to log in as another superuser.
    #[test]
    fn only_a_refused_login_calls_for_the_old_superuser() {
        let refused = |sqlstate| {
            is_refused_login(&PgError { sqlstate, ..PgError::of_the_way("so".to_owned()) })
        };
        assert!(refused(Some(SqlState::INVALID_PASSWORD)));
        assert!(refused(Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION)));
        assert!(!refused(Some(SqlState::TOO_MANY_CONNECTIONS)) && !refused(None));
    }
}
