//! An empty compute: warm-up before the ports open, then its spec by `/configure`.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use chrono::{DateTime, FixedOffset};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, names, put_program};
use crate::support::process::try_start;
use crate::support::server::on_one_server;

/// An `initdb` that waits until it is released, or until the bed is removed.
struct Gate {
    reached: PathBuf,
    open: PathBuf,
}

impl Gate {
    fn put_before_initdb(bed: &Bed) -> Self {
        let (reached, open) = (bed.dir().join("reached"), bed.dir().join("open"));
        let initdb = bed.pgbin.with_file_name("initdb");
        let real = std::fs::read_link(&initdb).unwrap();
        let script = format!(
            "echo \"$@\" > {reached}\nuntil [ -e {} ]; do [ -e {reached} ] || exit 1; sleep 0.01; done\n\
             exec {} \"$@\"",
            open.display(),
            real.display(),
            reached = reached.display(),
        );
        put_program(&initdb, &script);
        Self { reached, open }
    }

    async fn wait(&self) {
        eventually("the warm-up runs initdb", || self.reached.exists()).await;
    }

    /// What `initdb` was called with.
    fn arguments(&self) -> String {
        std::fs::read_to_string(&self.reached).unwrap().trim().to_owned()
    }

    fn open(&self) {
        std::fs::write(&self.open, "").unwrap();
    }
}

fn start_time(status: &Value) -> DateTime<FixedOffset> {
    DateTime::parse_from_rfc3339(status["start_time"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn warm_up_then_ports_then_a_spec() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let gate = Gate::put_before_initdb(&bed);
        let mut compute = bed.start_empty();
        gate.wait().await;
        for port in [bed.external_port, bed.internal_port] {
            assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "open during the warm-up");
            assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "not reserved");
        }
        gate.open();
        let seen = compute.wait_for("empty").await;
        assert_eq!(seen, ["empty"]);
        let directory = bed.pgdata().display().to_string();
        assert_eq!(gate.arguments(), format!("--pgdata {directory}.warmup --no-sync"));
        compute.wait_for_log("warm-up took").await;
        let warm = |name: &String| name.contains("warmup");
        assert!(!names(bed.dir()).iter().any(warm), "{:?}", names(bed.dir()));
        let (_, before) = compute.get("/status").await;
        assert_eq!((&before["tenant"], &before["timeline"]), (&Value::Null, &Value::Null));
        assert_eq!(compute.status_metric().await.as_deref(), Some("empty"));
        // The internal server answers, too: the compute has nothing to refresh yet.
        let refresh = format!("{}/refresh_configuration", compute.internal);
        let refused = compute.http.post(refresh).send().await.unwrap();
        assert_eq!(refused.status(), 500);
        assert!(refused.text().await.unwrap().contains("in state Empty"));

        let (code, after) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{after}\n{}", compute.log());
        assert_eq!(after["status"], "running");
        assert_eq!(after["tenant"], bed.spec.tenant_id);
        assert_eq!(after["timeline"], bed.spec.timeline_id);
        // The answer comes when SQL works.
        assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");
        assert!(start_time(&after) > start_time(&before), "{before} {after}");
        let (_, metrics) = compute.get("/metrics.json").await;
        let ms = |name: &str| metrics[name].as_u64().unwrap();
        assert!(ms("wait_for_spec_ms") > 0, "{metrics}");
        assert!(ms("total_startup_ms") > 0, "{metrics}");

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_signal_during_the_warm_up_ends_it() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let gate = Gate::put_before_initdb(&bed);
        let mut compute = bed.start_empty();
        gate.wait().await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
        assert!(!names(bed.dir()).iter().any(|name| name.contains("warmup")));
    })
    .await;
}

/// The warm-up is optional: the compute continues without it.
#[tokio::test]
async fn a_failed_warm_up_is_not_a_failure() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let initdb = bed.pgbin.with_file_name("initdb");
        put_program(&initdb, "echo cannot today >&2; exit 1");
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        compute.wait_for_log("cannot today").await;
        let (code, answer) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{answer}");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// The ports of an empty compute are taken from the beginning, not only when it answers.
#[tokio::test]
async fn a_compute_that_warms_up_holds_its_ports() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let gate = Gate::put_before_initdb(&bed);
        let mut first = bed.start_empty();
        gate.wait().await;
        let (external, internal) = (bed.external_port, bed.internal_port);
        bed.place_pgdata("other");
        for (taken, flag) in
            [(external, "--external-http-port"), (internal, "--internal-http-port")]
        {
            bed.take_other_http_ports();
            match flag {
                "--external-http-port" => bed.external_port = taken,
                _ => bed.internal_port = taken,
            }
            let mut line = bed.base_args();
            line.extend(bed.config_args());
            let refusal = try_start(&bed, &line, &[]).await;
            let error = refusal.error();
            assert!(error.contains(flag) && error.contains(&taken.to_string()), "{error}");
        }
        assert!(first.is_alive());
        assert_eq!(first.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
