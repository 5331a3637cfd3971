//! `compute_ctl dev`: what a new user sees, and that it leaves nothing behind.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::support::assertions::{assert_nothing_left_in, eventually};
use crate::support::process::DevBed;
use crate::support::server::on_one_server;

#[tokio::test]
async fn it_runs_answers_and_ends_with_0() {
    on_one_server(|server| async move {
        let bed = DevBed::new(server.clone());
        let mut dev = bed.start(&["--safekeepers", "3"]);
        let api = dev.printed("curl ").await;
        assert_eq!(dev.sql("SELECT 40 + 2").await, "42");
        let version = dev.sql("SHOW server_version").await;
        assert!(version.starts_with(&server.version), "{version} is not {}", server.version);
        let output = dev.output();
        for text in [
            &*format!("PostgreSQL {} from ", server.version),
            "initdb",
            "  safekeeper_check ",
            "  basebackup           ",
            "  start_postgres ",
            "running after ",
            "Ctrl-C; everything is temporary",
        ] {
            assert!(output.contains(text), "no {text:?} in {output}");
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let status: serde_json::Value =
            client.get(&api).send().await.unwrap().json().await.unwrap();
        assert_eq!(status["status"], "running");

        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        bed.assert_nothing_left();
    })
    .await;
}

#[tokio::test]
async fn the_stand_in_pageserver_speaks_grpc_too() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let mut dev = bed.start_kept(&["--pageserver-protocol", "grpc"]);
        dev.printed("psql ").await;
        let config = std::fs::read(bed.data().join("compute.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let info = &config["spec"]["pageserver_connection_info"];
        assert_eq!(info["prefer_protocol"], "grpc", "{config}");
        let url = &info["shards"]["0000"]["pageservers"][0]["grpc_url"];
        let address = url.as_str().unwrap().trim_start_matches("grpc://no_user@");
        let log = std::fs::read_to_string(bed.data().join("compute.log")).unwrap();
        assert!(log.contains(&format!("from pageserver {address} over gRPC")), "{log}");
        assert_eq!(dev.sql("SELECT 40 + 2").await, "42");
        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        bed.assert_nothing_left();
    })
    .await;
}

/// Ctrl-C before anything is worth keeping is not a failure.
#[tokio::test]
async fn an_interrupted_start_ends_with_0() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        for moment in ["from ", "making ", "starting "] {
            let mut dev = bed.start_kept(&[]);
            dev.printed(moment).await;
            assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{moment}: {}", dev.output());
            assert!(!dev.output().contains("Error"), "{moment}: {}", dev.output());
            bed.assert_nothing_left();
            std::fs::remove_dir_all(bed.data()).unwrap();
        }
    })
    .await;
}

/// After SIGKILL it cannot stop anything; the kernel signals its Postgres.
#[tokio::test]
async fn postgres_does_not_outlive_it() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let mut dev = bed.start(&[]);
        let port: u16 = dev.sql("SHOW port").await.parse().unwrap();
        assert_eq!(dev.stop(Signal::SIGKILL).await, -1);
        eventually("Postgres has left its port", || TcpListener::bind(("127.0.0.1", port)).is_ok())
            .await;
        // Its temporary folder stays.
        assert_nothing_left_in(bed.dir());
    })
    .await;
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        for flag in ["--port", "--external-http-port", "--internal-http-port"] {
            let said = bed.start(&[flag, &port]).refused().await;
            assert!(said.contains(flag) && said.contains(&port), "{said}");
            bed.assert_nothing_left();
        }
    })
    .await;
}

#[tokio::test]
async fn which_user_it_runs_as() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let root = nix::unistd::geteuid().is_root();
        // The folder belongs to root, as it does for a new user who is root.
        let mut dev = bed.start_kept(if root { &["--run-as", "nobody"] } else { &[] });
        dev.printed("psql ").await;
        let user = if root { "nobody".to_owned() } else { whoami() };
        let owner = nix::unistd::User::from_name(&user).unwrap().unwrap().uid;
        let pgdata = std::fs::metadata(bed.data().join("pgdata")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&pgdata), owner.as_raw());
        assert_eq!(dev.stop(Signal::SIGTERM).await, 0, "{}", dev.output());

        let said = bed.start(&["--run-as", "root"]).refused().await;
        assert!(said.contains("--run-as root"), "{said}");
        let said = bed.start(&["--run-as", "no-such-user-here"]).refused().await;
        assert!(said.contains("no-such-user-here"), "{said}");
        bed.assert_nothing_left();
    })
    .await;
}

fn whoami() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}
