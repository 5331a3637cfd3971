//! Several pageservers of shard 0: a start succeeds although one of them does not serve (06 W6).

use compute_ctl::dev::pageserver::{Fault, PageserverOptions, StandInPageserver};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::assertions::assert_nothing_left;
use crate::support::bed::Bed;
use crate::support::server::on_one_server;

async fn another(bed: &Bed) -> StandInPageserver {
    let options = PageserverOptions { archive: bed.archive(), port: 0, password: None };
    StandInPageserver::start(options).await.unwrap()
}

/// A spec with these pageservers, over a protocol. The URL for the other protocol is not valid.
fn name_pageservers(bed: &mut Bed, protocol: &str, servers: &[Option<&StandInPageserver>]) {
    let urls = |server: &Option<&StandInPageserver>| -> Value {
        match (server, protocol) {
            (Some(server), "grpc") => {
                json!({"grpc_url": server.grpc_url(), "libpq_url": "port=none"})
            }
            (Some(server), _) => json!({"libpq_url": server.connstring(), "grpc_url": "none"}),
            (None, "grpc") => json!({"grpc_url": "https://u:planted@ps"}),
            (None, _) => json!({"libpq_url": "host=ps sslmode=require password=planted"}),
        }
    };
    let pageservers: Vec<Value> = servers.iter().map(urls).collect();
    let shards = json!({"0000": {"pageservers": pageservers}});
    let info = json!({"shard_count": 0, "prefer_protocol": protocol, "shards": shards});
    bed.spec.member("pageserver_connection_info", info);
}

/// The port for a protocol, and the protocol's name in the log.
fn way(server: &StandInPageserver, protocol: &str) -> String {
    match protocol {
        "grpc" => format!("127.0.0.1:{} over gRPC", server.grpc_port()),
        _ => format!("127.0.0.1:{} over libpq", server.port()),
    }
}

fn commands(server: &StandInPageserver, protocol: &str) -> usize {
    let journal = if protocol == "grpc" { server.grpc_journal() } else { server.journal() };
    journal.commands().len()
}

#[tokio::test]
async fn the_next_one_that_can_be_used_serves() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in ["libpq", "grpc"] {
            let (first, second) = (another(&bed).await, another(&bed).await);
            first.set_fault(Fault::Refuse, None);
            name_pageservers(&mut bed, protocol, &[Some(&first), None, Some(&second)]);
            let mut compute = bed.start();
            compute.wait_for("running").await;
            let log = compute.settled_log().await;
            assert_eq!(log.matches("Failed to get basebackup: ").count(), 1, "{log}");
            assert!(log.contains("(attempt 1/11)"), "{log}");
            assert!(log.contains("a spare pageserver is left out: the "), "{log}");
            assert!(log.contains("it demands TLS") && !log.contains("planted"), "{log}");
            assert!(log.contains(&format!("from pageserver {}", way(&second, protocol))), "{log}");
            assert_eq!(commands(&second, protocol), 1);
            assert_eq!(compute.sql_text("SELECT 40 + 2").await, "42");
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// A second request to the same one could not help.
#[tokio::test]
async fn one_that_refuses_the_login_is_asked_once() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        for protocol in ["libpq", "grpc"] {
            let (first, second) = (another(&bed).await, another(&bed).await);
            first.behave(|it| it.password = Some("secret".to_owned()));
            second.set_fault(Fault::Error("tenant is moving".to_owned()), Some(2));
            name_pageservers(&mut bed, protocol, &[Some(&first), Some(&second)]);
            let mut compute = bed.start();
            compute.wait_for("running").await;
            let log = compute.settled_log().await;
            assert_eq!(log.matches("Failed to get basebackup: ").count(), 3, "{log}");
            assert_eq!(log.matches("tenant is moving").count(), 2, "{log}");
            assert_eq!(commands(&second, protocol), 3);
            assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        }
        assert_nothing_left(&bed);
    })
    .await;
}

/// Postgres uses the first one, too, so the spec is refused, with the reason.
#[tokio::test]
async fn a_first_one_that_cannot_be_used_is_refused_before_anything_is_touched() {
    on_one_server(|server| async {
        let mut bed = Bed::new(server).await;
        let mut compute = bed.start_empty();
        compute.wait_for("empty").await;
        let good = another(&bed).await;
        for (url, reason) in [
            ("host=a port=planted", "invalid value for option `port`"),
            ("host=a sslmode=require password=planted", "it demands TLS"),
            ("user=planted", "it names no host"),
        ] {
            let pageservers = json!([{"libpq_url": url}, {"libpq_url": good.connstring()}]);
            let shards = json!({"0000": {"pageservers": pageservers}});
            let info = json!({"shard_count": 0, "shards": shards});
            bed.spec.member("pageserver_connection_info", info);
            let (code, body) = compute.configure(&bed).await;
            let error = body["error"].as_str().unwrap();
            assert_eq!(code.as_u16(), 400, "{body}");
            assert!(error.contains("the libpq connection string of shard 0000"), "{error}");
            assert!(error.contains(reason) && !error.contains("planted"), "{error}");
        }
        assert_eq!(compute.get("/status").await.1["status"], "empty");
        assert_eq!(compute.stop(Signal::SIGTERM).await, 1);
        assert_nothing_left(&bed);
    })
    .await;
}
