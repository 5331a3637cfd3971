//! Finds the session that holds the lock a statement of ours waits for (05 weakness 5).
//!
//! The server's own `lock_timeout` would end the wait without naming the holder, and afterwards
//! the holder cannot be found. So while the statement still waits, another session asks: that of
//! the [`lock_watch`](mod@super::lock_watch).

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use super::blocker::{Activity, Blocker};
use super::error::SessionError;
use super::row::Row;

/// A backend that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wait {
    /// Time it has waited for this lock.
    pub waited: Duration,
    /// Sessions that hold the lock, or are before us in the queue for it.
    pub blockers: Vec<Blocker>,
}

/// Waits by the pid of the waiting backend. Backends that do not wait for a lock have no entry.
pub(super) fn waits(rows: &[Row]) -> Result<HashMap<i32, Wait>, SessionError> {
    let mut waits: HashMap<i32, Wait> = HashMap::new();
    for row in rows {
        let owned = |column| Ok::<_, SessionError>(row.try_get(column)?.map(str::to_owned));
        let Some(waiting) = number(row, 0)? else { continue };
        let waited = Duration::from_millis(number(row, 1)?.unwrap_or_default());
        let activity = match owned(5)? {
            Some(application_name) => Some(Activity {
                user: owned(3)?,
                database: owned(4)?,
                application_name,
                state: owned(6)?,
                transaction_seconds: number(row, 7)?,
            }),
            None => None,
        };
        let blocker = Blocker { pid: number(row, 2)?.unwrap_or_default(), activity };
        let wait = waits.entry(waiting).or_insert_with(|| Wait { waited, blockers: Vec::new() });
        wait.blockers.push(blocker);
    }
    Ok(waits)
}

fn number<T: FromStr>(row: &Row, column: usize) -> Result<Option<T>, SessionError> {
    Ok(row.try_get(column)?.and_then(|text| text.parse().ok()))
}

/// One row per backend and blocker: the backend, milliseconds waited, pid of the blocker, user,
/// database, application, state, seconds.
pub(super) fn query(pids: &[i32]) -> String {
    let pids = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT waiting.pid, \
            (SELECT GREATEST(0, EXTRACT(epoch FROM pg_catalog.max( \
                    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) waitstart)) \
                OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 \
                FROM pg_catalog.pg_locks \
                WHERE pid OPERATOR(pg_catalog.=) waiting.pid AND NOT granted), \
            blocker.pid, usename, datname, application_name, state, \
            GREATEST(0, EXTRACT(epoch FROM \
                pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) xact_start))::pg_catalog.int8 \
         FROM pg_catalog.unnest(ARRAY[{pids}]::pg_catalog.int4[]) AS waiting (pid) \
         CROSS JOIN LATERAL (SELECT DISTINCT \
            pg_catalog.unnest(pg_catalog.pg_blocking_pids(waiting.pid)) AS pid) AS blocker \
         LEFT JOIN pg_catalog.pg_stat_activity AS activity \
            ON activity.pid OPERATOR(pg_catalog.=) blocker.pid \
         ORDER BY waiting.pid, blocker.pid"
    )
}

#[cfg(test)]
mod tests {
    use super::super::blocker::list;
    use super::*;

    #[test]
    fn the_text_of_a_blocker_names_the_session_without_its_statement() {
        let activity = Activity {
            user: Some("bob".to_owned()),
            database: Some("shop".to_owned()),
            application_name: "psql\n".to_owned(),
            state: Some("idle in transaction".to_owned()),
            transaction_seconds: Some(61),
        };
        let blockers = [
            Blocker { pid: 0, activity: None },
            Blocker { pid: 7, activity: Some(activity) },
            Blocker { pid: 8, activity: None },
        ];
        let expected = "a prepared transaction, pid 7 (user \"bob\", database \"shop\", \
                        application \"psql\\n\", idle in transaction, transaction open for 61 s), \
                        pid 8";
        assert_eq!(list(&blockers), expected);
    }
}
