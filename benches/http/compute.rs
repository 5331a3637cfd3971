//! The compute whose server is measured.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::common::client::Connection;
use super::common::host::free_ports;

/// The databases take a while on a slow disk.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running `compute_ctl dev`; stopped when dropped.
pub struct Compute {
    child: Child,
    /// Port of the external server.
    pub external: u16,
    document: Value,
}

impl Compute {
    pub fn start(binary: &Path, data: &Path) -> anyhow::Result<Self> {
        let [port, external, internal] = free_ports()?.map(|port| port.to_string());
        let mut command = Command::new(binary);
        command
            .env("OTEL_SDK_DISABLED", "true")
            .env_remove("RUST_LOG")
            .arg("dev")
            .arg("--data")
            .arg(data)
            .args([
                "--port",
                &port,
                "--external-http-port",
                &external,
                "--internal-http-port",
                &internal,
            ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
        #[expect(clippy::disallowed_methods, reason = "a benchmark has no reaper")]
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut compute = Self { child, external: external.parse()?, document: Value::Null };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = Connection::open(compute.external)
                .and_then(|mut connection| connection.send("GET", "/status?wait=running", ""));
            match answer {
                Ok((200, text)) if text.contains(r#""status":"running""#) => break,
                _ => ensure!(Instant::now() < deadline, "the compute does not start"),
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let text = std::fs::read_to_string(data.join("compute.json"))?;
        compute.document = serde_json::from_str(&text)?;
        Ok(compute)
    }

    /// Returns when they are there.
    pub fn make_databases(&self, count: usize) -> anyhow::Result<()> {
        let mut document = self.document.clone();
        let spec = document.get_mut("spec").context("compute.json has a spec")?;
        let cluster = spec.get_mut("cluster").context("the spec has a cluster")?;
        if let Some(cluster) = cluster.as_object_mut() {
            let database = |n| json!({"name": format!("store{n}"), "owner": "cloud_admin"});
            let databases = (0..count).map(database).collect::<Vec<_>>();
            cluster.insert("databases".to_owned(), databases.into());
            // The benchmark measures the server and not the disk.
            if let Some(settings) = cluster.get_mut("settings").and_then(Value::as_array_mut) {
                settings.retain(|setting| setting.get("name") != Some(&json!("fsync")));
                settings.push(json!({"name": "fsync", "value": "off", "vartype": "bool"}));
            }
        }
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("skip_pg_catalog_updates".to_owned(), false.into());
        }
        let mut connection = Connection::open(self.external)?;
        let (code, text) = connection.send("POST", "/configure", &document.to_string())?;
        ensure!(code == 200, "/configure answered {code}: {text}");
        Ok(())
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // Fails when it has ended already.
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
