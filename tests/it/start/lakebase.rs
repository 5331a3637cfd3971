//! Lakebase mode (04 §16, cases D1 to D3): port, extra files of PGDATA, environment, log files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::{Bed, names, put};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

fn start(bed: &Bed, mode: &str, env: &[(&str, &str)]) -> Compute {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    line.extend(["--lakebase-mode".to_owned(), mode.to_owned()]);
    Compute::spawn(bed, &line, env)
}

#[tokio::test]
async fn port_environment_and_log_files() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let logs = bed.dir().join("a/logs").display().to_string();
        put(&bed.dir().join("a/x"), "");
        let env = [("COMPUTE_CTL_LOG_DIRECTORY", logs.as_str()), ("INSTANCE_ID", "instance-1")];
        let mut compute = start(&bed, "false", &env);
        compute.wait_for("running").await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(names(&bed.dir().join("a")), ["x"], "only in this mode");

        // The port of --connstr is used, whatever the spec says.
        bed.spec.set("port", "1");
        let mut compute = start(&bed, "true", &env);
        compute.wait_for("running").await;
        assert_eq!(compute.sql_text("SHOW port").await, bed.port.to_string());
        let environment = fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        for wanted in ["DATABRICKS_ENDPOINT_ID=instance-1", "DATABRICKS_WORKSPACE_HOST="] {
            assert!(environment.split('\0').any(|variable| variable == wanted), "{wanted}");
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);

        let [name] = &*names(&bed.dir().join("a/logs")) else { panic!("one day, or midnight") };
        assert!(name.starts_with("pgcctl.20"), "{name}");
        let text = fs::read_to_string(bed.dir().join("a/logs").join(name)).unwrap();
        let events: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (first, last) = (&events[0], events.last().unwrap());
        assert_eq!((&first["pg_instance_id"], &first["pg_compute_id"]), (&json!(""), &json!("")));
        assert_eq!(last["pg_instance_id"], "instance-1");
        assert_eq!(last["pg_compute_id"], "c1");
        assert_eq!(last["backend_type"], "compute_ctl_self");
        assert!(!text.contains("PG:"), "the lines of Postgres are not copied");
        assert_nothing_left(&bed);
    })
    .await;
}

/// In every mode, and only if the server knows such lines.
#[tokio::test]
async fn files_of_databricks_settings() {
    on_one_server(|server| async move {
        let mut bed = Bed::new(server.clone()).await;
        let dir = bed.dir().join("db");
        for (name, text) in [
            ("my.crt", "certificate"),
            ("my.key", "key"),
            ("hba", "host all guest 192.0.2.1/32 reject\n"),
            ("ident", "m o p\n"),
        ] {
            put(&dir.join(name), text);
        }
        let path = |name: &str| dir.join(name).display().to_string();
        bed.spec.member(
            "databricks_settings",
            json!({
                "pg_compute_tls_settings": {
                    "cert_file": path("my.crt"), "key_file": path("my.key"), "ca_file": path("ca")
                },
                "databricks_pg_hba": path("hba"), "databricks_pg_ident": path("ident"),
                "databricks_workspace_host": "w.example"
            }),
        );
        let mut compute = bed.start();
        if server.major < 16 {
            let error = compute.wait_for_failure().await;
            assert!(error.contains("databricks_settings need PostgreSQL 16"), "{error}");
            compute.dismiss().await;
            return assert_nothing_left(&bed);
        }
        compute.wait_for("running").await;
        assert_eq!(bed.pgdata_text("my.crt"), "certificate");
        let key = fs::metadata(bed.pgdata().join("my.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        let include = format!("include_if_exists {}", path("hba"));
        assert!(
            bed.pgdata_text("pg_hba.conf")
                .ends_with(&format!("{include}\nhost\tall\t\tall\t\tall\t\tmd5")),
        );
        let rules = "SELECT count(*) FROM pg_hba_file_rules WHERE address = '192.0.2.1'";
        assert_eq!(compute.sql_text(rules).await, "1");
        let maps = "SELECT map_name FROM pg_ident_file_mappings";
        assert_eq!(compute.sql_text(maps).await, "m");
        assert!(!bed.pgdata_text("postgresql.conf").contains("databricks"), "no Lakebase mode");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
