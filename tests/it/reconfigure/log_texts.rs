//! Texts that dashboards and tests of others look for in the log: those of the original, to the
//! letter.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// Of a start and a `/configure`.
const TEXTS: [&str; 10] = [
    "Changing compute status from init to running",
    "starting compute for project dev, operation first, tenant ",
    "compute start finished",
    "Changing compute status from running to configuration-pending",
    "got configuration request",
    "Changing compute status from configuration-pending to configuration",
    "applying the config",
    "Applying config with max ",
    "finished reconfiguration of compute node for operation second",
    "Changing compute status from configuration to running",
];

#[tokio::test]
async fn of_a_start_and_a_configuration() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.skip_pg_catalog_updates = false;
        let mut config = bed.spec.config();
        config["spec"]["operation_uuid"] = json!("first");
        let file = bed.write("first.json", &config).display().to_string();
        let mut args = bed.base_args();
        args.extend(["--compute-id", "c1", "--config", &file].map(str::to_owned));
        let mut compute = Compute::spawn(&bed, &args, &[]);
        bed.wait_running(&mut compute).await;
        config["spec"]["operation_uuid"] = json!("second");
        let (code, body) = compute.post("/configure", Some(&config)).await;
        assert_eq!(code.as_u16(), 200, "{body}");
        for text in TEXTS {
            compute.wait_for_log(text).await;
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn of_a_failed_start() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.set("work_memory", "1MB");
        let mut compute = bed.start();
        compute.wait_for_log("could not start the compute node: ").await;
        compute.wait_for_log("Changing compute status from init to failed").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
