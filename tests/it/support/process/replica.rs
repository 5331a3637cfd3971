//! Hot standbys that stream from a real primary.

use std::str::FromStr as _;

use compute_ctl::dev::servers::Server;
use compute_ctl::spec::Lsn;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::assertions::until;
use crate::support::bed::Bed;
use crate::support::network::{HttpStub, Reply};
use crate::support::process::Compute;
use crate::support::server::Vanilla;

/// A replica of a plain server as primary, which can therefore be far ahead or silent.
pub struct Replica {
    pub bed: Bed,
    pub compute: Compute,
    pub primary: Vanilla,
    /// The endpoint storage, which has no state for a prewarm.
    pub storage: HttpStub,
}

impl Bed {
    /// Makes the spec that of a replica which streams from the server on a port.
    pub fn replicate_from(&mut self, port: u16) -> &mut Self {
        self.spec.mode = json!("Replica");
        let conninfo = format!("host=127.0.0.1 port={port} user=cloud_admin");
        self.spec.set("primary_conninfo", &conninfo).typed(
            "wal_retrieve_retry_interval",
            "50",
            "integer",
        );
        self
    }

    /// Makes prewarms use this storage.
    pub fn prewarm_from(&mut self, storage: &HttpStub) -> &mut Self {
        self.spec
            .member("endpoint_id", json!("ep-own"))
            .member("endpoint_storage_addr", json!(storage.address))
            .member("endpoint_storage_token", json!("token"));
        self
    }

    /// Turns the spec into that of a primary.
    pub fn be_primary(&mut self) -> &mut Self {
        self.spec.mode = json!("Primary");
        self.spec.settings.shift_remove("primary_conninfo");
        self
    }

    /// The body of a `/promote` to the spec as it is now.
    pub fn promote_body(&self, lsn: &str) -> Value {
        json!({"spec": self.spec.spec(), "wal_flush_lsn": lsn})
    }
}

impl Replica {
    /// The replica runs, and has replayed some WAL. The spec of the bed is that of the primary that
    /// it will become.
    pub async fn start(server: Server) -> Self {
        Self::start_with_env(server, &[]).await
    }

    /// The same with these variables in the environment of the compute.
    pub async fn start_with_env(server: Server, env: &[(&str, &str)]) -> Self {
        let primary = Vanilla::start(&server, &["autovacuum=off"]).await;
        primary.client.batch_execute("CREATE TABLE public.before AS SELECT 1 AS x").await.unwrap();
        let storage = HttpStub::start(Reply::Answer(404, Vec::new())).await;
        let mut bed = Bed::new(server).await;
        bed.without_autovacuum().prewarm_from(&storage).replicate_from(primary.port);
        let mut compute = bed.start_with_env(env);
        compute.wait_for("running").await;
        compute.wait_for_sql("SELECT to_regclass('public.before')", "before").await;
        bed.be_primary();
        Self { bed, compute, primary, storage }
    }

    /// The same with a prewarm that has found nothing.
    pub async fn prewarmed(server: Server) -> Self {
        let replica = Self::start(server).await;
        replica.compute.prewarm().await;
        replica
    }

    /// The LSN that the primary has written.
    pub async fn flushed(&self) -> String {
        self.on_primary("SELECT pg_current_wal_flush_lsn()::text").await
    }

    /// An LSN that the primary has not written yet, but will with [`Self::write`].
    pub async fn ahead(&self) -> String {
        self.on_primary("SELECT (pg_current_wal_insert_lsn() + 8192)::text").await
    }

    /// Makes the primary write beyond the LSN of [`Self::ahead`].
    pub async fn write(&self) {
        let sql = "CREATE TABLE public.after AS SELECT generate_series(1, 5000) AS x";
        self.primary.client.batch_execute(sql).await.unwrap();
    }

    async fn on_primary(&self, sql: &str) -> String {
        self.primary.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Asks for the promotion to the spec as it is now.
    pub async fn promote(&self, lsn: &str) -> (StatusCode, Value) {
        self.compute.post("/promote", Some(&self.bed.promote_body(lsn))).await
    }

    /// Sends the request, and waits until the promotion is in progress.
    pub async fn begin_promotion(&self, lsn: &str) -> JoinHandle<(u16, Value)> {
        let url = format!("{}/promote", self.compute.external);
        let request = self.compute.http.post(url).header("content-type", "application/json");
        let request = request.body(self.bed.promote_body(lsn).to_string());
        let asked = tokio::spawn(async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.json().await.unwrap())
        });
        until("the replica waits for WAL", || async {
            self.compute.get("/status").await.1["extra"]["phases"] == json!(["wait_for_wal"])
        })
        .await;
        asked
    }

    /// The replica answers reads, refuses writes, and has no trace of an attempt to promote it.
    pub async fn assert_usable(&self) {
        assert_eq!(self.compute.sql_text("SELECT pg_is_in_recovery()").await, "t");
        assert_eq!(self.compute.sql_text("SELECT x FROM public.before").await, "1");
        assert_eq!(self.compute.get("/status").await.1["status"], "running");
        assert!(self.bed.pgdata_text("postgresql.conf").contains("neon.compute_mode=replica"));
        self.compute.wait_for_sql("SHOW synchronous_standby_names", "").await;
        self.assert_nothing_masked();
    }

    /// No `ALTER SYSTEM` is in force.
    pub fn assert_nothing_masked(&self) {
        let text = self.bed.pgdata_text("postgresql.auto.conf");
        let settings = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(settings.count(), 0, "{text}");
        let staged = crate::support::bed::names(&self.bed.pgdata());
        assert!(!staged.iter().any(|name| name.starts_with(".postgresql")), "{staged:?}");
    }

    /// The compute is a primary that takes writes, and no setting overrides its configuration file.
    pub async fn assert_promoted(&self) {
        assert_eq!(self.compute.sql_text("SELECT pg_is_in_recovery()").await, "f");
        assert!(self.bed.pgdata_text("postgresql.conf").contains("neon.compute_mode=primary"));
        self.assert_nothing_masked();
        // Otherwise the write would never return.
        self.compute.wait_for_sql("SHOW synchronous_standby_names", "").await;
        self.compute.run("CREATE TABLE public.mine (x int)").await;
        assert_eq!(self.compute.get("/status").await.1["status"], "running");
    }

    /// Ends both without checks of storage.
    pub async fn end(mut self) {
        self.compute.end().await;
        self.primary.stop().await;
        crate::support::assertions::assert_nothing_left(&self.bed);
    }
}

impl Compute {
    /// A prewarm from begin to end.
    pub async fn prewarm(&self) -> Value {
        assert_eq!(self.post("/lfc/prewarm", None).await.0.as_u16(), 202);
        self.prewarm_outcome().await
    }

    /// The outcome of the prewarm.
    pub async fn prewarm_outcome(&self) -> Value {
        until("the prewarm has ended", || async {
            self.get("/lfc/prewarm").await.1["status"] != "prewarming"
        })
        .await;
        self.get("/lfc/prewarm").await.1
    }
}

/// An LSN as the wrapper takes it.
pub fn lsn_number(text: &str) -> u64 {
    Lsn::from_str(text).unwrap().0
}
