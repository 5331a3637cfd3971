//! The upgrade of the `neon` extension after a start (05 §14.1).

use super::trust::close_triggers;
use crate::sql::{POST_APPLY_CONFIG, Session, SessionConfig, SessionDeadlines, SessionError};

/// What [`upgrade_neon_extension`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The extension now has the default version of the installed package.
    Done,
    /// The database does not have the extension, for instance because catalog updates were always
    /// skipped.
    NotInstalled,
}

/// Updates the extension of the system database to the default version of the installed package.
/// Runs in the background of every start as primary; errors are only logged.
pub(crate) async fn upgrade_neon_extension(
    config: &SessionConfig,
    deadlines: SessionDeadlines,
) -> Result<Upgrade, SessionError> {
    let mut config = config.clone();
    config.application_name(POST_APPLY_CONFIG);
    let session = Session::connect(&config, deadlines).await?;
    let installed =
        "SELECT FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'neon'";
    if session.query(installed).await?.is_empty() {
        return Ok(Upgrade::NotInstalled);
    }
    session.query(&format!("ALTER EXTENSION neon UPDATE; {}", close_triggers("neon"))).await?;
    Ok(Upgrade::Done)
}
