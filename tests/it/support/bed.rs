//! Everything a compute needs around it, on loopback and in a folder of its own.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::servers::Server;
use compute_ctl::dev::spec::SpecBuilder;
use compute_ctl::dev::sync_wrapper::SyncWrapper;
use compute_ctl::dev::template::{RunAs, Template};
use compute_ctl::os::children::Children;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::Compute;

/// What the safekeepers answer unless told otherwise.
pub const LSN_TEXT: &str = "0/1F30EC8";
const LSN: u64 = 0x1F3_0EC8;
/// `mode` of a primary.
pub const MODE_PRIMARY: &str = "Primary";

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
    dir: TempDir,
}

/// The user that Postgres runs as when the tests run as root.
pub(super) fn run_as() -> Option<RunAs> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres").unwrap().expect("no user `postgres`");
    Some(RunAs { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
}

/// One template per server version and process: initdb takes a second.
pub(super) async fn template(server: &Server) -> Template {
    static TEMPLATES: Mutex<Option<HashMap<String, Arc<(TempDir, Template)>>>> =
        Mutex::const_new(None);
    let mut templates = TEMPLATES.lock().await;
    let templates = templates.get_or_insert_default();
    if let Some(made) = templates.get(&server.version) {
        return made.1.clone();
    }
    let dir = folder("template");
    let made = Template::build(server, dir.path(), run_as(), &Children::new()).await.unwrap();
    templates.insert(server.version.clone(), Arc::new((dir, made.clone())));
    made
}

/// A folder that the run-as user can use.
pub(super) fn folder(what: &str) -> TempDir {
    let dir = tempfile::Builder::new().prefix(&format!("cctl-{what}-")).tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    hand_over(dir.path());
    dir
}

/// Gives a file or folder to the run-as user.
pub fn hand_over(path: &Path) {
    if let Some(RunAs { uid, gid }) = run_as() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// A port that nobody uses at the moment.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
            wrapper,
            spec,
            port,
            external_port: free_port(),
            internal_port: free_port(),
            dir,
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn pgdata(&self) -> PathBuf {
        self.dir.path().join("pgdata")
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
            ("--pgbin", self.wrapper.postgres().display().to_string()),
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

    /// Starts a compute with the base flags and these.
    pub fn start_with(&self, args: &[&str]) -> Compute {
        let mut line = self.base_args();
        line.extend(args.iter().map(ToString::to_string));
        Compute::spawn(self, &line, &[])
    }

    /// The body of a `/configure` with the spec as it is now.
    pub fn configure_body(&self) -> Value {
        self.spec.config()
    }
}

pub fn hand_over_tree(path: &Path) {
    hand_over(path);
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if !entry.is_symlink() {
                hand_over_tree(&entry);
            }
        }
    }
}
