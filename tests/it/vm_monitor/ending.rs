//! The end of the compute (08 §1, case 22): the agent sees TCP end, whatever it waits for.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent::Gone;
use super::machine::Machine;
use crate::support::assertions::{assert_nothing_left, last_position};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Leaves a message in work: Postgres does not answer the session.
async fn stop_backend(compute: &Compute) -> Pid {
    let pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'vm-monitor'";
    let pid = Pid::from_raw(compute.sql_text(pid).await.parse().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    pid
}

#[tokio::test]
async fn terminate_ends_it_after_postgres_and_before_the_sync() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let mut compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.grow(4096, 2).await;
        let (gone, answer) =
            tokio::join!(agent.gone(), compute.post("/terminate?mode=immediate", None));
        assert_eq!(gone, Gone::Dropped);
        assert_eq!(answer.0, 200, "{answer:?}");
        assert_eq!(compute.wait_exit().await.code(), Some(0));
        let log = compute.log();
        let ended = last_position(&log, "the VM monitor has ended");
        assert!(ended > last_position(&log, "database system is shut down"), "{log}");
        assert_eq!(machine.bed.wrapper.calls().unwrap().len(), 1, "the sync at the end");
        assert_nothing_left(&machine.bed);
    })
    .await;
}

#[tokio::test]
async fn a_message_in_work_delays_no_end() {
    on_one_server(|server| async move {
        for by_signal in [true, false] {
            let machine = Machine::new(server.clone()).await;
            let mut compute = machine.start().await;
            let mut agent = machine.agent().await;
            agent.grow(4096, 2).await;
            let hung = stop_backend(&compute).await;
            agent.notify(2048, 4).await;
            agent.is_served(6).await;
            if by_signal {
                compute.signal(Signal::SIGTERM);
                kill(hung, Signal::SIGCONT).unwrap();
                assert_eq!(agent.gone().await, Gone::Dropped);
                assert_eq!(compute.wait_exit().await.code(), Some(1));
            } else {
                let end = async {
                    let answer = compute.post("/terminate?mode=immediate", None);
                    kill(hung, Signal::SIGCONT).unwrap();
                    answer.await
                };
                let (gone, answer) = tokio::join!(agent.gone(), end);
                assert_eq!((gone, answer.0.as_u16()), (Gone::Dropped, 200), "{answer:?}");
                assert_eq!(compute.wait_exit().await.code(), Some(0));
            }
            assert_nothing_left(&machine.bed);
        }
    })
    .await;
}

#[tokio::test]
async fn the_death_of_postgres_ends_it() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let mut compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.is_served(2).await;
        kill(Pid::from_raw(compute.postmaster()), Signal::SIGKILL).unwrap();
        assert_eq!(agent.gone().await, Gone::Dropped);
        assert!(compute.wait_exit().await.code().is_some());
        assert_nothing_left(&machine.bed);
    })
    .await;
}
