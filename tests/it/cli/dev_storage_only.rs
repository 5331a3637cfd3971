//! `compute_ctl dev --storage-only`: storage for computes in production form, which finds again what
//! they wrote.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::support::process::{Dev, DevBed};
use crate::support::server::on_one_server;

/// The command line and the connection string that a run has printed.
async fn line_and_connstr(storage: &mut Dev) -> (String, String) {
    storage.printed("stop with ").await;
    let said = storage.output();
    let line = said.lines().find(|line| line.contains("compute_ctl -D ")).unwrap().to_owned();
    let connstr = line.split_whitespace().find(|word| word.starts_with("postgresql:"));
    let connstr = connstr.unwrap().to_owned();
    (line, connstr)
}

/// Also after SIGKILL: the next start ends the Postgres that was left, which archives its last WAL.
#[tokio::test]
async fn each_compute_finds_what_the_one_before_wrote() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        for protocol in ["libpq", "grpc"] {
            let mut storage = bed.start_storage(&["--pageserver-protocol", protocol]);
            let (line, connstr) = line_and_connstr(&mut storage).await;
            let sql = async |text: &str| Dev::sql_at(&connstr, text).await;
            let count = async || sql("SELECT count(*) FROM kept").await;
            let before = match protocol {
                "libpq" => 0,
                _ => 20_003,
            };

            let mut first = bed.start_compute(&line);
            first.printed("compute start finished").await;
            sql("CREATE TABLE IF NOT EXISTS kept (n int)").await;
            assert_eq!(count().await, before.to_string());
            // Several segments.
            sql("INSERT INTO kept SELECT generate_series(1, 20000)").await;
            assert_eq!(first.stop(Signal::SIGTERM).await, 1, "{}", first.output());

            let mut second = bed.start_compute(&line);
            second.printed("compute start finished").await;
            assert_eq!(count().await, (before + 20_000).to_string());
            sql("INSERT INTO kept VALUES (1), (2), (3)").await;
            assert_eq!(second.stop(Signal::SIGKILL).await, -1);

            let mut third = bed.start_compute(&line);
            third.printed("compute start finished").await;
            assert_eq!(count().await, (before + 20_003).to_string());
            assert_eq!(third.stop(Signal::SIGTERM).await, 1, "{}", third.output());
            // And the storage itself, when it is started again.
            assert_eq!(storage.stop(Signal::SIGINT).await, 0, "{}", storage.output());
        }
        bed.assert_nothing_left();

        // A `dev` with a compute of its own goes on with the same data, and the reverse.
        let mut dev = bed.start_kept(&[]);
        assert_eq!(dev.sql("SELECT count(*) FROM kept").await, "40006");
        dev.sql("INSERT INTO kept VALUES (4)").await;
        assert_eq!(dev.stop(Signal::SIGINT).await, 0, "{}", dev.output());
        assert!(!bed.data().join("wal").exists(), "it is in the base now");
        let mut storage = bed.start_storage(&[]);
        let (line, connstr) = line_and_connstr(&mut storage).await;
        let mut compute = bed.start_compute(&line);
        compute.printed("compute start finished").await;
        assert_eq!(Dev::sql_at(&connstr, "SELECT count(*) FROM kept").await, "40007");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1, "{}", compute.output());
        assert_eq!(storage.stop(Signal::SIGTERM).await, 0, "{}", storage.output());
        bed.assert_nothing_left();
    })
    .await;
}

#[tokio::test]
async fn ports_and_the_file_of_the_configuration_can_be_chosen() {
    on_one_server(|server| async {
        let bed = DevBed::new(server);
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        for flag in ["--pageserver-port", "--safekeeper-port"] {
            let said = bed.start_storage(&[flag, &port]).refused().await;
            assert!(said.contains(&format!("cannot use port {port}")), "{said}");
            assert!(said.contains(flag), "{said}");
        }
        drop(taken);

        let config = bed.dir().join("config.json");
        let args = ["--pageserver-port", &port, "--write-config", config.to_str().unwrap()];
        let mut storage = bed.start_storage(&[&args[..], &["--safekeepers", "3"]].concat());
        storage.printed("stop with ").await;
        let document = std::fs::read(&config).unwrap();
        std::fs::remove_file(&config).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        let spec = &document["spec"];
        let pageserver = format!("postgresql://no_user@127.0.0.1:{port}");
        assert_eq!(spec["pageserver_connstring"], pageserver);
        let said = storage.output();
        assert!(said.contains(&pageserver), "{said}");
        let safekeepers = spec["safekeeper_connstrings"].as_array().unwrap();
        assert_eq!(safekeepers.len(), 3, "{spec}");
        for value in safekeepers.iter().chain([&spec["tenant_id"], &spec["timeline_id"]]) {
            assert!(said.contains(value.as_str().unwrap()), "{value} is not in {said}");
        }
        assert_eq!(storage.stop(Signal::SIGINT).await, 0, "{}", storage.output());
        bed.assert_nothing_left();
    })
    .await;
}
