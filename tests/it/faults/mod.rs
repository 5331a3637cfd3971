//! The fault matrix: every step of a compute's work, held at its begin and at its end by a failpoint,
//! times every fault that can meet it there. [`plan`] has the cells and what each of them promises;
//! after each cell the compute has ended as documented, nothing of it is left, and the next start
//! works.
//!
//! Usually a part of the cells runs, in which every point meets several faults and every fault meets
//! every kind of work. `COMPUTE_CTL_FAULT_CELLS=all` runs all of them, any other value those whose
//! name contains it; `COMPUTE_CTL_FAULT_JOBS` says how many run at once.

#[allow(dead_code, reason = "the page uses the rest")]
mod beside;
mod children;
mod clock;
mod disk;
mod memory;
mod network;
#[allow(dead_code, reason = "the page uses the rest")]
mod plan;
mod run;
mod stage;

use std::sync::Arc;
use std::time::Instant;

use beside::{Child, ChildFault, Peer, PeerFault};
use disk::SmallDisk;
use memory::MemoryGroup;
use plan::{Cell, Fault, cells};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::server::on_one_server;

/// One of so many cells runs without being asked for. A prime that does not divide the number of
/// faults, so that the choice moves through the columns.
const EVERY: usize = 7;
const JOBS: usize = 4;

fn chosen() -> Vec<Cell> {
    let all = cells();
    match std::env::var("COMPUTE_CTL_FAULT_CELLS").ok().as_deref() {
        Some("all") => all,
        Some(part) => all.into_iter().filter(|cell| cell.to_string().contains(part)).collect(),
        None => all.into_iter().step_by(EVERY).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_at_every_step() {
    on_one_server(|server| async move {
        let jobs = std::env::var("COMPUTE_CTL_FAULT_JOBS").ok();
        let jobs = jobs.map_or(JOBS, |jobs| jobs.parse().expect("a number of jobs"));
        let turns = Arc::new(Semaphore::new(jobs));
        let mut chosen = chosen();
        if !SmallDisk::can_be_had() {
            println!("left out: the cells with a full disk, because this user may not mount");
            chosen.retain(|cell| cell.fault != Fault::DiskFull);
        }
        if MemoryGroup::new().is_none() {
            println!("left out: the cells without memory, because this user may not make a cgroup");
            chosen.retain(|cell| cell.fault != Fault::OutOfMemory);
        }
        let (count, began) = (chosen.len(), Instant::now());
        let mut running = JoinSet::new();
        for cell in chosen {
            let (server, turns) = (server.clone(), Arc::clone(&turns));
            running.spawn(async move {
                let _turn = turns.acquire_owned().await.unwrap();
                let began = Instant::now();
                let outcome = tokio::spawn(run::run(server, cell)).await;
                (cell, outcome, began.elapsed())
            });
        }
        let mut failed = Vec::new();
        while let Some(ended) = running.join_next().await {
            let (cell, outcome, took) = ended.unwrap();
            println!("{cell}: {} in {took:.1?}", if outcome.is_ok() { "ok" } else { "FAILED" });
            if outcome.is_err() {
                failed.push(cell.to_string());
            }
        }
        println!("{count} cells in {:.0?}", began.elapsed());
        assert!(
            failed.is_empty(),
            "{} of {count} cells failed:\n{}",
            failed.len(),
            failed.join("\n")
        );
    })
    .await;
}

/// Every peer times every fault of its line, once until the line is repaired and once until a signal, in
/// a start and in a change of the configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_to_peers() {
    on_one_server(|server| async move {
        let mut running = JoinSet::new();
        for peer in Peer::ALL {
            for fault in PeerFault::ALL {
                println!("{} {}", peer.name(), fault.name());
                running.spawn(network::start(server.clone(), peer, fault));
                running.spawn(network::change(server.clone(), peer, fault));
            }
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    })
    .await;
}

/// Every child other than the postmaster times every fault that meets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_children() {
    on_one_server(|server| async move {
        let mut running = JoinSet::new();
        for child in Child::ALL {
            for fault in ChildFault::ALL {
                println!("{} {}", child.name(), fault.name());
                running.spawn(children::run(server.clone(), child, fault));
            }
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    })
    .await;
}
