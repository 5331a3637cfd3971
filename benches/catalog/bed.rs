//! The environment of all cases: a server and its client programs, stand-in storage, a folder, and
//! a compute that runs on them.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use compute_ctl::dev::archive::{self, ArchiveOptions};
use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::servers::{self, Server};
use compute_ctl::dev::spec::SpecBuilder;
use compute_ctl::dev::template::Template;
use compute_ctl::os::children::Children;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use super::common::client::Connection;
use super::common::host::{Owner, free_ports, open_folder};
use super::common::process::{Process, get};

/// As many safekeepers as in production.
const SAFEKEEPERS: usize = 3;
/// Logged once, right after the status has become `running`.
const RUNNING: &str = "compute start finished";

pub struct Bed {
    pub server: Server,
    /// The server whose `psql` and `pgbench` are used.
    pub clients: Server,
    /// Runs the stand-ins and the bench's own sessions.
    runtime: Runtime,
    pageserver: StandInPageserver,
    safekeepers: Vec<StandInSafekeeper>,
    /// The default data of a compute.
    empty: Template,
    binary: PathBuf,
    pub owner: Owner,
    ports: [u16; 3],
    /// Number of the data directory in use.
    round: Cell<u32>,
    dir: TempDir,
}

impl Bed {
    pub fn new(binary: PathBuf) -> anyhow::Result<Self> {
        let server = servers::choose(None)?;
        let has_clients =
            |s: &Server| ["psql", "pgbench"].iter().all(|name| s.program(name).is_file());
        let clients = servers::find_servers(None).into_iter().find(has_clients);
        let clients = clients.context("no server has both psql and pgbench beside it")?;
        let owner = Owner::find()?;
        let dir = open_folder()?;
        owner.hand_over(dir.path())?;
        // One thread for the storage, so that the daemon has a core of its own.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (empty, pageserver, safekeepers) =
            runtime.block_on(storage(&server, dir.path(), owner))?;
        Ok(Self {
            server,
            clients,
            runtime,
            pageserver,
            safekeepers,
            empty,
            binary,
            owner,
            ports: free_ports()?,
            round: Cell::new(0),
            dir,
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pgdata(&self) -> PathBuf {
        self.dir.path().join(format!("pgdata-{}", self.round.get()))
    }

    /// Runs the bench's own sessions.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A primary without roles and databases, and without settings that make it faster.
    pub fn spec(&self) -> SpecBuilder {
        let addresses = self.safekeepers.iter().map(StandInSafekeeper::address).collect();
        SpecBuilder::new(self.pageserver.connstring(), addresses, self.ports[0], self.dir.path())
    }

    /// Later computes start from the data of the last one, which has ended.
    pub fn serve_last(&self) -> anyhow::Result<()> {
        let archive = self.dir.path().join("last.tar.gz");
        let packed = archive::build(&self.pgdata(), &archive, &ArchiveOptions::default())?;
        self.serve(&Template { archive, checkpoint_lsn: packed.checkpoint_lsn });
        Ok(())
    }

    /// Later computes start from a cluster that has never been started.
    pub fn serve_empty(&self) {
        self.serve(&self.empty);
    }

    fn serve(&self, template: &Template) {
        self.pageserver.set_archive(&template.archive);
        self.safekeepers.iter().for_each(|it| it.set_lsn(template.checkpoint_lsn));
    }

    /// A compute on a new data directory. The old ones are kept to the end: ext4 creates files
    /// slowly for some seconds after others were deleted.
    pub fn start(&self, spec: &SpecBuilder) -> anyhow::Result<Compute<'_>> {
        self.round.set(self.round.get() + 1);
        let config = self.dir.path().join("config.json");
        fs::write(&config, spec.config().to_string())?;
        self.owner.hand_over(&config)?;
        let [_, external, internal] = self.ports;
        let mut command = Command::new(&self.binary);
        command
            .env("OTEL_SDK_DISABLED", "true")
            .env_remove("RUST_LOG")
            .arg("--pgbin")
            .arg(&self.server.postgres);
        command.arg("--pgdata").arg(self.pgdata()).arg("--config").arg(&config);
        command.args(["--dev", "--compute-id", "bench", "--connstr", &self.connstr()]);
        command.args(["--external-http-port", &external.to_string()]);
        command.args(["--internal-http-port", &internal.to_string()]);
        let process = Process::start(command, RUNNING)?;
        process.reached()?;
        let compute = Compute { bed: self, process };
        ensure!(compute.get("/status")?.contains(r#""status":"running""#), "not running");
        Ok(compute)
    }

    pub fn connstr(&self) -> String {
        self.connstr_of("cloud_admin", "postgres")
    }

    pub fn connstr_of(&self, user: &str, database: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.ports[0])
    }
}

/// A running compute.
pub struct Compute<'a> {
    pub bed: &'a Bed,
    pub process: Process,
}

impl Compute<'_> {
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        get(self.bed.ports[1], path)
    }

    /// Applies a spec; returns the time from the request to the answer.
    pub fn apply(&self, spec: &SpecBuilder) -> anyhow::Result<Duration> {
        let body = spec.config().to_string();
        let mut connection = Connection::open(self.bed.ports[1])?;
        let began = Instant::now();
        let (code, text) = connection.send("POST", "/configure", &body)?;
        let took = began.elapsed();
        ensure!(code == 200, "/configure answered {code}: {text}");
        Ok(took)
    }

    /// Runs statements one after the other, in a session as the superuser; how long they took.
    pub fn run(&self, statements: impl IntoIterator<Item = String>) -> anyhow::Result<Duration> {
        self.bed.block_on(async {
            let session = session(&self.bed.connstr()).await?;
            let began = Instant::now();
            for statement in statements {
                session.simple_query(&statement).await.context(statement)?;
            }
            Ok(began.elapsed())
        })
    }

    /// Opens a session in each of these databases, one after the other.
    pub fn open_sessions(&self, databases: &[String]) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.bed.block_on(async {
            for database in databases {
                session(&self.bed.connstr_of("cloud_admin", database)).await?;
            }
            Ok(began.elapsed())
        })
    }

    pub fn stop(self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM)
    }

    /// Frees the disk as well.
    pub fn stop_and_delete(self) -> anyhow::Result<()> {
        let pgdata = self.bed.pgdata();
        self.stop()?;
        Ok(fs::remove_dir_all(pgdata)?)
    }
}

pub async fn session(connstr: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(connstr, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn storage(
    server: &Server,
    dir: &Path,
    owner: Owner,
) -> anyhow::Result<(Template, StandInPageserver, Vec<StandInSafekeeper>)> {
    let template = Template::build(server, dir, owner.0, &Children::new()).await?;
    let archive = template.archive.clone();
    let options = PageserverOptions { archive, port: 0, password: None };
    let pageserver = StandInPageserver::start(options).await?;
    let mut safekeepers = Vec::new();
    for _ in 0..SAFEKEEPERS {
        let behaviour = SafekeeperBehaviour::at(template.checkpoint_lsn);
        safekeepers.push(StandInSafekeeper::start(0, behaviour).await?);
    }
    Ok((template, pageserver, safekeepers))
}
