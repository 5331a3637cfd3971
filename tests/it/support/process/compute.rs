//! One `compute_ctl` process and its API.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use compute_ctl::os::procs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::assertions::{PATIENCE, until};
use crate::support::bed::{Bed, run_as};
use crate::support::process::program;

/// The pause between two polls of the status.
const POLL: Duration = Duration::from_millis(20);

pub struct Compute {
    child: Child,
    pub external: String,
    pub internal: String,
    pub connstr: String,
    pub pgdata: PathBuf,
    log: PathBuf,
    pub http: reqwest::Client,
}

impl Compute {
    /// Starts the binary under test; its output goes to a file beside PGDATA.
    pub fn spawn(bed: &Bed, args: &[String], env: &[(&str, &str)]) -> Self {
        Self::spawn_by(bed, Command::new(program()), args, env)
    }

    /// Starts the binary through another program, which must `exec` its arguments.
    pub fn spawn_through(bed: &Bed, mut through: Command, args: &[String]) -> Self {
        through.arg(program());
        Self::spawn_by(bed, through, args, &[])
    }

    fn spawn_by(bed: &Bed, mut command: Command, args: &[String], env: &[(&str, &str)]) -> Self {
        // One file per compute: a bed can have several, one after the other or at once.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = bed.dir().join(format!("compute-{}-{count}.log", std::process::id()));
        let out = File::options().create(true).append(true).open(&log).unwrap();
        // A preloaded library makes files that belong to the user of the process at its start.
        if env.iter().any(|(name, _)| *name == "LD_PRELOAD")
            && let Some(user) = run_as()
        {
            command.uid(user.uid).gid(user.gid);
        }
        command
            .args(args)
            .env("OTEL_SDK_DISABLED", "true")
            .env_remove("POSTGRES_PATH")
            .envs(env.iter().copied())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .kill_on_drop(true);
        #[expect(clippy::disallowed_methods, reason = "the test reaps it itself")]
        let child = command.spawn().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            child,
            external: format!("http://127.0.0.1:{}", bed.external_port),
            internal: format!("http://127.0.0.1:{}", bed.internal_port),
            connstr: bed.connstr(),
            pgdata: bed.pgdata(),
            log,
            http: reqwest::Client::builder().no_proxy().timeout(2 * PATIENCE).build().unwrap(),
        }
    }

    /// Sends a token with every request from now on.
    pub fn authorize(&mut self, token: &str) {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        value.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let client = reqwest::Client::builder().no_proxy().timeout(2 * PATIENCE);
        self.http = client.default_headers(headers).build().unwrap();
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("the process has ended")).unwrap()
    }

    /// Children that have ended and were not reaped yet. The reaper may need a moment.
    pub fn zombies(&self) -> Vec<i32> {
        let (me, all) = (self.pid(), procs::all().unwrap());
        all.iter().filter(|p| p.zombie && p.ppid == me).map(|p| p.pid).collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Everything the process and Postgres wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.log_bytes()).into_owned()
    }

    /// The same, as bytes.
    pub fn log_bytes(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap()
    }

    /// The log for a message of a failed test: without our own polling.
    fn log_for_reading(&self) -> String {
        let log = self.log();
        let lines = log.lines().filter(|line| !line.contains("method=GET url.path=/status"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Empties the log, which computes on the same bed share.
    pub fn forget_log(&self) {
        File::create(&self.log).unwrap();
    }

    /// The error in `/status`, once the start has failed.
    pub async fn wait_for_failure(&mut self) -> String {
        let (status, seen) = self.wait_for_any(&["failed", "running"]).await;
        assert_eq!(status, "failed", "{seen:?}\n{}", self.log());
        self.get("/status").await.1["error"].as_str().unwrap().to_owned()
    }

    /// Ends a compute with a failed start without waiting for the end of its stay.
    pub async fn dismiss(&mut self) {
        let (code, answer) = self.post("/terminate?mode=immediate", None).await;
        assert!(code == StatusCode::OK && answer.get("lsn").is_some(), "{code} {answer}");
        assert_eq!(self.wait_exit().await.code(), Some(1));
    }

    /// `GET` on the external server; `None` while it does not answer.
    pub async fn try_get(&self, path: &str) -> Option<(StatusCode, Value)> {
        let response = self.http.get(format!("{}{path}", self.external)).send().await.ok()?;
        let status = response.status();
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let answer = self.try_get(path).await;
        answer.unwrap_or_else(|| panic!("no answer to GET {path}\n{}", self.log_for_reading()))
    }

    /// `POST` on the external server.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        self.post_to(&self.external, path, body).await
    }

    /// `POST` on the internal server.
    pub async fn post_internal(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.post_to(&self.internal, path, Some(body)).await
    }

    async fn post_to(&self, server: &str, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let mut request = self.http.post(format!("{server}{path}"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await;
        let response =
            response.unwrap_or_else(|e| panic!("POST {path}: {e:?}\n{}", self.log_for_reading()));
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// `POST /configure` with the spec of the bed as it is now.
    pub async fn configure(&self, bed: &Bed) -> (StatusCode, Value) {
        self.post("/configure", Some(&bed.configure_body())).await
    }

    /// `POST /refresh_configuration` on the internal server: must be accepted; does not wait for
    /// its effect.
    pub async fn refresh(&self) {
        let url = format!("{}/refresh_configuration", self.internal);
        let answer = self.http.post(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", self.log_for_reading());
        assert_eq!(answer.text().await.unwrap(), "");
    }

    /// Waits until `/status` shows one of these; all statuses seen on the way are returned too.
    pub async fn wait_for_any(&mut self, wanted: &[&str]) -> (String, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen: Vec<String> = Vec::new();
        loop {
            if let Some((_, document)) = self.try_get("/status").await
                && let Some(status) = document["status"].as_str()
            {
                if seen.last().is_none_or(|last| last != status) {
                    seen.push(status.to_owned());
                }
                if wanted.contains(&status) {
                    return (status.to_owned(), seen);
                }
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "the process ended with {status}, seen {seen:?}\n{}",
                    self.log_for_reading()
                );
            }
            assert!(
                Instant::now() < deadline,
                "not {wanted:?} but {seen:?}\n{}",
                self.log_for_reading()
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for exactly this status; `failed` on the way is the end of the test.
    pub async fn wait_for(&mut self, wanted: &str) -> Vec<String> {
        let (status, seen) = self.wait_for_any(&[wanted, "failed"]).await;
        assert_eq!(status, wanted, "{:?}\n{}", self.get("/status").await, self.log_for_reading());
        seen
    }

    /// Waits until `/status` shows this, whatever it shows before.
    pub async fn until_status(&self, wanted: &str) {
        until(wanted, || async { self.get("/status").await.1["status"] == wanted }).await;
    }

    /// Waits until the log holds a text.
    pub async fn wait_for_log(&self, text: &str) {
        self.wait_for_log_times(text, 1).await;
    }

    /// Waits until the log holds a text so many times.
    pub async fn wait_for_log_times(&self, text: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.log().matches(text).count() < times {
            let late = Instant::now() >= deadline;
            assert!(!late, "not {times} times {text:?} in\n{}", self.log_for_reading());
            tokio::time::sleep(POLL).await;
        }
    }

    /// The log holds a text exactly this often. A line that was written before an answer may appear
    /// in the log after it.
    pub async fn assert_logged(&self, text: &str, times: usize) {
        self.wait_for_log_times(text, times).await;
        assert_eq!(self.count_in_log(text), times, "{text:?} in\n{}", self.log_for_reading());
    }

    /// The log with every line that the program has written until now: its lines appear in order,
    /// and the request of this call writes the last one. Lines of Postgres may come later.
    pub async fn settled_log(&self) -> String {
        let id = format!("settled-{:016x}", fastrand::u64(..));
        let request = self.http.get(format!("{}/status", self.external));
        request.header("x-request-id", &id).send().await.unwrap();
        self.wait_for_log(&id).await;
        self.log()
    }

    /// How often the log holds a text.
    pub fn count_in_log(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// The status in `/metrics`, which needs no token.
    pub async fn status_metric(&self) -> Option<String> {
        let (_, text) = self.try_get("/metrics").await?;
        let text = text.as_str()?;
        let up = text.lines().find(|line| line.starts_with("compute_ctl_up{"))?;
        Some(up.split_once("status=\"")?.1.split_once('"')?.0.to_owned())
    }

    /// The number in `postmaster.pid`.
    pub fn postmaster(&self) -> i32 {
        let text = std::fs::read_to_string(self.pgdata.join("postmaster.pid")).unwrap();
        text.lines().next().unwrap().trim().parse().unwrap()
    }

    /// Whether the process has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until the process has ended by itself.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        self.wait_exit_within(PATIENCE).await
    }

    pub async fn wait_exit_within(&mut self, limit: Duration) -> ExitStatus {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => {
                panic!("the process did not end within {limit:?}\n{}", self.log_for_reading())
            }
        }
    }

    /// Sends a signal; returns the exit code.
    pub async fn stop(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.wait_exit().await.code().unwrap_or(-1)
    }

    /// One SQL session as the superuser.
    pub async fn sql(&self) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.connstr, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Waits until a query gives this; a reload needs a moment to reach a session.
    pub async fn wait_for_sql(&self, query: &str, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.sql_text(query).await;
            if seen == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{query}: {seen}, not {wanted}\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// First column of the first row, as text.
    pub async fn sql_text(&self, query: &str) -> String {
        let rows = self.sql().await.simple_query(query).await.unwrap();
        let row = rows.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        row.unwrap().get(0).unwrap_or("NULL").to_owned()
    }
}
