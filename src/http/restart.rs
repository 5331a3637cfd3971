//! Which settings wait for a restart of Postgres, for a person who looks at the compute.
//!
//! Only a new configuration can make a setting wait, so Postgres is asked once after each, and not
//! at all before the first one: looking often costs nothing.

use std::time::Duration;

use super::api::Api;
use super::sql::connect_with;
use crate::node::Details;
use crate::sql::{SessionDeadlines, SessionError};

/// A page must not wait long.
const LIMIT: Duration = Duration::from_secs(1);
const APPLICATION_NAME: &str = "compute_ctl:details";
const QUERY: &str = "SELECT name FROM pg_catalog.pg_settings WHERE pending_restart";

/// The document of `/details`.
pub(super) async fn details(api: &Api) -> Details {
    let mut details = api.node.details();
    // Between two changes, and while Postgres answers.
    let is_new = details.pending_restart.is_none();
    if is_new && details.ready && details.status.status.is_at_rest() {
        let works = api.node.finished_works();
        match ask(api).await {
            Ok(names) => {
                api.node.set_pending_restart(works, names.clone());
                details.pending_restart = Some(names);
            }
            Err(error) => tracing::debug!("no settings that wait for a restart: {error}"),
        }
    }
    details
}

async fn ask(api: &Api) -> Result<Vec<String>, SessionError> {
    let deadlines = SessionDeadlines { connect: LIMIT, statement: LIMIT, lock: LIMIT };
    let session = connect_with(api, APPLICATION_NAME, None, deadlines).await?;
    let rows = session.query(QUERY).await?;
    let mut names = Vec::new();
    for row in &rows {
        names.extend(row.try_get(0)?.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
