//! The environment of all cases: a server, stand-in storage, a folder, a way to start the daemon.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::servers::{self, Server};
use compute_ctl::dev::spec::SpecBuilder;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::archives;
use super::common::host::{Owner, free_ports, open_folder};
use super::common::process::{Process, get};
use super::common::stand_in::{fake_server, one_file};

/// Any LSN works: the data directory is complete as it is.
const LSN: u64 = 0x1F3_0EC8;
/// As many safekeepers as in production.
const SAFEKEEPERS: usize = 3;
/// Logged once, right after the status has become `running`.
const RUNNING: &str = "compute start finished";
/// Logged once, when a compute without a spec can be reached.
const EMPTY: &str = "no spec yet, waiting for /configure";

/// How the basebackup comes.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    Libpq,
    Grpc,
}

/// The basebackups.
pub struct Archives {
    pub initdb: PathBuf,
    pub one_file: PathBuf,
    pub large: PathBuf,
}

pub struct Bed {
    pub server: Server,
    pub archives: Archives,
    pub owner: Owner,
    /// Stands in for a server that starts at once.
    pub fake: PathBuf,
    pageserver: StandInPageserver,
    _safekeepers: Vec<StandInSafekeeper>,
    binary: PathBuf,
    config: PathBuf,
    /// The same with gRPC preferred.
    grpc_config: PathBuf,
    ports: [u16; 3],
    /// Number of the data directories in use.
    round: Cell<u32>,
    dir: TempDir,
}

impl Bed {
    pub async fn new(binary: PathBuf) -> anyhow::Result<Self> {
        let server = servers::choose(None)?;
        let owner = Owner::find()?;
        let dir = open_folder()?;
        owner.hand_over(dir.path())?;
        let archives = Archives {
            initdb: archives::initdb(&server, dir.path(), owner)?,
            one_file: one_file(dir.path())?,
            large: archives::large(dir.path())?,
        };
        let fake = fake_server(Some(&server), &dir.path().join("fake"))?;

        let archive = archives.initdb.clone();
        let options = PageserverOptions { archive, port: 0, password: None };
        let pageserver = StandInPageserver::start(options).await?;
        let mut safekeepers = Vec::new();
        for _ in 0..SAFEKEEPERS {
            safekeepers.push(StandInSafekeeper::start(0, SafekeeperBehaviour::at(LSN)).await?);
        }
        let ports = free_ports()?;
        let addresses = safekeepers.iter().map(StandInSafekeeper::address).collect();
        let mut spec = SpecBuilder::new(pageserver.connstring(), addresses, ports[0], dir.path());
        spec.durable(false).skip_pg_catalog_updates = true;
        let config = dir.path().join("config.json");
        fs::write(&config, spec.config().to_string())?;
        owner.hand_over(&config)?;
        let grpc_config = dir.path().join("config-grpc.json");
        fs::write(&grpc_config, spec.pageserver_over_grpc(&pageserver).config().to_string())?;
        owner.hand_over(&grpc_config)?;
        Ok(Self {
            server,
            archives,
            owner,
            fake,
            pageserver,
            _safekeepers: safekeepers,
            binary,
            config,
            grpc_config,
            ports,
            round: Cell::new(0),
            dir,
        })
    }

    pub fn who(&self) -> &'static str {
        if self.owner.0.is_some() { "as root, stepping down" } else { "as an ordinary user" }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory that the daemon fills.
    pub fn pgdata(&self) -> PathBuf {
        self.dir.path().join(format!("pgdata-{}", self.round.get()))
    }

    /// A directory that is filled by hand, for comparison.
    pub fn other_pgdata(&self) -> PathBuf {
        self.dir.path().join(format!("other-{}", self.round.get()))
    }

    /// Replaces both directories. The old ones are kept to the end: ext4 creates files slowly for
    /// some seconds after others were deleted, as it looks for inodes that it may reuse.
    pub fn next_round(&self) {
        self.round.set(self.round.get() + 1);
    }

    /// Starts the daemon on an archive, with the server given.
    pub fn daemon(&self, archive: &Path, postgres: &Path) -> anyhow::Result<Process> {
        self.daemon_over(Protocol::Libpq, archive, postgres)
    }

    /// As [`Self::daemon`], with the archive over this protocol.
    pub fn daemon_over(
        &self,
        protocol: Protocol,
        archive: &Path,
        postgres: &Path,
    ) -> anyhow::Result<Process> {
        self.pageserver.set_archive(archive);
        let config = match protocol {
            Protocol::Libpq => &self.config,
            Protocol::Grpc => &self.grpc_config,
        };
        let command = self.command(Command::new(&self.binary), postgres, config);
        Process::start(command, RUNNING)
    }

    pub const fn external_port(&self) -> u16 {
        self.ports[1]
    }

    /// Starts the daemon without a spec.
    pub fn empty_daemon(&self) -> anyhow::Result<Process> {
        let config = self.dir.path().join("config-empty.json");
        fs::write(&config, r#"{"compute_ctl_config": {"jwks": {"keys": []}}}"#)?;
        let command = Command::new(&self.binary);
        Process::start(self.command(command, &self.server.postgres, &config), EMPTY)
    }

    /// Starts the daemon under a program that counts its instructions into `counts`, as the user that
    /// the daemon would step down to, who must be able to write the file.
    pub fn counted(&self, postgres: &Path, counts: &Path) -> anyhow::Result<Process> {
        self.pageserver.set_archive(&self.archives.one_file);
        let mut command = Command::new("valgrind");
        command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
        command.arg(&self.binary);
        self.owner.run_as(&mut command);
        Process::start(self.command(command, postgres, &self.config), RUNNING)
    }

    /// Adds the arguments of the daemon to a command that ends with its program.
    fn command(&self, mut command: Command, postgres: &Path, config: &Path) -> Command {
        let [port, external, internal] = self.ports;
        command
            .env("OTEL_SDK_DISABLED", "true")
            .env_remove("RUST_LOG")
            .arg("--pgbin")
            .arg(postgres);
        command.arg("--pgdata").arg(self.pgdata());
        command.args(["--dev", "--compute-id", "bench", "--connstr"]);
        command.arg(format!("postgresql://cloud_admin@127.0.0.1:{port}/postgres"));
        command.args(["--external-http-port", &external.to_string()]);
        command.args(["--internal-http-port", &internal.to_string()]);
        command.arg("--config").arg(config);
        command
    }

    /// Starts the daemon, waits for `running`, ends it.
    pub fn time_daemon(&self, archive: &Path, postgres: &Path) -> anyhow::Result<Duration> {
        let daemon = self.daemon(archive, postgres)?;
        let time = daemon.reached()?;
        self.assert_running()?;
        daemon.stop(Signal::SIGTERM)?;
        Ok(time)
    }

    /// The log and the API must report the same.
    pub fn assert_running(&self) -> anyhow::Result<()> {
        let answer = get(self.ports[1], "/status")?;
        ensure!(answer.contains(r#""status":"running""#), "not running: {answer}");
        Ok(())
    }

    /// Touches the API as a scraper would.
    pub fn ask_everything(&self) -> anyhow::Result<()> {
        for path in ["/status", "/metrics", "/metrics.json"] {
            get(self.ports[1], path)?;
        }
        Ok(())
    }
}
