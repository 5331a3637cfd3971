//! The whole path of an audit record: a statement, pgaudit, pgauditlogtofile, rsyslogd with the
//! file that the compute wrote, restarted by the compute, and a collector (04 §3.3, §10.1).

use std::path::Path;

use nix::sys::signal::Signal;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{
    Bed, Pair, hand_over, may_mount, names, private_mount, put, run_as_name,
};
use crate::support::process::Compute;
use crate::support::server::on_servers_with;
use crate::support::sidecar::{Collector, Daemon, ONE_RSYSLOGD, Respawned, debian_program};

/// A certificate of `localhost`, and the authority that vouches for it.
fn authority() -> (String, Pair) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &authority).unwrap().pem();
    (authority.pem(), Pair { key: key.serialize_pem(), cert })
}

/// Mounts the places that the compute and rsyslogd share from the bed's folder.
fn mounts(bed: &Bed) -> String {
    format!(
        "d='{}'; mount --bind \"$d/rsyslog.d\" /etc/rsyslog.d; \
         mount --bind \"$d/varlog\" /var/log; \
         mount --bind \"$d/ca.pem\" /etc/ssl/certs/ca-certificates.crt",
        bed.dir().display()
    )
}

fn prepare(bed: &Bed, authority: &str) {
    for folder in ["rsyslog.d", "varlog", "varlog/rsyslog"] {
        std::fs::create_dir(bed.dir().join(folder)).unwrap();
        hand_over(&bed.dir().join(folder));
    }
    put(&bed.dir().join("ca.pem"), authority);
    let main = format!(
        "include(file=\"/etc/rsyslog.d/*.conf\" mode=\"optional\")\n\
         *.* action(type=\"omfile\" file=\"{}/rest.log\")\n",
        bed.dir().display()
    );
    put(&bed.dir().join("rsyslog.conf"), &main);
}

/// rsyslogd as the image's init runs it, as the user that the compute runs as.
fn init(bed: &Bed) -> Respawned {
    let (dir, mounts) = (bed.dir().to_owned(), mounts(bed));
    let program = debian_program("rsyslogd", "rsyslog");
    Respawned::start(move || {
        let mut command = private_mount(&mounts);
        let user = run_as_name();
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--init-groups"]);
        command.arg(&program).arg("-n").arg("-i").arg(dir.join("rsyslogd.pid"));
        command.arg("-f").arg(dir.join("rsyslog.conf"));
        Daemon::start_as_it_is(&dir, command)
    })
}

fn start(bed: &Bed, env: (&str, String)) -> Compute {
    let mut program: Command = private_mount(&mounts(bed));
    program.env(env.0, env.1);
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    Compute::spawn_through(bed, program, &line)
}

#[tokio::test]
async fn from_a_statement_to_the_collector() {
    if !Path::new("/etc/rsyslog.d").is_dir() {
        debian_program("rsyslogd", "rsyslog");
    }
    on_servers_with(&["pgaudit", "pgauditlogtofile"], |server| async move {
        for tls in [false, true] {
            let (authority, pair) = authority();
            let mut bed = Bed::new(server.clone()).await;
            prepare(&bed, &authority);
            if !may_mount(&mounts(&bed)).await {
                return;
            }
            let _alone = ONE_RSYSLOGD.lock().await;
            let collector =
                if tls { Collector::start_tls(&pair) } else { Collector::start().await };
            let daemon = init(&bed);
            let pid_file = bed.dir().join("rsyslogd.pid");
            eventually("rsyslogd runs", || pid_file.exists()).await;

            bed.spec.member("audit_log_level", json!("Full"));
            bed.spec.member("endpoint_id", json!("ep-1"));
            bed.spec.member("project_id", json!("pr-1"));
            // Without Neon's own libraries.
            bed.spec.set("shared_preload_libraries", "").set("log_timezone", "GMT");
            let variable =
                if tls { "AUDIT_LOGGING_TLS_ENDPOINT" } else { "AUDIT_LOGGING_ENDPOINT" };
            let mut compute = start(&bed, (variable, format!("localhost:{}", collector.port)));
            compute.wait_for("running").await;
            assert_eq!(daemon.starts(), 2, "restarted once, before Postgres");
            assert_eq!(
                compute.sql_text("SHOW shared_preload_libraries").await,
                "pgaudit,pgauditlogtofile"
            );

            let statement = || async {
                compute.sql_text("SELECT 'two\nlines', 40 + 2").await;
            };
            let record = collector.hear("40 + 2", statement).await;
            let (frame, body) = record.split_once(" - - - - ").unwrap();
            assert!(frame.starts_with("<174>1 20"), "{frame}");
            let body: Value = serde_json::from_str(body).unwrap();
            assert_eq!(
                (&body["endpoint_id"], &body["project_id"]),
                (&json!("ep-1"), &json!("pr-1"))
            );
            let message = body["msg"].as_str().unwrap();
            assert!(message.contains(" GMT,cloud_admin,postgres,"), "{message}");
            assert!(message.contains(",SESSION,1,1,READ,SELECT,"), "{message}");
            assert!(message.contains("lines', 40 + 2"), "the second line belongs to it: {message}");

            // The daemon records what it has read; the removal of old files uses that.
            let work = bed.dir().join("varlog/rsyslog");
            eventually("a read position", || {
                names(&work).iter().any(|name| name.starts_with("imfile-state:"))
            })
            .await;
            let (_, metrics) = compute.get("/metrics").await;
            assert!(metrics.as_str().unwrap().contains("compute_audit_log_dir_size"), "{metrics}");

            drop(daemon);
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
            assert_nothing_left(&bed);
        }
    })
    .await;
}
