//! Runs one sequence and judges it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use compute_ctl::dev::servers::Server;
use compute_ctl::state::{ComputeStatus, Event, TerminateMode, transition};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::steps::{Answer, Quality, Step};
use crate::support::assertions::{PATIENCE, assert_nothing_left, eventually};
use crate::support::bed::{Bed, Pair, TlsFiles};
use crate::support::network::ControlPlane;
use crate::support::process::Compute;

/// Statuses that last until a request comes; `refresh_configuration_pending` lasts as long as the
/// pause.
const STEADY: [&str; 4] = ["empty", "running", "failed", REFRESH_PENDING];
const REFRESH_PENDING: &str = "refresh_configuration_pending";

/// An answer; none if the connection broke.
struct Answered {
    asked: Asked,
    got: Option<(StatusCode, String)>,
}

#[derive(Debug, Clone)]
enum Asked {
    Configure { operation: String, quality: Quality },
    Refresh,
    Terminate { fast: bool },
}

pub struct Run {
    bed: Bed,
    files: TlsFiles,
    control_plane: ControlPlane,
    compute: Compute,
    /// Number of the next spec.
    specs: usize,
    waiting: JoinSet<Answered>,
    /// Exit codes of the events that must have ended the process.
    must_end: HashSet<i32>,
    /// Exit codes of the events that end the process if they meet it in the right state.
    may_end: HashSet<i32>,
    /// Answers that only a compute that ends gives, and broken connections.
    end_told: Vec<String>,
    /// The control plane considers the compute detached.
    detached: bool,
    /// A refresh was requested and may not be over.
    refreshing: bool,
}

impl Run {
    pub async fn start(server: Server, attached: bool) -> Self {
        let mut bed = Bed::new(server).await;
        bed.fake_postgres();
        bed.spec.member("features", json!(["tls_experimental"]));
        let files = TlsFiles::new(&bed);
        files.put_pair(&Pair::new());
        let first = document(&files, &bed, if attached { "attached" } else { "empty" });
        let control_plane = ControlPlane::start(vec![(200, first)]).await;
        let args = control_plane.args(&bed);
        let mut compute = Compute::spawn(&bed, &args, &ControlPlane::ENV);
        compute.wait_for(if attached { "running" } else { "empty" }).await;
        let (waiting, must_end, may_end, end_told) = Default::default();
        Self {
            bed,
            files,
            control_plane,
            compute,
            specs: 0,
            waiting,
            must_end,
            may_end,
            end_told,
            detached: !attached,
            refreshing: false,
        }
    }

    pub async fn step(&mut self, step: Step) {
        if !self.compute.is_alive() {
            return;
        }
        match step {
            Step::Configure(quality) => self.configure(quality),
            Step::Refresh => {
                let url = format!("{}/refresh_configuration", self.compute.internal);
                self.refreshing = true;
                self.may_be_detached();
                self.ask(Asked::Refresh, self.compute.http.post(url));
            }
            Step::ControlPlane(answer) => self.control_plane_says(answer),
            Step::Certificate => self.files.put_pair(&Pair::new()),
            Step::Crash => self.crash().await,
            Step::Terminate { fast } => {
                let mode = if fast { "fast" } else { "immediate" };
                let url = format!("{}/terminate?mode={mode}", self.compute.external);
                self.ask(Asked::Terminate { fast }, self.compute.http.post(url));
            }
            Step::Signal => {
                self.compute.signal(Signal::SIGTERM);
                self.must_end.insert(1);
            }
            Step::Settle => {
                self.settle().await;
            }
            Step::Pause(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            }
        }
    }

    fn ask(&mut self, asked: Asked, request: reqwest::RequestBuilder) {
        self.waiting.spawn(async move {
            let answer = async {
                let response = request.send().await.ok()?;
                let status = response.status();
                Some((status, response.text().await.ok()?))
            };
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(got) => Answered { asked, got },
                Err(_) => panic!("no answer to {asked:?}"),
            }
        });
    }

    /// A spec that differs from all others.
    fn another(&mut self) -> String {
        self.specs += 1;
        self.bed.spec.set("app.number", &self.specs.to_string());
        format!("operation-number-{}-", self.specs)
    }

    /// A refresh may find the compute detached, or may have just missed it.
    fn may_be_detached(&mut self) {
        if self.detached && self.refreshing {
            self.may_end.insert(1);
        }
    }

    fn started(&self) -> bool {
        self.compute.count_in_log("compute start finished") > 0
    }

    fn configure(&mut self, quality: Quality) {
        // A start that fails is not modelled.
        let early = matches!(quality, Quality::Catalog) && !self.started();
        let quality = if early { Quality::Good } else { quality };
        let operation = self.another();
        let mut body = self.bed.configure_body();
        spoil(&mut body["spec"], &operation, quality);
        let url = format!("{}/configure", self.compute.external);
        let request = self.compute.http.post(url).header("content-type", "application/json");
        self.ask(Asked::Configure { operation, quality }, request.body(body.to_string()));
    }

    fn control_plane_says(&mut self, answer: Answer) {
        self.detached = matches!(answer, Answer::Detached);
        self.may_be_detached();
        let operation = self.another();
        let spec = |quality| {
            let mut document: Value =
                serde_json::from_str(&document(&self.files, &self.bed, "attached")).unwrap();
            spoil(&mut document["spec"], &operation, quality);
            (200, document.to_string())
        };
        let answer = match answer {
            Answer::Another => spec(Quality::Good),
            Answer::Refused => spec(Quality::Refused),
            Answer::Malformed => (200, "{".to_owned()),
            Answer::Down => (503, String::new()),
            Answer::Forbidden => (403, String::new()),
            Answer::Detached => (200, document(&self.files, &self.bed, "empty")),
        };
        self.control_plane.answer(vec![answer]);
    }

    /// Only a Postgres that has been ready is killed: an earlier death is a failed start, which is
    /// not modelled.
    async fn crash(&mut self) {
        let status = self.status().await;
        if status.is_none_or(|status| ["empty", "init"].contains(&status.as_str())) {
            return;
        }
        let Ok(text) = std::fs::read_to_string(self.bed.pgdata().join("postmaster.pid")) else {
            return;
        };
        let pid: i32 = text.lines().next().unwrap().parse().unwrap();
        // The first configuration may still be on its way: then the file is there before the end
        // of the start.
        if !self.started() {
            return;
        }
        if kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
            self.must_end.insert(1);
        }
    }

    async fn status(&self) -> Option<String> {
        let (_, document) = self.compute.try_get("/status").await?;
        document["status"].as_str().map(str::to_owned)
    }

    /// Waits for every answer, and then for a status that lasts. Returns whether the compute lives
    /// on; then no event may have required its end.
    async fn settle(&mut self) -> bool {
        while let Some(answered) = self.waiting.join_next().await {
            self.judge(answered.unwrap()).await;
        }
        let Some(status) = self.lasting_status().await else { return false };
        let (told, log) = (&self.end_told, self.compute.log());
        assert!(told.is_empty(), "{status}, but {told:?}\n{log}");
        self.refreshing = status == REFRESH_PENDING;
        if !self.refreshing {
            self.may_end.clear();
        }
        true
    }

    /// None if the compute ends.
    async fn lasting_status(&mut self) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        while self.compute.is_alive() {
            let status = self.status().await;
            match &status {
                Some(status) if status.starts_with("terminat") => return None,
                Some(lasts) if self.must_end.is_empty() && STEADY.contains(&lasts.as_str()) => {
                    return status;
                }
                _ => {}
            }
            let (must, log) = (&self.must_end, self.compute.log());
            assert!(Instant::now() < deadline, "still {status:?}, to end with {must:?}\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    }

    async fn judge(&mut self, Answered { asked, got }: Answered) {
        let Some((code, body)) = got else {
            self.end_told.push(format!("no answer to {asked:?}"));
            if matches!(asked, Asked::Terminate { .. }) {
                self.may_end.insert(0);
            }
            return;
        };
        let code = code.as_u16();
        let end_told = match code {
            200 => false,
            201 => true,
            _ => ["is ending", "erminat"].iter().any(|part| body.contains(part)),
        };
        if end_told {
            self.end_told.push(format!("{asked:?}: {code} {body}"));
        }
        let log = self.compute.log();
        let expected = match (&asked, code) {
            (Asked::Configure { operation, quality: Quality::Good }, 200) => {
                let applied =
                    format!("finished reconfiguration of compute node for operation {operation}\n");
                let done = [applied, starting(operation)];
                let is_done = || done.iter().any(|line| self.compute.log().contains(line));
                eventually(&format!("{operation} is in force"), is_done).await;
                true
            }
            // Postgres' own program does not check a first configuration, and the fake accepts
            // everything.
            (Asked::Configure { operation, quality: Quality::Refused }, 200) => {
                log.contains(&starting(operation))
            }
            (Asked::Configure { operation, quality: Quality::Refused }, 400) => {
                log.contains(operation) && body.contains("phase check_configuration")
            }
            (Asked::Configure { operation, quality }, 500) => {
                let failed_in = |phase| log.contains(operation) && body.contains(phase);
                end_told
                    || match quality {
                        Quality::Catalog => failed_in("phase apply_catalog"),
                        Quality::Good | Quality::Refused | Quality::Unusable => false,
                    }
            }
            (Asked::Configure { operation, quality: Quality::Unusable }, 400) => {
                !log.contains(operation)
            }
            (Asked::Configure { operation, .. }, 412) => {
                !log.contains(operation) && refused_rightly(Event::Configure, &body)
            }
            (Asked::Refresh, 500) => refused_rightly(Event::Refresh, &body),
            (Asked::Refresh, code) => code == 200,
            (Asked::Terminate { fast }, 200) => {
                self.must_end.insert(0);
                if *fast {
                    self.cut_the_stay_short(&body).await;
                }
                true
            }
            (Asked::Terminate { .. }, 412) => {
                refused_rightly(Event::Terminate(TerminateMode::Fast), &body)
            }
            (Asked::Terminate { .. }, _) => end_told,
            _ => false,
        };
        assert!(expected, "{asked:?}: {code} {body}\n{log}");
    }

    /// After a fast `/terminate` the compute stays and repeats its answer until a signal ends it.
    async fn cut_the_stay_short(&mut self, answer: &str) {
        let url = format!("{}/terminate", self.compute.external);
        if let Ok(again) = self.compute.http.post(url).send().await {
            assert_eq!(again.status(), 201, "{}", self.compute.log());
            assert_eq!(again.text().await.unwrap(), answer);
        }
        if self.compute.is_alive() {
            self.compute.signal(Signal::SIGTERM);
            self.must_end.insert(1);
        }
    }

    /// Whatever has happened, the compute can return to `running` and end from there, unless its
    /// end has been requested.
    pub async fn finish(mut self) {
        if self.settle().await {
            self.lead_out().await;
        }
        let code = self.compute.wait_exit().await.code().unwrap();
        let (reasons, log) = (&self.must_end | &self.may_end, self.compute.log());
        assert!(reasons.contains(&code), "{code}, not {reasons:?}\n{log}");
        let detached = log.contains("this compute is detached");
        assert!(
            code == 0 || detached || self.must_end.contains(&code),
            "{code} for nothing\n{log}"
        );
        assert_legal(&log);
        assert_nothing_left(&self.bed);
    }

    /// Retries until it ends: a certificate or a failed refresh may delay it for a moment.
    async fn lead_out(&mut self) {
        self.control_plane_says(Answer::Another);
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no way out\n{}", self.compute.log());
            match self.status().await.as_deref() {
                Some("empty") => self.configure(Quality::Good),
                Some("failed" | REFRESH_PENDING) => self.step(Step::Refresh).await,
                Some("running") => self.step(Step::Terminate { fast: false }).await,
                _ => {}
            }
            if !self.settle().await {
                return;
            }
        }
    }
}

/// In the status that the refusal names, the table does not allow the event.
fn refused_rightly(event: Event, body: &str) -> bool {
    let is_named = |status: &ComputeStatus| {
        [format!("compute status: {status}\""), format!("in state {status:?}\"")]
            .iter()
            .any(|text| body.contains(text))
    };
    let mut all = ComputeStatus::ALL.into_iter();
    all.any(|status| is_named(&status) && transition(status, event).is_none())
}

fn starting(operation: &str) -> String {
    format!("starting compute for project dev, operation {operation},")
}

/// Publishes the control plane's answer with the current spec, and the certificate's files.
fn document(files: &TlsFiles, bed: &Bed, status: &str) -> String {
    let mut document = files.config(bed);
    document["status"] = json!(status);
    if status == "empty" {
        document["spec"] = Value::Null;
    }
    document.to_string()
}

fn spoil(spec: &mut Value, operation: &str, quality: Quality) {
    spec["operation_uuid"] = json!(operation);
    match quality {
        Quality::Good => {}
        Quality::Refused => {
            let settings = spec["cluster"]["settings"].as_array_mut().unwrap();
            settings.push(json!({"name": "work_memory", "value": "1", "vartype": "integer"}));
        }
        Quality::Catalog => spec["skip_pg_catalog_updates"] = json!(false),
        Quality::Unusable => spec["tenant_id"] = Value::Null,
    }
}

/// Every change of the status is in the table, and each begins where the last one ended.
fn assert_legal(log: &str) {
    let table = |from: ComputeStatus| {
        Event::ALL.into_iter().filter_map(move |event| Some((from, transition(from, event)?)))
    };
    let legal: HashSet<(String, String)> = ComputeStatus::ALL
        .into_iter()
        .flat_map(table)
        .map(|(from, to)| (from.to_string(), to.to_string()))
        .collect();
    let mut now: Option<String> = None;
    for line in log.lines() {
        let Some((_, change)) = line.split_once("Changing compute status from ") else { continue };
        let (from, to) = change.split_once(" to ").unwrap();
        let change = (from.to_owned(), to.to_owned());
        assert!(legal.contains(&change), "{line}\n{log}");
        assert!(now.is_none_or(|now| now == from), "{line}\n{log}");
        now = Some(change.1);
    }
    assert!(now.is_some(), "{log}");
}
