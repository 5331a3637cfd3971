//! A running compute, and the two ways in which its spec changes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::servers::{self, Server};
use compute_ctl::dev::spec::SpecBuilder;
use compute_ctl::dev::template::Template;
use compute_ctl::os::children::Children;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::common::client::Connection;
use super::common::host::{Owner, free_ports, open_folder};
use super::common::process::Process;

/// Any LSN works: the data directory is complete as it is.
const LSN: u64 = 0x1F3_0EC8;
/// Logged once, right after the status has become `running`.
const RUNNING: &str = "compute start finished";

pub struct Bed {
    server: Server,
    spec: SpecBuilder,
    ports: [u16; 3],
    process: Process,
    _storage: (StandInPageserver, StandInSafekeeper),
    _dir: TempDir,
}

impl Bed {
    pub async fn new(binary: PathBuf) -> anyhow::Result<Self> {
        let server = servers::choose(None)?;
        let owner = Owner::find()?;
        let dir = open_folder()?;
        let template = Template::cached(&server, dir.path(), owner.0, &Children::new()).await?;
        let options =
            PageserverOptions { archive: template.archive.clone(), port: 0, password: None };
        let pageserver = StandInPageserver::start(options).await?;
        let safekeeper = StandInSafekeeper::start(0, SafekeeperBehaviour::at(LSN)).await?;
        let ports = free_ports()?;
        let [port, external, internal] = ports;

        let home = dir.path().join("home");
        fs::create_dir(&home)?;
        let mut spec =
            SpecBuilder::new(pageserver.connstring(), vec![safekeeper.address()], port, &home);
        spec.durable(false).set("app.round", "none").skip_pg_catalog_updates = true;
        let config = home.join("config.json");
        fs::write(&config, spec.config().to_string())?;
        owner.hand_over(&home)?;
        let mut command = Command::new(binary);
        command
            .env("OTEL_SDK_DISABLED", "true")
            .env_remove("RUST_LOG")
            .arg("--pgbin")
            .arg(&server.postgres);
        command.arg("--pgdata").arg(home.join("pgdata")).arg("--config").arg(&config);
        command.args(["--dev", "--compute-id", "bench", "--connstr", &connstr(port)]);
        command.args(["--external-http-port", &external.to_string()]);
        command.args(["--internal-http-port", &internal.to_string()]);
        let process = Process::start(command, RUNNING)?;
        process.reached()?;
        Ok(Self { server, spec, ports, process, _storage: (pageserver, safekeeper), _dir: dir })
    }

    pub fn version(&self) -> &str {
        &self.server.version
    }

    /// Only lines that the program writes itself change, so Postgres' own program does not check
    /// them.
    pub fn move_tenant(&mut self, round: usize) -> anyhow::Result<Duration> {
        self.spec.pageserver_connstring = pageserver(round);
        self.configure()
    }

    pub fn change_setting(&mut self, round: usize) -> anyhow::Result<Duration> {
        self.spec.set("app.round", &round.to_string());
        self.configure()
    }

    fn configure(&self) -> anyhow::Result<Duration> {
        let body = self.spec.config().to_string();
        let began = Instant::now();
        let (code, text) = Connection::open(self.ports[1])?.send("POST", "/configure", &body)?;
        let took = began.elapsed();
        ensure!(code == 200, "/configure answered {code}: {text}");
        Ok(took)
    }

    /// Checks that a new session sees the new value.
    pub async fn assert_in_force(&self, round: usize) -> anyhow::Result<()> {
        let connstr = connstr(self.ports[0]);
        let (client, connection) = tokio_postgres::connect(&connstr, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        for (setting, wanted) in
            [("app.round", round.to_string()), ("neon.pageserver_connstring", pageserver(round))]
        {
            let row = client.query_one(&format!("SHOW {setting}"), &[]).await?;
            let shown: String = row.try_get(0)?;
            ensure!(shown == wanted, "{setting} is {shown}, not {wanted}");
        }
        Ok(())
    }

    pub fn stop(self) -> anyhow::Result<()> {
        self.process.stop(Signal::SIGTERM)
    }
}

fn pageserver(round: usize) -> String {
    format!("postgresql://no_user@pageserver-{round}.example:6400")
}

fn connstr(port: u16) -> String {
    format!("postgresql://cloud_admin@127.0.0.1:{port}/postgres")
}
