//! SQL sessions of handlers, and how far a request goes when its client has left.

use tracing::Instrument as _;

use super::api::Api;
use super::error::ApiError;
use crate::server::ServerTasks;
use crate::sql::{Session, SessionDeadlines, SessionError};
use crate::telemetry::traces;

/// Connects, with the usual deadlines, to the main database or to another one.
pub(super) async fn connect(
    api: &Api,
    application_name: &str,
    database: Option<&str>,
) -> Result<Session, SessionError> {
    let deadlines = api.node.params.timeouts.sql;
    connect_with(api, application_name, database, deadlines).await
}

/// Like [`connect`], with other deadlines.
pub(super) async fn connect_with(
    api: &Api,
    application_name: &str,
    database: Option<&str>,
    deadlines: SessionDeadlines,
) -> Result<Session, SessionError> {
    let params = &api.node.params;
    let mut config = params.session(application_name)?;
    if let Some(database) = database {
        // Not through a connection string, in which some names would need quoting.
        config.dbname(database);
    }
    Session::connect(&config, deadlines).await
}

/// Runs a change to its end even if the client hangs up. Only the shutdown of the servers can cut
/// the change off, after the same grace that requests get.
pub(super) async fn to_its_end<T: Send + 'static>(
    tasks: &ServerTasks,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    match tasks.spawn(traces::here().scope(work.in_current_span())).await {
        Ok(Some(result)) => result,
        Ok(None) => {
            tracing::error!("a request was not over when the servers ended");
            Err(ApiError::internal())
        }
        Err(error) => {
            tracing::error!("a request ended early: {error}");
            Err(ApiError::internal())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn work_goes_on_and_panics_are_errors() {
        let tasks = ServerTasks::default();
        let (tell, told) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let work = to_its_end(&tasks, async move {
            let _ = gone.await;
            let _ = tell.send(());
            Ok(())
        });
        // Polled once, then dropped, as when a client leaves.
        assert!(tokio::time::timeout(Duration::ZERO, work).await.is_err());
        go.send(()).unwrap();
        told.await.unwrap();
        let broken = to_its_end::<()>(&tasks, async { panic!("on purpose") });
        assert_eq!(broken.await.unwrap_err().parts().0, 500);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_waits_for_work_without_a_client() {
        let tasks = ServerTasks::default();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = to_its_end(&tasks, async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = tell.send(());
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::ZERO, work).await.is_err());
        tasks.shutdown(Duration::from_secs(2)).await;
        told.await.unwrap();
    }
}
