//! Latency of `/status`: `cargo bench --bench http [-- [--runs N] [--binary PATH] [CASE...]]`.
//!
//! The real binary as `compute_ctl dev`, which includes its storage. `floor` compares it with a bare
//! server ([`bare`]) that gives the same answer: for each number of clients the two alternate, and
//! the ratios are those within one round. `databases` sends requests over one kept connection, as
//! fast as they are answered, first on an idle compute and then while a hundred databases are
//! created. Without `--bench` (`cargo test --all-targets`) it does nothing.

mod bare;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod compute;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::ensure;
use common::arguments::Arguments;
use common::client::Connection;
use common::host::open_folder;
use common::samples::{Samples, heading, milliseconds, verdict};
use compute::Compute;

const CASES: [&str; 2] = ["floor", "databases"];
/// Requests of a round of `floor`, and of an idle compute, unless told otherwise.
const REQUESTS: usize = 10_000;
const CLIENTS: [usize; 3] = [1, 16, 256];
const ROUNDS: usize = 10;
/// The target of `floor`: what the compute takes, as a multiple of the bare server.
const AIM_P50: f64 = 1.5;
const AIM_P99: f64 = 2.0;
const DATABASES: usize = 100;
/// The target of `databases`.
const AIM: Duration = Duration::from_millis(10);

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some_and(|role| role == bare::ROLE) {
        return bare::run();
    }
    let arguments = Arguments::read(REQUESTS, &CASES)?;
    if !arguments.wanted {
        println!("latency of /status: run me with `cargo bench --bench http`");
        return Ok(());
    }
    let dir = open_folder()?;
    let compute = Compute::start(&arguments.binary, &dir.path().join("data"))?;
    if arguments.is_chosen("floor") {
        floor(&compute, arguments.runs)?;
    }
    if arguments.is_chosen("databases") {
        databases(&compute, arguments.runs)?;
    }
    Ok(())
}

/// The compute against the bare server, with one client and with many.
fn floor(compute: &Compute, requests: usize) -> anyhow::Result<()> {
    let bare = bare::Bare::start(&clients::whole_answer(compute.external)?)?;
    let [ours, floor] = [compute.external, bare.port].map(clients::whole_answer);
    let (ours, floor) = (ours?.len(), floor?.len());
    ensure!(ours == floor, "the answers have {ours} and {floor} bytes");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for clients in CLIENTS {
        heading(&format!("/status, {clients} clients, {ROUNDS} rounds of {requests} requests"));
        let ask = |port| -> anyhow::Result<_> {
            let mut times = clients::ask(&runtime, port, clients, requests)?;
            times.sort_unstable();
            Ok(times)
        };
        let mut samples: [[Samples; 3]; 2] = Default::default();
        for round in 0..=ROUNDS {
            // Neither is always the first.
            let (floor, ours) = if round % 2 == 0 {
                let floor = ask(bare.port)?;
                (floor, ask(compute.external)?)
            } else {
                let ours = ask(compute.external)?;
                (ask(bare.port)?, ours)
            };
            // The first round warms the caches.
            if round == 0 {
                continue;
            }
            for (percent, samples) in [50, 99].into_iter().zip(&mut samples) {
                let [floor, ours] = [&floor, &ours].map(|it| milliseconds(percentile(it, percent)));
                for (samples, value) in samples.iter_mut().zip([floor, ours, ours / floor]) {
                    samples.push(value);
                }
            }
        }
        let aims = [("p50", AIM_P50), ("p99", AIM_P99)];
        for ((what, aim), [floor, ours, ratio]) in aims.into_iter().zip(&samples) {
            floor.print(&format!("{what}, bare server"), "ms");
            ours.print(&format!("{what}, compute_ctl"), "ms");
            ratio.print("ratio, round by round", "");
            verdict(&format!("{what}, ratio"), ratio.median(), aim, "");
        }
    }
    Ok(())
}

fn databases(compute: &Compute, requests: usize) -> anyhow::Result<()> {
    println!();
    let mut alone = Vec::with_capacity(requests);
    let mut connection = Connection::open(compute.external)?;
    for _ in 0..requests {
        alone.push(ask(&mut connection)?);
    }
    print("nothing else happens", &mut alone);

    let over = AtomicBool::new(false);
    let mut busy = std::thread::scope(|scope| -> anyhow::Result<_> {
        let configure = scope.spawn(|| {
            let began = Instant::now();
            let result = compute.make_databases(DATABASES);
            over.store(true, SeqCst);
            result.map(|()| began.elapsed())
        });
        let mut busy = Vec::new();
        while !over.load(SeqCst) || busy.len() < requests {
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
    let [p50, p99] = [50, 99].map(|percent| milliseconds(percentile(times, percent)));
    let max = milliseconds(times.last().copied().unwrap_or_default());
    let count = times.len();
    println!("  {what:<26} p50 {p50:.3} ms, p99 {p99:.3} ms, max {max:.1} ms, {count} requests");
}

/// A percentile of sorted times.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}
