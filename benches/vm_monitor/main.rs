//! What the VM monitor costs: `cargo bench --bench vm_monitor [-- [--runs SECONDS] [--binary PATH]]`.
//!
//! A running compute without `AUTOSCALING`, and one with it and an agent that is connected: the time
//! of the processor per second, and the resident memory. Both are idle but for their own work.
//! Without `--bench` (`cargo test --all-targets`) it does nothing.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use common::arguments::Arguments;
use common::host::{Owner, free_ports, open_folder};
use common::process::{Process, pause};
use compute_ctl::dev::pageserver::{PageserverOptions, StandInPageserver};
use compute_ctl::dev::safekeeper::{SafekeeperBehaviour, StandInSafekeeper};
use compute_ctl::dev::servers;
use compute_ctl::dev::spec::SpecBuilder;
use compute_ctl::dev::template::Template;
use compute_ctl::os::children::Children;
use nix::sys::signal::Signal;
use tokio_tungstenite::tungstenite::{Message, client};

/// Any LSN works: the data directory is complete as it is.
const LSN: u64 = 0x1F3_0EC8;
const RUNNING: &str = "compute start finished";
/// Seconds of one measurement, unless told otherwise.
const SECONDS: usize = 30;
/// Until the start is forgotten: caches are filled, sessions are made.
const SETTLE: Duration = Duration::from_secs(3);
/// The aims: part of one processor, and KiB.
const AIM: (f64, f64) = (0.002, 300.0);

/// Seconds of the processor per second, and resident KiB.
struct Cost {
    processor: f64,
    memory: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read(SECONDS, &[])?;
    if !arguments.wanted {
        println!("cost of the VM monitor: run me with `cargo bench --bench vm_monitor`");
        return Ok(());
    }
    let mut differences = Vec::new();
    for round in 1..=3 {
        let without = measure(&arguments, false).await?;
        let with = measure(&arguments, true).await?;
        let processor = with.processor - without.processor;
        let memory = with.memory - without.memory;
        println!(
            "  round {round}: processor {:.3} % without, {:.3} % with; resident {:.0} KiB more",
            without.processor * 100.0,
            with.processor * 100.0,
            memory
        );
        differences.push((processor, memory));
    }
    differences.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (processor, _) = differences.get(1).copied().context("three rounds")?;
    differences.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (_, memory) = differences.get(1).copied().context("three rounds")?;
    let met = |yes| if yes { "met" } else { "MISSED" };
    println!("  median: {:.3} % of a processor, {}", processor * 100.0, met(processor <= AIM.0));
    println!("  median: {memory:.0} KiB, {}", met(memory <= AIM.1));
    Ok(())
}

async fn measure(arguments: &Arguments, autoscaling: bool) -> anyhow::Result<Cost> {
    let server = servers::choose(None)?;
    let owner = Owner::find()?;
    let dir = open_folder()?;
    let template = Template::cached(&server, dir.path(), owner.0, &Children::new()).await?;
    let archive = template.archive.clone();
    let options = PageserverOptions { archive, port: 0, password: None };
    let pageserver = StandInPageserver::start(options).await?;
    let safekeeper = StandInSafekeeper::start(0, SafekeeperBehaviour::at(LSN)).await?;
    let [port, external, internal] = free_ports()?;
    let [monitor, ..] = free_ports()?;
    let home = dir.path().join("home");
    fs::create_dir(&home)?;
    let connstring = pageserver.connstring();
    let mut spec = SpecBuilder::new(connstring, vec![safekeeper.address()], port, &home);
    spec.durable(false).skip_pg_catalog_updates = true;
    spec.set("neon.max_file_cache_size", "1GB").set("neon.file_cache_size_limit", "0");
    let config = home.join("config.json");
    fs::write(&config, spec.config().to_string())?;
    let cgroup = home.join("cgroup/neon-postgres");
    fs::create_dir_all(&cgroup)?;
    fs::write(cgroup.join("memory.stat"), memory_stat())?;
    let bin = home.join("bin");
    put_cgexec(&bin)?;
    owner.hand_over(&home)?;

    let mut command = Command::new(&arguments.binary);
    command.env("OTEL_SDK_DISABLED", "true").env_remove("RUST_LOG").env_remove("AUTOSCALING");
    command.arg("--pgbin").arg(&server.postgres).arg("--config").arg(&config);
    command.arg("--pgdata").arg(home.join("pgdata"));
    let connstr = format!("postgresql://cloud_admin@127.0.0.1:{port}/postgres");
    command.args(["--dev", "--compute-id", "bench", "--connstr", &connstr]);
    command.args(["--external-http-port", &external.to_string()]);
    command.args(["--internal-http-port", &internal.to_string()]);
    if autoscaling {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin.display())).env("AUTOSCALING", "1");
        command.env("COMPUTE_CTL_CGROUP_ROOT", home.join("cgroup"));
        command.args(["--vm-monitor-addr", &format!("127.0.0.1:{monitor}")]);
        let login = format!("host=127.0.0.1 port={port} user=cloud_admin dbname=postgres");
        command.args(["--filecache-connstr", &login]);
    }
    let process = Process::start(command, RUNNING)?;
    process.reached()?;
    let agent = if autoscaling { Some(connect(monitor)?) } else { None };
    pause(SETTLE);
    let before = processor_time(process.pid())?;
    let seconds = u32::try_from(arguments.runs)?;
    pause(Duration::from_secs(1) * seconds);
    let used = processor_time(process.pid())? - before;
    let cost = Cost {
        processor: used.as_secs_f64() / f64::from(seconds),
        memory: process.memory("VmRSS")? * 1024.0,
    };
    drop(agent);
    process.stop(Signal::SIGTERM)?;
    Ok(cost)
}

/// A connected agent; it keeps its connection until it is dropped.
fn connect(port: u16) -> anyhow::Result<impl Sized> {
    let mut tries = 0;
    let stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => ensure!(tries < 100, "the VM monitor is not there: {error}"),
        }
        tries += 1;
        pause(Duration::from_millis(20));
    };
    let (mut socket, _) = client(format!("ws://127.0.0.1:{port}/monitor"), stream)?;
    socket.send(Message::text(r#"{"min":1,"max":1}"#))?;
    socket.read()?;
    socket.send(Message::text(r#"{"type":"HealthCheck","content":{},"id":2}"#))?;
    let answer = socket.read()?.into_text()?;
    ensure!(answer.contains("HealthCheck"), "{answer}");
    Ok(socket)
}

/// The time that all threads have run.
fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("schedstat is empty")?;
        sum += first.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// As long as that of a kernel.
fn memory_stat() -> String {
    let mut text = String::from("anon 300\nactive_anon 100000000\ninactive_anon 200000000\n");
    for line in 0..60 {
        text.push_str(&format!("some_other_member_{line} 123456789\n"));
    }
    text
}

fn put_cgexec(bin: &Path) -> anyhow::Result<()> {
    fs::create_dir(bin)?;
    let program = bin.join("cgexec");
    fs::write(&program, "#!/bin/sh\nshift 2\nexec \"$@\"\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
