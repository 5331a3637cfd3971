//! SIGHUP to a compute: the configuration is read again, as by `/refresh_configuration`.
//!
//! An operator sends it after a change of the file, or a supervisor for `reload`. So it is milder
//! than the route, which follows a failure of storage: a file that cannot be used, or has no spec
//! (as that of a compute that got its spec by `/configure`), leaves everything as it is.

use std::convert::Infallible;

use anyhow::Context;
use tokio::sync::Notify;

use super::service_manager::ServiceManager;
use crate::errors;
use crate::node::ComputeNode;
use crate::spec::ParsedSpec;
use crate::state::ComputeStatus;

/// Serves SIGHUP for ever.
pub(super) async fn serve(
    node: &ComputeNode,
    hangup: &Notify,
    manager: &ServiceManager,
) -> Infallible {
    loop {
        hangup.notified().await;
        if node.status() == ComputeStatus::Init {
            tracing::info!("received SIGHUP: it is served when the start is over");
            // The node, and so the sender, lives as long as this task.
            let _ = node.watch_status().wait_for(|it| *it != ComputeStatus::Init).await;
        }
        manager.reload_begins(node);
        let refused = match reload(node).await {
            Ok(text) => {
                tracing::info!("received SIGHUP: {text}");
                None
            }
            Err(error) => {
                tracing::error!(
                    "received SIGHUP: the present configuration stays in force: {}",
                    errors::report(&error)
                );
                Some(errors::one_line(error.as_ref()))
            }
        };
        manager.reload_asked(node, refused);
    }
}

/// Asks for a refresh if it can have an effect. Returns what happens, for the log.
async fn reload(node: &ComputeNode) -> anyhow::Result<String> {
    let status = node.status();
    let never_ran = node.startup_metrics().total_startup_ms == 0;
    let ignored = || format!("ignored, because the status is {}", node.status());
    let possible = match status {
        ComputeStatus::Running | ComputeStatus::RefreshConfigurationPending => true,
        // After a failed start there is no Postgres to reconfigure.
        ComputeStatus::Failed => !never_ran,
        _ => false,
    };
    if !possible {
        return Ok(ignored());
    }
    let limit = node.params.timeouts.control_plane.refresh.file;
    if let Some(document) = node.params.source.look(limit).await? {
        let Some(spec) = document.spec else {
            return Ok("ignored, because the configuration file has no spec".to_owned());
        };
        let spec = ParsedSpec::try_from(spec).context("the spec cannot be used")?;
        node.params.accept(spec).context("the spec cannot be used")?;
    }
    match node.refresh() {
        Ok(()) => Ok("reading the configuration again".to_owned()),
        Err(_) => Ok(ignored()),
    }
}
