//! Latency of `/status`: `cargo bench --bench http [-- [--runs N] [--binary PATH]]`.
//!
//! The real binary as `compute_ctl dev`, which includes its storage. One client sends requests over
//! one kept connection, as fast as they are answered, first on an idle compute and then while a
//! hundred databases are created. Without `--bench` (`cargo test --all-targets`) it does nothing.

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use common::arguments::Arguments;
use common::client::Connection;
use common::host::{free_ports, open_folder};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Requests on an idle compute, and at least so many after that, unless told otherwise.
const REQUESTS: usize = 10_000;
const DATABASES: usize = 100;
/// The target.
const AIM: Duration = Duration::from_millis(10);
/// The databases take a while on a slow disk.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(REQUESTS, &[])?;
    if !arguments.wanted {
        println!("latency of /status: run me with `cargo bench --bench http`");
        return Ok(());
    }
    let dir = open_folder()?;
    let compute = Compute::start(&arguments.binary, &dir.path().join("data"))?;

    let mut alone = Vec::with_capacity(arguments.runs);
    let mut connection = Connection::open(compute.external)?;
    for _ in 0..arguments.runs {
        alone.push(ask(&mut connection)?);
    }
    print("nothing else happens", &mut alone);

    let over = AtomicBool::new(false);
    let mut busy = std::thread::scope(|scope| -> anyhow::Result<_> {
        let configure = scope.spawn(|| {
            let began = Instant::now();
            let result = compute.make_databases();
            over.store(true, SeqCst);
            result.map(|()| began.elapsed())
        });
        let mut busy = Vec::new();
        while !over.load(SeqCst) || busy.len() < arguments.runs {
            busy.push(ask(&mut connection)?);
        }
        let took = configure.join().map_err(|_| anyhow::anyhow!("the thread died"))??;
        println!("  {DATABASES} databases made in {:.1} s", took.as_secs_f64());
        Ok(busy)
    })?;
    print("while databases are made", &mut busy);
    let p99 = percentile(&busy, 99);
    println!("  aim: p99 at most {AIM:?}: {}", if p99 <= AIM { "met" } else { "MISSED" });
    Ok(())
}

fn ask(connection: &mut Connection) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let (code, _) = connection.send("GET", "/status", "")?;
    let took = began.elapsed();
    ensure!(code == 200, "/status answered {code}");
    Ok(took)
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| percentile(times, percent).as_secs_f64() * 1e3);
    let max = times.last().copied().unwrap_or_default().as_secs_f64() * 1e3;
    let count = times.len();
    println!("  {what:<26} p50 {p50:.3} ms, p99 {p99:.3} ms, max {max:.1} ms, {count} requests");
}

/// A percentile of sorted times.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

/// A running `compute_ctl dev`; stopped when dropped.
struct Compute {
    child: Child,
    external: u16,
    document: Value,
}

impl Compute {
    fn start(binary: &Path, data: &Path) -> anyhow::Result<Self> {
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

    fn make_databases(&self) -> anyhow::Result<()> {
        let mut document = self.document.clone();
        let spec = document.get_mut("spec").context("compute.json has a spec")?;
        let cluster = spec.get_mut("cluster").context("the spec has a cluster")?;
        if let Some(cluster) = cluster.as_object_mut() {
            let database = |n| json!({"name": format!("store{n}"), "owner": "cloud_admin"});
            let databases = (0..DATABASES).map(database).collect::<Vec<_>>();
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
