//! Reports to a service manager such as systemd, by the protocol of `sd_notify(3)`.
//!
//! | message | when |
//! |---|---|
//! | `READY=1` | the compute runs, or has no spec yet and waits for one on its ports |
//! | `RELOADING=1`, `MONOTONIC_USEC=` | SIGHUP, and any other reconfiguration; `READY=1` ends it |
//! | `STOPPING=1` | the end has begun |
//! | `STATUS=` | with each of these, for each phase, and for a failure |
//! | `EXTEND_TIMEOUT_USEC=` | while a start, a reconfiguration or an end goes on |
//! | `WATCHDOG=1` | twice in the time of the watchdog, if the manager has one |
//!
//! [`ServiceManager::follow`] runs in the task of the driver, so a driver that is stuck sends no
//! `WATCHDOG=1`. Every piece of the driver's work has a limit of its own, so it may extend the
//! limits of the manager; only the end after a signal does not, because `--stop-timeout` bounds it.

use std::convert::Infallible;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::env::Environment;
use crate::node::ComputeNode;
use crate::os::notify_socket::{self, NotifySocket};
use crate::state::ComputeStatus;
use crate::telemetry::shown::shown;

/// Longest time between two looks at work in progress.
const TICK: Duration = Duration::from_secs(10);
/// How far each look moves the limits of the manager: three times [`TICK`], so that one late look
/// or lost message does no harm.
const EXTENSION: Duration = Duration::from_secs(30);

/// What the manager is told of the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

/// What was said last.
#[derive(Debug)]
struct Said {
    stage: Stage,
    /// `READY=1` was sent once.
    ready: bool,
    status: String,
    /// The manager did not take the last message; it is sent again.
    unsent: bool,
    /// The log names the first failure only.
    failed: bool,
}

/// The service manager, if there is one.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: Option<NotifySocket>,
    watchdog: Option<Duration>,
    /// The HTTP servers answer.
    serving: watch::Sender<bool>,
    /// Why the last SIGHUP changed nothing; empty otherwise.
    refused: Mutex<String>,
    said: Mutex<Said>,
}

impl ServiceManager {
    /// By `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn new(environment: &Environment) -> Self {
        let address = environment.notify_socket.as_deref().filter(|it| !it.is_empty());
        let socket = address.and_then(|address| {
            let socket = NotifySocket::new(address);
            socket.inspect_err(|error| tracing::warn!("{error}")).ok()
        });
        let said = Said {
            stage: Stage::Starting,
            ready: false,
            status: String::new(),
            unsent: false,
            failed: false,
        };
        Self {
            socket,
            watchdog: environment.watchdog,
            serving: watch::Sender::new(false),
            refused: Mutex::default(),
            said: Mutex::new(said),
        }
    }

    /// The HTTP servers answer from now on.
    pub(super) fn serves(&self) {
        self.serving.send_replace(true);
    }

    /// A SIGHUP has come. `systemctl reload` waits for this message, and then for `READY=1`.
    pub(super) fn reload_begins(&self, node: &ComputeNode) {
        self.refused.lock().clear();
        let mut said = self.said.lock();
        if said.ready && said.stage != Stage::Stopping {
            self.say(&mut said, Stage::Reloading, status_text(node, Stage::Reloading));
        }
    }

    /// What a SIGHUP asked for has begun, or `refused` says why it has not.
    pub(super) fn reload_asked(&self, node: &ComputeNode, refused: Option<String>) {
        if let Some(refused) = refused {
            *self.refused.lock() = refused;
        }
        self.report(node);
    }

    /// Reports every change until dropped. `stopped`: a signal has asked for the end.
    pub(super) async fn follow(
        &self,
        node: &ComputeNode,
        stopped: &CancellationToken,
    ) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let (mut status, mut phases) = (node.watch_status(), node.watch_phases());
        let mut serving = self.serving.subscribe();
        let mut ticks = interval(self.watchdog.map_or(TICK, |limit| (limit / 2).min(TICK)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // The senders live as long as this task, so no branch ends with an error.
            tokio::select! {
                _ = status.changed() => self.report(node),
                _ = phases.changed() => self.report(node),
                _ = serving.changed() => self.report(node),
                _ = ticks.tick() => {
                    self.report(node);
                    self.tick(stopped.is_cancelled());
                }
            }
        }
    }

    /// Says what has changed.
    pub(super) fn report(&self, node: &ComputeNode) {
        let mut said = self.said.lock();
        let stage = stage(node, *self.serving.borrow(), said.ready);
        let mut text = status_text(node, stage);
        let refused = self.refused.lock();
        if stage == Stage::Ready && !refused.is_empty() {
            text = format!("{text}; the last SIGHUP changed nothing: {refused}");
        }
        drop(refused);
        if stage != said.stage || text != said.status {
            self.say(&mut said, stage, text);
        }
    }

    fn say(&self, said: &mut Said, stage: Stage, status: String) {
        let changed = stage != said.stage;
        said.ready |= stage == Stage::Ready;
        (said.stage, said.status) = (stage, status);
        let message = said.message(changed || said.unsent);
        said.unsent = !self.send(said, &message);
    }

    /// Sends the signs of life. After a signal the manager's limit for the end stays as it is.
    fn tick(&self, stopped: bool) {
        let mut said = self.said.lock();
        let mut lines = Vec::new();
        if said.unsent {
            lines.push(said.message(true));
        }
        if self.watchdog.is_some() {
            lines.push("WATCHDOG=1".to_owned());
        }
        if said.stage != Stage::Ready && !stopped {
            lines.push(format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
        }
        if !lines.is_empty() && self.send(&mut said, &lines.join("\n")) {
            said.unsent = false;
        }
    }

    /// Returns whether the manager has taken the message.
    fn send(&self, said: &mut Said, message: &str) -> bool {
        let Some(socket) = &self.socket else { return true };
        let Err(error) = socket.send(message) else { return true };
        if !std::mem::replace(&mut said.failed, true) {
            tracing::warn!(
                "could not send a message to the service manager (NOTIFY_SOCKET), will repeat it: \
                 {error}"
            );
        }
        false
    }
}

impl Said {
    /// The state, with the line that announces its stage if `whole`.
    fn message(&self, whole: bool) -> String {
        let announced = match self.stage {
            _ if !whole => String::new(),
            Stage::Starting => String::new(),
            Stage::Ready => "\nREADY=1".to_owned(),
            Stage::Reloading => {
                let now = notify_socket::monotonic_usec();
                format!("\nRELOADING=1\nMONOTONIC_USEC={now}")
            }
            Stage::Stopping => "\nSTOPPING=1".to_owned(),
        };
        format!("STATUS={}{announced}", self.status)
    }
}

/// `was_ready`: the manager was told so before. A service that is ready cannot go back to starting,
/// so a compute of a pool stays ready while its first start goes on.
fn stage(node: &ComputeNode, serving: bool, was_ready: bool) -> Stage {
    let ready = |is: bool| if is || was_ready { Stage::Ready } else { Stage::Starting };
    match node.status() {
        ComputeStatus::Empty => ready(serving),
        ComputeStatus::Running => Stage::Ready,
        ComputeStatus::Init => ready(false),
        // The configuration before this one stays in force.
        ComputeStatus::Failed => ready(node.readiness.started().is_ok()),
        ComputeStatus::ConfigurationPending
        | ComputeStatus::Configuration
        | ComputeStatus::RefreshConfigurationPending
        | ComputeStatus::RefreshConfiguration => match node.readiness.started() {
            Ok(()) => Stage::Reloading,
            Err(_) => ready(false),
        },
        ComputeStatus::TerminationPendingFast
        | ComputeStatus::TerminationPendingImmediate
        | ComputeStatus::Terminated => Stage::Stopping,
    }
}

/// One line for the operator, as `systemctl status` shows it.
fn status_text(node: &ComputeNode, stage: Stage) -> String {
    let document = node.status_document();
    let extra = document.extra.unwrap_or_default();
    let work = extra.phases.join(", ");
    let colon = if work.is_empty() { "" } else { ": " };
    let error = || {
        let error = document.error.as_deref().unwrap_or("the log says why");
        shown(error.lines().next().unwrap_or_default()).to_string()
    };
    match (document.status, stage) {
        (ComputeStatus::Empty, Stage::Starting) => "warming up".to_owned(),
        (ComputeStatus::Empty, _) => "no spec yet, waiting for /configure".to_owned(),
        (ComputeStatus::Failed, _) if node.readiness.started().is_ok() => {
            format!("running with the earlier configuration, the new one failed: {}", error())
        }
        (ComputeStatus::Failed, _) => format!("the start has failed: {}", error()),
        (ComputeStatus::Running, Stage::Ready) => "running".to_owned(),
        (_, Stage::Reloading) => format!("reconfiguring{colon}{work}"),
        (_, Stage::Stopping) => "ending".to_owned(),
        _ => {
            let bytes = extra.basebackup_bytes;
            let bytes = bytes.map(|bytes| format!(" ({} MiB so far)", bytes >> 20));
            format!("starting{colon}{work}{}", bytes.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests;
