//! A running compute, the ways in which its spec changes, and what each of them is compared with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::servers::{self, Server};
use compute_ctl::dev::spec::SpecBuilder;
use compute_ctl::dev::template::Template;
use compute_ctl::os::children::Children;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::common::client::Connection;
use super::common::host::{Owner, free_ports, open_folder};
use super::common::process::Process;

/// Any LSN works: the data directory is complete as it is.
const LSN: u64 = 0x1F3_0EC8;
/// Logged once, right after the status has become `running`.
const RUNNING: &str = "compute start finished";
/// A reload takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Bed {
    server: Server,
    spec: SpecBuilder,
    ports: [u16; 3],
    owner: Owner,
    pgdata: PathBuf,
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
        let pgdata = home.join("pgdata");
        command.arg("--pgdata").arg(&pgdata).arg("--config").arg(&config);
        command.args(["--dev", "--compute-id", "bench", "--connstr", &connstr(port)]);
        command.args(["--external-http-port", &external.to_string()]);
        command.args(["--internal-http-port", &internal.to_string()]);
        let process = Process::start(command, RUNNING)?;
        process.reached()?;
        let _storage = (pageserver, safekeeper);
        Ok(Self { server, spec, ports, owner, pgdata, process, _storage, _dir: dir })
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

    /// A name of two words is that of an extension, whose values Postgres' own program does not know.
    pub fn change_setting(&mut self, round: usize) -> anyhow::Result<Duration> {
        self.spec.set("app.round", &round.to_string());
        self.configure()
    }

    /// A setting of Postgres itself, which may refuse the value.
    pub fn change_checked(&mut self, round: usize) -> anyhow::Result<Duration> {
        self.spec.typed("work_mem", &work_mem(round), "integer");
        self.configure()
    }

    /// The floor of a change that nothing has to check: the file is replaced, the server is told, and
    /// new sessions ask until one sees the value.
    pub async fn by_hand(&self, round: usize) -> anyhow::Result<Duration> {
        let conf = self.pgdata.join("postgresql.conf");
        let (beside, value) = (self.pgdata.join("postgresql.conf.new"), format!("by hand {round}"));
        let pid = fs::read_to_string(self.pgdata.join("postmaster.pid"))?;
        let pid = Pid::from_raw(pid.lines().next().context("no postmaster")?.parse()?);
        let text = fs::read_to_string(&conf)? + &format!("app.round = '{value}'\n");
        let began = Instant::now();
        fs::write(&beside, text)?;
        self.owner.hand_over(&beside)?;
        fs::rename(beside, conf)?;
        kill(pid, Signal::SIGHUP)?;
        while self.show("app.round").await? != value {
            ensure!(began.elapsed() < PATIENCE, "no session sees the value");
        }
        Ok(began.elapsed())
    }

    /// The floor of a check: Postgres' own program reads the file that is in force.
    pub fn check_alone(&self) -> anyhow::Result<Duration> {
        let mut command = Command::new(&self.server.postgres);
        command.args(["-C", "config_file", "-D"]).arg(&self.pgdata).current_dir(&self.pgdata);
        self.owner.run_as(&mut command);
        let began = Instant::now();
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(began.elapsed())
    }

    async fn show(&self, setting: &str) -> anyhow::Result<String> {
        let connstr = connstr(self.ports[0]);
        let (client, connection) = tokio_postgres::connect(&connstr, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client.query_one(&format!("SHOW {setting}"), &[]).await?.try_get(0)?)
    }

    fn configure(&self) -> anyhow::Result<Duration> {
        let body = self.spec.config().to_string();
        let began = Instant::now();
        let (code, text) = Connection::open(self.ports[1])?.send("POST", "/configure", &body)?;
        let took = began.elapsed();
        ensure!(code == 200, "/configure answered {code}: {text}");
        Ok(took)
    }

    /// Checks that a new session sees the new values.
    pub async fn assert_in_force(&self, round: usize) -> anyhow::Result<()> {
        for (setting, wanted) in [
            ("app.round", round.to_string()),
            ("neon.pageserver_connstring", pageserver(round)),
            ("work_mem", work_mem(round)),
        ] {
            let shown = self.show(setting).await?;
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

/// In kB, never a whole number of MB.
fn work_mem(round: usize) -> String {
    format!("{}kB", 4097 + 2 * round)
}

fn connstr(port: u16) -> String {
    format!("postgresql://cloud_admin@127.0.0.1:{port}/postgres")
}
