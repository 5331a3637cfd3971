//! The computes, and what they share.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::spec::SpecBuilder;
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use super::common::host::{Owner, open_folder};
use super::common::process::Process;
use super::common::stand_in::{fake_server, one_file};
use super::control_plane::ControlPlane;

const LSN: u64 = 0x1F3_0EC8;
const SAFEKEEPERS: usize = 3;
const RUNNING: &str = "compute start finished";

struct Place {
    id: String,
    pgdata: PathBuf,
    ports: [u16; 3],
}

/// Requests since the fleet was made.
pub struct Requests {
    pub control_plane: f64,
    /// Connections.
    pub pageserver: f64,
    /// Connections to one of them.
    pub safekeeper: f64,
}

/// Places of supervisors, with control plane and storage.
pub struct Fleet {
    pub control_plane: ControlPlane,
    pageserver: StandInPageserver,
    safekeepers: Vec<StandInSafekeeper>,
    places: Vec<Place>,
    binary: PathBuf,
    fake: PathBuf,
    _dir: TempDir,
}

impl Fleet {
    pub async fn new(binary: &Path, count: usize) -> anyhow::Result<Self> {
        let (owner, dir) = (Owner::find()?, open_folder()?);
        owner.hand_over(dir.path())?;
        let archive = one_file(dir.path())?;
        let options = PageserverOptions { archive, port: 0, password: None };
        let pageserver = StandInPageserver::start(options).await?;
        let mut safekeepers = Vec::new();
        for _ in 0..SAFEKEEPERS {
            safekeepers.push(StandInSafekeeper::start(0, SafekeeperBehaviour::at(LSN)).await?);
        }
        let addresses: Vec<_> = safekeepers.iter().map(StandInSafekeeper::address).collect();
        let (mut places, mut configurations) = (Vec::new(), HashMap::new());
        for (index, ports) in ports(count)?.into_iter().enumerate() {
            let (id, folder) = (format!("compute-{index}"), dir.path().join(index.to_string()));
            fs::create_dir(&folder)?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
            owner.hand_over(&folder)?;
            let connstring = pageserver.connstring();
            let mut spec = SpecBuilder::new(connstring, addresses.clone(), ports[0], &folder);
            spec.durable(false).skip_pg_catalog_updates = true;
            let mut configuration = spec.config();
            if let Some(members) = configuration.as_object_mut() {
                members.insert("status".to_owned(), json!("attached"));
            }
            configurations.insert(id.clone(), configuration);
            places.push(Place { id, pgdata: folder.join("pgdata"), ports });
        }
        let fake = fake_server(None, &dir.path().join("fake"))?;
        let control_plane = ControlPlane::start(configurations).await?;
        let binary = binary.to_owned();
        Ok(Self { control_plane, pageserver, safekeepers, places, binary, fake, _dir: dir })
    }

    /// Starts all, without waiting for them.
    pub fn start(&self) -> anyhow::Result<Vec<Process>> {
        self.places.iter().map(|place| self.start_one(place)).collect()
    }

    fn start_one(&self, place: &Place) -> anyhow::Result<Process> {
        let [port, external, internal] = place.ports;
        let mut command = Command::new(&self.binary);
        command.env("OTEL_SDK_DISABLED", "true").env("NEON_CONTROL_PLANE_TOKEN", "token");
        command.env_remove("RUST_LOG").arg("--pgbin").arg(&self.fake);
        command.arg("--pgdata").arg(&place.pgdata);
        command.args(["--dev", "--compute-id", &place.id, "--connstr"]);
        command.arg(format!("postgresql://cloud_admin@127.0.0.1:{port}/postgres"));
        command.args(["--external-http-port", &external.to_string()]);
        command.args(["--internal-http-port", &internal.to_string()]);
        command.args(["--control-plane-uri", &self.control_plane.url]);
        Process::start(command, RUNNING)
    }

    pub fn requests(&self) -> Requests {
        let asked = self.safekeepers.iter().map(|it| it.journal().connections()).sum::<usize>();
        Requests {
            control_plane: self.control_plane.requests() as f64,
            pageserver: self.pageserver.journal().connections() as f64,
            safekeeper: asked as f64 / SAFEKEEPERS as f64,
        }
    }

    /// Ends all.
    pub fn end(&self, computes: Vec<Process>) -> anyhow::Result<()> {
        for compute in &computes {
            compute.signal(Signal::SIGTERM)?;
        }
        computes.into_iter().try_for_each(|compute| compute.stop(Signal::SIGTERM))
    }
}

/// Free ports for Postgres and both servers of each compute.
fn ports(count: usize) -> anyhow::Result<Vec<[u16; 3]>> {
    // Below the range of outgoing connections, one of which could take a port before its use.
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let free: Vec<u16> = (16_384..32_768).filter(is_free).take(count * 3).collect();
    let threes = free.chunks_exact(3).filter_map(|three| three.try_into().ok());
    let ports: Vec<[u16; 3]> = threes.collect();
    ensure!(ports.len() == count, "only {} ports are free", free.len());
    Ok(ports)
}
