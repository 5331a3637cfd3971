//! SQL sessions of handlers, and how far a request goes when its client has left.

use axum::http::StatusCode;
use tracing::Instrument as _;

use super::Api;
use super::error::ApiError;
use crate::catalog::trust::is_not_ours;
use crate::sql::{Session, SessionDeadlines, SessionError};

/// Connects, with the usual deadlines, to the main database or to another one.
pub(super) async fn connect(
    api: &Api,
    application_name: &str,
    database: Option<&str>,
) -> Result<Session, SessionError> {
    let deadlines = api.node.params.timeouts.sql;
    connect_with(api, application_name, database, deadlines).await
}

/// The same with deadlines of one's own.
pub(super) async fn connect_with(
    api: &Api,
    application_name: &str,
    database: Option<&str>,
    deadlines: SessionDeadlines,
) -> Result<Session, SessionError> {
    let params = &api.node.params;
    let mut config = params.session(application_name)?;
    if let Some(database) = database {
        // Not by way of a connection string, so every name is just a name.
        config.dbname(database);
    }
    Session::connect(&config, deadlines).await
}

/// What changes something is carried to its end: a client that hangs up changes nothing.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let task = tokio::spawn(work.in_current_span());
    task.await.unwrap_or_else(|error| {
        tracing::error!("a request ended early: {error}");
        Err(ApiError::internal())
    })
}

/// The texts that clients know (03 §5.4, §5.6): the error of the database, or of the way to it,
/// comes first.
impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let text = match &error {
            SessionError::Connect(answer) | SessionError::Statement(answer) => {
                let prefix = if answer.sqlstate.is_some() { "db error: " } else { "" };
                format!("{prefix}{answer}")
            }
            _ => error.to_string(),
        };
        // "Cannot write" is a reason to replace a compute, "the table is not ours" is not.
        let status = if is_not_ours(&error) {
            StatusCode::CONFLICT
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::PgError;
    use tokio_postgres::error::SqlState;

    #[test]
    fn documented_texts() {
        let text = |error| ApiError::from(error).parts();
        let refused = "error connecting to server: Connection refused (os error 111)";
        let error = PgError { sqlstate: None, text: refused.to_owned(), position: None };
        assert_eq!(text(SessionError::Connect(error)), (500, refused.to_owned()));
        let answer = "ERROR: relation \"public.health_check\" does not exist";
        let error = PgError {
            sqlstate: Some(SqlState::UNDEFINED_TABLE),
            text: answer.to_owned(),
            position: None,
        };
        assert_eq!(text(SessionError::Statement(error)), (500, format!("db error: {answer}")));
        let sqlstate = Some(SqlState::from_code("CT001"));
        let error = PgError { sqlstate, text: "ERROR: not ours".to_owned(), position: None };
        assert_eq!(text(SessionError::Statement(error)), (409, "db error: ERROR: not ours".into()));
    }

    #[tokio::test]
    async fn work_goes_on_and_panics_are_errors() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let work = to_its_end(async move {
            let _ = gone.await;
            let _ = tell.send(());
            Ok(())
        });
        // Polled once, then dropped, as when a client leaves.
        assert!(tokio::time::timeout(std::time::Duration::ZERO, work).await.is_err());
        go.send(()).unwrap();
        told.await.unwrap();
        let broken = to_its_end::<()>(async { panic!("on purpose") });
        assert_eq!(broken.await.unwrap_err().parts().0, 500);
    }
}
