//! What a server of the Postgres protocol says, with one message that is wrong.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::super::testing::error;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    /// The connection ends within its header.
    CutHeader,
    /// The connection ends one byte before its end.
    CutBody,
    Missing,
    Twice,
    /// It comes after the next one.
    Swapped,
    /// Its length is one less than it should be.
    Short,
    /// Its length is one more.
    Long,
    /// Its length includes the next message.
    Swallows,
    /// Its length is -1.
    Negative,
    /// Its length is the largest that there is.
    Endless,
    /// It has a type that does not exist.
    Unknown,
    /// An error in its place.
    Error,
}

impl Lie {
    pub(super) const ALL: [Self; 12] = [
        Self::CutHeader,
        Self::CutBody,
        Self::Missing,
        Self::Twice,
        Self::Swapped,
        Self::Short,
        Self::Long,
        Self::Swallows,
        Self::Negative,
        Self::Endless,
        Self::Unknown,
        Self::Error,
    ];
}

/// All messages with this lie about one of them; `None` if the lie needs a next one.
pub(super) fn told(messages: &[Vec<u8>], at: usize, lie: Lie) -> Option<Vec<u8>> {
    let (before, this, after) = (&messages[..at], &messages[at], &messages[at + 1..]);
    let with_length = |length: i32| {
        let mut message = this.clone();
        message[1..5].copy_from_slice(&length.to_be_bytes());
        message
    };
    let length = i32::try_from(this.len()).unwrap() - 1;
    let here = match lie {
        Lie::CutHeader => return Some([before.concat(), this[..3].to_vec()].concat()),
        Lie::CutBody => return Some([before.concat(), this[..this.len() - 1].to_vec()].concat()),
        Lie::Missing => Vec::new(),
        Lie::Twice => this.repeat(2),
        Lie::Swapped => {
            let (next, rest) = after.split_first()?;
            return Some([before.concat(), next.clone(), this.clone(), rest.concat()].concat());
        }
        Lie::Short => with_length(length - 1),
        Lie::Long => with_length(length + 1),
        Lie::Swallows => with_length(length + i32::try_from(after.first()?.len()).unwrap()),
        Lie::Negative => with_length(-1),
        Lie::Endless => with_length(i32::MAX),
        Lie::Unknown => [b"?", &this[1..]].concat(),
        Lie::Error => error("XX000", "a lie"),
    };
    Some([before.concat(), here, after.concat()].concat())
}

/// Says the first of these to the first client, the second to the second and so on, and then
/// nothing more. The last one is for all further clients.
pub(super) async fn saying(all: Vec<Vec<u8>>) -> (u16, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let mut clients = tokio::task::JoinSet::new();
        for bytes in all.iter().chain(std::iter::repeat(all.last().unwrap())) {
            let (mut socket, _) = listener.accept().await.unwrap();
            let bytes = bytes.clone();
            clients.spawn(async move {
                // A client that has seen enough may be gone.
                let _ = socket.write_all(&bytes).await;
                let _ = socket.shutdown().await;
                // A close with unread bytes would reset the connection.
                let _ = socket.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    (port, AbortOnDropHandle::new(task))
}
