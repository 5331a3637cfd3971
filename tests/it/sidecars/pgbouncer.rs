//! A real pgbouncer reads the settings of a spec and pools accordingly (04 §8).

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use compute_ctl::secret::Secret;
use compute_ctl::sidecars::pgbouncer::{Pgbouncer, PgbouncerLimits, PgbouncerPaths, Tuning};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::support::assertions::{PATIENCE, assert_nothing_left, eventually};
use crate::support::bed::{Bed, hand_over, may_mount, overlaid, private_mount, put, put_program};
use crate::support::network::free_port;
use crate::support::process::Compute;
use crate::support::server::on_one_server;
use crate::support::sidecar::{Daemon, debian_program};

/// Has a blank and characters that mean something in connection strings.
const PASSWORD: &str = r"p ss'\word";
/// Where the console is in a pod.
const CONSOLE_PORT: u16 = 6432;

/// pgbouncer in front of a bed's Postgres.
struct Pooler {
    dir: PathBuf,
    port: u16,
    before: String,
}

impl Pooler {
    /// Its files, in a folder of its own below the bed's. One server connection for all clients.
    fn new(bed: &Bed, folder: &str, port: u16) -> Self {
        let dir = bed.dir().join(folder);
        let before = format!(
            "; the image's file\n[databases]\n* = host=127.0.0.1 port={} user=cloud_admin\n\n\
             [pgbouncer]\n; where to listen\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir = {dir}\npidfile = {dir}/pgbouncer.pid\nauth_type = md5\n\
             auth_file = {dir}/userlist.txt\nadmin_users = postgres\n; how to pool\n\
             pool_mode = transaction\ndefault_pool_size=1\n\n[users]\n; none\n",
            bed.port,
            dir = dir.display(),
        );
        let pooler = Self { dir, port, before };
        put(&pooler.ini(), &pooler.before);
        put(&pooler.dir.join("userlist.txt"), &format!("\"postgres\" \"{PASSWORD}\"\n"));
        pooler
    }

    fn ini(&self) -> PathBuf {
        self.dir.join("pgbouncer.ini")
    }

    fn ini_text(&self) -> String {
        std::fs::read_to_string(self.ini()).unwrap()
    }

    /// Starts the program and waits until it serves.
    async fn start(&self) -> Daemon {
        let mut command = Command::new(debian_program("pgbouncer", "pgbouncer"));
        command.arg(self.ini());
        let daemon = Daemon::start(&self.dir, command);
        let deadline = Instant::now() + PATIENCE;
        while self.try_connect("pgbouncer").await.is_none() {
            assert!(Instant::now() < deadline, "pgbouncer does not serve\n{}", daemon.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        daemon
    }

    async fn try_connect(&self, database: &str) -> Option<Client> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("postgres").password(PASSWORD);
        let (client, connection) = config.dbname(database).connect(NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// The settings of the running pgbouncer.
    async fn setting(&self, name: &str) -> String {
        let console = self.try_connect("pgbouncer").await.unwrap();
        let rows = console.simple_query("SHOW CONFIG").await.unwrap();
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.get("key") == Some(name) => row.get("value"),
            _ => None,
        });
        row.unwrap().to_owned()
    }

    async fn wait_for_setting(&self, name: &str, value: &str, log: impl Fn() -> String) {
        let deadline = Instant::now() + PATIENCE;
        while self.setting(name).await != value {
            assert!(Instant::now() < deadline, "{name} is not {value}\n{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Which server processes serve two clients that are there at the same time.
    async fn served_by(&self) -> [String; 2] {
        let clients = [
            self.try_connect("postgres").await.unwrap(),
            self.try_connect("postgres").await.unwrap(),
        ];
        let mut pids = Vec::new();
        for client in &clients {
            let rows = client.simple_query("SELECT pg_backend_pid()");
            let rows = tokio::time::timeout(PATIENCE, rows).await.unwrap().unwrap();
            let pid = rows.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            pids.push(pid.unwrap().to_owned());
        }
        pids.try_into().unwrap()
    }

    /// Transactions of all clients share the one connection.
    async fn assert_pools_transactions(&self) {
        let [one, other] = self.served_by().await;
        assert_eq!(one, other, "transactions are not pooled");
    }

    /// Each client keeps a connection. With the old pool size the second would never get one.
    async fn assert_pools_sessions(&self) {
        let [one, other] = self.served_by().await;
        assert_ne!(one, other, "sessions are not pooled");
    }

    /// The file with the two settings changed, and nothing else.
    fn expected_ini(&self) -> String {
        self.before
            .replace("pool_mode = transaction", "pool_mode = session")
            .replace("default_pool_size=1\n", "default_pool_size=2\nmax_client_conn=77\n")
    }
}

#[tokio::test]
async fn a_running_pgbouncer_is_tuned() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let pooler = Pooler::new(&bed, "pooler", free_port());
        let daemon = pooler.start().await;
        pooler.assert_pools_transactions().await;

        let paths = PgbouncerPaths {
            ini: pooler.ini(),
            port: pooler.port,
            password: Some(Secret::new(PASSWORD.to_owned())),
            ..PgbouncerPaths::default()
        };
        let pgbouncer = Pgbouncer::new(paths, PgbouncerLimits::default());
        let settings =
            [("pool_mode", "session"), ("default_pool_size", "2"), ("max_client_conn", "77")]
                .map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())));
        pgbouncer.tune_in_background(Tuning { settings: settings.into(), tls: None });
        pooler.wait_for_setting("pool_mode", "session", || daemon.output()).await;
        assert_eq!(pooler.setting("max_client_conn").await, "77");
        pooler.assert_pools_sessions().await;
        assert_eq!(pooler.ini_text(), pooler.expected_ini());

        daemon.stop().await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Mounts a folder of the bed over `/var`.
fn own_var(bed: &Bed) -> String {
    format!("mount --bind '{}/var' /var", bed.dir().display())
}

fn start_with_own_var(bed: &Bed) -> Compute {
    let mut program = private_mount(&own_var(bed));
    program.env("PGBOUNCER_PASSWORD", PASSWORD).env_remove("AUTOSCALING");
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    Compute::spawn_through(bed, program, &line)
}

#[tokio::test]
async fn the_whole_way_of_a_configuration() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let var = bed.dir().join("var");
        std::fs::create_dir(&var).unwrap();
        hand_over(&var);
        if !may_mount(&own_var(&bed)).await {
            return;
        }
        if std::net::TcpListener::bind(("127.0.0.1", CONSOLE_PORT)).is_err() {
            println!("skipped: something else listens on port {CONSOLE_PORT}");
            return;
        }
        // During the start pgbouncer is down: its file is edited nevertheless, and the compute
        // runs.
        let mut pooler = Pooler::new(&bed, "var/db/postgres/pgbouncer", CONSOLE_PORT);
        bed.spec.member("pgbouncer_settings", json!({"pool_mode": "transaction", "zz_none": "1"}));
        let mut compute = start_with_own_var(&bed);
        compute.wait_for("running").await;
        eventually("the file is edited", || pooler.ini_text().contains("zz_none=1\n")).await;
        put(&pooler.ini(), &pooler.before);

        let daemon = pooler.start().await;
        pooler.assert_pools_transactions().await;
        let settings =
            json!({"pool_mode": "session", "default_pool_size": "2", "max_client_conn": "77"});
        bed.spec.member("pgbouncer_settings", settings);
        let (status, body) = compute.configure(&bed).await;
        assert_eq!(status, 200, "{body}");
        pooler.wait_for_setting("pool_mode", "session", || compute.log()).await;
        pooler.assert_pools_sessions().await;
        assert_eq!(pooler.ini_text(), pooler.expected_ini());

        // Settings that cannot be written have no effect on the compute, nor on the file.
        bed.spec.member("pgbouncer_settings", json!({"pool_mode": "transaction\n[users]"}));
        let (status, body) = compute.configure(&bed).await;
        assert_eq!(status, 200, "{body}");
        compute
            .wait_for_log("error while tuning pgbouncer: could not set pgbouncer_settings")
            .await;
        assert_eq!(pooler.ini_text(), pooler.expected_ini());

        // Without the member pgbouncer is left alone.
        bed.spec.member("pgbouncer_settings", json!(null));
        pooler.before.push_str("; by hand\n");
        put(&pooler.ini(), &pooler.before);
        let (status, body) = compute.configure(&bed).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(pooler.ini_text(), pooler.before);

        assert!(!compute.log().contains(PASSWORD), "{}", compute.log());
        daemon.stop().await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert!(!Path::new("/var/db/postgres/pgbouncer/pgbouncer.pid").exists());
        assert_nothing_left(&bed);
    })
    .await;
}

/// In a virtual machine `/etc/pgbouncer.ini` belongs to the compute and `/etc` does not, or cannot
/// be written at all: the file is written in its place, and pgbouncer is told.
#[tokio::test]
async fn the_file_of_a_virtual_machine_is_written_in_its_place() {
    on_one_server(|server| async move {
        for upper in [false, true] {
            let mut bed = Bed::new(server.clone()).await;
            let dir = bed.dir().to_owned();
            let ini = dir.join("etc/pgbouncer.ini");
            put(&ini, "[databases]\n[pgbouncer]\n; by hand\npool_mode = transaction\n");
            std::fs::set_permissions(&ini, Permissions::from_mode(0o640)).unwrap();
            let d = dir.display();
            let mounts = if upper {
                // A folder of root that can be written, with a file of the compute in it.
                format!(
                    "d='{d}'; mkdir \"$d/tmpfs\"; mount -t tmpfs tmpfs \"$d/tmpfs\"; \
                     cp -a /etc/. \"$d/tmpfs\"; cp -a \"$d/etc/pgbouncer.ini\" \"$d/tmpfs\"; \
                     chown root \"$d/tmpfs\"; chmod 755 \"$d/tmpfs\"; \
                     mount --bind \"$d/tmpfs\" /etc"
                )
            } else {
                let etc = overlaid(&dir.join("etc"), "/etc");
                format!("{etc}; mount --bind '{d}/etc/pgbouncer.ini' /etc/pgbouncer.ini")
            };
            if !may_mount(&mounts).await {
                return;
            }
            let _ = std::fs::remove_dir(dir.join("tmpfs"));
            put_program(&dir.join("bin/cgexec"), "shift 2; exec \"$@\"");
            bed.spec.member("pgbouncer_settings", json!({"pool_mode": "session"}));
            let mut line = bed.base_args();
            line.extend(bed.config_args());
            line.extend(["--vm-monitor-addr", "127.0.0.1:0"].map(str::to_owned));
            let mut program = private_mount(&mounts);
            let path = std::env::var("PATH").unwrap();
            program.env("AUTOSCALING", "1").env("PATH", format!("{d}/bin:{path}"));
            let mut compute = Compute::spawn_through(&bed, program, &line);
            compute.wait_for("running").await;
            compute.wait_for_log("set in /etc/pgbouncer.ini: pool_mode").await;
            let root = format!("/proc/{}/root", compute.pid());
            let seen = Path::new(&root).join("etc/pgbouncer.ini");
            let expected = "[databases]\n[pgbouncer]\n; by hand\npool_mode = session\n";
            assert_eq!(std::fs::read_to_string(&seen).unwrap(), expected);
            let after = std::fs::metadata(&seen).unwrap();
            let before = std::fs::metadata(&ini).unwrap();
            assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
            let etc = std::fs::read_dir(Path::new(&root).join("etc")).unwrap();
            let names = etc.map(|entry| entry.unwrap().file_name());
            assert_eq!(
                names.filter(|name| name.as_bytes().starts_with(b".compute_ctl")).count(),
                0
            );
            // There is no pgbouncer here.
            compute
                .wait_for_log("/etc/pgbouncer.ini is up to date, but pgbouncer could not be told")
                .await;
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}
