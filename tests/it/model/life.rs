//! Runs one life, and compares everything that can be seen of it with the model.

use std::time::{Duration, Instant};

use compute_ctl::dev::servers::Server;
use compute_ctl::os::procs;
use compute_ctl::state::ComputeStatus;
use nix::sys::signal::{Signal as Kill, kill};
use nix::unistd::Pid;
use tokio::task::JoinSet;

use super::belief::Belief;
use super::documents::{Documents, question};
use super::found::{Found, found};
use super::legal::assert_legal;
use super::steps::{Asked, Offer, Quality, Sequence, Signal, Step};
use super::world::{self, Fetched, World};
use crate::support::assertions::{PATIENCE, assert_nothing_left};
use crate::support::bed::Pair;
use crate::support::network::{HttpStub, Reply};
use crate::support::process::Compute;

/// Requests without an answer at a time; each multiplies the states that are possible.
const MOST_WAITING: usize = 3;
/// Requests of a life whose client hangs up: whether the compute has seen one is never certain.
const MOST_HANG_UPS: usize = 2;
const POLL: Duration = Duration::from_millis(15);
/// Signals that are further apart count as two.
const APART: Duration = Duration::from_millis(20);

struct Answered {
    id: u32,
    /// None if the connection broke.
    got: Option<(u16, String)>,
}

pub struct Life {
    documents: Documents,
    control_plane: HttpStub,
    compute: Compute,
    belief: Belief,
    waiting: JoinSet<Answered>,
    last_id: u32,
    hang_ups: usize,
    /// What was done and seen, for the message of a failed run.
    story: Vec<String>,
}

impl Life {
    pub async fn start(server: Server, kind: world::Server, sequence: &Sequence) -> Self {
        let mut documents = Documents::new(server, kind).await;
        let first = sequence.attached.then(|| documents.another(Quality::Good));
        let reply = Reply::Answer(200, documents.control_plane(first.is_some()).into());
        let control_plane = HttpStub::start(reply).await;
        let args = documents.bed.args_for(&control_plane.url());
        let compute = Compute::spawn(&documents.bed, &args, &[]);
        let mut life = Self {
            documents,
            control_plane,
            compute,
            belief: Belief::new(World::new(kind, first)),
            waiting: JoinSet::new(),
            last_id: 0,
            hang_ups: 0,
            story: Vec::new(),
        };
        life.until_it_answers().await;
        life
    }

    pub async fn live(mut self, steps: &[Step]) {
        for step in steps {
            if !self.compute.is_alive() {
                break;
            }
            self.story.push(format!("{step:?}"));
            self.step(*step).await;
        }
        self.finish().await;
    }

    async fn until_it_answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.look().await.is_none() {
            self.in_time(deadline, "it does not answer");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Ask { asked, hangs_up } => self.ask(asked, hangs_up).await,
            Step::ControlPlane(offer) => self.offer(offer),
            Step::Certificate => {
                self.belief.happens(|world| world.certificate = true);
                self.documents.files.put_pair(&Pair::new());
            }
            Step::Crash => {
                if let Some(postmaster) = self.postmaster() {
                    self.belief.happens(|world| world.crashed = true);
                    let _ = kill(postmaster, Kill::SIGKILL);
                }
            }
            Step::Freeze(millis) => {
                if let Some(postmaster) = self.postmaster() {
                    let _ = kill(postmaster, Kill::SIGSTOP);
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    let _ = kill(postmaster, Kill::SIGCONT);
                }
            }
            Step::Signal(signal) => self.signal(signal).await,
            Step::Settle => {
                self.settle().await;
            }
            Step::Pause(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }

    /// The server, if it is one that runs: a file can outlive it.
    fn postmaster(&self) -> Option<Pid> {
        let pgdata = self.documents.bed.pgdata();
        let text = std::fs::read_to_string(pgdata.join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        let here = procs::cwd(pid)? == pgdata.canonicalize().ok()?;
        here.then(|| Pid::from_raw(pid))
    }

    async fn signal(&mut self, signal: Signal) {
        let (first, again) = match signal {
            Signal::Term => (Kill::SIGTERM, None),
            Signal::Int => (Kill::SIGINT, None),
            Signal::Quit => (Kill::SIGQUIT, None),
            Signal::Twice(pause) => (Kill::SIGTERM, Some(Duration::from_millis(pause))),
            Signal::Hangup => {
                self.belief.happens(|world| world.hangup = true);
                return self.compute.signal(Kill::SIGHUP);
            }
            Signal::User => return self.compute.signal(Kill::SIGUSR1),
        };
        self.belief.happens(|world| world.signalled = true);
        self.compute.signal(first);
        if let Some(pause) = again {
            tokio::time::sleep(pause.max(APART)).await;
            if self.compute.is_alive() {
                self.compute.signal(first);
            }
        }
    }

    fn offer(&mut self, offer: Offer) {
        let (offered, reply) = match offer {
            Offer::New(quality) => {
                let spec = self.documents.another(quality);
                let document = self.documents.control_plane(true);
                (Fetched::Spec(spec), Reply::Answer(200, document.into()))
            }
            Offer::Same => match self.documents.last() {
                Some(spec) => {
                    let document = self.documents.control_plane(true);
                    (Fetched::Spec(spec), Reply::Answer(200, document.into()))
                }
                None => return,
            },
            Offer::Malformed => (Fetched::Failure, Reply::Answer(200, b"{".to_vec())),
            Offer::Down => (Fetched::Failure, Reply::Answer(503, Vec::new())),
            Offer::Forbidden => (Fetched::Failure, Reply::Answer(403, Vec::new())),
            Offer::Stalls => (Fetched::Failure, Reply::Answer(503, Vec::new()).held()),
            Offer::Resets => (Fetched::Failure, Reply::Reset),
            Offer::Detached => {
                let document = self.documents.control_plane(false);
                (Fetched::Detached, Reply::Answer(200, document.into()))
            }
        };
        self.belief.is_offered(offered);
        self.control_plane.reply(reply);
    }

    async fn ask(&mut self, asked: Asked, hangs_up: Option<u64>) {
        while self.waiting.len() >= MOST_WAITING {
            self.take_answer().await;
        }
        let (request, builder) = question(&mut self.documents, &self.compute, asked);
        let hangs_up = hangs_up.filter(|_| self.hang_ups < MOST_HANG_UPS);
        self.hang_ups += usize::from(hangs_up.is_some());
        self.last_id += 1;
        let id = self.last_id;
        self.story.push(format!("request {id}: {request:?}"));
        self.belief.is_asked(id, request, hangs_up.is_some());
        let answer = async {
            let response = builder.send().await.ok()?;
            let code = response.status().as_u16();
            Some((code, response.text().await.ok()?))
        };
        if let Some(millis) = hangs_up {
            // Not beside other steps: a client that has left is not followed any more.
            let limit = Duration::from_millis(millis);
            let _ = tokio::time::timeout(limit, answer).await;
            return;
        }
        self.waiting.spawn(async move {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(got) => Answered { id, got },
                Err(_) => panic!("no answer to request {id}"),
            }
        });
    }

    async fn take_answer(&mut self) {
        self.control_plane.release();
        let Some(answered) = self.waiting.join_next().await else { return };
        let Answered { id, got } = answered.unwrap_or_else(|error| {
            panic!("{error}\n{}", self.report());
        });
        self.story.push(format!("answer {id}: {got:?}"));
        let seen = got.as_ref().map(|(code, body)| (*code, body.as_str()));
        let fits = self.belief.answers(id, seen);
        self.must(fits);
    }

    /// Shows a status to the model; `None` while the compute does not answer.
    async fn look(&mut self) -> Option<ComputeStatus> {
        let (_, document) = self.compute.try_get("/status").await?;
        let status: ComputeStatus = serde_json::from_value(document["status"].clone()).unwrap();
        self.story.push(format!("status {status}"));
        let fits = self.belief.shows(status);
        self.must(fits);
        Some(status)
    }

    /// Waits for every answer, and then for a status that lasts. Returns it if the compute lives on.
    async fn settle(&mut self) -> Option<ComputeStatus> {
        self.control_plane.release();
        while !self.waiting.is_empty() {
            self.take_answer().await;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.compute.is_alive() {
            if let Some(status) = self.look().await {
                if self.belief.may_rest_in(status) {
                    self.check_file();
                    self.check_catalog(status).await;
                    return Some(status);
                }
                if status == ComputeStatus::Terminated && self.belief.stays_long() {
                    self.signal(Signal::Term).await;
                }
            }
            self.control_plane.release();
            self.in_time(deadline, "it neither rests nor ends");
            tokio::time::sleep(POLL).await;
        }
        None
    }

    /// The file of Postgres is that of the spec in force, also after a failure.
    fn check_file(&mut self) {
        let Some(number) = self.documents.number_in_force() else { return };
        self.story.push(format!("file of spec {number}"));
        let fits = self.belief.has_file_of(number);
        self.must(fits);
    }

    /// Postgres has loaded the file, and its catalog is that of the specs that were applied.
    async fn check_catalog(&mut self, status: ComputeStatus) {
        let rests = [ComputeStatus::Running, ComputeStatus::Failed];
        if !self.documents.is_real() || !rests.contains(&status) || self.belief.never_started() {
            return;
        }
        let Some(Found { number, catalog }) = found(&self.compute.connstr).await else {
            self.story.push("no session".to_owned());
            return;
        };
        self.story.push(format!("spec {number}, {catalog:?}"));
        let fits = self.belief.has_file_of(number);
        self.must(fits);
        let fits = self.belief.has_catalog(&catalog);
        self.must(fits);
    }

    /// Whatever has happened, the compute can return to `running` and end from there, unless its
    /// end has been requested.
    async fn finish(mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut status = self.settle().await;
        if status.is_some() {
            self.offer(Offer::New(Quality::Good));
        }
        while let Some(lasting) = status {
            self.in_time(deadline, "there is no way out");
            let asked = match lasting {
                ComputeStatus::Empty => Asked::Configure(super::steps::Body::New(Quality::Good)),
                ComputeStatus::Failed | ComputeStatus::RefreshConfigurationPending
                    if !self.belief.never_started() =>
                {
                    Asked::Refresh
                }
                _ => Asked::Terminate(super::steps::Mode::Immediate),
            };
            self.ask(asked, None).await;
            status = self.settle().await;
        }
        let code = self.compute.wait_exit().await.code().unwrap();
        self.story.push(format!("exit code {code}"));
        let fits = self.belief.exits(code);
        self.must(fits);
        assert_legal(&self.compute.log());
        assert_nothing_left(&self.documents.bed);
    }

    fn in_time(&self, deadline: Instant, what: &str) {
        assert!(Instant::now() < deadline, "{what}\n{}\n{}", self.belief.summary(), self.report());
    }

    fn must(&self, fits: Result<(), String>) {
        if let Err(possible) = fits {
            panic!("the model does not expect this\n{possible}\n{}", self.report());
        }
    }

    fn report(&self) -> String {
        format!("{}\n{}", self.story.join("\n"), self.compute.log())
    }
}

impl Drop for Life {
    /// Ends what a failed run leaves: the compute and what works in its folders, by their numbers.
    fn drop(&mut self) {
        if self.compute.is_alive() {
            self.compute.signal(Kill::SIGKILL);
        }
        let Ok(dir) = self.documents.bed.dir().canonicalize() else { return };
        for process in procs::all().unwrap_or_default() {
            if procs::cwd(process.pid).is_some_and(|cwd| cwd.starts_with(&dir)) {
                let _ = kill(Pid::from_raw(process.pid), Kill::SIGKILL);
            }
        }
    }
}
