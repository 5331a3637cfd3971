//! Real programs beside a compute (pgbouncer, rsyslogd), an init that restarts them, and a
//! collector of their messages.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::support::assertions::PATIENCE;
use crate::support::bed::{Pair, run_as_name};

/// The path of a program of a Debian package, which the test requires.
pub fn debian_program(name: &str, package: &str) -> PathBuf {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name} on this machine: apt-get install {package}"))
}

/// Held while a daemon has the name `rsyslogd`: a compute restarts all processes of this name that
/// belong to its user, also those of another test.
pub static ONE_RSYSLOGD: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A program that runs as the user that computes run as; killed when dropped.
pub struct Daemon {
    child: Child,
    /// Its output; shown when a wait fails.
    output: PathBuf,
}

impl Daemon {
    /// Starts it with its output in `folder`.
    pub fn start(folder: &Path, mut command: Command) -> Self {
        let user = nix::unistd::User::from_name(&run_as_name()).unwrap().unwrap();
        if nix::unistd::geteuid().is_root() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Self::start_as_it_is(folder, command)
    }

    /// The same for a command that sets its user itself.
    pub fn start_as_it_is(folder: &Path, mut command: Command) -> Self {
        let output = folder.join("daemon.log");
        let out = std::fs::File::options().create(true).append(true).open(&output).unwrap();
        command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(out.try_clone().unwrap()).stderr(out);
        #[expect(clippy::disallowed_methods, reason = "a program beside the compute under test")]
        let child = command.spawn().unwrap();
        Self { child, output }
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    /// Ends it and waits for that.
    pub async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// A daemon that is started again whenever it ends, as init does.
pub struct Respawned {
    task: JoinHandle<()>,
    starts: Arc<AtomicUsize>,
}

impl Respawned {
    /// `start` starts the daemon each time.
    pub fn start(start: impl Fn() -> Daemon + Send + 'static) -> Self {
        let starts = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&starts);
        let task = tokio::spawn(async move {
            loop {
                let mut daemon = start();
                count.fetch_add(1, Ordering::SeqCst);
                daemon.child.wait().await.unwrap();
            }
        });
        Self { task, starts }
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        self.starts.load(Ordering::SeqCst)
    }
}

impl Drop for Respawned {
    fn drop(&mut self) {
        // The daemon ends with the task.
        self.task.abort();
    }
}

/// Listens on TCP and keeps every line of every connection.
pub struct Collector {
    pub port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream).lines();
                    while let Ok(Some(line)) = stream.next_line().await {
                        kept.lock().unwrap().push(line);
                    }
                });
            }
        });
        Self { port, lines }
    }

    /// A collector that talks TLS, with this certificate.
    pub fn start_tls(pair: &Pair) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![pair.leaf().into()],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap(),
            );
        let (config, kept) = (Arc::new(config.unwrap()), Arc::clone(&lines));
        // These threads end with the tests.
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    let stream = std::io::BufReader::new(StreamOwned::new(session, socket));
                    for line in std::io::BufRead::lines(stream).map_while(Result::ok) {
                        kept.lock().unwrap().push(line);
                    }
                });
            }
        });
        Self { port, lines }
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Repeats `again` until a line contains `text`, and returns that line.
    pub async fn hear<F: Future<Output = ()>>(&self, text: &str, again: impl Fn() -> F) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.lines().into_iter().find(|line| line.contains(text)) {
                return line;
            }
            assert!(Instant::now() < deadline, "no {text:?} but {:#?}", self.lines());
            again().await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}
