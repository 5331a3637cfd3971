//! With `skip_pg_catalog_updates` a reconfiguration opens no SQL session at all (01 §13.2), as the
//! server's own log of connections shows.

use compute_ctl::services::installed_extensions::INSTALLED_EXTENSIONS;
use compute_ctl::services::monitor::COMPUTE_MONITOR;
use compute_ctl::sql::{APPLY_CONFIG, POST_APPLY_CONFIG};
use nix::sys::signal::Signal;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Sessions that watch a compute independently of the reconfiguration, at any time.
const WATCHERS: [&str; 3] = [COMPUTE_MONITOR, INSTALLED_EXTENSIONS, POST_APPLY_CONFIG];

/// The server's log lines about all other sessions.
fn sessions(compute: &Compute) -> Vec<String> {
    let is_session = |line: &&str| line.contains("connection authorized:");
    let is_watcher = |line: &str| WATCHERS.iter().any(|name| line.contains(name));
    let log = compute.log();
    let lines = log.lines().filter(is_session).filter(|line| !is_watcher(line));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn with_skip_there_is_none() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("log_connections", "on").role("ann", None);
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        for work_mem in ["5MB", "6MB", "7MB"] {
            bed.spec.typed("work_mem", work_mem, "integer");
            let (code, body) = compute.configure(&bed).await;
            assert_eq!(code.as_u16(), 200, "{body}");
        }
        bed.spec.typed("work_mem", "8MB", "integer");
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        compute.wait_for("running").await;

        // The log would have shown a session of this kind.
        bed.spec.skip_pg_catalog_updates = false;
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(code.as_u16(), 200, "{body}");
        compute.wait_for_log(&format!("application_name={APPLY_CONFIG}")).await;
        let (sessions, log) = (sessions(&compute), compute.log());
        assert!(sessions[0].contains(APPLY_CONFIG), "{sessions:?}");
        let last_skip = log.rfind("compute status from refresh-configuration to running").unwrap();
        assert!(log.find(&sessions[0]).unwrap() > last_skip, "{log}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
