//! Stand-in safekeeper: answers `TIMELINE_STATUS` (06 §7.1, §11.5), and can be told to disagree,
//! delay or fail.
//!
//! It stores no WAL; its LSNs are set by the caller.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::framing::Peer;
use super::journal::Journal;
use super::wal::WalArchive;
use super::wire::{Handler, Outcome, Server, Session};
use crate::spec::Lsn;

/// Settings that can be changed while the server runs.
#[derive(Clone, Default)]
pub struct SafekeeperBehaviour {
    /// Flush position.
    pub flush_lsn: u64,
    /// Commit position.
    pub commit_lsn: u64,
    /// Answer without a row.
    pub unknown_timeline: bool,
    /// Delay before each answer.
    pub delay: Duration,
    /// Answer with an `ErrorResponse` of this text.
    pub error: Option<String>,
    /// Send this text instead of both LSNs.
    pub garbage: Option<String>,
    /// Accept connections and close them.
    pub refuse: bool,
    /// Password that clients must send.
    pub password: Option<String>,
    /// Both positions are the end of this WAL.
    pub(crate) wal: Option<Arc<WalArchive>>,
}

impl SafekeeperBehaviour {
    /// No faults, and both positions at `lsn`.
    #[must_use]
    pub fn at(lsn: u64) -> Self {
        Self { flush_lsn: lsn, commit_lsn: lsn, ..Self::default() }
    }
}

impl fmt::Debug for SafekeeperBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SafekeeperBehaviour")
            .field("flush_lsn", &Lsn(self.flush_lsn))
            .field("commit_lsn", &Lsn(self.commit_lsn))
            .field("unknown_timeline", &self.unknown_timeline)
            .field("delay", &self.delay)
            .field("error", &self.error)
            .field("garbage", &self.garbage)
            .field("refuse", &self.refuse)
            .field("password", &self.password.as_ref().map(|_| "[secret]"))
            .field("wal", &self.wal)
            .finish()
    }
}

/// A running stand-in safekeeper. Dropping it ends it.
#[derive(Debug)]
pub struct StandInSafekeeper {
    server: Server,
    behaviour: Arc<Mutex<SafekeeperBehaviour>>,
}

impl StandInSafekeeper {
    /// Listens on 127.0.0.1, on `port`, or on a free port if it is 0.
    ///
    /// # Errors
    /// The port is in use.
    pub async fn start(port: u16, behaviour: SafekeeperBehaviour) -> io::Result<Self> {
        let behaviour = Arc::new(Mutex::new(behaviour));
        let server = Server::start(port, Arc::new(Responder(behaviour.clone()))).await?;
        Ok(Self { server, behaviour })
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The address in the form of `safekeeper_connstrings`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Actions of clients.
    #[must_use]
    pub fn journal(&self) -> Journal {
        self.server.journal()
    }

    /// Changes the behaviour from the next connection or command on.
    pub fn behave(&self, change: impl FnOnce(&mut SafekeeperBehaviour)) {
        change(&mut self.behaviour.lock());
    }

    /// Sets both positions.
    pub fn set_lsn(&self, lsn: u64) {
        self.behave(|behaviour| (behaviour.flush_lsn, behaviour.commit_lsn) = (lsn, lsn));
    }

    /// Stops listening and closes all connections.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

struct Responder(Arc<Mutex<SafekeeperBehaviour>>);

impl Handler for Responder {
    fn admits(&self) -> bool {
        !self.0.lock().refuse
    }

    fn password(&self) -> Option<String> {
        self.0.lock().password.clone()
    }

    async fn answer(
        &self,
        session: &Session,
        command: &str,
        peer: &mut Peer,
    ) -> io::Result<Outcome> {
        let mut behaviour = self.0.lock().clone();
        if !behaviour.delay.is_zero() {
            tokio::time::sleep(behaviour.delay).await;
        }
        let options = session.parameter("options").unwrap_or_default();
        let complaint = if let Some(text) = behaviour.error {
            Some(text)
        } else if !command.starts_with("TIMELINE_STATUS") {
            Some(format!("unsupported command {command}"))
        } else if option(options, "tenant_id").is_none() {
            Some("tenantid is required".to_owned())
        } else if option(options, "timeline_id").is_none() {
            Some("timelineid is required".to_owned())
        } else {
            None
        };
        if let Some(text) = complaint {
            peer.error("XX000", &text);
            return Ok(Outcome::Failed);
        }
        if let Some(wal) = behaviour.wal.take() {
            let end = tokio::task::spawn_blocking(move || wal.end());
            let end = end.await.map_err(io::Error::other)??;
            (behaviour.flush_lsn, behaviour.commit_lsn) = (end, end);
        }
        peer.row_description(&["flush_lsn", "commit_lsn"]);
        if !behaviour.unknown_timeline {
            let value = |lsn| behaviour.garbage.clone().unwrap_or_else(|| Lsn(lsn).to_string());
            let (flush, commit) = (value(behaviour.flush_lsn), value(behaviour.commit_lsn));
            peer.data_row(&[Some(&flush), Some(&commit)]);
        }
        peer.command_complete("TIMELINE_STATUS");
        Ok(Outcome::Done)
    }
}

/// A `name=value` word of the startup parameter `options`. Words end at blanks without a backslash
/// in front; other words, such as `-c`, are skipped.
fn option(options: &str, name: &str) -> Option<String> {
    let mut words = vec![String::new()];
    let mut chars = options.chars();
    while let Some(char) = chars.next() {
        let last = words.last_mut()?;
        match char {
            '\\' => last.extend(chars.next()),
            blank if blank.is_ascii_whitespace() => words.push(String::new()),
            other => last.push(other),
        }
    }
    words.iter().find_map(|word| {
        let (key, value) = word.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use tokio_postgres::{NoTls, SimpleQueryMessage};

    use super::*;

    const BOTH: &str = "-c timeline_id=e7d25a1c90b84f3fa6120c4b8d93f57e \
                        tenant_id=51b0c7e2a94d4c06b3f7d1e8a2640f9c";

    /// Returns the row, if the answer has one.
    async fn status(
        server: &StandInSafekeeper,
        options: &str,
    ) -> Result<Option<(String, String)>, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(server.port()).user("no_user").password("token");
        let (client, connection) = config.options(options).connect(NoTls).await?;
        tokio::spawn(connection);
        let items = client.simple_query("TIMELINE_STATUS").await?;
        Ok(items.iter().find_map(|item| match item {
            SimpleQueryMessage::Row(row) => Some((
                row.get("flush_lsn").unwrap().to_owned(),
                row.get("commit_lsn").unwrap().to_owned(),
            )),
            _ => None,
        }))
    }

    #[tokio::test]
    async fn answers_as_told() {
        let start = SafekeeperBehaviour::at(0x2A3_B4C8);
        let server = StandInSafekeeper::start(0, start).await.unwrap();
        let pair = |flush: &str, commit: &str| Some((flush.to_owned(), commit.to_owned()));
        assert_eq!(status(&server, BOTH).await.unwrap(), pair("0/2A3B4C8", "0/2A3B4C8"));
        assert_eq!(
            server.journal().startups()[0].iter().find(|p| p.0 == "options").unwrap().1,
            BOTH
        );

        server.behave(|behaviour| behaviour.commit_lsn = 0xA_0000_0000);
        assert_eq!(status(&server, BOTH).await.unwrap(), pair("0/2A3B4C8", "A/0"));
        server.behave(|behaviour| behaviour.garbage = Some("0//0".to_owned()));
        assert_eq!(status(&server, BOTH).await.unwrap(), pair("0//0", "0//0"));
        server.behave(|behaviour| behaviour.unknown_timeline = true);
        assert_eq!(status(&server, BOTH).await.unwrap(), None);
        server.behave(|behaviour| behaviour.error = Some("out of order".to_owned()));
        let error = status(&server, BOTH).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().message(), "out of order");
        server.behave(|behaviour| behaviour.password = Some("other".to_owned()));
        assert!(status(&server, BOTH).await.is_err());
        assert_eq!(server.journal().passwords(), ["token"]);
        server.behave(|behaviour| behaviour.refuse = true);
        assert!(status(&server, BOTH).await.unwrap_err().as_db_error().is_none());
        assert_eq!(server.journal().commands().len(), 5);
        server.shutdown().await;
    }

    #[tokio::test]
    async fn both_ids_are_required() {
        let server = StandInSafekeeper::start(0, SafekeeperBehaviour::at(1)).await.unwrap();
        for (options, text) in [
            ("-c timeline_id=x", "tenantid is required"),
            ("tenant_id=x", "timelineid is required"),
        ] {
            let error = status(&server, options).await.unwrap_err();
            assert_eq!(error.as_db_error().unwrap().message(), text);
        }
    }

    #[test]
    fn options_are_split_at_unescaped_blanks() {
        assert_eq!(option("-c a=1 b=2", "b").as_deref(), Some("2"));
        assert_eq!(option(r"a=1\ b=2", "a").as_deref(), Some("1 b=2"));
        assert_eq!(option(r"a=1\ b=2", "b"), None);
        assert_eq!(option("tail\\", "b"), None);
    }
}
