//! Looking at and changing the catalog of a running compute.

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::support::bed::Bed;
use crate::support::process::Compute;

/// A SCRAM verifier.
pub const SCRAM: &str = "SCRAM-SHA-256$4096:lydLg2iQKcvKsNhnvZkVcA==$\
    1nsqRxUj5Rf6Of9Rs6BpPsSgTHtSTRtLcTDYpmvsiAo=:kUyg6WXqRIVC+zCgXRzKzy7Ei/FfDSxHM3RZNiwZYeo=";

/// A running compute that applies the catalog of the spec from now on, by `/configure`.
pub async fn running_for_catalog(bed: &mut Bed) -> Compute {
    let mut compute = bed.start();
    bed.wait_running(&mut compute).await;
    bed.spec.skip_pg_catalog_updates = false;
    compute
}

impl Compute {
    /// Applies the spec as it is now; must work.
    pub async fn apply(&self, bed: &Bed) {
        let (code, body) = self.configure(bed).await;
        assert_eq!(code.as_u16(), 200, "{body}\n{}", self.log());
    }

    /// Applies the spec as it is now; must fail. Returns the error.
    pub async fn apply_fails(&self, bed: &Bed) -> String {
        let (code, body) = self.configure(bed).await;
        assert_eq!(code.as_u16(), 500, "{body}\n{}", self.log());
        assert_eq!(self.get("/status").await.1["status"], "failed");
        body["error"].as_str().unwrap().to_owned()
    }

    /// Sends the spec as it is now; must be refused before anything is changed. Returns the error.
    pub async fn refuses(&self, bed: &Bed) -> String {
        let (code, body) = self.configure(bed).await;
        assert_eq!(code.as_u16(), 400, "{body}\n{}", self.log());
        assert_eq!(self.get("/status").await.1["status"], "running");
        body["error"].as_str().unwrap().to_owned()
    }

    /// Applies the spec again: it must find nothing to do.
    pub async fn apply_changes_nothing(&mut self, bed: &Bed) {
        let line = "roles and databases are as the spec says, 0 statements";
        let before = self.count_in_log(line);
        self.apply(bed).await;
        self.wait_for_log_times(line, before + 1).await;
    }

    /// A session as the superuser in a database.
    pub async fn session_in(&self, database: &str) -> Client {
        let mut config: tokio_postgres::Config = self.connstr.parse().unwrap();
        config.dbname(database);
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Runs statements as the superuser in a database.
    pub async fn run_in(&self, database: &str, sql: &str) {
        let session = self.session_in(database).await;
        session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The same in the system database.
    pub async fn run(&self, sql: &str) {
        self.run_in("postgres", sql).await;
    }

    /// Rows of a query in a database, columns joined by `|`.
    pub async fn rows_in(&self, database: &str, query: &str) -> Vec<String> {
        let session = self.session_in(database).await;
        let messages = session.simple_query(query).await;
        let messages = messages.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| {
            let columns = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL"));
            columns.collect::<Vec<_>>().join("|")
        })
        .collect()
    }

    /// The same in the system database.
    pub async fn rows(&self, query: &str) -> Vec<String> {
        self.rows_in("postgres", query).await
    }

    /// Ends the compute without checks of storage.
    pub async fn end(&mut self) {
        assert_eq!(self.stop(Signal::SIGTERM).await, 1);
    }
}

/// A delta operation.
pub fn delta(action: &str, name: &str) -> Value {
    serde_json::json!({"action": action, "name": name})
}

/// A rename.
pub fn rename(action: &str, name: &str, new_name: &str) -> Value {
    serde_json::json!({"action": action, "name": name, "new_name": new_name})
}
