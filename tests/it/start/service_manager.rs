//! A service manager: the messages of `sd_notify`, and sockets that it has opened.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use compute_ctl::dev::pageserver::Fault;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use tokio::process::Command;

use crate::support::assertions::{assert_nothing_left, eventually};
use crate::support::bed::{Bed, hand_over};
use crate::support::process::Compute;
use crate::support::server::on_one_server;

/// The socket of a manager, and all messages so far.
struct Manager {
    socket: UnixDatagram,
    path: String,
    told: Vec<String>,
}

impl Manager {
    fn new(bed: &Bed) -> Self {
        let path = bed.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        hand_over(&path);
        socket.set_nonblocking(true).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned(), told: Vec::new() }
    }

    fn start(&self, bed: &Bed, more: &[(&str, &str)]) -> Compute {
        let mut args = bed.base_args();
        args.extend(bed.config_args());
        let env = [&[("NOTIFY_SOCKET", self.path.as_str())], more].concat();
        Compute::spawn(bed, &args, &env)
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.told.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
    }

    fn count(&mut self, line: &str) -> usize {
        self.read();
        self.told.iter().flat_map(|it| it.lines()).filter(|it| it.starts_with(line)).count()
    }

    async fn wait_for(&mut self, line: &str, times: usize) {
        eventually(&format!("{line} {times} times"), || self.count(line) >= times).await;
    }

    fn position(&mut self, line: &str) -> usize {
        self.read();
        let found = self.told.iter().position(|it| it.lines().any(|it| it.starts_with(line)));
        found.unwrap_or_else(|| panic!("no {line} in {:#?}", self.told))
    }
}

#[tokio::test]
async fn it_is_told_of_the_start_reloads_and_the_end() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut manager = Manager::new(&bed);
        bed.pageserver.set_fault(Fault::StallAfter(100_000), None);
        let mut compute = manager.start(&bed, &[("WATCHDOG_USEC", "2000000")]);
        manager.wait_for("STATUS=starting: basebackup", 1).await;
        manager.wait_for("WATCHDOG=1", 2).await;
        manager.wait_for("EXTEND_TIMEOUT_USEC=", 2).await;
        assert_eq!(manager.count("READY=1"), 0);
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_eq!(manager.count("STOPPING=1"), 1);

        bed.pageserver.clear_faults();
        manager.told.clear();
        let mut compute = manager.start(&bed, &[]);
        manager.wait_for("READY=1", 1).await;
        assert_eq!(compute.get("/status").await.1["status"], "running");
        assert_eq!(manager.count("WATCHDOG=1"), 0, "it was not asked for");

        // `systemctl reload`: new settings, an unchanged file, and one that cannot be used.
        bed.spec.set("log_min_messages", "info");
        bed.config_args();
        compute.signal(Signal::SIGHUP);
        manager.wait_for("READY=1", 2).await;
        assert!(manager.count("RELOADING=1") >= 1 && manager.count("MONOTONIC_USEC=") >= 1);
        eventually("the new settings are in force", || {
            bed.pgdata_text("postgresql.conf").contains("log_min_messages")
        })
        .await;
        let reloads = manager.count("READY=1");
        bed.write_text("config.json", "{");
        compute.signal(Signal::SIGHUP);
        manager.wait_for("READY=1", reloads + 1).await;
        manager.wait_for("STATUS=running; the last SIGHUP changed nothing: ", 1).await;

        // Postgres does not get the socket.
        let inherited = std::fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        assert!(!String::from_utf8_lossy(&inherited).contains("NOTIFY_SOCKET"));

        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert!(manager.position("READY=1") < manager.position("STOPPING=1"));
        assert_eq!(manager.count("STOPPING=1"), 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// A compute that stays for a while after its failure is not killed by the manager's limit.
#[tokio::test]
async fn a_failed_start_is_never_ready_and_says_why() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut manager = Manager::new(&bed);
        bed.spec.set("no_such_setting_anywhere", "x");
        let mut compute = manager.start(&bed, &[]);
        manager.wait_for("STATUS=the start has failed: ", 1).await;
        assert_eq!(manager.count("READY=1"), 0);
        compute.dismiss().await;
        assert_nothing_left(&bed);
    })
    .await;
}

/// The socket of a manager that is gone costs one line in the log.
#[tokio::test]
async fn a_manager_that_is_gone_changes_nothing() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let manager = Manager::new(&bed);
        std::fs::remove_file(&manager.path).unwrap();
        let mut compute = manager.start(&bed, &[("WATCHDOG_USEC", "200000")]);
        compute.wait_for("running").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let lines = compute.count_in_log("could not send a message to the service manager");
        assert_eq!(lines, 1, "{}", compute.log());
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}

/// Clients that come early wait; the port of the command line is not used.
#[tokio::test]
async fn the_external_server_takes_a_socket_of_the_manager() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let early = tokio::spawn(async move {
            reqwest::get(format!("http://127.0.0.1:{port}/live")).await.unwrap().status()
        });
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let mut args = bed.base_args();
        args.extend(bed.config_args());
        // The descriptor must be number 3, and the process id that of the program itself.
        let script =
            format!("exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", listener.as_raw_fd());
        let mut shell = Command::new("bash");
        shell.args(["-c", &script, "bash"]);
        let mut compute = Compute::spawn_through(&bed, shell, &args);
        drop(listener);
        compute.wait_for_log("HTTP servers are listening").await;
        assert_eq!(early.await.unwrap(), StatusCode::OK);
        assert!(compute.try_get("/live").await.is_none(), "the port of the command line is unused");
        compute.wait_for_log("compute start finished").await;
        let inherited = std::fs::read(format!("/proc/{}/environ", compute.postmaster())).unwrap();
        assert!(!String::from_utf8_lossy(&inherited).contains("LISTEN_FDS"));
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert!(reqwest::get(format!("http://127.0.0.1:{port}/live")).await.is_err());
        assert_nothing_left(&bed);
    })
    .await;
}

#[tokio::test]
async fn a_descriptor_that_is_not_such_a_socket_is_refused_before_anything_else() {
    on_one_server(|server| async {
        let bed = Bed::new(server).await;
        let mut args = bed.base_args();
        args.extend(bed.config_args());
        for (redirect, problem) in [
            ("3</dev/null", "socket 1 of 1 cannot be used: fd 3 is not a socket"),
            ("3<&-", "socket 1 of 1 cannot be used"),
        ] {
            let mut shell = Command::new("bash");
            let script = format!("exec {redirect}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"");
            shell.args(["-c", &script, "bash"]);
            let mut compute = Compute::spawn_through(&bed, shell, &args);
            assert_eq!(compute.wait_exit().await.code(), Some(1));
            assert!(compute.log().contains(problem), "{}", compute.log());
            assert!(!bed.pgdata().exists());
        }
        assert_nothing_left(&bed);
    })
    .await;
}
