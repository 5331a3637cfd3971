//! A real rsyslogd forwards Postgres' log (04 §10).
//!
//! pgaudit and pgauditlogtofile are not real here; see `audit_trail` for them. The server's own log
//! collector writes files of the same name and form in their place.

use std::path::{Path, PathBuf};

use compute_ctl::sidecars::rsyslog::{Rsyslog, RsyslogPaths};
use compute_ctl::sidecars::rsyslog_conf::{AuditEndpoints, AuditInputs, audit, export};
use compute_ctl::sidecars::sidecars::SidecarLimits;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, hand_over, may_mount, names, private_mount, put};
use crate::support::process::Compute;
use crate::support::server::on_one_server;
use crate::support::sidecar::{Collector, Daemon, ONE_RSYSLOGD, Respawned, debian_program};

/// An id with characters that mean something in each language on the way.
const ODD_ID: &str = r#"e"p\1 $HOME %msg% '};stop"#;

/// A short form of the image's main file: its own socket, the includes, the rest to a file.
fn main_file(dir: &Path) -> PathBuf {
    let path = dir.join("rsyslog.conf");
    let text = format!(
        "module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{dir}/log.sock\")\n\
         include(file=\"{dir}/rsyslog.d/*.conf\" mode=\"optional\")\n\
         *.* action(type=\"omfile\" file=\"{dir}/rest.log\")\n",
        dir = dir.display()
    );
    put(&path, &text);
    for folder in ["rsyslog.d", "work"] {
        std::fs::create_dir(dir.join(folder)).unwrap();
        hand_over(&dir.join(folder));
    }
    path
}

/// rsyslogd under the given name, as init runs it.
fn init(dir: &Path, name: &str) -> Respawned {
    let conf = main_file(dir);
    let link = dir.join(name);
    std::os::unix::fs::symlink(debian_program("rsyslogd", "rsyslog"), &link).unwrap();
    let pid_file = dir.join("rsyslogd.pid");
    let dir = dir.to_owned();
    Respawned::start(move || {
        let mut command = Command::new(&link);
        command.arg("-n").arg("-i").arg(&pid_file).arg("-f").arg(&conf);
        Daemon::start(&dir, command)
    })
}

/// Sends one message to the socket, as `program`.
async fn log_as(dir: &Path, program: &str, text: &str) {
    let mut command = Command::new("logger");
    command.arg("-u").arg(dir.join("log.sock")).args(["-t", program, text]);
    // Fails while the daemon starts.
    let _ = command.output().await;
}

/// Statements are logged into `PGDATA/log/audit-<day>.log`, in the form of `pgauditlogtofile`.
fn write_audit_files(bed: &mut Bed) {
    bed.spec
        .typed("logging_collector", "on", "bool")
        .set("log_directory", "log")
        .set("log_filename", "audit-%Y%m%d.log")
        .set("log_line_prefix", "%m,")
        .set("log_timezone", "GMT")
        .typed("log_statement", "all", "enum");
}

#[tokio::test]
async fn audit_lines_and_log_lines_arrive() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let dir = bed.dir().to_owned();
        let (records, logs) = (Collector::start().await, Collector::start().await);
        let name = "rsyslogd-it";
        let daemon = init(&dir, name);
        eventually("rsyslogd serves", || dir.join("log.sock").exists()).await;

        let paths = RsyslogPaths {
            audit: dir.join("rsyslog.d/compute_audit_rsyslog.conf"),
            export: dir.join("rsyslog.d/postgres_logs.conf"),
            work_folder: dir.join("work"),
            program: name.to_owned(),
        };
        let endpoints =
            AuditEndpoints { plain: format!("127.0.0.1:{}", records.port), tls: String::new() };
        let inputs = AuditInputs {
            log_folder: &bed.pgdata().join("log"),
            work_folder: &paths.work_folder,
            endpoint_id: ODD_ID,
            project_id: "p-1",
        };
        let audit = audit(&endpoints.collector().unwrap(), &inputs);
        let export = export(Some(&format!("127.0.0.1:{}", logs.port))).unwrap();
        for file in [&paths.audit, &paths.export] {
            // In the image the files belong to the user of the compute; here the test may be root.
            put(file, "");
        }
        let user = nix::unistd::geteuid();
        if user.is_root() {
            // The daemon then runs as another user, so this process, like a compute that has
            // stepped down, cannot restart it. So it writes, and init starts the daemon again.
            std::fs::write(&paths.audit, &audit).unwrap();
            std::fs::write(&paths.export, &export).unwrap();
            end_daemons(name);
        } else {
            let rsyslog = Rsyslog::new(paths, SidecarLimits::default().rsyslog_restart);
            rsyslog.apply(Some(&audit), &export).await.unwrap();
        }
        eventually("rsyslogd was started again", || daemon.starts() == 2).await;

        // PGDATA is made after the daemon has started, as in a start.
        write_audit_files(&mut bed);
        let mut compute = bed.start();
        compute.wait_for("running").await;
        let statement = || async {
            compute.sql_text("SELECT 'two\nlines', 41 + 1").await;
        };
        let record = records.hear("41 + 1", statement).await;
        let (frame, body) = record.split_once(" - - - - ").unwrap();
        assert!(frame.starts_with("<174>1 20"), "{frame}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["endpoint_id"], ODD_ID);
        assert_eq!(body["project_id"], "p-1");
        let message = body["msg"].as_str().unwrap();
        assert!(message.contains(" GMT,LOG:  statement: SELECT 'two"), "{message}");
        assert!(message.contains("lines', 41 + 1"), "the second line belongs to it: {message}");

        let line = logs.hear("of postgres", || log_as(&dir, "postgres", "of postgres")).await;
        assert!(line.contains(" postgres ") && line.starts_with("<13>1 20"), "{line}");
        log_as(&dir, "another", "of another").await;
        logs.hear("the end", || log_as(&dir, "postgres", "the end")).await;
        assert!(!logs.lines().iter().any(|line| line.contains("of another")), "{:?}", logs.lines());
        assert_eq!(daemon.starts(), 2);

        drop(daemon);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Sends SIGTERM to all daemons of that name, of any user.
fn end_daemons(name: &str) {
    for pid in daemons(name) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }
}

/// The daemons of that name, of any user.
fn daemons(name: &str) -> Vec<i32> {
    let all = compute_ctl::os::procs::all().unwrap().into_iter().map(|process| process.pid);
    all.filter(|pid| compute_ctl::os::procs::name(*pid).as_deref() == Some(name)).collect()
}

/// An rsyslogd of root, which the compute may not restart: the start and the reconfiguration go on,
/// and the log says whose it is (04 §10.2).
#[tokio::test]
async fn a_daemon_of_another_user_fails_nothing() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let folder = bed.dir().join("rsyslog.d");
        std::fs::create_dir(&folder).unwrap();
        hand_over(&folder);
        let _alone = ONE_RSYSLOGD.lock().await;
        if !may_mount(&own_etc_and_dev(&bed)).await {
            return;
        }
        let program = bed.dir().join("rsyslogd");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut command = Command::new(program);
        command.arg("86400");
        // The test is root, since it may mount.
        let daemon = Daemon::start_as_it_is(bed.dir(), command);
        eventually("it runs under its name", || daemons("rsyslogd").len() == 1).await;
        let pid = daemons("rsyslogd")[0];

        let host = |port: u16| json!(format!("127.0.0.1:{port}"));
        bed.spec.member("logs_export_host", host(1));
        let mut compute = start_with_own_etc(&bed);
        compute.wait_for("running").await;
        let whose =
            format!("rsyslogd, process {pid}, belongs to root (uid 0), and compute_ctl runs as");
        compute.assert_logged(&whose, 1).await;
        compute.assert_logged("it does not read /etc/rsyslog.d/postgres_logs.conf until", 1).await;
        bed.spec.member("logs_export_host", host(2));
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(code, 200, "{body}\n{}", compute.log());
        compute.assert_logged(&whose, 2).await;
        let export = std::fs::read_to_string(folder.join("postgres_logs.conf")).unwrap();
        assert!(export.contains("port=\"2\""), "it reads this file at its next start: {export}");
        assert_eq!(daemons("rsyslogd"), [pid]);

        daemon.stop().await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Mounts a folder of the bed over `/etc/rsyslog.d`, and its socket over `/dev/log`.
fn own_etc_and_dev(bed: &Bed) -> String {
    format!(
        "d='{}'; mount --bind \"$d/rsyslog.d\" /etc/rsyslog.d; \
         mkdir -p \"$d/dev\"; mount -t tmpfs tmpfs \"$d/dev\"; \
         for n in null zero full random urandom; do \
           : > \"$d/dev/$n\"; mount --bind /dev/$n \"$d/dev/$n\"; done; \
         mkdir \"$d/dev/shm\"; mount --bind /dev/shm \"$d/dev/shm\"; \
         ln -s \"$d/log.sock\" \"$d/dev/log\"; mount --rbind \"$d/dev\" /dev",
        bed.dir().display()
    )
}

fn start_with_own_etc(bed: &Bed) -> Compute {
    let mut line = bed.base_args();
    line.extend(bed.config_args());
    Compute::spawn_through(bed, private_mount(&own_etc_and_dev(bed)), &line)
}

/// From `/configure` to the collector: Postgres logs by syslog(3), and the compute itself restarts
/// rsyslogd.
#[tokio::test]
async fn the_whole_way_of_a_log_export() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let dir = bed.dir().to_owned();
        if !Path::new("/etc/rsyslog.d").is_dir() {
            debian_program("rsyslogd", "rsyslog");
        }
        std::fs::create_dir(dir.join("rsyslog.d")).unwrap();
        let _alone = ONE_RSYSLOGD.lock().await;
        let may_mount = may_mount(&own_etc_and_dev(&bed)).await;
        std::fs::remove_dir(dir.join("rsyslog.d")).unwrap();
        if !may_mount {
            return;
        }
        let daemon = init(&dir, "rsyslogd");
        eventually("rsyslogd serves", || dir.join("log.sock").exists()).await;
        let conf = dir.join("rsyslog.d/postgres_logs.conf");
        let logs = Collector::start().await;

        let mut compute = start_with_own_etc(&bed);
        compute.wait_for("running").await;
        assert!(names(&dir.join("rsyslog.d")).is_empty(), "no host, nothing touched");
        assert_eq!(daemon.starts(), 1);

        bed.spec.member("logs_export_host", json!(format!("127.0.0.1:{}", logs.port)));
        for _ in 0..2 {
            let (status, body) = compute.configure(&bed).await;
            assert_eq!(status, 200, "{body}\n{}", compute.log());
            assert_eq!(daemon.starts(), 2, "one restart, and none for the same host");
        }
        let raise = || async {
            compute.sql_text("DO $$BEGIN RAISE LOG 'hello collector'; END$$; SELECT 1").await;
        };
        let line = logs.hear("hello collector", raise).await;
        assert!(line.contains(" postgres "), "{line}");

        let in_force = std::fs::read_to_string(&conf).unwrap();
        bed.spec.member("logs_export_host", json!("no-port"));
        let (status, body) = compute.configure(&bed).await;
        assert_eq!(status, 400, "{body}");
        assert!(
            body.to_string().contains("Invalid host format for Postgres logs export"),
            "{body}"
        );
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), in_force);

        bed.spec.member("logs_export_host", json!(null));
        let (status, body) = compute.configure(&bed).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), "");
        assert_eq!(daemon.starts(), 2);
        assert!(!bed.pgdata_text("postgresql.conf").contains("syslog"));

        drop(daemon);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Without an init that starts rsyslogd again the reconfiguration fails before it changes Postgres.
#[tokio::test]
async fn a_log_export_that_cannot_be_set_up_fails_the_configure() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let folder = bed.dir().join("rsyslog.d");
        std::fs::create_dir(&folder).unwrap();
        hand_over(&folder);
        let _alone = ONE_RSYSLOGD.lock().await;
        if !may_mount(&own_etc_and_dev(&bed)).await {
            return;
        }
        if !daemons("rsyslogd").is_empty() {
            return println!("skipped: an rsyslogd runs on this machine");
        }
        let mut compute = start_with_own_etc(&bed);
        compute.wait_for("running").await;
        let in_force = "# of before\n";
        put(&folder.join("postgres_logs.conf"), in_force);
        let (conf, work_mem) = (bed.pgdata_text("postgresql.conf"), "SHOW work_mem");
        let before = compute.sql_text(work_mem).await;

        bed.spec.member("logs_export_host", json!("127.0.0.1:1"));
        bed.spec.typed("work_mem", "7MB", "integer");
        let (code, body) = compute.configure(&bed).await;
        assert_eq!(code, 500, "{body}");
        let (_, status) = compute.get("/status").await;
        assert_eq!(status["status"], "failed");
        assert_eq!(status["extra"]["last_failure"]["phase"], "log_export", "{status}");
        let error = status["error"].as_str().unwrap();
        for part in [
            "phase log_export; the configuration before it is in force",
            "failed to set up the log export (logs_export_host)",
            "rsyslogd did not come back",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(bed.pgdata_text("postgresql.conf"), conf);
        assert_eq!(compute.count_in_log("received SIGHUP"), 0, "{}", compute.log());
        assert_eq!(compute.sql_text(work_mem).await, before);
        let export = std::fs::read_to_string(folder.join("postgres_logs.conf")).unwrap();
        assert_eq!(export, in_force);

        // The spec of the start, which has no log export, leads back.
        compute.refresh().await;
        compute.wait_for_any(&["running"]).await;
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Case R3 of 04 §15.
#[tokio::test]
async fn audit_without_a_collector_is_refused_before_anything_is_touched() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        bed.spec.member("audit_log_level", json!("Full"));
        let none = [("AUDIT_LOGGING_ENDPOINT", ""), ("AUDIT_LOGGING_TLS_ENDPOINT", "")];
        let bad = [("AUDIT_LOGGING_ENDPOINT", "a:1"), ("AUDIT_LOGGING_TLS_ENDPOINT", "u@a:5")];
        for (env, expected) in [
            (none, "AUDIT_LOGGING_ENDPOINT and AUDIT_LOGGING_TLS_ENDPOINT are both empty"),
            (bad, "AUDIT_LOGGING_TLS_ENDPOINT is \"u@a:5\""),
        ] {
            put(&bed.pgdata().join("PG_VERSION"), "15\n");
            let mut compute = bed.start_with_env(&env);
            compute.wait_for_any(&["failed"]).await;
            let (_, status) = compute.get("/status").await;
            assert!(status["error"].as_str().unwrap().contains(expected), "{status}");
            assert_eq!(names(&bed.pgdata()), ["PG_VERSION"], "not wiped");
            compute.stop(Signal::SIGTERM).await;
        }
        assert_nothing_left(&bed);
    })
    .await;
}
