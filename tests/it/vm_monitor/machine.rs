//! A compute in a virtual machine: a folder with the files of its cgroup, and a `cgexec` that only
//! starts the program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use compute_ctl::dev::servers::Server;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::agent::Agent;
use crate::support::assertions::{assert_nothing_left, families, until};
use crate::support::bed::{Bed, hand_over_tree, put_program};
use crate::support::network::free_port;
use crate::support::process::Compute;

pub const CGROUP: &str = "neon-postgres";

pub struct Machine {
    pub bed: Bed,
    pub port: u16,
    /// Of the session that resizes the cache.
    pub user: &'static str,
    /// The connection of this session is in a file that only the user who starts the program may read.
    pub in_file: bool,
    /// More flags.
    pub flags: Vec<String>,
}

impl Machine {
    /// A primary whose cache may have 8 GiB, and whose cgroup uses 300 MiB.
    pub async fn new(server: Server) -> Self {
        let mut bed = Bed::new(server).await;
        bed.spec.set("neon.max_file_cache_size", "8192MB");
        bed.spec.set("neon.file_cache_size_limit", "128MB");
        put_program(&bed.dir().join("bin/cgexec"), "shift 2\nexec \"$@\"");
        let (port, user) = (free_port(), "cloud_admin");
        let machine = Self { bed, port, user, in_file: false, flags: Vec::new() };
        machine.uses(300);
        machine
    }

    fn root(&self) -> PathBuf {
        self.bed.dir().join("cgroup")
    }

    /// The file with the use of memory.
    pub fn stat(&self) -> PathBuf {
        self.root().join(CGROUP).join("memory.stat")
    }

    /// The cgroup uses so many MiB from now on.
    pub fn uses(&self, mib: u64) {
        let folder = self.root().join(CGROUP);
        fs::create_dir_all(&folder).unwrap();
        let half = mib << 19;
        let text = format!("anon 7\nfile 9\ninactive_anon {half}\nactive_anon {half}\n");
        fs::write(folder.join("new"), text).unwrap();
        fs::rename(folder.join("new"), self.stat()).unwrap();
        hand_over_tree(&self.root());
    }

    pub fn args(&self) -> Vec<String> {
        let (port, postgres, user) = (self.port, self.bed.port, self.user);
        let connstr = format!(
            "host=127.0.0.1 port={postgres} dbname=postgres user={user} sslmode=disable \
             application_name=vm-monitor"
        );
        let connstr = if self.in_file {
            let file = self.bed.dir().join("filecache");
            fs::write(&file, connstr + "\n").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            ["--filecache-connstr-file".to_owned(), file.display().to_string()]
        } else {
            ["--filecache-connstr".to_owned(), connstr]
        };
        let own = [["--vm-monitor-addr".to_owned(), format!("127.0.0.1:{port}")], connstr].concat();
        [self.bed.base_args(), self.bed.config_args(), own, self.flags.clone()].concat()
    }

    pub fn env(&self) -> [(&'static str, String); 4] {
        let bin = self.bed.dir().join("bin");
        [
            ("AUTOSCALING", String::new()),
            ("COMPUTE_CTL_CGROUP_ROOT", self.root().display().to_string()),
            ("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())),
            ("RUST_LOG", "info,compute_ctl::vm_monitor=debug".to_owned()),
        ]
    }

    pub fn spawn(&self) -> Compute {
        let env = self.env();
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Compute::spawn(&self.bed, &self.args(), &env)
    }

    /// A compute that runs and serves agents.
    pub async fn start(&self) -> Compute {
        let mut compute = self.spawn();
        compute.wait_for("running").await;
        compute.wait_for_log("the VM monitor is listening on 127.0.0.1:").await;
        compute
    }

    pub async fn agent(&self) -> Agent {
        Agent::connect(self.port).await
    }

    /// Ends the compute, which must still be well.
    pub async fn end(&self, mut compute: Compute) {
        assert_eq!(compute.get("/status").await.1["status"], "running");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&self.bed);
    }
}

/// Member `extra.vm_monitor` of `/status`.
pub async fn shown(compute: &Compute) -> Value {
    compute.get("/status").await.1["extra"]["vm_monitor"].clone()
}

/// Waits until a member of it, given as a JSON pointer, has a value.
pub async fn until_shown(compute: &Compute, pointer: &str, wanted: &Value) {
    until(pointer, || async { shown(compute).await.pointer(pointer) == Some(wanted) }).await;
}

/// The cache's limit, as a new session sees it. A placeholder has no unit.
pub async fn limit(compute: &Compute) -> String {
    compute.sql_text("SHOW neon.file_cache_size_limit").await
}

/// The sum of a family of metrics, by its name without the prefix; none without a series.
pub async fn metric(compute: &Compute, name: &str) -> Option<f64> {
    let (_, text) = compute.get("/metrics").await;
    let name = format!("compute_ctl_vm_monitor_{name}");
    let families = families(text.as_str().unwrap());
    let family = families.iter().find(|family| family.name == name)?;
    Some(family.samples.iter().map(|sample| sample.value).sum())
}
