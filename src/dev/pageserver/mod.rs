//! Stand-in pageserver: serves one archive file as basebackup, over libpq and, on another port,
//! over gRPC, and can simulate faults.
//!
//! The archive is read in chunks while it is sent, so memory does not depend on its size. Faults of
//! the stream are consumed by `basebackup` commands, [`Fault::Refuse`] by connections, so that a
//! script of faults matches the client's attempts one by one, whatever other requests it sends.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::commands::{Verb, parse};
pub use super::faults::{Fault, LeaseAnswer, PageserverBehaviour};
use super::framing::Peer;
use super::journal::Journal;
use super::wire::{Handler, Outcome, Server, Session};
use archive::{SharedBehaviour, current_archive, read_archive};
use http2::Http2Server;

mod archive;
mod grpc;
mod http2;

/// Payload size of one `CopyData`.
const CHUNK: usize = 64 * 1024;
/// Payload size of one gRPC message, as on a real pageserver (06 §5.3).
const GRPC_CHUNK: usize = 256 * 1024;

/// Initial settings of a stand-in pageserver.
#[derive(Clone, Default)]
pub struct PageserverOptions {
    /// The gzip tar to serve; see [`super::archive::build`].
    pub archive: PathBuf,
    /// Port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Password that clients must send.
    pub password: Option<String>,
}

impl fmt::Debug for PageserverOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageserverOptions")
            .field("archive", &self.archive)
            .field("port", &self.port)
            .field("password", &self.password.as_ref().map(|_| "[secret]"))
            .finish()
    }
}

/// A running stand-in pageserver. Dropping it ends it.
#[derive(Debug)]
pub struct StandInPageserver {
    server: Server,
    grpc: Http2Server,
    behaviour: SharedBehaviour,
}

impl StandInPageserver {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// The port is in use.
    pub async fn start(options: PageserverOptions) -> io::Result<Self> {
        let behaviour = Arc::new(Mutex::new(PageserverBehaviour {
            archive: options.archive,
            password: options.password,
            delay: Duration::ZERO,
            lease: LeaseAnswer::For(Duration::from_secs(600)),
            grpc_chunk: GRPC_CHUNK,
            wal: None,
            faults: VecDeque::new(),
        }));
        let handler = Arc::new(Responder(behaviour.clone()));
        let server = Server::start(options.port, handler).await?;
        let grpc = Http2Server::start(Arc::clone(&behaviour)).await?;
        Ok(Self { server, grpc, behaviour })
    }

    /// The port for libpq.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The port for gRPC; always a free one.
    #[must_use]
    pub fn grpc_port(&self) -> u16 {
        self.grpc.port
    }

    /// The gRPC address in the form that a spec has.
    #[must_use]
    pub fn grpc_url(&self) -> String {
        format!("grpc://no_user@127.0.0.1:{}", self.grpc_port())
    }

    /// The libpq address in the form that a spec has, without password.
    #[must_use]
    pub fn connstring(&self) -> String {
        format!("postgresql://no_user@127.0.0.1:{}", self.port())
    }

    /// Actions of clients over libpq.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.server.journal()
    }

    /// Actions of clients over gRPC: metadata as startup parameters, calls as commands.
    #[must_use]
    pub fn grpc_journal(&self) -> Journal {
        self.grpc.journal.clone()
    }

    /// Changes the behaviour from the next connection or command on.
    pub fn behave(&self, change: impl FnOnce(&mut PageserverBehaviour)) {
        change(&mut self.behaviour.lock());
    }

    /// Replaces all faults by one, for the next `times` occasions, or without a limit for `None`.
    pub fn set_fault(&self, fault: Fault, times: Option<u32>) {
        self.clear_faults();
        self.then_fault(fault, times);
    }

    /// Adds a fault that starts when the earlier ones are consumed.
    pub fn then_fault(&self, fault: Fault, times: Option<u32>) {
        if times != Some(0) {
            self.behaviour.lock().faults.push_back((fault, times));
        }
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.behaviour.lock().faults.clear();
    }

    /// Serves another archive from the next command on; current streams are not affected.
    pub fn set_archive(&self, archive: &Path) {
        self.behaviour.lock().archive = archive.to_owned();
    }

    /// Stops listening and closes all connections, of both protocols.
    pub async fn shutdown(self) {
        tokio::join!(self.server.shutdown(), self.grpc.shutdown());
    }
}

struct Responder(SharedBehaviour);

impl Handler for Responder {
    fn admits(&self) -> bool {
        self.0.lock().take(|fault| *fault == Fault::Refuse).is_none()
    }

    fn password(&self) -> Option<String> {
        self.0.lock().password.clone()
    }

    async fn answer(
        &self,
        _session: &Session,
        command: &str,
        peer: &mut Peer,
    ) -> io::Result<Outcome> {
        let delay = self.0.lock().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match parse(command) {
            Ok(Verb::Set) => {
                peer.command_complete("SELECT 1");
                Ok(Outcome::Done)
            }
            Ok(Verb::Lease) => {
                let answer = self.0.lock().lease.clone();
                Ok(lease(&answer, peer))
            }
            Ok(Verb::Basebackup { gzip }) => {
                let fault = self.0.lock().take(|fault| *fault != Fault::Refuse);
                match current_archive(&self.0).await {
                    Ok(archive) => basebackup(&archive, gzip, fault, peer).await,
                    Err(error) => Ok(fail(peer, &format!("cannot add the WAL: {error}"))),
                }
            }
            Err(text) => Ok(fail(peer, &text)),
        }
    }
}

fn fail(peer: &mut Peer, text: &str) -> Outcome {
    peer.error("XX000", text);
    Outcome::Failed
}

fn lease(answer: &LeaseAnswer, peer: &mut Peer) -> Outcome {
    let value = match answer {
        LeaseAnswer::Error(text) => return fail(peer, text),
        LeaseAnswer::NoRow => None,
        LeaseAnswer::Text(text) => Some(text.clone()),
        LeaseAnswer::For(time) => {
            let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + *time;
            Some(Some(until.as_millis().to_string()))
        }
    };
    peer.row_description(&["valid_until"]);
    if let Some(value) = value {
        peer.data_row(&[value.as_deref()]);
    }
    peer.command_complete("SELECT 1");
    Outcome::Done
}

async fn basebackup(
    archive: &Path,
    gzip: bool,
    fault: Option<Fault>,
    peer: &mut Peer,
) -> io::Result<Outcome> {
    match &fault {
        Some(Fault::Error(text) | Fault::Status(_, text)) => return Ok(fail(peer, text)),
        Some(Fault::Silence) => return hangup(peer).await,
        _ => {}
    }
    let mut chunks = match read_archive(archive, gzip, CHUNK) {
        Ok(chunks) => chunks,
        Err(error) => return Ok(fail(peer, &format!("Not found: no basebackup here: {error}"))),
    };
    peer.copy_out();
    peer.flush().await?;

    let mut left = fault.as_ref().map_or(u64::MAX, Fault::limit);
    while left > 0
        && let Some(chunk) = chunks.recv().await
    {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Ok(fail(peer, &format!("cannot read the archive: {error}"))),
        };
        let send = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        peer.copy_data(&chunk.slice(..send));
        peer.flush().await?;
        left = left.saturating_sub(send as u64);
    }

    match fault {
        Some(Fault::DropAfter(_)) => return Ok(Outcome::Hangup),
        Some(Fault::StallAfter(_)) => return hangup(peer).await,
        Some(Fault::ErrorAfter(_, text) | Fault::ErrorAfterArchive(text)) => {
            return Ok(fail(peer, &text));
        }
        Some(Fault::Garbage) => peer.copy_data(&b"this is not a gzip stream\n".repeat(500)),
        _ => {}
    }
    peer.copy_done();
    if let Some(Fault::ErrorAfterCopyDone(text)) = fault {
        return Ok(fail(peer, &text));
    }
    peer.command_complete("SELECT 1");
    Ok(Outcome::Done)
}

async fn hangup(peer: &mut Peer) -> io::Result<Outcome> {
    peer.hangup().await?;
    Ok(Outcome::Hangup)
}

#[cfg(test)]
mod tests;
