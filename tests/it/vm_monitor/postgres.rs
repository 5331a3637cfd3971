//! A Postgres that hangs, refuses, loses the session, or lacks the settings (08 §5.2, case 19, W8,
//! W11, W13).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::agent::{Agent, Gone};
use super::machine::{Machine, limit, shown};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// The server process of the monitor's session.
async fn backend(compute: &Compute) -> i32 {
    let pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'vm-monitor'";
    compute.sql_text(pid).await.parse().unwrap()
}

#[tokio::test]
async fn a_lost_session_is_made_again() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.grow(4096, 2).await;
        let old = backend(&compute).await;
        assert_eq!(
            compute.sql_text(&format!("SELECT pg_terminate_backend({old}, 30000)")).await,
            "t"
        );
        agent.grow(2148, 4).await;
        assert_eq!(limit(&compute).await, "1536");
        assert_ne!(backend(&compute).await, old);
        machine.end(compute).await;
    })
    .await;
}

#[tokio::test]
async fn one_that_hangs_holds_up_nothing_else() {
    on_one_server(|server| async {
        let machine = Machine::new(server).await;
        let compute = machine.start().await;
        let mut agent = machine.agent().await;
        agent.grow(2148, 2).await;
        let hung = Pid::from_raw(backend(&compute).await);
        kill(hung, Signal::SIGSTOP).unwrap();
        agent.notify(4096, 4).await;
        // A health check overtakes it, and samples are taken and requests sent.
        agent.is_served(6).await;
        machine.uses(3600);
        assert_eq!(agent.hear().await["type"], "UpscaleRequest");
        let answer = agent.answer(4).await;
        assert_eq!(answer["type"], "InternalError", "{answer}");
        let error = answer["error"].as_str().unwrap();
        let expected = "failed to handle upscale: Postgres did not finish within 5s: ";
        assert!(error.starts_with(expected), "{error}");
        // The memory is there, so the threshold has risen (W10).
        assert_eq!(shown(&compute).await["threshold_bytes"], 3_561_593_241_u64);
        assert!(shown(&compute).await["file_cache"]["error"].is_string());
        machine.uses(300);
        // The next one has another session.
        agent.grow(4096, 8).await;
        assert_eq!(limit(&compute).await, "2997");
        kill(hung, Signal::SIGCONT).unwrap();

        // A new agent does not wait for the work of the old one.
        let hung = Pid::from_raw(backend(&compute).await);
        kill(hung, Signal::SIGSTOP).unwrap();
        agent.notify(2148, 10).await;
        agent.is_served(12).await;
        let mut second = Agent::open(machine.port).await;
        assert_eq!(agent.gone().await, Gone::Dropped);
        kill(hung, Signal::SIGCONT).unwrap();
        second.say(&json!({"min": 1, "max": 1})).await;
        assert_eq!(second.hear().await, json!({"version": 1}));
        second.is_served(2).await;
        // The work of the old one was finished first.
        assert_eq!(limit(&compute).await, "1536");
        machine.end(compute).await;
    })
    .await;
}

/// The login may not change settings: the agent is told, in the set-up and later.
#[tokio::test]
async fn one_that_refuses() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        machine.user = "watcher";
        machine.in_file = true;
        let compute = machine.start().await;
        let mut agent = Agent::connect(machine.port).await;
        let answer = agent.answer(0).await;
        assert_eq!(answer["type"], "InternalError", "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("role \"watcher\" does not exist"));
        assert_eq!(agent.gone().await, Gone::Dropped);

        compute.sql().await.batch_execute("CREATE ROLE watcher SUPERUSER LOGIN").await.unwrap();
        let mut agent = Agent::connect(machine.port).await;
        agent.grow(2148, 2).await;
        // Later there are enough samples for a decision.
        agent.shrink_with_samples(2148, 20).await;
        compute.sql().await.batch_execute("ALTER ROLE watcher NOSUPERUSER").await.unwrap();
        for (mib, id, what) in
            [(4096, 4, "failed to handle upscale: "), (2048, 6, "failed to downscale: ")]
        {
            if what.contains("down") {
                agent.ask(mib, id).await;
            } else {
                agent.notify(mib, id).await;
            }
            let answer = agent.answer(id).await;
            let error = answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"));
            assert!(error.starts_with(what) && error.contains("denied"), "{error}");
        }
        agent.is_served(8).await;
        assert_eq!(limit(&compute).await, "1536");
        machine.end(compute).await;
    })
    .await;
}

/// A server without the settings of the extension: agents are told why, and the log says it once.
#[tokio::test]
async fn one_without_the_settings() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        machine.bed.spec.settings.shift_remove("neon.max_file_cache_size");
        machine.bed.spec.settings.shift_remove("neon.file_cache_size_limit");
        let compute = machine.start().await;
        for _ in 0..3 {
            let mut agent = Agent::connect(machine.port).await;
            let answer = agent.answer(0).await;
            let error = answer["error"].as_str().unwrap();
            assert!(error.contains("has no settings neon.max_file_cache_size"), "{error}");
            assert_eq!(agent.gone().await, Gone::Dropped);
        }
        compute.assert_logged("could not set up the VM monitor for its agent", 1).await;
        assert_eq!(machine.bed.pgdata_text("postgresql.auto.conf").matches("neon.").count(), 0);
        machine.end(compute).await;
    })
    .await;
}

/// Case 21.
#[tokio::test]
async fn one_that_is_left_alone() {
    on_one_server(|server| async {
        let mut machine = Machine::new(server).await;
        machine.bed.spec.member("disable_lfc_resizing", json!(true));
        let compute = machine.start().await;
        let before = machine.bed.pgdata_text("postgresql.auto.conf");
        let mut agent = machine.agent().await;
        agent.grow(3072, 2).await;
        let (ok, status) = agent.shrink_with_samples(2048, 4).await;
        let expected =
            "set cgroup memory threshold from 2526.2 MiB to 1655.8 MiB, of new total 1948 MiB";
        assert_eq!((ok, status.as_str()), (true, expected));
        assert_eq!(machine.bed.pgdata_text("postgresql.auto.conf"), before);
        assert_eq!(limit(&compute).await, "128MB");
        let sessions =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vm-monitor'";
        assert_eq!(compute.sql_text(sessions).await, "0");
        assert!(shown(&compute).await["file_cache"].is_null());
        machine.uses(1700);
        assert_eq!(agent.hear().await["type"], "UpscaleRequest");
        machine.end(compute).await;
    })
    .await;
}
