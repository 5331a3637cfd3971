//! The WebSocket of one agent: handshake, messages, requests for more memory (08 §3, §7).
//!
//! Reading, sampling and the work of the [`scaler`](super::scaler) do not wait for each other.
//! Answers keep the order of the messages, except that one which needs no work overtakes those
//! that take long, so that a Postgres that hangs does not make the monitor look dead (W8, W9).
//!
//! Invariants: everything that an agent can fill has a limit, and so has every wait but that for
//! its next message.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant as StdInstant};

use axum::extract::ws::{Message as Frame, WebSocket};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::limits::VmMonitorLimits;
use super::policy::{Asking, MIB};
use super::protocol::{Answer, Greeting, Kind, Message, Range, written};
use super::scaler::{Job, Resize};
use super::shared::Shared;
use crate::errors::one_line;
use crate::telemetry::shown::shown;

/// Messages without an answer yet. With so many, the next is read when one is answered.
const UNANSWERED: usize = 64;
/// Warnings for one connection about what its agent sends; the others are lines for debugging.
const WARNINGS: u32 = 5;
/// The first id of our own messages; they are odd.
const FIRST_ID: u64 = 3;

/// How a connection ends. An agent that closes it has no fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("it closed the connection")]
    Closed,
    #[error("the first message is not a range of protocol versions")]
    NoRange,
    #[error("it speaks protocol versions {0}, but v1.0 is needed")]
    OtherVersion(Range),
    #[error("the handshake took longer than {0:?}")]
    Late(Duration),
    #[error("it does not read: a message could not be sent within {0:?}")]
    NotReading(Duration),
    #[error("the set-up failed")]
    NotSetUp,
    #[error("the VM monitor ends")]
    Over,
    #[error("the connection failed: {}", one_line(.0))]
    Failed(axum::Error),
}

/// Speaks with one agent until the connection ends.
pub(super) async fn speak(
    socket: WebSocket,
    peer: SocketAddr,
    shared: &Shared,
    deadline: Instant,
) -> End {
    let mut agent = Agent { socket, peer, limits: shared.limits, warnings: 0 };
    match agent.hold(shared, deadline).await {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

struct Agent {
    socket: WebSocket,
    peer: SocketAddr,
    limits: VmMonitorLimits,
    /// Number of warnings so far.
    warnings: u32,
}

impl Agent {
    async fn hold(
        &mut self,
        shared: &Shared,
        deadline: Instant,
    ) -> Result<std::convert::Infallible, End> {
        let greeted = timeout_at(deadline, self.greet(shared)).await;
        greeted.map_err(|_| End::Late(self.limits.handshake))??;
        shared.board.agent(Some(self.peer));
        tracing::info!("the VM monitor serves the agent {}", self.peer);
        self.serve(shared).await
    }

    /// The handshake, and the set-up behind it.
    async fn greet(&mut self, shared: &Shared) -> Result<(), End> {
        let range = match self.receive().await? {
            Frame::Text(text) => Range::parse(&text).ok_or(End::NoRange)?,
            Frame::Close(_) => return Err(self.answer_close().await),
            _ => return Err(End::NoRange),
        };
        tracing::debug!("the agent {} speaks {range}", self.peer);
        let greeting = Greeting::from(range);
        self.send(written(&greeting)).await?;
        if let Greeting::Error(_) = greeting {
            return Err(End::OtherVersion(range));
        }
        let (done, outcome) = oneshot::channel();
        shared.jobs.send(Job::SetUp(done)).map_err(|_| End::Over)?;
        if let Err(error) = outcome.await.map_err(|_| End::Over)? {
            self.send(written(&Answer::InternalError { error, id: 0 })).await?;
            return Err(End::NotSetUp);
        }
        Ok(())
    }

    async fn serve(&mut self, shared: &Shared) -> Result<std::convert::Infallible, End> {
        let mut summaries = shared.summaries.clone();
        summaries.mark_unchanged();
        let (mut queue, mut asking, mut next_id) = (Queue::default(), Asking::default(), FIRST_ID);
        loop {
            let overtakes = queue.oldest_ready().map(|since| since + self.limits.overtake);
            let event = tokio::select! {
                frame = self.receive(), if queue.0.len() < UNANSWERED => Event::Frame(frame?),
                answer = queue.first() => Event::Answer(answer.ok_or(End::Over)?),
                () = at(overtakes) => Event::Overtakes,
                changed = summaries.changed() => {
                    changed.map_err(|_| End::Over)?;
                    Event::Sample
                }
            };
            match event {
                Event::Frame(frame) => self.take(frame, shared, &mut queue).await?,
                Event::Answer(answer) => self.send(written(&answer)).await?,
                Event::Overtakes => {
                    for answer in queue.ready() {
                        self.send(written(&answer)).await?;
                    }
                }
                Event::Sample => {
                    let summary = *summaries.borrow_and_update();
                    let threshold = shared.board.threshold().unwrap_or(u64::MAX);
                    if asking.asks(&summary, threshold, StdInstant::now()) {
                        tracing::info!(
                            "requesting upscale: the cgroup uses {} MiB, the threshold is {} MiB",
                            summary.mean / MIB,
                            threshold / MIB
                        );
                        shared.board.upscale_requested();
                        self.send(written(&Answer::UpscaleRequest { id: next_id })).await?;
                        next_id = next_id.wrapping_add(2);
                    }
                }
            }
        }
    }

    /// Takes one frame in.
    async fn take(&mut self, frame: Frame, shared: &Shared, queue: &mut Queue) -> Result<(), End> {
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Close(_) => return Err(self.answer_close().await),
            // The library answers a ping.
            Frame::Ping(_) | Frame::Pong(_) | Frame::Binary(_) => {
                self.warn(format_args!("it sent a frame that is not text, which is ignored"));
                return Ok(());
            }
        };
        let (resize, id) = match Message::parse(&text) {
            Ok(Message { kind: Kind::HealthCheck, id }) => {
                queue.push_ready(Answer::HealthCheck { id });
                return Ok(());
            }
            Ok(Message { kind: Kind::UpscaleNotification { memory }, id }) => {
                (Resize::Upscale { memory }, id)
            }
            Ok(Message { kind: Kind::DownscaleRequest { memory }, id }) => {
                (Resize::Downscale { memory }, id)
            }
            Ok(Message { kind: Kind::InvalidMessage { error }, id }) => {
                let error = shown(&error).quoted().to_string();
                self.warn(format_args!("it could not read our message {id}: {error}"));
                return Ok(());
            }
            Ok(Message { kind: Kind::InternalError { error }, id }) => {
                let error = shown(&error).quoted().to_string();
                self.warn(format_args!("it could not handle our message {id}: {error}"));
                return Ok(());
            }
            Err(unreadable) => {
                shared.board.unreadable();
                self.warn(format_args!("its message cannot be read: {}", unreadable.error));
                if unreadable.answered {
                    let (error, id) = (unreadable.error, unreadable.id);
                    queue.push_ready(Answer::InvalidMessage { error, id });
                }
                return Ok(());
            }
        };
        tracing::debug!("message {id} of the agent {}: {resize:?}", self.peer);
        let (answer, receiver) = oneshot::channel();
        shared.jobs.send(Job::Resize { resize, id, answer }).map_err(|_| End::Over)?;
        queue.0.push_back(Waiting::Work(receiver));
        Ok(())
    }

    async fn receive(&mut self) -> Result<Frame, End> {
        match self.socket.recv().await {
            Some(frame) => frame.map_err(End::Failed),
            None => Err(End::Closed),
        }
    }

    /// Lets the library answer a close frame, which it does with the next read.
    async fn answer_close(&mut self) -> End {
        let _ = timeout(self.limits.send, self.socket.recv()).await;
        End::Closed
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        tracing::trace!("to the agent {}: {text}", self.peer);
        let limit = self.limits.send;
        let sent = timeout(limit, self.socket.send(Frame::Text(text.into()))).await;
        sent.map_err(|_| End::NotReading(limit))?.map_err(End::Failed)
    }

    /// A peer must not fill the log.
    fn warn(&mut self, what: std::fmt::Arguments<'_>) {
        if self.warnings < WARNINGS {
            self.warnings += 1;
            tracing::warn!("the agent {}: {what}", self.peer);
        } else {
            tracing::debug!("the agent {}: {what}", self.peer);
        }
    }
}

enum Event {
    Frame(Frame),
    Answer(Answer),
    Overtakes,
    Sample,
}

/// Answers in the order of the messages.
#[derive(Default)]
struct Queue(VecDeque<Waiting>);

enum Waiting {
    /// The scaler has it.
    Work(oneshot::Receiver<Answer>),
    /// It needed no work, and waits for the answers before it, from this time on.
    Ready(Answer, Instant),
}

impl Queue {
    fn push_ready(&mut self, answer: Answer) {
        self.0.push_back(Waiting::Ready(answer, Instant::now()));
    }

    /// Waits for the first answer; forever if there is none to come. None if its work was dropped.
    /// Nothing is lost if the caller drops this.
    async fn first(&mut self) -> Option<Answer> {
        match self.0.front_mut() {
            None => return std::future::pending().await,
            Some(Waiting::Ready(..)) => {}
            Some(Waiting::Work(receiver)) => {
                let answer = receiver.await.ok();
                self.0.pop_front();
                return answer;
            }
        }
        match self.0.pop_front() {
            Some(Waiting::Ready(answer, _)) => Some(answer),
            _ => None,
        }
    }

    fn oldest_ready(&self) -> Option<Instant> {
        self.0.iter().find_map(|it| match it {
            Waiting::Ready(_, since) => Some(*since),
            Waiting::Work(_) => None,
        })
    }

    /// All answers that wait behind work only.
    fn ready(&mut self) -> Vec<Answer> {
        let (mut ready, mut rest) = (Vec::new(), VecDeque::new());
        for waiting in self.0.drain(..) {
            match waiting {
                Waiting::Ready(answer, _) => ready.push(answer),
                Waiting::Work(_) => rest.push_back(waiting),
            }
        }
        self.0 = rest;
        ready
    }
}

/// Waits until then; forever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_keep_their_order_and_can_overtake_work() {
        let mut queue = Queue::default();
        let (first, receiver) = oneshot::channel();
        queue.0.push_back(Waiting::Work(receiver));
        let began = Instant::now();
        queue.push_ready(Answer::HealthCheck { id: 2 });
        queue.push_ready(Answer::HealthCheck { id: 4 });
        let limit = Duration::from_secs(1);
        assert!(timeout(limit, queue.first()).await.is_err(), "the first has no answer yet");
        assert_eq!(queue.oldest_ready(), Some(began));
        // Nothing was lost by the wait that was given up.
        first.send(Answer::UpscaleConfirmation { id: 0 }).unwrap();
        assert_eq!(queue.first().await, Some(Answer::UpscaleConfirmation { id: 0 }));
        assert_eq!(queue.first().await, Some(Answer::HealthCheck { id: 2 }));

        let (second, receiver) = oneshot::channel();
        queue.0.push_back(Waiting::Work(receiver));
        queue.push_ready(Answer::HealthCheck { id: 6 });
        assert_eq!(queue.ready(), [Answer::HealthCheck { id: 4 }, Answer::HealthCheck { id: 6 }]);
        assert_eq!((queue.oldest_ready(), queue.0.len()), (None, 1));
        drop(second);
        assert_eq!(queue.first().await, None, "the scaler has ended");
        assert!(timeout(limit, queue.first()).await.is_err(), "empty");
    }
}
