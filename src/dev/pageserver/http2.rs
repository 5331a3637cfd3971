//! Accepts HTTP/2 connections for the gRPC side of the stand-in pageserver.
//!
//! Connections are served individually, without a server framework, so that a fault can close one
//! of them at any time.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::archive::SharedBehaviour;
use super::grpc::GrpcSession;
use crate::dev::faults::Fault;
use crate::dev::journal::{Event, Journal};
use crate::dev::wire::{ACCEPT_PAUSE, MAX_CONNECTIONS};
use crate::storage::page_api::page_service_server::PageServiceServer;

/// A running listener. Dropping it ends it and all its connections.
#[derive(Debug)]
pub(super) struct Http2Server {
    pub port: u16,
    pub journal: Journal,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Http2Server {
    /// Listens on a free port of 127.0.0.1.
    pub(super) async fn start(behaviour: SharedBehaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let journal = Journal::default();
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, behaviour, journal.clone(), stop.clone()));
        Ok(Self { port, journal, stop, task: AbortOnDropHandle::new(task) })
    }

    /// Stops listening, closes all connections and returns when both are done.
    pub(super) async fn shutdown(self) {
        self.stop.cancel();
        // The task fails only if it panicked or was aborted; in either case it has ended.
        let _ended = self.task.await;
    }
}

async fn accept(
    listener: TcpListener,
    behaviour: SharedBehaviour,
    journal: Journal,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        journal.record(number, Event::Connected);
        let refused = behaviour.lock().take(|fault| *fault == Fault::Refuse).is_some();
        if refused || connections.len() >= MAX_CONNECTIONS {
            journal.record(number, Event::Refused);
        } else {
            let session = GrpcSession {
                behaviour: Arc::clone(&behaviour),
                journal: journal.clone(),
                connection: number,
                hangup: CancellationToken::new(),
            };
            connections.spawn(serve(stream, session));
        }
        number += 1;
    }
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, session: GrpcSession) {
    let (hangup, journal, number) =
        (session.hangup.clone(), session.journal.clone(), session.connection);
    // Nagle's algorithm with delayed ACK would cost 40 ms a turn; if this fails, a test is only
    // slower.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(PageServiceServer::new(session));
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(connection = number, %error, "stand-in server closes a connection");
        },
        () = hangup.cancelled() => {}
    }
    journal.record(number, Event::Closed);
}
