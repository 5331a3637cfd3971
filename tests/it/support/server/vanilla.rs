//! A plain Postgres whose configuration file a test may fill freely: the settings that it needs to
//! run are on its command line, which takes precedence over the file.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use compute_ctl::dev::servers::Server;
use flate2::read::GzDecoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};

use crate::support::assertions::PATIENCE;
use crate::support::bed::{folder, hand_over_tree, run_as, template};
use crate::support::network::free_port;

pub struct Vanilla {
    child: Child,
    pub client: Client,
    pub port: u16,
    dir: TempDir,
}

impl Vanilla {
    /// Starts it and connects; `options` are settings for its command line.
    pub async fn start(server: &Server, options: &[&str]) -> Self {
        let dir = folder("vanilla");
        let data = dir.path().join("data");
        let archive = File::open(template(server).await.archive).unwrap();
        tar::Archive::new(GzDecoder::new(archive)).unpack(&data).unwrap();
        fs::write(data.join("postgresql.conf"), "").unwrap();
        fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        hand_over_tree(&data);
        let log = File::create(dir.path().join("log")).unwrap();

        let port = free_port();
        let mut command = Command::new(&server.postgres);
        command.arg("-D").arg(&data);
        let own = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "fsync=off".to_owned(),
        ];
        for option in own.iter().map(String::as_str).chain(options.iter().copied()) {
            command.args(["-c", option]);
        }
        if let Some(user) = run_as() {
            command.uid(user.uid).gid(user.gid);
        }
        command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.kill_on_drop(true);
        #[expect(clippy::disallowed_methods, reason = "tests have no registry of children")]
        let child = command.spawn().unwrap();

        let config = format!("host=127.0.0.1 port={port} user=cloud_admin dbname=postgres");
        let deadline = Instant::now() + PATIENCE;
        let client = loop {
            match tokio_postgres::connect(&config, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    break client;
                }
                Err(error) => {
                    let log = || fs::read_to_string(dir.path().join("log")).unwrap();
                    assert!(Instant::now() < deadline, "{error}\n{}", log());
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
        };
        Self { child, client, port, dir }
    }

    pub fn url(&self) -> String {
        format!("postgresql://cloud_admin@127.0.0.1:{}/postgres", self.port)
    }

    pub fn conf_path(&self) -> PathBuf {
        self.dir.path().join("data/postgresql.conf")
    }

    /// Fills `postgresql.conf` and makes the server parse it without putting it in force: name and
    /// value of each setting in file order, or the first error.
    pub async fn read_conf(&self, text: &str) -> Result<Vec<(String, String)>, String> {
        // The file stays the server's; its owner must not change.
        fs::write(self.conf_path(), text).unwrap();
        let query = "SELECT name, setting, sourceline, error FROM pg_catalog.pg_file_settings \
                     ORDER BY seqno";
        let mut settings = Vec::new();
        for row in self.client.query(query, &[]).await.unwrap() {
            let (name, setting): (Option<String>, Option<String>) = (row.get(0), row.get(1));
            match (name, setting) {
                (Some(name), Some(setting)) => settings.push((name, setting)),
                _ => {
                    let (line, error): (i32, Option<String>) = (row.get(2), row.get(3));
                    return Err(format!("line {line}: {}", error.unwrap_or_default()));
                }
            }
        }
        Ok(settings)
    }

    /// Stops it and waits for its end.
    pub async fn stop(mut self) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGQUIT).unwrap();
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
    }
}
