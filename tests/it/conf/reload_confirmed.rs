//! A reconfiguration is over when Postgres has loaded the new file, and not before. If Postgres
//! does not load it, the old file stays in force, and the compute can recover (01 §13.2, 04 W7).

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::assertions::{assert_nothing_left, until};
use crate::support::bed::{Bed, names, put};
use crate::support::process::Compute;
use crate::support::server::{on_every_server, on_one_server};

async fn configure(bed: &Bed, compute: &Compute) -> (u16, Value) {
    let (code, body) = compute.configure(bed).await;
    (code.as_u16(), body)
}

async fn error(compute: &Compute) -> String {
    let (_, status) = compute.get("/status").await;
    assert_eq!(status["status"], "failed", "{status}");
    status["error"].as_str().unwrap().to_owned()
}

/// A reload that does not happen; the original reports it as success.
#[tokio::test]
async fn a_postmaster_that_does_not_react_is_a_failure() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.typed("work_mem", "5MB", "integer");
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let conf = bed.pgdata_text("postgresql.conf");
        let postmaster = Pid::from_raw(compute.postmaster());
        kill(postmaster, Signal::SIGSTOP).unwrap();
        bed.spec.typed("work_mem", "7MB", "integer");
        let (code, body) = configure(&bed, &compute).await;
        assert_eq!(code, 500, "{body}");
        let text = error(&compute).await;
        let not_read = format!("Postgres, process {postmaster}, has not read");
        for part in ["phase reload", &not_read, "the previous file is back in its place"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(bed.pgdata_text("postgresql.conf"), conf);

        // Postgres continues, and reads the old file.
        kill(postmaster, Signal::SIGCONT).unwrap();
        compute.wait_for_log("received SIGHUP").await;
        assert_eq!(compute.sql_text("SHOW work_mem").await, "5MB");
        let (code, body) = configure(&bed, &compute).await;
        assert_eq!((code, body), (412, json!({"error": "invalid compute status: failed"})));
        // Another spec leads back to `running`.
        bed.write("config.json", &bed.spec.config());
        compute.refresh().await;
        compute.wait_for("running").await;
        assert_eq!(compute.sql_text("SHOW work_mem").await, "7MB");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres would keep all old values, or some, and report that in its log only.
#[tokio::test]
async fn a_file_that_postgres_refuses_never_takes_the_place_of_the_old_one() {
    on_every_server(|server| async {
        let bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        let conf = bed.pgdata_text("postgresql.conf");
        for (name, value) in [("work_memory", "1MB"), ("work_mem", "lots"), ("wal_level", "most")] {
            let mut body = bed.configure_body();
            let settings = body["spec"]["cluster"]["settings"].as_array_mut().unwrap();
            settings.push(json!({"name": name, "value": value, "vartype": "string"}));
            let (code, body) = compute.post("/configure", Some(&body)).await;
            assert_eq!(code.as_u16(), 400, "{body}");
            let text = body["error"].as_str().unwrap();
            assert!(text.contains("phase check_configuration"), "{text}");
            // In Postgres' own words.
            assert!(
                text.contains(name) && text.contains("\"postgresql.conf\" contains errors"),
                "{text}"
            );
            assert_eq!(bed.pgdata_text("postgresql.conf"), conf);
            assert_eq!(compute.get("/status").await.1["status"], "running");
        }
        let left = names(&bed.pgdata());
        assert!(!left.iter().any(|name| name.contains(".tmp-")), "{left:?}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(compute.count_in_log("received SIGHUP"), 0, "none for a refused spec");
        assert_nothing_left(&bed);
    })
    .await;
}

/// Rules outside PGDATA: the reload is detected nevertheless.
#[tokio::test]
async fn the_rules_may_be_elsewhere() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let rules = bed.dir().join("elsewhere/hba.conf");
        put(&rules, "host all all 127.0.0.1/32 trust\n");
        bed.spec.set("hba_file", &rules.display().to_string());
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        bed.spec.typed("work_mem", "7MB", "integer");
        let (code, body) = configure(&bed, &compute).await;
        assert_eq!(code, 200, "{body}\n{}", compute.log());
        assert_eq!(compute.sql_text("SHOW work_mem").await, "7MB");
        // A reload does not change the file's place, whatever the spec says of it.
        for value in ["8MB", "9MB"] {
            let mut body = bed.configure_body();
            let settings = body["spec"]["cluster"]["settings"].as_array_mut().unwrap();
            settings.retain(|setting| setting["name"] != "hba_file");
            settings.push(json!({"name": "work_mem", "value": value, "vartype": "string"}));
            let (code, body) = compute.post("/configure", Some(&body)).await;
            assert_eq!(code, 200, "{body}\n{}", compute.log());
            assert_eq!(compute.sql_text("SHOW work_mem").await, value);
        }
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A signal ends a compute that waits for an unresponsive postmaster.
#[tokio::test]
async fn a_signal_cuts_the_wait_short() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start();
        bed.wait_running(&mut compute).await;
        kill(Pid::from_raw(compute.postmaster()), Signal::SIGSTOP).unwrap();
        bed.spec.typed("work_mem", "7MB", "integer");
        let interrupt = async {
            until("it is being configured", || async {
                compute.get("/status").await.1["status"] == "configuration"
            })
            .await;
            compute.signal(Signal::SIGTERM);
        };
        let ((code, body), ()) = tokio::join!(configure(&bed, &compute), interrupt);
        assert_eq!(code, 500, "{body}");
        assert!(body["error"].as_str().unwrap().contains("the compute is ending"), "{body}");
        assert_eq!(compute.wait_exit().await.code(), Some(1));
        assert_nothing_left(&bed);
    })
    .await;
}
