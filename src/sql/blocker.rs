//! A session that holds a lock, as errors name it.

use std::fmt;

/// A session that blocks another one. Its statement is not shown: it may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Its backend; 0 for a prepared transaction, which has none.
    pub pid: i32,
    /// The columns of `pg_stat_activity`, and the age of its transaction; none for a prepared one.
    pub activity: Option<Activity>,
}

/// Activity of a blocker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// Role that it logged in as; absent for a background process.
    pub user: Option<String>,
    /// Database that it is connected to.
    pub database: Option<String>,
    /// `application_name`, which the client chooses.
    pub application_name: String,
    /// `active`, `idle in transaction` and so on.
    pub state: Option<String>,
    /// Age of its transaction in seconds.
    pub transaction_seconds: Option<u64>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("a prepared transaction");
        }
        write!(f, "pid {}", self.pid)?;
        let Some(activity) = &self.activity else { return Ok(()) };
        // A client can send any text in these names, so they are quoted.
        f.write_str(" (")?;
        if let Some(user) = &activity.user {
            write!(f, "user {user:?}, ")?;
        }
        if let Some(database) = &activity.database {
            write!(f, "database {database:?}, ")?;
        }
        write!(f, "application {:?}", activity.application_name)?;
        if let Some(state) = &activity.state {
            write!(f, ", {state}")?;
        }
        if let Some(seconds) = activity.transaction_seconds {
            write!(f, ", transaction open for {seconds} s")?;
        }
        f.write_str(")")
    }
}

/// All blockers in one text.
pub(super) fn list(blockers: &[Blocker]) -> String {
    blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
