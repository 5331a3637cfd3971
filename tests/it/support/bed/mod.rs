//! The environment of a scenario: its own folder with storage, a wrapped Postgres, and a spec that
//! points at both.

mod archives;
mod authority;
mod files;
mod local_cache;
mod place;
mod private_mount;
mod taken;
mod tls;
mod tokens;

pub use archives::{Entry, gzip_tar};
pub use authority::Authority;
pub use files::{names, put, put_program};
pub use local_cache::{CACHE_FUNCTIONS, CACHE_STATE, STORAGE_TOKEN, compressed_cache, use_storage};
pub use place::{folder, hand_over, hand_over_tree, install, run_as, run_as_name, template};
pub use private_mount::{may_mount, overlaid, private_mount};
pub use tls::{Pair, TlsFiles, copies, served};
pub use tokens::{EdKey, hs256, part, rs256, rsa_jwk};

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::servers::Server;
use compute_ctl::dev::spec::SpecBuilder;
use compute_ctl::dev::sync_wrapper::SyncWrapper;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::network::free_port;
use crate::support::process::Compute;

/// The default answer of the safekeepers.
pub const LSN_TEXT: &str = "0/1F30EC8";
const LSN: u64 = 0x1F3_0EC8;

/// Stand-in storage, a wrapped Postgres, a spec that points at them.
pub struct Bed {
    pub server: Server,
    pub pageserver: StandInPageserver,
    pub safekeepers: Vec<StandInSafekeeper>,
    pub wrapper: SyncWrapper,
    /// Change it before [`Bed::start`].
    pub spec: SpecBuilder,
    pub port: u16,
    pub external_port: u16,
    pub internal_port: u16,
    /// Program for `--pgbin`; the wrapper's unless changed.
    pub pgbin: PathBuf,
    pgdata: PathBuf,
    dir: TempDir,
}

impl Bed {
    /// One safekeeper; catalog updates skipped; Postgres on a free port.
    pub async fn new(server: Server) -> Self {
        Self::with_safekeepers(server, 1).await
    }

    pub async fn with_safekeepers(server: Server, count: usize) -> Self {
        let template = template(&server).await;
        let archive = template.archive.clone();
        let options = PageserverOptions { archive, port: 0, password: None };
        let pageserver = StandInPageserver::start(options).await.unwrap();
        let mut safekeepers = Vec::new();
        for _ in 0..count {
            let behaviour = SafekeeperBehaviour::at(LSN);
            safekeepers.push(StandInSafekeeper::start(0, behaviour).await.unwrap());
        }
        let dir = folder("bed");
        let wrapper_dir = dir.path().join("pg");
        fs::create_dir(&wrapper_dir).unwrap();
        let wrapper = SyncWrapper::create(&wrapper_dir, &server).unwrap();
        wrapper.set_lsn(LSN).unwrap();
        hand_over_tree(&wrapper_dir);

        let port = free_port();
        let addresses = safekeepers.iter().map(StandInSafekeeper::address).collect();
        let mut spec = SpecBuilder::new(pageserver.connstring(), addresses, port, dir.path());
        spec.durable(false).skip_pg_catalog_updates = true;
        Self {
            server,
            pageserver,
            safekeepers,
            spec,
            port,
            external_port: free_port(),
            internal_port: free_port(),
            pgbin: wrapper.postgres(),
            wrapper,
            pgdata: dir.path().join("pgdata"),
            dir,
        }
    }

    /// The same storage and server for a compute on other ports.
    pub fn take_other_http_ports(&mut self) {
        (self.external_port, self.internal_port) = (free_port(), free_port());
    }

    /// Another place for PGDATA, relative to the bed's folder.
    pub fn place_pgdata(&mut self, place: &str) {
        self.pgdata = self.dir.path().join(place);
    }

    /// Whether the server is Neon's build.
    pub fn server_has_neon(&self) -> bool {
        let control = Command::new(self.server.program("pg_config")).arg("--pkglibdir").output();
        let Ok(output) = control else { return false };
        Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("neon.so").is_file()
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pgdata(&self) -> PathBuf {
        self.pgdata.clone()
    }

    /// A file of PGDATA as text.
    pub fn pgdata_text(&self, name: &str) -> String {
        fs::read_to_string(self.pgdata().join(name)).unwrap()
    }

    /// Writes a document beside PGDATA, readable by the run-as user.
    pub fn write(&self, name: &str, document: &Value) -> PathBuf {
        self.write_text(name, &document.to_string())
    }

    pub fn write_text(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        hand_over(&path);
        path
    }

    pub fn connstr(&self) -> String {
        format!("postgresql://cloud_admin@127.0.0.1:{}/postgres", self.port)
    }

    /// Flags that every compute of this bed has; no source of configuration among them.
    pub fn base_args(&self) -> Vec<String> {
        [
            ("--pgbin", self.pgbin.display().to_string()),
            ("--pgdata", self.pgdata().display().to_string()),
            ("--connstr", self.connstr()),
            ("--external-http-port", self.external_port.to_string()),
            ("--internal-http-port", self.internal_port.to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .chain(["--dev".to_owned()])
        .collect()
    }

    /// Starts a compute on the spec as it is now, by `--config`.
    pub fn start(&self) -> Compute {
        let config = self.write("config.json", &self.spec.config());
        self.start_with(&["--compute-id", "c1", "--config", &config.display().to_string()])
    }

    /// Starts an empty compute.
    pub fn start_empty(&self) -> Compute {
        let config = serde_json::json!({"compute_ctl_config": {"jwks": {"keys": []}}});
        let config = self.write("config.json", &config);
        self.start_with(&["--compute-id", "c1", "--config", &config.display().to_string()])
    }

    /// Writes the configuration as it is now; flags that start a compute on it by `--config`.
    pub fn config_args(&self) -> Vec<String> {
        let config = self.write("config.json", &self.spec.config());
        ["--compute-id", "c1", "--config", &config.display().to_string()].map(str::to_owned).into()
    }

    /// Flags of a compute `c1` that asks a control plane for its configuration.
    pub fn args_for(&self, control_plane: &str) -> Vec<String> {
        let mut line = self.base_args();
        line.extend(["-p", control_plane, "-i", "c1"].map(str::to_owned));
        line
    }

    /// Starts a compute on the spec as it is now, with these variables in its environment.
    pub fn start_with_env(&self, env: &[(&str, &str)]) -> Compute {
        let mut line = self.base_args();
        line.extend(self.config_args());
        Compute::spawn(self, &line, env)
    }

    /// Starts a compute on the spec as it is now, with these flags too.
    pub fn start_with_args(&self, args: &[&str]) -> Compute {
        let line =
            [self.base_args(), self.config_args(), args.iter().map(ToString::to_string).collect()];
        Compute::spawn(self, &line.concat(), &[])
    }

    /// Waits until a compute runs, and forgets the syncs of its start: on a busy machine the
    /// safekeepers can be too late for the quick check.
    pub async fn wait_running(&self, compute: &mut Compute) {
        compute.wait_for("running").await;
        self.wrapper.clear_journal().unwrap();
    }

    /// Starts a compute with the base flags and these.
    pub fn start_with(&self, args: &[&str]) -> Compute {
        let mut line = self.base_args();
        line.extend(args.iter().map(ToString::to_string));
        Compute::spawn(self, &line, &[])
    }

    /// Starts a compute and waits for `running`. Repeats the start if a safekeeper took longer than
    /// its 300 ms, as happens on a busy machine: such a run says nothing about the quick check.
    pub async fn start_with_punctual_safekeepers(&self) -> Compute {
        for _ in 0..10 {
            let mut compute = self.start();
            compute.wait_for("running").await;
            if !compute.settled_log().await.contains("no answer within") {
                return compute;
            }
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            compute.forget_log();
            self.forget_journals();
        }
        panic!("this machine is too busy for the quick check");
    }

    /// Clears the records of storage.
    pub fn forget_journals(&self) {
        self.wrapper.clear_journal().unwrap();
        self.pageserver.journal().clear();
        for safekeeper in &self.safekeepers {
            safekeeper.journal().clear();
        }
    }

    /// The basebackup command of a primary; without an LSN it asks for the latest.
    pub fn basebackup_command(&self, lsn: Option<&str>) -> String {
        let lsn = lsn.map(|lsn| format!(" {lsn}")).unwrap_or_default();
        format!("basebackup {} {}{lsn} --gzip", self.spec.tenant_id, self.spec.timeline_id)
    }

    /// The body of a `/configure` with the spec as it is now.
    pub fn configure_body(&self) -> Value {
        self.spec.config()
    }
}
