//! Runs a cell: holds the compute, applies the fault, releases the compute, and judges what becomes
//! of it. At the end of every cell the compute has ended, nothing of it is left, and the next start
//! on the same bed works.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use compute_ctl::dev::servers::Server;
use compute_ctl::driver::steps::ReconfigurePhase;
use compute_ctl::state::{ComputeStatus, Event, TerminateMode, transition};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::clock::Clock;
use super::plan::{Cell, Fault, Promise, Step, promise};
use super::stage::{Answer, Stage};
use crate::support::assertions::{PATIENCE, assert_nothing_left, eventually, until};
use crate::support::bed::{names, run_as};

/// Two signals closer than half a second count as one.
const LATER: Duration = Duration::from_millis(600);
pub const POLL: Duration = Duration::from_millis(20);

const FETCH_FAILED: &str = "could not refresh the configuration";
const RENEWAL_FAILED: &str = "the new TLS certificate is not in force";

pub async fn run(server: Server, cell: Cell) {
    let Cell { point, fault } = cell;
    let clock = Clock::new();
    let env = match fault {
        Fault::ClockForward | Fault::ClockBack => clock.env().to_vec(),
        _ => Vec::new(),
    };
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let actions = match fault {
        Fault::StepFails => "1*return(injected)->off",
        _ => "pause",
    };
    let mut stage = Stage::set(server, point, actions, &env, fault).await;
    let mut held = Held { stage: &mut stage, fault, clock: &clock };
    let verdict = held.inflict().await;
    held.judge(verdict).await;
    stage.after(fault).await;
}

struct Held<'a> {
    stage: &'a mut Stage,
    fault: Fault,
    clock: &'a Clock,
}

/// What a request that came between was answered, and whether it ends the compute.
enum Verdict {
    Promise(Promise),
    /// The compute was asked to end, in this mode.
    Terminated(TerminateMode),
}

impl Held<'_> {
    /// Applies the fault and releases the compute.
    async fn inflict(&mut self) -> Verdict {
        let stage = &mut *self.stage;
        let promised = promise(stage.point, self.fault);
        match self.fault {
            // It switches itself off.
            Fault::StepFails => return Verdict::Promise(promised),
            Fault::Sigterm => {
                stage.compute.signal(Signal::SIGTERM);
                stage.compute.wait_for_log("received SIGTERM").await;
            }
            Fault::SigintTwice => {
                stage.compute.signal(Signal::SIGINT);
                stage.compute.wait_for_log("received SIGINT").await;
                tokio::time::sleep(LATER).await;
                if stage.compute.is_alive() {
                    stage.compute.signal(Signal::SIGINT);
                }
            }
            Fault::SupervisorKilled => stage.compute.signal(Signal::SIGKILL),
            Fault::PostmasterKilled => signal(stage.compute.postmaster(), Signal::SIGKILL),
            Fault::PostmasterStopped => {
                signal(stage.compute.postmaster(), Signal::SIGSTOP);
                if matches!(stage.point.step, Step::Ending(_)) {
                    stage.release().await;
                    stage.compute.signal(Signal::SIGTERM);
                }
            }
            Fault::TerminateFast => {
                return self.request(Event::Terminate(TerminateMode::Fast)).await;
            }
            Fault::TerminateImmediate => {
                return self.request(Event::Terminate(TerminateMode::Immediate)).await;
            }
            Fault::Configure => return self.request(Event::Configure).await,
            Fault::Refresh => return self.request(Event::Refresh).await,
            Fault::ClientGone => {
                let asked = stage.asked.take().unwrap();
                asked.abort();
                let _ = asked.await;
            }
            Fault::ReadOnly => stage.write_protect(true),
            Fault::OutOfMemory => stage.memory.as_ref().unwrap().fill(),
            Fault::DiskFull => stage.disk.as_mut().unwrap().fill(),
            Fault::NoDescriptors => {
                // The connection for the release exists before the limit.
                stage.release_later().await;
                let used =
                    fs::read_dir(format!("/proc/{}/fd", stage.compute.pid())).unwrap().count();
                stage.limit_descriptors(used);
            }
            Fault::ClockForward => self.clock.jump(3600),
            Fault::ClockBack => self.clock.jump(-3600),
        }
        self.stage.release().await;
        Verdict::Promise(promised)
    }

    /// Sends the request while the compute is held, and releases it once the request was answered or
    /// has changed the status.
    async fn request(&mut self, event: Event) -> Verdict {
        let stage = &mut *self.stage;
        let before = stage.status().await.unwrap();
        let status: ComputeStatus = serde_json::from_value(json!(before)).unwrap();
        let next = transition(status, event);
        let body = (event == Event::Configure).then(|| stage.bed.configure_body());
        let path = match event {
            Event::Terminate(TerminateMode::Fast) => "/terminate?mode=fast",
            Event::Terminate(TerminateMode::Immediate) => "/terminate?mode=immediate",
            Event::Configure => "/configure",
            _ => "/refresh_configuration",
        };
        let asked = stage.post(path, body);
        let log = format!("Changing compute status from {status} to ");
        let logged = stage.compute.count_in_log(&log);
        // A second `/terminate` is answered together with the first.
        if !(status.is_ending() && matches!(event, Event::Terminate(_))) {
            until("the request is answered or accepted", || async {
                asked.is_finished() || stage.compute.count_in_log(&log) > logged
            })
            .await;
        }
        stage.release().await;
        if let (Some(_), Event::Terminate(mode)) = (next, event) {
            // The answer comes at the end of the compute.
            let answer = asked.await.unwrap();
            assert_eq!(code(&answer), Some(200), "{answer:?}\n{}", stage.compute.log());
            return Verdict::Terminated(mode);
        }
        let answer = asked.await.unwrap();
        let log = stage.compute.log();
        match (next, event, status) {
            // It waits for its turn, and may be refused then: a replica that was promoted.
            (Some(_), Event::Configure, _) => {
                assert!(matches!(code(&answer), Some(200 | 400)), "{answer:?}\n{log}");
            }
            (Some(_), ..) => assert_eq!(code(&answer), Some(200), "{answer:?}\n{log}"),
            // A compute that ends repeats its answer; another may wait for it.
            (None, Event::Terminate(_), status) if status.is_ending() => {
                assert!(matches!(code(&answer), None | Some(200 | 201 | 412)), "{answer:?}\n{log}");
            }
            // One that is being carried out counts for both.
            (None, Event::Refresh, _) => {
                assert!(matches!(code(&answer), None | Some(200 | 500)), "{answer:?}\n{log}");
            }
            (None, ..) => assert_eq!(code(&answer), Some(412), "{answer:?}\n{log}"),
        }
        Verdict::Promise(Promise::GoesOn)
    }

    async fn judge(&mut self, verdict: Verdict) {
        let fault = self.fault;
        let stage = &mut *self.stage;
        match verdict {
            Verdict::Terminated(mode) => {
                // A fast one stays for half a minute, which a signal cuts short.
                if mode == TerminateMode::Fast {
                    stage.compute.signal(Signal::SIGTERM);
                    stage.ends_with(&[1]).await;
                } else {
                    stage.ends_with(&[0]).await;
                }
            }
            Verdict::Promise(Promise::GoesOn) => {
                let went_on = stage.outcome(fault).await;
                assert!(went_on, "it failed\n{}", stage.compute.log());
            }
            Verdict::Promise(Promise::Fails) => {
                let went_on = stage.outcome(fault).await;
                assert!(!went_on, "it went on\n{}", stage.compute.log());
            }
            Verdict::Promise(Promise::GoesOnOrFails) => {
                stage.outcome(fault).await;
            }
            Verdict::Promise(Promise::Anything) => stage.survives().await,
            Verdict::Promise(Promise::Ends(code)) => stage.ends_with(&[code]).await,
            Verdict::Promise(Promise::Killed) => {
                assert_eq!(stage.compute.wait_exit().await.code(), None);
            }
            Verdict::Promise(promise @ (Promise::ByState | Promise::Nothing)) => {
                panic!("{promise:?} is not a verdict");
            }
        }
    }
}

fn code(answer: &Answer) -> Option<u16> {
    answer.as_ref().map(|(code, _)| code.as_u16())
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

impl Stage {
    /// Waits for the end of the work. Returns whether it succeeded; otherwise it has failed in the
    /// documented way.
    async fn outcome(&mut self, fault: Fault) -> bool {
        match self.point.step {
            Step::Start(_) => self.start_ended().await,
            Step::Reconfigure(phase) => self.reconfigured(phase, fault).await,
            Step::Promote(_) => self.promoted(fault).await,
            Step::Ending(_) => {
                let code = self.compute.wait_exit().await.code();
                assert!(matches!(code, Some(0 | 1)), "{code:?}\n{}", self.compute.log());
                code == Some(0)
            }
        }
    }

    async fn start_ended(&mut self) -> bool {
        let (status, _) = self.compute.wait_for_any(&["running", "failed"]).await;
        if status == "running" {
            return true;
        }
        let (_, document) = self.compute.get("/status").await;
        let failure = &document["extra"]["last_failure"];
        assert!(failure["error"].is_string() && failure["phase"].is_string(), "{document}");
        if let Step::Start(phase) = self.point.step
            && document["error"].as_str().unwrap().contains("failpoint")
        {
            assert_eq!(failure["phase"], phase.name(), "{document}");
        }
        false
    }

    async fn reconfigured(&mut self, phase: ReconfigurePhase, fault: Fault) -> bool {
        if let Some(asked) = self.asked.take() {
            let answer = asked.await.unwrap();
            let log = self.compute.log();
            let Some((code, body)) = answer else {
                self.ends_with(&[1]).await;
                return false;
            };
            if code == 200 {
                self.compute.until_status("running").await;
                return true;
            }
            let error = body["error"].as_str().unwrap();
            assert_eq!(code, 500, "{body}\n{log}");
            // These faults last, and take what the old configuration needs as well.
            let may_stay = matches!(fault, Fault::ReadOnly | Fault::PostmasterStopped);
            assert!(may_stay || !error.contains("could not be put back"), "{body}\n{log}");
            if fault == Fault::StepFails {
                assert!(error.contains(&format!("in phase {phase}")), "{body}\n{log}");
            }
        } else {
            let done = match phase {
                _ if fault == Fault::ClientGone => "finished reconfiguration",
                ReconfigurePhase::Fetch if fault == Fault::StepFails => FETCH_FAILED,
                ReconfigurePhase::Certificate if fault == Fault::StepFails => RENEWAL_FAILED,
                _ => "",
            };
            self.compute.wait_for_log(done).await;
            // A refresh is tried again, without an end if its obstacle stays.
            let lasts = match promise(self.point, fault) {
                Promise::GoesOnOrFails => &["running", "refresh_configuration_pending"][..],
                _ => &["running"][..],
            };
            let (status, _) = self.compute.wait_for_any(lasts).await;
            return status == "running";
        }
        // The old configuration is in force, and the next one is taken.
        let (status, _) = self.compute.wait_for_any(&["running", "failed"]).await;
        if fault == Fault::StepFails {
            let expected = if phase == ReconfigurePhase::Check { "running" } else { "failed" };
            assert_eq!(status, expected, "{}", self.compute.log());
            if status == "failed" {
                self.bed.write("config.json", &self.bed.spec.config());
                self.compute.refresh().await;
                self.compute.until_status("running").await;
            }
        }
        false
    }

    async fn promoted(&mut self, fault: Fault) -> bool {
        let Some(asked) = self.asked.take() else {
            self.compute.wait_for_sql("SELECT pg_is_in_recovery()", "f").await;
            self.compute.wait_for_sql("SHOW synchronous_standby_names", "").await;
            return true;
        };
        let answer = asked.await.unwrap();
        // Postgres itself may not survive what the fault has taken.
        let Some((code, body)) = answer else {
            self.ends_with(&[1]).await;
            return false;
        };
        if code == 200 {
            assert_eq!(body["status"], "completed", "{body}");
            return true;
        }
        assert_eq!((code.as_u16(), &body["status"]), (500, &json!("failed")), "{body}");
        if fault == Fault::StepFails {
            assert_eq!(self.status().await.as_deref(), Some("running"));
            let again = self.post("/promote", Some(self.bed.promote_body(&self.lsn)));
            let answer = again.await.unwrap();
            assert!(
                answer.as_ref().is_some_and(|(_, body)| body["status"] == "completed"),
                "{answer:?}\n{}",
                self.compute.log()
            );
        }
        false
    }

    /// Waits for the end of the process. A start that failed stays for half a minute, which a
    /// `/terminate` cuts short.
    async fn ends_with(&mut self, codes: &[i32]) {
        let deadline = Instant::now() + PATIENCE;
        while self.compute.is_alive() {
            if self.status().await.as_deref() == Some("failed") {
                let _ = self.post("/terminate?mode=immediate", None).await;
            }
            assert!(Instant::now() < deadline, "it does not end\n{}", self.compute.log());
            tokio::time::sleep(POLL).await;
        }
        let code = self.compute.wait_exit().await.code();
        let log = self.compute.log();
        assert!(code.is_some_and(|code| codes.contains(&code)), "{code:?}, not {codes:?}\n{log}");
    }

    /// Undoes the fault, ends the compute, and checks that nothing is left and that the next start
    /// works.
    async fn after(&mut self, fault: Fault) {
        if fault == Fault::ReadOnly {
            self.write_protect(false);
        }
        if let Some(disk) = &mut self.disk {
            disk.free();
        }
        if self.compute.is_alive() {
            if fault == Fault::NoDescriptors {
                self.limit_descriptors(4096);
            }
            let compute = &self.compute;
            eventually("no zombie is left", || compute.zombies().is_empty()).await;
            let expected = self.end_compute(fault).await;
            self.ends_with(&[expected]).await;
        }
        if fault != Fault::SupervisorKilled && !self.killed {
            assert_nothing_left(&self.bed);
        }
        self.next_start().await;
        if let Some(primary) = self.primary.take() {
            primary.stop().await;
        }
        assert_nothing_left(&self.bed);
    }

    /// Asks the compute to end. Returns the code that it must end with.
    async fn end_compute(&mut self, fault: Fault) -> i32 {
        let failed = self.status().await.as_deref() == Some("failed");
        // A server that does not react would be waited for.
        if fault == Fault::PostmasterStopped {
            self.compute.signal(Signal::SIGTERM);
            return 1;
        }
        let answer = self.post("/terminate?mode=immediate", None).await.unwrap();
        assert_eq!(code(&answer), Some(200), "{answer:?}\n{}", self.compute.log());
        i32::from(failed && matches!(self.point.step, Step::Start(_)))
    }

    /// The next compute on the same bed starts and ends as usual.
    async fn next_start(&mut self) {
        self.bed.take_other_http_ports();
        let mut next = match &self.files {
            Some(files) => files.start(&self.bed),
            None => self.bed.start(),
        };
        next.wait_for("running").await;
        let inside = names(&self.bed.pgdata());
        assert!(!inside.iter().any(|name| name.starts_with(".postgresql")), "{inside:?}");
        let known = ["pg", "pgdata", "disk", "config.json", "tls", "taken.tar.gz"];
        let unknown = |name: &&String| {
            !known.contains(&name.as_str())
                && !name.ends_with(".log")
                && !name.starts_with(".s.PGSQL.")
        };
        eventually("the old data is deleted", || {
            let beside = [names(self.bed.dir()), names(&self.bed.dir().join("disk"))].concat();
            !beside.iter().any(|name| unknown(&name))
        })
        .await;
        let (code, answer) = next.post("/terminate?mode=immediate", None).await;
        assert_eq!(code, 200, "{answer}\n{}", next.log());
        assert_eq!(next.wait_exit().await.code(), Some(0), "{}", next.log());
    }

    fn write_protect(&self, protected: bool) {
        for folder in [self.bed.pgdata(), self.bed.dir().to_owned()] {
            let mode = match (protected, folder == self.bed.dir()) {
                (true, _) => 0o555,
                (false, true) => 0o755,
                (false, false) => 0o700,
            };
            if folder.exists() {
                fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
            }
        }
    }

    /// Opens the connections that later requests use.
    async fn release_later(&self) {
        self.compute.get("/status").await;
        let _ = self.compute.http.get(format!("{}/status", self.compute.internal)).send().await;
    }

    fn limit_descriptors(&mut self, limit: usize) {
        let limit = format!("--nofile={limit}:");
        let pid = self.compute.pid().to_string();
        let mut command = Command::new("prlimit");
        // In a container, root may not change the limits of another user.
        if let Some(user) = run_as() {
            command.uid(user.uid).gid(user.gid);
        }
        let set = command.args(["--pid", &pid, &limit]).status().unwrap();
        assert!(set.success() || !self.compute.is_alive(), "prlimit failed");
    }
}
