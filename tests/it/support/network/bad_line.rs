//! A line to a peer that has one of the usual faults, until it is repaired.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Connections are accepted, and nothing comes back.
    Stalls,
    /// Connections are reset after the first bytes.
    Resets,
    /// One byte a second comes back.
    Trickles,
    /// The first answer of a connection comes this much later.
    Late(Duration),
}

/// A relay to a port of this machine.
pub struct BadLine {
    /// The port to use in place of the peer's.
    pub port: u16,
    met: Arc<AtomicUsize>,
    weather: watch::Sender<Option<Weather>>,
    _relay: AbortOnDropHandle<()>,
}

impl BadLine {
    pub async fn to(port: u16, weather: Weather) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let met = Arc::new(AtomicUsize::new(0));
        let (sender, now) = watch::channel(Some(weather));
        let count = Arc::clone(&met);
        let relay = async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(carry(client, port, *now.borrow(), Arc::clone(&count)));
                while connections.try_join_next().is_some() {}
            }
        };
        let _relay = AbortOnDropHandle::new(tokio::spawn(relay));
        Self { port: own, met, weather: sender, _relay }
    }

    /// How many connections have sent something and met the fault.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }

    /// Connections from now on have this fault.
    pub fn spoil(&self, weather: Weather) {
        self.weather.send_replace(Some(weather));
    }

    /// Connections from now on have no fault; earlier ones keep theirs.
    pub fn repair(&self) {
        self.weather.send_replace(None);
    }
}

/// An error means that one of the two has disconnected.
async fn carry(
    mut client: TcpStream,
    port: u16,
    weather: Option<Weather>,
    met: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let Some(weather) = weather else {
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    };
    let mut first = vec![0; 64 * 1024];
    let count = client.read(&mut first).await?;
    met.fetch_add(1, Ordering::Relaxed);
    match weather {
        Weather::Resets => client.set_zero_linger(),
        Weather::Stalls => {
            // Until the client disconnects.
            while client.read(&mut first).await? > 0 {}
            Ok(())
        }
        Weather::Trickles | Weather::Late(_) => {
            server.write_all(&first[..count]).await?;
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let requests = async move { copy(&mut from_client, &mut to_server).await };
            let (size, mut pause, then) = match weather {
                Weather::Late(pause) => (first.len(), pause, Duration::ZERO),
                _ => (1, Duration::from_secs(1), Duration::from_secs(1)),
            };
            let answers = async move {
                let mut buffer = vec![0; size];
                while let count @ 1.. = from_server.read(&mut buffer).await? {
                    tokio::time::sleep(pause).await;
                    pause = then;
                    to_client.write_all(&buffer[..count]).await?;
                }
                std::io::Result::Ok(())
            };
            tokio::try_join!(requests, answers).map(drop)
        }
    }
}
