//! One sequence, done and judged.

use std::collections::HashSet;
use std::time::Duration;

use compute_ctl::dev::servers::Server;
use compute_ctl::state::{ComputeStatus, Event, TerminateMode, transition};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::steps::{Answer, Quality, Step};
use crate::support::{
    Bed, Compute, ControlPlane, PATIENCE, Pair, TlsFiles, assert_nothing_left, until,
};

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
    /// Numbers specs.
    specs: usize,
    waiting: JoinSet<Answered>,
    /// Exit codes of what should have ended the process.
    must_end: HashSet<i32>,
    /// And of what could, if it met the compute in the right state.
    may_end: HashSet<i32>,
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
        let (waiting, must_end) = Default::default();
        // To the control plane it is still detached, which a refresh would find out.
        let may_end = if attached { HashSet::new() } else { HashSet::from([1]) };
        Self { bed, files, control_plane, compute, specs: 0, waiting, must_end, may_end }
    }

    pub async fn step(&mut self, step: Step) {
        if !self.compute.is_alive() {
            return;
        }
        match step {
            Step::Configure(quality) => self.configure(quality),
            Step::Refresh => {
                let url = format!("{}/refresh_configuration", self.compute.internal);
                self.ask(Asked::Refresh, self.compute.http.post(url));
            }
            Step::ControlPlane(answer) => self.control_plane_says(answer),
            Step::Certificate => self.files.put_pair(&Pair::new()),
            Step::Crash => self.crash().await,
            Step::Terminate { fast } => {
                let mode = if fast { "fast" } else { "immediate" };
                let url = format!("{}/terminate?mode={mode}", self.compute.external);
                self.may_end.insert(0);
                self.ask(Asked::Terminate { fast }, self.compute.http.post(url));
            }
            Step::Signal => {
                self.compute.signal(Signal::SIGTERM);
                self.must_end.insert(1);
            }
            Step::Settle => self.settle().await,
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

    /// A spec like no other.
    fn another(&mut self) -> String {
        self.specs += 1;
        self.bed.spec.set("app.number", &self.specs.to_string());
        format!("operation-number-{}-", self.specs)
    }

    fn configure(&mut self, quality: Quality) {
        let operation = self.another();
        let mut body = self.bed.configure_body();
        spoil(&mut body["spec"], &operation, quality);
        let url = format!("{}/configure", self.compute.external);
        let request = self.compute.http.post(url).header("content-type", "application/json");
        self.ask(Asked::Configure { operation, quality }, request.body(body.to_string()));
    }

    fn control_plane_says(&mut self, answer: Answer) {
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
            Answer::Detached => {
                self.may_end.insert(1);
                (200, document(&self.files, &self.bed, "empty"))
            }
        };
        self.control_plane.answer(vec![answer]);
    }

    /// Only a Postgres that has been ready: to die before that is a failed start, another story.
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
        if self.compute.count_in_log("compute start finished") == 0 {
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

    /// Every answer, and then a status that stays as it is.
    async fn settle(&mut self) {
        while let Some(answered) = self.waiting.join_next().await {
            self.judge(answered.unwrap()).await;
        }
        let run = &*self;
        until("nothing goes on", || async {
            let steady = ["empty", "running", "failed", "refresh_configuration_pending"];
            match run.status().await {
                Some(status) => steady.contains(&status.as_str()) || status.starts_with("terminat"),
                None => true,
            }
        })
        .await;
    }

    async fn judge(&mut self, Answered { asked, got }: Answered) {
        let log = self.compute.log();
        let Some((code, body)) = got else {
            let ends = !self.must_end.is_empty() || !self.may_end.is_empty();
            assert!(ends, "no answer to {asked:?}\n{log}");
            return;
        };
        let ends = !self.must_end.is_empty() || !self.may_end.is_empty();
        let expected = match (&asked, code.as_u16()) {
            (Asked::Configure { operation, quality }, code) => {
                let begun = log.contains(operation);
                match (code, quality) {
                    (200, Quality::Good) => begun,
                    // A first configuration is not looked at by Postgres' own program, and the
                    // fake takes everything.
                    (200, Quality::Refused) => log.contains(&starting(operation)),
                    (500, Quality::Refused) => {
                        ends || (begun && body.contains("phase check_configuration"))
                    }
                    (500, Quality::Good) => ends,
                    (400, Quality::Unusable) | (412, Quality::Good | Quality::Refused) => !begun,
                    _ => false,
                }
            }
            (Asked::Refresh, code) => code == 200 || (code == 500 && body.contains("in state")),
            (Asked::Terminate { fast }, 200) => {
                self.must_end.insert(0);
                if *fast {
                    // It stays, and says the same again; a signal ends that.
                    let url = format!("{}/terminate", self.compute.external);
                    if let Ok(again) = self.compute.http.post(url).send().await {
                        assert_eq!(again.status(), 201, "{log}");
                        assert_eq!(again.text().await.unwrap(), body);
                    }
                    if self.compute.is_alive() {
                        self.compute.signal(Signal::SIGTERM);
                        self.must_end.insert(1);
                    }
                }
                true
            }
            (Asked::Terminate { .. }, code) => [201, 412].contains(&code) || (code == 500 && ends),
        };
        assert!(expected, "{asked:?}: {code} {body}\n{log}");
    }

    /// Whatever has happened, there is a way to `running` and from there to the end; unless the end
    /// has been asked for.
    pub async fn finish(mut self) {
        self.settle().await;
        if self.must_end.is_empty() && self.compute.is_alive() {
            self.lead_out().await;
        }
        let code = self.compute.wait_exit().await.code().unwrap();
        let reasons: HashSet<_> = self.must_end.union(&self.may_end).copied().collect();
        assert!(reasons.contains(&code), "{code}, not {reasons:?}\n{}", self.compute.log());
        assert_legal(&self.compute.log());
        assert_nothing_left(&self.bed);
    }

    async fn lead_out(&mut self) {
        // Unless it is detached just now, because it asked before.
        self.control_plane_says(Answer::Another);
        match self.status().await.as_deref() {
            Some("empty") => self.configure(Quality::Good),
            Some("failed" | "refresh_configuration_pending") => self.step(Step::Refresh).await,
            _ => {}
        }
        self.settle().await;
        if self.may_end.contains(&1) && !self.compute.is_alive() {
            return;
        }
        let run = &*self;
        until("it runs", || async {
            let status = run.status().await;
            status.is_none_or(|status| status == "running" || status.starts_with("terminat"))
        })
        .await;
        // A certificate may be in the way for a moment.
        while self.must_end.is_empty() && self.compute.is_alive() {
            self.step(Step::Terminate { fast: false }).await;
            self.settle().await;
        }
    }
}

fn starting(operation: &str) -> String {
    format!("starting compute: cluster dev, operation {operation},")
}

/// The control plane's answer with the spec as it is now, and the certificate's files.
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
        Quality::Unusable => spec["tenant_id"] = Value::Null,
    }
}

/// Every change of the status is one of the table, and they follow each other without a gap.
fn assert_legal(log: &str) {
    let events = [
        Event::Configure,
        Event::CertificateChanged,
        Event::BeginStart,
        Event::BeginConfiguration,
        Event::Refresh,
        Event::BeginRefresh,
        Event::Succeeded,
        Event::Failed,
        Event::Terminate(TerminateMode::Fast),
        Event::Terminate(TerminateMode::Immediate),
        Event::PostgresExited,
        Event::Signal,
        Event::Ended,
    ];
    let table = |from: ComputeStatus| {
        events.into_iter().filter_map(move |event| Some((from, transition(from, event)?)))
    };
    let legal: HashSet<(String, String)> = ComputeStatus::ALL
        .into_iter()
        .flat_map(table)
        .map(|(from, to)| (from.to_string(), to.to_string()))
        .collect();
    let mut now: Option<String> = None;
    for line in log.lines() {
        let Some((_, change)) = line.split_once("compute status changed from ") else { continue };
        let (from, to) = change.split_once(" to ").unwrap();
        let change = (from.to_owned(), to.to_owned());
        assert!(legal.contains(&change), "{line}\n{log}");
        assert!(now.is_none_or(|now| now == from), "{line}\n{log}");
        now = Some(change.1);
    }
    assert!(now.is_some(), "{log}");
}
