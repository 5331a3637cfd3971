//! A bare spec by `-S`, the older form of the command line: no compute id, no keys.

use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, LSN_TEXT};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// `-D … -C … -S … -b …` and only the ports, which other tests need, too.
fn older_form(bed: &Bed, spec: &serde_json::Value) -> Vec<String> {
    let spec = bed.write("current.json", spec).display().to_string();
    let (pgdata, pgbin) = (bed.pgdata().display().to_string(), bed.pgbin.display().to_string());
    let (external, internal) = (bed.external_port.to_string(), bed.internal_port.to_string());
    let mut line = ["-D", &pgdata, "-C", &bed.connstr(), "-S", &spec, "-b", &pgbin]
        .map(str::to_owned)
        .to_vec();
    line.extend(
        ["--external-http-port", &external, "--internal-http-port", &internal].map(Into::into),
    );
    line
}

async fn wait_for_running(compute: &mut Compute) {
    compute.wait_for_log("compute start finished").await;
    assert_eq!(compute.status_metric().await.as_deref(), Some("running"));
}

#[tokio::test]
async fn the_older_command_line_starts_a_compute() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = Compute::spawn(&bed, &older_form(&bed, &bed.spec.spec()), &[]);
        wait_for_running(&mut compute).await;
        assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");
        let (tenant, timeline) = (&bed.spec.tenant_id, &bed.spec.timeline_id);
        let commands = bed.pageserver.journal().commands();
        assert_eq!(commands, [format!("basebackup {tenant} {timeline} {LSN_TEXT} --gzip")]);

        // No keys and not a development set-up: every request is refused, with the reason.
        let (code, answer) = compute.get("/status").await;
        assert_eq!(code, 400, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("--dev"), "{answer}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The docker-compose form: ids and addresses are only in `cluster.settings`, the pageserver in
/// keyword form.
#[tokio::test]
async fn ids_and_addresses_come_from_the_settings() {
    on_one_server(|server| async {
        let mut bed = Bed::with_safekeepers(server, 3).await;
        let safekeepers = bed.spec.safekeeper_connstrings.join(",");
        let pageserver = format!("host=127.0.0.1 port={}", bed.pageserver.port());
        let (tenant, timeline) = (bed.spec.tenant_id.clone(), bed.spec.timeline_id.clone());
        bed.spec
            .set("neon.tenant_id", &tenant)
            .set("neon.timeline_id", &timeline)
            .set("neon.safekeepers", &safekeepers)
            .set("neon.pageserver_connstring", &pageserver);
        let mut spec = bed.spec.spec();
        let members = spec.as_object_mut().unwrap();
        for member in
            ["tenant_id", "timeline_id", "safekeeper_connstrings", "pageserver_connstring", "mode"]
        {
            assert!(members.remove(member).is_some(), "{member}");
        }

        let mut line = older_form(&bed, &spec);
        line.push("--dev".to_owned());
        let mut compute = Compute::spawn(&bed, &line, &[]);
        compute.wait_for("running").await;
        let (_, status) = compute.get("/status").await;
        assert_eq!((&status["tenant"], &status["timeline"]), (&tenant.into(), &timeline.into()));
        for (name, value) in
            [("neon.safekeepers", &safekeepers), ("neon.pageserver_connstring", &pageserver)]
        {
            assert_eq!(&compute.sql_text(&format!("SHOW {name}")).await, value);
        }
        for safekeeper in &bed.safekeepers {
            eventually("all safekeepers were asked", || safekeeper.journal().connections() == 1)
                .await;
        }
        let startup = &bed.pageserver.journal().startups()[0];
        let parameter = |name: &str| {
            let found = startup.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(parameter("application_name"), Some("compute_ctl"));
        assert_eq!(parameter("options"), Some("-c neon.compute_mode=primary"));
        // The connection string has no port.
        assert_eq!(parameter("user"), Some(crate::support::bed::run_as_name().as_str()));

        // The same as a document for `--config`.
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        let config =
            serde_json::json!({"spec": spec, "compute_ctl_config": {"jwks": {"keys": []}}});
        let config = bed.write("config.json", &config).display().to_string();
        let mut compute = bed.start_with(&["--compute-id", "c1", "--config", &config]);
        compute.wait_for("running").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// `-b` can be a single link, as in /usr/local/bin.
#[tokio::test]
async fn the_server_program_can_be_a_link() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let link = bed.dir().join("postgres");
        std::os::unix::fs::symlink(&bed.server.postgres, &link).unwrap();
        bed.pgbin = link;
        let mut compute = Compute::spawn(&bed, &older_form(&bed, &bed.spec.spec()), &[]);
        wait_for_running(&mut compute).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
