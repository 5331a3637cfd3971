//! A small Postgres v3 server on loopback: accepts, authenticates, reads commands, calls a
//! [`Handler`].
//!
//! Both query protocols are handled alike: a simple query and an executed statement pass one
//! command text to the handler (06 §3.4). Like a pageserver, it keeps only the last parsed text and
//! supports neither parameters nor portals.
//!
//! Invariant: an error on one connection (invalid input, a reset, a closed connection) ends only
//! that connection.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::framing::{Peer, garbage, take_cstr};
use super::journal::{Event, Journal};

/// Limit from accept to the end of authentication.
const GREETING_LIMIT: Duration = Duration::from_secs(60);
/// Storage servers drop connections that are idle for ten minutes (06 §3.7).
const IDLE_LIMIT: Duration = Duration::from_secs(600);
/// Limit for open connections; further ones are closed at once. A compute needs only a few.
pub(super) const MAX_CONNECTIONS: usize = 128;
/// Pause after a failed accept, which is nearly always due to a lack of file descriptors.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a command ended, if the connection itself has no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The answer is complete.
    Done,
    /// The answer is an `ErrorResponse`; the extended protocol skips all messages up to Sync.
    Failed,
    /// Close the connection; earlier output still arrives, later output does not.
    Hangup,
}

/// Properties of the connection that a handler can read.
#[derive(Debug)]
pub(crate) struct Session {
    /// Startup parameters in the order sent.
    pub startup: Vec<(String, String)>,
}

impl Session {
    /// A startup parameter by name.
    #[must_use]
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.startup.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Behaviour of a stand-in server.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Whether to serve a new connection; if not, it is closed before the first byte.
    fn admits(&self) -> bool {
        true
    }

    /// The password that clients must send, if any.
    fn password(&self) -> Option<String> {
        None
    }

    /// Writes the reply to one command, up to and without `ReadyForQuery`.
    ///
    /// # Errors
    /// Any error closes the connection.
    fn answer(
        &self,
        session: &Session,
        command: &str,
        peer: &mut Peer,
    ) -> impl Future<Output = io::Result<Outcome>> + Send;
}

/// A running server. Dropping it ends it and all its connections.
#[derive(Debug)]
pub(crate) struct Server {
    port: u16,
    journal: Journal,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Server {
    /// Listens on 127.0.0.1, on `port`, or on a free port if it is 0.
    ///
    /// # Errors
    /// The port is in use or not permitted.
    pub(crate) async fn start<H: Handler>(port: u16, handler: Arc<H>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let journal = Journal::default();
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, handler, journal.clone(), stop.clone()));
        Ok(Self { port, journal, stop, task: AbortOnDropHandle::new(task) })
    }

    /// The port that it listens on.
    #[must_use]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Actions of clients so far; a shared handle.
    #[must_use]
    pub(crate) fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Stops listening, closes all connections and returns when both are done.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        // The task fails only if it panicked or was aborted; in either case it has ended.
        let _ended = self.task.await;
    }
}

async fn accept<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
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
        if connections.len() >= MAX_CONNECTIONS || !handler.admits() {
            journal.record(number, Event::Refused);
        } else {
            connections.spawn(connection(number, stream, handler.clone(), journal.clone()));
        }
        number += 1;
    }
    connections.shutdown().await;
}

async fn connection<H: Handler>(number: u64, stream: TcpStream, handler: Arc<H>, journal: Journal) {
    if let Err(error) = converse(number, stream, &*handler, &journal).await {
        tracing::debug!(connection = number, %error, "stand-in server closes a connection");
    }
    journal.record(number, Event::Closed);
}

async fn converse<H: Handler>(
    number: u64,
    stream: TcpStream,
    handler: &H,
    journal: &Journal,
) -> io::Result<()> {
    // Nagle's algorithm with delayed ACK would cost 40 ms a turn.
    stream.set_nodelay(true)?;
    let mut peer = Peer::new(stream);
    let greeting = greet(number, &mut peer, handler, journal);
    let Some(session) = timeout(GREETING_LIMIT, greeting).await?? else { return Ok(()) };

    let mut statement = String::new();
    let mut skipping = false;
    while let Some(message) = timeout(IDLE_LIMIT, peer.read_message()).await?? {
        let mut body = message.body;
        match message.tag {
            b'X' => break,
            b'S' => {
                skipping = false;
                peer.ready();
                peer.flush().await?;
            }
            _ if skipping => {}
            b'Q' => {
                let command = take_cstr(&mut body)?;
                journal.record(number, Event::Command(command.clone()));
                if handler.answer(&session, &command, &mut peer).await? == Outcome::Hangup {
                    return peer.close().await;
                }
                peer.ready();
                peer.flush().await?;
            }
            b'P' => {
                statement = read_parse(body)?;
                peer.parse_complete();
            }
            b'D' => match body.first() {
                Some(b'S') => peer.statement_description(),
                _ => return Err(garbage("only statements can be described")),
            },
            b'B' => {
                check_bind(body)?;
                peer.bind_complete();
            }
            b'E' => {
                check_execute(body)?;
                journal.record(number, Event::Command(statement.clone()));
                match handler.answer(&session, &statement, &mut peer).await? {
                    Outcome::Done => {}
                    Outcome::Failed => skipping = true,
                    Outcome::Hangup => return peer.close().await,
                }
            }
            b'C' => peer.close_complete(),
            b'H' => peer.flush().await?,
            _ => return Err(garbage("unknown message type")),
        }
    }
    Ok(())
}

/// Startup and password; `None` if the connection must be closed.
async fn greet<H: Handler>(
    number: u64,
    peer: &mut Peer,
    handler: &H,
    journal: &Journal,
) -> io::Result<Option<Session>> {
    let Some(startup) = peer.read_startup().await? else { return Ok(None) };
    journal.record(number, Event::Startup(startup.clone()));
    if let Some(wanted) = handler.password() {
        peer.ask_password();
        peer.flush().await?;
        let Some(mut message) = peer.read_message().await? else { return Ok(None) };
        if message.tag != b'p' {
            return Err(garbage("expected a password"));
        }
        let password = take_cstr(&mut message.body)?;
        journal.record(number, Event::Password(password.clone()));
        if password != wanted {
            peer.error("XX000", "JWT authentication error");
            peer.close().await?;
            return Ok(None);
        }
    }
    peer.welcome();
    peer.flush().await?;
    Ok(Some(Session { startup }))
}

fn read_parse(mut body: Bytes) -> io::Result<String> {
    let _name = take_cstr(&mut body)?;
    let text = take_cstr(&mut body)?;
    match body.try_get_u16() {
        Ok(0) => Ok(text),
        _ => Err(garbage("statements take no parameters")),
    }
}

fn check_bind(mut body: Bytes) -> io::Result<()> {
    let portal = take_cstr(&mut body)?;
    let _statement = take_cstr(&mut body)?;
    let formats = body.try_get_u16().map_err(|_| garbage("short Bind"))?;
    for _ in 0..formats {
        body.try_get_u16().map_err(|_| garbage("short Bind"))?;
    }
    match (portal.is_empty(), body.try_get_u16()) {
        (true, Ok(0)) => Ok(()),
        _ => Err(garbage("neither portals nor parameters are known here")),
    }
}

fn check_execute(mut body: Bytes) -> io::Result<()> {
    match (take_cstr(&mut body)?.is_empty(), body.try_get_u32()) {
        (true, Ok(0)) => Ok(()),
        _ => Err(garbage("neither portals nor row limits are known here")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_postgres::{NoTls, SimpleQueryMessage};

    use super::*;

    #[derive(Debug, Default)]
    struct Echo {
        password: Option<String>,
    }

    impl Handler for Echo {
        fn password(&self) -> Option<String> {
            self.password.clone()
        }

        async fn answer(
            &self,
            session: &Session,
            command: &str,
            peer: &mut Peer,
        ) -> io::Result<Outcome> {
            if command == "fail" {
                peer.error("08006", "as you wish");
                return Ok(Outcome::Failed);
            }
            peer.row_description(&["text", "user", "nothing"]);
            peer.data_row(&[Some(command), session.parameter("user"), None]);
            peer.command_complete("ECHO");
            Ok(Outcome::Done)
        }
    }

    async fn client(url: &str) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    #[tokio::test]
    async fn simple_query_error_and_recovery() {
        let server = Server::start(0, Arc::new(Echo::default())).await.unwrap();
        let url = format!("postgresql://ann@127.0.0.1:{}?application_name=t", server.port());
        let client = client(&url).await;
        let rows = client.simple_query("hello there").await.unwrap();
        let row = rows
            .iter()
            .find_map(|item| match item {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), (Some("hello there"), Some("ann"), None));

        let refused = client.simple_query("fail").await.unwrap_err();
        assert_eq!(refused.as_db_error().unwrap().message(), "as you wish");
        let refused = client.copy_out("fail").await.err().unwrap();
        assert_eq!(refused.code().unwrap().code(), "08006");
        // Both protocols continue after an error.
        client.simple_query("again").await.unwrap();

        let journal = server.journal();
        assert_eq!(journal.commands(), ["hello there", "fail", "fail", "again"]);
        assert!(journal.startups()[0].contains(&("application_name".into(), "t".into())));
        assert_eq!(journal.connections(), 1);
        server.shutdown().await;
        assert!(client.simple_query("gone").await.is_err());
    }

    #[tokio::test]
    async fn passwords_are_checked_and_recorded() {
        let echo = Echo { password: Some("right".to_owned()) };
        let server = Server::start(0, Arc::new(echo)).await.unwrap();
        let url = |pw: &str| format!("postgresql://ann:{pw}@127.0.0.1:{}", server.port());
        let error = tokio_postgres::connect(&url("wrong"), NoTls).await.err().unwrap();
        assert_eq!(error.as_db_error().unwrap().message(), "JWT authentication error");
        client(&url("right")).await.simple_query("x").await.unwrap();
        assert_eq!(server.journal().passwords(), ["wrong", "right"]);
    }

    /// Sends raw bytes, closes the sending side, and returns all bytes received.
    async fn talk(port: u16, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let mut back = Vec::new();
        // The server may reset the connection before it has read all bytes.
        if stream.write_all(bytes).await.is_ok() {
            let _closed = stream.shutdown().await;
        }
        let _reset = stream.read_to_end(&mut back).await;
        back
    }

    #[tokio::test]
    async fn tls_and_gss_are_declined() {
        let server = Server::start(0, Arc::new(Echo::default())).await.unwrap();
        let mut bytes = Vec::new();
        for code in [80_877_103_u32, 80_877_104] {
            bytes.extend(8_u32.to_be_bytes());
            bytes.extend(code.to_be_bytes());
        }
        bytes.extend(9_u32.to_be_bytes());
        bytes.extend(196_608_u32.to_be_bytes());
        bytes.push(0);
        let back = talk(server.port(), &bytes).await;
        assert!(back.starts_with(b"NNR"), "{back:?}");
    }

    #[test]
    fn garbage_closes_the_connection_and_nothing_else() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = runtime.block_on(Server::start(0, Arc::new(Echo::default()))).unwrap();
        let greeting = [&9_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), b"\0"].concat();
        let config = ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() };
        let noise = (any::<bool>(), "[QPDBECSHXp]?", proptest::collection::vec(any::<u8>(), 0..80));
        proptest!(config, |((greeted, tag, noise) in noise, framed: bool)| {
            let mut bytes = if greeted { greeting.clone() } else { Vec::new() };
            bytes.extend(tag.as_bytes());
            if framed {
                bytes.extend((noise.len() as u32 + 4).to_be_bytes());
            }
            bytes.extend(&noise);
            runtime.block_on(talk(server.port(), &bytes));
        });
        let url = format!("postgresql://ann@127.0.0.1:{}", server.port());
        runtime.block_on(async { client(&url).await.simple_query("alive").await.unwrap() });
    }
}
