//! One `compute_ctl dev` process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use compute_ctl::dev::servers::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::assertions::{PATIENCE, assert_nothing_left_in};
use crate::support::bed::folder;
use crate::support::process::program;

const POLL: Duration = Duration::from_millis(10);

/// A folder for the runs of one scenario.
pub struct DevBed {
    server: Server,
    dir: TempDir,
}

/// A run, with its output.
pub struct Dev {
    child: Child,
    output: PathBuf,
    /// As root, a folder that the user it becomes cannot look into, like /root.
    _cwd: TempDir,
}

impl DevBed {
    pub fn new(server: Server) -> Self {
        Self { server, dir: folder("dev") }
    }

    /// The folder for `--data`; not made yet.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder that is `TMPDIR` of the runs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs on the bed's server and on free ports.
    pub fn start(&self, args: &[&str]) -> Dev {
        self.spawn_by(Command::new(program()), &self.line(args))
    }

    fn line(&self, args: &[&str]) -> Vec<String> {
        let postgres = self.server.postgres.display().to_string();
        let mut line = Vec::new();
        for (flag, value) in [
            ("--pgbin", &*postgres),
            ("--port", "0"),
            ("--external-http-port", "0"),
            ("--internal-http-port", "0"),
        ] {
            if !args.contains(&flag) {
                line.extend([flag, value]);
            }
        }
        line.extend(args);
        line.into_iter().map(str::to_owned).collect()
    }

    /// A run that keeps its data.
    pub fn start_kept(&self, args: &[&str]) -> Dev {
        let data = self.data().display().to_string();
        self.start(&[&["--data", &data], args].concat())
    }

    /// A run that keeps its data, started by a launcher and its flags.
    pub fn start_by(&self, launcher: &str, args: &[&str]) -> Dev {
        let data = self.data().display().to_string();
        let mut words = launcher.split(' ');
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg(program());
        self.spawn_by(command, &self.line(&[&["--data", &data], args].concat()))
    }

    /// Only the storage, which keeps its data; on free ports unless `args` names them.
    pub fn start_storage(&self, args: &[&str]) -> Dev {
        let (data, postgres) = (self.data(), &self.server.postgres);
        let mut line: Vec<_> = ["--storage-only", "--data", data.to_str().unwrap()].into();
        line.extend(["--pgbin", postgres.to_str().unwrap()]);
        for flag in ["--port", "--pageserver-port", "--safekeeper-port"] {
            if !args.contains(&flag) {
                line.extend([flag, "0"]);
            }
        }
        line.extend(args);
        let line: Vec<_> = line.into_iter().map(str::to_owned).collect();
        self.spawn_by(Command::new(program()), &line)
    }

    /// A compute in production form, by the command line that the storage has printed.
    pub fn start_compute(&self, line: &str) -> Dev {
        self.start_compute_by(&program(), line, "output-compute")
    }

    /// The same by another program, with a file for its output, whose name begins with `output-`.
    pub fn start_compute_by(&self, program: &Path, line: &str, output: &str) -> Dev {
        let mut args: Vec<_> = line.split_whitespace().skip(1).collect();
        args.extend(["--external-http-port", "0", "--internal-http-port", "0"]);
        let mut command = Command::new(program);
        command.args(args);
        self.spawn(command, output)
    }

    fn spawn_by(&self, mut command: Command, args: &[String]) -> Dev {
        command.arg("dev").args(args);
        self.spawn(command, "output")
    }

    fn spawn(&self, mut command: Command, output: &str) -> Dev {
        let output = self.dir.path().join(output);
        let out = File::create(&output).unwrap();
        let cwd = tempfile::tempdir().unwrap();
        command
            .env("TMPDIR", self.dir.path())
            .env_remove("POSTGRES_PATH")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .current_dir(cwd.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .kill_on_drop(true);
        #[expect(clippy::disallowed_methods, reason = "the test reaps it itself")]
        let child = command.spawn().unwrap();
        Dev { child, output, _cwd: cwd }
    }

    /// No process is left, and no file either if the run kept nothing.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_nothing_left_in(self.dir.path());
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let ours = name == "data" || name.to_string_lossy().starts_with("output");
            assert!(ours, "left behind: {name:?}");
        }
    }
}

impl Dev {
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }

    /// The word after `before` in the output, as soon as it is there.
    pub async fn printed(&mut self, before: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.output();
            let found = output.split_once(before).and_then(|(_, rest)| rest.split_once('\n'));
            if let Some((line, _)) = found {
                return line.split_whitespace().next().unwrap_or_default().to_owned();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status}\n{output}");
            }
            assert!(Instant::now() < deadline, "no {before:?} in\n{output}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Runs statements as the superuser with the printed connection string; returns the first
    /// value.
    pub async fn sql(&mut self, statements: &str) -> String {
        let connstr = self.printed("psql ").await;
        Self::sql_at(&connstr, statements).await
    }

    /// The same with another connection string.
    pub async fn sql_at(connstr: &str, statements: &str) -> String {
        let (client, connection) =
            tokio_postgres::connect(connstr, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let answer = client.simple_query(statements).await.unwrap();
        let value = answer.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        value.unwrap_or_default().to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("the process has ended");
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    pub async fn wait_exit(&mut self) -> ExitStatus {
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("the process did not end\n{}", self.output()),
        }
    }

    /// Sends a signal; returns the exit code.
    pub async fn stop(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.wait_exit().await.code().unwrap_or(-1)
    }

    /// The error of a refused run, which must end with 1 by itself.
    pub async fn refused(mut self) -> String {
        assert_eq!(self.wait_exit().await.code(), Some(1), "{}", self.output());
        self.output()
    }
}
